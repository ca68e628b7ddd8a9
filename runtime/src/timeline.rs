//! When each worker was at which step of a run.
//!
//! In: the begin and the end of every kernel call, from the threads that make them. Out: a [`Span`] per worker and step. A
//! worker writes entries of its own only, and those of two workers lie apart, so that recording costs two looks at the
//! clock per call. Nothing is allocated after [`Timeline::new`].

use std::time::Instant;

use crate::sync::{AtomicU64, Ordering};

/// What one worker did for one step, in nanoseconds since the run began.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Span {
    /// Begin of its first kernel call.
    pub begin_ns: u64,
    /// End of its last kernel call.
    pub end_ns: u64,
    /// Time inside its kernel calls.
    pub busy_ns: u64,
}

#[derive(Default)]
struct Entry {
    /// Kernel calls so far; 0 leaves the rest without meaning.
    calls: AtomicU64,
    begin: AtomicU64,
    end: AtomicU64,
    busy: AtomicU64,
}

/// The spans of one run of one program.
pub struct Timeline {
    steps: usize,
    threads: usize,
    begun: Instant,
    /// All steps of worker 0, then those of worker 1, …
    entries: Vec<Entry>,
    /// Length of the run.
    wall_ns: u64,
}

impl Timeline {
    /// Room for a program of `steps` on `threads`.
    pub fn new(steps: usize, threads: usize) -> Timeline {
        let entries = (0..steps.saturating_mul(threads)).map(|_| Entry::default()).collect();
        Timeline { steps, threads, begun: Instant::now(), entries, wall_ns: 0 }
    }

    /// Steps there is room for.
    pub fn steps(&self) -> usize {
        self.steps
    }

    /// Workers there is room for, the caller included.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// Length of the run recorded last.
    pub fn wall_ns(&self) -> u64 {
        self.wall_ns
    }

    /// What `worker` did for `step`; `None` if that was nothing, or there is no such worker or step.
    pub fn span(&self, step: usize, worker: usize) -> Option<Span> {
        let entry = self.entry(step, worker)?;
        let get = |field: &AtomicU64| field.load(Ordering::Relaxed);
        let span = Span { begin_ns: get(&entry.begin), end_ns: get(&entry.end), busy_ns: get(&entry.busy) };
        (get(&entry.calls) > 0).then_some(span)
    }

    fn entry(&self, step: usize, worker: usize) -> Option<&Entry> {
        (step < self.steps && worker < self.threads).then(|| &self.entries[worker * self.steps + step])
    }

    /// Forgets the last run; the next begins now.
    pub(crate) fn begin(&mut self) {
        for entry in &mut self.entries {
            *entry.calls.get_mut() = 0;
        }
        self.begun = Instant::now();
    }

    /// The run is over.
    pub(crate) fn end(&mut self) {
        self.wall_ns = self.since_begin(Instant::now());
    }

    /// A kernel call of `worker`. No two threads are the same worker at once, so plain loads and stores will do; the barrier
    /// after the step makes them seen.
    pub(crate) fn record(&self, step: usize, worker: usize, from: Instant, to: Instant) {
        let Some(entry) = self.entry(step, worker) else { return };
        let (from, to) = (self.since_begin(from), self.since_begin(to));
        let calls = entry.calls.load(Ordering::Relaxed);
        if calls == 0 {
            entry.begin.store(from, Ordering::Relaxed);
            entry.busy.store(0, Ordering::Relaxed);
        }
        entry.end.store(to, Ordering::Relaxed);
        entry.busy.store(entry.busy.load(Ordering::Relaxed) + (to - from), Ordering::Relaxed);
        entry.calls.store(calls + 1, Ordering::Relaxed);
    }

    fn since_begin(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.begun).as_nanos()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn calls_of_a_step_become_one_span() {
        let mut timeline = Timeline::new(2, 3);
        timeline.begin();
        let at = |ns| timeline.begun + Duration::from_nanos(ns);
        timeline.record(1, 2, at(10), at(25));
        timeline.record(1, 2, at(30), at(36));
        timeline.record(0, 0, at(1), at(2));
        assert_eq!(timeline.span(1, 2), Some(Span { begin_ns: 10, end_ns: 36, busy_ns: 21 }));
        assert_eq!(timeline.span(0, 0), Some(Span { begin_ns: 1, end_ns: 2, busy_ns: 1 }));
        for (step, worker) in [(1, 0), (0, 2), (2, 0), (0, 3)] {
            assert_eq!(timeline.span(step, worker), None);
        }
        timeline.begin();
        assert_eq!(timeline.span(1, 2), None);
    }
}
