//! Negation: `y = -x`.
//!
//! In: `x`. Out: `y`, which may be the memory of `x`.

use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::{Count, Element, Emitter, R, VOp};
use crate::target::{Machine, Target};
use fornax_ir::types::DType;

/// What a negation computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Negate {
    /// Type of the elements.
    pub element: DType,
    /// Elements.
    pub elements: usize,
}

/// How: elements of one work unit.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Elements per work unit; divides their number.
    pub elements: usize,
}

/// Bytes that one work unit may cover.
const WORK: usize = Machine::NOMINAL.bytes_in(8_192);

schedule_text!(Schedule, "Schedule" { "elements": elements });

impl Family for Negate {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["negate"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Other
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(self.element, "negate").shape(&[('n', &[self.elements])])
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        Some(Self { element: name.element()?, elements: name.one(0, 'n')? })
    }

    fn arguments(&self) -> Vec<Argument> {
        let (element, count) = (self.element, self.elements);
        vec![Argument::read("x", element, count), Argument::write("y", element, count).in_place_of(0)]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        let most = (WORK / self.element.size()).min(self.elements).max(1);
        Schedule { elements: (1..=most).rev().find(|n| self.elements.is_multiple_of(*n)).unwrap_or(1) }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        work_units(self.elements / schedule.elements)
    }

    fn flops(&self) -> u64 {
        self.elements as u64
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        let [x, y] = [0, 1].map(|i| e.pointer(i));
        let (first, count) = (e.r(), e.r());
        e.begin(first);
        e.end(count);
        e.sub(count, count, first);
        e.mul_imm(first, first, (schedule.elements * self.element.size()) as i64);
        [x, y].into_iter().for_each(|r| e.add(r, r, first));
        e.repeat(Count::Register(count), &mut |e| {
            let lanes = e.lanes(Element::F32);
            e.repeat(Count::Times((schedule.elements / lanes) as u32), &mut |e| self.vector(e, [x, y], lanes));
            self.vector(e, [x, y], schedule.elements % lanes);
        });
    }
}

impl Negate {
    /// Negates `count` elements, at most one vector; the pointers move on behind them.
    fn vector(&self, e: &mut dyn Emitter, [x, y]: [R; 2], count: usize) {
        if count == 0 {
            return;
        }
        let (v, sign) = (e.v(), e.constant(-0.0));
        e.load_f32(v, x.at(0), self.element, count);
        e.op(VOp::Xor, Element::F32, v, v, sign);
        e.store_f32(v, y.at(0), self.element, count);
        [x, y].into_iter().for_each(|r| e.add_imm(r, r, (count * self.element.size()) as i64));
        [v, sign].into_iter().for_each(|v| e.free_v(v));
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn template_every_element_changes_its_sign() {
        for elements in [1, 5, 16, 1000, 1 << 16] {
            let spec = Negate { element: DType::F32, elements };
            let x = testing::values(1, elements);
            let expected: Vec<f32> = x.iter().map(|x| -x).collect();
            let found = testing::run(spec.clone(), &[&x]);
            assert_eq!(found[0], expected, "{}", spec.name());
            assert_eq!(testing::interpret(&spec, &Schedule { elements: 1 }, &[&x], 8), found, "{}", spec.name());
        }
    }
}
