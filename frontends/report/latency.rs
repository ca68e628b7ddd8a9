//! What a network of a spec costs on this machine.
//!
//! In: an architecture. Out: its counts, its memory, its latency as measured here with random weights, and as its plan
//! predicts. Latency is the best of repeated runs: other processes only make a run longer.

use std::time::{Duration, Instant};

use fornax_compiler::Machine;
use fornax_ir::inputs::Bindings;
use fornax_runtime::{DType, Program, Tensor, measure_fma_peak};
use fornax_scaling::architecture::Architecture;
use rustix::time::{ClockId, clock_gettime};

use crate::error::Result;
use crate::facade::{Model, Options, SessionOptions, Stats};

/// Time for the runs of one network.
const LENGTH: Duration = Duration::from_millis(300);
/// Minimum number of runs of one network.
const RUNS: usize = 4;
/// Bytes that one core takes from memory in a second, for predictions.
const BANDWIDTH: f64 = Machine::NOMINAL.memory_rate * Machine::NOMINAL.ghz * 1e9;

/// Costs of a network.
#[derive(Clone, PartialEq, Debug)]
pub struct Measurement {
    /// Parameters, multiply-accumulates, memory.
    pub stats: Stats,
    /// Best run, milliseconds: of the processor on one thread, by the clock on several.
    pub latency_ms: f64,
    /// The sum over the plan's steps of the time that multiply-adds at the machine's peak or bytes from memory would take,
    /// whichever is longer: what no run can be faster than.
    pub floor_ms: f64,
    /// From the graph to callable code.
    pub compile_ms: f64,
}

/// Measures networks on this machine.
#[derive(Clone, Copy, Debug)]
pub struct LatencyProbe {
    threads: usize,
    /// FMA peak of one thread, operations per second.
    peak: f64,
}

impl LatencyProbe {
    /// A probe for runs on `threads` threads; takes a few hundredths of a second to find the machine's peak.
    pub fn new(threads: usize) -> Self {
        let peak = measure_fma_peak().iter().map(|peak| peak.gflops).fold(0.0, f64::max);
        Self { threads: threads.max(1), peak: peak * 1e9 }
    }

    /// Compiles a network with random weights and runs it.
    ///
    /// # Errors
    /// As [`Model::bind`] and [`crate::Session::run`].
    pub fn measure(&self, architecture: &Architecture) -> Result<Measurement> {
        let model = Model::from_architecture(architecture.clone(), &Options::default())?;
        let bindings = Bindings::default();
        let mut session = model.session(&SessionOptions { threads: self.threads, pin: false, bindings })?;
        let side = architecture.side;
        let input = Tensor::zeros(DType::F32, [1, 3, side, side])?;
        let mut outputs = session.run(&[&input])?;
        let (begun, mut best, mut runs) = (Instant::now(), f64::INFINITY, 0);
        while runs < RUNS || begun.elapsed() < LENGTH {
            let before = self.clock();
            session.run_into(&[&input], &mut outputs)?;
            best = best.min(self.clock() - before);
            runs += 1;
        }
        let compiled = model.bind(&Bindings::default())?;
        let compile_ms = compiled.compile_time().as_secs_f64() * 1e3;
        let floor_ms = self.floor(compiled.program());
        Ok(Measurement { stats: compiled.stats().clone(), latency_ms: best, floor_ms, compile_ms })
    }

    /// Milliseconds of this thread's processor, or of the clock where others take part.
    fn clock(&self) -> f64 {
        let id = if self.threads == 1 { ClockId::ThreadCPUTime } else { ClockId::Monotonic };
        let time = clock_gettime(id);
        time.tv_sec as f64 * 1e3 + time.tv_nsec as f64 / 1e6
    }

    fn floor(&self, program: &Program) -> f64 {
        let step = |flops: u64, bytes: u64| (flops as f64 / self.peak).max(bytes as f64 / BANDWIDTH);
        let seconds: f64 = program.steps().iter().map(|s| step(s.flops, s.bytes)).sum();
        seconds * 1e3 / self.threads as f64
    }
}
