//! Loop nests as data: what every operator without a kernel family of its own becomes.
//!
//! A nest has output axes and, inside of them, reduced axes. Whatever moves with the axes is an [`Affine`] function of their
//! indices: the elements that operands are read and written at, the entries of index tables, the tests for padding. Three small
//! programs compute: `init` the start of an output element, `body` one term per point of the reduced axes, which [`Combine`] takes
//! up in ascending order of those axes (long sums in blocks, see `kernels/sums.rs`), and `finish` the element that is stored. The
//! order of accumulation is part of the nest; the order of output axes is not, since every output element is computed on its own.
//!
//! In: nests as operators write them. Out, after [`LoopNest::simplify`]: as few axes as possible, the output axis of the smallest
//! stride innermost, no test that always holds.

mod bounds;
mod inline;
mod kinds;
mod order;
mod print;
mod row_copy;

pub use row_copy::RowCopy;

use crate::codegen::Element;
use crate::codegen::elements::widens;
use fornax_ir::scalar::BinaryFn::{self, Add, And, Div, Fmod, Max, Min, Mod, Mul, Or, Pow, Prelu, Sub, Xor};
use fornax_ir::scalar::UnaryFn::{self, Abs, Clip, IsNan, Neg, Not, Relu, Sign};
use fornax_ir::types::DType;

/// Virtual lanes of a sum.
pub(super) const LANES: usize = 16;

/// `base + sum of strides[d] * index[d]`
#[derive(Clone, PartialEq, Eq, Hash, Debug, Default)]
pub struct Affine {
    /// Value where every index is 0.
    pub base: i64,
    /// Step along each axis of the nest.
    pub strides: Vec<i64>,
}

impl Affine {
    /// The function of these coefficients.
    pub fn new(base: i64, strides: impl Into<Vec<i64>>) -> Self {
        Self { base, strides: strides.into() }
    }

    /// Smallest and largest value over an index space without empty axes.
    fn range(&self, extents: &[usize]) -> (i64, i64) {
        let mut range = (self.base, self.base);
        for (stride, extent) in self.strides.iter().zip(extents) {
            let reach = stride * (*extent as i64 - 1);
            range = (range.0 + reach.min(0), range.1 + reach.max(0));
        }
        range
    }
}

/// An operand that is read.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Input {
    /// Its name as a kernel argument.
    pub name: &'static str,
    /// Element type.
    pub dtype: DType,
    /// Elements that may be read, from its pointer on.
    pub elements: usize,
    /// Element that is read, before lookups.
    pub at: Affine,
    /// Tables whose entry, times a factor, is added to the element.
    pub lookups: Vec<(usize, i64)>,
}

/// What an entry of a table stands for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Entry {
    /// A coordinate; a negative one leaves out everything that depends on it.
    Skip,
    /// An index into an axis of this extent: negative counts from the end, then it is clamped into the axis.
    Wrap(usize),
}

/// An index table: a packed constant, or an index tensor.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct IndexTable {
    /// Its name as a kernel argument.
    pub name: &'static str,
    /// `i32` or `i64`.
    pub dtype: DType,
    /// Entries that may be read, from its pointer on.
    pub elements: usize,
    /// Entry that is read.
    pub at: Affine,
    /// What it stands for.
    pub entry: Entry,
}

/// A test: points where not `0 <= at < below` contribute nothing.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Guard {
    /// The coordinate.
    pub at: Affine,
    /// Extent of the axis it must lie in.
    pub below: usize,
}

/// The operand that is written.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Output {
    /// Element type.
    pub dtype: DType,
    /// Elements of the operand.
    pub elements: usize,
    /// Element that is written; strides along reduced axes are 0.
    pub at: Affine,
}

/// Value of an earlier instruction of a program, by position.
pub type Id = usize;

