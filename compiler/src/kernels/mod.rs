//! Kernel families: what can be computed, and how.
//!
//! A [`Spec`] says what to compute, down to every choice that could change a bit of the result (order of taps, tree of a sum,
//! where a gate applies); it knows nothing of the target, threads or tiles. A [`Schedule`] says how (tile, unrolling, chunks) and
//! may not change a bit. `schedule` is a pure function from a spec and a target to a schedule; `emit` writes the kernel once for
//! every instruction set through [`Emitter`].

pub mod packing;
pub mod sliding;
#[cfg(test)]
pub mod testing;

use crate::codegen::Emitter;
use crate::target::Target;

/// How a kernel uses an argument.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Access {
    /// Only reads it.
    Read,
    /// Writes every byte of its extent, never reads it before.
    Write,
    /// Reads and writes it.
    Update,
}

/// One argument of a kernel, an entry of `ptrs`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Argument {
    /// What stands there: `x`, `weights`, `y`, …
    pub name: &'static str,
    /// How it is used.
    pub access: Access,
    /// Bytes the kernel may touch, from the pointer on.
    pub bytes: usize,
    /// For a written argument: the index of a read argument that may be the same memory.
    pub in_place: Option<usize>,
    /// Whether the kernel computes addresses from its elements.
    pub addresses: bool,
}

impl Argument {
    /// A read argument.
    pub fn read(name: &'static str, bytes: usize) -> Self {
        Self { name, access: Access::Read, bytes, in_place: None, addresses: false }
    }

    /// A read argument of indices.
    pub fn indices(name: &'static str, bytes: usize) -> Self {
        Self { addresses: true, ..Self::read(name, bytes) }
    }

    /// A written argument.
    pub fn write(name: &'static str, bytes: usize) -> Self {
        Self { name, access: Access::Write, bytes, in_place: None, addresses: false }
    }

    /// The same argument, allowed to share its memory with read argument `index` if that has as many bytes.
    pub fn in_place_of(mut self, index: usize) -> Self {
        self.in_place = Some(index);
        self
    }
}

/// A family of kernels: its spec, from which everything else follows.
pub trait Family: Clone + std::fmt::Debug {
    /// How to compute it on a target; plain data.
    type Schedule: Clone + std::fmt::Debug + PartialEq;

    /// `<type>_<family>_<shape>_<attributes>_<epilogue>`, lower case; equal specs have equal names and different ones differ.
    fn name(&self) -> String;
    /// The arguments, in the order of `ptrs`.
    fn arguments(&self) -> Vec<Argument>;
    /// The schedule for a target.
    fn schedule(&self, target: &Target) -> Self::Schedule;
    /// Work units `begin..end` runs over; a function of shape and schedule, never of the thread count. 0 if there is nothing to do.
    fn chunks(&self, schedule: &Self::Schedule) -> u32;
    /// Scratch memory of one worker, bytes.
    fn scratch(&self, _schedule: &Self::Schedule) -> usize {
        0
    }
    /// Floating-point operations (a multiply-add is two).
    fn flops(&self) -> u64;
    /// Bytes that must move at least once; by default the extents of all arguments.
    fn bytes(&self) -> u64 {
        self.arguments().iter().map(|a| a.bytes as u64).sum()
    }
    /// Writes the kernel.
    fn emit(&self, schedule: &Self::Schedule, e: &mut dyn Emitter);
}

/// Declares the families: module, spec type, and the dispatch over all of them.
macro_rules! families {
    ($($module:ident :: $family:ident $about:literal;)*) => {
        $(pub mod $module;)*
        $(pub use $module::$family;)*

        /// What a kernel computes.
        #[derive(Clone, Debug)]
        pub enum Spec { $(#[doc = $about] $family($family)),* }

        /// How a kernel computes it.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Schedule { $(#[doc = $about] $family(<$family as Family>::Schedule)),* }

        /// Every family with its one-line description, in table order.
        pub const FAMILIES: &[(&str, &str)] = &[$((stringify!($module), $about)),*];

        $(impl From<$family> for Spec { fn from(spec: $family) -> Self { Self::$family(spec) } })*

        impl Kernel {
            /// The kernel of a spec on a target.
            pub fn new(spec: impl Into<Spec>, target: &Target) -> Self {
                match spec.into() {
                    $(Spec::$family(spec) => {
                        let schedule = spec.schedule(target);
                        Self {
                            name: spec.name(),
                            arguments: spec.arguments(),
                            chunks: spec.chunks(&schedule),
                            scratch: spec.scratch(&schedule),
                            flops: spec.flops(),
                            bytes: spec.bytes(),
                            schedule: Schedule::$family(schedule),
                            spec: Spec::$family(spec),
                        }
                    })*
                }
            }

            /// Writes the kernel.
            pub fn emit(&self, e: &mut dyn Emitter) {
                match (&self.spec, &self.schedule) {
                    $((Spec::$family(spec), Schedule::$family(schedule)) => spec.emit(schedule, e),)*
                    _ => debug_assert!(false, "a schedule of another family"),
                }
            }
        }
    };
}

/// A spec with its schedule, and what follows from both.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What to compute.
    pub spec: Spec,
    /// How to compute it.
    pub schedule: Schedule,
    /// Name of the spec; see [`Family::name`].
    pub name: String,
    /// The arguments, in the order of `ptrs`.
    pub arguments: Vec<Argument>,
    /// Work units.
    pub chunks: u32,
    /// Scratch memory of one worker, bytes.
    pub scratch: usize,
    /// Floating-point operations.
    pub flops: u64,
    /// Bytes that must move at least once.
    pub bytes: u64,
}

families! {
    conv::Conv "dense and grouped convolution, matrix product";
    winograd::Winograd "dense 3x3 convolution in Winograd form";
    depthwise::Depthwise "depthwise convolution with activation and row sums";
    ring::Ring "1x1 expansion and depthwise convolution over a ring of rows";
    gate::Gate "channel gate";
    gemv::Gemv "matrix-vector product";
    mean::Mean "mean over pixels";
    pool::Pool "windowed maximum and average";
    softmax::Softmax "softmax and its logarithm";
    pack::Pack "weights and other operands that are computed, in the order that kernels read";
    scale_weights::ScaleWeights "squeeze-and-excite gate on packed weights";
    loops::Loops "element-wise chains, broadcasts, reductions and data movement as loop nests";
}
