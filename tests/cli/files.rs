//! Model files as they are: open dimensions, names with `=`, defaults that are fed, a fixed batch, shapes that are fed, what is unsupported.

use std::path::Path;

use fornax::{Tensor, tensors};

use crate::support::onnx::{UNNAMED, Value, Writer};
use crate::{PHOTO, Scratch, fails, fornax, json, text};

/// What a run on these tensors saves as its only output: shape and elements.
#[track_caller]
fn saved(scratch: &Scratch, arguments: &[&str]) -> (Vec<usize>, Vec<f64>) {
    let out = scratch.name("out.npy");
    text(&[arguments, &["--save", &out]].concat());
    let tensor = tensors::load(Path::new(&out)).unwrap().remove(0).tensor;
    (tensor.shape().to_vec(), tensor.to_f64_vec())
}

fn given(scratch: &Scratch, file: &str, shape: &[usize], values: &[f32]) -> String {
    scratch.tensor(file, &Tensor::from_f32(shape, values).unwrap())
}

/// The mean over pixels of an input whose sides are open and have no name.
fn open_sides() -> Writer {
    let mut model = Writer::new("open", 17);
    model.input("x", &[1, 3, UNNAMED, UNNAMED]);
    model.node("GlobalAveragePool", &["x"], "p", &[]);
    model.node("Flatten", &["p"], "y", &[("axis", Value::Int(1))]);
    model.output("y", &[1, 3]);
    model
}

#[test]
fn open_dimensions_are_described_and_bound() {
    let scratch = Scratch::new();
    let path = scratch.file("open.onnx", &open_sides().finish());
    let shown = text(&["inspect", &path]);
    assert!(shown.contains("input       x  f32[1,3,?,?]") && shown.contains("GlobalAveragePool"), "{shown}");
    assert!(shown.contains("axis 2 of input x"), "{shown}");
    assert_eq!(json(&["inspect", &path])["operators"]["Flatten"], 1);
    for flags in [&["--shape", "x=1x3x8x6"][..], &["--dim", "x.2=8", "--dim", "x.3=6"]] {
        let bound = text(&[&["inspect", &path], flags].concat());
        assert!(bound.contains("operators   ") && !bound.contains("cannot be compiled"), "{bound}");
        text(&[&["bench", &path, "--seconds", "0", "--min-runs", "1"], flags].concat());
    }
    let library = scratch.name("open.so");
    text(&["compile", &path, "-o", &library, "--shape", "x=1x3x8x6"]);
    assert!(text(&["inspect", &library]).contains("x  f32[1,3,8,6]"));
    fails(&["inspect", &path, "--shape", "z=1x3x8x6"], 2, "an input of the model (x), found z");
    fails(&["inspect", &path, "--dim", "x.4=8"], 2, "or an axis of an input such as x.2");
    fails(&["bench", &path], 1, "unbound dimensions");
    fails(&["inspect", &path, "--shape", "x=1x4x8x6"], 1, "a shape that fits [1,3,?,?]");
}

#[test]
fn an_input_without_a_shape_takes_one() {
    let mut model = Writer::new("any", 17);
    model.input_of_any_rank("x");
    model.node("Relu", &["x"], "y", &[]);
    model.output("y", &[2, 2]);
    let scratch = Scratch::new();
    let path = scratch.file("any.onnx", &model.finish());
    assert!(text(&["inspect", &path]).contains("x  f32 of any rank"));
    assert!(text(&["inspect", &path, "--shape", "x=2x2"]).contains("output      y  f32[2,2]"));
    let x = given(&scratch, "x.npy", &[3], &[-1.0, 0.5, 2.0]);
    assert_eq!(saved(&scratch, &["run", &path, "--input", &x]), (vec![3], vec![0.0, 0.5, 2.0]));
}

