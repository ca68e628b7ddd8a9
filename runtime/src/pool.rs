//! Fork-join threads: one caller, some workers, chunks claimed from a counter.
//!
//! A region costs under a microsecond when the workers are awake. They stay awake for a short time after a region,
//! which covers the steps of one run, and sleep between runs. The caller always takes part and never waits for a worker
//! that has not begun, so a machine shared with others is no slower than one thread.
//!
//! `fork` copies the thread that calls it and no worker. In the child a pool made before works on its caller's thread alone, and
//! dropping it waits for nobody; a fork from inside a region is not supported.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use crate::cpu::{
    FloatMode, allowed_cpus, available_threads, current_cpu, first_sibling, float_environment, pin_current_thread,
};
use crate::error::Error;
use crate::region::Region;
use crate::sync::{Arc, AtomicBool, Builder, JoinHandle, Ordering, Padded, park, spin_loop};

/// The most threads a pool takes.
const MAX_THREADS: usize = 1024;
/// How long a worker looks for the next region before it sleeps.
const SPIN: Duration = Duration::from_micros(40);
/// Polls between two looks at the clock.
const POLLS: u32 = 32;

/// What the caller and the workers share.
struct Shared {
    region: Region,
    stop: AtomicBool,
    /// One per worker: it sleeps, or is about to.
    asleep: Vec<Padded<AtomicBool>>,
    spin: Duration,
}

/// A set of threads that run regions together with the thread that calls.
///
/// Several sessions may share one; while one of them is in a region, the others run theirs on their own thread.
pub struct Pool {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    caller_cpu: Option<usize>,
    /// The process that the workers are threads of.
    process: u32,
}

impl Pool {
    /// A pool of `threads`, the caller included: `threads - 1` are started.
    ///
    /// `pin` binds each worker to a processor of its own when the affinity mask of this thread has that many; the caller is not
    /// bound (see [`Pool::caller_cpu`]). Fewer threads than processors lie on distinct cores as far as these go, from the
    /// one on that this thread runs on.
    ///
    /// # Errors
    /// [`Error::ThreadCount`] for none or too many, [`Error::Spawn`] if the system refuses one.
    pub fn new(threads: usize, pin: bool) -> Result<Pool, Error> {
        match Pool::start(threads, pin)? {
            (pool, None) => Ok(pool),
            // The drop of the pool ends the workers started so far.
            (_, Some(refused)) => Err(refused),
        }
    }

    /// [`Pool::new`] with as many of the `threads` as the system gives, the caller being one: [`Pool::threads`] tells how many
    /// there are. Nothing is bound if some are missing.
    ///
    /// # Errors
    /// [`Error::ThreadCount`] for none or too many.
    pub fn at_most(threads: usize, pin: bool) -> Result<Pool, Error> {
        let (pool, refused) = Pool::start(threads, pin)?;
        if refused.is_none() || !pin {
            return Ok(pool);
        }
        let given = pool.threads();
        drop(pool);
        Pool::start(given, false).map(|(pool, _)| pool)
    }

    /// A pool of at most `threads`, and why it has fewer if it has.
    fn start(threads: usize, pin: bool) -> Result<(Pool, Option<Error>), Error> {
        if threads == 0 || threads > MAX_THREADS {
            return Err(Error::ThreadCount { max: MAX_THREADS, found: threads });
        }
        let cpus =
            if pin && threads > 1 { places(&allowed_cpus(), current_cpu(), threads, first_sibling) } else { None };
        let shared = Arc::new(Shared {
            region: Region::default(),
            stop: AtomicBool::new(false),
            asleep: (1..threads).map(|_| Padded::default()).collect(),
            // Where processors, or their time, are fewer than threads, a spinning worker would keep a working one from
            // running.
            spin: if threads <= available_threads() { SPIN } else { Duration::ZERO },
        });
        let caller_cpu = cpus.as_ref().and_then(|cpus| cpus.first().copied());
        let workers = Vec::with_capacity(threads - 1);
        let mut pool = Pool { shared, workers, caller_cpu, process: std::process::id() };
        for worker in 1..threads {
            let shared = Arc::clone(&pool.shared);
            let cpu = cpus.as_ref().and_then(|cpus| cpus.get(worker).copied());
            match Builder::new().name(format!("fornax-{worker}")).spawn(move || shared.work(worker, cpu)) {
                Ok(started) => pool.workers.push(started),
                Err(source) => return Ok((pool, Some(Error::Spawn { worker, source }))),
            }
        }
        Ok((pool, None))
    }

