//! One nest out of two: an element-wise nest computed where its result is read.
//!
//! In: a consumer, one of its inputs, and the nest that writes it. Out: a nest without that input. The programs compute the same values
//! in the same order, an integer wrapped to the type that it was stored in, so no bit changes.

use super::{Affine, Combine, Id, IndexTable, Input, Inst, LoopNest, Program};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

/// Longest body that is made.
const LONGEST: usize = 48;

/// Most operands of a nest that is made.
const OPERANDS: usize = 12;

impl LoopNest {
    /// The nest with input `k` replaced by what `producer` stores there; its inputs are those of `self` without `k`, then the producer's,
    /// and so its tables. `None` where the nests do not fit or one kernel would be slower than two.
    pub fn inline(&self, k: usize, producer: &LoopNest) -> Option<LoopNest> {
        let axes = self.axes_of(k, producer)?;
        let operands = self.inputs.len() + self.tables.len() + producer.inputs.len() + producer.tables.len();
        let loads_k = |program: &Program| program.contains(&Inst::Load(k));
        // A sum of products takes its last two values, wherever they come from.
        let fits = self.combine != Combine::SumProduct && !loads_k(&self.init) && !loads_k(&self.finish);
        if !fits || operands > OPERANDS || self.body.len() + producer.body.len() > LONGEST {
            return None;
        }
        let mut fused = self.clone();
        fused.inputs.remove(k);
        let (kept, tables) = (fused.inputs.len(), fused.tables.len());
        let moved = |at: &Affine| {
            let strides = axes.iter().map(|axis| axis.map_or(0, |axis| at.strides[axis])).collect::<Vec<_>>();
            Affine::new(at.base, strides)
        };
        fused.inputs.extend(producer.inputs.iter().map(|x| Input {
            at: moved(&x.at),
            lookups: x.lookups.iter().map(|(table, factor)| (table + tables, *factor)).collect(),
            ..x.clone()
        }));
        fused.tables.extend(producer.tables.iter().map(|t| IndexTable { at: moved(&t.at), ..t.clone() }));
        let mut body: Program = producer.body.iter().map(|inst| inst.renumbered(|load| load + kept, |id| id)).collect();
        stored(&mut body, producer.output.dtype);
        let result = body.len().checked_sub(1)?;
        let unchanged = |load: usize| load - usize::from(load > k);
        let mut ids: Vec<Id> = Vec::with_capacity(self.body.len());
        for inst in &self.body {
            if *inst == Inst::Load(k) {
                ids.push(result);
            } else {
                body.push(inst.renumbered(unchanged, |id| ids[id]));
                ids.push(body.len() - 1);
            }
        }
        if ids.last() != Some(&(body.len() - 1)) {
            return None;
        }
        fused.body = body;
        for program in [&mut fused.init, &mut fused.finish] {
            program.iter_mut().for_each(|inst| *inst = inst.renumbered(unchanged, |id| id));
        }
        fused.pays(self, producer).then_some(fused)
    }

    /// For each axis the producer's axis that it is, if input `k` reads every element that the producer stores, each once.
    fn axes_of(&self, k: usize, producer: &LoopNest) -> Option<Vec<Option<usize>>> {
        let read = &self.inputs[k];
        // Elements that are narrower than what is computed are rounded where they are stored.
        let rounded = matches!(producer.output.dtype, DType::F16 | DType::BF16);
        let plain = producer.reduced == 0
            && !rounded
            && producer.combine == Combine::Last
            && !producer.skips()
            && producer.finish.is_empty()
            && read.lookups.is_empty()
            && (read.dtype, read.elements, read.at.base)
                == (producer.output.dtype, producer.output.elements, producer.output.at.base)
            && producer.points() == producer.output.elements;
        if !plain || self.points() != producer.points() {
            return None;
        }
        // Strides of a dense operand tell its axes apart.
        let twin = |axis: usize| {
            (0..producer.extents.len()).find(|p| {
                producer.extents[*p] == self.extents[axis] && producer.output.at.strides[*p] == read.at.strides[axis]
            })
        };
        let axes: Vec<Option<usize>> =
            (0..self.extents.len()).map(|axis| if self.extents[axis] == 1 { None } else { twin(axis) }).collect();
        let found = (0..axes.len()).all(|axis| self.extents[axis] == 1 || axes[axis].is_some());
        let once = (0..axes.len()).all(|axis| axes[axis].is_none() || !axes[..axis].contains(&axes[axis]));
        (found && once).then_some(axes)
    }

    /// Whether one nest is faster than two: not if costly functions leave the vectors they were computed in.
    fn pays(&self, consumer: &LoopNest, producer: &LoopNest) -> bool {
        let vectors = |nest: &LoopNest| nest.clone().simplify().vectorises();
        // What quantises an image would round it element by element where it is put in order, channels last.
        let quantises = self.output.dtype == DType::I16
            && self.body.iter().any(|inst| matches!(inst, Inst::Unary(UnaryFn::Round, _)));
        let costly = quantises || self.body.iter().any(Inst::is_costly);
        vectors(self) || !costly || !(vectors(consumer) || vectors(producer))
    }

    /// Makes one input of those that read the same elements of the same operand.
    pub fn share_inputs<T: PartialEq>(&mut self, operands: &mut Vec<T>) {
        let mut later = 1;
        while later < self.inputs.len() {
            let same = |first: &usize| {
                let (a, b) = (&self.inputs[*first], &self.inputs[later]);
                operands[*first] == operands[later] && (a.dtype, &a.at, &a.lookups) == (b.dtype, &b.at, &b.lookups)
            };
            let Some(first) = (0..later).find(same) else {
                later += 1;
                continue;
            };
            self.inputs.remove(later);
            operands.remove(later);
            let load = |load: usize| match load.cmp(&later) {
                std::cmp::Ordering::Less => load,
                std::cmp::Ordering::Equal => first,
                std::cmp::Ordering::Greater => load - 1,
            };
            for program in [&mut self.init, &mut self.body, &mut self.finish] {
                program.iter_mut().for_each(|inst| *inst = inst.renumbered(load, |id| id));
            }
        }
    }
}

