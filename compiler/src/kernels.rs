//! Kernel families: what can be computed, and how.
//!
//! A [`Spec`] says what to compute, down to every choice that could change a bit of the result (order of taps, tree of a sum,
//! where a gate applies); it knows nothing of the target, threads or tiles. A [`Schedule`] says how (tile, unrolling, chunks) and
//! may not change a bit. `schedule` is a pure function from a spec and a target to a schedule; `emit` writes the kernel once for
//! every instruction set through [`Emitter`].

pub mod finish;
mod kind;
pub mod name;
pub mod packing;
pub mod parts;
#[cfg(test)]
mod sizes;
pub mod sliding;
mod square;
mod sums;
#[cfg(test)]
pub mod testing;
pub mod text;

use crate::codegen::elements::SINGLE;
use crate::codegen::epilogue::Map;
use crate::codegen::{Emitter, R};
use crate::target::{Cost, Machine, Target};
pub use finish::Finish;
use fornax_ir::types::DType;
use fornax_runtime::FloatMode;
pub use kind::LayerKind;
pub use name::KernelName;
pub use parts::Parts;

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
    /// Type of its elements.
    pub element: DType,
    /// Bytes the kernel may touch, from the pointer on.
    pub bytes: usize,
    /// For a written argument: the index of a read argument that may be the same memory.
    pub in_place: Option<usize>,
    /// Whether the kernel computes addresses from its elements.
    pub addresses: bool,
}

impl Argument {
    /// A read argument of `count` elements.
    pub fn read(name: &'static str, element: DType, count: usize) -> Self {
        Self { name, access: Access::Read, element, bytes: count * element.size(), in_place: None, addresses: false }
    }

    /// A read argument of `count` indices.
    pub fn indices(name: &'static str, element: DType, count: usize) -> Self {
        Self { addresses: true, ..Self::read(name, element, count) }
    }

    /// A written argument of `count` elements.
    pub fn write(name: &'static str, element: DType, count: usize) -> Self {
        Self { access: Access::Write, ..Self::read(name, element, count) }
    }

    /// A written argument of `count` elements, of which those of gaps keep what stands in them if there are any.
    pub fn write_all_but(name: &'static str, element: DType, count: usize, gap: usize) -> Self {
        let access = if gap == 0 { Access::Write } else { Access::Update };
        Self { access, ..Self::write(name, element, count) }
    }

    /// The same argument, allowed to share its memory with read argument `index` if that has as many bytes.
    pub fn in_place_of(mut self, index: usize) -> Self {
        self.in_place = Some(index);
        self
    }
}

impl Map {
    /// A map of an epilogue, of `count` elements, as an argument.
    pub fn argument(self, element: DType, count: usize) -> Argument {
        match self {
            Self::Residual | Self::Factor | Self::At => Argument::read(self.name(), element, count),
            Self::Slope => Argument::write(self.name(), element, count),
        }
    }
}

/// A channel-last map that is a part of the channels of a larger one.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ChannelPart {
    /// Pixels of all images.
    pub pixels: usize,
    /// Channels of the part.
    pub channels: usize,
    /// Elements between the channels of one pixel and those of the next.
    pub gap: usize,
}

/// Prints a schedule: the text that plans show and that the layout of a weights file depends on. Its names are spelled apart from
/// those of the fields, as they are part of a format and those are not.
macro_rules! schedule_text {
    ($type:ty, $title:literal { $($name:literal: $field:ident),* $(,)? }) => {
        impl std::fmt::Display for $type {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                let fields: &[(&str, &dyn std::fmt::Display)] = &[$(($name, &self.$field)),*];
                $crate::kernels::write_fields(f, $title, fields)
            }
        }
    };
}
use schedule_text;

/// A family of kernels: its spec, from which everything else follows.
pub trait Family: Clone + std::fmt::Debug + Eq + std::hash::Hash {
    /// How to compute it on a target; plain data.
    type Schedule: Clone + std::fmt::Debug + std::fmt::Display + Eq + std::hash::Hash;

