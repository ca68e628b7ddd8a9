//! Operators over maps whose batch, channels, height and width are the same, row-major and channels last.
//!
//! What moves or compares elements gives the evaluator's bits. What sums is within `(K + 8) * 2^-24` of the sum of the magnitudes of its
//! terms, unless those overflow.

use fornax_ir::graph::{Graph, evaluate, parse};
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{Constant, DType, TensorType, random_values};

use crate::agree::Limit;
use crate::rebuild::{Edit, Widen, rebuilt, widened};
use crate::rows::{Limits, Row, tables};
use crate::values::mixed;

/// The extent of every axis.
const N: usize = 4;
/// Shares of special values among the elements; without any, for operators that hide what overflows on the way.
pub const SHARES: [f32; 3] = [0.0, 0.05, 0.4];

/// The absolute values of constants, in `f64`.
struct Absolute;

impl Edit for Absolute {
    fn ty(&mut self, ty: &TensorType) -> TensorType {
        Widen.ty(ty)
    }

    fn constant(&mut self, constant: &Constant) -> Constant {
        absolute(&Literal::from_constant(&Widen.constant(constant)).expect("known elements")).to_constant()
    }

    fn op(&mut self, op: &fornax_ir::ops::Op) -> fornax_ir::ops::Op {
        Widen.op(op)
    }
}

/// The absolute values of numbers in `f64`; 0 for what is none, and for infinities.
fn absolute(x: &Literal) -> Literal {
    let x = widened(x);
    match x.ty.dtype {
        DType::F64 => {
            let finite = |v: f64| if v.is_finite() { v.abs() } else { 0.0 };
            Literal::new_float(x.ty.clone(), x.to_f64().into_iter().map(finite).collect())
        }
        _ => x,
    }
}

/// The sums of the magnitudes of the terms of each output of `graph`, for each inputs.
fn magnitudes(graph: &Graph, inputs: &[Vec<Literal>]) -> Vec<Vec<Vec<f64>>> {
    let graph = rebuilt(graph, &mut Absolute).expect("a graph over magnitudes");
    let of = |inputs: &Vec<Literal>| {
        let inputs: Vec<Literal> = inputs.iter().map(absolute).collect();
        evaluate(&graph, &inputs).expect("magnitudes").iter().map(Literal::to_f64).collect()
    };
    inputs.iter().map(of).collect()
}

/// A graph of one node over `%v`, which is `%x` itself or the channel-last value of the same elements.
fn text(node: &str, last: bool) -> String {
    let ones = "%ones = constant f32[4,1,1,1] [1, 1, 1, 1]\n%v = conv %x, %ones {group=4}\n";
    let ends = if node.contains("%z =") { ", %z as \"z\"" } else { "" };
    let body = if last { format!("{ones}{node}") } else { node.replace("%v", "%x") };
    format!("graph @map(%x: TY[4,4,4,4]) {{\n{body}\nreturn %y as \"y\"{ends}\n}}")
}

fn inputs(dtype: DType, shares: &[f32]) -> Vec<Vec<Literal>> {
    (1..).zip(shares).map(|(seed, share)| vec![mixed(dtype, &[N; 4], seed, *share)]).collect()
}

/// Rows of a node for each layout, of `f32`.
pub fn rows_of(node: &str, shares: &[f32], limit: impl Fn(&Graph, &[Vec<Literal>]) -> Limits) -> Vec<Row> {
    let inputs = inputs(DType::F32, shares);
    let row = |last| {
        let text = text(node, last).replace("TY", "f32");
        let graph = parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        Row { limit: limit(&graph, &inputs), text, inputs: inputs.clone() }
    };
    [false, true].map(row).into()
}

/// As the evaluator has it.
pub fn bits(_: &Graph, _: &[Vec<Literal>]) -> Limits {
    Box::new(|_, _, _, _| Limit::Bits)
}

/// Within `terms` roundings of the sum of magnitudes; nothing is promised where those overflow.
pub fn summed(graph: &Graph, inputs: &[Vec<Literal>], terms: f64) -> Limits {
    let magnitudes = magnitudes(graph, inputs);
    Box::new(move |set, output, i, _| {
        let magnitude = magnitudes[set][output][i];
        match magnitude * terms > f64::from(f32::MAX) {
            true => Limit::Anything,
            false => {
                Limit::Within((terms + 8.0) * 2f64.powi(-24) * magnitude + f64::from(f32::from_bits(terms as u32)))
            }
        }
    })
}

