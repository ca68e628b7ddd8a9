//! The machine-specific form: kernel calls over views, for one target.
//!
//! In: operators, one [`crate::lower`] each. Out: a [`Plan`] whose every byte of memory has a place: views lie in the arena, in a host
//! tensor, in the state block of the session or in the packed constants. Invariants: a step's operands are at least as large as its kernel's arguments; buffers that
//! are live at the same time do not overlap; the plan prints, its target in the first line.

mod axis_order;
pub mod builder;
mod constants;
mod parse;
pub mod passes;
mod print;
mod verify;

pub use axis_order::AxisOrder;
pub use parse::parse;
pub use verify::{verify, verify_placed};

pub use constants::{Contents, Generated, PackedConstant, Pool};

use fornax_runtime::{FloatMode, VariableKind};

use crate::kernels::Kernel;
use crate::target::Target;
use fornax_ir::Remark;
use fornax_ir::types::{Constant, TensorType};

/// Names a view of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ViewId(pub usize);

/// Names a packed constant of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct ConstId(pub usize);

/// Names a buffer of a plan.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BufferId(pub usize);

/// A typed view of a buffer.
#[derive(Clone, Debug)]
pub struct BufferView {
    /// Name of the value it holds.
    pub name: String,
    /// Logical type.
    pub ty: TensorType,
    /// Physical order.
    pub order: AxisOrder,
    /// The memory behind it.
    pub buffer: BufferId,
    /// Where it begins in that, bytes. A part of the channels of a larger map begins within; all else with its buffer.
    pub offset: usize,
}

/// A parameter or state, and where it lies in the state block of a session.
#[derive(Clone, PartialEq, Debug)]
pub struct Variable {
    /// What it is for.
    pub kind: VariableKind,
    /// The name by which hosts address it.
    pub name: String,
    /// Byte offset in the block, a multiple of 64.
    pub offset: usize,
    /// Type, and the elements it begins with.
    pub initial: Constant,
}

/// Where a buffer lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Placement {
    /// In the arena, at an offset that the pass `place` will give it.
    Unplaced,
    /// In the arena, at this byte offset.
    Arena(usize),
    /// The host's input tensor.
    Input(usize),
    /// The host's output tensor.
    Output(usize),
    /// A packed constant.
    Constant(ConstId),
    /// In the state block of the session, at a byte offset: a parameter or state.
    State(usize),
}

/// A block of memory that views view.
#[derive(Clone, Debug)]
pub struct Buffer {
    pub placement: Placement,
    pub bytes: usize,
}

/// An argument of a step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Operand {
    /// A view.
    View(ViewId),
    /// A packed constant.
    Constant(ConstId),
}

impl From<ViewId> for Operand {
    fn from(view: ViewId) -> Self {
        Self::View(view)
    }
}

impl From<ConstId> for Operand {
    fn from(constant: ConstId) -> Self {
        Self::Constant(constant)
    }
}

/// One kernel call. Steps run in order with a barrier after each.
#[derive(Clone, Debug)]
pub struct KernelCall {
    /// The kernel.
    pub kernel: Kernel,
    /// One operand per kernel argument.
    pub(crate) operands: Vec<Operand>,
    /// Name of the node it belongs to.
    pub node: String,
    /// Names of the model's nodes that it computes, all or a part of each; none for what only moves a result to its place.
    pub origins: Vec<String>,
}

/// Work that a thread claims at once, microseconds: to claim it, and to meet the other threads after it, takes about one.
const CLAIM: f64 = 4.0;

impl KernelCall {
    /// Fewest chunks for a thread to claim at once: all of them where the step is too short to be shared.
    ///
    /// The time is what the model says of its kernel.
    pub(crate) fn grain(&self, target: &Target) -> u32 {
        let machine = target.machine();
        let time = self.kernel.cost(&machine).microseconds_shared(&machine);
        let chunks = self.kernel.chunks.max(1);
        if time < 2.0 * CLAIM {
            return chunks;
        }
        ((CLAIM / time * f64::from(chunks)).ceil() as u32).clamp(1, chunks)
    }
}

