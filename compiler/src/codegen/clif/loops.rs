//! Loop nests in CLIF.
//!
//! In: a simplified [`LoopNest`] and its cut into chunks. Out: the body of a kernel. Everything that moves with the axes is a cursor, a
//! pointer or a coordinate that each loop carries and steps, so that no index is multiplied inside a loop. The innermost output axis
//! runs in vectors where the nest allows it: blocks of [`BLOCK`] vectors with one accumulator each where terms are summed up, then
//! single vectors, then single elements; all three compute the same bits. Values of one element type live in slices with one
//! register per vector, or a single one if all of them are equal.

mod point;

use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{Block, BlockArg, InstBuilder, Value, types};

use super::ClifEmitter;
use crate::codegen::loops::{Affine, Entry, LoopNest, Split};
use fornax_ir::types::DType;

/// Vectors of an unrolled block: enough independent sums to hide the latency of a multiply-add.
const BLOCK: usize = 4;

/// Vectors of an unrolled block without sums: enough to load the constants of a function half as often.
const PAIR: usize = 2;

/// How often a loop runs.
#[derive(Clone, Copy)]
enum Times {
    Constant(usize),
    /// At least once.
    Runtime(Value),
}

/// How many elements along the innermost output axis are computed at once: `vectors` vectors of 4, or one element.
#[derive(Clone, Copy, PartialEq)]
pub(crate) struct Width {
    pub(crate) vectors: usize,
    pub(crate) lanes: usize,
}

impl Width {
    const ELEMENT: Self = Self { vectors: 1, lanes: 1 };

    fn elements(self) -> usize {
        self.vectors * self.lanes
    }
}

/// Where the cursors of a nest stand in [`Loops::steps`] and [`State::at`].
#[derive(Clone, Copy)]
struct Places {
    position: usize,
    inputs: usize,
    tables: usize,
    guards: usize,
}

/// The cursors at one point of the code, and whether that point takes part (`None`: it does).
#[derive(Clone)]
struct State {
    at: Vec<Value>,
    inside: Option<Value>,
}

/// A nest that is being written.
struct Loops<'e, 'b> {
    e: &'e mut ClifEmitter<'b>,
    nest: &'e LoopNest,
    split: Split,
    places: Places,
    /// Step of each cursor along each axis: bytes, or units of a coordinate.
    steps: Vec<Vec<i64>>,
}

/// Writes the kernel of a nest.
pub(super) fn emit(e: &mut ClifEmitter<'_>, nest: &LoopNest, split: Split) {
    if nest.chunks(split) == 0 {
        return;
    }
    let scaled = |at: &Affine, by: usize| at.strides.iter().map(|s| s * by as i64).collect::<Vec<_>>();
    let mut steps = vec![scaled(&nest.output.at, nest.output.dtype.size()), scaled(&nest.position, 1)];
    let inputs = steps.len();
    steps.extend(nest.inputs.iter().map(|x| scaled(&x.at, x.dtype.size())));
    let tables = steps.len();
    steps.extend(nest.tables.iter().map(|t| scaled(&t.at, t.dtype.size())));
    let guards = steps.len();
    steps.extend(nest.guards.iter().map(|g| scaled(&g.at, 1)));
    let places = Places { position: 1, inputs, tables, guards };
    Loops { e, nest, split, places, steps }.chunks();
}

impl Loops<'_, '_> {
    fn int(&mut self, value: i64) -> Value {
        self.e.builder.ins().iconst(types::I64, value)
    }

    fn plus(&mut self, value: Value, by: i64) -> Value {
        if by == 0 { value } else { self.e.builder.ins().iadd_imm_s(value, by) }
    }

