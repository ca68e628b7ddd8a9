//! The loops of a nest.
//!
//! In: a simplified [`LoopNest`] and its cut into chunks. Out: the body of a kernel, the same for every machine. Everything that moves
//! with the axes is a cursor, a pointer or a coordinate in a register that each loop steps, so that no index is multiplied inside a loop;
//! after a loop its cursors stand where they stood before it. The innermost output axis runs in blocks of several vectors, then in single
//! ones, then in a partial one; what happens at a point is in [`super::point`]. All of them compute the same bits.

use super::nest::{Affine, Combine, Entry, LoopNest, Split};
use crate::codegen::{Cmp, Count, Emitter, IntOp, R};

/// How often a loop runs.
#[derive(Clone, Copy)]
pub(super) enum Times {
    Constant(usize),
    /// As often as a register says.
    Register(R),
}

/// How the innermost output axis is computed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Mode {
    /// In vectors along it.
    Vectors,
    /// Element by element, each sum in vectors along the innermost reduced axis.
    Rows,
    /// Element by element.
    Elements,
    /// In squares that are transposed: [`LoopNest::transposed`].
    Squares,
}

/// How many points along the innermost output axis are computed at once.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Width {
    /// Vectors, or elements if not in vectors.
    pub vectors: usize,
    /// Lanes of a vector, 1 for elements.
    pub lanes: usize,
    /// Lanes that exist; fewer than there are in a partial vector.
    pub exist: usize,
}

impl Width {
    /// Points on the axis.
    fn points(self) -> usize {
        self.vectors * self.exist
    }
}

/// Where the cursors of a nest stand in [`Nest::steps`] and [`State::at`].
const OUTPUT: usize = 0;
pub(super) const POSITION: usize = 1;
pub(super) const INPUTS: usize = 2;

/// The cursors at one point of the code, and whether that point takes part (`None`: it does).
#[derive(Clone)]
pub(super) struct State {
    pub at: Vec<R>,
    pub inside: Option<R>,
}

impl State {
    pub fn output(&self) -> R {
        self.at[OUTPUT]
    }
}

/// A nest that is being written.
pub(super) struct Nest<'n> {
    pub nest: &'n LoopNest,
    split: Split,
    pub mode: Mode,
    /// Step of each cursor along each axis: bytes, or units of a coordinate.
    pub steps: Vec<Vec<i64>>,
}

/// Writes the kernel of a nest.
pub(super) fn emit(e: &mut dyn Emitter, nest: &LoopNest, split: Split) {
    if nest.chunks(split) == 0 {
        return;
    }
    let squares = nest.transposed().is_some();
    let arranged = nest.arranged();
    let nest = arranged.as_ref().unwrap_or(nest);
    let scaled = |at: &Affine, by: usize| at.strides.iter().map(|s| s * by as i64).collect::<Vec<_>>();
    let mut steps = vec![scaled(&nest.output.at, nest.output.dtype.size())];
    let counts = usize::from(matches!(nest.combine, Combine::Arg { .. }));
    steps.push(scaled(&nest.position, counts));
    steps.extend(nest.inputs.iter().map(|x| scaled(&x.at, x.dtype.size())));
    steps.extend(nest.tables.iter().map(|t| scaled(&t.at, t.dtype.size())));
    steps.extend(nest.guards.iter().map(|g| scaled(&g.at, 1)));
    let mode = match nest.vectorises() {
        _ if squares => Mode::Squares,
        true => Mode::Vectors,
        false if nest.sums_in_lanes() => Mode::Rows,
        false => Mode::Elements,
    };
    Nest { nest, split, mode, steps }.chunks(e);
}

/// `d = a + b by`
fn add_product(e: &mut dyn Emitter, d: R, b: R, by: i64) {
    let product = e.r();
    e.mul_imm(product, b, by);
    e.add(d, d, product);
    e.free_r(product);
}

