//! The `.safetensors` format: state dicts.

use std::path::Path;

use fornax_runtime::{DType, Tensor};
use safetensors::tensor::TensorView;
use safetensors::{Dtype, SafeTensors};

use super::named::{NamedTensor, tensor};
use crate::error::{Error, Result};
use crate::files::write_file;

/// Element types of safetensors.
const SAFETENSORS: [(Dtype, DType); 13] = [
    (Dtype::BOOL, DType::Bool),
    (Dtype::U8, DType::U8),
    (Dtype::I8, DType::I8),
    (Dtype::I16, DType::I16),
    (Dtype::U16, DType::U16),
    (Dtype::F16, DType::F16),
    (Dtype::BF16, DType::BF16),
    (Dtype::I32, DType::I32),
    (Dtype::U32, DType::U32),
    (Dtype::F32, DType::F32),
    (Dtype::F64, DType::F64),
    (Dtype::I64, DType::I64),
    (Dtype::U64, DType::U64),
];

/// Writes named tensors and key-value metadata into a `.safetensors` file, which is replaced at once or not at all.
///
/// # Errors
/// [`Error::File`] if the file cannot be written.
pub fn save_safetensors(path: impl AsRef<Path>, tensors: &[(&str, &Tensor)], metadata: &[(&str, &str)]) -> Result<()> {
    let path = path.as_ref();
    let failed = |message: String| Error::file(path, message);
    let mut views = Vec::with_capacity(tensors.len());
    for (name, tensor) in tensors {
        let dtype = SAFETENSORS.iter().find(|(_, ours)| *ours == tensor.dtype()).map(|(theirs, _)| *theirs);
        let dtype = dtype.ok_or_else(|| failed(format!("{name}: {} has no place in safetensors", tensor.dtype())))?;
        let view =
            TensorView::new(dtype, tensor.shape().to_vec(), tensor.bytes()).map_err(|e| failed(e.to_string()))?;
        views.push((name.to_string(), view));
    }
    let metadata = metadata.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect();
    let bytes = safetensors::serialize(views, Some(metadata)).map_err(|e| failed(e.to_string()))?;
    write_file(path, &bytes)
}

/// The tensors of a file, by name.
pub(super) fn parse(bytes: &[u8]) -> Result<Vec<NamedTensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|e| format!("expected a safetensors file: {e}"))?;
    let mut tensors = Vec::with_capacity(file.len());
    for (name, view) in file.iter() {
        let known = SAFETENSORS.iter().find(|(theirs, _)| *theirs == view.dtype()).map(|(_, ours)| *ours);
        let dtype = known.ok_or_else(|| {
            format!("tensor {name}: expected an element type of 8 to 64 bits, found {:?}", view.dtype())
        })?;
        let tensor = tensor(dtype, view.shape().to_vec(), view.data()).map_err(|e| format!("tensor {name}: {e}"))?;
        tensors.push(NamedTensor { name: Some(name.to_string()), tensor });
    }
    tensors.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(tensors)
}
