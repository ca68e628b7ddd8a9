//! Programs of hand-made kernels through the public interface.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use fornax_runtime::{Arg, DType, Error, Pool, PortKind, Session, Tensor, Timeline};
use support::{parts, program};

fn pool(threads: usize) -> Arc<Pool> {
    Arc::new(Pool::new(threads, false).unwrap())
}

fn input(elements: usize, seed: usize) -> Tensor {
    let data: Vec<f32> = (0..elements).map(|i| (i * 31 % 17 + seed) as f32).collect();
    Tensor::from_f32([elements], &data).unwrap()
}

/// Runs `session` on the input of `seed` and checks every element.
fn check(session: &mut Session, outputs: &mut [Tensor], seed: usize) {
    let x = input(outputs[0].numel(), seed);
    session.run(&[&x], outputs).unwrap();
    let (x, y) = (x.as_f32().unwrap(), outputs[0].as_f32().unwrap());
    assert!(x.iter().zip(y).enumerate().all(|(i, (x, y))| *y == 2.0 * x + i as f32), "seed {seed}");
}

#[test]
fn results_do_not_depend_on_threads() {
    for threads in [1, 2, 5] {
        for chunks in [1, 2, 33] {
            let mut session = Session::new(program(parts(chunks)).unwrap(), pool(threads)).unwrap();
            let mut outputs = session.outputs().unwrap();
            (0..100).for_each(|seed| check(&mut session, &mut outputs, seed));
        }
    }
}

#[test]
fn zero_size_tensors_run() {
    let mut session = Session::new(program(parts(0)).unwrap(), pool(2)).unwrap();
    let mut outputs = session.outputs().unwrap();
    check(&mut session, &mut outputs, 0);
    assert_eq!(outputs[0].numel(), 0);
}

#[test]
fn sessions_share_a_program_and_a_pool() {
    let (program, pool) = (program(parts(20)).unwrap(), pool(3));
    std::thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let mut session = Session::new(Arc::clone(&program), Arc::clone(&pool)).unwrap();
                let mut outputs = session.outputs().unwrap();
                (0..500).for_each(|seed| check(&mut session, &mut outputs, seed));
            });
        }
    });
}

#[test]
fn the_arena_keeps_its_contents_between_runs_and_a_session_moves() {
    let mut session = Session::new(program(parts(3)).unwrap(), pool(2)).unwrap();
    let mut outputs = session.outputs().unwrap();
    check(&mut session, &mut outputs, 1);
    let mut session = std::thread::spawn(move || session).join().unwrap();
    check(&mut session, &mut outputs, 2);
}

#[test]
fn profiling_gives_a_time_per_step() {
    let mut session = Session::new(program(parts(1000)).unwrap(), pool(2)).unwrap();
    let mut outputs = session.outputs().unwrap();
    let x = input(4000, 0);
    let mut times = [0; 2];
    session.run_profiled(&[&x], &mut outputs, &mut times).unwrap();
    assert!(times.iter().all(|&ns| ns > 0));
    let wrong = session.run_profiled(&[&x], &mut outputs, &mut times[..1]);
    assert!(matches!(wrong, Err(Error::TimesLength { expected: 2, found: 1 })));
}

#[test]
fn a_traced_run_says_who_did_what() {
    for threads in [1, 3] {
        let mut session = Session::new(program(parts(20)).unwrap(), pool(threads)).unwrap();
        let mut outputs = session.outputs().unwrap();
        let x = input(outputs[0].numel(), 0);
        let mut timeline = Timeline::new(2, threads);
        for _ in 0..50 {
            session.run_traced(&[&x], &mut outputs, &mut timeline).unwrap();
            let spans = |step| (0..threads).filter_map(|worker| timeline.span(step, worker)).collect::<Vec<_>>();
            let (first, second) = (spans(0), spans(1));
            assert!(!first.is_empty() && !second.is_empty());
            for span in first.iter().chain(&second) {
                assert!(span.begin_ns <= span.end_ns && span.end_ns <= timeline.wall_ns(), "{span:?}");
                assert!(span.busy_ns <= span.end_ns - span.begin_ns, "{span:?}");
            }
            // A barrier lies between the steps.
            let ended = first.iter().map(|span| span.end_ns).max();
            assert!(ended <= second.iter().map(|span| span.begin_ns).min());
        }
        check(&mut session, &mut outputs, 5);
        let wrong = session.run_traced(&[&x], &mut outputs, &mut Timeline::new(1, threads));
        assert!(matches!(wrong, Err(Error::TimelineSize { expected_steps: 2, steps: 1, .. })));
    }
}