/// A scalar instruction. Values are `f32`, `f64`, or integers held in 64 bits (bool as 0 and 1) in the order of their type; `u64` is a kind of
/// its own, as no `i64` has its order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Inst {
    /// The element of an input. `f16` and `bf16` are widened to `f32`.
    Load(usize),
    /// An `f32`, by its bits.
    Float(u32),
    /// An `f64`, by its bits.
    Double(u64),
    /// An integer.
    Int(i64),
    /// A `u64`.
    Unsigned(u64),
    /// The accumulated value (`finish` only).
    Accumulated,
    /// The position that an [`Combine::Arg`] found (`finish` only).
    Position,
    /// A function of one value; of integers [`UnaryFn::Relu`], `Clip`, `Abs`, `Sign`, `Neg`, `Not`.
    Unary(UnaryFn, Id),
    /// A function of two values of one kind.
    Binary(BinaryFn, Id, Id),
    /// `a * b + c`, rounded once; of `f64` twice, as not every machine has that instruction.
    Fma(Id, Id, Id),
    /// The second value where the first is not 0, else the third.
    Select(Id, Id, Id),
    /// An integer or an `f64` rounded to `f32`.
    ToFloat(Id),
    /// An integer rounded to `f64`, or an `f32`.
    ToDouble(Id),
    /// An `f32` or `f64` truncated towards zero and saturated to an integer type; NaN becomes 0. To bool: whether it differs from 0.
    ToInt(DType, Id),
    /// An integer wrapped to an integer type. To bool: whether it differs from 0.
    Wrap(DType, Id),
}

/// Straight-line code; the value of the last instruction is the result.
pub type Program = Vec<Inst>;

/// How terms are taken up.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Combine {
    /// The last term counts; without terms, `init`.
    Last,
    /// `accumulated + term`
    Sum,
    /// `accumulated + a * b`, rounded as [`Inst::Fma`] is, of the last two values of `body`
    SumProduct,
    /// The larger; a NaN wins.
    Max,
    /// The smaller; a NaN wins.
    Min,
    /// `accumulated * term`
    Prod,
    /// The largest or smallest term and its position along the reduced axes.
    Arg {
        /// Smallest instead of largest.
        min: bool,
        /// Whether the last of equal terms wins.
        last: bool,
    },
}

/// A loop nest.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct LoopNest {
    /// Extents of the axes, outer to inner.
    pub extents: Vec<usize>,
    /// How many of them, the last, are reduced.
    pub reduced: usize,
    /// Operands that are read.
    pub inputs: Vec<Input>,
    /// Index tables.
    pub tables: Vec<IndexTable>,
    /// Tests for padding.
    pub guards: Vec<Guard>,
    /// The operand that is written.
    pub output: Output,
    /// Position along the reduced axes, for [`Combine::Arg`].
    pub position: Affine,
    /// The start of an output element; may be empty if `combine` is [`Combine::Last`] and nothing is left out.
    pub init: Program,
    /// A term.
    pub body: Program,
    /// How terms are taken up.
    pub combine: Combine,
    /// The element that is stored; empty: the accumulated value.
    pub finish: Program,
}

/// How chunks cut the output axes: one chunk is one index of the first `outer` axes and `block` indices of the next axis.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Split {
    /// Axes outside of the blocked one.
    pub outer: usize,
    /// Indices of the blocked axis in one chunk.
    pub block: usize,
}

impl LoopNest {
    /// A nest that stores `body` at every index of `extents`: an element-wise function or a copy. Operands are added afterwards.
    pub fn map(extents: &[usize], output: Output, body: Program) -> Self {
        Self {
            extents: extents.to_vec(),
            reduced: 0,
            inputs: Vec::new(),
            tables: Vec::new(),
            guards: Vec::new(),
            output,
            position: Affine::new(0, vec![0; extents.len()]),
            init: Vec::new(),
            body,
            combine: Combine::Last,
            finish: Vec::new(),
        }
    }

    /// Adds an operand that is read; its number for [`Inst::Load`].
    pub fn input(&mut self, name: &'static str, dtype: DType, elements: usize, at: Affine) -> usize {
        self.inputs.push(Input { name, dtype, elements, at, lookups: Vec::new() });
        self.inputs.len() - 1
    }

    /// Number of output axes.
    pub fn outputs(&self) -> usize {
        self.extents.len() - self.reduced
    }

    /// Points of the index space; saturates.
    pub fn points(&self) -> usize {
        self.extents.iter().fold(1, |product, extent| product.saturating_mul(*extent))
    }

