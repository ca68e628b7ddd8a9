//! `SparseTensorProto` to [`Constant`]: the dense tensor that it stands for.
//!
//! In: values, and for each its index, as one number into the whole (row-major) or as one per axis. Out: zeros with the values at their
//! places. The dense tensor is bounded by what is stored, so that a small file cannot ask for a large one.

use fornax_ir::types::{Constant, DType, Shape, TensorType};

use crate::error::{Error, Result, short};
use crate::limits::Limits;
use crate::proto::SparseTensorProto;
use crate::tensors::TensorLoader;

/// How many times as large as its values a dense tensor may be that is larger than the limit on folding.
const MOST_ZEROS: u64 = 256;

/// The dense tensor; `name` is used in errors where the values have no name of their own.
pub(crate) fn load(loader: &TensorLoader, sparse: &SparseTensorProto, name: &str) -> Result<Constant> {
    let fault = |field: &str, expected: String, found: String| Error::tensor(short(name), field, expected, found);
    let (Some(values), Some(indices)) = (&sparse.values, &sparse.indices) else {
        return Err(fault("storage", "values and indices".into(), "one of them, or neither".into()));
    };
    let values = loader.load(values, name)?;
    let indices = loader.load(indices, &format!("{name}.indices"))?;
    let shape = loader.shape(&sparse.dims, &short(name))?;
    let [count] = values.ty.shape[..] else {
        return Err(fault("values", "a vector".into(), values.ty.to_string()));
    };
    let bound = loader.limits.fold_elements.max((count as u64).saturating_mul(MOST_ZEROS));
    Limits::check(&short(name), "fold_elements", bound, shape.numel() as u64)?;
    let positions =
        positions(&indices, count, &shape).map_err(|(expected, found)| fault("indices", expected, found))?;
    let (ty, size) = (TensorType::new(values.ty.dtype, shape), values.ty.dtype.size());
    let stored = values.bytes().ok_or_else(|| fault("values", "their bytes".into(), "none".into()))?;
    let mut bytes = vec![0; ty.bytes()];
    for (element, at) in stored.chunks_exact(size).zip(positions) {
        bytes[at * size..][..size].copy_from_slice(element);
    }
    Ok(Constant::from_bytes(ty, bytes))
}

/// Where each value goes, in ascending order: what was expected and found, where they are not that.
fn positions(indices: &Constant, count: usize, shape: &Shape) -> Result<Vec<usize>, (String, String)> {
    let axes = match indices.ty.shape[..] {
        [n] if n == count => 1,
        [n, axes] if n == count && axes == shape.rank() => axes,
        _ => return Err((format!("[{count}] or [{count},{}]", shape.rank()), indices.ty.to_string())),
    };
    let per_axis = indices.ty.shape.rank() == 2;
    let bytes = indices.bytes().filter(|_| indices.ty.dtype == DType::I64);
    let bytes = bytes.ok_or_else(|| ("i64".into(), indices.ty.to_string()))?;
    let numbers: Vec<i64> =
        bytes.chunks_exact(8).map(|b| i64::from_le_bytes(b.try_into().unwrap_or_default())).collect();
    let extents = if per_axis { shape.to_vec() } else { vec![shape.numel()] };
    let mut positions = Vec::with_capacity(count);
    for entry in 0..count {
        let index = &numbers[entry * axes..][..axes];
        let mut at = 0;
        for (number, extent) in index.iter().zip(&extents) {
            let within = usize::try_from(*number).ok().filter(|number| number < extent);
            at = at * extent + within.ok_or_else(|| (format!("indices of {shape}"), format!("{index:?}")))?;
        }
        if positions.last().is_some_and(|last| *last >= at) {
            return Err(("distinct indices in ascending order".into(), format!("{index:?}")));
        }
        positions.push(at);
    }
    Ok(positions)
}