#[test]
fn wrong_tensors_are_named() {
    let mut session = Session::new(program(parts(2)).unwrap(), pool(1)).unwrap();
    let (x, mut y) = (input(8, 0), session.outputs().unwrap());
    let count = session.run(&[], &mut y).unwrap_err();
    assert!(matches!(count, Error::PortCount { kind: PortKind::Input, expected: 1, found: 0 }));
    let count = session.run(&[&x], &mut []).unwrap_err();
    assert!(matches!(count, Error::PortCount { kind: PortKind::Output, expected: 1, found: 0 }));
    let shape = session.run(&[&input(7, 0)], &mut y).unwrap_err();
    assert_eq!(shape.to_string(), "input `x`: expected shape [8], found [7]");
    let dtype = session.run(&[&Tensor::zeros(DType::I32, [8]).unwrap()], &mut y).unwrap_err();
    assert_eq!(dtype.to_string(), "input `x`: expected element type f32, found i32");
    let rank = session.run(&[&x], &mut [Tensor::zeros(DType::F32, [1, 8]).unwrap()]).unwrap_err();
    assert_eq!(rank.to_string(), "output `y`: expected shape [8], found [1,8]");
    check(&mut session, &mut y, 3);
}

#[test]
fn programs_that_contradict_themselves_are_refused() {
    let field = |arg: Arg| {
        let mut parts = parts(2);
        parts.steps[1].args[0] = arg;
        match program(parts) {
            Err(Error::BadStep { step: 1, field, .. }) => field,
            other => panic!("{arg:?}: {:?}", other.map(|_| ())),
        }
    };
    assert_eq!(field(Arg::Arena(64 + 33)), "arena offset");
    assert_eq!(field(Arg::Constant(usize::MAX)), "constant offset");
    assert_eq!(field(Arg::State(1)), "state offset");
    assert_eq!(field(Arg::Input(1)), "input");
    assert_eq!(field(Arg::Output(1)), "output");

    let mut no_grain = parts(2);
    no_grain.steps[0].grain = 0;
    let message = program(no_grain).map(|_| ()).unwrap_err().to_string();
    assert_eq!(message, "step 0 (double, from node of double): grain: expected at least 1, found 0");

    let mut huge = parts(2);
    huge.inputs[0].shape = [usize::MAX, 2].into();
    assert!(matches!(program(huge), Err(Error::TensorTooLarge { .. })));
    let mut beside_none = parts(2);
    beside_none.inputs[0].shape = [1 << 40, 0, 1 << 40].into();
    assert!(matches!(program(beside_none), Err(Error::TensorTooLarge { .. })));
}

#[test]
fn memory_that_cannot_be_had_is_an_error() {
    let mut arena = parts(2);
    arena.arena_bytes = 1 << 60;
    let session = Session::new(program(arena).unwrap(), pool(1));
    assert!(matches!(session, Err(Error::Allocation { what: "the arena", .. })));
    for scratch_bytes in [usize::MAX, usize::MAX / 2, 1 << 60] {
        let mut scratch = parts(2);
        scratch.scratch_bytes = scratch_bytes;
        let session = Session::new(program(scratch).unwrap(), pool(3));
        assert!(matches!(session, Err(Error::Allocation { what: "scratch", .. })));
    }
}

#[test]
fn code_lives_as_long_as_a_session() {
    struct Code(Arc<AtomicBool>);
    impl Drop for Code {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    let freed = Arc::new(AtomicBool::new(false));
    let mut parts = parts(2);
    parts.code = Box::new(Code(Arc::clone(&freed)));
    let session = Session::new(program(parts).unwrap(), pool(1)).unwrap();
    assert!(!freed.load(Ordering::SeqCst));
    drop(session);
    assert!(freed.load(Ordering::SeqCst));
}
