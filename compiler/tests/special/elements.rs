//! Functions of one, two and three elements.

use fornax_compiler::internals::{error_bound, error_bound_f64};
use fornax_ir::graph::parse;
use fornax_ir::ops::literal::Literal;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{DType, TensorType};

use crate::agree::Limit;
use crate::rows::{Row, tables};
use crate::values::{line, many};

/// The types that kernels compute with.
const NATIVE: [DType; 11] = [
    DType::F32,
    DType::F64,
    DType::Bool,
    DType::I8,
    DType::U8,
    DType::I16,
    DType::U16,
    DType::I32,
    DType::U32,
    DType::I64,
    DType::U64,
];

/// Parameters with which functions are tried: of the lists of the length that a function has, each.
const PARAMETERS: &[&[f32]] = &[
    &[],
    &[1.0],
    &[0.01],
    &[-0.5],
    &[1.702],
    &[f32::INFINITY],
    &[-1.0, 6.0],
    &[-f32::INFINITY, 0.5],
    &[1.673_263_2, 1.050_701],
    &[0.2, 0.5],
    &[f32::NAN],
    &[f32::NAN, 6.0],
    &[-1.0, f32::NAN],
    &[0.0, -0.0],
];

/// What is stated of a function of `f32` or `f64`: its error, or no error at all.
fn stated(f: UnaryFn, dtype: DType, expected: f64) -> Limit {
    use UnaryFn::*;
    match f {
        Relu | Clip(..) | ThresholdedRelu(_) | Neg | Abs | Sqrt | Floor | Ceil | Round | Sign | Not | IsNan => {
            Limit::Bits
        }
        _ if dtype == DType::F64 => Limit::Within(error_bound_f64(f, expected) + f64::from_bits(1)),
        // The evaluator rounds, and results that round to subnormal numbers have steps of their own.
        _ => Limit::Within(error_bound(f, expected) + expected.abs() * 2f64.powi(-24) + f64::from(f32::from_bits(1))),
    }
}

/// Every function with the parameters it is tried with.
pub fn functions() -> impl Iterator<Item = UnaryFn> {
    UnaryFn::MNEMONICS.iter().flat_map(|name| PARAMETERS.iter().filter_map(|p| UnaryFn::from_spelling(name, p)))
}

fn written(f: UnaryFn) -> (String, String) {
    let (name, parameters) = f.spelling();
    let attributes = if parameters.is_empty() {
        String::new()
    } else {
        format!("{{p={}}}", format!("{parameters:?}").to_lowercase())
    };
    (name.to_owned(), attributes)
}

fn functions_of_one_element() -> Vec<Row> {
    let mut rows = Vec::new();
    for (f, dtype) in functions().flat_map(|f| NATIVE.map(|dtype| (f, dtype))) {
        let (name, p) = written(f);
        let x = many(dtype);
        let (ty, n) = (dtype.name(), x.ty.shape.numel());
        let plain = format!("graph @one(%x: {ty}[{n}]) {{\n%y = {name} %x {p}\nreturn %y as \"y\"\n}}");
        let refused = dtype == DType::F64 && matches!(f, UnaryFn::Sin | UnaryFn::Cos);
        if refused || parse(&plain).is_err() {
            continue;
        }
        let limit = move |_: usize, _: usize, _: usize, expected: f64| {
            if dtype.is_float() { stated(f, dtype, expected) } else { Limit::Bits }
        };
        rows.push(Row { text: plain, inputs: vec![vec![x.clone()]], limit: Box::new(limit) });
        if dtype != DType::F32 {
            continue;
        }
        // Of a computed value, with several users, one of them not element by element.
        let users = if f == UnaryFn::IsNan {
            "%a = not %y\n%b = cast %y {to=i8}".to_owned()
        } else {
            "%a = neg %y\n%b = abs %y".to_owned()
        };
        let text = format!(
            "graph @users(%x: f32[{n}]) {{\n%t = neg %x\n%y = {name} %t {p}\n{users}\n%c = concat %y, %y {{axis=0}}\n\
             return %y as \"y\", %a as \"a\", %b as \"b\", %c as \"c\", %t as \"t\"\n}}"
        );
        let users = move |set: usize, output: usize, i: usize, expected: f64| {
            if output == 4 { Limit::Bits } else { limit(set, output, i, expected) }
        };
        rows.push(Row { text, inputs: vec![vec![x]], limit: Box::new(users) });
    }
    rows
}

/// Fused into convolutions, depthwise ones and products whose sums are their operand.
fn functions_behind_sums() -> Vec<Row> {
    let mut rows = Vec::new();
    for f in functions().filter(|f| !matches!(f, UnaryFn::Not | UnaryFn::IsNan)) {
        let (name, p) = written(f);
        let x = many(DType::F32);
        let n = x.ty.shape.numel().next_multiple_of(16);
        let mut values = x.to_f64();
        values.resize(n, 0.25);
        for (shape, weights, node) in [
            ([1, 1, 4, n / 4], "[20,1,1,1]", "conv %x, %w"),
            ([1, 16, 4, n / 64], "[16,1,1,1]", "conv %x, %w {group=16}"),
            ([1, 1, n, 1], "[20]", "reshape %x {shape=[N,1]}\n%v = reshape %w {shape=[1,20]}\n%s = matmul %r, %v"),
        ] {
            let product = node.contains("matmul");
            let node =
                if product { format!("%r = {}", node.replace('N', &n.to_string())) } else { format!("%s = {node}") };
            let ones = vec!["1"; if weights.starts_with("[16") { 16 } else { 20 }].join(", ");
            let text = format!(
                "graph @behind(%x: f32{shape:?}) {{\n%w = constant f32{weights} [{ones}]\n{node}\n%y = {name} %s {p}\nreturn %y as \"y\"\n}}"
            );
            let x = Literal::new_float(TensorType::f32(shape), values.clone());
            let limit = move |_: usize, _: usize, _: usize, expected: f64| match stated(f, DType::F32, expected) {
                // A sum of one product may be -0 or 0.
                Limit::Bits => Limit::Within(0.0),
                limit => limit,
            };
            rows.push(Row { text, inputs: vec![vec![x]], limit: Box::new(limit) });
        }
    }
    rows
}

