//! The machine-specific form: kernel calls over slots, for one target.
//!
//! In: operators, one [`crate::lower`] each. Out: a [`Plan`] whose every byte of memory has a place: slots lie in the arena, in a host
//! tensor or in the packed constants. Invariants: a step's operands are at least as large as its kernel's arguments; storages that
//! are live at the same time do not overlap; the plan prints, its target in the first line.

pub mod builder;
mod fuse;
pub mod memory;
mod print;

use std::fmt;
use std::sync::Arc;

use bytes::Bytes;

use crate::kernels::Kernel;
use crate::target::Target;
use fornax_ir::Remark;
use fornax_ir::types::{Constant, TensorType};

/// Physical order of a slot's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Layout {
    /// Logical axes outer to inner.
    RowMajor,
    /// Axis 0, then axes 2 and up, then axis 1 innermost. Equals row-major below rank 3.
    ChannelsLast,
}

impl Layout {
    /// Element stride of each logical axis for a dense tensor of `shape`.
    pub fn strides(self, shape: &[usize]) -> Vec<usize> {
        let mut order: Vec<usize> = (0..shape.len()).collect();
        if self == Self::ChannelsLast && shape.len() >= 3 {
            let channel = order.remove(1);
            order.push(channel);
        }
        let mut strides = vec![0; shape.len()];
        let mut step = 1usize;
        for axis in order.into_iter().rev() {
            strides[axis] = step;
            step = step.saturating_mul(shape[axis]);
        }
        strides
    }

    /// Whether both layouts put the elements of `shape` in the same order: one channel, or one pixel.
    pub fn coincide(shape: &[usize]) -> bool {
        shape.len() < 3 || shape[1] == 1 || shape[2..].iter().all(|extent| *extent == 1)
    }
}

/// Names a slot of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct SlotId(pub usize);

/// Names a packed constant of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConstId(pub usize);

/// Names a storage of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct StorageId(pub usize);

/// A typed view of a storage.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Name of the value it holds.
    pub name: String,
    /// Logical type.
    pub ty: TensorType,
    /// Physical order.
    pub layout: Layout,
    /// The memory behind it.
    pub storage: StorageId,
}

/// Where a storage lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Home {
    /// In the arena, at a byte offset that [`memory`] assigns.
    Arena(usize),
    /// The host's input tensor.
    Input(usize),
    /// The host's output tensor.
    Output(usize),
    /// A packed constant.
    Constant(ConstId),
}

/// A block of memory that slots view.
#[derive(Clone, Debug)]
pub struct Storage {
    /// Where it lives.
    pub home: Home,
    /// Its size.
    pub bytes: usize,
}

/// Writes the packed form of a constant into its place, which holds zeros.
pub type Fill = Arc<dyn Fn(&mut [u8]) + Send + Sync>;

/// What a packed constant is made of. Its text holds the hash of the source, which is computed when it is asked for.
#[derive(Clone)]
pub struct Key {
    /// The elements, if they come from a constant of the graph.
    pub source: Option<Constant>,
    /// What is done to them.
    pub packing: String,
}

impl Key {
    /// The key of `source`, packed as `packing` says.
    pub fn new(source: &Constant, packing: impl Into<String>) -> Self {
        Self { source: Some(source.clone()), packing: packing.into() }
    }

    /// The bytes in memory or in a file that packing reads.
    pub fn source_bytes(&self) -> Option<&Bytes> {
        self.source.as_ref().and_then(Constant::source)
    }
}

impl From<String> for Key {
    fn from(packing: String) -> Self {
        Self { source: None, packing }
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(source) = &self.source {
            write!(f, "{} {:016x}{}", source.ty, source.hash(), if self.packing.is_empty() { "" } else { " " })?;
        }
        f.write_str(&self.packing)
    }
}

/// A constant in the order kernels read it. It is filled once, straight into the program's memory.
#[derive(Clone)]
pub struct PackedConstant {
    /// Source and packing: equal keys are stored once.
    pub key: Key,
    /// Size in bytes.
    pub bytes: usize,
    /// Names of the model's parameters it stands for.
    pub origins: Vec<String>,
    /// Writes it.
    pub fill: Fill,
}

