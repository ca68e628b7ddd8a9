//! Lowering of `top_k`: the rank of every element among those of its line, then what has ranks below `k`. Long lines are sorted.
//!
//! An element's rank is the number of elements that come before it. All of a short line is compared with all of it, in any order and
//! without branches.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, expect_native, index_table};
use crate::kernels::Sort;
use crate::kernels::loops::nest::{Affine, Combine, Entry, Inst, Program};
use crate::plan::AxisOrder;
use fornax_ir::OpError;
use fornax_ir::ops::{TopK, around_axis};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{DType, TensorType};

/// Elements from which on a line is sorted.
const LONG: usize = 64;

impl Lower for TopK {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?;
        expect_native("x", x.dtype)?;
        let indices = cx.output_of(1, AxisOrder::RowMajor);
        let indices = View::of(cx, indices);
        let values = cx.results[0].used.then(|| cx.output_of(0, AxisOrder::RowMajor));
        if indices.elements() == 0 {
            return Ok(());
        }
        let count = x.shape[self.axis];
        let (lines, inner) = around_axis(&x.shape, self.axis);
        if count >= LONG && inner == 1 && Sort::takes(x.dtype) {
            let dense = cx.operand_as(0, AxisOrder::RowMajor)?;
            let spec = Sort { element: x.dtype, lines, extent: count, k: self.k, smallest: self.smallest };
            cx.step(spec, &[dense.into(), indices.operand]);
        } else {
            let numbers = index_table(cx, &(0..count as i64).collect::<Vec<_>>())?;
            let ranks = ranks(self, cx, &x, &numbers);
            select(self, cx, &ranks, &numbers, &indices);
        }
        if let Some(values) = values {
            let values = View::of(cx, values).moved();
            let x = x.moved();
            let mut call = NestCall::new("top_k", &values.shape, 0, &values, Affine::new(0, values.strides.clone()));
            let input = call.input("x", &x, Affine::new(0, beside(self, &x.strides)));
            let at = Affine::new(0, indices.strides.clone());
            let table = call.table("indices", &indices, at, Entry::Wrap(count));
            call.nest.inputs[input].lookups.push((table, x.strides[self.axis]));
            call.compute(Vec::new(), vec![Inst::Load(input)], Combine::Last, Vec::new());
            call.run(cx);
        }
        Ok(())
    }
}

/// The strides of all axes but the selection's, along which nothing moves.
fn beside(op: &TopK, strides: &[i64]) -> Vec<i64> {
    let mut strides = strides.to_vec();
    strides[op.axis] = 0;
    strides
}

/// The index along the selection's axis, or along the reduced axis after the `rank` axes of the operand.
fn numbered(op: &TopK, rank: usize, reduced: bool) -> Affine {
    let mut strides = vec![0; rank + 1];
    strides[if reduced { rank } else { op.axis }] = 1;
    Affine::new(0, strides)
}

/// Follows `view` along all axes; along the selection's by the reduced axis.
fn across(op: &TopK, view: &View) -> Affine {
    let mut strides = beside(op, &view.strides);
    strides.push(view.strides[op.axis]);
    Affine::new(0, strides)
}

/// For each element how many of its line come before it.
fn ranks(op: &TopK, cx: &mut Lowering<'_>, x: &View, numbers: &View) -> View {
    let rank = x.shape.len();
    let view = cx.temp("ranks", TensorType::new(DType::I32, x.shape.clone()), AxisOrder::RowMajor);
    let ranks = View::of(cx, view);
    let extents: Vec<usize> = x.shape.iter().copied().chain([x.shape[op.axis]]).collect();
    let own = |strides: &[i64]| Affine::new(0, strides.iter().copied().chain([0]).collect::<Vec<_>>());
    let mut call = NestCall::new("rank", &extents, 1, &ranks, own(&ranks.strides));
    call.input("other", x, across(op, x));
    call.input("own", x, own(&x.strides));
    call.input("other_index", numbers, numbered(op, rank, true));
    call.input("own_index", numbers, numbered(op, rank, false));
    let mut body: Program = (0..4).map(Inst::Load).collect();
    let other_first = precedes(op, x.dtype, &mut body, 0, 1);
    let own_first = precedes(op, x.dtype, &mut body, 1, 0);
    // Of equal elements the one of the lower index comes first.
    body.extend([Inst::Unary(UnaryFn::Not, own_first), Inst::Binary(BinaryFn::Less, 2, 3)]);
    let last = body.len() - 1;
    body.push(Inst::Select(last, last - 1, other_first));
    call.compute(vec![Inst::Int(0)], body, Combine::Sum, Vec::new());
    call.run(cx);
    ranks
}

/// Appends whether value `a` comes before value `b`; where it stands. A NaN is larger than any number.
fn precedes(op: &TopK, dtype: DType, body: &mut Program, a: usize, b: usize) -> usize {
    let (large, small) = if op.smallest { (b, a) } else { (a, b) };
    body.push(Inst::Binary(BinaryFn::Greater, large, small));
    let greater = body.len() - 1;
    if dtype.is_float() {
        body.extend([
            Inst::Unary(UnaryFn::IsNan, large),
            Inst::Unary(UnaryFn::IsNan, small),
            Inst::Unary(UnaryFn::Not, greater + 2),
            Inst::Binary(BinaryFn::And, greater + 1, greater + 3),
            Inst::Binary(BinaryFn::Or, greater, greater + 4),
        ]);
    }
    body.len() - 1
}

/// Writes the index of the element of each rank below `k`.
fn select(op: &TopK, cx: &mut Lowering<'_>, ranks: &View, numbers: &View, indices: &View) {
    let rank = ranks.shape.len();
    let extents: Vec<usize> = indices.shape.iter().copied().chain([ranks.shape[op.axis]]).collect();
    let write = Affine::new(0, indices.strides.iter().copied().chain([0]).collect::<Vec<_>>());
    let mut call = NestCall::new("of_rank", &extents, 1, indices, write);
    call.input("ranks", ranks, across(op, ranks));
    call.input("rank", numbers, numbered(op, rank, false));
    call.input("index", numbers, numbered(op, rank, true));
    let mut body: Program = (0..3).map(Inst::Load).collect();
    body.extend([Inst::Binary(BinaryFn::Equal, 0, 1), Inst::Int(0), Inst::Select(3, 2, 4)]);
    call.compute(vec![Inst::Int(0)], body, Combine::Sum, Vec::new());
    call.run(cx);
}