#[test]
fn a_photo_binds_the_sides_that_are_open() {
    let scratch = Scratch::new();
    let path = scratch.file("open.onnx", &open_sides().finish());
    assert_eq!(saved(&scratch, &["run", &path, "--image", PHOTO]).0, [1, 3]);
    let with = |flags: &[&str]| {
        let output = fornax(&[&["run", &path, "--image", PHOTO], flags].concat());
        String::from_utf8(output.stderr).unwrap()
    };
    assert!(with(&[]).contains("at the image's own size"));
    assert!(!with(&["--shape", "x=1x3x32x32"]).contains("own size"));
}

#[test]
fn names_may_hold_an_equals_sign() {
    let mut model = Writer::new("equals", 17);
    model.input("a=b", &[2]);
    model.input("a", &[2]);
    model.node("Sub", &["a=b", "a"], "y", &[]);
    model.output("y", &[2]);
    let scratch = Scratch::new();
    let path = scratch.file("equals.onnx", &model.finish());
    let (left, right) = (given(&scratch, "left.npy", &[2], &[5.0, 7.0]), given(&scratch, "r=.npy", &[2], &[1.0, 2.0]));
    let inputs = [format!("a=b={left}"), format!("a={right}")];
    let found = saved(&scratch, &["run", &path, "--input", &inputs[1], "--input", &inputs[0]]);
    assert_eq!(found, (vec![2], vec![4.0, 5.0]));
}

#[test]
fn an_initializer_that_is_fed_is_overridden() {
    let mut model = Writer::new("default", 17);
    model.input("x", &[2]);
    model.input("w", &[2]);
    model.weight("w", &[2], &[10.0, 20.0]);
    model.node("Add", &["x", "w"], "y", &[]);
    model.output("y", &[2]);
    let scratch = Scratch::new();
    let path = scratch.file("default.onnx", &model.finish());
    let x = format!("x={}", given(&scratch, "x.npy", &[2], &[1.0, 2.0]));
    let w = format!("w={}", given(&scratch, "w.npy", &[2], &[3.0, 4.0]));
    assert_eq!(saved(&scratch, &["run", &path, "--input", &x]).1, [11.0, 22.0]);
    assert_eq!(saved(&scratch, &["run", &path, "--input", &x, "--input", &w]).1, [4.0, 6.0]);
}

#[test]
fn a_fixed_batch_is_opened_and_said_so() {
    let mut model = Writer::new("one", 17);
    model.input("x", &[1, 2, 2]);
    model.integers("shape", &[1, -1]);
    model.node("Reshape", &["x", "shape"], "r", &[]);
    model.node("ReduceSum", &["r"], "y", &[("keepdims", Value::Int(1))]);
    model.output("y", &[1, 1]);
    // The sum goes over the batch too: it cannot have two.
    let scratch = Scratch::new();
    let path = scratch.file("sum.onnx", &model.finish());
    fails(&["inspect", &path, "--dim", "batch=2"], 1, "output y: axis 0: expected the batch of 2");

    let mut model = Writer::new("one", 17);
    model.input("x", &[1, 2, 2]);
    model.integers("shape", &[1, -1]);
    model.node("Reshape", &["x", "shape"], "y", &[]);
    model.output("y", &[1, 4]);
    let path = scratch.file("one.onnx", &model.finish());
    let x = given(&scratch, "x.npy", &[2, 2, 2], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]);
    for flag in ["batch=2", "x.0=2"] {
        let found = saved(&scratch, &["run", &path, "--input", &x, "--dim", flag]);
        assert_eq!(found, (vec![2, 4], vec![1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]));
        let said = fornax(&["run", &path, "--input", &x, "--dim", flag]).stderr;
        assert!(String::from_utf8(said).unwrap().contains("the file fixes the batch to 1; it is opened again as 2"));
    }
    fails(&["run", &path, "--input", &x], 1, "[1,2,2]");
    let said = fornax(&["compile", &path, "-o", &scratch.name("one.so"), "--dim", "batch=2"]).stderr;
    assert!(String::from_utf8(said).unwrap().contains("opened again as 2"));
}

