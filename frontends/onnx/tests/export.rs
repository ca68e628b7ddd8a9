//! Graphs as ONNX files: they read back as the same graph, and an independent implementation reads them too.

use fornax_ir::graph::{Graph, GraphBuilder, evaluate, parse};
use fornax_ir::inputs::Bindings;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{Concat, Conv, ConvWeightGradient, Gemm, Pad, Reduce, Reshape, Slice, Softmax, Transpose, Unary};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::{DType, TensorType, random_values};
use fornax_onnx::{Error, ExportOptions, Limits, OnnxFile, export};
use onnx_protobuf::{Message, ModelProto};

fn import(bytes: bytes::Bytes, batch: usize) -> Graph {
    import_with(bytes, &Bindings { dims: [("batch".to_string(), batch)].into(), ..Bindings::default() })
}

fn import_with(bytes: bytes::Bytes, bindings: &Bindings) -> Graph {
    OnnxFile::from_bytes(bytes, None, &Limits::default()).unwrap().import(bindings).unwrap()
}

/// The text of a graph without where its lines come from.
fn text(graph: &Graph) -> String {
    graph.to_string().lines().map(|line| line.split("  ; from").next().unwrap_or_default().to_string() + "\n").collect()
}

/// A graph of many operators: convolution, activations, movement, a classifier.
fn network() -> Graph {
    let mut b = GraphBuilder::new("many");
    let x = b.input("x", [1, 4, 6, 6]);
    let w = b.random("w", [8, 4, 3, 3], 1);
    let y = b.op("conv", Conv { strides: vec![2, 2], pads: vec![0, 0, 1, 1], ..Conv::default() }, &[x, w]).unwrap();
    let y = b.op("clip", Unary { function: UnaryFn::Clip(0.0, 6.0) }, &[y]).unwrap();
    let y = b.op("swish", Unary { function: UnaryFn::HardSwish }, &[y]).unwrap();
    let pad = Pad { pads: vec![0, 0, 1, 0, 0, 0, 0, 1], ..Pad::default() };
    let y = b.op("pad", pad, &[y]).unwrap();
    let part = |starts: [usize; 4], sizes: [usize; 4], steps: [i64; 4]| Slice {
        starts: starts.to_vec(),
        sizes: sizes.to_vec(),
        steps: steps.to_vec(),
    };
    let first = b.op("first", part([0, 0, 0, 0], [1, 4, 4, 4], [1, 1, 1, 1]), &[y]).unwrap();
    let last = b.op("last", part([0, 7, 3, 0], [1, 4, 4, 4], [1, -1, -1, 1]), &[y]).unwrap();
    let y = b.op("concat", Concat { axis: 1 }, &[first, last]).unwrap();
    let y = b.op("turn", Transpose { perm: vec![0, 2, 3, 1] }, &[y]).unwrap();
    let y = b.op("turn_back", Transpose { perm: vec![0, 3, 1, 2] }, &[y]).unwrap();
    let mean = Reduce { kind: fornax_ir::ops::reduce::ReduceKind::Mean, axes: vec![2, 3], keepdims: true };
    let y = b.op("mean", mean, &[y]).unwrap();
    let y = b.op("flat", Reshape { shape: vec![1, 8] }, &[y]).unwrap();
    let (w, bias) = (b.random("fc.weight", [3, 8], 2), b.random("fc.bias", [3], 3));
    let y = b.op("fc", Gemm { trans_b: true, bias: true, ..Gemm::default() }, &[y, w, bias]).unwrap();
    let y = b.op("scores", Softmax { axis: 1, log: false }, &[y]).unwrap();
    b.output("scores", y);
    b.finish()
}

