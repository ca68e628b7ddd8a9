//! Elements of 64 bits, `f64` and `u64`, in every operator that is a loop nest: in vectors, in partial ones, element by element, and beside others.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType};

use crate::harness::difference;

/// What is right of sums of `f64` that the evaluator takes up in another order.
const CLOSE: f64 = 1e-13;

/// Fails with every row of `(inputs, nodes)` that differs from the evaluator by more than [`CLOSE`].
fn check(rows: &[(String, String)]) {
    let failure = |(header, body): &(String, String)| {
        Some(format!("({header}) {body}: {}", difference(header, body, None, CLOSE).err()?))
    };
    let failures: Vec<String> = rows.iter().filter_map(failure).collect();
    assert!(failures.is_empty(), "{} of {} rows\n{}", failures.len(), rows.len(), failures.join("\n"));
}

#[test]
fn element_by_element() {
    let mut rows = Vec::new();
    let functions = [
        "add",
        "sub",
        "mul",
        "div",
        "min",
        "max",
        "mod",
        "fmod",
        "pow",
        "less",
        "less_or_equal",
        "greater",
        "greater_or_equal",
        "equal",
    ];
    for (ty, function) in ["f64", "u64"].into_iter().flat_map(|ty| functions.map(|function| (ty, function))) {
        for shapes in [["[5,7]", "[7]"], ["[2,3,1]", "[3,9]"], ["[]", "[17]"], ["[0,3]", "[3]"]] {
            let [a, b] = shapes.map(|shape| format!("{ty}{shape}"));
            let body = format!("%p = abs %a\n%y = {function} {}, %b", if function == "pow" { "%p" } else { "%a" });
            rows.push((format!("%a: {a}, %b: {b}"), body));
        }
    }
    for function in ["add", "mul", "max"] {
        rows.push(("%a: f64[9001], %b: f64[9001]".into(), format!("%y = {function} %a, %b")));
    }
    for function in ["and", "or", "xor"] {
        rows.push(("%a: u64[5,7], %b: u64[7]".into(), format!("%y = {function} %a, %b")));
    }
    for ty in ["f64", "u64"] {
        rows.push((format!("%c: bool[3,1], %a: {ty}[3,5], %b: {ty}[]"), "%y = where %c, %a, %b".into()));
        rows.push((
            format!("%c: i8[41], %a: {ty}[41]"),
            "%d = cast %c {to=bool}\n%z = mul %a, %a\n%y = where %d, %a, %z".into(),
        ));
    }
    for function in [
        "exp",
        "tanh",
        "sigmoid",
        "erf",
        "gelu",
        "softplus",
        "floor",
        "round",
        "sign",
        "clip {p=[-1, 2]}",
        "relu",
        "elu {p=[0.5]}",
    ] {
        let (name, parameters) = function.split_once(' ').unwrap_or((function, ""));
        rows.push(("%x: f64[3,67]".into(), format!("%y = {name} %x {parameters}")));
    }
    check(&rows);
}

#[test]
fn casts_beside_other_types() {
    let types = ["f32", "f64", "f16", "bf16", "bool", "i8", "u8", "i16", "u16", "i32", "u32", "i64", "u64"];
    let mut rows = Vec::new();
    for (wide, other) in ["f64", "u64"].into_iter().flat_map(|wide| types.map(|other| (wide, other))) {
        rows.push((format!("%x: {wide}[3,7]"), format!("%y = cast %x {{to={other}}}")));
        rows.push((format!("%x: {other}[3,7]"), format!("%y = cast %x {{to={wide}}}")));
    }
    // Fused into one nest, with lanes of both sizes.
    rows.push((
        "%x: i32[45]".into(),
        "%a = cast %x {to=f64}\n%b = exp %a\n%c = cast %b {to=i16}\n%y = mul %c, %c".into(),
    ));
    rows.push(("%x: f32[45]".into(), "%a = cast %x {to=f64}\n%b = mul %a, %a\n%y = cast %b {to=f32}".into()));
    check(&rows);
}

