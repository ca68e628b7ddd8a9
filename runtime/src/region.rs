//! One parallel region at a time: a borrowed body, run over units of chunks by whichever threads come.
//!
//! In: a body, a number of chunks, and the floating-point mode that threads need for it. Out: every chunk run exactly once, and no thread
//! inside the body any more.
//!
//! The claim word holds (epoch, first unit left, units left). Even workers claim the first unit left, odd ones the last, so that
//! each of two threads works on neighbouring units, and in the next region on much the same part of the data, which its own
//! cache still holds. A thread claims a unit by compare-exchange on the whole word, so it can only ever take work of the region
//! whose fields it has just read:
//! - the fields are written while no units are left, when nothing can be claimed;
//! - a claim that succeeds keeps the region open until its `done` is counted, so the fields cannot have changed between
//!   reading them and claiming;
//! - a thread that comes late finds another word and claims nothing, and the opener does not wait for it.
//!
//! The epoch has 32 bits: a thread would have to sleep through 2^32 regions between a load and its compare-exchange to
//! mistake one for another.
#![allow(unsafe_code, reason = "lends a borrowed closure to threads that outlive the borrow")]

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};

use crate::cpu::FloatMode;
use crate::sync::{
    AtomicBool, AtomicPtr, AtomicU32, AtomicU64, Mutex, Ordering, Padded, lock, spin_loop, try_lock, yield_now,
};

/// What a region runs: chunks `begin..end` on worker `w`.
pub(crate) type Body<'a> = dyn Fn(u32, u32, usize) + Sync + 'a;

/// Bits of the claim word that count the units left, and as many above them that number the first of them.
const UNIT_BITS: u32 = 16;
const UNIT_MASK: u64 = (1 << UNIT_BITS) - 1;
/// Bits below the epoch.
const EPOCH_SHIFT: u32 = 2 * UNIT_BITS;
/// Polls of the opener before it offers its core to a worker that may be waiting for one.
const WAIT_SPINS: u32 = 2000;

/// A claimed part of a region.
struct Unit {
    body: *const &'static Body<'static>,
    begin: u32,
    end: u32,
    mode: FloatMode,
}

/// Room for one open region.
#[derive(Default)]
pub(crate) struct Region {
    /// epoch << EPOCH_SHIFT | first unit left << UNIT_BITS | units left.
    claims: Padded<AtomicU64>,
    /// Units whose body has returned.
    done: Padded<AtomicU64>,
    /// The opener's reference to the body, on the opener's stack.
    body: AtomicPtr<&'static Body<'static>>,
    chunks: AtomicU32,
    grain: AtomicU32,
    /// Whether subnormals are zero in the body.
    flush: AtomicBool,
    /// Held by the opener.
    turn: Mutex<()>,
    /// The first panic of the open region.
    panic: Mutex<Option<Box<dyn Any + Send>>>,
}

impl Region {
    /// True while units wait to be claimed.
    pub fn has_work(&self) -> bool {
        // Sequentially consistent with the store in `try_run`: a worker that declares itself asleep and then sees no
        // work is seen asleep by the opener.
        self.claims.0.load(Ordering::SeqCst) & UNIT_MASK != 0
    }

    /// Runs `body` over `0..chunks` in units of `grain`, taking part as worker 0, in `mode`, which this thread is in already; `opened` is told
    /// how many other workers could help. Returns false, having done nothing, if another region is open. A panic of the body comes out
    /// here, after every unit that had begun has ended; units not begun are dropped.
    pub fn try_run(
        &self,
        (chunks, grain): (u32, u32),
        mode: FloatMode,
        body: &Body<'_>,
        opened: impl FnOnce(u32),
    ) -> bool {
        let Some(turn) = try_lock(&self.turn) else { return false };
        let grain = grain.max(1).max(chunks.div_ceil(UNIT_MASK as u32));
        let units = u64::from(chunks.div_ceil(grain));
        self.body.store((&raw const body).cast_mut().cast(), Ordering::Relaxed);
        self.chunks.store(chunks, Ordering::Relaxed);
        self.grain.store(grain, Ordering::Relaxed);
        self.flush.store(mode == FloatMode::Flush, Ordering::Relaxed);
        self.done.0.store(0, Ordering::Relaxed);
        let epoch = (self.claims.0.load(Ordering::Relaxed) >> EPOCH_SHIFT).wrapping_add(1);
        self.claims.0.store((epoch << EPOCH_SHIFT) | units, Ordering::SeqCst);
        {
            let _close = Close { region: self, units };
            opened((units as u32).saturating_sub(1));
            self.work(0, |_| ());
        }
        let panic = lock(&self.panic).take();
        drop(turn);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
        true
    }

