//! Where the time of a run goes: by step, by kernel and by kind of layer.
//!
//! In: a session and its tensors. Out: a [`Profile`], whose steps, the time between them and the jitter of the runs add
//! up to the median run.
//!
//! ```
//! use std::time::Duration;
//! use fornax::report::{Kind, profile};
//! use fornax::{DType, Model, SessionOptions, Tensor};
//!
//! let mut session = Model::open("examples/signs.onnx")?.session(&SessionOptions::default())?;
//! let image = Tensor::zeros(DType::F32, [1, 3, 96, 96])?;
//! let profile = profile::measure(&mut session, &[&image], Duration::from_millis(10), 3)?;
//! assert!(profile.by_kind().iter().any(|row| row.kind == Kind::Depthwise));
//! # Ok::<(), fornax::Error>(())
//! ```

use std::collections::HashMap;
use std::time::{Duration, Instant};

use fornax_compiler::LayerKind as Kind;
use fornax_runtime::{Step, Tensor, Timeline};

use crate::error::{Error, Result};
use crate::facade::Session;

/// The most times that are kept; the runs of a measurement end there.
const SAMPLES: usize = 1 << 24;
/// Runs that are traced to find one that nothing disturbed.
const TRACED: usize = 10;

/// One step of the program: a kernel at one place of the network.
#[derive(Clone, Debug)]
pub struct StepTime {
    /// Name of the kernel.
    pub kernel: String,
    /// What kind of layer that is.
    pub kind: Kind,
    /// The node that it computes, or a part of it.
    pub node: String,
    /// The model's nodes that it computes, or parts of them.
    pub origins: Vec<String>,
    /// Median over the runs, the barrier after the step included, in nanoseconds.
    pub ns: f64,
    /// Floating-point operations, two per multiply-add.
    pub flops: u64,
    /// Bytes read and written.
    pub bytes: u64,
}

impl StepTime {
    /// The model's nodes that it computes; the node it belongs to if it computes none.
    pub fn nodes(&self) -> &[String] {
        if self.origins.is_empty() { std::slice::from_ref(&self.node) } else { &self.origins }
    }
}

/// Steps summed.
#[derive(Clone, Debug)]
pub struct Row {
    /// What the steps have in common: a kernel's name, or that of a kind.
    pub name: String,
    /// Their kind; that of the first if they differ.
    pub kind: Kind,
    /// How many steps.
    pub calls: usize,
    /// Sum of their times, in nanoseconds.
    pub ns: f64,
    /// Sum of their floating-point operations.
    pub flops: u64,
    /// Sum of their bytes.
    pub bytes: u64,
    /// The model's nodes that they compute, in order, each once.
    pub nodes: Vec<String>,
}

/// The times of a program's steps over many runs.
///
/// `wall_ns` is the sum of the steps, `between_ns` and `jitter_ns`.
#[derive(Clone, Debug)]
pub struct Profile {
    /// Every step, in order.
    pub steps: Vec<StepTime>,
    /// Runs measured.
    pub runs: usize,
    /// Median of the runs.
    pub wall_ns: f64,
    /// Median over the runs of what a run takes besides its steps: checking and binding tensors, beginning and ending.
    pub between_ns: f64,
    /// The rest: what interrupts now this step, now that one is in the median of no step, but in that of the runs. It is
    /// small on a quiet machine and may be negative.
    pub jitter_ns: f64,
}

/// Runs the model for `length`, at least `min_runs` times and once, after a warm-up of a fifth of that.
///
/// # Errors
/// As [`Session::run`].
pub fn measure(session: &mut Session, inputs: &[&Tensor], length: Duration, min_runs: usize) -> Result<Profile> {
    session.run(inputs)?;
    let mut outputs = session.room()?;
    let steps = steps(session)?;
    let mut times = vec![0; steps.len()];
    let begun = Instant::now();
    while begun.elapsed() < length / 5 {
        session.run_profiled(inputs, &mut outputs, &mut times)?;
    }
    let (mut samples, mut walls) = (Vec::new(), Vec::new());
    let begun = Instant::now();
    while walls.len() < min_runs.max(1) || (begun.elapsed() < length && samples.len() + walls.len() < SAMPLES) {
        let run = Instant::now();
        session.run_profiled(inputs, &mut outputs, &mut times)?;
        walls.push(run.elapsed().as_nanos() as u64);
        samples.extend_from_slice(&times);
    }
    Ok(Profile::new(&steps, &samples, walls))
}

/// Records when each worker was at which step, in the shortest of a few runs.
///
/// # Errors
/// As [`Session::run`].
pub fn trace(session: &mut Session, inputs: &[&Tensor]) -> Result<Timeline> {
    session.run(inputs)?;
    let mut outputs = session.room()?;
    let new = |session: &Session| Ok::<_, Error>(Timeline::new(steps(session)?.len(), session.pool().threads()));
    let (mut best, mut next) = (new(session)?, new(session)?);
    session.run_traced(inputs, &mut outputs, &mut best)?;
    for _ in 1..TRACED {
        session.run_traced(inputs, &mut outputs, &mut next)?;
        if next.wall_ns() < best.wall_ns() {
            std::mem::swap(&mut best, &mut next);
        }
    }
    Ok(best)
}