#[test]
fn an_export_reads_back_as_the_same_graph() {
    let graph = network();
    let metadata = [("labels".to_string(), "[\"a\"]".to_string())].into();
    let options = ExportOptions { open_batch: true, metadata };
    let bytes = export(&graph, &options).unwrap();
    let again = import(bytes.clone(), 1);
    assert_eq!(text(&again), text(&import(export(&again, &options).unwrap(), 1)));
    assert_eq!(again.metadata["labels"], "[\"a\"]");
    let x = Literal::from_f32([1, 4, 6, 6], &random_values(5, 144));
    let values = |graph: &Graph| evaluate(graph, std::slice::from_ref(&x)).unwrap()[0].to_f64();
    assert_eq!(values(&graph), values(&again));
    assert_eq!(import(bytes, 3).outputs().len(), 1);
}

/// What other operators compute is the same after a round trip.
#[test]
fn every_operator_of_onnx_can_be_written() {
    for (inputs, nodes) in [
        (
            "%x: f32[1,4,3,3]",
            "%w = constant f32[4,2,2,2] random(7)\n%b = constant f32[4] random(8)\n\
          %y = conv_transpose %x, %w, %b {strides=[2,1],pads=[1,0,0,1],output_padding=[1,0],group=2,bias=true}",
        ),
        ("%x: f32[4,3]", "%i = constant i64[2] [2, -1]\n%y = gather %x, %i {axis=0}"),
        ("%x: f32[2,3]", "%i = constant i64[2,1] [2, 0]\n%y = gather_elements %x, %i {axis=1}"),
        ("%x: f32[3,1]", "%y = expand %x {shape=[2,3,4]}"),
        ("%x: f32[3,2]", "%y = tile %x {repeats=[2,3]}"),
        ("%x: f32[1,5,2,2]", "%y = lrn %x {size=3,alpha=0.5,bias=2}"),
        ("%x: f32[2,5]", "%y = arg_reduce %x {axis=1,min=true,keepdims=false}"),
        ("%x: f32[1,2,4,5]", "%y = resize %x {shape=[1,2,8,10],scales=[1,1,2,2],mode=linear}"),
        (
            "%x: f32[1,2,4,6]",
            "%y = resize %x {shape=[1,2,3,4],scales=[1,1,0.75,0.6666666666666666],\
          mode=cubic,coordinates=align_corners,cubic_a=-0.5,exclude_outside=true}",
        ),
        (
            "%x: f32[1,1,4,4]",
            "%y = resize %x {shape=[1,1,3,3],scales=[1,1,0.800000011920929,0.800000011920929],nearest=floor,coordinates=asymmetric}",
        ),
        (
            "%x: f32[2,6]",
            "%y, %i = top_k %x {axis=1,k=3,smallest=true}\n%n = neg %y\nreturn %i as \"i\", %n as \"n\", %y as \"y\"",
        ),
        (
            "%x: f32[1,2,5,4]",
            "%y, %i = max_pool %x {kernel=[2,3],pads=[1,0,0,1],column_major=true}\nreturn %y as \"y\", %i as \"i\"",
        ),
        ("%x: f32[3,5]", "%a, %b = split %x {axis=1,sizes=[2,3]}\nreturn %b as \"b\", %a as \"a\""),
        ("%x: f32[2,3,4]", "%m, %v = batch_statistics %x\nreturn %v as \"v\", %m as \"m\""),
    ] {
        let outputs = if nodes.contains("return") { "" } else { "return %y as \"y\"" };
        let graph = parse(&format!("graph @g({inputs}) {{\n{nodes}\n{outputs}\n}}")).unwrap();
        let again = import_with(export(&graph, &ExportOptions::default()).unwrap(), &Bindings::default());
        let ty = graph.ty(graph.inputs()[0]);
        let x = Literal::from_f32(ty.shape.clone(), &random_values(5, ty.shape.numel()));
        let values = |graph: &Graph| evaluate(graph, std::slice::from_ref(&x)).unwrap();
        let (expected, found) = (values(&graph), values(&again));
        assert_eq!(expected.len(), found.len(), "{nodes}");
        for (expected, found) in expected.iter().zip(&found) {
            assert_eq!(expected.ty, found.ty, "{nodes}");
            let same = |(a, b): (f64, f64)| (a - b).abs() <= 1e-6;
            assert!(expected.to_f64().into_iter().zip(found.to_f64()).all(same), "{nodes}\n{expected:?}\n{found:?}");
        }
    }
}