/// Every permutation of four axes.
fn permutations() -> Vec<[usize; 4]> {
    let all = (0..256).map(|k| [k / 64, k / 16 % 4, k / 4 % 4, k % 4]);
    all.filter(|p| (0..4).all(|axis| p.contains(&axis))).collect()
}

/// Every set of four axes, as an attribute.
fn axes() -> impl Iterator<Item = String> {
    (1..16u32).map(|set| format!("{:?}", (0..4).filter(|axis| set >> axis & 1 == 1).collect::<Vec<_>>()))
}

/// Nodes that move or choose elements of any type.
fn moves() -> Vec<String> {
    let mut nodes: Vec<String> = permutations()
        .iter()
        .map(|p| format!("%y = transpose %v {{perm={p:?}}}\n%z = concat %y, %v {{axis={}}}", p[0]))
        .collect();
    for axis in 0..N {
        nodes.push(format!("%y = concat %v, %x, %v {{axis={axis}}}"));
        nodes.push(format!("%y, %z = split %v {{axis={axis},sizes=[1,3]}}"));
        nodes.push(format!("%i = constant i64[3] [2, -1, 0]\n%y = gather %v, %i {{axis={axis}}}"));
        nodes.push(format!(
            "%i = constant i64[4,4,4,4] [{}]\n%y = gather_elements %v, %i {{axis={axis}}}",
            random_values(9, 256).iter().map(|v| ((v * 4.0) as i64).to_string()).collect::<Vec<_>>().join(", ")
        ));
        let mut pads = [0i64; 8];
        (pads[axis], pads[4 + axis]) = (2, 1);
        for mode in ["mode=reflect", "mode=edge", "mode=wrap", "value=1"] {
            nodes.push(format!("%y = pad %v {{pads={pads:?},{mode}}}"));
        }
        pads[axis] = -1;
        nodes.push(format!("%y = pad %v {{pads={pads:?}}}"));
        let mut steps = [1i64; 4];
        (steps[axis], steps[(axis + 1) % 4]) = (-2, -1);
        let (starts, sizes) = (steps.map(|s| if s < 0 { 3 } else { 1 }), steps.map(|s| if s == -2 { 2 } else { 3 }));
        nodes.push(format!("%y = slice %v {{starts={starts:?},steps={steps:?},sizes={sizes:?}}}"));
    }
    for shape in ["[16,16]", "[4,4,16]", "[256]", "[2,8,4,4]", "[4,16,4,1]", "[1,4,4,4,4]"] {
        nodes.push(format!("%y = reshape %v {{shape={shape}}}"));
    }
    nodes.push("%y = tile %v {repeats=[1,2,1,3]}".into());
    nodes.push("%y = expand %v {shape=[2,4,4,4,4]}".into());
    nodes.push("%y = identity %v\n%z = reshape %y {shape=[16,16]}".into());
    nodes
}

/// Nodes that compare elements with each other.
fn comparisons() -> Vec<String> {
    let mut nodes = Vec::new();
    for axes in axes() {
        for kind in ["max", "min"] {
            nodes.push(format!("%y = reduce %v {{kind={kind},axes={axes},keepdims=false}}"));
        }
    }
    for axis in 0..N {
        for (min, last) in [(false, false), (false, true), (true, false), (true, true)] {
            nodes.push(format!("%y = arg_reduce %v {{axis={axis},min={min},select_last={last}}}"));
        }
        nodes.push(format!("%y, %z = top_k %v {{axis={axis},k=3}}"));
        nodes.push(format!("%y, %z = top_k %v {{axis={axis},k=4,smallest=true}}"));
    }
    for window in [
        "kernel=[2,3],strides=[2,1],pads=[0,1,1,1]",
        "kernel=[3,3],strides=[2,2],pads=[1,1,1,1],ceil_mode=true",
        "kernel=[2,2],dilations=[2,1]",
    ] {
        nodes.push(format!("%y = pool %v {{{window}}}"));
        nodes.push(format!("%y, %z = max_pool %v {{{window}}}"));
        nodes.push(format!("%y, %z = max_pool %v {{{window},column_major=true}}"));
    }
    nodes
}

