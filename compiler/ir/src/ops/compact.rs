//! The positions of the true elements of a vector, and how many there are.
//!
//! In: a `bool` vector. Out: as many `i64` as it has elements, the positions of the true ones in ascending order and then zeros; and their
//! number, an `i64` scalar.

use super::Operation;
use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::{check, checked, expect_dtype, operands};
use crate::error::OpError;
use crate::types::{DType, TensorType};

attributes! {
    /// Attributes of a compaction: none.
    pub struct Compact {}
}

impl Compact {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl Operation for Compact {
    fn name(&self) -> &'static str {
        "compact"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        let [mask] = operands(inputs)?;
        expect_dtype("mask", DType::Bool, mask)?;
        check(mask.shape.rank() == 1, "mask", || "rank 1".into(), || mask.to_string())?;
        check(mask.shape[0] > 0, "mask", || "one element or more".into(), || "none".into())?;
        Ok(vec![checked(DType::I64, mask.shape.clone())?, checked(DType::I64, [])?])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        let [mask] = operands(inputs)?;
        let types = self.infer(&[&mask.ty])?;
        let flags = mask.ints("mask")?;
        let mut positions: Vec<i64> = (0..flags.len()).filter(|i| flags[*i] != 0).map(|i| i as i64).collect();
        let count = positions.len() as i64;
        positions.resize(flags.len(), 0);
        let [indices, number] = [0, 1].map(|i| types[i].clone());
        Ok(vec![Literal::new_int(indices, positions), Literal::new_int(number, vec![count])])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn true_elements_come_first_and_are_counted() {
        let mask = |values: &[i64]| Literal::new_int(TensorType::new(DType::Bool, [values.len()]), values.to_vec());
        let compact = |values: &[i64]| {
            let results = Compact {}.evaluate(&[&mask(values)]).unwrap();
            (results[0].to_f64(), results[1].to_f64())
        };
        assert_eq!(compact(&[0, 1, 1, 0, 1]), (vec![1., 2., 4., 0., 0.], vec![3.]));
        assert_eq!(compact(&[0, 0]), (vec![0., 0.], vec![0.]));
        assert_eq!(compact(&[1]), (vec![0.], vec![1.]));
    }

    #[test]
    fn only_vectors_of_flags_are_taken() {
        let field = |ty: TensorType| Compact {}.infer(&[&ty]).unwrap_err().field;
        assert_eq!(field(TensorType::new(DType::I8, [3])), "mask");
        assert_eq!(field(TensorType::new(DType::Bool, [3, 1])), "mask");
        assert_eq!(field(TensorType::new(DType::Bool, [0])), "mask");
    }
}
