//! Where the system refuses threads, and in a process that was forked.
//!
//! Each test runs its part in a process of its own: this file again, with one test and a variable that says so.
#![allow(unsafe_code, reason = "forks")]

use std::process::{Command, ExitStatus};
use std::sync::atomic::{AtomicU32, Ordering};

use fornax_runtime::{Error, Pool};

/// What tells a process that it is the part of a test.
const PART: &str = "FORNAX_TEST_PART";

unsafe extern "C" {
    fn fork() -> i32;
    fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
    fn alarm(seconds: u32) -> u32;
    fn _exit(code: i32) -> !;
}

/// Runs the test `name` again as a part, with one more variable; `None` in the part itself.
fn part(name: &str, (variable, value): (&str, &str)) -> Option<ExitStatus> {
    if std::env::var_os(PART).is_some() {
        return None;
    }
    let mut command = Command::new(std::env::current_exe().unwrap());
    // On one thread the harness runs a test on the main thread and so starts none itself.
    command.args(["--exact", name, "--test-threads=1"]).env(PART, "1").env(variable, value);
    Some(command.status().unwrap())
}

/// Sums `0..100` over a pool.
fn sum(pool: &Pool) -> u32 {
    let sum = AtomicU32::new(0);
    pool.run(100, 1, &|begin, end, _| _ = sum.fetch_add((begin..end).sum(), Ordering::Relaxed));
    sum.into_inner()
}

#[test]
fn refused_threads_leave_fewer() {
    // A stack that no address space has room for: every new thread is refused.
    let Some(status) = part("refused_threads_leave_fewer", ("RUST_MIN_STACK", "140737488355328")) else {
        assert!(matches!(Pool::new(3, false), Err(Error::Spawn { worker: 1, .. })));
        for pin in [false, true] {
            let pool = Pool::at_most(3, pin).unwrap();
            assert_eq!((pool.threads(), pool.caller_cpu(), sum(&pool)), (1, None, 4950));
        }
        assert!(matches!(Pool::at_most(0, false), Err(Error::ThreadCount { found: 0, .. })));
        return;
    };
    assert!(status.success(), "{status}");
}

#[test]
fn a_forked_child_runs_alone_and_drops_a_pool() {
    let Some(status) = part("a_forked_child_runs_alone_and_drops_a_pool", (PART, "1")) else {
        let pool = Pool::new(3, false).unwrap();
        assert_eq!(sum(&pool), 4950);
        // SAFETY: the child calls what is async-signal-safe, the pool, and the allocator, which glibc makes usable after a fork.
        let child = unsafe { fork() };
        if child == 0 {
            // SAFETY: ends the child if it hangs.
            unsafe { alarm(20) };
            let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                let right = sum(&pool) == 4950;
                drop(pool);
                right
            }));
            // SAFETY: ends the child without the exit handlers of its parent.
            unsafe { _exit(if dropped.is_ok_and(|right| right) { 0 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: waits for the child just made and stores its status in a local.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child ended by itself");
        assert_eq!(sum(&pool), 4950, "the parent's pool goes on");
        return;
    };
    assert!(status.success(), "{status}");
}