#[test]
fn a_declared_shape_that_is_wrong_is_a_note() {
    let mut model = Writer::new("wrong", 17);
    model.input("x", &[1, 2]);
    model.node("Relu", &["x"], "y", &[]);
    model.output("y", &[]);
    let scratch = Scratch::new();
    let path = scratch.file("wrong.onnx", &model.finish());
    let x = given(&scratch, "x.npy", &[1, 2], &[-1.0, 1.0]);
    let output = fornax(&["run", &path, "--input", &x]);
    assert!(output.status.success());
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("note: ") && stderr.contains("output y: declared as [], computed as [1,2]"), "{stderr}");
}

#[test]
fn shapes_that_are_fed_are_compiled_for() {
    let mut model = Writer::new("fed", 17);
    model.input("x", &[2, 3]);
    model.input_of_integers("shape", &[2]);
    model.node("Reshape", &["x", "shape"], "y", &[]);
    model.output("y", &[-1, -2]);
    let scratch = Scratch::new();
    let path = scratch.file("fed.onnx", &model.finish());
    let x = format!("x={}", given(&scratch, "x.npy", &[2, 3], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]));
    for shape in [[3i64, 2], [6, -1]] {
        let bytes: Vec<u8> = shape.iter().flat_map(|v| v.to_le_bytes()).collect();
        let tensor = Tensor::from_bytes(fornax::DType::I64, [2], &bytes).unwrap();
        let shape_of = format!("shape={}", scratch.tensor("shape.npy", &tensor));
        let (found, values) = saved(&scratch, &["run", &path, "--input", &x, "--input", &shape_of]);
        assert_eq!(found, [shape[0] as usize, 6 / shape[0] as usize]);
        assert_eq!(values, [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
    }
    // Without a value there is nothing to compile for; with one it is no input any more.
    fails(&["bench", &path], 4, "shape: expected a value known at compile time");
    let library = scratch.path("fed.so");
    let library = library.to_str().unwrap();
    text(&["compile", &path, "--value", "shape=3,-1", "-o", library]);
    for model in [&[library][..], &[&path, "--value", "shape=3, 2"]] {
        let (found, _) = saved(&scratch, &[&["run"], model, &["--input", &x]].concat());
        assert_eq!(found, [3, 2]);
    }
    fails(&["compile", &path, "--value", "shape=6", "-o", library], 1, "shape: expected 2 numbers for i64[2], found 1");
    fails(
        &["compile", &path, "--value", "shape=6,0.5", "-o", library],
        1,
        "shape: expected numbers that are i64, found 0.5",
    );
    fails(&["compile", &path, "--value", "size=6", "-o", library], 1, "size: expected an input (x, shape), found none");
    fails(&["run", library, "--value", "shape=6,1", "--input", &x], 2, "--value: expected an ONNX file");
    fails(&["run", &path, "--value", "shape=a", "--input", &x], 2, "expected numbers such as 1,77,8");
}

#[test]
fn what_is_unsupported_names_the_file_and_has_a_code_of_its_own() {
    let mut model = Writer::new("unsupported", 17);
    model.input("x", &[2]);
    model.node("StringNormalizer", &["x"], "a", &[]);
    model.node("StringNormalizer", &["x"], "b", &[]);
    model.node("Concat", &["a", "b"], "y", &[("axis", Value::Int(0))]);
    model.output("y", &[4]);
    let scratch = Scratch::new();
    let path = scratch.file("unsupported.onnx", &model.finish());
    let x = given(&scratch, "x.npy", &[2], &[1.0, 2.0]);
    let why = "unsupported.onnx: unsupported: StringNormalizer of ai.onnx opset 17 (/a/StringNormalizer, /b/StringNormalizer)";
    fails(&["run", &path, "--input", &x], 4, why);
    fails(&["inspect", &path], 4, why);
    // A serialised tensor of strings: type 8, no dimensions, one element.
    let text = scratch.file("text.pb", &[0x10, 8, 0x32, 1, b'a']);
    fails(&["run", &path, "--input", &text], 4, "text.pb: unsupported: tensor of the file: elements of type STRING");
}