fn stated_of_two(function: BinaryFn, dtype: DType, expected: f64) -> Limit {
    match function {
        BinaryFn::Pow if dtype == DType::F32 => {
            Limit::Within(expected.abs() * 1.5 * 2f64.powi(-23) + f64::from(f32::from_bits(1)))
        }
        BinaryFn::Pow if dtype == DType::F64 => Limit::Within(expected.abs() * 1.5 * f64::EPSILON + f64::from_bits(1)),
        _ => Limit::Bits,
    }
}

fn functions_of_two_elements() -> Vec<Row> {
    let mut rows = Vec::new();
    for (function, dtype) in BinaryFn::ALL.iter().flat_map(|f| NATIVE.map(|dtype| (*f, dtype))) {
        let b = line(dtype);
        let (ty, n, name) = (dtype.name(), b.ty.shape.numel(), function.name());
        let a = b.clone().reshaped([n, 1].into());
        let limit = move |_: usize, _: usize, _: usize, expected: f64| stated_of_two(function, dtype, expected);
        let head = format!("%a: {ty}[{n},1], %b: {ty}[{n}]");
        let text = format!("graph @two({head}) {{\n%y = {name} %a, %b\nreturn %y as \"y\"\n}}");
        if parse(&text).is_err() {
            continue;
        }
        rows.push(Row { text, inputs: vec![vec![a.clone(), b.clone()]], limit: Box::new(limit) });
        // Of the same value twice, and of a result that is read again in another order.
        let text = format!(
            "graph @again({head}) {{\n%y = {name} %a, %b\n%z = {name} %b, %a\n%s = {name} %b, %b\n%t = transpose %z {{perm=[1,0]}}\n\
             return %y as \"y\", %t as \"t\", %s as \"s\", %z as \"z\"\n}}"
        );
        rows.push(Row { text, inputs: vec![vec![a, b]], limit: Box::new(limit) });
    }
    rows
}

/// With a number that is a constant, so that rewrites which look for it have their chance.
fn functions_of_an_element_and_a_number() -> Vec<Row> {
    let mut rows = Vec::new();
    for (function, dtype) in BinaryFn::ALL.iter().flat_map(|f| NATIVE.map(|dtype| (*f, dtype))) {
        let x = line(dtype);
        let (ty, n, name) = (dtype.name(), x.ty.shape.numel(), function.name());
        let limit = move |_: usize, _: usize, _: usize, expected: f64| match function {
            // What becomes of the sign of a zero that is also a limit is not promised.
            BinaryFn::Min | BinaryFn::Max => Limit::Within(0.0),
            _ => stated_of_two(function, dtype, expected),
        };
        let few = if dtype == DType::F32 { n } else { n.min(8) };
        for i in 0..few {
            let number = Literal::from_bytes(
                TensorType::new(dtype, []),
                &x.to_bytes()[i * dtype.size()..(i + 1) * dtype.size()],
            );
            let text = format!(
                "graph @number(%x: {ty}[{n}], %k: {ty}[]) {{\n%y = {name} %x, %k\n%z = {name} %k, %x\nreturn %y as \"y\", %z as \"z\"\n}}"
            );
            if parse(&text).is_ok() {
                rows.push(Row {
                    text,
                    inputs: vec![vec![x.clone(), number.expect("one element")]],
                    limit: Box::new(limit),
                });
            }
        }
    }
    rows
}

fn choices() -> Vec<Row> {
    let mut rows = Vec::new();
    for dtype in NATIVE {
        let b = line(dtype);
        let (ty, n) = (dtype.name(), b.ty.shape.numel());
        let text = format!(
            "graph @choice(%c: bool[2,1,1], %a: {ty}[{n},1], %b: {ty}[{n}]) {{\n%y = where %c, %a, %b\nreturn %y as \"y\"\n}}"
        );
        let c = Literal::new_int(TensorType::new(DType::Bool, [2, 1, 1]), vec![0, 1]);
        let a = b.clone().reshaped([n, 1].into());
        rows.push(Row { text, inputs: vec![vec![c, a, b]], limit: Box::new(|_, _, _, _| Limit::Bits) });
    }
    rows
}

fn conversions() -> Vec<Row> {
    let mut rows = Vec::new();
    for (from, to) in NATIVE.iter().flat_map(|from| NATIVE.map(|to| (*from, to))) {
        let x = many(from);
        let (ty, n) = (from.name(), x.ty.shape.numel());
        let text = format!(
            "graph @cast(%x: {ty}[{n}]) {{\n%y = cast %x {{to={}}}\n%z = cast %y {{to=f32}}\nreturn %y as \"y\", %z as \"z\"\n}}",
            to.name()
        );
        rows.push(Row { text, inputs: vec![vec![x]], limit: Box::new(|_, _, _, _| Limit::Bits) });
    }
    rows
}

tables! {
    functions_of_one_element: 100_000,
    functions_behind_sums: 100_000,
    functions_of_two_elements: 100_000,
    functions_of_an_element_and_a_number: 100_000,
    choices: 10_000,
    conversions: 10_000,
}