#[test]
fn reductions() {
    let mut rows = Vec::new();
    for kind in ["sum", "mean", "max", "min", "prod", "l1", "l2", "sum_square", "log_sum_exp"] {
        for (ty, axes) in
            ["f64", "u64"].into_iter().flat_map(|ty| ["[]", "[0]", "[2]", "[0,2]", "[0,1,2]"].map(|axes| (ty, axes)))
        {
            if ty == "f64" || !matches!(kind, "l2" | "log_sum_exp") {
                let node = format!("%y = reduce %x {{kind={kind},axes={axes}}}");
                rows.push((format!("%x: {ty}[3,5,37]"), node));
            }
        }
        rows.push(("%x: f64[2,0]".into(), format!("%y = reduce %x {{kind={kind},axes=[1]}}")));
    }
    rows.push(("%x: f64[3,300,40]".into(), "%a = abs %x\n%y = reduce %a {kind=log_sum,axes=[1]}".into()));
    for (ty, min) in ["f64", "u64"].into_iter().flat_map(|ty| [(ty, false), (ty, true)]) {
        rows.push((format!("%x: {ty}[3,5,7]"), format!("%y = arg_reduce %x {{min={min},axis=1,keepdims=false}}")));
        let both = "return %v as \"v\", %i as \"i\"";
        rows.push((format!("%x: {ty}[2,7,3]"), format!("%v, %i = top_k %x {{axis=1,k=3,smallest={min}}}\n{both}")));
    }
    check(&rows);
}

#[test]
fn products_and_windows() {
    let rows = [
        ("%a: f64[2,3,5], %b: f64[5,11]", "%y = matmul %a, %b"),
        ("%a: f64[4,3,5], %b: f64[4,5,6]", "%y = matmul %a, %b"),
        ("%a: f64[7], %b: f64[7]", "%y = matmul %a, %b"),
        ("%a: u64[2,3], %b: u64[3,4]", "%y = matmul %a, %b"),
        ("%a: f64[3,5], %b: f64[9,5], %c: f64[9]", "%y = gemm %a, %b, %c {bias=true,trans_b=true,alpha=0.3,beta=2}"),
        ("%a: f64[3,5]", "%f = constant f32[5,9] random(3)\n%b = cast %f {to=f64}\n%y = matmul %a, %b"),
        (
            "%x: f64[1,3,7,8], %w: f64[5,3,3,3], %b: f64[5]",
            "%y = conv %x, %w, %b {pads=[1,1,1,1],strides=[2,1],bias=true,activation=sigmoid}",
        ),
        (
            "%x: f64[2,4,9]",
            "%f = constant f32[4,1,3] random(5)\n%w = cast %f {to=f64}\n%y = conv %x, %w {strides=[1],dilations=[1],pads=[1,1],group=4}",
        ),
        ("%x: f64[2,3,8,9]", "%y = pool %x {kind=average,kernel=[3,2],strides=[2,1],pads=[1,0,1,1]}"),
        ("%x: f64[2,3,8,9]", "%y = pool %x {kind=max,kernel=[3,2],strides=[2,1],pads=[1,0,1,1]}"),
        ("%x: f64[2,3,8,9]", "%v, %i = max_pool %x {kernel=[2,2]}\nreturn %v as \"v\", %i as \"i\""),
        ("%x: f64[3,5,7]", "%y = softmax %x {axis=1}"),
        ("%x: f64[3,70]", "%y = softmax %x {axis=1,log=true}"),
        (
            "%x: f64[2,3,4,5], %s: f64[3], %b: f64[3], %m: f64[3], %v: f64[3]",
            "%w = abs %v\n%y = batch_norm %x, %s, %b, %m, %w",
        ),
    ];
    check(&rows.map(|(header, body)| (header.to_owned(), body.to_owned())));
}

#[test]
fn functions_without_a_kernel_are_refused_by_name() {
    for function in ["sin", "cos"] {
        let error = difference("%x: f64[4]", &format!("%y = {function} %x"), None, 0.0).unwrap_err();
        assert!(error.contains(function) && error.contains("f64"), "{error}");
    }
}

#[test]
fn sixteen_bits_are_rounded_once() {
    // Just above a tie: rounded to f32 first, it would be the tie.
    let tie = 1.0 + 2f64.powi(-11);
    let values = vec![
        tie + 2f64.powi(-40),
        tie,
        -tie - 2f64.powi(-40),
        tie - 2f64.powi(-40),
        65_519.999_999_9,
        f64::NAN,
        1e-8,
        1e300,
    ];
    let x = Literal::new_float(TensorType::new(DType::F64, [values.len()]), values);
    for to in ["f16", "bf16"] {
        assert_eq!(difference("%x: f64[8]", &format!("%y = cast %x {{to={to}}}"), Some(vec![x.clone()]), 0.0), Ok(()));
    }
}
