//! What a library's self test must compute.
//!
//! In: compiled code. Out: the outputs of its first binding on synthetic inputs, as a hash and as samples. The hash is that of every
//! level with fused multiply-add on every architecture, whichever of them this machine ran; there is none if it runs none.

use std::sync::Arc;

use fornax_runtime::artifact::{Sample, mix, selftest_bits, selftest_f32};
use fornax_runtime::{ConstantPool, DType, Pool, Port, Program, Session, Tensor};

use super::{Compiled, runtime};
use crate::codegen::x86;
use crate::emit::{MachineCode, jit};
use crate::error::Result;
use crate::plan::Plan;

/// Values kept of each output.
const SAMPLES: usize = 16;

/// Outputs of the first binding on synthetic inputs.
#[derive(Clone, PartialEq, Debug)]
pub struct Selftest {
    /// Hash of all outputs.
    pub hash: u64,
    /// Some of their values.
    pub samples: Vec<Sample>,
}

/// Runs the first binding: on the widest level that this machine runs, or as `reference` if it runs none with fused multiply-add.
///
/// # Errors
/// [`crate::Error::Runtime`] if memory cannot be had, [`crate::Error::ExecutableMemory`] if none can be for code.
pub fn measure(compiled: &Compiled<'_>, reference: Option<&Plan>, threads: usize) -> Result<Option<Selftest>> {
    let first = compiled.network.plans.first().map_or(&[][..], Vec::as_slice);
    // A level without fused multiply-add stands for itself only.
    let fused = first.iter().any(|plan| plan.target.fma());
    let runnable = first.iter().rposition(|plan| plan.target.fma() == fused && plan.target.level.usable_here());
    let program = match (runnable, reference) {
        (Some(number), _) => program(compiled, number)?,
        (None, Some(plan)) if plan.code_target().level.usable_here() => jit::compile(plan)?,
        _ => return Ok(None),
    };
    run(program, threads).map(Some)
}

/// What a program says of the synthetic inputs.
///
/// # Errors
/// [`crate::Error::Runtime`] if memory cannot be had.
pub fn run(program: Program, threads: usize) -> Result<Selftest> {
    let inputs = inputs(program.inputs())?;
    let pool = Arc::new(Pool::at_most(threads, false).map_err(runtime)?);
    let mut session = Session::new(Arc::new(program), pool).map_err(runtime)?;
    let mut outputs = session.outputs().map_err(runtime)?;
    session.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs).map_err(runtime)?;
    let hash = outputs.iter().fold(0, |hash, output| hash_of(output, hash));
    let samples = outputs.iter().enumerate().flat_map(|(number, output)| samples(number, output));
    Ok(Selftest { hash, samples: samples.collect() })
}

/// Plan `number`, of the first binding, as a program over the packed weights.
fn program(compiled: &Compiled<'_>, number: usize) -> Result<Program> {
    let plan = &compiled.network.plans[0][number];
    let placed: Vec<(usize, usize)> =
        compiled.placed[number].iter().map(|placed| (placed.offset, placed.bytes)).collect();
    let constants = ConstantPool::shared(compiled.weights.bytes.clone());
    let constants = constants.ok_or_else(|| runtime("packed weights are not aligned"))?;
    let bytes = compiled.kernels.bytes.clone();
    let code = MachineCode { name: "kernels".into(), bytes, align: x86::ALIGN as u64 };
    let (offset, initial) = (|id| compiled.table.offset(number, id), compiled.table.initial());
    jit::program_of(plan, code, &placed, jit::Data { constants, offset: &offset, initial })
}

/// Inputs as the entry code makes them.
fn inputs(ports: &[Port]) -> Result<Vec<Tensor>> {
    let mut index = 0..;
    let mut tensors = Vec::with_capacity(ports.len());
    for port in ports {
        let size = port.dtype.size();
        let mut bytes = vec![0u8; port.shape.numel() * size];
        for (element, index) in bytes.chunks_exact_mut(size).zip(&mut index) {
            let bits = selftest_bits(index);
            match port.dtype {
                DType::F32 => element.copy_from_slice(&selftest_f32(bits).to_le_bytes()),
                _ => element[0] = (bits & 1) as u8,
            }
        }
        tensors.push(Tensor::from_bytes(port.dtype, port.shape.clone(), &bytes).map_err(runtime)?);
    }
    Ok(tensors)
}

fn hash_of(output: &Tensor, hash: u64) -> u64 {
    let bytes = output.bytes();
    if output.dtype() != DType::F32 {
        return bytes.iter().fold(hash, |hash, byte| mix(hash, u64::from(*byte)));
    }
    let element = |bits: &[u8; 4]| match f32::from_le_bytes(*bits) {
        value if value.is_nan() => 0x7fc0_0000,
        value => u64::from(value.to_bits()),
    };
    bytes.as_chunks().0.iter().fold(hash, |hash, bits| mix(hash, element(bits)))
}

/// Finite values of an output, evenly spread, with a thousandth of the largest as tolerance.
fn samples(number: usize, output: &Tensor) -> Vec<Sample> {
    let Some(values) = output.as_f32() else { return Vec::new() };
    let finite = || values.iter().copied().filter(|value| value.is_finite());
    let tolerance: f32 = 1e-3 * finite().fold(1e-3f32, |most, value| most.max(value.abs()));
    let positions = (0..SAMPLES.min(values.len())).map(|k| k * values.len() / SAMPLES.min(values.len()));
    let sample = |at: usize| Sample {
        offset: at as u64 * 4,
        output: number as u32,
        value: values[at].to_bits(),
        tolerance: tolerance.to_bits(),
        reserved: 0,
    };
    positions.filter(|at| values[*at].is_finite()).map(sample).collect()
}
