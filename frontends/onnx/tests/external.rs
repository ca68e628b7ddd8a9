//! External tensor data: slices of files beneath the model's folder, and nothing else.

mod support;

use std::fs;
use std::io::{Seek, SeekFrom, Write};
use std::path::Path;

use fornax_ir::inputs::Bindings;
use fornax_onnx::{Error, Limits, OnnxFile};
use onnx_protobuf::tensor_proto::DataLocation;
use onnx_protobuf::{StringStringEntryProto, TensorProto, ValueInfoProto};
use support::*;

fn external(entries: &[(&str, &str)]) -> TensorProto {
    let entry = |(key, value): &(&str, &str)| StringStringEntryProto {
        key: key.to_string(),
        value: value.to_string(),
        ..Default::default()
    };
    TensorProto {
        name: "t".into(),
        data_type: FLOAT,
        dims: vec![2],
        data_location: DataLocation::EXTERNAL.into(),
        external_data: entries.iter().map(entry).collect(),
        ..Default::default()
    }
}

/// Writes the model into `folder` and imports it; the elements of the tensor.
fn load(folder: &Path, tensor: TensorProto) -> Result<Vec<f32>, Error> {
    let output = ValueInfoProto { name: "t".into(), ..Default::default() };
    let mut model = model(vec![], vec![output], vec![]);
    model.graph.mut_or_insert_default().initializer = vec![tensor];
    let path = folder.join("model.onnx");
    fs::write(&path, bytes(&model)).unwrap();
    let graph = OnnxFile::open(&path, &Limits::default())?.import(&Bindings::default())?;
    Ok(graph.producer(graph.outputs()[0].1).constant().unwrap().to_f32().unwrap())
}

/// A folder `outer/inner`, with four elements in `inner/sub/w.bin` and in `outer/secret.bin`.
fn folders() -> (tempfile::TempDir, std::path::PathBuf) {
    let outer = tempfile::tempdir().unwrap();
    let inner = outer.path().join("inner");
    fs::create_dir_all(inner.join("sub")).unwrap();
    let data: Vec<u8> = [1.0f32, 2.0, 3.0, 4.0].iter().flat_map(|v| v.to_le_bytes()).collect();
    fs::write(inner.join("sub/w.bin"), &data).unwrap();
    fs::write(outer.path().join("secret.bin"), &data).unwrap();
    (outer, inner)
}

#[test]
fn offset_and_length_select_a_slice() {
    let (_outer, inner) = folders();
    let all = external(&[("location", "sub/w.bin"), ("offset", "4"), ("length", "8")]);
    assert_eq!(load(&inner, all).unwrap(), [2.0, 3.0]);
    assert_eq!(load(&inner, external(&[("location", "./sub/w.bin")])).unwrap(), [1.0, 2.0]);
}

#[test]
fn every_way_out_of_the_folder_is_refused() {
    let (outer, inner) = folders();
    std::os::unix::fs::symlink(outer.path().join("secret.bin"), inner.join("link.bin")).unwrap();
    std::os::unix::fs::symlink(outer.path(), inner.join("up")).unwrap();
    std::os::unix::fs::symlink("sub/w.bin", inner.join("inside.bin")).unwrap();
    let absolute = outer.path().join("secret.bin");
    for location in ["../secret.bin", "sub/../../secret.bin", absolute.to_str().unwrap(), "link.bin", "up/secret.bin"] {
        let message = load(&inner, external(&[("location", location)])).unwrap_err().to_string();
        assert!(
            message.contains("tensor t: external location: expected a path beneath the model's folder"),
            "{message}"
        );
    }
    assert_eq!(load(&inner, external(&[("location", "inside.bin")])).unwrap(), [1.0, 2.0]);
}

#[test]
fn every_fault_of_external_data_is_named() {
    let (_outer, inner) = folders();
    let at = ("location", "sub/w.bin");
    let rows: &[(&[(&str, &str)], &str)] = &[
        (&[], "external location: expected a file name, found none"),
        (&[("location", "none.bin")], "external location: expected a file that exists, found none.bin"),
        (&[("location", "sub")], "external location: expected a regular file, found sub"),
        (&[at, ("offset", "-16")], "external offset: expected a number of bytes, found -16"),
        (&[at, ("offset", "many")], "external offset: expected a number of bytes, found many"),
        (&[at, ("offset", "17")], "external offset: expected at most 16 bytes in sub/w.bin, found 17"),
        (&[at, ("offset", "12")], "external data: expected 8 bytes from offset 12, found 4 bytes in sub/w.bin"),
        (&[at, ("offset", "18446744073709551615")], "external offset: expected at most 16 bytes in sub/w.bin"),
        (&[at, ("length", "100")], "external length: expected 8 bytes, found 100"),
    ];
    for (entries, expected) in rows {
        let message = load(&inner, external(entries)).unwrap_err().to_string();
        assert!(message.starts_with(&format!("tensor t: {expected}")), "{message}");
    }
    let both = TensorProto { raw_data: vec![0; 8], ..external(&[at]) };
    let message = load(&inner, both).unwrap_err().to_string();
    assert_eq!(message, "tensor t: data: expected external data only, found raw_data");
}

#[test]
fn a_model_in_memory_has_no_folder() {
    let mut model = model(vec![], vec![value("t", FLOAT, None)], vec![]);
    model.graph.mut_or_insert_default().initializer = vec![external(&[("location", "w.bin")])];
    assert!(refusal(&model).contains("expected a model read from a file"));
}

#[test]
fn data_is_in_several_files_and_beyond_2_gib() {
    let (_outer, inner) = folders();
    let far = 5u64 << 29;
    // A sparse file: it takes no room on the disk.
    let mut large = fs::File::create(inner.join("large.bin")).unwrap();
    large.set_len(far + 8).unwrap();
    large.seek(SeekFrom::Start(far)).unwrap();
    large.write_all(&[5.0f32, 6.0].map(f32::to_le_bytes).concat()).unwrap();
    let tensor = |name: &str, location: &str, offset: u64| TensorProto {
        name: name.into(),
        ..external(&[("location", location), ("offset", &offset.to_string()), ("length", "8")])
    };
    let nodes = vec![node("Add", &["a", "b"], &["t"])];
    let mut model = model(vec![], vec![ValueInfoProto { name: "t".into(), ..Default::default() }], nodes);
    model.graph.mut_or_insert_default().initializer = vec![tensor("a", "sub/w.bin", 8), tensor("b", "large.bin", far)];
    let path = inner.join("model.onnx");
    fs::write(&path, bytes(&model)).unwrap();
    let file = OnnxFile::open(&path, &Limits::default()).unwrap();
    assert_eq!(file.external_files().len(), 2);
    let graph = file.import(&Bindings::default()).unwrap();
    assert_eq!(graph.producer(graph.outputs()[0].1).constant().unwrap().to_f32().unwrap(), [8.0, 10.0]);
}