    /// Every cursor where all indices are 0.
    fn origin(&mut self) -> Vec<Value> {
        let nest = self.nest;
        let mut argument = 0;
        let mut pointer = |this: &mut Self, base: i64, dtype: DType| {
            let r = this.e.pointer_value(argument);
            argument += 1;
            this.plus(r, base * dtype.size() as i64)
        };
        let inputs: Vec<Value> = nest.inputs.iter().map(|x| pointer(self, x.at.base, x.dtype)).collect();
        let tables: Vec<Value> = nest.tables.iter().map(|t| pointer(self, t.at.base, t.dtype)).collect();
        let output = pointer(self, nest.output.at.base, nest.output.dtype);
        let position = self.int(nest.position.base);
        let guards: Vec<Value> = nest.guards.iter().map(|g| self.int(g.at.base)).collect();
        [vec![output, position], inputs, tables, guards].concat()
    }

    /// The outermost loop: over chunks.
    fn chunks(mut self) {
        let origin = self.origin();
        let (begin, end) = self.e.chunk_range();
        let some = self.e.builder.ins().icmp(IntCC::UnsignedLessThan, begin, end);
        let count = self.e.builder.ins().isub(end, begin);
        let mut this = self;
        this.when(some, Vec::new(), |this| {
            this.repeat(Times::Runtime(count), vec![begin], |this, carried| {
                let next = this.plus(carried[0], 1);
                this.chunk(&origin, carried[0]);
                vec![next]
            });
            Vec::new()
        });
    }

    /// One chunk: from its number to its place on the outer axes and the blocked one.
    fn chunk(&mut self, origin: &[Value], number: Value) {
        let Split { outer, block } = self.split;
        let extent = self.nest.extents[outer];
        let blocks = extent.div_ceil(block);
        let mut state = State { at: origin.to_vec(), inside: None };
        let (mut rest, at_block) = self.div_rem(number, blocks);
        for axis in (0..outer).rev() {
            let (next, index) = self.div_rem(rest, self.nest.extents[axis]);
            rest = next;
            self.advance(&mut state, axis, index);
        }
        let start = self.e.builder.ins().imul_imm_s(at_block, block as i64);
        self.advance(&mut state, outer, start);
        self.resolve(&mut state, None);
        (0..outer).for_each(|axis| self.resolve(&mut state, Some(axis)));
        let times = if extent.is_multiple_of(block) {
            Times::Constant(block)
        } else {
            let whole = self.int(block as i64);
            let end = self.int(extent as i64);
            let left = self.e.builder.ins().isub(end, start);
            Times::Runtime(self.e.builder.ins().smin(whole, left))
        };
        self.outputs(outer, state, times);
    }

    fn div_rem(&mut self, value: Value, by: usize) -> (Value, Value) {
        if by == 1 {
            let zero = self.int(0);
            return (value, zero);
        }
        let by = self.int(by as i64);
        let quotient = self.e.builder.ins().udiv(value, by);
        let product = self.e.builder.ins().imul(quotient, by);
        (quotient, self.e.builder.ins().isub(value, product))
    }

    /// Moves every cursor by `index` steps of an axis.
    fn advance(&mut self, state: &mut State, axis: usize, index: Value) {
        for (cursor, steps) in self.steps.iter().enumerate() {
            if steps[axis] != 0 {
                let by = self.e.builder.ins().imul_imm_s(index, steps[axis]);
                state.at[cursor] = self.e.builder.ins().iadd(state.at[cursor], by);
            }
        }
    }