/// Ends a program as storing its value and loading it again would.
fn stored(program: &mut Program, dtype: DType) {
    let fits = match program.last() {
        Some(Inst::ToInt(to, _) | Inst::Wrap(to, _)) => *to == dtype,
        Some(Inst::Binary(function, ..)) => function.is_comparison(),
        Some(Inst::Load(_)) => true,
        _ => false,
    };
    if !dtype.is_float() && !fits && !program.is_empty() {
        program.push(Inst::Wrap(dtype, program.len() - 1));
    }
}

impl Inst {
    /// The instruction with its inputs and operands under other numbers.
    pub(in crate::kernels) fn renumbered(&self, load: impl Fn(usize) -> usize, mut id: impl FnMut(Id) -> Id) -> Self {
        match *self {
            Self::Load(x) => Self::Load(load(x)),
            Self::Unary(f, a) => Self::Unary(f, id(a)),
            Self::Binary(f, a, b) => Self::Binary(f, id(a), id(b)),
            Self::Fma(a, b, c) => Self::Fma(id(a), id(b), id(c)),
            Self::Select(a, b, c) => Self::Select(id(a), id(b), id(c)),
            Self::ToFloat(a) => Self::ToFloat(id(a)),
            Self::ToDouble(a) => Self::ToDouble(id(a)),
            Self::ToInt(dtype, a) => Self::ToInt(dtype, id(a)),
            Self::Wrap(dtype, a) => Self::Wrap(dtype, id(a)),
            Self::Float(_)
            | Self::Double(_)
            | Self::Int(_)
            | Self::Unsigned(_)
            | Self::Accumulated
            | Self::Position => *self,
        }
    }

    /// Whether the instruction takes tens of machine instructions for an element and as many for a vector.
    pub(in crate::kernels::loops) fn is_costly(&self) -> bool {
        use UnaryFn::*;
        match self {
            Self::Unary(f, _) => !matches!(
                f,
                Relu | Clip(..)
                    | HardSigmoid(..)
                    | HardSwish
                    | LeakyRelu(_)
                    | ThresholdedRelu(_)
                    | Softsign
                    | Neg
                    | Abs
                    | Sqrt
                    | Reciprocal
                    | Floor
                    | Ceil
                    | Round
                    | Sign
                    | Not
                    | IsNan
                    | Sin
                    | Cos
            ),
            Self::Binary(f, ..) => matches!(f, BinaryFn::Pow),
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Output;
    use super::*;

    fn map(extents: &[usize], to: &[i64], inputs: &[&[i64]], dtype: DType, body: Program) -> LoopNest {
        let elements = extents.iter().product();
        let mut nest = LoopNest::map(extents, Output { dtype, elements, at: Affine::new(0, to) }, body);
        for at in inputs {
            nest.input("x", dtype, elements, Affine::new(0, *at));
        }
        nest
    }

    #[test]
    fn a_chain_becomes_one_program() {
        let exp = map(&[3, 4], &[4, 1], &[&[4, 1]], DType::F32, vec![Inst::Load(0), Inst::Unary(UnaryFn::Exp, 0)]);
        let sub = vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Sub, 0, 1)];
        let sub = map(&[3, 4], &[4, 1], &[&[0, 1], &[4, 1]], DType::F32, sub);
        let fused = sub.inline(1, &exp).unwrap();
        assert_eq!(fused.inputs.len(), 2);
        let expected = [Inst::Load(1), Inst::Unary(UnaryFn::Exp, 0), Inst::Load(0), Inst::Binary(BinaryFn::Sub, 2, 1)];
        assert_eq!(fused.body, expected);
        assert!(sub.inline(0, &exp).is_none(), "a repeated operand would be computed again and again");
    }

    #[test]
    fn narrow_integers_wrap_where_they_were_stored() {
        let add = |dtype| {
            map(&[5], &[1], &[&[1]], dtype, vec![Inst::Load(0), Inst::Int(200), Inst::Binary(BinaryFn::Add, 0, 1)])
        };
        let fused = add(DType::U8).inline(0, &add(DType::U8)).unwrap();
        assert_eq!(fused.body[3], Inst::Wrap(DType::U8, 2));
        assert!(add(DType::I8).inline(0, &add(DType::U8)).is_none(), "another type than was stored");
    }

    #[test]
    fn axes_are_found_by_their_strides() {
        let copy = map(&[2, 3, 4], &[12, 4, 1], &[&[12, 1, 3]], DType::F32, vec![Inst::Load(0)]);
        let mut sum = map(&[2, 4, 3], &[12, 1, 4], &[&[12, 1, 4]], DType::F32, vec![Inst::Load(0)]);
        sum.reduced = 1;
        sum.combine = Combine::Sum;
        let fused = sum.inline(0, &copy).unwrap();
        assert_eq!(fused.inputs[0].at.strides, [12, 3, 1]);
    }

    #[test]
    fn equal_inputs_are_read_once() {
        let body = vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Mul, 0, 1)];
        let mut square = map(&[5], &[1], &[&[1], &[1]], DType::F32, body);
        let mut operands = vec!["t", "t"];
        square.share_inputs(&mut operands);
        assert_eq!((square.inputs.len(), operands.len()), (1, 1));
        assert_eq!(square.body[1], Inst::Load(0));
    }
}
