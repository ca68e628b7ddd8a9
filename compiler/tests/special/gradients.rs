//! Operators of backward graphs.

use fornax_ir::graph::parse;
use fornax_ir::ops::literal::Literal;
use fornax_ir::scalar::{Expression, UnaryFn};
use fornax_ir::types::{DType, TensorType};

use crate::agree::Limit;
use crate::elements::functions;
use crate::maps::{SHARES, bits, near, rows_of, summed};
use crate::rows::{Row, tables};
use crate::values::line;

/// The values of the steps of `f'(x)`, in `f64`.
fn steps(f: UnaryFn, x: f64) -> Vec<f64> {
    let Expression { steps } = f.derivative().expect("a function with a derivative");
    let prefix = |count: usize| Expression { steps: steps[..count].to_vec() }.eval(x);
    (1..=steps.len()).map(prefix).collect()
}

/// How far `dy f'(x)` may be off: not at all where the slope is a number of the function, else by the roundings of a
/// slope that is computed in several steps.
fn stated(f: UnaryFn, dy: f64, x: f64) -> Limit {
    use UnaryFn::*;
    if matches!(f, Relu | Clip(..) | LeakyRelu(_) | ThresholdedRelu(_) | Neg | Abs | Floor | Ceil | Round | Sign) {
        return Limit::Bits;
    }
    let steps = steps(f, x);
    let slope = steps.last().copied().unwrap_or(0.0);
    let overflows = steps.iter().any(|v| v.is_finite() && v.abs() > f64::from(f32::MAX));
    // Whether a factor of next to nothing is 0 decides between an infinity and a NaN.
    let vanishes = |v: &f64| v.abs() < f64::from(f32::from_bits(1));
    let decides =
        dy.is_infinite() && slope.abs() < 1e-5 || steps.iter().any(|v| v.is_infinite()) && steps.iter().any(vanishes);
    if overflows || decides {
        return Limit::Anything;
    }
    Limit::Within(1e-5 * dy.abs() * slope.abs().max(1.0) + f64::from(f32::from_bits(1)))
}

/// Every slope at every special value, times every one.
fn slopes() -> Vec<Row> {
    let values = line(DType::F32).to_f64();
    let n = values.len();
    let square = |at: &dyn Fn(usize) -> usize| -> Vec<f64> { (0..n * n).map(|i| values[at(i)]).collect() };
    let (dy, x) = (square(&|i| i / n), square(&|i| i % n));
    let literal = |values: &[f64]| Literal::new_float(TensorType::f32([n, n]), values.to_vec());
    let operands = vec![literal(&dy), literal(&x)];
    let row = |f: UnaryFn| {
        let (name, p) = f.spelling();
        let list = p.iter().map(|v| format!("{v:?}").to_lowercase()).collect::<Vec<_>>().join(", ");
        let spelled = if p.is_empty() { name.to_owned() } else { format!("{name}({list})") };
        let text = format!(
            "graph @slope(%g: f32[{n},{n}], %x: f32[{n},{n}]) {{\n%y = unary_gradient %g, %x {{function={spelled}}}\nreturn %y as \"y\"\n}}"
        );
        parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"));
        let (dy, x) = (dy.clone(), x.clone());
        let limit = move |_: usize, _: usize, i: usize, _: f64| stated(f, dy[i], x[i]);
        Row { text, inputs: vec![operands.clone()], limit: Box::new(limit) }
    };
    functions().filter(|f| f.derivative().is_some()).map(row).collect()
}

/// What windows that do not overlap give is moved, what others give is added.
fn maxima() -> Vec<Row> {
    let mut rows = Vec::new();
    for (window, out) in [
        ("kernel=[2,2],strides=[2,2]", "2,2"),
        ("kernel=[3,2],strides=[3,2],pads=[1,0,1,0]", "2,2"),
        ("kernel=[1,3],strides=[2,3],ceil_mode=true", "2,2"),
    ] {
        let node = format!(
            "%m, %i = max_pool %v {{{window}}}\n%g = slice %x {{starts=[0,0,1,2],sizes=[4,4,{out}]}}\n\
             %y = max_pool_gradient %g, %i {{extents=[4,4],{window}}}"
        );
        rows.extend(rows_of(&node, &SHARES, bits));
    }
    for window in ["kernel=[3,3],strides=[2,2],pads=[1,1,1,1]", "kernel=[2,2],dilations=[2,1]"] {
        let node =
            format!("%m, %i = max_pool %v {{{window}}}\n%y = max_pool_gradient %m, %i {{extents=[4,4],{window}}}");
        rows.extend(rows_of(&node, &SHARES, near(1e-5, |v| v.abs() > 1e38)));
    }
    rows
}

