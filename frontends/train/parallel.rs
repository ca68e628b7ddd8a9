//! Work over many items on several threads.
//!
//! In: a number of items and what to do with each. Out: a result for each, in order. Which thread does which item is left open, so the
//! work must not depend on it. Where the system gives fewer threads, those that there are do it all; a panic of one is one of the caller.

use std::convert::Infallible;
use std::panic::resume_unwind;
use std::sync::atomic::{AtomicUsize, Ordering};

/// `work` of every item below `count`, on at most `threads` threads.
pub(crate) fn map<T: Send>(threads: usize, count: usize, work: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let found: Result<Vec<T>, Infallible> = try_map(threads, count, || Ok(()), |(), at| Ok(work(at)));
    found.unwrap_or_else(|never| match never {})
}

/// [`map`] with something of its own for each thread, made by `start`. After an error nobody begins another item.
///
/// # Errors
/// The first error of the first thread that had one.
pub(crate) fn try_map<S, T: Send, E: Send>(
    threads: usize,
    count: usize,
    start: impl Fn() -> Result<S, E> + Sync,
    work: impl Fn(&mut S, usize) -> Result<T, E> + Sync,
) -> Result<Vec<T>, E> {
    let next = AtomicUsize::new(0);
    let some = || -> Result<Vec<(usize, T)>, E> {
        let (mut own, mut done) = (start()?, Vec::new());
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                return Ok(done);
            }
            done.push((at, work(&mut own, at)?));
        }
    };
    let some = || some().inspect_err(|_| next.store(count, Ordering::Relaxed));
    let results: Vec<Result<Vec<(usize, T)>, E>> = std::thread::scope(|scope| {
        let begin = |_| std::thread::Builder::new().spawn_scoped(scope, some).ok();
        let workers: Vec<_> = (1..threads.min(count)).map_while(begin).collect();
        let own = some();
        let others = workers.into_iter().map(|worker| worker.join().unwrap_or_else(|panic| resume_unwind(panic)));
        std::iter::once(own).chain(others).collect()
    });
    let mut done: Vec<(usize, T)> = results.into_iter().collect::<Result<Vec<_>, E>>()?.into_iter().flatten().collect();
    done.sort_by_key(|(at, _)| *at);
    Ok(done.into_iter().map(|(_, result)| result).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_are_in_order_on_every_number_of_threads() {
        for threads in [0, 1, 2, 5] {
            assert_eq!(map(threads, 20, |at| at * at), (0..20).map(|at| at * at).collect::<Vec<_>>());
            assert!(map(threads, 0, |at| at).is_empty());
        }
    }

    #[test]
    fn an_error_ends_the_work() {
        let begun = AtomicUsize::new(0);
        let count = |_: &mut (), at: usize| {
            begun.fetch_add(1, Ordering::Relaxed);
            if at == 3 { Err(at) } else { Ok(at) }
        };
        assert_eq!(try_map(1, 1000, || Ok(()), count), Err(3));
        assert_eq!(begun.into_inner(), 4);
        let refused: Result<Vec<usize>, &str> = try_map(2, 9, || Err("none"), |(): &mut (), at| Ok(at));
        assert_eq!(refused, Err("none"));
    }
}