impl Nest<'_> {
    pub(super) fn tables(&self) -> usize {
        INPUTS + self.nest.inputs.len()
    }

    fn guards(&self) -> usize {
        self.tables() + self.nest.tables.len()
    }

    /// Every cursor where all indices are 0, in fresh registers.
    fn origin(&self, e: &mut dyn Emitter) -> State {
        let nest = self.nest;
        let mut argument = 0;
        let mut pointer = |e: &mut dyn Emitter, at: &Affine, size: usize| {
            let r = e.pointer(argument);
            argument += 1;
            e.add_imm(r, r, at.base * size as i64);
            r
        };
        let inputs: Vec<R> = nest.inputs.iter().map(|x| pointer(e, &x.at, x.dtype.size())).collect();
        let tables: Vec<R> = nest.tables.iter().map(|t| pointer(e, &t.at, t.dtype.size())).collect();
        let output = pointer(e, &nest.output.at, nest.output.dtype.size());
        let position = match nest.combine {
            Combine::Arg { .. } => e.integer(nest.position.base),
            _ => output,
        };
        let guards: Vec<R> = nest.guards.iter().map(|g| e.integer(g.at.base)).collect();
        State { at: [vec![output, position], inputs, tables, guards].concat(), inside: None }
    }

    /// The outermost loop: over chunks.
    fn chunks(&self, e: &mut dyn Emitter) {
        let (number, count) = (e.r(), e.r());
        e.begin(number);
        e.end(count);
        e.sub(count, count, number);
        e.repeat(Count::Register(count), &mut |e| {
            self.chunk(e, number);
            e.add_imm(number, number, 1);
        });
    }

    /// One chunk: from its number to its place on the outer axes and the blocked one.
    fn chunk(&self, e: &mut dyn Emitter, number: R) {
        let Split { outer, block } = self.split;
        let extent = self.nest.extents[outer];
        let mut state = self.origin(e);
        let rest = e.r();
        e.copy(rest, number);
        let start = self.index(e, rest, extent.div_ceil(block));
        for axis in (0..outer).rev() {
            let index = self.index(e, rest, self.nest.extents[axis]);
            self.advance_by(e, &state, axis, index);
            e.free_r(index);
        }
        e.mul_imm(start, start, block as i64);
        self.advance_by(e, &state, outer, start);
        self.resolve(e, &mut state, None);
        (0..outer).for_each(|axis| self.resolve(e, &mut state, Some(axis)));
        let times = if extent.is_multiple_of(block) {
            Times::Constant(block)
        } else {
            let (left, whole) = (e.integer(extent as i64), e.integer(block as i64));
            e.sub(left, left, start);
            e.min(left, left, whole);
            Times::Register(left)
        };
        self.outputs(e, outer, &state, times);
    }

    /// Takes the index of an axis of this extent off the end of `rest`.
    fn index(&self, e: &mut dyn Emitter, rest: R, extent: usize) -> R {
        let index = e.r();
        match u32::try_from(extent) {
            Ok(1) => e.set(index, 0),
            Ok(extent) => {
                let quotient = e.r();
                e.div_imm(quotient, rest, extent);
                e.mul_imm(index, quotient, i64::from(extent));
                e.sub(index, rest, index);
                e.copy(rest, quotient);
                e.free_r(quotient);
            }
            // There are fewer chunks than that.
            Err(_) => {
                e.copy(index, rest);
                e.set(rest, 0);
            }
        }
        index
    }

    /// Moves every cursor by `index` steps of an axis.
    fn advance_by(&self, e: &mut dyn Emitter, state: &State, axis: usize, index: R) {
        for (cursor, steps) in self.steps.iter().enumerate().filter(|(_, steps)| steps[axis] != 0) {
            add_product(e, state.at[cursor], index, steps[axis]);
        }
    }

    /// As [`Self::advance_by`] for a constant.
    pub(super) fn advance(&self, e: &mut dyn Emitter, state: &State, axis: usize, index: i64) {
        for (cursor, steps) in self.steps.iter().enumerate().filter(|(_, steps)| index * steps[axis] != 0) {
            e.add_imm(state.at[cursor], state.at[cursor], index * steps[axis]);
        }
    }

    /// Reads the tables and makes the tests that are settled once the index of `axis` is known; `None`: those that no axis moves. Cursors
    /// that change get fresh registers.
    pub(super) fn resolve(&self, e: &mut dyn Emitter, state: &mut State, axis: Option<usize>) {
        let nest = self.nest;
        let due = |strides: &[i64]| strides.iter().rposition(|s| *s != 0) == axis;
        for (i, table) in nest.tables.iter().enumerate().filter(|(_, t)| due(&t.at.strides)) {
            let entry = e.r();
            e.load_int(entry, state.at[self.tables() + i].at(0), table.dtype);
            match table.entry {
                Entry::Skip => {
                    let (zero, one, inside) = (e.integer(0), e.integer(1), e.r());
                    e.choose(inside, Cmp::Less, entry, zero, zero, one);
                    require(e, state, inside);
                }
                Entry::Wrap(extent) => wrap(e, entry, extent),
            }
            for (k, input) in nest.inputs.iter().enumerate() {
                for (_, factor) in input.lookups.iter().filter(|(table, _)| *table == i) {
                    let cursor = &mut state.at[INPUTS + k];
                    let moved = e.r();
                    e.copy(moved, *cursor);
                    add_product(e, moved, entry, factor * input.dtype.size() as i64);
                    *cursor = moved;
                }
            }
        }
        for (i, guard) in nest.guards.iter().enumerate().filter(|(_, g)| due(&g.at.strides)) {
            let (zero, one, inside) = (e.integer(0), e.integer(1), e.r());
            // A coordinate is no larger than an axis.
            let below = u32::try_from(guard.below).unwrap_or(u32::MAX);
            e.select_below(inside, state.at[self.guards() + i], below, one, zero);
            require(e, state, inside);
        }
    }

    /// The loops over output axes from `axis` on; `times` bounds the first of them.
    fn outputs(&self, e: &mut dyn Emitter, axis: usize, state: &State, times: Times) {
        if self.mode == Mode::Squares && axis + 2 == self.nest.outputs() {
            return self.squares(e, state, times);
        }
        if axis + 1 == self.nest.outputs() {
            return self.innermost(e, state, times);
        }
        let inner = Times::Constant(self.nest.extents[axis + 1]);
        self.walk(e, axis, times, state, &mut |e, mut state| {
            self.resolve(e, &mut state, Some(axis));
            self.outputs(e, axis + 1, &state, inner);
        });
    }

    /// A loop along `axis`. A constant one leaves the cursors where they were.
    pub(super) fn walk(
        &self,
        e: &mut dyn Emitter,
        axis: usize,
        times: Times,
        state: &State,
        body: &mut dyn FnMut(&mut dyn Emitter, State),
    ) {
        repeat(e, times, &mut |e| {
            body(e, state.clone());
            self.advance(e, state, axis, 1);
        });
        if let Times::Constant(times) = times {
            self.advance(e, state, axis, -(times as i64));
        }
    }

    /// The loops over the innermost output axis, from wide to narrow.
    fn innermost(&self, e: &mut dyn Emitter, state: &State, times: Times) {
        let axis = self.nest.outputs() - 1;
        let (mut left, mut moved) = (times, 0);
        for width in self.widths(e) {
            let points = width.points();
            match left {
                Times::Constant(count) => {
                    let (whole, rest) = (count / points, count % points);
                    let step = if whole > 1 || rest > 0 { points } else { 0 };
                    self.points(e, state, axis, Times::Constant(whole), width, step);
                    (left, moved) = (Times::Constant(rest), moved + whole * step);
                }
                Times::Register(count) => {
                    let (whole, rest) = (e.r(), e.r());
                    e.div_imm(whole, count, points as u32);
                    e.mul_imm(rest, whole, points as i64);
                    e.sub(rest, count, rest);
                    self.points(e, state, axis, Times::Register(whole), width, points);
                    left = Times::Register(rest);
                }
            }
        }
        let lanes = e.lanes(self.nest.lane());
        let tail = |exist| Width { vectors: 1, lanes, exist };
        match (self.mode, left) {
            (Mode::Vectors, Times::Constant(exist)) if exist > 0 => {
                self.points(e, state, axis, Times::Constant(1), tail(exist), 0);
            }
            // Chunks are whole vectors but for the last.
            (Mode::Vectors, Times::Register(left)) if !self.nest.extents[axis].is_multiple_of(lanes) => {
                let zero = e.integer(0);
                let exist = self.nest.extents[axis] % lanes;
                e.if_less(zero, left, &mut |e| self.points(e, state, axis, Times::Constant(1), tail(exist), 0));
            }
            _ => {}
        }
        self.advance(e, state, axis, -(moved as i64));
    }

    /// A loop over points of the innermost output axis that moves the cursors by `step` each time.
    fn points(&self, e: &mut dyn Emitter, state: &State, axis: usize, times: Times, width: Width, step: usize) {
        repeat(e, times, &mut |e| {
            let mut inner = state.clone();
            self.resolve(e, &mut inner, Some(axis));
            self.point(e, &inner, width);
            self.advance(e, state, axis, step as i64);
        });
    }
}

/// Runs `body` as often as `times` says.
pub(super) fn repeat(e: &mut dyn Emitter, times: Times, body: &mut dyn FnMut(&mut dyn Emitter)) {
    match times {
        Times::Register(count) => e.repeat(Count::Register(count), body),
        Times::Constant(count) => match u32::try_from(count) {
            Ok(count) => e.repeat(Count::Times(count), body),
            Err(_) => {
                let count = e.integer(count as i64);
                e.repeat(Count::Register(count), body);
            }
        },
    }
}

/// Leaves out the point unless `inside` is 1.
fn require(e: &mut dyn Emitter, state: &mut State, inside: R) {
    if let Some(before) = state.inside {
        e.int_op(IntOp::And, inside, inside, before);
    }
    state.inside = Some(inside);
}

/// An index into an axis: counted from the end where negative, then clamped.
fn wrap(e: &mut dyn Emitter, entry: R, extent: usize) {
    let (from_end, zero, last) = (e.r(), e.integer(0), e.integer(extent as i64 - 1));
    e.add_imm(from_end, entry, extent as i64);
    e.choose(entry, Cmp::Less, entry, zero, from_end, entry);
    e.max(entry, entry, zero);
    e.min(entry, entry, last);
}
