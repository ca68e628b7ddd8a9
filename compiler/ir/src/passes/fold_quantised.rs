//! Convolutions and matrix products of dequantised 8-bit integers become products of the integers, whose sums are scaled.
//!
//! What an exporter quantised reads `(q - zero) scale` on both sides. The differences fit 16 bits, so `sum (x - zx)(w - zw)` is exact in `i32`, and
//! both scales are one factor for each filter; a bias is added after it. Padding stands for the zero point and stays 0.
//!
//! Holds: but for the rounding of the products, their sums and the dequantised elements, which is gone.
//! Needs: scales that are known numbers, one for the left operand and one for each filter at most, whose products `f32` holds; sums that `i32`
//! holds; zero points of the elements' type, one for the left operand.

use super::matching::{binary, conv, gemm};
use super::range::is_held;
use super::{Context, Outcome, Rewrite, first, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, PatchValue, ValueId};
use crate::ops::literal::Literal;
use crate::ops::{Binary, Cast, Conv, MatMul, Op, Reshape, Transpose};
use crate::scalar::BinaryFn;
use crate::types::{Constant, DType, TensorType};

const RULES: &[Rewrite] = &[convolution, product, general_product];

/// Largest magnitude of a difference of two 8-bit integers.
const WIDEST: usize = 255;

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, |graph, id| first(graph, id, RULES))
}

/// `(q - zero) scale` as `f32`.
struct Dequantised {
    /// 8-bit integers.
    q: ValueId,
    /// Integers of their type that broadcast to them.
    zero: Option<Zero>,
    scale: ValueId,
}

/// A zero point.
enum Zero {
    /// Integers of 8 bits.
    Integers(ValueId),
    /// What an importer has made of them.
    Constant(Constant),
}

impl Zero {
    /// What `id`, which is subtracted from converted integers of type `dtype`, says.
    fn of(graph: &Graph, id: ValueId, dtype: DType) -> Option<Self> {
        if let Some(zero) = converted(graph, id) {
            return (graph.ty(zero).dtype == dtype).then_some(Self::Integers(zero));
        }
        let literal = Literal::from_constant(graph.producer(id).constant()?).ok()?;
        let range = if dtype == DType::U8 { 0.0..=255.0 } else { -128.0..=127.0 };
        let values = literal.to_f64();
        if !values.iter().all(|v| v.fract() == 0.0 && range.contains(v)) {
            return None;
        }
        let ty = TensorType::new(DType::I16, literal.ty.shape.clone());
        Some(Self::Constant(Literal::new_int(ty, values.into_iter().map(|v| v as i64).collect()).to_constant()))
    }

    /// How many there are.
    fn count(&self, graph: &Graph) -> usize {
        match self {
            Self::Integers(id) => graph.ty(*id).shape.numel(),
            Self::Constant(constant) => constant.ty.shape.numel(),
        }
    }
}

/// The 8-bit integers that a value converts to `f32`.
fn converted(graph: &Graph, id: ValueId) -> Option<ValueId> {
    let Some(Op::Cast(Cast { to: DType::F32 })) = graph.producer(id).op() else { return None };
    let q = *graph.operands(id.node).first()?;
    matches!(graph.ty(q).dtype, DType::U8 | DType::I8).then_some(q)
}

/// Whether a value converts another to `i16`.
fn is_widening(graph: &Graph, id: ValueId) -> bool {
    matches!(graph.producer(id).op(), Some(Op::Cast(Cast { to: DType::I16 })))
}

fn dequantised(graph: &Graph, id: ValueId) -> Option<Dequantised> {
    let (BinaryFn::Mul, a, b) = binary(graph, id)? else { return None };
    [(a, b), (b, a)].into_iter().find_map(|(centred, scale)| {
        if let Some(q) = converted(graph, centred) {
            return (graph.ty(q).shape == graph.ty(id).shape).then_some(Dequantised { q, zero: None, scale });
        }
        let (BinaryFn::Sub, q, zero) = binary(graph, centred)? else { return None };
        let q = converted(graph, q).filter(|q| graph.ty(*q).shape == graph.ty(id).shape)?;
        let zero = Zero::of(graph, zero, graph.ty(q).dtype)?;
        Some(Dequantised { q, zero: Some(zero), scale })
    })
}

