//! Makes programs of a library's decoded parts.
#![allow(unsafe_code, reason = "vouches for the kernels of a library")]

use super::Inner;
use crate::error::Error;
use crate::features::CpuFeatures;
use crate::program::{ConstantPool, Program, ProgramParts};
use crate::sync::Arc;

/// The program of a binding, on a level that the library has.
pub(super) fn program(library: &Inner, binding: usize, position: usize) -> Result<Program, Error> {
    let Inner { tables, kernels, weights, .. } = library;
    let Some(ports) = tables.bindings.get(binding) else {
        return Err(Error::NoBinding { path: tables.path.clone(), expected: tables.bindings.len(), found: binding });
    };
    let level = tables.levels.get(position);
    let proof = CpuFeatures::prove(level.map(|level| level.features).unwrap_or_default())?;
    let plan = tables.plan(binding, position)?;
    let size = |field, bytes: u64| {
        let fits = usize::try_from(bytes).ok();
        fits.ok_or_else(|| super::damaged(&tables.path, field, "a size that memory can have", bytes))
    };
    let constants = ConstantPool::shared(weights.clone());
    let parts = ProgramParts {
        steps: tables.steps(&plan, ports, kernels)?,
        prologue: tables.prologue(binding, position)?,
        inputs: ports.inputs.clone(),
        outputs: ports.outputs.clone(),
        arena_bytes: size("size of the arena", plan.arena_bytes)?,
        scratch_bytes: size("size of the scratch", plan.scratch_bytes)?,
        constants: constants
            .ok_or_else(|| super::damaged(&tables.path, "weights", "multiples of 64", weights.len()))?,
        state: tables.state.clone(),
        float_mode: ports.float_mode,
        code: Box::new(Arc::clone(kernels)),
    };
    // SAFETY: the user of `Library` answers for the file being one that the compiler wrote, and for nobody changing it in place: the docs
    // of `Library` ask for both, and nothing here could check them, as anyone can compute the hash. Given that, the hash says that code
    // and tables are those that were written together, and weights of this layout hold what the code expects where, so what the
    // compiler promises of a program that it makes in memory holds for them. The code needs what the table of levels says of
    // its own, and its memory lives in `code`.
    unsafe { Program::new(parts, proof) }
}
