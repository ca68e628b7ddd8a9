//! What rewrites ask about nodes: views of operators with their operands by name, scalars, obstacles.

use super::range::is_held;
use crate::graph::{Graph, ValueId};
use crate::ops::literal::Literal;
use crate::ops::{Conv, Gemm, Op};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{Constant, DType};

/// The function and operand of a unary node.
pub(super) fn unary(graph: &Graph, id: ValueId) -> Option<(UnaryFn, ValueId)> {
    match graph.producer(id).op()? {
        Op::Unary(op) => Some((op.function, *graph.operands(id.node).first()?)),
        _ => None,
    }
}

/// The operand of a unary node of function `function`.
pub(super) fn unary_of(graph: &Graph, id: ValueId, function: UnaryFn) -> Option<ValueId> {
    unary(graph, id).filter(|(f, _)| *f == function).map(|(_, x)| x)
}

/// The function and operands of a binary node.
pub(super) fn binary(graph: &Graph, id: ValueId) -> Option<(BinaryFn, ValueId, ValueId)> {
    match (graph.producer(id).op()?, &graph.operands(id.node)[..]) {
        (Op::Binary(op), [a, b]) => Some((op.function, *a, *b)),
        _ => None,
    }
}

/// The value of a floating-point constant of one element.
pub(super) fn scalar(graph: &Graph, id: ValueId) -> Option<f64> {
    let constant = graph.producer(id).constant()?;
    if constant.ty.shape.numel() != 1 || !constant.ty.dtype.is_float() {
        return None;
    }
    Literal::from_constant(constant).ok()?.to_f64().first().copied()
}

/// `(x, s)` of a node `x f s` or, if `f` commutes, `s f x`, where `s` is a scalar constant that does not change the type of `x`.
pub(super) fn with_scalar(graph: &Graph, id: ValueId, function: BinaryFn) -> Option<(ValueId, f64)> {
    let (found, a, b) = binary(graph, id)?;
    if found != function {
        return None;
    }
    let commutes = matches!(function, BinaryFn::Add | BinaryFn::Mul | BinaryFn::Min | BinaryFn::Max);
    let same_type = |x: ValueId| graph.ty(x) == graph.ty(id);
    match (scalar(graph, a), scalar(graph, b)) {
        (_, Some(s)) if same_type(a) => Some((a, s)),
        (Some(s), _) if commutes && same_type(b) => Some((b, s)),
        _ => None,
    }
}

/// Whether `v`, computed from constants of type `dtype`, is `expected` as rounding them may have left it: within four halves of a unit of
/// the last place of `f32`, or of `f64`. Narrower elements are computed in `f32`.
pub(super) fn close(dtype: DType, v: f64, expected: f64) -> bool {
    let unit = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    (v - expected).abs() <= 2.0 * unit * expected.abs()
}

/// Whether a factor `v`, computed from constants of type `dtype`, changes nothing: 1, or half a unit of the last place from it.
pub(super) fn is_one(dtype: DType, v: f64) -> bool {
    let unit = if dtype == DType::F64 { f64::EPSILON } else { f64::from(f32::EPSILON) };
    (v - 1.0).abs() <= unit / 2.0
}

/// `v` as a parameter of a function over elements of `dtype`, which are `f32`; else the obstacle: it overflows, loses bits that `f32` has
/// as a subnormal or, where the elements are `f64`, any.
pub(super) fn parameter(dtype: DType, v: f64) -> Result<f32, String> {
    let held = if dtype == DType::F64 { f64::from(v as f32) == v && v.is_finite() } else { is_held(DType::F32, v) };
    if held { Ok(v as f32) } else { Err(format!("the parameter {v:.2e} is not held by f32")) }
}

/// Why `id` cannot vanish into its consumer, if it cannot: other users, a graph output, or an update.
pub(super) fn shared(graph: &Graph, id: ValueId) -> Option<String> {
    let name = graph.name_of(id);
    if graph.is_update(id) {
        Some(format!("%{name} replaces a variable"))
    } else if graph.is_output(id) {
        Some(format!("%{name} is a graph output"))
    } else if graph.users(id).len() > 1 {
        Some(format!("%{name} has other users"))
    } else {
        None
    }
}

/// A convolution and its operands.
pub(super) struct ConvView<'a> {
    pub op: &'a Conv,
    pub id: ValueId,
    pub x: ValueId,
    pub w: ValueId,
    pub bias: Option<ValueId>,
    pub residual: Option<ValueId>,
}

/// The convolution at `id`.
pub(super) fn conv(graph: &Graph, id: ValueId) -> Option<ConvView<'_>> {
    let Op::Conv(op) = graph.producer(id).op()? else { return None };
    let mut operands = graph.operands(id.node).into_iter();
    let (x, w) = (operands.next()?, operands.next()?);
    let bias = if op.bias { Some(operands.next()?) } else { None };
    let residual = if op.residual { Some(operands.next()?) } else { None };
    Some(ConvView { op, id, x, w, bias, residual })
}

impl ConvView<'_> {
    /// Whether this is a plain 1x1 convolution over two spatial axes: stride 1, no padding, one group.
    pub fn is_pointwise(&self, graph: &Graph) -> bool {
        let shape = &graph.ty(self.w).shape;
        shape.rank() == 4
            && shape[2..] == [1, 1]
            && self.op.group == 1
            && self.op.strides.iter().all(|s| *s == 1)
            && self.op.pads.iter().all(|p| *p == 0)
    }
}

/// A general matrix product and its operands.
pub(super) struct GemmView<'a> {
    pub op: &'a Gemm,
    pub a: ValueId,
    pub b: ValueId,
    pub c: Option<ValueId>,
}

/// The general matrix product at `id`.
pub(super) fn gemm(graph: &Graph, id: ValueId) -> Option<GemmView<'_>> {
    let Op::Gemm(op) = graph.producer(id).op()? else { return None };
    let mut operands = graph.operands(id.node).into_iter();
    let (a, b) = (operands.next()?, operands.next()?);
    let c = if op.bias { Some(operands.next()?) } else { None };
    Some(GemmView { op, a, b, c })
}

/// The constant behind a value if its elements are known; else the obstacle.
pub(super) fn known<'a>(graph: &'a Graph, id: ValueId, role: &str) -> Result<&'a Constant, String> {
    let node = graph.producer(id);
    match node.constant() {
        Some(constant) if matches!(constant.payload, crate::types::Payload::Hash(_)) => {
            Err(format!("the {role} %{} is known by its hash only", node.name))
        }
        Some(constant) => Ok(constant),
        None => Err(format!("the {role} %{} is not a constant", node.name)),
    }
}

/// `lists` in order, each name once.
pub(super) fn merged<'a>(lists: impl IntoIterator<Item = &'a Vec<String>>) -> Vec<String> {
    let mut out: Vec<String> = Vec::new();
    for name in lists.into_iter().flatten() {
        if !out.contains(name) {
            out.push(name.clone());
        }
    }
    out
}
