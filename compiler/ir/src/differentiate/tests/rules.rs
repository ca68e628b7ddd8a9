//! Each gradient rule by itself, element by element.

use super::differences::Case;
use crate::graph::parse;

/// Fails with every row of `(inputs, nodes)` whose gradients are not those of central differences. `%y` is what is differentiated.
fn check(rows: &[(&str, &str)]) {
    let mut failures = Vec::new();
    for (seed, (inputs, nodes)) in (1..).zip(rows) {
        let text = format!("graph @g({inputs}) {{\n{nodes}\nreturn %y as \"y\"\n}}");
        let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let outcome = Case::new(&graph, seed).map_err(|e| e.to_string()).and_then(|case| case.check(true, seed));
        failures.extend(outcome.err().map(|e| format!("({inputs}) {nodes}: {e}")));
    }
    assert!(failures.is_empty(), "{} of {} rows\n{}", failures.len(), rows.len(), failures.join("\n"));
}

#[test]
fn convolutions() {
    check(&[
        ("%x: f64[2,3,4,5], %w: f64[4,3,1,1]", "%y = conv %x, %w"),
        ("%x: f64[2,3,4,5], %w: f64[4,3,3,2], %b: f64[4]", "%y = conv %x, %w, %b {pads=[1,0,1,1],bias=true}"),
        // Even and odd sides, strides that leave rows over, uneven padding as SAME has it.
        ("%x: f64[1,2,6,7], %w: f64[3,2,3,3]", "%y = conv %x, %w {strides=[2,2],pads=[0,1,1,1]}"),
        ("%x: f64[1,2,8,7], %w: f64[3,2,3,3]", "%y = conv %x, %w {strides=[3,2]}"),
        ("%x: f64[1,2,5,6], %w: f64[3,2,1,1]", "%y = conv %x, %w {strides=[2,3]}"),
        ("%x: f64[1,4,7,6], %w: f64[6,2,2,3]", "%y = conv %x, %w {dilations=[2,1],group=2}"),
        ("%x: f64[2,3,7,7], %w: f64[3,1,5,5]", "%y = conv %x, %w {strides=[2,2],pads=[1,2,2,2],group=3}"),
        ("%x: f64[2,3,7], %w: f64[2,3,3]", "%y = conv %x, %w {strides=[2],pads=[1,1],dilations=[1]}"),
        (
            "%x: f64[1,2,3,3], %w: f64[2,2,1,1], %b: f64[2], %r: f64[1,2,3,3]",
            "%y = conv %x, %w, %b, %r {bias=true,residual=true,activation=relu}",
        ),
        (
            "%x: f64[1,2,3,3], %w: f64[2,2,1,1], %r: f64[1,2,3,3]",
            "%y = conv %x, %w, %r {residual=true,activation_first=true,activation=relu}",
        ),
        ("%x: f64[1,2,3,3], %w: f64[2,2,1,1], %b: f64[2]", "%y = conv %x, %w, %b {bias=true,activation=silu}"),
        ("%x: f64[1,2,3,3], %w: f64[2,2,1,1]", "%y = conv %x, %w {activation=clip(0, 0.5)}"),
    ]);
}

#[test]
fn transposed_convolutions_and_gradients_of_weights() {
    check(&[
        ("%x: f64[2,3,4,2], %w: f64[3,2,3,2], %b: f64[2]", "%y = conv_transpose %x, %w, %b {bias=true}"),
        (
            "%x: f64[1,4,3,3], %w: f64[4,1,3,3]",
            "%y = conv_transpose %x, %w {strides=[2,2],pads=[1,0,1,1],output_padding=[1,0],group=2}",
        ),
        (
            "%x: f64[1,2,3,3], %w: f64[2,2,2,2]",
            "%y = conv_transpose %x, %w {strides=[2,1],pads=[-1,0,-2,1],output_padding=[3,1],dilations=[1,2]}",
        ),
        (
            "%x: f64[2,2,5,4], %g: f64[2,3,2,4]",
            "%y = conv_weight_gradient %x, %g {kernel=[3,3],strides=[2,1],pads=[0,1,0,1]}",
        ),
        (
            "%x: f64[2,2,4,4], %g: f64[2,2,4,4], %s: f64[2,1,1,1]",
            "%y = conv_weight_gradient %x, %g, %s {group=2,accumulate=true}",
        ),
    ]);
}