    /// Reads the tables and makes the tests that are settled once the index of `axis` is known; `None`: those that no axis moves.
    fn resolve(&mut self, state: &mut State, axis: Option<usize>) {
        let nest = self.nest;
        let due = |strides: &[i64]| strides.iter().rposition(|s| *s != 0) == axis;
        for (i, table) in nest.tables.iter().enumerate().filter(|(_, t)| due(&t.at.strides)) {
            let entry = self.e.load_element(table.dtype, state.at[self.places.tables + i]);
            let entry = match table.entry {
                Entry::Skip => {
                    let inside = self.e.builder.ins().icmp_imm_s(IntCC::SignedGreaterThanOrEqual, entry, 0);
                    self.require(state, inside);
                    entry
                }
                Entry::Wrap(extent) => self.wrap(entry, extent),
            };
            for (k, input) in nest.inputs.iter().enumerate() {
                for (_, factor) in input.lookups.iter().filter(|(table, _)| *table == i) {
                    let by = self.e.builder.ins().imul_imm_s(entry, factor * input.dtype.size() as i64);
                    let cursor = &mut state.at[self.places.inputs + k];
                    *cursor = self.e.builder.ins().iadd(*cursor, by);
                }
            }
        }
        for (i, guard) in nest.guards.iter().enumerate().filter(|(_, g)| due(&g.at.strides)) {
            let below = self.int(guard.below as i64);
            let inside = self.e.builder.ins().icmp(IntCC::UnsignedLessThan, state.at[self.places.guards + i], below);
            self.require(state, inside);
        }
    }

    fn require(&mut self, state: &mut State, inside: Value) {
        state.inside = Some(match state.inside {
            Some(before) => self.e.builder.ins().band(before, inside),
            None => inside,
        });
    }

    /// An index into an axis: counted from the end where negative, then clamped.
    fn wrap(&mut self, entry: Value, extent: usize) -> Value {
        let from_end = self.plus(entry, extent as i64);
        let negative = self.e.builder.ins().icmp_imm_s(IntCC::SignedLessThan, entry, 0);
        let index = self.e.builder.ins().select(negative, from_end, entry);
        let (first, last) = (self.int(0), self.int(extent as i64 - 1));
        let index = self.e.builder.ins().smax(index, first);
        self.e.builder.ins().smin(index, last)
    }

    /// The loops over output axes from `axis` on; `times` bounds the first of them.
    fn outputs(&mut self, axis: usize, state: State, times: Times) {
        if axis + 1 == self.nest.outputs() {
            self.innermost(state, times);
            return;
        }
        let inner = Times::Constant(self.nest.extents[axis + 1]);
        self.walk(axis, 1, times, state, Vec::new(), |this, mut state, _| {
            this.resolve(&mut state, Some(axis));
            this.outputs(axis + 1, state, inner);
            Vec::new()
        });
    }

