//! What a loop nest does at one point: its programs, and how terms are taken up.

use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};

use super::{Loops, State, Times, Width};
use crate::codegen::loops::{Combine, Inst, Program};
use fornax_ir::scalar::BinaryFn;

impl Loops<'_, '_> {
    /// One output element, or as many as `width` says.
    pub(super) fn point(&mut self, state: &State, width: Width) {
        let nest = self.nest;
        let first = nest.outputs();
        let start = if nest.combine == Combine::Last && !nest.skips() && nest.reduced == 0 {
            let body = self.program(&nest.body, state, width, &[]);
            self.e.spread(body.last().map_or(&[], Vec::as_slice), width)
        } else {
            let mut start = self.start(state, width);
            let within = State { inside: None, ..state.clone() };
            start = match state.inside {
                Some(inside) => self.when(inside, start.clone(), |this| this.reduce(first, &within, width, start)),
                None => self.reduce(first, &within, width, start),
            };
            start
        };
        let result = match nest.finish.is_empty() {
            true => start,
            false => self.program(&nest.finish, state, width, &start).pop().unwrap_or_default(),
        };
        for vector in 0..width.vectors {
            let value = result[vector % result.len()];
            let offset = (vector * width.lanes * nest.output.dtype.size()) as i32;
            self.e.store_element(nest.output.dtype, value, state.at[0], offset);
        }
    }

    /// The accumulators before the first term: one per vector, or a value and its position.
    fn start(&mut self, state: &State, width: Width) -> Vec<Value> {
        let init = self.program(&self.nest.init, state, width, &[]).pop().unwrap_or_default();
        let mut start = self.e.spread(&init, width);
        if let Combine::Arg { .. } = self.nest.combine {
            start.push(self.int(0));
        }
        start
    }

    /// The loops over reduced axes from `axis` on, then a term.
    fn reduce(&mut self, axis: usize, state: &State, width: Width, sums: Vec<Value>) -> Vec<Value> {
        if axis == self.nest.extents.len() {
            return self.term(state, width, sums);
        }
        let times = Times::Constant(self.nest.extents[axis]);
        let (_, sums) = self.walk(axis, 1, times, state.clone(), sums, |this, mut state, sums| {
            this.resolve(&mut state, Some(axis));
            let within = State { inside: None, ..state.clone() };
            match state.inside {
                Some(inside) => this.when(inside, sums.clone(), |this| this.reduce(axis + 1, &within, width, sums)),
                None => this.reduce(axis + 1, &within, width, sums),
            }
        });
        sums
    }

    /// Computes a term and takes it up.
    fn term(&mut self, state: &State, width: Width, sums: Vec<Value>) -> Vec<Value> {
        let nest = self.nest;
        let mut values = self.program(&nest.body, state, width, &[]);
        let Some(term) = values.pop() else { return sums };
        let function = match nest.combine {
            Combine::Last => return self.e.spread(&term, width),
            Combine::SumProduct => {
                let Some(factor) = values.pop() else { return sums };
                let products = term.iter().cycle().zip(factor.iter().cycle());
                return sums.iter().zip(products).map(|(sum, (a, b))| self.e.multiply_add(*a, *b, *sum)).collect();
            }
            Combine::Arg { min, last } => return self.arg(state, sums, term[0], min, last),
            Combine::Sum => BinaryFn::Add,
            Combine::Max => BinaryFn::Max,
            Combine::Min => BinaryFn::Min,
            Combine::Prod => BinaryFn::Mul,
        };
        sums.iter().zip(term.iter().cycle()).map(|(sum, term)| self.e.binary(function, *sum, *term)).collect()
    }

    /// Keeps the better of the best value so far and `term`, with its position. NaN is better than any number.
    fn arg(&mut self, state: &State, best: Vec<Value>, term: Value, min: bool, last: bool) -> Vec<Value> {
        let function = if min { BinaryFn::Less } else { BinaryFn::Greater };
        let (new, old) = if last { (best[0], term) } else { (term, best[0]) };
        let mut beats = self.e.binary(function, new, old);
        if self.e.value_type(term) == types::F32 {
            let [new_nan, old_number] = [(FloatCC::Unordered, new), (FloatCC::Ordered, old)]
                .map(|(test, x)| self.e.builder.ins().fcmp(test, x, x));
            let by_nan = self.e.builder.ins().band(new_nan, old_number);
            let by_nan = self.e.builder.ins().uextend(types::I64, by_nan);
            beats = self.e.builder.ins().bor(beats, by_nan);
        }
        let position = state.at[self.places.position];
        let (yes, no) = if last { (&best, &vec![term, position]) } else { (&vec![term, position], &best) };
        (0..2).map(|i| self.e.builder.ins().select(beats, yes[i], no[i])).collect()
    }

    /// The values of a program's instructions.
    fn program(&mut self, program: &Program, state: &State, width: Width, sums: &[Value]) -> Vec<Vec<Value>> {
        let mut values: Vec<Vec<Value>> = Vec::with_capacity(program.len());
        for inst in program {
            let value = match *inst {
                Inst::Load(input) => self.load(input, state, width),
                Inst::Accumulated => sums[..width.vectors.min(sums.len())].to_vec(),
                Inst::Position => sums[sums.len() - 1..].to_vec(),
                Inst::Float(bits) => vec![self.e.float_constant(bits, width)],
                Inst::Int(value) => vec![self.e.int_constant(value, width)],
                _ => self.instruction(inst, &values),
            };
            values.push(value);
        }
        values
    }

    fn load(&mut self, input: usize, state: &State, width: Width) -> Vec<Value> {
        let cursor = self.places.inputs + input;
        let (dtype, at) = (self.nest.inputs[input].dtype, state.at[cursor]);
        if width.lanes == 1 {
            return vec![self.e.load_element(dtype, at)];
        }
        if self.steps[cursor][self.nest.outputs() - 1] == 0 {
            let element = self.e.load_element(dtype, at);
            return vec![self.e.in_lanes(element)];
        }
        (0..width.vectors).map(|k| self.e.load_vector(dtype, at, (k * width.lanes * dtype.size()) as i32)).collect()
    }

    /// An instruction on earlier values, vector by vector.
    fn instruction(&mut self, inst: &Inst, values: &[Vec<Value>]) -> Vec<Value> {
        let operands: &[usize] = match inst {
            Inst::ToFloat(a) | Inst::ToInt(_, a) | Inst::Wrap(_, a) => &[*a],
            Inst::Binary(_, a, b) => &[*a, *b],
            Inst::Fma(a, b, c) | Inst::Select(a, b, c) => &[*a, *b, *c],
            _ => &[],
        };
        if let Inst::Unary(function, x) = *inst {
            return self.e.unary(function, &values[x]);
        }
        let vectors = operands.iter().map(|id| values[*id].len()).max().unwrap_or(0);
        (0..vectors)
            .map(|k| {
                let of = |i: usize| values[operands[i]][k % values[operands[i]].len()];
                match *inst {
                    Inst::Binary(function, ..) => self.e.binary(function, of(0), of(1)),
                    Inst::Fma(..) => self.e.multiply_add(of(0), of(1), of(2)),
                    Inst::Select(..) => self.e.builder.ins().select(of(0), of(1), of(2)),
                    Inst::ToFloat(_) => self.e.int_to_f32(of(0)),
                    Inst::ToInt(dtype, _) => self.e.saturate(dtype, of(0)),
                    Inst::Wrap(dtype, _) => self.e.wrap_int(dtype, of(0)),
                    _ => of(0),
                }
            })
            .collect()
    }
}
