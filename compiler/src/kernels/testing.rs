//! Runs kernels on the host for their tests: exact buffers, guarded ends, several partitions.

use super::{Access, Argument, Family, Kernel, Spec};
use crate::codegen::{Emitter, soft};
use crate::emit::jit;
use crate::target::Target;
use fornax_ir::types::{DType, random_values};
use fornax_runtime::packing::Packing;
use half::{bf16, f16};

/// The bytes of `values` as elements; of a type that is no 16-bit floating point, `values` are their bits.
pub fn encoded(element: DType, values: &[f32]) -> Vec<u8> {
    match element {
        DType::F16 => values.iter().flat_map(|v| f16::from_f32(*v).to_le_bytes()).collect(),
        DType::BF16 => values.iter().flat_map(|v| bf16::from_f32(*v).to_le_bytes()).collect(),
        _ => values.iter().flat_map(|v| v.to_le_bytes()).collect(),
    }
}

/// The values that [`encoded`] made bytes of, rounded to their type.
pub fn decoded(element: DType, bytes: &[u8]) -> Vec<f32> {
    match element {
        DType::F16 => bytes.as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect(),
        DType::BF16 => bytes.as_chunks().0.iter().map(|b| bf16::from_le_bytes(*b).to_f32()).collect(),
        _ => bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect(),
    }
}

/// `values` rounded to a type.
pub fn rounded(element: DType, values: &[f32]) -> Vec<f32> {
    decoded(element, &encoded(element, values))
}

/// The packed form of `values`.
pub fn packed(packing: &Packing, values: &[f32]) -> Vec<f32> {
    let source: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
    let mut packed = vec![0; packing.len() * 4];
    packing.pack(4, &source, &mut packed);
    packed.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect()
}

/// What stands after every buffer, to notice a write past its end.
const GUARD: [u8; 64] = [0xA5; 64];

/// Runs a kernel on `inputs`, one per read argument, and returns its written arguments. The results of running all chunks
/// at once and one by one, and on every target with FMA that the host runs, are compared bit by bit.
pub fn run(spec: impl Into<Spec>, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let spec = spec.into();
    let mut targets = Target::runnable();
    targets.retain(|target| target.fma() || targets_without_fma_only());
    let mut results = targets.iter().map(|target| (target, run_on(spec.clone(), target, inputs)));
    let (_, first) = results.next().expect("a supported host");
    for (target, result) in results {
        assert_eq!(bits(&first), bits(&result), "{target} gives other bits");
    }
    first
}

/// Whether the host has no target with FMA.
fn targets_without_fma_only() -> bool {
    !Target::host().expect("a supported host").fma()
}

/// Bits that can be compared: every NaN is the same.
fn bits(results: &[Vec<f32>]) -> Vec<Vec<u32>> {
    let canonical = |x: &f32| if x.is_nan() { f32::NAN.to_bits() } else { x.to_bits() };
    results.iter().map(|v| v.iter().map(canonical).collect()).collect()
}

/// As [`run`], with code for `target`, which the host has to be.
pub fn run_on(spec: impl Into<Spec>, target: &Target, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let kernel = Kernel::new(spec, target);
    let whole = run_once(&kernel, target, inputs, u32::MAX);
    let split = run_once(&kernel, target, inputs, 1);
    assert_eq!(bits(&whole), bits(&split), "{}: the partition changed a bit", kernel.name);
    whole
}

