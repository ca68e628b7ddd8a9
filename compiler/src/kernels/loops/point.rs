//! What a loop nest does at one point: its programs, and how terms are taken up.

use super::doubles;
use super::emit::{INPUTS, Mode, Nest, POSITION, State, Times, Width, repeat};
use super::nest::{Combine, Inst, Program};
use super::values::{self, PointValue};
use crate::codegen::elements::widens;
use crate::codegen::{Cmp, Element, Emitter, IntOp, Mem, V, VOp};
use crate::kernels::sums;
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::DType;

/// Most vectors of an unrolled block: enough independent sums to hide the latency of a multiply-add.
const BLOCK: usize = 4;

/// Registers that a function needs for each vector of an unrolled block without sums, and for all of them.
const FUNCTION: (usize, usize) = (4, 2);

/// Largest displacement of an unrolled element.
const REACH: i64 = 1 << 24;

/// What a loop along a reduced axis does at an index: where it stands, and what it accumulates to.
type Step<'a> = &'a mut dyn FnMut(&mut dyn Emitter, State, &[PointValue]);

impl Nest<'_> {
    /// The blocks that the innermost output axis is computed in, from wide to narrow.
    pub(super) fn widths(&self, e: &dyn Emitter) -> Vec<Width> {
        let lanes = if self.mode == Mode::Vectors { e.lanes(self.nest.lane()) } else { 1 };
        let unrolled = match self.mode {
            Mode::Vectors if self.nest.reduced > 0 => BLOCK,
            Mode::Vectors => (e.budget().saturating_sub(FUNCTION.1) / FUNCTION.0).min(BLOCK),
            Mode::Rows => self.rows(e),
            Mode::Elements if self.unrolls() => BLOCK,
            Mode::Elements | Mode::Squares => 1,
        };
        let most = self.nest.extents[self.nest.outputs() - 1] / lanes;
        let unrolled = unrolled.min(most).max(1);
        let width = |vectors| Width { vectors, lanes, exist: lanes };
        let mut widths = vec![width(unrolled)];
        if unrolled > 1 {
            widths.push(width(1));
        }
        widths
    }

    /// Whether several elements can be computed at once: all of them lie at a constant distance.
    pub(super) fn unrolls(&self) -> bool {
        let (nest, axis) = (self.nest, self.nest.outputs() - 1);
        let still = |strides: &[i64]| strides[axis] == 0;
        nest.tables.iter().all(|t| still(&t.at.strides))
            && nest.guards.iter().all(|g| still(&g.at.strides))
            && !matches!(nest.combine, Combine::Arg { .. })
            && self.steps.iter().all(|steps| steps[axis].abs() < REACH)
            && ![&nest.init, &nest.body, &nest.finish].iter().any(|p| p.iter().any(Inst::is_costly))
    }

    /// The output elements of `width`, and what is stored there.
    pub(super) fn point(&self, e: &mut dyn Emitter, state: &State, width: Width) {
        let nest = self.nest;
        let result = if nest.combine == Combine::Last && !nest.skips() && nest.reduced == 0 {
            self.program(e, &nest.body, state, width, &[]).pop()
        } else {
            let sums = self.start(e, state, width);
            match state.inside {
                Some(inside) => {
                    let (zero, within) = (e.integer(0), State { inside: None, ..state.clone() });
                    e.if_less(zero, inside, &mut |e| self.reduced(e, &within, width, &sums));
                }
                None => self.reduced(e, state, width, &sums),
            }
            self.finished(e, state, width, sums)
        };
        if let Some(result) = result {
            self.store(e, &result, state, width);
        }
    }

    fn reduced(&self, e: &mut dyn Emitter, state: &State, width: Width, sums: &[PointValue]) {
        match self.mode {
            Mode::Rows => self.sum_rows(e, state, width, &sums[0]),
            _ => self.reduce(e, self.nest.outputs(), state, width, sums),
        }
    }

    /// The element that is stored, from the accumulated value.
    fn finished(
        &self,
        e: &mut dyn Emitter,
        state: &State,
        width: Width,
        mut sums: Vec<PointValue>,
    ) -> Option<PointValue> {
        match self.nest.finish.is_empty() {
            true => Some(sums.swap_remove(0)),
            false => self.program(e, &self.nest.finish, state, width, &sums).pop(),
        }
    }

    /// The accumulators before the first term: the value, and its position for [`Combine::Arg`].
    fn start(&self, e: &mut dyn Emitter, state: &State, width: Width) -> Vec<PointValue> {
        let init = self.program(e, &self.nest.init, state, width, &[]).pop();
        // Without a start every point has a term.
        let init = init.unwrap_or_else(|| PointValue::Float(vec![e.constant(0.0)]));
        let mut sums = vec![init.spread(e, width.vectors)];
        if let Combine::Arg { .. } = self.nest.combine {
            sums.push(PointValue::Int(vec![e.integer(0)]));
        }
        sums
    }

    fn store(&self, e: &mut dyn Emitter, value: &PointValue, state: &State, width: Width) {
        let (dtype, step) = (self.nest.output.dtype, self.unit(0));
        for point in 0..width.vectors {
            let to = state.output().at(point as i64 * width.lanes as i64 * step);
            match value {
                PointValue::Double(_) if dtype == DType::F64 => e.store(value.vector(point), to, 2 * width.exist),
                PointValue::Float(_) | PointValue::Double(_) => {
                    let v = values::stored(e, value, point);
                    e.store_rounded(v, to, dtype, width.exist);
                }
                PointValue::Lanes(_) => e.store_as(value.vector(point), to, dtype, width.exist),
                PointValue::Int(_) | PointValue::Unsigned(_) => e.store_int(value.int(point), to, dtype),
            }
        }
    }

    /// Step of a cursor from one point of the innermost output axis to the next, bytes.
    pub(super) fn unit(&self, cursor: usize) -> i64 {
        self.steps[cursor][self.nest.outputs() - 1]
    }

    /// The loops over reduced axes from `axis` on, then a term.
    fn reduce(&self, e: &mut dyn Emitter, axis: usize, state: &State, width: Width, sums: &[PointValue]) {
        if axis == self.nest.extents.len() {
            return self.term(e, state, width, sums);
        }
        let terms = self.nest.extents[axis + 1..].iter().fold(1, |product: usize, n| product.saturating_mul(*n));
        self.walk_reduced(e, (axis, terms), state, sums, &mut |e, mut state, sums| {
            self.resolve(e, &mut state, Some(axis));
            let within = State { inside: None, ..state.clone() };
            match state.inside {
                Some(inside) => {
                    let zero = e.integer(0);
                    e.if_less(zero, inside, &mut |e| self.reduce(e, axis + 1, &within, width, sums));
                }
                None => self.reduce(e, axis + 1, &within, width, sums),
            }
        });
    }

    /// A loop along a reduced axis whose every step takes up `terms` terms, long sums of `f32` in blocks.
    pub(super) fn walk_reduced(
        &self,
        e: &mut dyn Emitter,
        (axis, terms): (usize, usize),
        state: &State,
        sums: &[PointValue],
        body: Step<'_>,
    ) {
        let count = self.nest.extents[axis];
        self.repeat_sum(e, (count, terms), sums, &mut |e, sums| {
            body(e, state.clone(), sums);
            self.advance(e, state, axis, 1);
        });
        self.advance(e, state, axis, -(count as i64));
    }

    /// Runs `step` `count` times, which takes up `terms` terms each time, long sums of `f32` in blocks.
    pub(super) fn repeat_sum(
        &self,
        e: &mut dyn Emitter,
        (count, terms): (usize, usize),
        sums: &[PointValue],
        step: &mut dyn FnMut(&mut dyn Emitter, &[PointValue]),
    ) {
        match (self.nest.combine, sums) {
            (Combine::Sum | Combine::SumProduct, [PointValue::Float(registers)]) => {
                sums::sum(e, count, terms, registers, &mut |e, parts| step(e, &[PointValue::Float(parts.to_vec())]));
            }
            _ => repeat(e, Times::Constant(count), &mut |e| step(e, sums)),
        }
    }

    /// Computes a term and takes it up.
    fn term(&self, e: &mut dyn Emitter, state: &State, width: Width, sums: &[PointValue]) {
        let mut terms = self.program(e, &self.nest.body, state, width, &[]);
        let Some(term) = terms.pop() else { return };
        if let Combine::Arg { min, last } = self.nest.combine {
            return self.arg(e, state, sums, &term, min, last);
        }
        take_up(e, self.nest.combine, &sums[0], term, terms.pop(), width.lanes > 1);
    }

    /// Keeps the better of the best value so far and `term`, with its position. NaN is better than any number.
    fn arg(&self, e: &mut dyn Emitter, state: &State, sums: &[PointValue], term: &PointValue, min: bool, last: bool) {
        let (best, position) = (&sums[0], sums[1].int(0));
        let function = if min { BinaryFn::Less } else { BinaryFn::Greater };
        let (new, old) = if last { (best, term) } else { (term, best) };
        let beats = values::binary(e, function, new, old, false).int(0);
        if let PointValue::Float(_) | PointValue::Double(_) = term {
            let truth = if let PointValue::Double(_) = term { doubles::truth } else { values::truth };
            let (new, old) = (new.vector(0), old.vector(0));
            let new_nan = truth(e, Cmp::Unordered, new, new, 1);
            let old_number = truth(e, Cmp::Unordered, old, old, 0);
            let [by_nan, number] = [new_nan, old_number].map(|v| values::first(e, v));
            e.int_op(IntOp::And, by_nan, by_nan, number);
            e.int_op(IntOp::Or, beats, beats, by_nan);
        }
        let (here, beats, zero) = (state.at[POSITION], PointValue::Int(vec![beats]), e.integer(0));
        let (yes, no) = if last { (best, term) } else { (term, best) };
        let value = values::choice(e, &beats, yes, no);
        best.assign(e, &value);
        let (yes, no) = if last { (position, here) } else { (here, position) };
        e.choose(position, Cmp::Equal, beats.int(0), zero, no, yes);
    }

    /// The values of a program's instructions.
    pub(super) fn program(
        &self,
        e: &mut dyn Emitter,
        program: &Program,
        state: &State,
        width: Width,
        sums: &[PointValue],
    ) -> Vec<PointValue> {
        evaluate(e, program, sums, width.lanes > 1, &mut |e, input| self.load(e, input, state, width))
    }

    fn load(&self, e: &mut dyn Emitter, input: usize, state: &State, width: Width) -> PointValue {
        let (dtype, from, step) = (self.nest.inputs[input].dtype, state.at[INPUTS + input], self.unit(INPUTS + input));
        let points = if step == 0 { 1 } else { width.vectors };
        let places = (0..points).map(|point| from.at(point as i64 * width.lanes as i64 * step));
        if width.lanes == 1 {
            return match dtype {
                DType::F64 => PointValue::Double(places.map(|at| loaded(e, |e, v| load(e, v, at, dtype, 1))).collect()),
                dtype if widens(dtype) => {
                    PointValue::Float(places.map(|at| loaded(e, |e, v| e.load_f32(v, at, dtype, 1))).collect())
                }
                _ => {
                    let integers = places.map(|at| {
                        let r = e.r();
                        e.load_int(r, at, dtype);
                        r
                    });
                    let integers = integers.collect();
                    if dtype == DType::U64 { PointValue::Unsigned(integers) } else { PointValue::Int(integers) }
                }
            };
        }
        let vectors = places.map(|at| match step {
            0 => self.broadcast(e, dtype, at),
            _ => loaded(e, |e, v| load(e, v, at, dtype, width.exist)),
        });
        let vectors = vectors.collect();
        match dtype {
            DType::F64 => PointValue::Double(vectors),
            dtype if widens(dtype) => PointValue::Float(vectors),
            _ => PointValue::Lanes(vectors),
        }
    }

    /// An element in every lane.
    pub(super) fn broadcast(&self, e: &mut dyn Emitter, dtype: DType, at: Mem) -> V {
        loaded(e, |e, v| {
            if widens(dtype) {
                return e.broadcast_f32(v, at, dtype);
            }
            if dtype.size() == 4 {
                return e.broadcast(v, at);
            }
            let r = e.r();
            e.load_int(r, at, dtype);
            e.splat_int(if dtype.size() == 8 { Element::I64 } else { Element::I32 }, v, r);
        })
    }
}

