//! Collects views, packed constants and steps, and closes them into a [`Plan`].
//!
//! In: what lowerings add, in execution order. Out: a plan whose outputs are in their places, and whose other values wait for
//! theirs ([`super::passes`]). The invariant that [`PlanBuilder::finish`] establishes: the plan is valid ([`super::verify`]), or it is refused.

use fornax_runtime::{ALIGN, VariableKind};

use super::{
    AxisOrder, Buffer, BufferId, BufferView, ConstId, KernelCall, Operand, PackedConstant, Placement, Plan, Pool, Port,
    Variable, ViewId, verify,
};
use crate::error::Result;
use crate::kernels::{Kernel, Loops};
use crate::target::Target;
use fornax_ir::Remark;
use fornax_ir::types::{Constant, TensorType};

/// A plan under construction.
#[derive(Debug)]
pub struct PlanBuilder {
    /// The machine the plan is for.
    pub target: Target,
    /// What was chosen and what was declined.
    pub remarks: Vec<Remark>,
    inputs: Vec<Port>,
    views: Vec<BufferView>,
    buffers: Vec<Buffer>,
    constants: Pool<PackedConstant>,
    variables: Vec<Variable>,
    /// Size of the state block so far.
    state_bytes: usize,
    steps: Vec<KernelCall>,
}

impl PlanBuilder {
    /// An empty plan for `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            remarks: Vec::new(),
            inputs: Vec::new(),
            views: Vec::new(),
            buffers: Vec::new(),
            constants: Pool::default(),
            variables: Vec::new(),
            state_bytes: 0,
            steps: Vec::new(),
        }
    }

    /// The view behind an id.
    pub fn view(&self, id: ViewId) -> &BufferView {
        &self.views[id.0]
    }

    /// The next network input, row-major.
    pub fn input(&mut self, port: Port) -> ViewId {
        let buffer = self.buffer(Placement::Input(self.inputs.len()), port.ty.bytes());
        let view = self.push(port.name.clone(), port.ty.clone(), AxisOrder::RowMajor, buffer);
        self.inputs.push(port);
        view
    }

    /// The next parameter or state, row-major: the value of `node`, called `name` by hosts.
    pub fn variable(&mut self, node: &str, kind: VariableKind, name: &str, initial: &Constant) -> ViewId {
        let (offset, ty) = (self.state_bytes, initial.ty.clone());
        self.state_bytes += ty.bytes().next_multiple_of(ALIGN);
        self.variables.push(Variable { kind, name: name.into(), offset, initial: initial.clone() });
        let buffer = self.buffer(Placement::State(offset), ty.bytes());
        self.push(node.into(), ty, AxisOrder::RowMajor, buffer)
    }

    /// A view in the arena.
    pub fn temp(&mut self, name: String, ty: TensorType, order: AxisOrder) -> ViewId {
        let buffer = self.buffer(Placement::Unplaced, ty.bytes());
        self.push(name, ty, order, buffer)
    }

    /// Another view of a view's memory, of as many bytes.
    pub fn reinterpret(&mut self, view: ViewId, ty: TensorType, order: AxisOrder) -> ViewId {
        let BufferView { name, buffer, .. } = self.views[view.0].clone();
        self.push(name, ty, order, buffer)
    }

    /// A view over a packed constant.
    pub fn constant_view(&mut self, constant: ConstId, ty: TensorType, order: AxisOrder) -> ViewId {
        let buffer = self.buffer(Placement::Constant(constant), ty.bytes());
        self.push(format!("c{}", constant.0), ty, order, buffer)
    }

    /// A constant; equal ones are stored once.
    pub fn constant(&mut self, constant: impl Into<PackedConstant>) -> ConstId {
        ConstId(self.constants.insert(constant.into()))
    }

    /// Adds a kernel call for `node`, which computes `origins`; one without work units is left out.
    pub fn step(&mut self, kernel: Kernel, operands: Vec<Operand>, (node, origins): (&str, &[String])) {
        if kernel.chunks > 0 {
            self.steps.push(KernelCall { kernel, operands, node: node.into(), origins: origins.to_vec() });
        }
    }

    /// Closes the plan. Each output is a row-major view; each update is a variable's view and the row-major one of the value that
    /// the variable holds after a run.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] if an operand is smaller than its kernel needs: a bug of a lowering.
    pub fn finish(mut self, name: String, outputs: Vec<(Port, ViewId)>, updates: &[(ViewId, ViewId)]) -> Result<Plan> {
        for (i, (port, view)) in outputs.iter().enumerate() {
            self.place_output(i, port, *view);
        }
        let plan = Plan {
            name,
            target: self.target,
            inputs: self.inputs,
            outputs: outputs.into_iter().map(|(port, _)| port).collect(),
            views: self.views,
            buffers: self.buffers,
            constants: self.constants.into_constants(),
            variables: self.variables,
            scratch_bytes: self.steps.iter().map(|s| s.kernel.scratch).max().unwrap_or(0),
            steps: self.steps,
            prologue: 0,
            arena_bytes: 0,
            remarks: self.remarks,
            updates: updates.to_vec(),
        };
        verify(&plan)?;
        Ok(plan)
    }

    /// Puts an output's buffer into the host's tensor, or copies it there where it is an input, a constant or another output too.
    fn place_output(&mut self, index: usize, port: &Port, view: ViewId) {
        let BufferView { buffer, ty, .. } = self.views[view.0].clone();
        let placement = &mut self.buffers[buffer.0];
        if placement.placement == Placement::Unplaced && placement.bytes == port.ty.bytes() {
            placement.placement = Placement::Output(index);
            return;
        }
        let buffer = self.buffer(Placement::Output(index), port.ty.bytes());
        let to = self.push(port.name.clone(), ty, AxisOrder::RowMajor, buffer);
        self.copy(view, to, &port.name);
    }

    /// Copies one row-major view to another.
    fn copy(&mut self, from: ViewId, to: ViewId, node: &str) {
        let ty = &self.views[from.0].ty;
        let strides = AxisOrder::RowMajor.strides(&ty.shape);
        let copy = Kernel::new(Loops::copy(ty.dtype, &ty.shape, &strides, &strides), &self.target);
        self.step(copy, vec![from.into(), to.into()], (node, &[]));
    }

    fn buffer(&mut self, placement: Placement, bytes: usize) -> BufferId {
        self.buffers.push(Buffer { placement, bytes });
        BufferId(self.buffers.len() - 1)
    }

    fn push(&mut self, name: String, ty: TensorType, order: AxisOrder, buffer: BufferId) -> ViewId {
        self.views.push(BufferView { name, ty, order, buffer, offset: 0 });
        ViewId(self.views.len() - 1)
    }
}
