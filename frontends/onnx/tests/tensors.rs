//! Initializers of every storage form, seen as constants of an imported graph.

mod support;

use bytes::Bytes;
use fornax_ir::inputs::Bindings;
use fornax_ir::types::{Constant, DType};
use fornax_onnx::{Limits, OnnxFile};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, Message, ModelProto, NodeProto, SparseTensorProto, TensorProto, tensor_proto};
use support::*;

/// A model whose only output is the tensor.
fn holding(tensor: TensorProto) -> ModelProto {
    let output = onnx_protobuf::ValueInfoProto { name: tensor.name.clone(), ..Default::default() };
    let mut model = model(vec![], vec![output], vec![]);
    model.graph.mut_or_insert_default().initializer = vec![tensor];
    model
}

fn tensor(data_type: i32, dims: &[i64]) -> TensorProto {
    TensorProto { name: "t".into(), data_type, dims: dims.to_vec(), ..Default::default() }
}

fn loaded(tensor: TensorProto) -> Constant {
    let graph = import(&holding(tensor)).unwrap();
    graph.producer(graph.outputs()[0].1).constant().unwrap().clone()
}

fn refused(tensor: TensorProto) -> String {
    refusal(&holding(tensor))
}

#[test]
fn raw_data_is_a_slice_of_the_file() {
    let file: Bytes = bytes(&holding(raw_f32("t", &[2, 2], &[1.0, f32::NAN, -0.0, 1e-40])));
    let graph =
        OnnxFile::from_bytes(file.clone(), None, &Limits::default()).unwrap().import(&Bindings::default()).unwrap();
    let constant = graph.producer(graph.outputs()[0].1).constant().unwrap();
    let payload = constant.bytes().unwrap();
    assert!(file.as_ptr_range().contains(&payload.as_ptr()), "the payload was copied");
    assert_eq!(constant.origins, ["t"]);
    let bits: Vec<u32> = constant.to_f32().unwrap().iter().map(|v| v.to_bits()).collect();
    assert_eq!(bits, [1.0, f32::NAN, -0.0, 1e-40].map(f32::to_bits));
}

#[test]
fn typed_fields_of_every_element_type() {
    let rows: Vec<(TensorProto, DType, Vec<u8>)> = vec![
        (TensorProto { float_data: vec![1.5], ..tensor(1, &[1]) }, DType::F32, 1.5f32.to_le_bytes().into()),
        (TensorProto { double_data: vec![1.5], ..tensor(11, &[1]) }, DType::F64, 1.5f64.to_le_bytes().into()),
        (TensorProto { int64_data: vec![-2], ..tensor(7, &[]) }, DType::I64, (-2i64).to_le_bytes().into()),
        (TensorProto { uint64_data: vec![u64::MAX], ..tensor(13, &[]) }, DType::U64, vec![255; 8]),
        (TensorProto { uint64_data: vec![7], ..tensor(12, &[]) }, DType::U32, vec![7, 0, 0, 0]),
        (TensorProto { int32_data: vec![-2], ..tensor(6, &[]) }, DType::I32, (-2i32).to_le_bytes().into()),
        (TensorProto { int32_data: vec![-2, 127], ..tensor(3, &[2]) }, DType::I8, vec![254, 127]),
        (TensorProto { int32_data: vec![255], ..tensor(2, &[]) }, DType::U8, vec![255]),
        (TensorProto { int32_data: vec![-2], ..tensor(5, &[]) }, DType::I16, vec![254, 255]),
        (TensorProto { int32_data: vec![65535], ..tensor(4, &[]) }, DType::U16, vec![255, 255]),
        (TensorProto { int32_data: vec![0x3c00], ..tensor(10, &[]) }, DType::F16, vec![0, 0x3c]),
        (TensorProto { int32_data: vec![0x3f80], ..tensor(16, &[]) }, DType::BF16, vec![0x80, 0x3f]),
        (TensorProto { int32_data: vec![1, 0], ..tensor(9, &[2]) }, DType::Bool, vec![1, 0]),
        (TensorProto { raw_data: vec![2, 0], ..tensor(9, &[2]) }, DType::Bool, vec![1, 0]),
        (tensor(1, &[0, 3]), DType::F32, vec![]),
    ];
    for (proto, dtype, expected) in rows {
        let shape: Vec<usize> = proto.dims.iter().map(|d| *d as usize).collect();
        let constant = loaded(proto);
        assert_eq!(constant.ty.dtype, dtype);
        assert_eq!(constant.ty.shape[..], shape, "{dtype}");
        assert_eq!(constant.bytes().unwrap(), expected, "{dtype}");
    }
}