impl fmt::Debug for PackedConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({} bytes)", self.key, self.bytes)
    }
}

/// An argument of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A slot.
    Slot(SlotId),
    /// A packed constant.
    Constant(ConstId),
}

impl From<SlotId> for Operand {
    fn from(slot: SlotId) -> Self {
        Self::Slot(slot)
    }
}

impl From<ConstId> for Operand {
    fn from(constant: ConstId) -> Self {
        Self::Constant(constant)
    }
}

/// One kernel call. Steps run in order with a barrier after each.
#[derive(Clone, Debug)]
pub struct Step {
    /// The kernel.
    pub kernel: Kernel,
    /// One operand per kernel argument.
    pub operands: Vec<Operand>,
    /// Name of the node it belongs to.
    pub node: String,
    /// Names of the model's nodes that it computes, all or a part of each; none for what only moves a result to its place.
    pub origins: Vec<String>,
}

/// Work that a thread claims at once, microseconds: to claim it, and to meet the other threads after it, takes about one.
const CLAIM: f64 = 4.0;

impl Step {
    /// Fewest chunks for a thread to claim at once: all of them where the step is too short to be shared.
    ///
    /// The time is a guess from what kernels reach on one core, 3.75 GFLOP/s a lane and 20 GB/s.
    pub fn grain(&self, target: &Target) -> u32 {
        let arithmetic = self.kernel.flops as f64 / (3.75e3 * target.lanes() as f64);
        let memory = self.kernel.bytes as f64 / 20e3;
        let (time, chunks) = (arithmetic.max(memory), self.kernel.chunks.max(1));
        if time < 2.0 * CLAIM {
            return chunks;
        }
        ((CLAIM / time * f64::from(chunks)).ceil() as u32).clamp(1, chunks)
    }
}

/// A named tensor of the program's face.
#[derive(Clone, Debug)]
pub struct Port {
    /// Name in the model.
    pub name: String,
    /// Type.
    pub ty: TensorType,
}

/// A program before code generation.
#[derive(Clone, Debug)]
pub struct Plan {
    /// Name of the network.
    pub name: String,
    /// The machine it is for.
    pub target: Target,
    /// Network inputs, in order.
    pub inputs: Vec<Port>,
    /// Network outputs, in order.
    pub outputs: Vec<Port>,
    /// Values.
    pub slots: Vec<Slot>,
    /// Memory behind the values.
    pub storages: Vec<Storage>,
    /// Constants, packed.
    pub constants: Vec<PackedConstant>,
    /// Kernel calls, in order.
    pub steps: Vec<Step>,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Scratch memory of one worker.
    pub scratch_bytes: usize,
    /// What lowering and the passes over the plan chose and declined.
    pub remarks: Vec<Remark>,
}

impl Plan {
    /// Bytes of all packed constants.
    pub fn constant_bytes(&self) -> usize {
        self.constants.iter().map(|c| c.bytes).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::Loops;
    use fornax_ir::types::DType;

    #[test]
    fn short_steps_are_not_shared_and_long_ones_in_pieces() {
        let target = "x86-64-v4".parse().unwrap();
        let step = |flops: u64, bytes: u64, chunks: u32| {
            let strides = Layout::RowMajor.strides(&[64, 64]);
            let kernel = Kernel::new(Loops::copy(DType::F32, &[64, 64], &strides, &strides), &target);
            let step = Step {
                kernel: Kernel { flops, bytes, chunks, ..kernel },
                operands: Vec::new(),
                node: "n".into(),
                origins: Vec::new(),
            };
            step.grain(&target)
        };
        // 60 operations and 20 bytes take a nanosecond each: 5 us, 24 us, 240 us.
        assert_eq!([step(300_000, 0, 24), step(0, 100_000, 24)], [24, 24]);
        assert_eq!([step(1_440_000, 0, 24), step(0, 480_000, 24)], [4, 4]);
        assert_eq!([step(14_400_000, 0, 24), step(14_400_000, 0, 1)], [1, 1]);
    }
}