    /// Number of threads, the caller included.
    pub fn threads(&self) -> usize {
        self.workers.len() + 1
    }

    /// The processor that the pinned workers leave to the caller, who may pin itself there; `None` if nothing is
    /// pinned.
    pub fn caller_cpu(&self) -> Option<usize> {
        self.caller_cpu
    }

    /// Runs `body(begin, end, worker)` over `0..chunks`, claimed in units of `grain`, and returns when all are done.
    ///
    /// The caller takes part as worker 0. No two calls of `body` by one `run` with the same worker number overlap, and
    /// all numbers are below [`Pool::threads`]. A region opened from inside a body, or while another thread is in one,
    /// runs on its own thread as worker 0. Nothing is allocated.
    ///
    /// ```
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// let sum = AtomicU32::new(0);
    /// let pool = fornax_runtime::Pool::new(2, false)?;
    /// pool.run(100, 8, &|begin, end, _worker| {
    ///     sum.fetch_add((begin..end).sum(), Ordering::Relaxed);
    /// });
    /// assert_eq!(sum.into_inner(), 4950);
    /// # Ok::<(), fornax_runtime::Error>(())
    /// ```
    ///
    /// # Panics
    /// If `body` panics, so does this, after the calls under way have returned.
    pub fn run(&self, chunks: u32, grain: u32, body: &(dyn Fn(u32, u32, usize) + Sync)) {
        self.run_in(FloatMode::Ieee, chunks, grain, body);
    }

    /// [`Pool::run`] with the workers in `mode`; the caller sees to its own thread.
    pub(crate) fn run_in(&self, mode: FloatMode, chunks: u32, grain: u32, body: &(dyn Fn(u32, u32, usize) + Sync)) {
        if chunks == 0 {
            return;
        }
        let alone = chunks <= grain.max(1) || self.workers.is_empty();
        if alone || !self.shared.region.try_run((chunks, grain), mode, body, |helpers| self.wake(helpers)) {
            body(0, chunks, 0);
        }
    }