/// Nodes that choose elements of `f32` by data.
fn choices() -> Vec<String> {
    let flat = "%a = reshape %v {shape=[256]}\n%b = reshape %x {shape=[256]}";
    let mut nodes = vec![format!("{flat}\n%m = less %a, %b\n%y, %z = compact %m")];
    for k in [1, 5, 16] {
        let operands = "%b = reshape %v {shape=[4,4,16]}\n%s = reshape %x {shape=[4,4,16]}\n%t = constant f32[] [0.1]";
        nodes.push(format!("{operands}\n%y, %z = non_max_suppression %b, %s, %t {{k={k}}}"));
    }
    nodes
}

fn elements_are_moved_and_compared() -> Vec<Row> {
    let all: Vec<String> = moves().into_iter().chain(comparisons()).collect();
    let mut rows: Vec<Row> = all.iter().chain(&choices()).flat_map(|node| rows_of(node, &SHARES, bits)).collect();
    for (node, dtype) in
        all.iter().flat_map(|node| [DType::I8, DType::U8, DType::I32, DType::I64].map(|dtype| (node, dtype)))
    {
        let text = text(node, false).replace("TY", dtype.name());
        rows.push(Row { text, inputs: inputs(dtype, &[0.4]), limit: Box::new(|_, _, _, _| Limit::Bits) });
    }
    for (node, dtype) in moves().iter().flat_map(|node| [DType::F64, DType::F16, DType::U64].map(|dtype| (node, dtype)))
    {
        let text = text(node, false).replace("TY", dtype.name());
        rows.push(Row { text, inputs: inputs(dtype, &[0.4]), limit: Box::new(|_, _, _, _| Limit::Bits) });
    }
    rows
}

fn operands_broadcast_between_layouts() -> Vec<Row> {
    let mut rows = Vec::new();
    for shape in ["[4]", "[4,1]", "[4,1,1]", "[4,1,1,1]", "[1,4,1,4]", "[]"] {
        let extents: Vec<usize> = shape.trim_matches(['[', ']']).split(',').filter_map(|e| e.parse().ok()).collect();
        let operand = mixed(DType::F32, &extents, 7, 0.5).to_f64();
        let list = operand.iter().map(|v| format!("{:?}", *v as f32).to_lowercase()).collect::<Vec<_>>().join(", ");
        let k = format!("%k = constant f32{shape} [{list}]\n");
        for node in ["sub %v, %k", "mul %k, %v", "max %v, %k", "less %k, %v"] {
            rows.push(format!("{k}%y = {node}"));
        }
    }
    rows.extend(["add %v, %x", "sub %x, %v", "div %v, %v", "min %x, %v"].map(|node| format!("%y = {node}")));
    rows.push("%t = transpose %v {perm=[3,2,1,0]}\n%y = sub %t, %v\n%z = mul %v, %t".into());
    rows.push("%c = less %v, %x\n%e = equal %v, %x\n%n = neg %x\n%y = where %c, %v, %n\n%z = where %e, %n, %v".into());
    rows.iter().flat_map(|node| rows_of(node, &SHARES, bits)).collect()
}

