//! Tensors in files: `.npy`, `.npz`, `.safetensors` and `.pb` (an ONNX `TensorProto`) in, `.npy`, `.npz` and `.safetensors` out.
//! `.npz` is the Cargo feature `npz`.
//!
//! In: a path. Out: every tensor of the file with the name it has there, none for `.npy`. Files are untrusted: whatever
//! they contain, the answer is tensors or an [`Error`] that names the file. A saved file appears whole or not at all.

mod named;
mod npy;
#[cfg(feature = "npz")]
mod npz;
#[cfg(not(feature = "npz"))]
#[path = "tensors/without_npz.rs"]
mod npz;
mod state;

use std::path::Path;

use bytes::Bytes;
use fornax_runtime::Tensor;

pub use named::NamedTensor;
pub use state::save_safetensors;

use crate::error::{Error, Result};
use crate::files::write_file;

/// The most bytes a file of tensors may have, and the most that its tensors may take.
const LIMIT: u64 = 1 << 34;

/// Reads every tensor of a file; its suffix says which format it has.
///
/// # Errors
/// [`Error::File`] or [`Error::Runtime`] naming the path; [`Error::Model`] for elements of a serialised tensor that Fornax has not.
pub fn load(path: impl AsRef<Path>) -> Result<Vec<NamedTensor>> {
    let path = path.as_ref();
    let bytes = fornax_runtime::map_file(path, LIMIT)?;
    let parsed = match suffix(path).as_str() {
        "npy" => npy::parse(&bytes).map(|tensor| vec![NamedTensor { name: None, tensor }]),
        "npz" => npz::parse(&bytes, LIMIT),
        "safetensors" => state::parse(&bytes),
        "pb" => return load_pb(path, bytes),
        other => Err(format!("expected a file of tensors (.npy, .npz, .safetensors or .pb), found suffix `{other}`")),
    };
    parsed.map_err(|message| Error::file(path, message))
}

/// Writes named tensors: exactly one into a `.npy`, any number into a `.npz`. The file is replaced at once or not at
/// all.
///
/// # Errors
/// [`Error::Usage`] if the suffix does not fit, [`Error::File`] if the file cannot be written.
pub fn save(path: impl AsRef<Path>, tensors: &[(&str, &Tensor)]) -> Result<()> {
    let path = path.as_ref();
    check_suffix(path, tensors.len())?;
    let bytes = match tensors {
        [(_, tensor)] if suffix(path) == "npy" => npy::format(tensor),
        _ => npz::format(tensors).map_err(|message| Error::file(path, message))?,
    };
    write_file(path, &bytes)
}

/// Fails if `count` tensors cannot be saved under this path's suffix.
///
/// # Errors
/// [`Error::Usage`] naming the suffix that would fit.
pub fn check_suffix(path: &Path, count: usize) -> Result<()> {
    match (suffix(path).as_str(), count) {
        ("npy", 1) | ("npz", _) => Ok(()),
        ("npy", _) => {
            Err(Error::usage("file to save", format!(".npz for {count} outputs"), path.display().to_string()))
        }
        _ => Err(Error::usage("file to save", "suffix .npy (one output) or .npz", path.display().to_string())),
    }
}

fn suffix(path: &Path) -> String {
    path.extension().map_or(String::new(), |s| s.to_string_lossy().to_ascii_lowercase())
}

/// The tensor of a `.pb` file; elements below 8 bits, and 8-bit floats, are one to a byte.
fn load_pb(path: &Path, bytes: Bytes) -> Result<Vec<NamedTensor>> {
    let failed = |error: fornax_onnx::Error| match error {
        fornax_onnx::Error::Unsupported(_) => Error::Model { path: path.into(), error: Box::new(error) },
        error => Error::file(path, error.to_string()),
    };
    let (name, constant) = fornax_onnx::read_tensor(bytes, &fornax_onnx::Limits::default()).map_err(failed)?;
    let data = constant.bytes().ok_or_else(|| Error::file(path, "expected a tensor with data"))?;
    let tensor = named::tensor(constant.ty.dtype, constant.ty.shape.to_vec(), &data);
    let tensor = tensor.map_err(|message| Error::file(path, message))?;
    Ok(vec![NamedTensor { name: Some(name).filter(|n| !n.is_empty()), tensor }])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> Tensor {
        Tensor::from_f32([2, 3], &[1.0, -2.5, 3.0, 4.0, f32::INFINITY, 0.0]).unwrap()
    }

    #[cfg(feature = "npz")]
    #[test]
    fn what_is_saved_loads_again() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (sample(), Tensor::from_i64([], &[-7]).unwrap());
        let npy = dir.path().join("a.npy");
        save(&npy, &[("a", &a)]).unwrap();
        assert_eq!(load(&npy).unwrap(), [NamedTensor { name: None, tensor: a.clone() }]);
        let npz = dir.path().join("both.npz");
        save(&npz, &[("a", &a), ("/b//../c", &b), (&"d".repeat(70_000), &a)]).unwrap();
        let loaded = load(&npz).unwrap();
        assert_eq!(loaded[0], NamedTensor { name: Some("a".into()), tensor: a.clone() });
        assert_eq!(loaded[1], NamedTensor { name: Some("/b//../c".into()), tensor: b });
        assert_eq!(loaded[2], NamedTensor { name: Some("output_2".into()), tensor: a });
        save(&npy, &[("b", &loaded[1].tensor)]).unwrap();
        assert_eq!(load(&npy).unwrap()[0].tensor, loaded[1].tensor);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "no other file stays behind");
    }

    #[test]
    fn the_suffix_decides() {
        let dir = tempfile::tempdir().unwrap();
        let a = sample();
        assert_eq!(save(dir.path().join("a.txt"), &[("a", &a)]).unwrap_err().exit_code(), 2);
        assert_eq!(save(dir.path().join("a.npy"), &[("a", &a), ("b", &a)]).unwrap_err().exit_code(), 2);
        let text = dir.path().join("a.csv");
        std::fs::write(&text, "1,2").unwrap();
        assert!(load(&text).unwrap_err().to_string().contains(".safetensors"));
    }

    #[test]
    fn broken_files_are_errors() {
        let dir = tempfile::tempdir().unwrap();
        for name in ["x.npy", "x.npz", "x.safetensors", "x.pb"] {
            for content in [&b""[..], b"hello", &[0xff; 300], b"PK\x03\x04", b"\x93NUMPY\x01\x00"] {
                let path = dir.path().join(name);
                std::fs::write(&path, content).unwrap();
                // An empty `.pb` has no element type; the others have no header.
                let error = load(&path).expect_err(name);
                assert!(error.to_string().contains(name) && error.exit_code() == 1, "{error}");
            }
        }
    }

    #[test]
    fn safetensors() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("x.safetensors");
        let data: Vec<u8> = [1.5f32, 2.5].iter().flat_map(|v| v.to_le_bytes()).collect();
        let view = safetensors::tensor::TensorView::new(safetensors::Dtype::F32, vec![2], &data).unwrap();
        std::fs::write(&path, safetensors::serialize([("x", view)], None).unwrap()).unwrap();
        let expected = Tensor::from_f32([2], &[1.5, 2.5]).unwrap();
        assert_eq!(load(&path).unwrap(), [NamedTensor { name: Some("x".into()), tensor: expected }]);
    }
}
