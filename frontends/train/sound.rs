//! Whether the weights of a network are numbers that it can be trained from.
//!
//! In: a graph. Out: an error that names the first constant that is not fit, and what is in it.

use fornax_ir::graph::{Graph, ValueId};
use fornax_ir::ops::Op;
use fornax_runtime::Tensor;

use crate::error::{Error, Result};

/// Refuses weights of convolutions, products and batch norms that are no finite numbers, and variances below what is
/// added to them.
///
/// # Errors
/// [`Error::Input`] naming the constant.
pub(crate) fn expect_sound(graph: &Graph) -> Result<()> {
    for id in graph.topological()? {
        let operands = graph.operands(id);
        let least = match graph.node(id).op() {
            Some(Op::BatchNorm(norm)) => Some((4, -f64::from(norm.epsilon))),
            Some(Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul(_)) => None,
            _ => continue,
        };
        for (slot, operand) in operands.into_iter().enumerate() {
            let Some(values) = elements(graph, operand)? else { continue };
            let name = graph.name_of(operand);
            if let Some(wrong) = values.iter().find(|value| !value.is_finite()) {
                return Err(Error::input(format!("weights {name}"), "finite numbers", wrong.to_string()));
            }
            let low = least.filter(|(variance, _)| *variance == slot).map(|(_, least)| least);
            if let Some(wrong) = values.iter().find(|value| low.is_some_and(|low| **value <= low)) {
                return Err(Error::input(format!("weights {name}"), "variances from 0", wrong.to_string()));
            }
        }
    }
    Ok(())
}

/// The elements of a constant of floats.
fn elements(graph: &Graph, value: ValueId) -> Result<Option<Vec<f64>>> {
    let Some(constant) = graph.producer(value).constant().filter(|constant| constant.ty.dtype.is_float()) else {
        return Ok(None);
    };
    let Some(bytes) = constant.bytes() else { return Ok(None) };
    Ok(Some(Tensor::from_bytes(constant.ty.dtype, constant.ty.shape.clone(), &bytes)?.to_f64_vec()))
}