/// Products of centred 8-bit integers are those of ONNX, and come back as they were.
#[test]
fn products_of_integers_keep_their_form() {
    for (inputs, nodes, expected) in [
        (
            "%x: u8[1,2,4,4]",
            "%w = constant i16[3,2,2,2] [1,-2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,-155]\n\
             %b = constant i32[3] [1000, -7, 0]\n%z = constant i16[] [130]\n%c = cast %x {to=i16}\n%d = sub %c, %z\n\
             %y = conv %d, %w, %b {strides=[2,1],pads=[1,0,0,1],bias=true}",
            ["ConvInteger", "Reshape", "Add"].as_slice(),
        ),
        (
            "%x: i8[1,1,3,3]",
            "%w = constant i16[1,1,1,1] [255]\n%c = cast %x {to=i16}\n%y = conv %c, %w",
            &["ConvInteger"],
        ),
        (
            "%x: u8[2,3]",
            "%w = constant i16[3,2] [100,200,3,4,5,6]\n%z = constant i16[] [255]\n%c = cast %x {to=i16}\n\
             %d = sub %c, %z\n%y = matmul %d, %w",
            &["MatMulInteger"],
        ),
        (
            "%x: u8[2,2]",
            "%c = cast %x {to=i16}\n%z = constant i8[] [-3]\n%e = cast %z {to=i16}\n%d = sub %c, %e\n%y = matmul %d, %c",
            &["Cast", "Sub", "Cast", "Cast", "MatMul"],
        ),
        (
            "%x: u8[2,2]",
            "%w = constant i16[2,2] [100,-200,3000,4]\n%c = cast %x {to=i16}\n%y = matmul %c, %w",
            &["Cast", "Cast", "Cast", "MatMul"],
        ),
    ] {
        let graph = parse(&format!("graph @g({inputs}) {{\n{nodes}\nreturn %y as \"y\"\n}}")).unwrap();
        let bytes = export(&graph, &ExportOptions::default()).unwrap();
        let model = ModelProto::parse_from_bytes(&bytes).unwrap();
        let written: Vec<&str> = model.graph.node.iter().map(|node| node.op_type.as_str()).collect();
        assert!(written.ends_with(expected), "{written:?}, not {expected:?}");
        let again = import_with(bytes, &Bindings::default());
        let ty = graph.ty(graph.inputs()[0]);
        let numbers =
            (0..ty.shape.numel() as i64).map(|i| (i * 37 + 11) % 256 - if ty.dtype == DType::I8 { 128 } else { 0 });
        let x = Literal::new_int(ty.clone(), numbers.collect());
        let values = |graph: &Graph| evaluate(graph, std::slice::from_ref(&x)).unwrap()[0].clone();
        assert_eq!(values(&graph).to_f64(), values(&again).to_f64(), "{nodes}");
        let wide = |graph: &Graph| graph.ids().any(|id| graph.ty(id).dtype == DType::I16);
        assert!(wide(&again) || written.contains(&"MatMul"), "{nodes}");
    }
    let wide = "%w = constant i16[1,1,1,1] [256]\n%c = cast %x {to=i16}\n%y = conv %c, %w";
    let graph = parse(&format!("graph @g(%x: i8[1,1,3,3]) {{\n{wide}\nreturn %y as \"y\"\n}}")).unwrap();
    let error = export(&graph, &ExportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("16-bit integers that are no 8-bit ones less a zero point"), "{error}");
}