#[test]
fn norms() {
    let variance = "%s = mul %v, %v\n%one = constant f64[] [0.5]\n%u = add %s, %one\n";
    let norm = format!("{variance}%y = batch_norm %x, %a, %b, %m, %u {{epsilon=0.01}}");
    let trained = "%m, %v = batch_statistics %x\n%y = batch_norm %x, %a, %b, %m, %v {epsilon=0.01}";
    check(&[
        ("%x: f64[2,3,2,2], %a: f64[3], %b: f64[3], %m: f64[3], %v: f64[3]", &norm),
        ("%x: f64[4,3], %a: f64[3], %b: f64[3], %m: f64[3], %v: f64[3]", &norm),
        ("%x: f64[3,2,2,3]", "%m, %y = batch_statistics %x"),
        ("%x: f64[3,2,5]", "%y, %v = batch_statistics %x"),
        ("%x: f64[3,2,2,2], %a: f64[2], %b: f64[2]", trained),
        ("%x: f64[2,5,3]", "%y = lrn %x {size=3,alpha=0.5,beta=0.6,bias=1.5}"),
        ("%x: f64[2,4,2,2]", "%y = lrn %x {size=2,alpha=0.5}"),
        ("%x: f64[2,5]", "%y = softmax %x"),
        ("%x: f64[2,5,2]", "%y = softmax %x {log=true}"),
    ]);
}

#[test]
fn functions_of_one_element() {
    let plain = [
        "relu",
        "clip {p=[-0.5, 0.5]}",
        "sigmoid",
        "hard_sigmoid {p=[0.8, 0.5]}",
        "silu",
        "swish {p=[1.7]}",
        "tanh",
        "elu {p=[0.7]}",
        "leaky_relu {p=[0.1]}",
        "selu {p=[1.6, 1.05]}",
        "celu {p=[1.3]}",
        "thresholded_relu {p=[0.25]}",
        "gelu",
        "gelu_tanh",
        "mish",
        "softplus",
        "softsign",
        "neg",
        "abs",
        "exp",
        "erf",
        "sin",
        "cos",
        "floor",
        "ceil",
        "round",
        "sign",
        "hard_swish",
    ];
    let mut rows: Vec<String> = Vec::new();
    for function in plain {
        let (name, parameters) = function.split_once(' ').unwrap_or((function, ""));
        rows.push(format!("%k = constant f64[] [4]\n%z = mul %x, %k\n%y = {name} %z {parameters}"));
    }
    for function in ["log", "sqrt", "reciprocal"] {
        rows.push(format!("%z = exp %x\n%y = {function} %z"));
    }
    check(&rows.iter().map(|row| ("%x: f64[13]", row.as_str())).collect::<Vec<_>>());
}

#[test]
fn functions_of_two_elements() {
    let mut rows: Vec<(String, String)> = Vec::new();
    for pair in ["f64[2,3,4], %b: f64[2,3,4]", "f64[2,1,4], %b: f64[3,1]", "f64[], %b: f64[5]", "f64[3,1], %b: f64[]"] {
        for function in ["add", "sub", "mul", "min", "max", "prelu"] {
            rows.push((format!("%a: {pair}"), format!("%y = {function} %a, %b")));
        }
        rows.push((format!("%a: {pair}"), "%d = exp %b\n%y = div %a, %d".into()));
        rows.push((format!("%a: {pair}"), "%d = exp %a\n%y = pow %d, %b".into()));
        rows.push((format!("%a: {pair}, %c: bool[4]").replace("f64[5]", "f64[4]"), "%y = where %c, %a, %b".into()));
    }
    for exponent in ["0", "0.5", "1", "2", "3", "-1.5"] {
        let nodes = format!("%b = exp %a\n%k = constant f64[] [{exponent}]\n%y = pow %b, %k");
        rows.push(("%a: f64[4]".into(), nodes));
    }
    rows.push(("%a: f64[4]".into(), "%k = constant f64[] [0.3]\n%y = mod %a, %k".into()));
    check(&rows.iter().map(|(inputs, nodes)| (inputs.as_str(), nodes.as_str())).collect::<Vec<_>>());
}