fn run_once(kernel: &Kernel, target: &Target, inputs: &[&[f32]], per_call: u32) -> Vec<Vec<f32>> {
    let mut inputs = inputs.iter();
    let mut buffers: Vec<Vec<u8>> = kernel
        .arguments
        .iter()
        .map(|argument| {
            let mut buffer: Vec<u8> = if argument.access == Access::Read {
                encoded(argument.element, inputs.next().expect("an input for each read argument"))
            } else {
                vec![0xFF; argument.bytes]
            };
            assert_eq!(buffer.len(), argument.bytes, "{}: size of {}", kernel.name, argument.name);
            buffer.extend(GUARD);
            buffer
        })
        .collect();
    jit::run_kernel(kernel, target, &mut buffers, per_call).expect("a kernel that runs");
    let mut outputs = Vec::new();
    for (argument, buffer) in kernel.arguments.iter().zip(&buffers) {
        assert_eq!(buffer[argument.bytes..], GUARD, "{}: {} was overrun", kernel.name, argument.name);
        if argument.access != Access::Read {
            outputs.push(decoded(argument.element, &buffer[..argument.bytes]));
        }
    }
    outputs
}

/// Seeded values in `[-1, 1)`.
pub fn values(seed: u64, count: usize) -> Vec<f32> {
    random_values(seed, count)
}

/// Says where `found` leaves `expected` by more than `bound(i)`; `None` if nowhere.
pub fn mismatch(name: &str, found: &[f32], expected: &[f64], bound: impl Fn(usize) -> f64) -> Option<String> {
    if found.len() != expected.len() {
        return Some(format!("{name}: {} values for {}", found.len(), expected.len()));
    }
    let off = |i: &usize| (f64::from(found[*i]) - expected[*i]).abs();
    (0..found.len())
        .find(|i| off(i).is_nan() || off(i) > bound(*i))
        .map(|i| format!("{name}: element {i}: expected {} within {:e}, found {}", expected[i], bound(i), found[i]))
}

/// Fails with every message of a table of cases.
pub fn report(failures: impl Iterator<Item = Option<String>>) {
    let failures: Vec<String> = failures.flatten().collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}

/// As [`run`], on the interpreted machine with `lanes` lanes, which checks every access.
pub fn run_interpreted(spec: impl Into<Spec>, inputs: &[&[f32]], lanes: usize) -> Vec<Vec<f32>> {
    let kernel = Kernel::new(spec, &Target::x86_64_fma());
    interpreted(&kernel.arguments, kernel.scratch, kernel.chunks, inputs, lanes, |e| kernel.emit(e))
}

/// As [`run_interpreted`], with a schedule of the caller's.
pub fn interpret<F: Family>(spec: &F, schedule: &F::Schedule, inputs: &[&[f32]], lanes: usize) -> Vec<Vec<f32>> {
    let (scratch, chunks) = (spec.scratch(schedule), spec.chunks(schedule));
    interpreted(&spec.arguments(), scratch, chunks, inputs, lanes, |e| spec.emit(schedule, e))
}

fn interpreted(
    arguments: &[Argument],
    scratch: usize,
    chunks: u32,
    inputs: &[&[f32]],
    lanes: usize,
    emit: impl FnOnce(&mut dyn Emitter),
) -> Vec<Vec<f32>> {
    let mut inputs = inputs.iter();
    let mut buffers: Vec<Vec<u8>> = arguments
        .iter()
        .map(|argument| match argument.access {
            Access::Read => encoded(argument.element, inputs.next().expect("an input for each")),
            _ => vec![0xFF; argument.bytes],
        })
        .collect();
    buffers.push(vec![0xFF; scratch]);
    soft::run(lanes, (0, chunks), &mut buffers, emit);
    let written = arguments.iter().zip(&buffers).filter(|(argument, _)| argument.access != Access::Read);
    written.map(|(argument, buffer)| decoded(argument.element, buffer)).collect()
}

