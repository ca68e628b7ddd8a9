//! Concatenation of one or more operands along an axis.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{checked, expect_axis, expect_dtype};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
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

impl Operation for Concat {
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

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
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