/// The values of a program's instructions over accumulated values, with elements of inputs from `load`; `wide`: in whole vectors.
pub fn evaluate(
    e: &mut dyn Emitter,
    program: &Program,
    sums: &[PointValue],
    wide: bool,
    load: &mut dyn FnMut(&mut dyn Emitter, usize) -> PointValue,
) -> Vec<PointValue> {
    let mut values: Vec<PointValue> = Vec::with_capacity(program.len());
    for inst in program {
        let of = |id: usize| &values[id];
        let value = match *inst {
            Inst::Load(input) => load(e, input),
            Inst::Accumulated => sums[0].clone(),
            Inst::Position => sums[1].clone(),
            Inst::Float(bits) => PointValue::Float(vec![e.constant(f32::from_bits(bits))]),
            Inst::Double(bits) => PointValue::Double(vec![loaded(e, |e, v| e.splat_64(v, bits))]),
            Inst::Unsigned(value) => PointValue::Unsigned(vec![e.integer(value as i64)]),
            Inst::Int(value) if wide => PointValue::Lanes(vec![e.constant(f32::from_bits(value as u32))]),
            Inst::Int(value) => PointValue::Int(vec![e.integer(value)]),
            Inst::Unary(f, a) => values::unary(e, f, of(a), wide),
            Inst::Binary(f, a, b) => values::binary(e, f, of(a), of(b), wide),
            Inst::Fma(a, b, c) => values::multiply_add(e, of(a), of(b), of(c)),
            Inst::Select(a, b, c) => values::choice(e, of(a), of(b), of(c)),
            Inst::ToFloat(a) => values::to_float(e, of(a)),
            Inst::ToDouble(a) => values::to_double(e, of(a)),
            Inst::ToInt(dtype, a) => values::saturate(e, dtype, of(a), wide),
            Inst::Wrap(dtype, a) => values::wrap(e, dtype, of(a)),
        };
        values.push(value);
    }
    values
}