    /// Wakes those of the first `helpers` workers that sleep.
    fn wake(&self, helpers: u32) {
        for (worker, asleep) in self.workers.iter().zip(&self.shared.asleep).take(helpers as usize) {
            if asleep.0.load(Ordering::SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl fmt::Debug for Pool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Pool({} threads)", self.threads())
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::process::id() != self.process {
            // The workers are threads of the process that this one was forked from: there is nobody here to wait for.
            self.workers.drain(..).for_each(std::mem::forget);
            return;
        }
        self.shared.stop.store(true, Ordering::SeqCst);
        for worker in &self.workers {
            worker.thread().unpark();
        }
        for worker in self.workers.drain(..) {
            // Bodies are run under `catch_unwind`, so a worker ends normally; if not, its panic was reported by its
            // hook.
            let _ = worker.join();
        }
    }
}

/// Processors for `threads` of which the first is the caller's, if `cpus` has that many. All of `cpus` in their order if there is
/// one for each thread; else one of every core before the second of any, going round from `current` on. `core` names
/// the core of a processor by its first sibling.
fn places(cpus: &[usize], current: usize, threads: usize, core: impl Fn(usize) -> usize) -> Option<Vec<usize>> {
    if cpus.len() <= threads {
        return (cpus.len() == threads).then(|| cpus.to_vec());
    }
    let from = cpus.iter().position(|cpu| *cpu == current).unwrap_or(0);
    let round = || cpus[from..].iter().chain(&cpus[..from]).copied();
    let mut taken: BTreeMap<usize, usize> = BTreeMap::new();
    let mut ranked: Vec<(usize, usize)> = Vec::with_capacity(cpus.len());
    for cpu in round() {
        let siblings = taken.entry(core(cpu)).or_default();
        ranked.push((*siblings, cpu));
        *siblings += 1;
    }
    // Stable: among processors of one rank the order stays.
    ranked.sort_by_key(|(rank, _)| *rank);
    Some(ranked.into_iter().map(|(_, cpu)| cpu).take(threads).collect())
}

impl Shared {
    /// The life of a worker.
    fn work(&self, worker: usize, cpu: Option<usize>) {
        if let Some(cpu) = cpu {
            // A refusal costs speed only.
            let _ = pin_current_thread(cpu);
        }
        let mut float = float_environment(FloatMode::Ieee);
        while self.wait_for_work(worker) {
            self.region.work(worker, |mode| float.change(mode));
        }
    }

    /// Looks for work for a while, then sleeps until there is some; false at the end of the pool.
    fn wait_for_work(&self, worker: usize) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < self.spin {
            for _ in 0..POLLS {
                if self.region.has_work() {
                    return true;
                }
                spin_loop();
            }
        }
        let asleep = &self.asleep[worker - 1].0;
        asleep.store(true, Ordering::SeqCst);
        let more = loop {
            if self.stop.load(Ordering::SeqCst) {
                break false;
            }
            if self.region.has_work() {
                break true;
            }
            park();
        };
        asleep.store(false, Ordering::SeqCst);
        more
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sync::{AtomicU32, AtomicU64};
    use std::panic::{AssertUnwindSafe, catch_unwind};

    /// Runs a region and checks that every chunk ran once and that no worker ran two at a time.
    fn check(pool: &Pool, chunks: u32, grain: u32) {
        let runs: Vec<AtomicU32> = (0..chunks).map(|_| AtomicU32::new(0)).collect();
        let busy: Vec<AtomicBool> = (0..pool.threads()).map(|_| AtomicBool::new(false)).collect();
        pool.run(chunks, grain, &|begin, end, worker| {
            assert!(!busy[worker].swap(true, Ordering::SeqCst));
            for chunk in begin..end {
                runs[chunk as usize].fetch_add(1, Ordering::Relaxed);
            }
            busy[worker].store(false, Ordering::SeqCst);
        });
        assert!(runs.iter().all(|n| n.load(Ordering::Relaxed) == 1), "{chunks} chunks by {grain}");
    }

    #[test]
    fn many_tiny_regions() {
        let pool = Pool::new(2, true).unwrap();
        for i in 0..20_000u32 {
            check(&pool, i % 9, 1 + i % 3);
        }
    }

    #[test]
    fn more_threads_than_processors() {
        let pool = Pool::new(13, true).unwrap();
        assert_eq!(pool.threads(), 13);
        for i in 0..2000u32 {
            check(&pool, i % 40, 1);
        }
    }

    #[test]
    fn workers_wake_after_sleeping() {
        let pool = Pool::new(2, false).unwrap();
        let asleep = &pool.shared.asleep[0].0;
        for _ in 0..50 {
            while !asleep.load(Ordering::SeqCst) {
                crate::sync::yield_now();
            }
            // Neither chunk returns before both have begun, so the worker must come.
            let begun = AtomicU32::new(0);
            pool.run(2, 1, &|_, _, _| {
                begun.fetch_add(1, Ordering::SeqCst);
                while begun.load(Ordering::SeqCst) < 2 {
                    crate::sync::yield_now();
                }
            });
        }
    }

    #[test]
    fn a_region_ends_after_its_last_chunk() {
        let pool = Pool::new(2, false).unwrap();
        for _ in 0..50 {
            let (begun, ended) = (AtomicU32::new(0), AtomicU32::new(0));
            pool.run(2, 1, &|_, _, worker| {
                begun.fetch_add(1, Ordering::SeqCst);
                while begun.load(Ordering::SeqCst) < 2 {
                    crate::sync::yield_now();
                }
                // The caller has long been done when the worker is.
                (0..1000 * worker).for_each(|_| crate::sync::yield_now());
                ended.fetch_add(1, Ordering::SeqCst);
            });
            assert_eq!(ended.into_inner(), 2);
        }
    }

    #[test]
    fn a_panic_reaches_the_caller_and_the_pool_lives_on() {
        let pool = Pool::new(3, false).unwrap();
        for round in 0..200 {
            let outcome = catch_unwind(AssertUnwindSafe(|| {
                pool.run(16, 1, &|begin, _, _| {
                    if begin == round % 16 {
                        // No message on the test's output, unlike `panic!`.
                        std::panic::resume_unwind(Box::new(begin));
                    }
                });
            }));
            assert_eq!(*outcome.unwrap_err().downcast::<u32>().unwrap(), round % 16);
            check(&pool, 16, 1);
        }
    }

    #[test]
    fn two_callers_share_a_pool() {
        let pool = Pool::new(3, false).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| (0..3000).for_each(|i| check(&pool, i % 17, 1)));
            }
        });
    }

    #[test]
    fn regions_see_what_earlier_regions_wrote() {
        let pool = Pool::new(4, false).unwrap();
        let cells: Vec<AtomicU64> = (0..64).map(|_| AtomicU64::new(0)).collect();
        for round in 0..500u64 {
            pool.run(64, 3, &|begin, end, _| {
                for i in begin..end {
                    let from = &cells[(i as usize * 7 + 3) % 64];
                    assert!(from.load(Ordering::Relaxed) >= round);
                    cells[i as usize].store(round + 1, Ordering::Relaxed);
                }
            });
        }
    }

    #[test]
    fn a_region_inside_a_region_runs_on_its_thread() {
        let pool = Pool::new(2, false).unwrap();
        let count = AtomicU32::new(0);
        let inner = |begin, end, _| {
            count.fetch_add(end - begin, Ordering::Relaxed);
        };
        pool.run(4, 1, &|_, _, _| pool.run(5, 1, &inner));
        assert_eq!(count.load(Ordering::Relaxed), 20);
    }

    #[test]
    fn impossible_counts_are_errors() {
        for threads in [0, MAX_THREADS + 1, usize::MAX] {
            assert!(matches!(Pool::new(threads, false), Err(Error::ThreadCount { found, .. }) if found == threads));
        }
    }

    #[test]
    fn places_are_distinct_cores_from_the_current_processor_on() {
        let pairs = |cpu: usize| cpu / 2 * 2;
        let halves = |cpu: usize| cpu % 8;
        let all: Vec<usize> = (0..16).collect();
        let some = |places: &[usize]| Some(places.to_vec());
        assert_eq!(places(&all, 0, 2, pairs), some(&[0, 2]));
        assert_eq!(places(&all, 5, 3, pairs), some(&[5, 6, 8]));
        assert_eq!(places(&all, 15, 3, pairs), some(&[15, 0, 2]));
        assert_eq!(places(&all, 6, 4, halves), some(&[6, 7, 8, 9]));
        // Second threads of a core come when every core has one.
        assert_eq!(places(&all, 0, 10, pairs), some(&[0, 2, 4, 6, 8, 10, 12, 14, 1, 3]));
        // All processors, or those of a mask, in their order.
        assert_eq!(places(&[3, 7], 7, 2, pairs), some(&[3, 7]));
        assert_eq!(places(&[3, 6, 7], 9, 2, pairs), some(&[3, 6]));
        assert_eq!(places(&[6, 7, 9], 1, 2, pairs), some(&[6, 9]));
        assert_eq!(places(&[3], 3, 2, pairs), None);
    }

    #[test]
    fn pinning_leaves_a_processor_to_the_caller() {
        let enough = allowed_cpus().len() >= 2;
        assert_eq!(Pool::new(2, true).unwrap().caller_cpu().is_some(), enough);
        assert_eq!(Pool::new(2, false).unwrap().caller_cpu(), None);
    }
}
