//! Outputs of which data decides how much is there: cut by sessions, said by one more output to everyone else.

use fornax::runtime::Library;
use fornax::{ArtifactOptions, Emit, Model, Options, SessionOptions, Tensor};
use fornax_ir::types::random_values;

use crate::Folder;
use crate::support::onnx::{Value, Writer};

/// Elements of the vector that is chosen from.
const COUNT: usize = 40;

/// The positive elements of `s`, their rows of `b` as columns, the sum of both, and the three largest elements or fewer.
fn model() -> Model {
    let mut model = Writer::new("chooses", 17);
    model.input("s", &[COUNT as i64]);
    model.input("b", &[COUNT as i64, 4]);
    model.weight("zero", &[], &[0.0]);
    model.integers("first", &[0]);
    model.integers("three", &[3]);
    model.integers("free", &[-1, 1]);
    let mut node = |op: &str, inputs: &[&str], output: &str| model.node(op, inputs, output, &[]);
    node("Greater", &["s", "zero"], "mask");
    node("NonZero", &["mask"], "places");
    node("Transpose", &["places"], "rows");
    node("GatherND", &["s", "rows"], "chosen");
    node("GatherND", &["b", "rows"], "boxes");
    node("Transpose", &["boxes"], "columns");
    node("Reshape", &["chosen", "free"], "upright");
    node("Mul", &["upright", "boxes"], "products");
    node("ReduceSum", &["products", "first"], "sum");
    node("Shape", &["chosen"], "extent");
    node("Min", &["extent", "three"], "most");
    node("Slice", &["chosen", "first", "most"], "some");
    model.node("ReduceMean", &["boxes"], "mean", &[("axes", Value::Ints(&[0])), ("keepdims", Value::Int(0))]);
    for name in ["chosen", "columns", "sum", "some", "mean"] {
        model.output(name, &[]);
    }
    Model::from_bytes(model.finish(), &Options::default()).unwrap()
}

/// Shapes and elements of all outputs, as plain loops have them.
fn plainly(s: &[f32], b: &[f32]) -> Vec<(Vec<usize>, Vec<f32>)> {
    let rows: Vec<usize> = (0..s.len()).filter(|i| s[*i] > 0.0).collect();
    let chosen: Vec<f32> = rows.iter().map(|i| s[*i]).collect();
    let column = |c: usize| rows.iter().map(move |i| b[i * 4 + c]);
    let sums = |weighted: bool| {
        let weight = |i: usize| if weighted { f64::from(s[i]) } else { 1.0 / rows.len() as f64 };
        (0..4).map(|c| rows.iter().map(|i| f64::from(b[i * 4 + c]) * weight(*i)).sum::<f64>() as f32).collect()
    };
    vec![
        (vec![rows.len()], chosen.clone()),
        (vec![4, rows.len()], (0..4).flat_map(column).collect()),
        (vec![1, 4], sums(true)),
        (vec![rows.len().min(3)], chosen.into_iter().take(3).collect()),
        (vec![4], sums(false)),
    ]
}

/// Elements with more or fewer positive ones, from all to a single one.
fn inputs(seed: u64) -> [Tensor; 2] {
    let mut s = random_values(seed, COUNT);
    match seed {
        1 => s.iter_mut().for_each(|v| *v = v.abs() + 0.1),
        2 => s.iter_mut().enumerate().for_each(|(i, v)| *v = if i == 17 { 0.5 } else { -v.abs() }),
        _ => {}
    }
    let b = random_values(seed + 10, COUNT * 4);
    [Tensor::from_f32([COUNT], &s).unwrap(), Tensor::from_f32([COUNT, 4], &b).unwrap()]
}

fn compare(model: &Model) {
    let mut session = model.session(&SessionOptions { threads: 1, ..Default::default() }).unwrap();
    assert_eq!(model.outputs(), ["chosen", "columns", "sum", "some", "mean"]);
    for seed in 1..5 {
        let [s, b] = inputs(seed);
        let found = session.run(&[&s, &b]).unwrap();
        let expected = plainly(s.as_f32().unwrap(), b.as_f32().unwrap());
        assert_eq!(found.len(), expected.len());
        for (found, (shape, values)) in found.iter().zip(expected) {
            assert_eq!(found.shape()[..], shape[..]);
            let near = |(a, b): (&f32, &f32)| (a - b).abs() < 1e-5;
            assert!(found.as_f32().unwrap().iter().zip(&values).all(near), "{seed}: {found:?} {values:?}");
        }
        // Into memory of the caller's, with room for the most.
        let mut room = session.room().unwrap();
        session.run_into(&[&s, &b], &mut room).unwrap();
        assert_eq!(room.len(), 8);
        assert_eq!(room[0].shape()[..], [COUNT]);
        assert_eq!(room[5].as_i64().unwrap()[0] as usize, found[0].shape()[0]);
    }
}

#[test]
fn sessions_cut_outputs_to_what_is_there() {
    compare(&model());
}

#[test]
fn libraries_say_how_much_is_there() {
    let folder = Folder::new(&model(), &ArtifactOptions::new("chooses"), &[Emit::So, Emit::Header]);
    let path = folder.path("chooses", Emit::So);
    compare(&Model::open(&path).unwrap());
    let library = Library::open(&path).unwrap();
    let names: Vec<&str> = library.outputs(0).iter().map(|port| port.name.as_str()).collect();
    assert_eq!(names[5..], ["chosen.extent.0", "columns.extent.1", "some.extent.0"]);
    let manifest: serde_json::Value = serde_json::from_str(library.manifest()).unwrap();
    let outputs = &manifest["bindings"][0]["outputs"];
    assert_eq!(outputs[1]["extent"], serde_json::json!({"axis": 1, "output": "columns.extent.1"}));
    assert!(outputs[2].get("extent").is_none());
    let header = std::fs::read_to_string(folder.path("chooses", Emit::Header)).unwrap();
    assert!(header.contains("of output 1 the first slices along axis 1 are there, output 6 says how many"), "{header}");
}