    /// Whether points can be left out.
    pub fn skips(&self) -> bool {
        !self.guards.is_empty() || self.tables.iter().any(|table| table.entry == Entry::Skip)
    }

    /// Every affine function, the output's first.
    fn affines(&self) -> impl Iterator<Item = &Affine> {
        let inputs = self.inputs.iter().map(|x| &x.at);
        let tests = self.tables.iter().map(|t| &t.at).chain(self.guards.iter().map(|g| &g.at));
        [&self.output.at, &self.position].into_iter().chain(inputs).chain(tests)
    }

    fn affines_mut(&mut self) -> impl Iterator<Item = &mut Affine> {
        let inputs = self.inputs.iter_mut().map(|x| &mut x.at);
        let tests = self.tables.iter_mut().map(|t| &mut t.at).chain(self.guards.iter_mut().map(|g| &mut g.at));
        [&mut self.output.at, &mut self.position].into_iter().chain(inputs).chain(tests)
    }

    /// The same computation with fewer axes and tests; see the module's invariant. There is at least one output axis afterwards.
    pub fn simplify(mut self) -> Self {
        debug_assert!(self.affines().all(|a| a.strides.len() == self.extents.len()), "one stride per axis");
        if !self.extents.contains(&0) {
            let extents = self.extents.clone();
            self.guards.retain(|guard| {
                let (low, high) = guard.at.range(&extents);
                low < 0 || high >= guard.below as i64
            });
        }
        for axis in (0..self.extents.len()).rev().filter(|axis| self.extents[*axis] == 1).collect::<Vec<_>>() {
            self.remove(axis);
        }
        self.sort_outputs();
        if self.outputs() == 0 && matches!(self.combine, Combine::Max | Combine::Min) {
            self.sort_reduced();
        }
        for axis in (1..self.extents.len()).rev() {
            if axis != self.outputs() {
                self.merge(axis);
            }
        }
        if self.outputs() == 0 {
            self.extents.insert(0, 1);
            self.affines_mut().for_each(|a| a.strides.insert(0, 0));
        }
        self
    }

    fn remove(&mut self, axis: usize) {
        if axis >= self.outputs() {
            self.reduced -= 1;
        }
        self.extents.remove(axis);
        self.affines_mut().for_each(|a| {
            a.strides.remove(axis);
        });
    }

    /// Puts output axes in the order of the memory that is written.
    fn sort_outputs(&mut self) {
        let mut order: Vec<usize> = (0..self.extents.len()).collect();
        let outputs = self.outputs();
        order[..outputs].sort_by_key(|axis| std::cmp::Reverse(self.output.at.strides[*axis].unsigned_abs()));
        self.extents = order.iter().map(|axis| self.extents[*axis]).collect();
        self.affines_mut().for_each(|a| a.strides = order.iter().map(|axis| a.strides[*axis]).collect());
    }

    /// Puts the axes of a nest without output axes in the order of the memory that its first input is read from: the extreme of all elements is
    /// that in any order.
    fn sort_reduced(&mut self) {
        let Some(first) = self.inputs.first() else { return };
        let mut order: Vec<usize> = (0..self.extents.len()).collect();
        order.sort_by_key(|axis| std::cmp::Reverse(first.at.strides[*axis].unsigned_abs()));
        self.extents = order.iter().map(|axis| self.extents[*axis]).collect();
        self.affines_mut().for_each(|a| a.strides = order.iter().map(|axis| a.strides[*axis]).collect());
    }

    /// Makes `axis` and the one outside of it one axis, if everything moves along both as along one.
    fn merge(&mut self, axis: usize) {
        let extent = self.extents[axis] as i64;
        if self.affines().all(|a| Some(a.strides[axis - 1]) == a.strides[axis].checked_mul(extent)) {
            self.extents[axis - 1] = self.extents[axis - 1].saturating_mul(self.extents[axis]);
            let inner: Vec<i64> = self.affines().map(|a| a.strides[axis]).collect();
            self.affines_mut().zip(inner).for_each(|(a, stride)| a.strides[axis - 1] = stride);
            self.remove(axis);
        }
    }

