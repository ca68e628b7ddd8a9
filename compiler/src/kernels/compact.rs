//! Positions of the true elements of a vector, in order, and their number.
//!
//! In: `mask [elements]`. Out: `indices [elements]`, of which those behind the positions are 0, and `count`. Every position is written to where the next true
//! element belongs, and stays there only if its element is true: there is no branch to guess.

use super::{Argument, Family, KernelName, LayerKind, Parts};
use crate::codegen::{Count, Emitter};
use crate::target::Target;
use fornax_ir::types::DType;

/// What a compaction computes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Compact {
    /// Elements of the mask.
    pub elements: usize,
}

/// How: one after the other.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule;

schedule_text!(Schedule, "Schedule" {});

/// Type of the mask.
const FLAG: DType = DType::Bool;
/// Type of positions and count.
const INDEX: DType = DType::I64;

impl Family for Compact {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["compact"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Loops
    }

    fn kernel_name(&self) -> KernelName {
        KernelName::new(FLAG, "compact").shape(&[('n', &[self.elements])])
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        (name.any_element() == FLAG).then_some(Self { elements: name.one(0, 'n')? })
    }

    fn arguments(&self) -> Vec<Argument> {
        vec![
            Argument::read("mask", FLAG, self.elements),
            Argument::write("indices", INDEX, self.elements),
            Argument::write("count", INDEX, 1),
        ]
    }

    fn schedule(&self, _target: &Target) -> Schedule {
        Schedule
    }

    fn chunks(&self, _schedule: &Schedule) -> u32 {
        1
    }

    /// A store, a sum and a test for each element.
    fn flops(&self) -> u64 {
        3 * self.elements as u64
    }

    fn emit(&self, _schedule: &Schedule, e: &mut dyn Emitter) {
        let size = INDEX.size() as i64;
        let [mask, indices, count] = [0, 1, 2].map(|i| e.pointer(i));
        let (at, found, zero, one) = (e.integer(0), e.integer(0), e.integer(0), e.integer(1));
        let (flag, place) = (e.r(), e.r());
        let elements = u32::try_from(self.elements).unwrap_or(u32::MAX);
        e.repeat(Count::Times(elements), &mut |e| {
            e.mul_imm(place, found, size);
            e.add(place, place, indices);
            e.store_int(at, place.at(0), INDEX);
            e.load_int(flag, mask.at(0), DType::Bool);
            e.min(flag, flag, one);
            e.add(found, found, flag);
            e.add_imm(at, at, 1);
            e.add_imm(mask, mask, DType::Bool.size() as i64);
        });
        e.store_int(found, count.at(0), INDEX);
        e.mul_imm(place, found, size);
        e.add(place, place, indices);
        e.sub(flag, at, found);
        e.repeat(Count::Register(flag), &mut |e| {
            e.store_int(zero, place.at(0), INDEX);
            e.add_imm(place, place, size);
        });
    }
}
