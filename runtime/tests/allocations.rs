//! A run allocates nothing, on any thread: counted by the allocator itself.
//!
//! This file holds one test, so that no other one allocates meanwhile.
#![allow(unsafe_code, reason = "implements a global allocator")]

mod support;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fornax_runtime::{Pool, Session, Tensor, Timeline};
use support::{parts, program};

static ALLOCATIONS: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, counting what it is asked for.
struct Counting;

// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::SeqCst);
        // SAFETY: as the caller promised.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as the caller promised.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Returns once every worker has begun: a new thread allocates what the standard library gives each of them.
fn wait_for_workers(pool: &Pool) {
    let begun = AtomicUsize::new(0);
    pool.run(pool.threads() as u32, 1, &|_, _, _| {
        begun.fetch_add(1, Ordering::SeqCst);
        while begun.load(Ordering::SeqCst) < pool.threads() {
            std::thread::yield_now();
        }
    });
}

#[test]
fn a_run_allocates_nothing() {
    for threads in [1, 2, 4] {
        let pool = Arc::new(Pool::new(threads, false).unwrap());
        let mut session = Session::new(program(parts(64)).unwrap(), Arc::clone(&pool)).unwrap();
        let mut outputs = session.outputs().unwrap();
        let x = Tensor::from_f32([256], &[1.5; 256]).unwrap();
        let mut times = [0; 2];
        let mut timeline = Timeline::new(2, threads);
        wait_for_workers(&pool);
        // An allocation of a run shows in every round; the test harness's own thread makes one now and then.
        let rounds = (0..3).map(|_| {
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            for _ in 0..200 {
                session.run(&[&x], &mut outputs).unwrap();
                session.run_profiled(&[&x], &mut outputs, &mut times).unwrap();
                session.run_traced(&[&x], &mut outputs, &mut timeline).unwrap();
            }
            ALLOCATIONS.load(Ordering::SeqCst) - before
        });
        assert_eq!(rounds.min(), Some(0), "{threads} threads");
        assert_eq!(outputs[0].as_f32().unwrap()[5], 8.0);
    }
}