    /// The loops over the innermost output axis, from wide to narrow.
    fn innermost(&mut self, state: State, times: Times) {
        let axis = self.nest.outputs() - 1;
        let mut widths = vec![Width::ELEMENT];
        if self.nest.vectorises() {
            widths.insert(0, Width { vectors: 1, lanes: 4 });
            let vectors = if self.nest.reduced > 0 { BLOCK } else { PAIR };
            widths.insert(0, Width { vectors, lanes: 4 });
        }
        let (mut state, mut left) = (state, times);
        for width in widths {
            let (whole, rest) = self.divide(left, width.elements());
            let some = match whole {
                Times::Constant(_) => None,
                Times::Runtime(count) => Some(self.e.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, count, 0)),
            };
            let before = state.clone();
            let after = self.when_some(some, before.at.clone(), |this| {
                let (after, _) = this.walk(axis, width.elements(), whole, before, Vec::new(), |this, mut state, _| {
                    this.resolve(&mut state, Some(axis));
                    this.point(&state, width);
                    Vec::new()
                });
                after.at
            });
            state.at = after;
            left = rest;
        }
    }

    /// How many times `by` fits, and what is left.
    fn divide(&mut self, times: Times, by: usize) -> (Times, Times) {
        match times {
            Times::Constant(count) => (Times::Constant(count / by), Times::Constant(count % by)),
            Times::Runtime(count) if by == 1 => (Times::Runtime(count), Times::Constant(0)),
            Times::Runtime(count) => {
                let (whole, rest) = self.div_rem(count, by);
                (Times::Runtime(whole), Times::Runtime(rest))
            }
        }
    }

    /// A loop along `axis` that moves the cursors by `stride` indices each time and carries `sums`; their last values.
    fn walk(
        &mut self,
        axis: usize,
        stride: usize,
        times: Times,
        state: State,
        sums: Vec<Value>,
        mut body: impl FnMut(&mut Self, State, Vec<Value>) -> Vec<Value>,
    ) -> (State, Vec<Value>) {
        let moving: Vec<(usize, i64)> = (0..self.steps.len())
            .map(|cursor| (cursor, self.steps[cursor][axis] * stride as i64))
            .filter(|(_, step)| *step != 0)
            .collect();
        let carried = moving.iter().map(|(cursor, _)| state.at[*cursor]).chain(sums).collect();
        let place = |values: &[Value]| {
            let mut state = state.clone();
            moving.iter().zip(values).for_each(|((cursor, _), value)| state.at[*cursor] = *value);
            state
        };
        let last = self.repeat(times, carried, |this, values| {
            let sums = body(this, place(values), values[moving.len()..].to_vec());
            let next = moving.iter().zip(values).map(|((_, step), value)| this.plus(*value, *step));
            next.collect::<Vec<_>>().into_iter().chain(sums).collect()
        });
        (place(&last), last[moving.len()..].to_vec())
    }

    /// Runs `body` as often as `times` says, handing on the values it returns; the last ones.
    fn repeat(
        &mut self,
        times: Times,
        carried: Vec<Value>,
        mut body: impl FnMut(&mut Self, &[Value]) -> Vec<Value>,
    ) -> Vec<Value> {
        let count = match times {
            Times::Constant(0) => return carried,
            Times::Constant(1) => return body(self, &carried),
            Times::Constant(count) => self.int(count as i64),
            Times::Runtime(count) => count,
        };
        let (head, exit) = (self.e.builder.create_block(), self.e.builder.create_block());
        let left = self.e.builder.append_block_param(head, types::I64);
        let inside = self.parameters(head, &carried);
        let outside = self.parameters(exit, &carried);
        let entry = arguments(&[&[count], carried.as_slice()].concat());
        self.e.builder.ins().jump(head, &entry);
        self.e.builder.switch_to_block(head);
        let next = body(self, &inside);
        let left = self.plus(left, -1);
        let again = arguments(&[&[left], next.as_slice()].concat());
        self.e.builder.ins().brif(left, head, &again, exit, &arguments(&next));
        self.e.builder.seal_block(head);
        self.e.builder.seal_block(exit);
        self.e.builder.switch_to_block(exit);
        outside
    }

    /// The values `then` returns where `condition` holds, else `otherwise`.
    fn when(
        &mut self,
        condition: Value,
        otherwise: Vec<Value>,
        then: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        let (yes, exit) = (self.e.builder.create_block(), self.e.builder.create_block());
        let outside = self.parameters(exit, &otherwise);
        self.e.builder.ins().brif(condition, yes, &[], exit, &arguments(&otherwise));
        self.e.builder.seal_block(yes);
        self.e.builder.switch_to_block(yes);
        let values = then(self);
        self.e.builder.ins().jump(exit, &arguments(&values));
        self.e.builder.seal_block(exit);
        self.e.builder.switch_to_block(exit);
        outside
    }

    /// As [`Self::when`], unconditionally without a condition.
    fn when_some(
        &mut self,
        condition: Option<Value>,
        otherwise: Vec<Value>,
        then: impl FnOnce(&mut Self) -> Vec<Value>,
    ) -> Vec<Value> {
        match condition {
            Some(condition) => self.when(condition, otherwise, then),
            None => then(self),
        }
    }

    /// Block parameters of the types of `values`.
    fn parameters(&mut self, block: Block, values: &[Value]) -> Vec<Value> {
        let types: Vec<_> = values.iter().map(|v| self.e.builder.func.dfg.value_type(*v)).collect();
        types.into_iter().map(|ty| self.e.builder.append_block_param(block, ty)).collect()
    }
}

fn arguments(values: &[Value]) -> Vec<BlockArg> {
    values.iter().map(|value| BlockArg::Value(*value)).collect()
}
