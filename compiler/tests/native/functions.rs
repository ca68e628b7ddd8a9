//! Functions of one and two elements where they are hard: at their edges, and in double precision.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType, random_values};

use super::harness::difference;

/// Values at which functions change their ways.
const EDGES: [f32; 24] = [
    0.0,
    -0.0,
    1.0,
    -1.0,
    0.5,
    -0.5,
    1.5,
    -2.5,
    2.0,
    -2.0,
    3.0,
    1e-30,
    -1e-30,
    1e-42,
    1e30,
    -1e30,
    1e-3,
    100.0,
    -100.0,
    7.25,
    f32::INFINITY,
    f32::NEG_INFINITY,
    f32::NAN,
    f32::MAX,
];

#[test]
fn functions_at_their_edges() {
    let count = EDGES.len();
    let line = Literal::from_f32([count], &EDGES);
    let mut failures = Vec::new();
    let mut try_one = |header: &str, body: &str, inputs: Vec<Literal>| {
        if let Err(error) = difference(header, body, Some(inputs), 2e-6) {
            failures.push(format!("{body}: {error}"));
        }
    };
    for function in [
        "relu",
        "clip {p=[-1,6]}",
        "sigmoid",
        "tanh",
        "elu {p=[1]}",
        "leaky_relu {p=[0.1]}",
        "neg",
        "abs",
        "exp",
        "log",
        "sqrt",
        "reciprocal",
        "floor",
        "ceil",
        "round",
        "sign",
        "erf",
        "is_nan",
        "softplus",
        "hard_swish",
    ] {
        let (name, attributes) = function.split_once(' ').unwrap_or((function, ""));
        try_one(&format!("%x: f32[{count}]"), &format!("%y = {name} %x {attributes}"), vec![line.clone()]);
    }
    let column = line.clone().reshaped([count, 1].into());
    for function in ["add", "div", "min", "max", "pow", "fmod", "less", "greater_or_equal", "equal", "prelu"] {
        let header = format!("%a: f32[{count},1], %b: f32[{count}]");
        try_one(&header, &format!("%y = {function} %a, %b"), vec![column.clone(), line.clone()]);
    }
    for to in ["i8", "u8", "i32", "u32", "i64", "bool"] {
        try_one(&format!("%x: f32[{count}]"), &format!("%y = cast %x {{to={to}}}"), vec![line.clone()]);
    }
    for kind in ["max", "min", "sum"] {
        let header = format!("%x: f32[{count},1]");
        try_one(&header, &format!("%y = reduce %x {{kind={kind},axes=[0]}}"), vec![column.clone()]);
    }
    for body in ["%y = arg_reduce %x", "%y = arg_reduce %x {min=true,select_last=true}"] {
        try_one(&format!("%x: f32[{count}]"), body, vec![line.clone()]);
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn double_precision_functions_are_exact_to_a_unit() {
    let values: Vec<f32> = random_values(11, 4000).into_iter().map(|v| v.powi(5) * 1e6).collect();
    let exponents: Vec<f32> = random_values(12, 4000).into_iter().map(|v| v * 6.0).collect();
    let ty = |values: &[f32]| Literal::from_f32([values.len()], values);
    let bases: Vec<f32> = values.iter().map(|v| v.abs()).collect();
    for body in ["%y = sin %a", "%y = cos %a"] {
        difference("%a: f32[4000]", body, Some(vec![ty(&values)]), 1e-7).unwrap();
    }
    // Errors relative to the result, large or small.
    difference(
        "%a: f32[4000], %b: f32[4000]",
        "%p = pow %a, %b\n%y = log %p",
        Some(vec![ty(&bases), ty(&exponents)]),
        1e-6,
    )
    .unwrap();
    difference("%a: f32[4000], %b: f32[4000]", "%y = fmod %a, %b", Some(vec![ty(&values), ty(&exponents)]), 0.0)
        .unwrap();
    let large = Literal::from_f32([3], &[1e30, -3e38, 16777215.0]);
    let small = Literal::from_f32([3], &[0.3, 1e-38, 3.0]);
    difference("%a: f32[3], %b: f32[3]", "%y = fmod %a, %b", Some(vec![large, small]), 0.0).unwrap();
}

/// A power with a known exponent is products, a root or a reciprocal: within a unit of what `pow` gives, and the same at special values.
#[test]
fn known_exponents_are_products_and_roots() {
    let special = [0.0, -0.0, 1.0, -1.0, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, 1e-40, 3e38, -3e38, 1e-20, 2.5];
    let mut values: Vec<f32> = random_values(13, 4000).into_iter().map(|v| v.powi(3) * 1e9).collect();
    values.extend(special);
    let x = || Literal::from_f32([values.len()], &values);
    for exponent in [0.5, -0.5, 1.0, -1.0, 2.0, 3.0] {
        let header = format!("%x: f32[{}]", values.len());
        for shape in ["[]", "[1]"] {
            let body = format!("%e = constant f32{shape} [{exponent}]\n%y = pow %x, %e");
            difference(&header, &body, Some(vec![x()]), 1.2e-7).unwrap_or_else(|e| panic!("{exponent}: {e}"));
        }
        // Small values apart, so that the tolerance is relative: bits of one unit.
        let body = format!("%e = constant f32[] [{exponent}]\n%z = pow %x, %e\n%y = abs %z\n%l = log %y");
        let apart = values.iter().map(|v| v.abs().max(1e-12)).collect::<Vec<f32>>();
        difference(&header, &body, Some(vec![Literal::from_f32([apart.len()], &apart)]), 5e-7).unwrap();
    }
    // Another exponent stays a power.
    difference(
        "%x: f32[3]",
        "%e = constant f32[] [2.5]\n%y = pow %x, %e",
        Some(vec![Literal::from_f32([3], &[1.0, 2.0, 3.0])]),
        1e-6,
    )
    .unwrap();
}

/// Elements of 16 bits are widened exactly and rounded to nearest even, all 65536 of them and what is between.
#[test]
fn halves_are_widened_and_rounded() {
    let special =
        [0.0, -0.0, 65504.0, 65519.9, 65520.0, -1e9, 5.9e-8, 2.9e-8, 6.1e-5, f32::NAN, f32::INFINITY, 1e-40, 3.4e38];
    let mut values: Vec<f32> = random_values(14, 4000).into_iter().map(|v| v.powi(9) * 1e5).collect();
    values.extend(special);
    let every: Vec<u8> = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
    for dtype in [DType::F16, DType::BF16] {
        let x = Literal::from_f32([values.len()], &values);
        let header = format!("%x: f32[{}]", values.len());
        difference(&header, &format!("%y = cast %x {{to={dtype}}}"), Some(vec![x]), 0.0).unwrap();
        let all = || Literal::from_bytes(TensorType::new(dtype, [1 << 16]), &every).unwrap();
        difference(&format!("%x: {dtype}[65536]"), "%y = cast %x {to=f32}", Some(vec![all()]), 0.0).unwrap();
        // In a chain a value is rounded where it is said to be of 16 bits.
        let body = format!(
            "%a = cast %x {{to=f32}}\n%b = mul %a, %a\n%c = cast %b {{to={dtype}}}\n%d = cast %c {{to=f32}}\n%y = mul %d, %a"
        );
        difference(&format!("%x: {dtype}[65536]"), &body, Some(vec![all()]), 0.0).unwrap();
        difference(
            &format!("%x: {dtype}[256,256]"),
            "%y = transpose %x {perm=[1,0]}",
            Some(vec![all().reshaped([256, 256].into())]),
            0.0,
        )
        .unwrap();
        for to in ["i32", "u8", "bool"] {
            difference(&format!("%x: {dtype}[65536]"), &format!("%y = cast %x {{to={to}}}"), Some(vec![all()]), 0.0)
                .unwrap();
        }
        difference("%x: i32[7]", &format!("%y = cast %x {{to={dtype}}}"), None, 0.0).unwrap();
    }
}
