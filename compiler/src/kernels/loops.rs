//! Loop nests.

use super::{Argument, Family};
use crate::codegen::Emitter;
use crate::target::Target;
use crate::types::DType;

/// A loop nest.
#[derive(Clone, Debug)]
pub struct Loops {}

impl Loops {
    /// Copies elements of `shape` between two strided layouts (element strides per logical axis).
    pub fn copy(_dtype: DType, _shape: &[usize], _from: &[usize], _to: &[usize]) -> Self {
        Self {}
    }
}

impl Family for Loops {
    type Schedule = ();
    fn name(&self) -> String {
        String::new()
    }
    fn arguments(&self) -> Vec<Argument> {
        Vec::new()
    }
    fn schedule(&self, _target: &Target) {}
    fn chunks(&self, _schedule: &()) -> u32 {
        0
    }
    fn flops(&self) -> u64 {
        0
    }
    fn emit(&self, _schedule: &(), _e: &mut dyn Emitter) {}
}