#[test]
fn another_implementation_reads_it() {
    let bytes = export(&network(), &ExportOptions { open_batch: true, ..Default::default() }).unwrap();
    let model = ModelProto::parse_from_bytes(&bytes).unwrap();
    assert_eq!((model.ir_version, model.opset_import[0].version), (8, 18));
    let graph = model.graph.unwrap();
    let ops: Vec<&str> = graph.node.iter().map(|node| node.op_type.as_str()).collect();
    assert!(ops.starts_with(&["Conv", "Clip", "HardSwish", "Pad", "Slice"]), "{ops:?}");
    assert!(graph.initializer.iter().any(|tensor| tensor.name == "fc.weight" && tensor.dims == [3, 8]));
    let dim = &graph.input[0].type_.tensor_type().shape.dim;
    assert_eq!((dim[0].dim_param(), dim[1].dim_value()), ("batch", 4));
}

#[test]
fn what_onnx_lacks_is_listed() {
    let mut b = GraphBuilder::new("fused");
    let x = b.input("x", [1, 4, 6, 6]);
    let w = b.random("w", [8, 4, 1, 1], 1);
    let y = b.op("a", Conv { activation: Some(UnaryFn::Relu), ..Conv::default() }, &[x, w]).unwrap();
    let y = b.op("b", Unary { function: UnaryFn::GeluTanh }, &[y]).unwrap();
    b.output("y", y);
    let dw = ConvWeightGradient { kernel: vec![2, 2], pads: vec![1, 0, 0, 1], ..Default::default() };
    let dw = b.op("c", dw, &[x, y]).unwrap();
    b.output("dw", dw);
    let error = export(&b.finish(), &ExportOptions::default()).unwrap_err();
    assert!(matches!(&error, Error::Unsupported(list) if list.len() == 3), "{error}");
}

/// Names of outputs and of what an export adds may be those of values.
#[test]
fn every_value_has_a_name_of_its_own() {
    let mut b = GraphBuilder::new("clash");
    let x = b.input("x", [1, 4]);
    let y = b.op("out", Unary { function: UnaryFn::Relu }, &[x]).unwrap();
    let shape = b.op("last/shape", Unary { function: UnaryFn::Silu }, &[y]).unwrap();
    let last = b.op("last", Reshape { shape: vec![1, 2, 2] }, &[shape]).unwrap();
    b.output("out", last);
    let graph = b.finish();
    let bytes = export(&graph, &ExportOptions::default()).unwrap();
    let model = ModelProto::parse_from_bytes(&bytes).unwrap().graph.unwrap();
    let made = model.node.iter().flat_map(|node| node.output.clone());
    let mut names: Vec<String> = made.chain(model.initializer.iter().map(|tensor| tensor.name.clone())).collect();
    let count = names.len();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), count, "{names:?}");
    let x = Literal::from_f32([1, 4], &[-1.0, 0.5, 2.0, 3.0]);
    let values = |graph: &Graph| evaluate(graph, std::slice::from_ref(&x)).unwrap()[0].to_f64();
    assert_eq!(values(&import(bytes, 1)), values(&graph));
}

#[test]
fn variables_are_written_as_what_they_hold_and_updates_are_refused() {
    let text = "graph @g(%x: f32[2]) {
      %w = parameter \"w\" f32[2] [0.5, 2]
      %y = mul %x, %w
      return %y as \"y\"";
    let parse = |update: &str| fornax_ir::graph::parse(&format!("{text} {update} }}")).unwrap();
    let again = import_with(export(&parse(""), &ExportOptions::default()).unwrap(), &Bindings::default());
    let x = Literal::from_f32([2], &[3.0, 5.0]);
    assert_eq!(evaluate(&again, &[x]).unwrap()[0].to_f64(), [1.5, 10.0]);
    let refused = export(&parse("update %w <- %y"), &ExportOptions::default());
    assert_eq!(refused.unwrap_err(), Error::Unsupported(vec!["w (update)".into()]));
}

/// A literal of small whole numbers.
fn whole(ty: &TensorType) -> Literal {
    let values = 0..ty.shape.numel() as i64;
    match ty.dtype.is_float() {
        true => Literal::new_float(ty.clone(), values.map(|v| v as f64).collect()),
        false => Literal::new_int(ty.clone(), values.map(|v| v % 100).collect()),
    }
}