    /// The lanes in which vectors are computed: of 64 bits if an `f64` is anywhere, whatever else is there. Values of 32 bits fill the lower half then.
    pub fn lane(&self) -> Element {
        let doubles =
            |program: &Program| program.iter().any(|inst| matches!(inst, Inst::Double(_) | Inst::ToDouble(_)));
        let computed = [&self.init, &self.body, &self.finish].into_iter().any(doubles);
        let stored = self.inputs.iter().map(|x| x.dtype).chain([self.output.dtype]).any(|dtype| dtype == DType::F64);
        if computed || stored { Element::F64 } else { Element::F32 }
    }

    /// Whether consecutive elements along the innermost output axis can be computed in vectors, of lanes of [`Self::lane`].
    pub fn vectorises(&self) -> bool {
        let axis = self.outputs() - 1;
        let results = [&self.init, &self.body, &self.finish].map(|program| self.lanes(program));
        let ordered = matches!(self.combine, Combine::Last | Combine::Max | Combine::Min);
        // Integers are summed in 64 bits.
        let combines =
            ordered || results[1].is_some_and(Kind::is_float) && !matches!(self.combine, Combine::Arg { .. });
        fits_lanes(self.output.dtype)
            && self.extents[axis] > 1
            && self.output.at.strides[axis] == 1
            && self.inputs.iter().all(|x| fits_lanes(x.dtype) && matches!(x.at.strides[axis], 0 | 1))
            && self.tables.iter().all(|t| t.at.strides[axis] == 0)
            && self.guards.iter().all(|g| g.at.strides[axis] == 0)
            && results.iter().all(Option::is_some)
            && combines
    }

    /// Whether output elements are summed up in vectors along the innermost reduced axis. The order of such a sum is that of
    /// `rows`, so this is a function of the nest alone.
    pub fn sums_in_lanes(&self) -> bool {
        let axis = self.extents.len() - 1;
        let dense = |x: &Input| fits_lanes(x.dtype) && matches!(x.at.strides[axis], 0 | 1);
        self.reduced > 0
            && self.extents[axis] >= LANES
            && !matches!(self.combine, Combine::Last | Combine::Arg { .. })
            && !self.vectorises()
            && self.inputs.iter().all(dense)
            && self.tables.iter().all(|t| t.at.strides[axis] == 0)
            && self.guards.iter().all(|g| g.at.strides[axis] == 0)
            && self.lane() == Element::F32
            && self.lanes(&self.body) == Some(Kind::Float)
    }

    /// The kind of a program's result, if 32-bit lanes hold all its values.
    fn lanes(&self, program: &Program) -> Option<Kind> {
        let mut kinds: Vec<Kind> = Vec::with_capacity(program.len());
        let accumulated = || self.lanes(&self.body);
        for inst in program {
            let floats = |ids: &[Id]| ids.iter().all(|id| kinds[*id].is_float());
            let alike = |a: &Id, b: &Id| kinds[*a] == kinds[*b];
            let kind = match inst {
                Inst::Load(x) => Kind::of(self.inputs[*x].dtype),
                Inst::Float(_) => Kind::Float,
                Inst::Double(_) => Kind::Double,
                Inst::Int(v) => i32::try_from(*v).ok().map(|_| Kind::Int)?,
                Inst::Accumulated => accumulated()?,
                Inst::Unary(IsNan, a) if floats(&[*a]) => Kind::Int,
                Inst::Unary(f, a) if floats(&[*a]) && *f != Not => kinds[*a],
                Inst::Unary(Not | Relu | Clip(..) | Abs | Neg | Sign, a) if !floats(&[*a]) => Kind::Int,
                Inst::Binary(f, a, b) if alike(a, b) && f.is_comparison() => Kind::Int,
                // Of these a loop runs as often as the element says.
                Inst::Binary(Mod | Fmod, a, _) if kinds[*a] == Kind::Double => return None,
                Inst::Binary(Add | Sub | Mul | Min | Max | Div | Prelu | Pow | Mod | Fmod, a, b)
                    if floats(&[*a, *b]) =>
                {
                    kinds[*a]
                }
                // Sums and products are right in their low bits, and wrapped before anything else looks at them.
                Inst::Binary(Add | Sub | Mul | Min | Max | And | Or | Xor, a, b)
                    if !floats(&[*a]) && !floats(&[*b]) =>
                {
                    Kind::Int
                }
                Inst::Fma(a, b, c) if floats(&[*a, *b, *c]) => kinds[*a],
                Inst::Select(c, a, b) if !floats(&[*c]) && alike(a, b) => kinds[*a],
                Inst::ToFloat(_) => Kind::Float,
                Inst::ToDouble(_) => Kind::Double,
                Inst::ToInt(dtype, _) | Inst::Wrap(dtype, _) if fits_lanes(*dtype) => Kind::Int,
                _ => return None,
            };
            kinds.push(kind);
        }
        Some(kinds.last().copied().unwrap_or(Kind::Float))
    }
}

