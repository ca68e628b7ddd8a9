//! A tensor of a file, from its bytes.

use fornax_runtime::{DType, Tensor};

/// A tensor of a file.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct NamedTensor {
    /// Its name in the file; `None` in formats without names.
    pub name: Option<String>,
    /// The tensor.
    pub tensor: Tensor,
}

/// A tensor over bytes of a file; any byte but 0 is true.
pub(super) fn tensor(dtype: DType, shape: Vec<usize>, data: &[u8]) -> Result<Tensor, String> {
    let mut tensor = Tensor::from_bytes(dtype, shape, data).map_err(|e| e.to_string())?;
    if dtype == DType::Bool {
        tensor.bytes_mut().iter_mut().for_each(|b| *b = u8::from(*b != 0));
    }
    Ok(tensor)
}