/// Elements in lanes: `f32`, `f64`, or integers.
pub(super) fn load(e: &mut dyn Emitter, v: V, at: Mem, dtype: DType, lanes: usize) {
    match dtype {
        DType::F64 => e.load(v, at, 2 * lanes),
        DType::F16 | DType::BF16 => e.load_f32(v, at, dtype, lanes),
        _ => e.load_as(v, at, dtype, lanes),
    }
}

/// A fresh register that `load` fills.
pub(super) fn loaded(e: &mut dyn Emitter, load: impl FnOnce(&mut dyn Emitter, V)) -> V {
    let v = e.v();
    load(e, v);
    v
}

/// Takes up a term, the second factor of a product with its first one.
pub(super) fn take_up(
    e: &mut dyn Emitter,
    combine: Combine,
    sums: &PointValue,
    term: PointValue,
    factor: Option<PointValue>,
    wide: bool,
) {
    let function = match (combine, factor) {
        (Combine::SumProduct, Some(factor)) => {
            if let PointValue::Float(registers) = sums {
                for (i, sum) in registers.iter().enumerate() {
                    e.fma(*sum, term.vector(i), factor.vector(i));
                }
                return;
            }
            let product = values::multiply_add(e, &term, &factor, sums);
            return sums.assign(e, &product);
        }
        (Combine::Last, _) => return sums.assign(e, &term),
        _ => function(combine),
    };
    if let (PointValue::Float(registers), BinaryFn::Add) = (sums, function) {
        for (i, sum) in registers.iter().enumerate() {
            e.op(VOp::Add, Element::F32, *sum, *sum, term.vector(i));
        }
        return;
    }
    let value = values::binary(e, function, sums, &term, wide);
    sums.assign(e, &value);
}

/// The function that brings two accumulated values together.
pub(super) fn function(combine: Combine) -> BinaryFn {
    match combine {
        Combine::Max => BinaryFn::Max,
        Combine::Min => BinaryFn::Min,
        Combine::Prod => BinaryFn::Mul,
        _ => BinaryFn::Add,
    }
}