#[test]
fn reductions() {
    let mut rows: Vec<String> = Vec::new();
    for kind in ["sum", "mean", "max", "min", "l1", "l2", "sum_square", "log_sum_exp"] {
        for rest in ["axes=[1]", "axes=[0,2],keepdims=false", "axes=[0,1,2],keepdims=false"] {
            rows.push(format!("%y = reduce %x {{kind={kind},{rest}}}"));
        }
    }
    rows.push("%z = exp %x\n%y = reduce %z {kind=log_sum,axes=[0,2]}".into());
    check(&rows.iter().map(|row| ("%x: f64[2,3,4]", row.as_str())).collect::<Vec<_>>());
}

#[test]
fn windows() {
    let mut rows: Vec<(&str, String)> = Vec::new();
    for kind in ["max", "average"] {
        for rest in [
            "kernel=[2,2],strides=[2,2]",
            "kernel=[3,2],strides=[2,1],pads=[1,1,1,0]",
            "kernel=[2,3],dilations=[2,1],pads=[1,2,0,1],count_include_pad=true",
            "kernel=[2,2],strides=[2,2],ceil_mode=true",
            "kernel=[3,3],strides=[2,2],pads=[1,0,0,1],ceil_mode=true",
            "kernel=[5,6]",
        ] {
            rows.push(("%x: f64[2,2,5,6]", format!("%y = pool %x {{kind={kind},{rest}}}")));
        }
    }
    rows.push(("%x: f64[2,2,5]", "%y = pool %x {kind=average,kernel=[3],strides=[2],pads=[1,1],dilations=[1]}".into()));
    rows.push(("%x: f64[1,2,5,5]", "%y, %i = max_pool %x {kernel=[3,3],strides=[2,2]}".into()));
    rows.push(("%x: f64[1,2,5,5]", "%y, %i = max_pool %x {kernel=[3,2],pads=[1,1,1,0],column_major=true}".into()));
    check(&rows.iter().map(|(inputs, nodes)| (*inputs, nodes.as_str())).collect::<Vec<_>>());
}

#[test]
fn products() {
    let mut rows: Vec<(String, String)> = Vec::new();
    for (a, b) in [
        ("[2,3]", "[3,4]"),
        ("[2,5,2,3]", "[3,4]"),
        ("[2,1,2,3]", "[5,3,4]"),
        ("[3]", "[3,4]"),
        ("[2,3]", "[3]"),
        ("[3]", "[3]"),
        ("[3]", "[2,3,4]"),
    ] {
        rows.push((format!("%a: f64{a}, %b: f64{b}"), "%y = matmul %a, %b".into()));
    }
    for (a, b, transposed) in [
        ("[2,3]", "[3,4]", ""),
        ("[3,2]", "[3,4]", "trans_a=true,"),
        ("[2,3]", "[4,3]", "trans_b=true,"),
        ("[3,2]", "[4,3]", "trans_a=true,trans_b=true,"),
    ] {
        for c in ["[2,4]", "[4]", "[2,1]", "[]"] {
            let inputs = format!("%a: f64{a}, %b: f64{b}, %c: f64{c}");
            rows.push((inputs, format!("%y = gemm %a, %b, %c {{{transposed}alpha=0.5,beta=2,bias=true}}")));
        }
    }
    let dense = "%a: f64[2,3], %b: f64[3,4]";
    rows.push((dense.into(), "%y = gemm %a, %b {activation=relu}".into()));
    rows.push((dense.into(), "%y = gemm %a, %b {activation=tanh}".into()));
    check(&rows.iter().map(|(inputs, nodes)| (inputs.as_str(), nodes.as_str())).collect::<Vec<_>>());
}