    /// The words that its names may begin with, the type left out.
    const WORDS: &'static [&'static str];

    /// What kind of layer its kernel of a name is.
    fn kind(name: &KernelName) -> LayerKind;
    /// Its name; equal specs have equal names and different ones differ.
    fn kernel_name(&self) -> KernelName;
    /// The text of its name.
    fn name(&self) -> String {
        self.kernel_name().to_string()
    }
    /// The spec that a name says; `None` if the name says none, or not all of it.
    fn read(name: &Parts<'_>) -> Option<Self>;
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
    /// What it costs; by default what kernels of its size cost on the whole.
    fn cost(&self, _schedule: &Self::Schedule, machine: &Machine) -> Cost {
        Cost::of(self.flops(), self.bytes(), machine)
    }
    /// The same kernel with argument `index`, a dense map now, as a part of a larger map: the same results to the bit. `None` if
    /// the argument is no map of that shape, or there is no such kernel.
    fn spread(&self, _index: usize, _part: &ChannelPart) -> Option<Self> {
        None
    }
    /// The loop nest that its name leaves out, if there is one.
    fn unspelled(&self) -> Option<&Loops> {
        None
    }
    /// The same kernel with what `finish` gives for a map of so many pixels and channels in place of the store of its sums, if it stores `i32` sums: its
    /// only written argument is then the nest's, and the nest's inputs are its last arguments.
    fn finished(&self, _finish: impl FnOnce([usize; 2]) -> Option<Finish>) -> Option<Self> {
        None
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
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Spec { $(#[doc = $about] $family($family)),* }

        /// How a kernel computes it.
        #[derive(Clone, PartialEq, Eq, Hash, Debug)]
        pub enum Schedule { $(#[doc = $about] $family(<$family as Family>::Schedule)),* }

        impl std::fmt::Display for Schedule {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self { $(Self::$family(schedule) => write!(f, "{}({schedule})", stringify!($family)),)* }
            }
        }

        /// The words that names of each family may begin with, in table order.
        const WORDS: &[&[&str]] = &[$(<$family as Family>::WORDS),*];

        /// What kind of layer a kernel is: asked of the family that its name belongs to.
        fn kind_of(name: &KernelName) -> LayerKind {
            $(if <$family as Family>::WORDS.contains(&name.family) { return <$family as Family>::kind(name); })*
            LayerKind::Other
        }

        impl Spec {
            /// The spec that a name says; see [`Family::read`].
            pub fn read(name: &Parts<'_>) -> Option<Self> {
                $(if <$family as Family>::WORDS.contains(&name.family()) { return <$family as Family>::read(name).map(Self::$family); })*
                None
            }

            /// The same with an argument as a part of a larger map; see [`Family::spread`].
            pub fn spread(&self, index: usize, part: &ChannelPart) -> Option<Self> {
                match self { $(Self::$family(spec) => spec.spread(index, part).map(Self::$family)),* }
            }

            /// Its name; see [`Family::name`].
            pub fn name(&self) -> String {
                match self { $(Self::$family(spec) => spec.name()),* }
            }

            /// The loop nest that its name leaves out.
            pub fn nest(&self) -> Option<&Loops> {
                match self { $(Self::$family(spec) => spec.unspelled()),* }
            }

            /// The same with a nest of its sums in place of their store; see [`Family::finished`].
            pub fn finished(&self, finish: impl FnOnce([usize; 2]) -> Option<Finish>) -> Option<Self> {
                match self { $(Self::$family(spec) => spec.finished(finish).map(Self::$family)),* }
            }
        }

        $(impl From<$family> for Spec { fn from(spec: $family) -> Self { Self::$family(spec) } })*

        impl Kernel {
            /// The kernel of a spec on a target.
            pub fn new(spec: impl Into<Spec>, target: &Target) -> Self {
                match spec.into() {
                    $(Spec::$family(spec) => {
                        let schedule = spec.schedule(target);
                        let name = spec.kernel_name();
                        Self {
                            kind: name.kind(),
                            name: name.to_string(),
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

            /// What it costs.
            pub fn cost(&self, machine: &Machine) -> Cost {
                match (&self.spec, &self.schedule) {
                    $((Spec::$family(spec), Schedule::$family(schedule)) => spec.cost(schedule, machine),)*
                    _ => Cost::of(self.flops, self.bytes, machine),
                }
            }

            /// Whether arguments, work units and scratch are those of its spec and schedule.
            pub fn is_consistent(&self) -> bool {
                match (&self.spec, &self.schedule) {
                    $((Spec::$family(spec), Schedule::$family(schedule)) => {
                        let derived = (spec.arguments(), spec.chunks(schedule), spec.scratch(schedule));
                        derived == (self.arguments.clone(), self.chunks, self.scratch)
                    })*
                    _ => false,
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

/// Bytes of a cache line, and of the widest vector.
const LINE: usize = 64;

/// Moves pointers on by `index` times `count` elements of the sizes that stand with them, by way of `offset`: one product for each
/// size.
fn advance(e: &mut dyn Emitter, offset: R, (index, count): (R, usize), pointers: &[(R, usize)]) {
    let mut last = None;
    for (pointer, size) in pointers {
        if last != Some(size) {
            e.mul_imm(offset, index, (count * size) as i64);
            last = Some(size);
        }
        e.add(*pointer, *pointer, offset);
    }
}

/// Moves a pointer to `f32` on by as many elements as `offset` bytes of elements of `size` are.
fn advance_single(e: &mut dyn Emitter, pointer: R, offset: R, size: usize) {
    if size == SINGLE {
        return e.add(pointer, pointer, offset);
    }
    let scaled = e.r();
    e.mul_imm(scaled, offset, (SINGLE / size) as i64);
    e.add(pointer, pointer, scaled);
    e.free_r(scaled);
}

/// Cycles at the peak that pay for claiming a chunk. What one thread alone computes, the others fetch from its cache in the next
/// step, so few layers are too small to share.
const CHUNK: u64 = 27_500;

/// A number of work units; one that 32 bits do not hold becomes the largest, which no plan takes.
fn work_units(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// `Title { name: value, … }`
fn write_fields(
    f: &mut std::fmt::Formatter<'_>,
    title: &str,
    fields: &[(&str, &dyn std::fmt::Display)],
) -> std::fmt::Result {
    write!(f, "{title} {{")?;
    for (i, (name, value)) in fields.iter().enumerate() {
        write!(f, "{} {name}: {value}", if i > 0 { "," } else { "" })?;
    }
    f.write_str(" }")
}

/// A spec with its schedule, and what follows from both. Kernels of equal spec and schedule are the same.
#[derive(Clone, Debug)]
pub struct Kernel {
    /// What to compute.
    pub spec: Spec,
    /// How to compute it.
    pub schedule: Schedule,
    /// Name of the spec; see [`Family::kernel_name`].
    pub name: String,
    /// What kind of layer it is.
    pub kind: LayerKind,
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

impl Kernel {
    /// What becomes of subnormal numbers where it runs. All that computes with elements of `bf16` has them as zeros, as matrix units have;
    /// what only moves elements, and loop nests, which go by the program they are part of, ask for nothing.
    pub fn float_mode(&self) -> FloatMode {
        let moves =
            matches!(self.spec, Spec::Loops(_) | Spec::Pack(_) | Spec::Sort(_) | Spec::Compact(_) | Spec::Suppress(_));
        let narrow = self.arguments.iter().any(|argument| argument.element == DType::BF16);
        if narrow && !moves { FloatMode::Flush } else { FloatMode::Ieee }
    }
}

impl PartialEq for Kernel {
    fn eq(&self, other: &Self) -> bool {
        (&self.spec, &self.schedule) == (&other.spec, &other.schedule)
    }
}

impl Eq for Kernel {}

impl std::hash::Hash for Kernel {
    fn hash<H: std::hash::Hasher>(&self, state: &mut H) {
        (&self.spec, &self.schedule).hash(state);
    }
}

families! {
    conv::Conv "dense and grouped convolution, matrix product";
    winograd::Winograd "dense 3x3 convolution in Winograd form";
    depthwise::Depthwise "depthwise convolution with activation and row sums";
    ring::Ring "1x1 expansion and depthwise convolution over a ring of rows";
    weight_gradient::WeightGradient "gradient of a dense convolution's weights";
    channel_weight_gradient::ChannelWeightGradient "gradient of a depthwise convolution's weights";
    gate::Gate "channel gate";
    gemv::Gemv "matrix-vector product";
    mean::Mean "mean over pixels";
    pool::Pool "windowed maximum and average";
    softmax::Softmax "softmax and its logarithm";
    compact::Compact "positions of true elements";
    sort::Sort "indices of a line's elements in the order of their values";
    suppress::Suppress "greedy choice of boxes that do not overlap";
    pack::Pack "weights and other operands that are computed, in the order that kernels read";
    scale_weights::ScaleWeights "squeeze-and-excite gate on packed weights";
    loops::Loops "element-wise chains, broadcasts, reductions and data movement as loop nests";
}
