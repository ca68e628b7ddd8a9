//! Name and type of a tensor that a program takes, gives or keeps.

use crate::dtype::DType;
use crate::error::{Error, PortKind};
use crate::tensor::{Shape, Tensor};

/// An input, output, parameter or state of a program.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Element type.
    pub dtype: DType,
    /// Extents.
    pub shape: Shape,
}

impl Port {
    /// Refuses a tensor of another type or shape.
    pub(crate) fn check(&self, kind: PortKind, tensor: &Tensor) -> Result<(), Error> {
        if tensor.dtype() != self.dtype {
            return Err(Error::PortDType {
                kind,
                name: self.name.clone(),
                expected: self.dtype,
                found: tensor.dtype(),
            });
        }
        if tensor.shape() != &self.shape {
            let (expected, found) = (self.shape.clone(), tensor.shape().clone());
            return Err(Error::PortShape { kind, name: self.name.clone(), expected, found });
        }
        Ok(())
    }
}
