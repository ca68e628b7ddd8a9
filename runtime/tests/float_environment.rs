//! Kernels run with rounding to nearest, and subnormals as their program says, whatever the host has set, and the host gets its setting back.
#![allow(unsafe_code, reason = "changes the floating-point control register as a host might")]

#[macro_use]
mod support;

use std::arch::asm;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use fornax_runtime::{Arg, ConstantPool, DType, FloatMode, Pool, Port, ProgramParts, Session, StateParts, Tensor};
use support::{program, step};

/// Chunks of the test's step, and threads of its pool: each thread is held in one chunk until all have begun.
const THREADS: u32 = 3;
static BEGUN: AtomicUsize = AtomicUsize::new(0);

// Writes, per chunk, the product and the sum of the first two floats of its input.
kernel!(product_and_sum(ptrs, begin, end, _scratch) {
    for chunk in begin..end {
        BEGUN.fetch_add(1, Ordering::SeqCst);
        while BEGUN.load(Ordering::SeqCst) < THREADS as usize {
            std::thread::yield_now();
        }
        // SAFETY: the program gives two floats to read and two per chunk to write.
        unsafe {
            let x = (*ptrs).cast::<f32>();
            let y = (*ptrs.add(1)).cast::<f32>().add(2 * chunk as usize);
            y.write(x.read_volatile() * x.add(1).read_volatile());
            y.add(1).write(x.read_volatile() + x.add(1).read_volatile());
        }
    }
});

/// Flushes subnormals to zero and rounds towards plus infinity, or puts `control` back; returns what was set before.
fn set_float_control(control: Option<u64>) -> u64 {
    #[cfg(target_arch = "x86_64")]
    {
        let (mut before, odd) = (0u32, 0x8000 | 0x0040 | 0x4000);
        // SAFETY: stores MXCSR in a local.
        unsafe { asm!("stmxcsr [{}]", in(reg) &raw mut before, options(nostack)) };
        let after = control.map_or(before & !0x2000 | odd, |control| control as u32);
        // SAFETY: sets MXCSR to its value of before with documented bits changed.
        unsafe { asm!("ldmxcsr [{}]", in(reg) &raw const after, options(nostack)) };
        u64::from(before)
    }
    #[cfg(target_arch = "aarch64")]
    {
        let before: u64;
        // SAFETY: reads FPCR.
        unsafe { asm!("mrs {}, fpcr", out(reg) before, options(nostack)) };
        let after = control.unwrap_or(1 << 24 | 0b01 << 22);
        // SAFETY: sets documented bits of FPCR.
        unsafe { asm!("msr fpcr, {}", in(reg) after, options(nostack)) };
        before
    }
}

/// The program of `mode`.
fn parts(mode: FloatMode) -> ProgramParts {
    let port = |name: &str, elements| Port { name: name.to_owned(), dtype: DType::F32, shape: [elements].into() };
    ProgramParts {
        steps: vec![step(product_and_sum, "product_and_sum", vec![Arg::Input(0), Arg::Output(0)], THREADS)],
        prologue: 0,
        inputs: vec![port("x", 2)],
        outputs: vec![port("y", 2 * THREADS as usize)],
        arena_bytes: 0,
        scratch_bytes: 0,
        constants: ConstantPool::zeroed(0).unwrap(),
        state: StateParts::default(),
        float_mode: mode,
        code: Box::new(()),
    }
}

#[test]
fn every_thread_treats_subnormals_as_the_program_says_and_rounds_to_nearest() {
    let (a, b) = (f32::MIN_POSITIVE, 0.75);
    let expected = [std::hint::black_box(a) * b, std::hint::black_box(a) + b];
    assert!(expected[0].is_subnormal() && expected[1] == b);
    let programs = [FloatMode::Ieee, FloatMode::Flush].map(|mode| program(parts(mode)).unwrap());
    let x = Tensor::from_f32([2], &[a, b]).unwrap();

    // New threads inherit the setting, so the workers of this pool are born with it.
    let before = set_float_control(None);
    let pool = Arc::new(Pool::new(THREADS as usize, false).unwrap());
    let mut session = Session::of(programs.to_vec(), pool).unwrap();
    let runs = [0, 1, 0].map(|at| {
        BEGUN.store(0, Ordering::SeqCst);
        let mut outputs = session.outputs().unwrap();
        let result = session.run_program(at, &[&x], &mut outputs);
        (at, result, outputs)
    });
    let host_product = std::hint::black_box(a) * std::hint::black_box(b);
    set_float_control(Some(before));

    for (at, result, outputs) in runs {
        result.unwrap();
        let expected = if at == 0 { expected } else { [0.0, b] };
        assert_eq!(outputs[0].as_f32().unwrap(), expected.repeat(THREADS as usize), "program {at}");
    }
    assert_eq!(host_product, 0.0, "the host's own setting is back after the run");
}