fn sums() -> Vec<Row> {
    let mut rows = Vec::new();
    let mut add = |node: &str, terms: usize| {
        rows.extend(rows_of(node, &SHARES, |graph, inputs| summed(graph, inputs, terms as f64)))
    };
    for axes in axes() {
        let terms = 1 << (2 * (1 + axes.matches(',').count()));
        for kind in ["sum", "mean", "l1"] {
            add(&format!("%y = reduce %v {{kind={kind},axes={axes}}}"), terms);
        }
    }
    for window in
        ["kernel=[2,3],strides=[2,1],pads=[0,1,1,1]", "kernel=[3,3],strides=[2,2],pads=[1,1,1,1],ceil_mode=true"]
    {
        for more in ["", ",count_include_pad=true"] {
            add(&format!("%y = pool %v {{kind=average,{window}{more}}}"), 9);
        }
    }
    for (shape, attributes) in [
        ("[4,4,1,1]", "group=1"),
        ("[4,4,3,3]", "pads=[1,1,1,1]"),
        ("[4,1,3,3]", "group=4,pads=[1,1,1,1]"),
        ("[4,2,2,2]", "group=2,strides=[2,1]"),
        ("[4,1,4,4]", "group=4"),
        ("[4,4,2,2]", "dilations=[2,2],pads=[1,0,1,0]"),
    ] {
        add(&format!("%w = constant f32{shape} random(3)\n%y = conv %v, %w {{{attributes}}}"), 36);
    }
    for (shape, attributes) in
        [("[4,4,2,2]", "strides=[2,2]"), ("[4,1,3,3]", "group=4,pads=[1,1,1,1]"), ("[4,4,4,4]", "group=1")]
    {
        add(&format!("%w = constant f32{shape} random(3)\n%y = conv_transpose %v, %w {{{attributes}}}"), 64);
    }
    for node in [
        "%y = matmul %v, %x",
        "%y = matmul %x, %v",
        "%y = conv %v, %x",
        "%y = conv_transpose %x, %v",
        "%w = constant f32[4,4] random(4)\n%y = matmul %v, %w\n%z = matmul %w, %v",
        "%w = constant f32[4] random(4)\n%y = matmul %v, %w\n%z = matmul %w, %v",
        "%a = reshape %v {shape=[16,16]}\n%w = constant f32[16,16] random(4)\n%y = gemm %a, %w {trans_a=true}\n%z = gemm %w, %a {trans_b=true}",
    ] {
        add(node, 64);
    }
    rows
}

/// Within `relative` of the result, or of 1 if that is larger; results that `beyond` says are left to what overflows on the way.
pub fn near(relative: f64, beyond: fn(f64) -> bool) -> impl Fn(&Graph, &[Vec<Literal>]) -> Limits {
    move |_, _| {
        Box::new(move |_, _, _, expected| match beyond(expected) {
            true => Limit::Anything,
            false => Limit::Within(relative * expected.abs().max(1.0)),
        })
    }
}

fn logarithms_squares_and_norms() -> Vec<Row> {
    let (mut rows, never) = (Vec::new(), |_: f64| false);
    for axes in axes() {
        let reduced = |kind: &str, of: &str| format!("%y = reduce {of} {{kind={kind},axes={axes},keepdims=false}}");
        rows.extend(rows_of(&reduced("sum_square", "%v"), &SHARES, near(1e-5, never)));
        rows.extend(rows_of(&reduced("l2", "%v"), &SHARES, near(1e-5, |v| v.abs() > 1e18)));
        rows.extend(rows_of(&reduced("prod", "%v"), &SHARES[..1], near(1e-5, never)));
        rows.extend(rows_of(&reduced("log_sum_exp", "%v"), &SHARES, near(1e-5, never)));
        let log_sum = format!("%a = abs %v\n{}", reduced("log_sum", "%a"));
        rows.extend(rows_of(&log_sum, &SHARES, near(1e-5, |v| v > 88.0)));
    }
    for (axis, log) in (0..N).flat_map(|axis| [(axis, false), (axis, true)]) {
        rows.extend(rows_of(&format!("%y = softmax %v {{axis={axis},log={log}}}"), &SHARES, near(4e-6, never)));
    }
    for size in [1, 3, 4, 9] {
        rows.extend(rows_of(
            &format!("%y = lrn %v {{size={size},alpha=0.5,bias=2}}"),
            &SHARES,
            near(1e-5, |v| v.abs() > 1e18),
        ));
    }
    let vectors = "%s = constant f32[4] random(1)\n%b = constant f32[4] random(2)\n%m = constant f32[4] random(3)\n\
                   %q = constant f32[4] [0.5, 1, 2, 0]\n";
    let norm = format!("{vectors}%y = batch_norm %v, %s, %b, %m, %q {{epsilon=0.001}}\n%z = relu %y");
    rows.extend(rows_of(&norm, &SHARES, near(1e-5, |v| v.abs() > 1e36)));
    rows.extend(rows_of("%y, %z = batch_statistics %v", &SHARES[..1], near(1e-5, never)));
    let gate = "%w = constant f32[4,4,1,1] random(1)\n%b = constant f32[4] random(2)\n\
                %y = squeeze_excite %v, %w, %b, %w, %b {activation=relu,gate=hard_sigmoid(0.2,0.5)}";
    rows.extend(rows_of(gate, &SHARES[..1], near(1e-5, never)));
    let block =
        "%w = constant f32[4,4,1,1] random(1)\n%b = constant f32[4] random(2)\n%d = constant f32[4,1,3,3] random(3)\n";
    for attributes in ["pads=[1,1,1,1],residual=true", "pads=[1,1,1,1],strides=[2,2],se=[silu, sigmoid]"] {
        let se = if attributes.contains("se=") { "%w, %b, %w, %b, " } else { "" };
        let node = format!(
            "{block}%y = mbconv %v, %w, %b, %d, %b, {se}%w, %b {{expand=true,expand_activation=silu,activation=silu,{attributes}}}"
        );
        rows.extend(rows_of(&node, &SHARES[..1], near(1e-4, never)));
    }
    rows
}