impl Dequantised {
    /// The value of the graph that has the differences.
    fn known(&self, graph: &Graph) -> Option<ValueId> {
        let users = |id: ValueId| graph.users(id).into_iter().map(|(node, _)| ValueId::from(node));
        users(self.q).filter(|id| is_widening(graph, *id)).find_map(|wide| {
            let Some(zero) = &self.zero else { return Some(wide) };
            users(wide).find(|id| {
                let Some((BinaryFn::Sub, a, b)) = binary(graph, *id) else { return false };
                a == wide
                    && match zero {
                        Zero::Constant(zero) => graph.producer(b).constant() == Some(zero),
                        Zero::Integers(z) => is_widening(graph, b) && graph.operands(b.node).first() == Some(z),
                    }
            })
        })
    }

    /// The differences as `i16`: those of another product, if they are there.
    fn centred(&self, graph: &Graph, patch: &mut Patch) -> PatchValue {
        if let Some(known) = self.known(graph) {
            return known.into();
        }
        let q = patch.op(Cast { to: DType::I16 }, &[self.q.into()]);
        let zero = match &self.zero {
            None => return q,
            Some(Zero::Integers(zero)) => patch.op(Cast { to: DType::I16 }, &[(*zero).into()]),
            Some(Zero::Constant(zero)) => patch.constant("zero", zero.clone()),
        };
        patch.op(Binary { function: BinaryFn::Sub }, &[q, zero])
    }
}

/// The elements of a constant, as reshapes leave it; else the obstacle.
fn numbers(graph: &Graph, mut id: ValueId) -> Result<Vec<f64>, String> {
    while let (Some(Op::Reshape(_)), Some(x)) = (graph.producer(id).op(), graph.operands(id.node).first()) {
        id = *x;
    }
    let literal = graph.producer(id).constant().and_then(|constant| Literal::from_constant(constant).ok());
    literal.map(|literal| literal.to_f64()).ok_or_else(|| format!("the scale %{} is not known", graph.name_of(id)))
}

/// The factor of each filter: of all `filters`, or one for all. `axis` is that of the filters in the right operand.
fn factors(graph: &Graph, [x, w]: [&Dequantised; 2], (axis, filters): (usize, usize)) -> Result<Vec<f32>, String> {
    let one = |id: ValueId| graph.ty(id).shape.numel() == 1;
    if !one(x.scale) || x.zero.as_ref().is_some_and(|zero| zero.count(graph) != 1) {
        return Err(format!("%{} has several scales or zero points", graph.name_of(x.q)));
    }
    let (shape, rank) = (&graph.ty(w.scale).shape, graph.ty(w.q).shape.rank());
    let own = (0..shape.rank()).all(|at| shape[at] == 1 || at + rank == axis + shape.rank() && shape[at] == filters);
    if !own {
        return Err(format!("%{} has scales by other axes than that of its filters", graph.name_of(w.q)));
    }
    let (x, w) = (numbers(graph, x.scale)?, numbers(graph, w.scale)?);
    let factors = w.iter().map(|w| w * x[0]);
    match factors.clone().find(|factor| !is_held(DType::F32, *factor)) {
        Some(factor) => Err(format!("f32 does not hold the scale {factor:.2e}")),
        None => Ok(factors.map(|factor| factor as f32).collect()),
    }
}

/// Both operands of a product, if they are dequantised and the right one is known; each output sums `terms` products.
fn operands(graph: &Graph, [x, w]: [ValueId; 2], terms: usize) -> Option<Result<[Dequantised; 2], String>> {
    let (x, w) = (dequantised(graph, x)?, dequantised(graph, w)?);
    graph.producer(w.q).constant()?;
    let fits = terms <= i32::MAX as usize / (WIDEST * WIDEST);
    Some(if fits { Ok([x, w]) } else { Err(format!("i32 does not hold a sum of {terms} products")) })
}