    /// Claims and runs units as worker `worker` until none are left. `enter` is told the mode of each before it runs.
    pub fn work(&self, worker: usize, mut enter: impl FnMut(FloatMode)) {
        let mut word = self.claims.0.load(Ordering::Acquire);
        while word & UNIT_MASK != 0 {
            match self.claim(word, worker) {
                Ok(unit) => {
                    enter(unit.mode);
                    self.run_unit(&unit, worker);
                    word = self.claims.0.load(Ordering::Acquire);
                }
                Err(now) => word = now,
            }
        }
    }

    /// Claims a unit for a worker if the claim word is still `word`, which had units left; else gives its present value.
    fn claim(&self, word: u64, worker: usize) -> Result<Unit, u64> {
        let body = self.body.load(Ordering::Relaxed);
        let chunks = self.chunks.load(Ordering::Relaxed);
        let grain = self.grain.load(Ordering::Relaxed);
        let mode = if self.flush.load(Ordering::Relaxed) { FloatMode::Flush } else { FloatMode::Ieee };
        let (first, left) = ((word >> UNIT_BITS & UNIT_MASK) as u32, (word & UNIT_MASK) as u32);
        let (unit, rest) =
            if worker.is_multiple_of(2) { (first, word + (1 << UNIT_BITS) - 1) } else { (first + left - 1, word - 1) };
        self.claims.0.compare_exchange_weak(word, rest, Ordering::AcqRel, Ordering::Acquire)?;
        let begin = unit * grain;
        Ok(Unit { body, begin, end: begin.saturating_add(grain).min(chunks), mode })
    }

    /// Runs a claimed unit and counts it.
    fn run_unit(&self, unit: &Unit, worker: usize) {
        // SAFETY: the claim succeeded, so `body` is that of the open region, whose opener stays in `try_run`, and keeps
        // both the reference and the closure alive, until this unit is counted in `done`.
        let body = unsafe { *unit.body };
        if let Err(payload) = catch_unwind(AssertUnwindSafe(|| body(unit.begin, unit.end, worker))) {
            self.keep(payload);
            self.abandon();
        }
        self.done.0.fetch_add(1, Ordering::Release);
    }

    /// Keeps the first panic for the opener. Later ones are leaked: dropping one may panic again, and then nobody would count
    /// the unit that the opener waits for.
    fn keep(&self, payload: Box<dyn Any + Send>) {
        let mut first = lock(&self.panic);
        if first.is_none() {
            *first = Some(payload);
        } else {
            std::mem::forget(payload);
        }
    }

    /// Claims every unit left without running it. Called while the region is open.
    fn abandon(&self) {
        let word = self.claims.0.fetch_and(!UNIT_MASK, Ordering::AcqRel);
        self.done.0.fetch_add(word & UNIT_MASK, Ordering::Release);
    }
}

/// Ends a region on every way out of `try_run`.
struct Close<'a> {
    region: &'a Region,
    units: u64,
}

