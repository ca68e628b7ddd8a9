//! From operands to loop nests: what the lowerings of generic operators share.
//!
//! In: operands of a node, in whatever order they are. Out: kernel calls that read them through their strides, so that mixed orders need
//! no copies.

use super::context::Lowering;
use crate::codegen::math::wide;
use crate::kernels::Loops;
use crate::kernels::loops::movement;
use crate::kernels::loops::nest::{Affine, Combine, Entry, Guard, IndexTable, Inst, LoopNest, Output, Program};
use crate::plan::{AxisOrder, ConstId, Generated, Operand, PackedConstant, ViewId};
use fornax_ir::OpError;
use fornax_ir::ops::reduce::int_range;
use fornax_ir::scalar::{Step, UnaryFn};
use fornax_ir::types::{DType, Payload, Shape};
use fornax_runtime::packing::{self, Packing, Transform};

/// A dense operand: its memory, and the element stride of each of its axes.
#[derive(Clone, Debug)]
pub struct View {
    /// The memory.
    pub operand: Operand,
    pub dtype: DType,
    pub shape: Vec<usize>,
    /// Element strides.
    pub strides: Vec<i64>,
}

impl View {
    /// A view in its order.
    pub fn of(cx: &Lowering<'_>, view: ViewId) -> Self {
        let place = cx.plan.view(view);
        let strides = place.order.strides(&place.ty.shape).into_iter().map(|s| s as i64).collect();
        Self { operand: view.into(), dtype: place.ty.dtype, shape: place.ty.shape.to_vec(), strides }
    }

    /// Operand `i` of the node in its order.
    pub fn operand(cx: &mut Lowering<'_>, i: usize) -> Result<Self, OpError> {
        let view = cx.operand(i)?;
        Ok(Self::of(cx, view))
    }

    /// A packed row-major constant.
    pub fn constant(constant: ConstId, dtype: DType, shape: &[usize]) -> Self {
        let strides = AxisOrder::RowMajor.strides(shape).into_iter().map(|s| s as i64).collect();
        Self { operand: constant.into(), dtype, shape: shape.to_vec(), strides }
    }

    pub fn elements(&self) -> usize {
        self.shape.iter().product()
    }

    /// The same elements moved without being looked at; see [`movement`].
    pub fn moved(mut self) -> Self {
        self.dtype = movement(self.dtype);
        self
    }

    /// Strides of this operand read as one of `rank` axes, to which it broadcasts: aligned at the last axis, 0 along extents of 1.
    pub fn broadcast(&self, rank: usize) -> Vec<i64> {
        let missing = rank - self.shape.len();
        let own = self.shape.iter().zip(&self.strides).map(|(extent, stride)| if *extent == 1 { 0 } else { *stride });
        std::iter::repeat_n(0, missing).chain(own).collect()
    }
}

/// A loop nest with the operands of its arguments.
#[derive(Clone, Debug)]
pub struct NestCall {
    pub nest: LoopNest,
    title: String,
    inputs: Vec<Operand>,
    tables: Vec<Operand>,
    output: Operand,
}

impl NestCall {
    /// A call that writes `output` at `at`; the last `reduced` of `extents` are summed over.
    pub fn new(name: &str, extents: &[usize], reduced: usize, output: &View, at: Affine) -> Self {
        let target = Output { dtype: output.dtype, elements: output.elements(), at };
        let mut nest = LoopNest::map(extents, target, Vec::new());
        nest.reduced = reduced;
        Self { nest, title: name.into(), inputs: Vec::new(), tables: Vec::new(), output: output.operand }
    }

    /// Adds an operand that is read at `at`; its number for [`Inst::Load`].
    pub fn input(&mut self, name: &'static str, view: &View, at: Affine) -> usize {
        self.inputs.push(view.operand);
        self.nest.input(name, view.dtype, view.elements(), at)
    }

    /// Adds an index table that is read at `at`; its number.
    pub fn table(&mut self, name: &'static str, view: &View, at: Affine, entry: Entry) -> usize {
        self.tables.push(view.operand);
        self.nest.tables.push(IndexTable { name, dtype: view.dtype, elements: view.elements(), at, entry });
        self.nest.tables.len() - 1
    }

    /// Adds a test for padding.
    pub fn guard(&mut self, at: Affine, below: usize) {
        self.nest.guards.push(Guard { at, below });
    }

    /// Sets what is computed.
    pub fn compute(&mut self, init: Program, body: Program, combine: Combine, finish: Program) {
        (self.nest.init, self.nest.body, self.nest.combine, self.nest.finish) = (init, body, combine, finish);
    }

    /// Adds the kernel call to the plan.
    pub fn run(self, cx: &mut Lowering<'_>) {
        let operands: Vec<Operand> = self.inputs.into_iter().chain(self.tables).chain([self.output]).collect();
        cx.step(Loops::new(self.title, self.nest), &operands);
    }
}