#[test]
fn every_fault_of_a_tensor_is_named() {
    let raw = |dims: &[i64], raw_data: Vec<u8>| TensorProto { raw_data, ..tensor(1, dims) };
    let rows: Vec<(TensorProto, &str)> = vec![
        (raw(&[2], vec![0; 4]), "tensor t: raw_data: expected 8 bytes for f32[2], found 4 bytes"),
        (raw(&[1], vec![0; 8]), "tensor t: raw_data: expected 4 bytes for f32[1], found 8 bytes"),
        (raw(&[-4], vec![0; 4]), "tensor t: dims: expected extents of 0 or more, found -4"),
        (raw(&[1; 17], vec![0; 4]), "t: limit rank: allowed 16, needed 17"),
        (raw(&[1 << 32, 1 << 32], vec![]), "t: limit tensor_elements: allowed 4294967296, needed 18446744073709551615"),
        (raw(&[0, 1 << 62], vec![]), "t: limit tensor_elements: allowed 4294967296, needed 4611686018427387904"),
        (tensor(1, &[1]), "tensor t: data: expected 4 bytes for f32[1], found 0 bytes"),
        (tensor(0, &[1]), "tensor t: data_type: expected a numeric element type, found UNDEFINED"),
        (tensor(999, &[1]), "tensor t: data_type: expected a numeric element type, found the unknown type 999"),
        (tensor(8, &[1]), "unsupported: tensor t: elements of type STRING"),
        (tensor(22, &[1]), "tensor t: data: expected 1 bytes, found 0 bytes"),
        (
            TensorProto { int64_data: vec![1], ..tensor(1, &[1]) },
            "tensor t: data: expected raw_data or float_data for f32, found int64_data",
        ),
        (
            TensorProto { float_data: vec![1.0], ..raw(&[1], vec![0; 4]) },
            "tensor t: data: expected one storage field, found raw_data and float_data",
        ),
        (
            TensorProto { int32_data: vec![300], ..tensor(2, &[1]) },
            "tensor t: int32_data: expected values of u8, found 300",
        ),
        (
            TensorProto { segment: Some(tensor_proto::Segment::default()).into(), ..tensor(1, &[1]) },
            "tensor t: segment: expected a whole tensor, found one segment of a tensor",
        ),
    ];
    for (proto, message) in rows {
        assert_eq!(refused(proto), message);
    }
}

#[test]
fn elements_below_8_bits_are_unpacked_one_to_a_byte() {
    let read = |tensor: TensorProto| {
        let bytes = tensor.write_to_bytes().unwrap();
        let constant = fornax_onnx::read_tensor(bytes.into(), &Limits::default()).map_err(|e| e.to_string())?.1;
        Ok::<_, String>((constant.ty.to_string(), constant.bytes().unwrap().to_vec()))
    };
    let raw = |code, dims: &[i64], raw: &[u8]| TensorProto { raw_data: raw.to_vec(), ..tensor(code, dims) };
    let found = |ty: &str, bytes: &[u8]| Ok((ty.to_string(), bytes.to_vec()));
    assert_eq!(read(raw(22, &[3], &[0xF1, 0x07])), found("i8[3]", &[1, 0xFF, 7]));
    assert_eq!(read(raw(21, &[3], &[0xF1, 0x07])), found("u8[3]", &[1, 15, 7]));
    assert_eq!(read(raw(26, &[5], &[0b1110_0100, 0b01])), found("i8[5]", &[0, 1, 0xFE, 0xFF, 1]));
    assert_eq!(read(raw(25, &[5], &[0b1110_0100, 0b01])), found("u8[5]", &[0, 1, 2, 3, 1]));
    // Floats are their bits, of four bits or of eight; typed fields hold them as raw ones do.
    assert_eq!(read(raw(23, &[2], &[0xE3])), found("u8[2]", &[3, 14]));
    let typed = TensorProto { int32_data: vec![0x38, 0xC4], ..tensor(17, &[2]) };
    assert_eq!(read(typed), found("u8[2]", &[0x38, 0xC4]));
    assert_eq!(read(raw(24, &[], &[127])), found("u8[]", &[127]));
    let short = read(raw(22, &[3], &[0xF1])).unwrap_err();
    assert!(short.ends_with("data: expected 2 bytes, found 1 bytes"), "{short}");
}