/// A named tensor that a program takes or gives.
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
    pub(crate) views: Vec<BufferView>,
    /// Memory behind the values.
    pub(crate) buffers: Vec<Buffer>,
    pub(crate) constants: Vec<PackedConstant>,
    /// Parameters and states, in the order of their offsets.
    pub(crate) variables: Vec<Variable>,
    /// Views of a variable and of the row-major value that it holds after a run, until the pass `place_updates` has run.
    pub(crate) updates: Vec<(ViewId, ViewId)>,
    /// Kernel calls, in order.
    pub steps: Vec<KernelCall>,
    /// How many of the first steps a session runs only where a variable has been written.
    pub(crate) prologue: usize,
    /// Size of the arena.
    pub arena_bytes: usize,
    /// Scratch memory of one worker.
    pub(crate) scratch_bytes: usize,
    /// What lowering and the passes over the plan chose and declined.
    pub remarks: Vec<Remark>,
}

impl Plan {
    /// The buffer behind an operand, unless that is a constant.
    pub(crate) fn buffer(&self, operand: Operand) -> Option<BufferId> {
        match operand {
            Operand::View(view) => Some(self.views[view.0].buffer),
            Operand::Constant(_) => None,
        }
    }

    /// Where an operand lies.
    pub(crate) fn placement(&self, operand: Operand) -> Placement {
        match operand {
            Operand::View(view) => self.buffers[self.views[view.0].buffer.0].placement,
            Operand::Constant(id) => Placement::Constant(id),
        }
    }

    /// Bytes from the place of an operand's buffer to the operand.
    pub(crate) fn offset(&self, operand: Operand) -> usize {
        match operand {
            Operand::View(view) => self.views[view.0].offset,
            Operand::Constant(_) => 0,
        }
    }

    /// Bytes that an operand may touch.
    fn extent(&self, operand: Operand) -> usize {
        match operand {
            Operand::View(view) => {
                let BufferView { buffer, offset, .. } = self.views[view.0];
                self.buffers[buffer.0].bytes.saturating_sub(offset)
            }
            Operand::Constant(id) => self.constants[id.0].bytes,
        }
    }

    /// What becomes of subnormal numbers while it runs: zeros, if a kernel of its own has them so.
    pub fn float_mode(&self) -> FloatMode {
        let flushes = |step: &KernelCall| step.kernel.float_mode() == FloatMode::Flush;
        if self.steps.iter().any(flushes) { FloatMode::Flush } else { FloatMode::Ieee }
    }

    /// The target whose code it is: that of the level below where it has no use for what its own adds.
    pub fn code_target(&self) -> Target {
        self.target.needed(self.float_mode())
    }

    /// Bytes of all packed constants.
    pub fn constant_bytes(&self) -> usize {
        self.constants.iter().map(|c| c.bytes).sum()
    }

    /// For each constant, whether it is part of the program rather than of the model: made up by a lowering, or an operand that some kernel
    /// computes addresses from. Weights files may exchange all others.
    pub(crate) fn fixed(&self) -> Vec<bool> {
        let generated = |constant: &PackedConstant| matches!(constant.contents, Contents::Generated(_));
        let mut fixed: Vec<bool> = self.constants.iter().map(generated).collect();
        for step in &self.steps {
            let arguments = step.kernel.arguments.iter().zip(&step.operands);
            for (_, operand) in arguments.filter(|(argument, _)| argument.addresses) {
                if let Some(ConstId(id)) = self.constant(*operand) {
                    fixed[id] = true;
                }
            }
        }
        fixed
    }