/// What a value of a program is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Kind {
    Float,
    Double,
    Int,
    Unsigned,
}

impl Kind {
    fn is_float(self) -> bool {
        matches!(self, Self::Float | Self::Double)
    }
}

/// Whether lanes of vectors hold elements of `dtype`.
fn fits_lanes(dtype: DType) -> bool {
    use DType::{Bool, F64, I8, I16, I32, U8, U16};
    widens(dtype) || matches!(dtype, F64 | I8 | U8 | Bool | I16 | U16 | I32)
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn copy(extents: &[usize], from: &[i64], to: &[i64]) -> LoopNest {
        let output = Output { dtype: DType::F32, elements: 1 << 40, at: Affine::new(0, to) };
        let mut nest = LoopNest::map(extents, output, vec![Inst::Load(0)]);
        nest.input("x", DType::F32, 1 << 40, Affine::new(0, from));
        nest
    }

    #[test]
    fn dense_axes_become_one_and_vectorise() {
        let nest = copy(&[2, 1, 3, 4], &[12, 7, 4, 1], &[12, 12, 4, 1]).simplify();
        assert_eq!(nest.extents, [24]);
        assert!(nest.vectorises());
    }

    #[test]
    fn a_layout_change_keeps_the_written_order_innermost() {
        let nest = copy(&[2, 3, 5, 7], &[105, 35, 7, 1], &[105, 1, 21, 3]).simplify();
        assert_eq!(nest.extents, [2, 35, 3]);
        assert_eq!(nest.output.at.strides, [105, 3, 1]);
        assert_eq!(nest.inputs[0].at.strides, [105, 1, 35]);
        assert!(!nest.vectorises());
    }

    /// Of a channel-last map, as of a row-major one; a sum keeps its order.
    #[test]
    fn the_extreme_of_all_elements_is_found_as_they_lie() {
        let nest = |combine, inner: &[i64]| {
            let output = Output { dtype: DType::F32, elements: 1, at: Affine::new(0, vec![0; 4]) };
            let mut nest = LoopNest::map(&[1, 5, 3, 4], output, vec![Inst::Load(0)]);
            nest.input("x", DType::F32, 60, Affine::new(0, inner));
            LoopNest { reduced: 4, combine, init: vec![Inst::Float(0)], ..nest }.simplify()
        };
        for inner in [[60, 1, 20, 5], [60, 12, 4, 1]] {
            let max = nest(Combine::Max, &inner);
            assert_eq!((max.extents.clone(), max.sums_in_lanes()), (vec![1, 60], true));
        }
        assert_eq!(nest(Combine::Sum, &[60, 1, 20, 5]).extents, [1, 5, 12]);
    }

    #[test]
    fn tests_that_always_hold_disappear() {
        let mut nest = copy(&[4, 4], &[4, 1], &[4, 1]);
        nest.guards.push(Guard { at: Affine::new(0, [1, 0]), below: 4 });
        nest.guards.push(Guard { at: Affine::new(-1, [0, 1]), below: 4 });
        let nest = nest.simplify();
        assert_eq!(nest.guards.len(), 1);
        assert_eq!(nest.extents, [4, 4], "the remaining test tells the axes apart");
    }
}