fn resampling() -> Vec<Row> {
    let mut rows = Vec::new();
    let targets = [
        "shape=[4,4,8,3],scales=[1,1,2,0.75]",
        "shape=[6,4,4,5],scales=[1.5,1,1,1.3]",
        "shape=[4,8,1,4],scales=[1,2,0.25,1]",
    ];
    let rules = [
        "half_pixel",
        "half_pixel_symmetric",
        "pytorch_half_pixel",
        "align_corners",
        "asymmetric",
        "tf_half_pixel_for_nn",
    ];
    // Weights may be negative, so that magnitudes say nothing; of one element they come to 8 at most.
    let weighed = |_: &Graph, inputs: &[Vec<Literal>]| -> Limits {
        let largest = |set: &Vec<Literal>| absolute(&set[0]).to_f64().into_iter().fold(0.0, f64::max);
        let largest: Vec<f64> = inputs.iter().map(largest).collect();
        Box::new(move |set, _, _, _| match largest[set] * 64.0 > f64::from(f32::MAX) {
            true => Limit::Anything,
            false => Limit::Within(8.0 * 72.0 * 2f64.powi(-24) * largest[set]),
        })
    };
    for (target, rule) in targets.iter().flat_map(|target| rules.map(|rule| (target, rule))) {
        for nearest in ["round_prefer_floor", "round_prefer_ceil", "floor", "ceil"] {
            let node = format!("%y = resize %v {{coordinates={rule},nearest={nearest},{target}}}");
            rows.extend(rows_of(&node, &SHARES, bits));
        }
        for mode in ["mode=linear", "mode=linear,antialias=true"] {
            let node = format!("%y = resize %v {{coordinates={rule},{mode},{target}}}");
            rows.extend(rows_of(&node, &SHARES, |graph, inputs| summed(graph, inputs, 64.0)));
        }
        for mode in ["mode=cubic", "mode=cubic,exclude_outside=true", "mode=cubic,antialias=true"] {
            let node = format!("%y = resize %v {{coordinates={rule},{mode},{target}}}");
            rows.extend(rows_of(&node, &SHARES, weighed));
        }
    }
    rows
}

fn sums_of_integers_wrap() -> Vec<Row> {
    let mut nodes: Vec<String> = axes()
        .flat_map(|axes| {
            ["sum", "mean", "prod", "l1", "sum_square"]
                .map(|kind| format!("%y = reduce %v {{kind={kind},axes={axes}}}"))
        })
        .collect();
    nodes.extend(
        [
            "%y = matmul %v, %x",
            "%y = conv %v, %x {pads=[1,1,2,2]}",
            "%a = reshape %v {shape=[16,16]}\n%y = gemm %a, %a {trans_a=true,alpha=2}",
            "%w = slice %v {starts=[0,0,0,0],steps=[1,1,1,1],sizes=[4,1,3,3]}\n%y = conv %v, %w {group=4,strides=[2,1]}",
        ]
        .map(String::from),
    );
    let mut rows = Vec::new();
    for (node, dtype) in nodes.iter().flat_map(|node| [DType::I32, DType::I64].map(|dtype| (node, dtype))) {
        let text = text(node, false).replace("TY", dtype.name());
        rows.push(Row { text, inputs: inputs(dtype, &SHARES), limit: Box::new(|_, _, _, _| Limit::Bits) });
    }
    rows
}

tables! {
    elements_are_moved_and_compared: 100_000,
    operands_broadcast_between_layouts: 1_000,
    sums: 40_000,
    logarithms_squares_and_norms: 20_000,
    resampling: 20_000,
    sums_of_integers_wrap: 5_000,
}