    /// The constant that an operand reads, if it is one.
    fn constant(&self, operand: Operand) -> Option<ConstId> {
        match operand {
            Operand::Constant(id) => Some(id),
            Operand::View(view) => match self.buffers[self.views[view.0].buffer.0].placement {
                Placement::Constant(id) => Some(id),
                Placement::Unplaced
                | Placement::Arena(_)
                | Placement::Input(_)
                | Placement::Output(_)
                | Placement::State(_) => None,
            },
        }
    }

    /// Size of the state block: of all parameters and states, each up to a multiple of 64.
    pub(crate) fn state_bytes(&self) -> usize {
        let last = self.variables.last();
        last.map_or(0, |v| v.offset + v.initial.ty.bytes().next_multiple_of(fornax_runtime::ALIGN))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::epilogue::Epilogue;
    use crate::kernels::{Depthwise, Loops, Spec};
    use fornax_ir::scalar::UnaryFn;
    use fornax_ir::types::DType;

    /// Work units of a kernel, and how many of them are claimed at once.
    fn grain(spec: impl Into<Spec>) -> (u32, u32) {
        let target = "x86-64-v4".parse().unwrap();
        let kernel = Kernel::new(spec, &target);
        let step = KernelCall { kernel, operands: Vec::new(), node: "n".into(), origins: Vec::new() };
        (step.kernel.chunks, step.grain(&target))
    }

    /// The text of a plan of one convolution, all of whose operands are inputs.
    fn product(element: &str, run: &str, mode: &str) -> String {
        let name = format!("{element}_conv_n1c32h1w20m40_o1x20k1x1s1x1p0x0{run}_bias");
        let kernel = Kernel::new(crate::kernels::text::spec(&name).unwrap(), &"x86-64-v3".parse().unwrap());
        format!(
            "plan @product for x86-64-v3\narena 0 bytes, scratch 0 bytes, constants 0 bytes{mode}\n\
             {name}(x=in0, weights=in1, bias=in2, y=out0) chunks={} {}  ; product\nin0 = \"x\" : {element}[20,32]\n\
             in1 = \"weights\" : {element}[48,32]\nin2 = \"bias\" : f32[48]\nout0 = \"y\" : {element}[20,40]\n",
            kernel.chunks, kernel.schedule
        )
    }

    #[test]
    fn the_mode_of_subnormals_follows_from_the_kernels() {
        let flushed = ", subnormals flushed";
        for (element, run, mode) in [("bf16", "r32", flushed), ("bf16", "", flushed), ("f32", "", ""), ("f16", "", "")]
        {
            let text = product(element, run, mode);
            let plan = parse(&text).unwrap();
            assert_eq!((plan.float_mode() == FloatMode::Flush, plan.to_string()), (!mode.is_empty(), text));
            let other = if mode.is_empty() { flushed } else { "" };
            let error = parse(&product(element, run, other)).unwrap_err().to_string();
            assert!(error.contains("subnormals flushed"), "{error}");
        }
    }

    #[test]
    fn short_steps_are_not_shared_and_long_ones_in_pieces() {
        let copy = |count: usize| grain(Loops::copy(DType::F32, &[count], &[1], &[1]));
        // 20 bytes take a nanosecond: 5 us, 24 us, 240 us.
        assert_eq!([copy(12_500), copy(60_000), copy(600_000)], [(2, 2), (8, 2), (74, 2)]);
    }

    #[test]
    fn steps_are_shared_by_what_their_family_says() {
        // The same taps, and a function of the exponential after them or not.
        let rows = |activation| {
            grain(Depthwise {
                element: DType::F32,
                batch: 1,
                channels: 64,
                gaps: [0, 0],
                input: [14, 14],
                output: [14, 14],
                kernel: [7, 7],
                strides: [1, 1],
                dilations: [1, 1],
                pads: [3, 3],
                epilogue: Epilogue::new(activation, false, false),
                transposed: false,
                finish: None,
            })
        };
        assert_eq!((rows(None), rows(Some(UnaryFn::Silu))), ((14, 5), (14, 4)));
    }
}
