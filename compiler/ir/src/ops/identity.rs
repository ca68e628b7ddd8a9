//! The operand itself; what Dropout and Identity become until `remove_identity` runs.

use super::attributes::{Attr, AttrReader, attributes};
use super::literal::Literal;
use super::shapes::operands;
use super::{GradientContext, OneResult};
use crate::error::OpError;
use crate::types::TensorType;

attributes! {
    /// Attributes of an identity: none.
    pub struct Identity {}
}

impl Identity {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

impl OneResult for Identity {
    fn name(&self) -> &'static str {
        "identity"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        let [x] = operands(inputs)?;
        Ok(x.clone())
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let [x] = operands(inputs)?;
        Ok(x.clone())
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let dy = cx.dy()?;
        cx.set(0, dy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_result_is_the_operand() {
        let x = Literal::from_f32([2, 0], &[]);
        assert_eq!(Identity {}.infer(&[&x.ty]), Ok(x.ty.clone()));
        assert_eq!(Identity {}.evaluate(&[&x]), Ok(x.clone()));
        assert_eq!(Identity {}.infer(&[]).unwrap_err().to_string(), "operands: expected 1, found 0");
    }
}
