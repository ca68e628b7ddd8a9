//! A run of a compiled network allocates nothing, on any thread: counted by the allocator itself.
//!
//! This file holds one test, so that no other one allocates meanwhile.
#![allow(unsafe_code, reason = "implements a global allocator")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};

use fornax::{Model, SessionOptions, tensors};

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

#[test]
fn a_run_allocates_nothing() {
    let examples = concat!(env!("CARGO_MANIFEST_DIR"), "/examples");
    let model = Model::open(format!("{examples}/signs.onnx")).unwrap();
    let image = tensors::load(format!("{examples}/signs.input.npy")).unwrap().remove(0).tensor;
    for threads in [1, 2, 4] {
        let mut session = model.session(&SessionOptions { threads, ..Default::default() }).unwrap();
        let mut outputs = session.run(&[&image]).unwrap();
        // A new thread allocates what the standard library gives each: wait until all have begun.
        let begun = AtomicUsize::new(0);
        session.pool().run(threads as u32, 1, &|_, _, _| {
            begun.fetch_add(1, Ordering::SeqCst);
            while begun.load(Ordering::SeqCst) < threads {
                std::thread::yield_now();
            }
        });
        // An allocation of a run shows in every round; the test harness's own thread makes one now and then.
        let rounds = (0..3).map(|_| {
            let before = ALLOCATIONS.load(Ordering::SeqCst);
            for _ in 0..50 {
                session.run_into(&[&image], &mut outputs).unwrap();
            }
            ALLOCATIONS.load(Ordering::SeqCst) - before
        });
        assert_eq!(rounds.min(), Some(0), "{threads} threads");
    }
}
