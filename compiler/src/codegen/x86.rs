//! The [`Emitter`] over our own x86-64 encoding: 256-bit vectors with AVX2 and FMA, 512-bit vectors with AVX-512 (F, VL, DQ).
//!
//! ```text
//! kernel ── Recorder ──▶ Recording ── fold ──▶ Recording ── allocate ──▶ instructions ── Assembler ──▶ bytes, constants after them
//!           values named once   loads with one use   registers,                 iced-x86
//!           per region          become operands      spills
//!          └──────────── codegen/machine ─────────┘
//! ```
//!
//! In: the calls of one kernel. Out: position-independent bytes without relocations, with a frame pointer. What a kernel emits is what
//! the machine runs, in that order; only register moves, spills and reloads are added, where a kernel asks for more registers than
//! there are.

mod allocate;
mod assembler;
mod elements;
mod emit;
mod general;
mod opcodes;
#[cfg(test)]
mod tests;
mod vector;

pub use assembler::ALIGN;

use super::Emitter;
use super::machine::{fold, record};
use crate::error::{Error, Result};
use crate::target::Target;

/// The machine code of the function that `emit` writes, for a target whose vectors `opcodes` has encodings for.
///
/// # Errors
/// [`Error::Codegen`] if there are no encodings, or one cannot be made.
pub fn compile(target: &Target, name: &str, emit: impl FnOnce(&mut dyn Emitter)) -> Result<Vec<u8>> {
    let vectors = target.vectors();
    let mut recorder = record::Recorder::new(vectors);
    emit(&mut recorder);
    let fail = |message: String| Error::Codegen { function: name.into(), message };
    let mut code = recorder.finish(name)?;
    fold::loads(&mut code, vectors);
    allocate::compile(&code, vectors).map_err(fail)
}

/// The instructions of `bytes`, one a line, in Intel syntax; addresses are relative to the first byte.
pub fn disassemble(bytes: &[u8]) -> String {
    assembler::disassemble(bytes)
}