impl Drop for Close<'_> {
    fn drop(&mut self) {
        self.region.abandon();
        let mut polls = 0;
        while self.region.done.0.load(Ordering::Acquire) != self.units {
            if polls < WAIT_SPINS {
                polls += 1;
                spin_loop();
            } else {
                yield_now();
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_cover_every_chunk_once() {
        for (chunks, grain) in [(1, 1), (7, 3), (8, 4), (5, 100), (u32::MAX, 1 << 28), (u32::MAX, u32::MAX)] {
            let seen = Mutex::new(Vec::new());
            let region = Region::default();
            assert!(region.try_run((chunks, grain), FloatMode::Ieee, &|b, e, w| lock(&seen).push((b, e, w)), |_| ()));
            let seen = lock(&seen);
            let mut next = 0;
            for &(begin, end, worker) in seen.iter() {
                assert_eq!((begin, worker), (next, 0));
                assert!(end > begin);
                next = end;
            }
            assert_eq!(next, chunks);
            assert!(!region.has_work());
        }
    }

    #[test]
    fn a_region_inside_a_region_is_refused() {
        let region = Region::default();
        let inner = Mutex::new(None);
        assert!(region.try_run(
            (1, 1),
            FloatMode::Ieee,
            &|_, _, _| *lock(&inner) = Some(region.try_run((1, 1), FloatMode::Ieee, &|_, _, _| (), |_| ())),
            |_| ()
        ));
        assert_eq!(*lock(&inner), Some(false));
    }

    #[test]
    fn a_late_worker_claims_nothing() {
        let region = Region::default();
        let word = || region.claims.0.load(Ordering::SeqCst);
        let stale = AtomicU64::new(0);
        assert!(region.try_run(
            (4, 1),
            FloatMode::Ieee,
            &|_, _, _| _ = stale.compare_exchange(0, word(), Ordering::SeqCst, Ordering::SeqCst),
            |_| ()
        ));
        let stale = stale.into_inner();
        assert_eq!(stale & UNIT_MASK, 3);
        let claimed = AtomicU32::new(0);
        let late = |_, _, _| {
            if region.claim(stale, 0).is_ok() {
                region.done.0.fetch_add(1, Ordering::SeqCst);
                claimed.fetch_add(1, Ordering::SeqCst);
            }
        };
        assert!(region.try_run((4, 1), FloatMode::Ieee, &late, |_| ()));
        assert_eq!(claimed.into_inner(), 0);
    }

    #[test]
    fn a_panic_before_the_first_unit_closes_the_region() {
        let region = Region::default();
        let open =
            || region.try_run((4, 1), FloatMode::Ieee, &|_, _, _| unreachable!(), |_| resume_unwind(Box::new(())));
        assert!(catch_unwind(AssertUnwindSafe(open)).is_err());
        assert!(region.try_run((1, 1), FloatMode::Ieee, &|_, _, _| (), |_| ()));
    }

    /// Panics when it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            resume_unwind(Box::new("the payload"));
        }
    }

    #[test]
    fn a_payload_that_panics_when_dropped_closes_the_region() {
        let region = Region::default();
        let begun = AtomicU32::new(0);
        // Both units have begun before either panics, so that the second payload finds the first.
        let body = |_, _, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < 2 {
                yield_now();
            }
            resume_unwind(Box::new(Bomb));
        };
        let caught = std::thread::scope(|scope| {
            let worker = scope.spawn(|| {
                while !region.has_work() {
                    yield_now();
                }
                region.work(1, |_| ());
            });
            let caught = catch_unwind(AssertUnwindSafe(|| region.try_run((2, 1), FloatMode::Ieee, &body, |_| ())));
            assert!(worker.join().is_ok(), "the worker outlives the panics");
            caught
        });
        assert!(caught.unwrap_err().downcast::<Bomb>().map(|bomb| std::mem::forget(*bomb)).is_ok());
        assert!(region.try_run((1, 1), FloatMode::Ieee, &|_, _, _| (), |_| ()));
    }

    #[test]
    fn a_panic_drops_the_units_not_begun() {
        let region = Region::default();
        let count = AtomicU32::new(0);
        let run = || {
            region.try_run(
                (10, 1),
                FloatMode::Ieee,
                &|begin, _, _| {
                    count.fetch_add(1, Ordering::Relaxed);
                    assert!(begin < 3, "unit 3");
                },
                |_| (),
            )
        };
        assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
        assert_eq!(count.load(Ordering::Relaxed), 4);
        assert!(region.try_run((2, 1), FloatMode::Ieee, &|_, _, _| (), |_| ()));
    }
}
