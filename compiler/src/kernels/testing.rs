//! Runs kernels on the host for their tests: exact buffers, guarded ends, several partitions.

use super::{Access, Kernel, Spec};
use crate::emit::jit;
use crate::target::Target;
use crate::types::random_values;

/// What stands behind every buffer, to notice a write past its end.
const GUARD: [u8; 64] = [0xA5; 64];

/// Runs a kernel on `inputs`, one per read argument, and returns its written arguments. The results of running all chunks
/// at once and one by one are compared bit by bit.
pub fn run(spec: impl Into<Spec>, inputs: &[&[f32]]) -> Vec<Vec<f32>> {
    let target = Target::host().expect("a supported host");
    let kernel = Kernel::new(spec, &target);
    let whole = run_once(&kernel, &target, inputs, u32::MAX);
    let split = run_once(&kernel, &target, inputs, 1);
    let bits = |v: &[Vec<f32>]| v.iter().map(|v| v.iter().map(|x| x.to_bits()).collect::<Vec<_>>()).collect::<Vec<_>>();
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
                let values = inputs.next().expect("an input for each read argument");
                values.iter().flat_map(|v| v.to_le_bytes()).collect()
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
            outputs.push(buffer[..argument.bytes].as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect());
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
    (0..found.len())
        .find(|i| !((f64::from(found[*i]) - expected[*i]).abs() <= bound(*i)))
        .map(|i| format!("{name}: element {i}: expected {} within {:e}, found {}", expected[i], bound(i), found[i]))
}

/// Fails with every message of a table of cases.
pub fn report(failures: impl Iterator<Item = Option<String>>) {
    let failures: Vec<String> = failures.flatten().collect();
    assert!(failures.is_empty(), "{} cases failed:\n{}", failures.len(), failures.join("\n"));
}