fn weights_of_convolutions() -> Vec<Row> {
    let mut rows = Vec::new();
    for node in [
        "%y = conv_weight_gradient %v, %x",
        "%y = conv_weight_gradient %x, %v {kernel=[3,3],pads=[1,1,1,1]}",
        "%y = conv_weight_gradient %v, %x {kernel=[3,3],pads=[1,1,1,1],group=4}",
        "%y = conv_weight_gradient %v, %x {kernel=[3,1],pads=[2,0,2,0],dilations=[2,1],group=2}",
        "%g = slice %x {starts=[0,0,1,2],sizes=[4,4,2,2]}\n%s = slice %x {starts=[0,0,0,0],sizes=[4,4,2,2]}\n\
         %y = conv_weight_gradient %v, %g, %s {kernel=[2,2],strides=[2,2],accumulate=true}",
        "%s = slice %x {starts=[0,1,1,0],sizes=[4,1,3,3]}\n\
         %y = conv_weight_gradient %v, %v, %s {kernel=[3,3],pads=[1,1,1,1],group=4,accumulate=true}",
    ] {
        rows.extend(rows_of(node, &SHARES, |graph, inputs| summed(graph, inputs, 65.0)));
    }
    rows
}

/// Weights that leave a map as it is: each channel by itself, and all by all.
const AS_IT_IS: [(&str, &str); 2] = [
    ("%w = constant f32[4,1,1,1] [1, 1, 1, 1]", "group=4"),
    ("%w = constant f32[4,4,1,1] [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]", "group=1"),
];

/// Values and slopes of activations, behind convolutions and by themselves. Nothing is promised next to the largest number, where
/// their steps overflow.
fn slopes_beside_values() -> Vec<Row> {
    let mut rows = Vec::new();
    for function in ["silu", "tanh"] {
        for results in ["%y, %s", "%a, %y"] {
            let close = || near(1e-5, |v| v.abs() > 1e37);
            rows.extend(rows_of(&format!("{results} = unary_with_slope %v {{function={function}}}"), &SHARES, close()));
            for (weights, group) in AS_IT_IS {
                let node = format!("{weights}\n{results} = conv_with_slope %v, %w {{{group},activation={function}}}");
                rows.extend(rows_of(&node, &SHARES, close()));
            }
        }
    }
    rows
}

/// Gradients of what convolutions read, and what follows in their epilogues.
fn data_of_convolutions() -> Vec<Row> {
    let mut rows = Vec::new();
    for node in [
        "%w = constant f32[4,4,3,3] random(3)\n%y = conv_data_gradient %v, %w {pads=[1,1,1,1]}",
        "%w = constant f32[4,1,3,3] random(3)\n%y = conv_data_gradient %v, %w {group=4,pads=[1,1,1,1]}",
    ] {
        rows.extend(rows_of(node, &SHARES, |graph, inputs| summed(graph, inputs, 36.0)));
    }
    for (weights, group) in AS_IT_IS {
        for (operands, attributes) in [
            ("%x", "residual=true"),
            ("%x", "factor=true"),
            ("%x", "function=clip(0, 6)"),
            ("%v, %x", "residual=true,factor=true"),
        ] {
            let node = format!("{weights}\n%y = conv_data_gradient %v, %w, {operands} {{{group},{attributes}}}");
            rows.extend(rows_of(&node, &SHARES, near(1e-5, |v| v.abs() > 1e38)));
        }
    }
    rows
}

tables! {
    slopes_beside_values: 1_000,
    data_of_convolutions: 1_000,
    slopes: 100_000,
    maxima: 5_000,
    weights_of_convolutions: 1_000,
}