fn one_node(inputs: &str, node: &str) -> Graph {
    parse(&format!("graph @g({inputs}) {{\n{node}\nreturn %y as \"y\"\n}}")).unwrap()
}

#[test]
fn words_are_those_of_the_element_type_and_the_version() {
    for (inputs, node, op_type, opset) in [
        ("%x: i32[1,2,2,3]", "%y = reduce %x {kind=mean,axes=[2,3],keepdims=true}", "ReduceMean", 18),
        ("%x: bf16[1,2,2,3]", "%y = reduce %x {kind=mean,axes=[2,3],keepdims=true}", "ReduceMean", 18),
        ("%x: f32[1,2,2,3]", "%y = reduce %x {kind=mean,axes=[2,3],keepdims=true}", "GlobalAveragePool", 18),
        (
            "%x: f32[1,1,5,5]",
            "%y = pool %x {kind=average,kernel=[2,2],strides=[1,1],pads=[0,0,0,0],dilations=[2,2]}",
            "AveragePool",
            19,
        ),
        (
            "%x: f32[1,1,5,5]",
            "%y = pool %x {kind=max,kernel=[2,2],strides=[1,1],pads=[0,0,0,0],dilations=[2,2]}",
            "MaxPool",
            18,
        ),
        ("%x: f32[0,3]", "%y = reshape %x {shape=[3,0]}", "Reshape", 18),
        ("%x: f32[2,0,3]", "%y = reshape %x {shape=[2,0]}", "Reshape", 18),
        ("%x: i32[2]", "%y = pad %x {pads=[1,1],value=7}", "Pad", 18),
        ("%x: i64[2]", "%y = pad %x {pads=[1,1],value=7}", "Pad", 18),
        ("%x: f16[2]", "%y = pad %x {pads=[1,1],value=0.5}", "Pad", 18),
        ("%x: f64[2]", "%y = pad %x {pads=[1,1],value=0.1}", "Pad", 18),
        ("%x: f32[2]", "%y = pad %x {mode=wrap,pads=[1,1]}", "Pad", 19),
        ("%x: i32[4]", "%y = and %x, %x", "BitwiseAnd", 18),
        ("%x: u8[4]", "%y = or %x, %x", "BitwiseOr", 18),
        ("%x: i64[4]", "%y = xor %x, %x", "BitwiseXor", 18),
        ("%x: bool[1]", "%y = xor %x, %x", "Xor", 18),
    ] {
        let graph = one_node(inputs, node);
        let bytes = export(&graph, &ExportOptions::default()).unwrap();
        let model = ModelProto::parse_from_bytes(&bytes).unwrap();
        let found = (model.graph.node[0].op_type.as_str(), model.opset_import[0].version);
        assert_eq!(found, (op_type, opset), "{node}");
        let again = import_with(bytes, &Bindings::default());
        let x = whole(graph.ty(graph.inputs()[0]));
        let values = |graph: &Graph| evaluate(graph, std::slice::from_ref(&x)).unwrap();
        assert_eq!(values(&graph), values(&again), "{node}");
    }
}

#[test]
fn element_types_that_onnx_lacks_are_listed() {
    for (inputs, node, reason) in [
        ("%x: i8[2,3]", "%y = reduce %x {kind=mean,axes=[1]}", "y (reduce): ReduceMean of opset 18 has no data of i8"),
        (
            "%x: i32[1,1,2], %w: i32[1,1,1]",
            "%y = conv %x, %w {strides=[1],pads=[0,0],dilations=[1]}",
            "Conv of opset 18 has no X of i32",
        ),
        ("%x: bf16[2]", "%y = floor %x\n", ""),
        ("%x: bf16[2]", "%y = round %x\n", "Round of opset 18 has no X of bf16"),
    ] {
        let message = match export(&one_node(inputs, node), &ExportOptions::default()) {
            Ok(_) => String::new(),
            Err(error) => error.to_string(),
        };
        assert!(message.contains(reason) && message.is_empty() == reason.is_empty(), "{node}: {message}");
    }
}
