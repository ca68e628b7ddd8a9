//! A model compiled for one set of shapes.
//!
//! In: a program, made by the compiler or found in a library. Out: what is known of it besides.

use std::sync::Arc;
use std::time::Duration;

use fornax_compiler::Times;
use fornax_ir::types::Constant;
use fornax_runtime::{Port, Program, Tensor};

use super::stats::Stats;
use crate::classify::Scores;

/// A model compiled for one set of shapes.
pub struct Compiled {
    pub(crate) program: Arc<Program>,
    pub(crate) stats: Stats,
    pub(crate) scores: Scores,
    pub(crate) kernels: usize,
    pub(crate) notes: Vec<String>,
    /// What it takes for granted: an input's number, and its value.
    pub(crate) values: Vec<(usize, Constant)>,
    pub(crate) times: Times,
    pub(crate) time: Duration,
}

impl Compiled {
    /// Name, type and shape of each input.
    pub fn inputs(&self) -> &[Port] {
        self.program.inputs()
    }

    /// Name, type and shape of each output, those that say the extents of others included ([`fornax_runtime::live_outputs`]).
    pub fn outputs(&self) -> &[Port] {
        self.program.outputs()
    }

    /// The program, for a session of one's own making.
    pub fn program(&self) -> &Arc<Program> {
        &self.program
    }

    /// Parameters, operations, memory.
    pub fn stats(&self) -> &Stats {
        &self.stats
    }

    /// Number of distinct kernels.
    pub fn kernels(&self) -> usize {
        self.kernels
    }

    /// Whether it is for inputs of these shapes, and of these values where it was compiled for values.
    pub(crate) fn fits(&self, inputs: &[&Tensor]) -> bool {
        let ports = self.inputs();
        let value =
            |(at, value): &(usize, Constant)| value.bytes().is_some_and(|bytes| bytes[..] == *inputs[*at].bytes());
        ports.len() == inputs.len()
            && ports.iter().map(|port| &port.shape).eq(inputs.iter().map(|tensor| tensor.shape()))
            && self.values.iter().all(value)
    }

    /// What is odd about the model file, a line each: declared shapes that are not the computed ones, a batch that was opened again.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The stages from the decoded file to callable code.
    pub fn times(&self) -> &Times {
        &self.times
    }

    /// From the decoded file to callable code.
    pub fn compile_time(&self) -> Duration {
        self.time
    }
}

impl std::fmt::Debug for Compiled {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Compiled({} steps, {} kernels)", self.program.steps().len(), self.kernels)
    }
}