/// The steps of the program used last.
fn steps(session: &Session) -> Result<Vec<Step>> {
    let compiled = session.compiled().ok_or_else(|| Error::usage("session", "one that has run", "one that has not"))?;
    Ok(compiled.program().steps().to_vec())
}

impl Profile {
    /// From the times of all steps run by run, and those of the runs.
    fn new(steps: &[Step], samples: &[u64], walls: Vec<u64>) -> Self {
        let runs = walls.len();
        let of_run = |run: usize| &samples[run * steps.len()..][..steps.len()];
        let between = (0..runs).map(|run| walls[run].saturating_sub(of_run(run).iter().sum())).collect();
        let median_of = |step: usize| median((0..runs).map(|run| of_run(run)[step]).collect());
        let time = |(at, step): (usize, &Step)| StepTime {
            kernel: step.name.clone(),
            kind: Kind::of(&step.name),
            node: step.node.clone(),
            origins: step.origins.clone(),
            ns: median_of(at),
            flops: step.flops,
            bytes: step.bytes,
        };
        let steps: Vec<StepTime> = steps.iter().enumerate().map(time).collect();
        let (wall_ns, between_ns) = (median(walls), median(between));
        let jitter_ns = wall_ns - between_ns - steps.iter().map(|step| step.ns).sum::<f64>();
        Self { steps, runs, wall_ns, between_ns, jitter_ns }
    }

    /// The steps summed by kernel, longest first.
    pub fn by_kernel(&self) -> Vec<Row> {
        self.rows(|step| &step.kernel)
    }

    /// The steps summed by kind of layer, longest first.
    pub fn by_kind(&self) -> Vec<Row> {
        self.rows(|step| step.kind.name())
    }

    /// All steps in one row.
    pub fn total(&self) -> Row {
        let mut total = Row::new("steps");
        self.steps.iter().for_each(|step| total.add(step));
        total
    }

    fn rows<'a>(&'a self, key: impl Fn(&'a StepTime) -> &'a str) -> Vec<Row> {
        let mut rows: Vec<Row> = Vec::new();
        let mut index = HashMap::new();
        for step in &self.steps {
            let name = key(step);
            let at = *index.entry(name).or_insert_with(|| {
                rows.push(Row::new(name));
                rows.len() - 1
            });
            rows[at].add(step);
        }
        rows.sort_by(|a, b| b.ns.total_cmp(&a.ns));
        rows
    }
}

impl Row {
    fn new(name: &str) -> Self {
        Self { name: name.into(), kind: Kind::Other, calls: 0, ns: 0.0, flops: 0, bytes: 0, nodes: Vec::new() }
    }

    fn add(&mut self, step: &StepTime) {
        if self.calls == 0 {
            self.kind = step.kind;
        }
        self.calls += 1;
        self.ns += step.ns;
        self.flops += step.flops;
        self.bytes += step.bytes;
        // Steps of one node follow each other, but those of one kernel may be anywhere.
        for node in step.nodes() {
            if !self.nodes.contains(node) {
                self.nodes.push(node.clone());
            }
        }
    }
}

/// The middle one of at least one value.
fn median(mut values: Vec<u64>) -> f64 {
    let middle = (values.len() - 1) / 2;
    *values.select_nth_unstable(middle).1 as f64
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{DType, Model, SessionOptions};

    #[test]
    fn rows_add_up_to_the_median_run() {
        let model = Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/signs.onnx")).unwrap();
        let mut session = model.session(&SessionOptions { threads: 2, ..Default::default() }).unwrap();
        let image = Tensor::zeros(DType::F32, [1, 3, 96, 96]).unwrap();
        let profile = measure(&mut session, &[&image], Duration::ZERO, 5).unwrap();
        assert_eq!((profile.runs, profile.steps.len()), (5, session.compiled().unwrap().program().steps().len()));
        for rows in [profile.by_kernel(), profile.by_kind(), vec![profile.total()]] {
            assert_eq!(rows.iter().map(|row| row.calls).sum::<usize>(), profile.steps.len());
            let sum = rows.iter().map(|row| row.ns).sum::<f64>() + profile.between_ns + profile.jitter_ns;
            assert!((sum - profile.wall_ns).abs() < 1.0, "{sum} of {}", profile.wall_ns);
            assert!(rows.is_sorted_by(|a, b| a.ns >= b.ns));
        }
        assert!(profile.by_kind().iter().all(|row| row.kind != Kind::Other));
    }

    #[test]
    fn a_trace_covers_every_step() {
        let model = Model::open(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/signs.onnx")).unwrap();
        let mut session = model.session(&SessionOptions { threads: 2, ..Default::default() }).unwrap();
        let image = Tensor::zeros(DType::F32, [1, 3, 96, 96]).unwrap();
        let timeline = trace(&mut session, &[&image]).unwrap();
        assert!((0..timeline.steps()).all(|step| (0..2).any(|worker| timeline.span(step, worker).is_some())));
    }

    #[test]
    fn medians() {
        assert_eq!(median(vec![7]), 7.0);
        assert_eq!(median(vec![9, 1, 5]), 5.0);
        assert_eq!(median(vec![4, 3, 2, 1]), 2.0);
    }
}
