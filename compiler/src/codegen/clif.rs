//! The [`Emitter`] over Cranelift: 128-bit vectors, for every target that Cranelift serves.
//!
//! In: the calls of one kernel. Out: a CLIF function with the kernel ABI. Registers are frontend variables, so loops get their
//! block parameters from the frontend. Cranelift runs without its optimiser ([`isa`] sets `opt_level=none`): it would move every load
//! of a block ahead of the arithmetic and spill, so what a kernel emits is what the machine runs, in that order.

mod elements;
mod emitter;
pub mod routine;
#[cfg(test)]
mod tests;

use cranelift_codegen::control::ControlPlane;
use cranelift_codegen::dominator_tree::DominatorTree;
use cranelift_codegen::flowgraph::ControlFlowGraph;
use cranelift_codegen::ir::{
    AbiParam, Endianness, Function, InstBuilder, MemFlagsData, Signature, UserFuncName, types,
};
use cranelift_codegen::isa::{self as clif_isa, CallConv, OwnedTargetIsa, TargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use cranelift_codegen::{CodegenError, CompiledCode, verify_function};
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

use fornax_runtime::CpuFeatures;

use super::Emitter;
use crate::error::{Error, Result};
use crate::target::Target;
pub(crate) use emitter::ClifEmitter;

/// Settings that hold for every function: emission order is kept, calls need no global offset table, no unwinding, no probes.
const SHARED: &[(&str, &str)] = &[
    ("opt_level", "none"),
    ("is_pic", "false"),
    ("preserve_frame_pointers", "true"),
    ("enable_probestack", "false"),
    ("unwind_info", "false"),
    ("enable_verifier", if cfg!(debug_assertions) { "true" } else { "false" }),
];

/// What 128-bit code has no use for; Cranelift has settings of the same names as the others. Advanced SIMD it takes for granted.
const UNUSED: CpuFeatures = CpuFeatures {
    f16c: true,
    avx512: true,
    avx512_vnni: true,
    avx512_bf16: true,
    amx_tile: true,
    amx_bf16: true,
    amx_int8: true,
    neon: true,
    ..CpuFeatures::NONE
};

/// Cranelift's description of a target; the same for code that runs here and code that is written to a file.
///
/// # Errors
/// [`Error::Codegen`] if Cranelift was built without the architecture.
pub fn isa(target: &Target) -> Result<OwnedTargetIsa> {
    let refused = |message: String| Error::Codegen { function: target.to_string(), message };
    let mut shared = settings::builder();
    for (name, value) in SHARED {
        shared.set(name, value).map_err(|e| refused(e.to_string()))?;
    }
    let triple = format!("{}-unknown-linux-gnu", target.arch().name());
    let mut builder = clif_isa::lookup_by_name(&triple).map_err(|e| refused(e.to_string()))?;
    for name in target.level.features.without(UNUSED).names() {
        builder.enable(&format!("has_{name}")).map_err(|e| refused(e.to_string()))?;
    }
    builder.finish(settings::Flags::new(shared)).map_err(|e| refused(e.to_string()))
}

/// Signature of every kernel: `fn(ptrs: *const *mut u8, begin: u32, end: u32, scratch: *mut u8)`, System V.
pub fn signature() -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend([types::I64, types::I32, types::I32, types::I64].map(AbiParam::new));
    signature
}

/// The function that `emit` writes for the kernel called `name`.
///
/// # Errors
/// [`fornax_ir::Error::Limit`] if a displacement does not fit an instruction.
pub fn build(isa: &dyn TargetIsa, name: &str, emit: impl FnOnce(&mut dyn Emitter)) -> Result<Function> {
    named(isa, (name, UserFuncName::default()), emit)
}

/// The machine code of a function.
///
/// These are the steps of Cranelift's own driver without its removal of block parameters that have one value:
/// [`Emitter::broadcast`] needs them.
pub fn compile(isa: &dyn TargetIsa, mut function: Function) -> Result<CompiledCode, CodegenError> {
    if isa.flags().enable_verifier() {
        verify_function(&function, isa)?;
    }
    function.dfg.resolve_all_aliases();
    let cfg = ControlFlowGraph::with_function(&function);
    let domtree = DominatorTree::with_function(&function, &cfg);
    let (mut registers, mut control) = (Default::default(), ControlPlane::default());
    let code = isa.compile_function(&function, &domtree, &mut registers, cfg!(test), &mut control)?;
    Ok(code.apply_params(&function.params))
}

/// The CLIF text of the function that `emit` writes, under `name`.
pub fn text(target: &Target, name: &str, emit: impl FnOnce(&mut dyn Emitter)) -> Result<String> {
    let isa = isa(target)?;
    Ok(named(&*isa, (name, UserFuncName::testcase(name)), emit)?.display().to_string())
}

fn named(
    isa: &dyn TargetIsa,
    (kernel, name): (&str, UserFuncName),
    emit: impl FnOnce(&mut dyn Emitter),
) -> Result<Function> {
    let mut context = FunctionBuilderContext::new();
    let mut function = Function::with_name_signature(name, signature());
    let mut builder = FunctionBuilder::new(&mut function, &mut context);
    let entry = builder.create_block();
    builder.append_block_params_for_function_params(entry);
    builder.switch_to_block(entry);
    builder.seal_block(entry);
    let mut emitter = ClifEmitter::new(builder, entry, has_fma(isa), is_x86(isa));
    emit(&mut emitter);
    emitter.builder.ins().return_(&[]);
    emitter.builder.finalize(isa.frontend_config());
    emitter.displacements.check(kernel)?;
    Ok(function)
}

fn is_x86(isa: &dyn TargetIsa) -> bool {
    isa.triple().architecture.to_string() == "x86_64"
}

/// Whether CLIF's `fma` is one instruction; elsewhere it would call a library.
fn has_fma(isa: &dyn TargetIsa) -> bool {
    !is_x86(isa) || isa.isa_flags().iter().any(|flag| flag.name == "has_fma" && flag.as_bool() == Some(true))
}

/// Kernel memory: little-endian, never traps, no alignment.
pub(crate) fn memory() -> MemFlagsData {
    MemFlagsData::new().with_notrap().with_endianness(Endianness::Little)
}