#[test]
fn elements_below_8_bits_become_numbers_where_they_are_dequantised() {
    let tensor = |name: &str, data_type, dims: &[i64], raw: &[u8]| TensorProto {
        name: name.into(),
        data_type,
        dims: dims.to_vec(),
        raw_data: raw.to_vec(),
        ..Default::default()
    };
    let of = |op: &str, held: Vec<TensorProto>| {
        let names: Vec<String> = held.iter().map(|tensor| tensor.name.clone()).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let mut model = model(vec![], vec![value("y", FLOAT, None)], vec![node(op, &names, &["y"])]);
        model.opset_import = vec![opset("", 23)];
        model.graph.mut_or_insert_default().initializer = held;
        let graph = import(&model).map_err(|e| e.to_string())?;
        Ok::<_, String>(graph.producer(graph.outputs()[0].1).constant().unwrap().to_f32().unwrap())
    };
    let scale = || raw_f32("scale", &[], &[0.5]);
    // Two to a byte, the first in the lower half; four to a byte.
    assert_eq!(of("DequantizeLinear", vec![tensor("q", 22, &[3], &[0xF1, 0x07]), scale()]).unwrap(), [0.5, -0.5, 3.5]);
    let zero = tensor("zero", 21, &[], &[8]);
    assert_eq!(of("DequantizeLinear", vec![tensor("q", 21, &[2], &[0xF1]), scale(), zero]).unwrap(), [-3.5, 3.5]);
    assert_eq!(
        of("DequantizeLinear", vec![tensor("q", 26, &[4], &[0b1110_0100]), scale()]).unwrap(),
        [0.0, 0.5, -1.0, -0.5]
    );
    // 8-bit floats, and a table of 4-bit ones.
    assert_eq!(of("DequantizeLinear", vec![tensor("q", 17, &[2], &[0x38, 0xC4]), scale()]).unwrap(), [0.5, -1.5]);
    assert_eq!(of("DequantizeLinear", vec![tensor("q", 23, &[2], &[0xE3]), scale()]).unwrap(), [0.75, -2.0]);
    let message = of("Relu", vec![tensor("q", 17, &[1], &[0x38])]).unwrap_err();
    assert_eq!(message, "unsupported: Relu (y): elements below 8 bits, or 8-bit floats");
}

/// A sparse tensor of these values, indices and dimensions.
fn sparse(values: &[f32], (shape, indices): (&[i64], &[i64]), dims: &[i64]) -> SparseTensorProto {
    let indices = TensorProto {
        dims: shape.to_vec(),
        data_type: INT64,
        raw_data: indices.iter().flat_map(|v| v.to_le_bytes()).collect(),
        ..Default::default()
    };
    let values = raw_f32("t", &[values.len() as i64], values);
    SparseTensorProto {
        values: Some(values).into(),
        indices: Some(indices).into(),
        dims: dims.to_vec(),
        ..Default::default()
    }
}

/// The model whose output is a sparse initializer.
fn holding_sparse(sparse: SparseTensorProto) -> ModelProto {
    let mut model = holding(raw_f32("t", &[1], &[0.0]));
    let graph = model.graph.mut_or_insert_default();
    graph.initializer.clear();
    graph.sparse_initializer.push(sparse);
    model
}

#[test]
fn sparse_tensors_are_read_as_dense_ones() {
    let values = |sparse| {
        let graph = import(&holding_sparse(sparse)).unwrap();
        graph.producer(graph.outputs()[0].1).constant().unwrap().to_f32().unwrap()
    };
    let expected = [0.0, 7.0, 0.0, 0.0, 0.0, 8.0];
    assert_eq!(values(sparse(&[7.0, 8.0], (&[2], &[1, 5]), &[2, 3])), expected);
    assert_eq!(values(sparse(&[7.0, 8.0], (&[2, 2], &[0, 1, 1, 2]), &[2, 3])), expected);
    assert_eq!(values(sparse(&[], (&[0], &[]), &[2, 2])), [0.0; 4]);
    // The attribute of a Constant.
    let attribute = AttributeProto {
        name: "sparse_value".into(),
        type_: AttributeType::SPARSE_TENSOR.into(),
        sparse_tensor: Some(sparse(&[7.0, 8.0], (&[2], &[1, 5]), &[2, 3])).into(),
        ..Default::default()
    };
    let constant = NodeProto { attribute: vec![attribute], ..node("Constant", &[], &["t"]) };
    let graph = import(&model(vec![], vec![value("t", FLOAT, None)], vec![constant])).unwrap();
    assert_eq!(graph.producer(graph.outputs()[0].1).constant().unwrap().to_f32().unwrap(), expected);
}

#[test]
fn broken_sparse_tensors_are_refused() {
    let rows = [
        (sparse(&[1.0], (&[1], &[6]), &[2, 3]), "tensor t: indices: expected indices of [2,3], found [6]"),
        (sparse(&[1.0], (&[1], &[-1]), &[2, 3]), "tensor t: indices: expected indices of [2,3], found [-1]"),
        (sparse(&[1.0], (&[1, 2], &[0, 3]), &[2, 3]), "tensor t: indices: expected indices of [2,3], found [0, 3]"),
        (
            sparse(&[1.0, 2.0], (&[2], &[3, 3]), &[2, 3]),
            "tensor t: indices: expected distinct indices in ascending order, found [3]",
        ),
        (sparse(&[1.0], (&[2], &[0, 1]), &[2, 3]), "tensor t: indices: expected [1] or [1,2], found i64[2]"),
        (
            sparse(&[1.0], (&[1], &[0]), &[1 << 20, 1 << 10]),
            "t: limit fold_elements: allowed 4194304, needed 1073741824",
        ),
        (
            SparseTensorProto { indices: None.into(), ..sparse(&[1.0], (&[1], &[0]), &[2]) },
            "tensor t: storage: expected values and indices, found one of them, or neither",
        ),
    ];
    for (sparse, message) in rows {
        assert_eq!(refusal(&holding_sparse(sparse)), message);
    }
}
