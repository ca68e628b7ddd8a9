//! Concatenation of one or more operands along an axis.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{checked, expect_axis, expect_dtype};
use super::{GradientContext, OneResult, Slice};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of a concatenation.
    pub struct Concat {
        /// Axis along which operands follow one another.
        pub axis: usize = 0,
    }
}

impl Concat {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Concat {
    fn name(&self) -> &'static str {
        "concat"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [first, rest @ ..] = inputs else { return Err(OpError::new("operands", "at least 1", "0")) };
        expect_axis(self.axis, first.shape.rank())?;
        let mut extents = first.shape.to_vec();
        for (at, x) in rest.iter().enumerate() {
            let field = format!("operand {}", at + 1);
            expect_dtype(&field, first.dtype, x)?;
            let fits = |axis: usize| axis == self.axis || x.shape[axis] == first.shape[axis];
            if x.shape.rank() != first.shape.rank() || !(0..x.shape.rank()).all(fits) {
                let expected = format!("a shape like {} except along axis {}", first.shape, self.axis);
                return Err(OpError::new(field, expected, x.shape.to_string()));
            }
            extents[self.axis] = extents[self.axis].saturating_add(x.shape[self.axis]);
        }
        checked(first.dtype, extents)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let ty = self.infer(&inputs.iter().map(|x| &x.ty).collect::<Vec<_>>())?;
        // Every operand is `outer` runs of consecutive elements; the result interleaves them run by run.
        let outer: usize = ty.shape[..self.axis].iter().product();
        let run = |x: &Literal| x.ty.shape[self.axis..].iter().product::<usize>();
        if ty.dtype.is_float() {
            let operands: Vec<_> =
                inputs.iter().map(|x| Ok((x.floats("operands")?, run(x)))).collect::<Result<_, OpError>>()?;
            Ok(Literal::new_float(ty, interleave(outer, &operands)))
        } else {
            let operands: Vec<_> =
                inputs.iter().map(|x| Ok((x.ints("operands")?, run(x)))).collect::<Result<_, OpError>>()?;
            Ok(Literal::new_int(ty, interleave(outer, &operands)))
        }
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, mut start) = (cx.dy()?, 0);
        for slot in 0..cx.operands() {
            let sizes = cx.shape(cx.operand(slot));
            let mut starts = vec![0; sizes.len()];
            starts[self.axis] = start;
            start += sizes[self.axis];
            if cx.wanted(slot) {
                let part = cx.op(Slice { starts, sizes, ..Slice::default() }, &[dy])?;
                cx.set(slot, part)?;
            }
        }
        Ok(())
    }
}

/// Run `0` of every operand, then run `1` of every operand, and so on; each operand comes with the length of its runs.
fn interleave<T: Copy>(outer: usize, operands: &[(&[T], usize)]) -> Vec<T> {
    // Without elements `outer` may be huge.
    if operands.iter().all(|(_, run)| *run == 0) {
        return Vec::new();
    }
    (0..outer)
        .flat_map(|at| operands.iter().flat_map(move |(values, run)| &values[at * run..][..*run]))
        .copied()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    #[test]
    fn operands_follow_one_another() {
        let a = Literal::from_f32([2, 1], &[0., 1.]);
        let b = Literal::from_f32([2, 2], &[2., 3., 4., 5.]);
        let op = Concat { axis: 1 };
        assert_eq!(op.infer(&[&a.ty, &b.ty]), Ok(TensorType::f32([2, 3])));
        assert_eq!(op.evaluate(&[&a, &b]).unwrap().to_f64(), [0., 2., 3., 1., 4., 5.]);
        let y = Concat { axis: 0 }.evaluate(&[&b, &b, &b]).unwrap();
        assert_eq!(y.to_f64(), [2., 3., 4., 5., 2., 3., 4., 5., 2., 3., 4., 5.]);
    }

    #[test]
    fn empty_operands_add_nothing() {
        let [empty, full] =
            [(0, vec![]), (2, vec![-1, 1])].map(|(n, v)| Literal::new_int(TensorType::new(DType::I64, [n]), v));
        assert_eq!(Concat { axis: 0 }.evaluate(&[&empty, &full, &empty]), Ok(full));
        assert_eq!(Concat { axis: 0 }.evaluate(&[&empty, &empty]), Ok(empty));
        let wide = Literal::from_f32([1 << 40, 0], &[]);
        assert_eq!(Concat { axis: 1 }.evaluate(&[&wide, &wide]), Ok(wide), "axes before an empty one are not walked");
    }

    #[test]
    fn operands_must_agree() {
        let x = TensorType::f32([2, 3]);
        let infer = |axis, y: TensorType| Concat { axis }.infer(&[&x, &y]).unwrap_err().to_string();
        assert_eq!(
            infer(1, TensorType::f32([1, 3])),
            "operand 1: expected a shape like [2,3] except along axis 1, found [1,3]"
        );
        assert!(infer(0, TensorType::f32([2])).starts_with("operand 1"));
        assert_eq!(infer(0, TensorType::new(DType::I64, [2, 3])), "operand 1: expected f32, found i64");
        assert_eq!(infer(2, x.clone()), "axis: expected an axis below 2, found 2");
        assert!(infer(0, TensorType::f32([usize::MAX, 3])).starts_with("result"));
        assert_eq!(Concat { axis: 0 }.infer(&[]).unwrap_err().field, "operands");
    }
}