#[test]
fn what_moves_elements() {
    let x = "%x: f64[2,3,5]";
    check(&[
        (x, "%y = reshape %x {shape=[5,6]}"),
        (x, "%y = transpose %x {perm=[2,0,1]}"),
        (x, "%y = identity %x"),
        ("%x: f64[2,3,5], %z: f64[2,1,5]", "%y = concat %x, %z, %x {axis=1}"),
        (x, "%y = slice %x {starts=[0,1,2],sizes=[2,2,3]}"),
        (x, "%y = slice %x {starts=[0,2,4],steps=[1,-1,-2],sizes=[2,2,3]}"),
        (x, "%a, %b = split %x {axis=2,sizes=[2,3]}\n%y = mul %b, %b"),
        (x, "%a, %b, %c = split %x {axis=1,sizes=[1,1,1]}\n%d = mul %a, %c\n%y = add %d, %c"),
        (x, "%y = pad %x {pads=[0,1,2,0,1,3],value=7}"),
        (x, "%y = pad %x {pads=[0,1,-1,2,-1,2],value=1}"),
        (x, "%y = pad %x {pads=[0,1,2,1,2,0],mode=edge}"),
        (x, "%y = pad %x {pads=[0,2,2,1,1,4],mode=reflect}"),
        (x, "%y = pad %x {pads=[0,1,-1,0,2,3],mode=wrap}"),
        (x, "%y = tile %x {repeats=[2,1,3]}"),
        ("%x: f64[3,1]", "%y = expand %x {shape=[2,3,4]}"),
        (x, "%i = constant i64[2,2] [0,-1,2,0]\n%y = gather %x, %i {axis=1}"),
        (x, "%i = constant i32[3] [4,0,4]\n%y = gather %x, %i {axis=2}"),
        ("%x: f64[1,2,3,4]", "%y = resize %x {shape=[1,2,6,8],scales=[1,1,2,2]}"),
        ("%x: f64[1,2,3,4]", "%y = resize %x {mode=linear,shape=[1,2,5,6],scales=[1,1,1.6666666,1.5]}"),
        (
            "%x: f64[1,2,3,4]",
            "%y = resize %x {mode=linear,coordinates=align_corners,shape=[1,2,5,7],scales=[1,1,1.6666666,1.75]}",
        ),
        ("%x: f64[1,1,4,4]", "%y = resize %x {mode=cubic,shape=[1,1,6,2],scales=[1,1,1.5,0.5],antialias=true}"),
    ]);
}

#[test]
fn blocks_are_taken_apart() {
    let weights = "%w1: f64[2,3,1,1], %b1: f64[2], %w2: f64[3,2,1,1], %b2: f64[3]";
    let se = format!("%x: f64[2,3,2,3], {weights}");
    let block = "%x: f64[1,2,5,5], %e: f64[3,2,1,1], %eb: f64[3], %d: f64[3,1,3,3], %db: f64[3], ".to_owned()
        + weights
        + ", %p: f64[2,3,1,1], %pb: f64[2]";
    check(&[
        (&se, "%y = squeeze_excite %x, %w1, %b1, %w2, %b2 {activation=silu,gate=sigmoid}"),
        (
            &block,
            "%y = mbconv %x, %e, %eb, %d, %db, %w1, %b1, %w2, %b2, %p, %pb {expand=true,expand_activation=silu,activation=silu,pads=[1,1,1,1],se=[silu,sigmoid],residual=true}",
        ),
    ]);
}