/// Scales the sums of a product, whose filters are an axis that `trailing` others follow, and adds `bias`.
fn scaled(
    graph: &Graph,
    patch: &mut Patch,
    sums: PatchValue,
    (factors, trailing): (&[f32], usize),
    bias: Option<ValueId>,
) {
    let sums = patch.op(Cast { to: DType::F32 }, &[sums]);
    let along = |count: usize| [vec![count], vec![1; trailing]].concat();
    let scale = patch.constant("scale", Constant::from_f32(along(factors.len()), factors));
    let y = patch.op(Binary { function: BinaryFn::Mul }, &[sums, scale]);
    if let Some(bias) = bias {
        let shape = &graph.ty(bias).shape;
        let bias = match trailing {
            0 => bias.into(),
            _ => patch.op(Reshape { shape: along(shape.numel()) }, &[bias.into()]),
        };
        patch.op(Binary { function: BinaryFn::Add }, &[y, bias]);
    }
}

fn convolution(graph: &Graph, id: ValueId) -> Outcome {
    let Some(view) = conv(graph, id) else { return Outcome::NoMatch };
    let shape = &graph.ty(view.w).shape;
    let terms = shape.iter().skip(1).fold(1usize, |n, extent| n.saturating_mul(*extent));
    let plain = view.op.activation.is_none() && view.residual.is_none() && shape.rank() <= 4;
    let operands = match operands(graph, [view.x, view.w], terms) {
        Some(operands) if plain => operands,
        _ => return Outcome::NoMatch,
    };
    let [x, w] = match operands {
        Ok(operands) => operands,
        Err(obstacle) => return Outcome::Declined(obstacle),
    };
    let factors = match factors(graph, [&x, &w], (0, shape[0])) {
        Ok(factors) => factors,
        Err(obstacle) => return Outcome::Declined(obstacle),
    };
    let mut patch = Patch::new(id, "conv of 8-bit integers");
    let operands = [x.centred(graph, &mut patch), w.centred(graph, &mut patch)];
    let sums = patch.op(Conv { bias: false, ..view.op.clone() }, &operands);
    scaled(graph, &mut patch, sums, (&factors, shape.rank() - 2), view.bias);
    Outcome::Replace(patch)
}

fn product(graph: &Graph, id: ValueId) -> Outcome {
    let (Some(Op::MatMul(_)), [a, b]) = (graph.producer(id).op(), &graph.operands(id.node)[..]) else {
        return Outcome::NoMatch;
    };
    multiply(graph, id, [*a, *b], (false, None))
}

fn general_product(graph: &Graph, id: ValueId) -> Outcome {
    let Some(view) = gemm(graph, id) else { return Outcome::NoMatch };
    let op = view.op;
    if op.trans_a || op.alpha != 1.0 || op.bias && op.beta != 1.0 || op.activation.is_some() {
        return Outcome::NoMatch;
    }
    multiply(graph, id, [view.a, view.b], (op.trans_b, view.c))
}

fn multiply(graph: &Graph, id: ValueId, pair: [ValueId; 2], (turned, bias): (bool, Option<ValueId>)) -> Outcome {
    let shape = &graph.ty(pair[1]).shape;
    let [rows, columns] = shape[..] else { return Outcome::NoMatch };
    let (terms, filters, axis) = if turned { (columns, rows, 0) } else { (rows, columns, 1) };
    let [a, b] = match operands(graph, pair, terms) {
        Some(Ok(operands)) => operands,
        Some(Err(obstacle)) => return Outcome::Declined(obstacle),
        None => return Outcome::NoMatch,
    };
    let factors = match factors(graph, [&a, &b], (axis, filters)) {
        Ok(factors) => factors,
        Err(obstacle) => return Outcome::Declined(obstacle),
    };
    let mut patch = Patch::new(id, "matmul of 8-bit integers");
    let (a, mut b) = (a.centred(graph, &mut patch), b.centred(graph, &mut patch));
    if turned {
        b = patch.op(Transpose { perm: vec![1, 0] }, &[b]);
    }
    let sums = patch.op(MatMul {}, &[a, b]);
    scaled(graph, &mut patch, sums, (&factors, 0), bias);
    Outcome::Replace(patch)
}
