//! Models with a few bytes changed: refused or imported, never a panic.
//!
//! `FORNAX_MUTATE` may name more files to change, one per line.

mod support;

use fornax_ir::inputs::Bindings;
use fornax_onnx::{Limits, OnnxFile};
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::{AttributeProto, NodeProto, TensorProto};
use support::*;

/// The splitmix64 stream.
struct Random(u64);

impl Random {
    fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) as usize % bound.max(1)
    }

    /// `original` with one to four edits.
    fn mutate(&mut self, original: &[u8]) -> Vec<u8> {
        let mut bytes = original.to_vec();
        for _ in 0..=self.below(4) {
            let at = self.below(bytes.len());
            match self.below(8) {
                0 => bytes.truncate(at),
                1 => bytes.insert(at, self.below(256) as u8),
                2 if !bytes.is_empty() => _ = bytes.remove(at),
                3 if !bytes.is_empty() => bytes[at] = [0, 1, 0x7f, 0x80, 0xff][self.below(5)],
                4 => {
                    let end = (at + self.below(32)).min(bytes.len());
                    let copy = bytes[at..end].to_vec();
                    let to = self.below(bytes.len());
                    bytes.splice(to..to, copy);
                }
                _ if !bytes.is_empty() => bytes[at] ^= 1 << self.below(8),
                _ => {}
            }
        }
        bytes
    }
}

fn import_mutants(original: &[u8], seed: u64, count: usize) -> usize {
    let mut random = Random(seed);
    let mut imported = 0;
    for _ in 0..count {
        let bytes = random.mutate(original);
        let file = OnnxFile::from_bytes(bytes.into(), None, &Limits::default());
        imported += usize::from(file.and_then(|f| f.import(&Bindings::default())).is_ok());
    }
    imported
}

fn ints(name: &str, ints: &[i64]) -> AttributeProto {
    AttributeProto { name: name.into(), ints: ints.to_vec(), type_: AttributeType::INTS.into(), ..Default::default() }
}

fn with(node: NodeProto, attribute: Vec<AttributeProto>) -> NodeProto {
    NodeProto { attribute, ..node }
}

/// Convolution, pooling, shape arithmetic, a function: a little of everything.
fn network() -> Vec<u8> {
    let nodes = vec![
        with(node("Conv", &["x", "w", "b"], &["c"]), vec![ints("pads", &[1, 1, 1, 1]), ints("strides", &[2, 2])]),
        call("Act", &["c"], &["a"]),
        with(node("MaxPool", &["a"], &["p"]), vec![ints("kernel_shape", &[2, 2]), ints("strides", &[2, 2])]),
        node("Shape", &["p"], &["s"]),
        node("Gather", &["s", "zero"], &["n"]),
        with(
            node("Concat", &["n", "rest"], &["shape"]),
            vec![AttributeProto { name: "axis".into(), type_: AttributeType::INT.into(), ..Default::default() }],
        ),
        node("Reshape", &["p", "shape"], &["r"]),
        node("Slice", &["r", "zero", "n", "zero"], &["t"]),
        node("Softmax", &["t"], &["y"]),
    ];
    let act = with(node("LeakyRelu", &["a"], &["b"]), vec![reference("alpha", "slope")]);
    let x = value("x", FLOAT, Some(&["N", "1", "8", "8"]));
    let mut model = model(vec![x], vec![value("y", FLOAT, Some(&["N", "8"]))], nodes);
    model.functions = vec![function("Act", &["a"], &["b"], vec![act])];
    let int = |name: &str, v: i64| TensorProto {
        name: name.into(),
        dims: vec![1],
        data_type: INT64,
        int64_data: vec![v],
        ..Default::default()
    };
    let weight = raw_f32("w", &[2, 1, 3, 3], &[0.5; 18]);
    model.graph.mut_or_insert_default().initializer =
        vec![weight, raw_f32("b", &[2], &[0.0, 1.0]), int("zero", 0), int("rest", -1)];
    bytes(&model).to_vec()
}

#[test]
fn mutants_of_a_network_never_panic() {
    let original = network();
    assert!(
        OnnxFile::from_bytes(original.clone().into(), None, &Limits::default())
            .unwrap()
            .import(&Bindings::default())
            .is_ok()
    );
    let imported = import_mutants(&original, 1, 20_000);
    assert!(imported > 0 && imported < 20_000, "{imported} mutants of 20000 were imported");
}

#[test]
fn mutants_of_given_files_never_panic() {
    let Ok(files) = std::env::var("FORNAX_MUTATE") else {
        eprintln!("SKIPPED: FORNAX_MUTATE names no files");
        return;
    };
    for (seed, path) in files.lines().enumerate() {
        let original = std::fs::read(path).unwrap_or_else(|e| panic!("{path}: {e}"));
        println!("{path}");
        import_mutants(&original, seed as u64, 200);
    }
}
