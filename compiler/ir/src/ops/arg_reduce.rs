//! Index of the largest or smallest element along an axis, as `i64`.

use super::OneResult;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::{Data, Literal};
use super::reduce::ordered;
use super::shapes::{around_axis, check, checked, expect_axis, expect_number, expect_operands};
use crate::error::OpError;
use crate::types::{DType, TensorType};

attributes! {
    /// Attributes of `arg_max` and `arg_min`.
    pub struct ArgReduce {
        /// Smallest instead of largest.
        pub min: bool = false,
        /// Axis to reduce.
        pub axis: usize = 0,
        /// Whether the axis stays with extent 1.
        pub keepdims: bool = true,
        /// Whether the last of equal elements wins.
        pub select_last: bool = false,
    }
}

impl ArgReduce {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl ArgReduce {
    /// The index along the axis of the largest key of each line; `beats` is a strict order in which a NaN beats all numbers.
    fn winners<T: Copy>(&self, keys: &[T], shape: &[usize], beats: impl Fn(T, T) -> bool) -> Vec<i64> {
        let extent = shape[self.axis];
        let (outer, inner) = around_axis(shape, self.axis);
        let lines = (0..outer).flat_map(|o| (0..inner).map(move |k| o * extent * inner + k));
        let winner = |first: usize| {
            let key = |i: usize| keys[first + i * inner];
            (1..extent).fold(0, |best, i| {
                let wins = if self.select_last { !beats(key(best), key(i)) } else { beats(key(i), key(best)) };
                if wins { i } else { best }
            }) as i64
        };
        lines.map(winner).collect()
    }
}

impl OneResult for ArgReduce {
    fn name(&self) -> &'static str {
        "arg_reduce"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 1)?;
        let (x, axis) = (inputs[0], self.axis);
        expect_number("x", x)?;
        expect_axis(axis, x.shape.rank())?;
        check(x.shape[axis] > 0, "x", || format!("elements along axis {axis}"), || x.to_string())?;
        let mut shape = x.shape.to_vec();
        if self.keepdims {
            shape[axis] = 1;
        } else {
            shape.remove(axis);
        }
        checked(DType::I64, shape)
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let x = inputs[0];
        let ty = self.infer(&[&x.ty])?;
        let dtype = x.ty.dtype;
        match &x.data {
            Data::Float(values) => {
                let keys: Vec<_> = values.iter().map(|v| if self.min { -v } else { *v }).collect();
                Ok(Literal::new_int(ty, self.winners(&keys, &x.ty.shape, |a, b| a > b || (a.is_nan() && !b.is_nan()))))
            }
            Data::Int(values) => {
                let key = |v: &i64| if self.min { !ordered(dtype, *v) } else { ordered(dtype, *v) };
                let keys: Vec<_> = values.iter().map(key).collect();
                Ok(Literal::new_int(ty, self.winners(&keys, &x.ty.shape, |a, b| a > b)))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn run(min: bool, select_last: bool, x: &Literal) -> Vec<i64> {
        let op = ArgReduce { min, axis: 1, keepdims: false, select_last };
        op.evaluate(&[x]).unwrap().ints("y").unwrap().to_vec()
    }

    #[test]
    fn the_first_or_the_last_of_equals_wins() {
        let x = Literal::from_f32([2, 4], &[1.0, 3.0, 3.0, 1.0, -1.0, f32::NAN, f32::NAN, 2.0]);
        assert_eq!(run(false, false, &x), [1, 1]);
        assert_eq!(run(false, true, &x), [2, 2]);
        assert_eq!(run(true, false, &x), [0, 1]);
        assert_eq!(run(true, true, &x), [3, 2]);
    }

    #[test]
    fn integers_compare_by_their_type() {
        let of = |dtype| Literal::new_int(TensorType::new(dtype, [1, 2]), vec![-1, 1]);
        assert_eq!(run(false, false, &of(DType::I64)), [1]);
        assert_eq!(run(false, false, &of(DType::U64)), [0]);
        assert_eq!(run(true, false, &of(DType::U64)), [1]);
    }

    #[test]
    fn shapes() {
        let infer = |axis, keepdims, shape: &[usize]| {
            ArgReduce { axis, keepdims, ..ArgReduce::default() }.infer(&[&TensorType::f32(shape)])
        };
        assert_eq!(infer(1, true, &[2, 3, 4]).unwrap().to_string(), "i64[2,1,4]");
        assert_eq!(infer(0, false, &[3]).unwrap().to_string(), "i64[]");
        assert_eq!(infer(1, false, &[0, 3]).unwrap().to_string(), "i64[0]");
        assert_eq!(infer(1, false, &[3, 0]).unwrap_err().field, "x");
        assert_eq!(infer(0, false, &[]).unwrap_err().field, "axis");
        assert!(run(false, false, &Literal::from_f32([0, 3], &[])).is_empty());
    }
}
