//! Inputs whose values a model must know when it is compiled: shapes, axes, bounds, repeats, conditions that are fed at run time.
//!
//! In: tensors for all inputs. Out: bindings with the values of those without which the model cannot be compiled, and no others. A program
//! is right for these values only, as it is for its shapes.

use fornax_ir::inputs::{Bindings, InputDecl};
use fornax_ir::types::{Constant, TensorType};
use fornax_runtime::{DType, Tensor};

use super::model::Model;
use crate::error::{Error, Result};

/// The most elements of an input that may decide shapes.
const MOST: usize = 256;

/// The most elements of such an input that is floating-point: scales and a region of interest.
const MOST_FLOATS: usize = 32;

/// The value of a tensor.
fn constant(tensor: &Tensor) -> Constant {
    Constant::from_bytes(TensorType::new(tensor.dtype(), tensor.shape().clone()), tensor.bytes().to_vec())
}

/// Whether a tensor may be what decides a shape.
fn may_decide(tensor: &Tensor) -> bool {
    match tensor.dtype() {
        DType::F32 | DType::F64 | DType::F16 | DType::BF16 => tensor.numel() <= MOST_FLOATS,
        _ => tensor.numel() <= MOST,
    }
}

impl Model {
    /// `bindings` with the values of those of `inputs`, in the model's order, that must be known to compile it: none, where it compiles without.
    ///
    /// # Errors
    /// As [`Model::graph`], if it cannot be compiled with the values of all of them either.
    pub fn with_values(&self, bindings: Bindings, inputs: &[&Tensor]) -> Result<Bindings> {
        let named = self.inputs().iter().zip(inputs);
        let candidates: Vec<(&InputDecl, &&Tensor)> = named.filter(|(_, tensor)| may_decide(tensor)).collect();
        let fails = |error: Error| error.exit_code() == 4;
        if candidates.is_empty() || self.library().is_some() || !self.graph(&bindings).is_err_and(fails) {
            return Ok(bindings);
        }
        let mut all = bindings;
        for (input, tensor) in &candidates {
            all.values.insert(input.name.clone(), constant(tensor));
        }
        self.graph(&all)?;
        for (input, _) in candidates {
            let mut without = all.clone();
            without.values.remove(&input.name);
            if self.graph(&without).is_ok() {
                all = without;
            }
        }
        Ok(all)
    }
}