/// Fails unless kernels compute with elements of `dtype`.
pub fn expect_native(field: &str, dtype: DType) -> Result<(), OpError> {
    match dtype {
        DType::F16 | DType::BF16 => {
            Err(OpError::new(field, "a native element type (f32, f64, bool, i8 to i64, u8 to u64)", dtype.name()))
        }
        _ => Ok(()),
    }
}

/// Fails unless `dtype` is `f32`, for operators that have kernels for it alone.
pub fn expect_f32(field: &str, dtype: DType) -> Result<(), OpError> {
    if dtype == DType::F32 { Ok(()) } else { Err(OpError::new(field, "native element type f32", dtype.name())) }
}

/// Fails unless `dtype` is `f32` or `f64`.
pub fn expect_float(field: &str, dtype: DType) -> Result<(), OpError> {
    if dtype == DType::F64 { Ok(()) } else { expect_f32(field, dtype) }
}

/// Fails if `f64` kernels do not have a function of elements of `dtype`.
pub fn expect_function(function: UnaryFn, dtype: DType) -> Result<(), OpError> {
    if dtype != DType::F64 || wide::computes(function) {
        return Ok(());
    }
    Err(OpError::new("operand", format!("f32 for {}", function.spelling().0), dtype.name()))
}

/// The order an element-wise result of `shape` is computed in: that of an operand of the same shape, channel-last if there is one.
pub fn common_order(cx: &Lowering<'_>, shape: &[usize]) -> AxisOrder {
    let largest =
        (0..cx.count()).filter(|i| cx.constant(*i).is_none() && cx.operand_type(*i).shape.rank() == shape.len());
    let orders: Vec<(usize, AxisOrder)> = largest.map(|i| (cx.operand_type(i).shape.numel(), cx.order(i))).collect();
    let most = orders.iter().map(|(count, _)| *count).max();
    let last = orders.iter().any(|(count, order)| Some(*count) == most && *order == AxisOrder::ChannelsLast);
    if last { AxisOrder::ChannelsLast } else { AxisOrder::RowMajor }
}

/// Lowers an element-wise operator: `body` computes an element from `Load(i)`, the element of operand `i` under broadcasting.
pub fn map(cx: &mut Lowering<'_>, name: &str, body: Program) -> Result<(), OpError> {
    for i in 0..cx.count() {
        expect_native("operand", cx.operand_type(i).dtype)?;
    }
    expect_native("result", cx.ty.dtype)?;
    store(cx, 0, name, body, |dtype| dtype)
}

/// As [`map`], over the element types that `takes` says.
pub fn map_of(cx: &mut Lowering<'_>, name: &str, body: Program, takes: fn(DType) -> bool) -> Result<(), OpError> {
    let types = (0..cx.count()).map(|i| ("operand", cx.operand_type(i).dtype)).chain([("result", cx.ty.dtype)]);
    for (field, dtype) in types.filter(|(_, dtype)| !takes(*dtype)) {
        expect_native(field, dtype)?;
    }
    store(cx, 0, name, body, |dtype| dtype)
}

/// As [`map`], of one of the results of an operator whose results have all the type of the first.
pub fn map_result(cx: &mut Lowering<'_>, result: usize, name: &str, body: Program) -> Result<(), OpError> {
    expect_native("result", cx.ty.dtype)?;
    store(cx, result, name, body, |dtype| dtype)
}

/// An expression of operand `argument` as a program.
pub fn expression(steps: &[Step], argument: usize) -> Program {
    let inst = |step: &Step| match *step {
        Step::Argument => Inst::Load(argument),
        Step::Number(number) => float(number as f32),
        Step::Unary(function, a) => Inst::Unary(function, a),
        Step::Binary(function, a, b) => Inst::Binary(function, a, b),
        Step::Select(condition, a, b) => Inst::Select(condition, a, b),
    };
    steps.iter().map(inst).collect()
}

/// Lowers an operator that moves whole elements of any type: `body` gives the element of the result from `Load(i)`.
pub fn move_elements(cx: &mut Lowering<'_>, name: &str) -> Result<(), OpError> {
    store(cx, 0, name, vec![Inst::Load(0)], movement)
}

/// Stores what `body` computes as a result of the operator, both under the element types that `ty` makes of theirs.
fn store(
    cx: &mut Lowering<'_>,
    result: usize,
    name: &str,
    body: Program,
    ty: fn(DType) -> DType,
) -> Result<(), OpError> {
    let shape: Shape = cx.ty.shape.clone();
    let order = common_order(cx, &shape);
    let views = (0..cx.count()).map(|i| View::operand(cx, i)).collect::<Result<Vec<_>, _>>()?;
    let out = cx.output_of(result, order);
    let mut out = View::of(cx, out);
    out.dtype = ty(out.dtype);
    let mut call = NestCall::new(name, &shape, 0, &out, Affine::new(0, out.strides.clone()));
    for (mut view, name) in views.into_iter().zip(["a", "b", "c", "d", "e"]) {
        view.dtype = ty(view.dtype);
        let at = Affine::new(0, view.broadcast(shape.len()));
        call.input(name, &view, at);
    }
    call.compute(Vec::new(), body, Combine::Last, Vec::new());
    call.run(cx);
    Ok(())
}

