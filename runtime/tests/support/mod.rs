//! A hand-made program: `y[i] = 2 x[i] + c[i]` in two steps through the arena, four elements a chunk.
#![allow(unsafe_code, reason = "kernels are unsafe functions")]
#![allow(dead_code, reason = "each test program uses a part")]

use std::sync::Arc;

use fornax_runtime::{
    Arg, ConstantPool, CpuFeatures, DType, Error, FloatMode, KernelFn, Port, Program, ProgramParts, StateParts, Step,
};

/// Elements of a chunk.
const CHUNK: usize = 4;

/// Defines a kernel with the convention of [`KernelFn`].
macro_rules! kernel {
    ($name:ident($ptrs:ident, $begin:ident, $end:ident, $scratch:ident) $body:block) => {
        #[cfg(target_arch = "x86_64")]
        unsafe extern "sysv64" fn $name($ptrs: *const *mut u8, $begin: u32, $end: u32, $scratch: *mut u8) $body
        #[cfg(not(target_arch = "x86_64"))]
        unsafe extern "C" fn $name($ptrs: *const *mut u8, $begin: u32, $end: u32, $scratch: *mut u8) $body
    };
}

kernel!(double(ptrs, begin, end, scratch) {
    for chunk in begin as usize..end as usize {
        // SAFETY: the program gives two buffers of CHUNK floats per chunk, and scratch for CHUNK floats.
        unsafe {
            let (x, y) = ((*ptrs).cast::<f32>().add(chunk * CHUNK), (*ptrs.add(1)).cast::<f32>().add(chunk * CHUNK));
            let scratch = scratch.cast::<f32>();
            (0..CHUNK).for_each(|i| *scratch.add(i) = *x.add(i));
            (0..CHUNK).for_each(|i| *y.add(i) = *scratch.add(i) * 2.0);
        }
    }
});

kernel!(add(ptrs, begin, end, _scratch) {
    for i in begin as usize * CHUNK..end as usize * CHUNK {
        // SAFETY: the program gives three buffers of CHUNK floats per chunk, and nothing as the fourth argument.
        unsafe {
            assert!((*ptrs.add(3)).is_null());
            *(*ptrs.add(2)).cast::<f32>().add(i) = *(*ptrs).cast::<f32>().add(i) + *(*ptrs.add(1)).cast::<f32>().add(i);
        }
    }
});

pub fn step(kernel: KernelFn, name: &str, args: Vec<Arg>, chunks: u32) -> Step {
    Step {
        kernel,
        code_bytes: 0,
        name: name.to_owned(),
        node: format!("node of {name}"),
        origins: Vec::new(),
        args,
        chunks,
        grain: 1,
        flops: 0,
        bytes: 0,
    }
}

/// The parts of the program for `chunks` chunks; the constant for element `i` is `i`.
pub fn parts(chunks: u32) -> ProgramParts {
    let elements = chunks as usize * CHUNK;
    let port = |name: &str| Port { name: name.to_owned(), dtype: DType::F32, shape: [elements].into() };
    let mut constants = ConstantPool::zeroed(64 + elements * 4).unwrap();
    for i in 0..elements {
        constants.slice_mut(64 + i * 4, 4).copy_from_slice(&(i as f32).to_ne_bytes());
    }
    ProgramParts {
        steps: vec![
            step(double, "double", vec![Arg::Input(0), Arg::Arena(64)], chunks),
            step(add, "add", vec![Arg::Arena(64), Arg::Constant(64), Arg::Output(0), Arg::Null], chunks),
        ],
        prologue: 0,
        inputs: vec![port("x")],
        outputs: vec![port("y")],
        arena_bytes: 64 + elements * 4,
        scratch_bytes: CHUNK * 4,
        constants,
        state: StateParts::default(),
        float_mode: FloatMode::Ieee,
        code: Box::new(()),
    }
}

pub fn program(parts: ProgramParts) -> Result<Arc<Program>, Error> {
    let proof = CpuFeatures::prove(CpuFeatures::default())?;
    // SAFETY: the kernels above stay inside what `parts` gives them.
    unsafe { Program::new(parts, proof) }.map(Arc::new)
}