/// Runs a kernel whose results are exact on `inputs`, the bytes of each read argument, and returns those of its written arguments: the
/// same on every target that the host runs, FMA or not, whole and chunk by chunk, and on the interpreter with 4, 8 and 16 lanes.
///
/// # Errors
/// Where they differ.
pub fn run_exact(spec: impl Into<Spec>, inputs: &[Vec<u8>]) -> Result<Vec<Vec<u8>>, String> {
    let spec = spec.into();
    let buffers = |arguments: &[Argument], guard: &[u8]| {
        let mut inputs = inputs.iter();
        let buffer = |argument: &Argument| {
            let mut buffer = match argument.access {
                Access::Read => inputs.next().expect("an input for each read argument").clone(),
                _ => vec![0xFF; argument.bytes],
            };
            assert_eq!(buffer.len(), argument.bytes, "{}: size of {}", spec.name(), argument.name);
            buffer.extend(guard);
            buffer
        };
        arguments.iter().map(buffer).collect::<Vec<_>>()
    };
    let written = |arguments: &[Argument], buffers: &[Vec<u8>]| {
        let results = arguments.iter().zip(buffers).filter(|(argument, _)| argument.access != Access::Read);
        results.map(|(argument, buffer)| buffer[..argument.bytes].to_vec()).collect::<Vec<_>>()
    };
    let mut results = Vec::new();
    for target in Target::runnable() {
        let kernel = Kernel::new(spec.clone(), &target);
        for per_call in [u32::MAX, 1] {
            let mut buffers = buffers(&kernel.arguments, &GUARD);
            jit::run_kernel(&kernel, &target, &mut buffers, per_call).expect("a kernel that runs");
            for (argument, buffer) in kernel.arguments.iter().zip(&buffers) {
                assert_eq!(buffer[argument.bytes..], GUARD, "{}: {} was overrun", kernel.name, argument.name);
            }
            results.push((format!("{target}, {per_call} chunks a call"), written(&kernel.arguments, &buffers)));
        }
    }
    for target in Target::all() {
        let kernel = Kernel::new(spec.clone(), &target);
        let mut buffers = buffers(&kernel.arguments, &[]);
        buffers.push(vec![0xFF; kernel.scratch]);
        soft::run(target.lanes(), (0, kernel.chunks), &mut buffers, |e| kernel.emit(e));
        results.push((format!("{target}, interpreted"), written(&kernel.arguments, &buffers)));
    }
    let (_, first) = results.swap_remove(0);
    match results.iter().find(|(_, other)| *other != first) {
        Some((place, _)) => Err(format!("{}: other results on {place}", spec.name())),
        None => Ok(first),
    }
}

fn slices(operands: &[Vec<f32>]) -> Vec<&[f32]> {
    operands.iter().map(Vec::as_slice).collect()
}

/// Element types of 16 bits that are computed in `f32` lanes.
pub const NARROW: [DType; 2] = [DType::F16, DType::BF16];

/// The kernel of a spec with narrow elements against that of `f32`: on every machine, and on the interpreter with 4, 8 and 16 lanes,
/// results are those of `f32` on the same operands, rounded once. `case` gives the spec and its operands for an element type.
pub fn narrow<S: Into<Spec>>(case: impl Fn(DType) -> (S, Vec<Vec<f32>>)) -> Option<String> {
    NARROW.into_iter().find_map(|element| {
        let ((spec, operands), (single, same)) = (case(element), case(DType::F32));
        let (spec, single) = (spec.into(), single.into());
        let arguments = Kernel::new(spec.clone(), &Target::x86_64_fma()).arguments;
        let (written, read): (Vec<_>, Vec<_>) = arguments.iter().partition(|a| a.access != Access::Read);
        let round = |(argument, values): (&&Argument, &Vec<f32>)| rounded(argument.element, values);
        let [operands, same] = [operands, same].map(|o| read.iter().zip(&o).map(round).collect::<Vec<_>>());
        let expected = run(single, &slices(&same));
        let expected = bits(&written.iter().zip(&expected).map(round).collect::<Vec<_>>());
        if bits(&run(spec.clone(), &slices(&operands))) != expected {
            return Some(format!("{}: other values than rounded ones of f32", spec.name()));
        }
        let other = |lanes: &usize| bits(&run_interpreted(spec.clone(), &slices(&operands), *lanes)) != expected;
        [4, 8, 16].into_iter().find(other).map(|lanes| format!("{}: other bits with {lanes} lanes", spec.name()))
    })
}