/// Copies `from` into `to`, both read as `extents`, at these elements.
pub fn copy(cx: &mut Lowering<'_>, name: &str, extents: &[usize], from: &View, read: Affine, to: &View, write: Affine) {
    let (from, to) = (from.clone().moved(), to.clone().moved());
    let mut call = NestCall::new(name, extents, 0, &to, write);
    call.input("x", &from, read);
    call.compute(Vec::new(), vec![Inst::Load(0)], Combine::Last, Vec::new());
    call.run(cx);
}

/// Packs indices as an `i32` table.
///
/// # Errors
/// An index beyond 31 bits.
pub fn index_table(cx: &mut Lowering<'_>, indices: &[i64]) -> Result<View, OpError> {
    let id = cx.plan.constant(Generated::indices(&entries(indices)?));
    Ok(View::constant(id, DType::I32, &[indices.len()]))
}

/// Indices as the entries of a table.
fn entries(indices: &[i64]) -> Result<Vec<i32>, OpError> {
    let entry = |index: &i64| {
        i32::try_from(*index)
            .map_err(|_| OpError::new("axis", format!("indices up to {}", i32::MAX), index.to_string()))
    };
    indices.iter().map(entry).collect()
}

/// Packs `f32` factors that are not parameters of the model.
pub fn factors(cx: &mut Lowering<'_>, values: Vec<f32>) -> View {
    let (id, count) = (cx.plan.constant(Generated::floats(&values)), values.len());
    View::constant(id, DType::F32, &[count])
}

/// A number as a constant of the kind that elements of `dtype` compute in.
pub fn number(dtype: DType, value: f64) -> Inst {
    match dtype {
        DType::F32 => float(value as f32),
        DType::F64 => Inst::Double(value.to_bits()),
        DType::U64 => Inst::Unsigned(value as u64),
        _ => Inst::Int(value as i64),
    }
}

/// The smallest and the largest element of a type: infinities where it has them.
pub fn extremes(dtype: DType) -> [Inst; 2] {
    let (least, most) = int_range(dtype);
    match dtype {
        DType::F32 | DType::F64 => [f64::NEG_INFINITY, f64::INFINITY].map(|value| number(dtype, value)),
        DType::U64 => [Inst::Unsigned(0), Inst::Unsigned(u64::MAX)],
        _ => [Inst::Int(least), Inst::Int(most)],
    }
}

/// The bits of an `f32` constant.
pub fn float(value: f32) -> Inst {
    Inst::Float(value.to_bits())
}

/// Operand `i` with its axes stored in `order`, outer to inner; the strides are those of its own axes. Constants are packed so, others copied.
pub fn packed(cx: &mut Lowering<'_>, i: usize, order: &[usize]) -> Result<View, OpError> {
    let ty = cx.operand_type(i).clone();
    let mut strides = vec![0i64; order.len()];
    let mut step = 1;
    for axis in order.iter().rev() {
        strides[*axis] = step as i64;
        step *= ty.shape[*axis];
    }
    let Some(constant) = cx.constant(i).cloned() else {
        let from = View::operand(cx, i)?;
        let view = cx.temp("packed", ty.clone(), AxisOrder::RowMajor);
        let to = View { strides, ..View::of(cx, view) };
        copy(
            cx,
            "pack",
            &ty.shape,
            &from,
            Affine::new(0, from.strides.clone()),
            &to,
            Affine::new(0, to.strides.clone()),
        );
        return Ok(to);
    };
    if matches!(constant.payload, Payload::Hash(_)) {
        return Err(OpError::new("constant", "known elements", "only a hash"));
    }
    let packing = Packing::new(ty.shape.to_vec(), Transform::None, packing::Layout::new(order.iter().copied()));
    let id = cx.plan.constant(PackedConstant::packed(constant, packing));
    Ok(View { operand: id.into(), dtype: ty.dtype, shape: ty.shape.to_vec(), strides })
}

#[cfg(test)]
mod tests {
    use super::entries;

    #[test]
    fn indices_beyond_31_bits_are_refused() {
        assert_eq!(entries(&[-1, 0, 2_147_483_647]), Ok(vec![-1, 0, i32::MAX]));
        for index in [1i64 << 31, (1 << 32) + 1, -(1 << 31) - 1] {
            assert_eq!(entries(&[0, index]).unwrap_err().found, index.to_string());
        }
    }
}
