//! A tensor in a file of its own: a serialised `TensorProto`.

use bytes::Bytes;
use fornax_ir::types::Constant;
use prost::Message;

use crate::error::{Error, Result};
use crate::external::ExternalFiles;
use crate::limits::Limits;
use crate::narrow;
use crate::proto::TensorProto;
use crate::tensors::TensorLoader;

/// Decodes a serialised `TensorProto` (a `.pb` file of a test case): its name, and its elements. Those below 8 bits, and 8-bit floats, are one to a byte.
///
/// # Errors
/// [`Error`] if the bytes are not a dense tensor of numbers within `limits`, or its data is in another file.
pub fn read_tensor(bytes: Bytes, limits: &Limits) -> Result<(String, Constant)> {
    let tensor = TensorProto::decode(bytes)
        .map_err(|e| Error::tensor("of the file", "encoding", "a serialised TensorProto", e.to_string()))?;
    let loader = TensorLoader { limits: limits.clone(), external: ExternalFiles::new(None) };
    let constant = match narrow::load(&loader, &tensor, "of the file")? {
        Some((constant, _)) => constant,
        None => loader.load(&tensor, "of the file")?,
    };
    Ok((tensor.name, constant))
}
