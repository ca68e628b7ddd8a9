//! Collects slots, packed constants and steps, and closes them into a [`Plan`].
//!
//! In: what lowerings add, in execution order. Out: a plan whose outputs are in their places, and whose other values wait for
//! theirs ([`super::passes`]). The invariant that [`Builder::finish`] establishes: the plan is valid ([`super::verify`]), or it is refused.

use fornax_runtime::{ALIGN, VariableKind};

use super::{
    ConstId, Home, Layout, Operand, PackedConstant, Plan, Pool, Port, Slot, SlotId, Step, Storage, StorageId, Variable,
    verify,
};
use crate::error::Result;
use crate::kernels::{Kernel, Loops};
use crate::target::Target;
use fornax_ir::Remark;
use fornax_ir::types::{Constant, TensorType};

/// A plan under construction.
#[derive(Debug)]
pub struct Builder {
    /// The machine the plan is for.
    pub target: Target,
    /// What was chosen and what was declined.
    pub remarks: Vec<Remark>,
    inputs: Vec<Port>,
    slots: Vec<Slot>,
    storages: Vec<Storage>,
    constants: Pool<PackedConstant>,
    variables: Vec<Variable>,
    /// Size of the state block so far.
    state_bytes: usize,
    steps: Vec<Step>,
}

impl Builder {
    /// An empty plan for `target`.
    pub fn new(target: Target) -> Self {
        Self {
            target,
            remarks: Vec::new(),
            inputs: Vec::new(),
            slots: Vec::new(),
            storages: Vec::new(),
            constants: Pool::default(),
            variables: Vec::new(),
            state_bytes: 0,
            steps: Vec::new(),
        }
    }

    /// The slot behind an id.
    pub fn slot(&self, id: SlotId) -> &Slot {
        &self.slots[id.0]
    }

    /// The next network input, row-major.
    pub fn input(&mut self, port: Port) -> SlotId {
        let storage = self.storage(Home::Input(self.inputs.len()), port.ty.bytes());
        let slot = self.push(port.name.clone(), port.ty.clone(), Layout::RowMajor, storage);
        self.inputs.push(port);
        slot
    }

    /// The next parameter or state, row-major: the value of `node`, called `name` by hosts.
    pub fn variable(&mut self, node: &str, kind: VariableKind, name: &str, initial: &Constant) -> SlotId {
        let (offset, ty) = (self.state_bytes, initial.ty.clone());
        self.state_bytes += ty.bytes().next_multiple_of(ALIGN);
        self.variables.push(Variable { kind, name: name.into(), offset, initial: initial.clone() });
        let storage = self.storage(Home::State(offset), ty.bytes());
        self.push(node.into(), ty, Layout::RowMajor, storage)
    }

    /// A slot in the arena.
    pub fn temp(&mut self, name: String, ty: TensorType, layout: Layout) -> SlotId {
        let storage = self.storage(Home::Unplaced, ty.bytes());
        self.push(name, ty, layout, storage)
    }

    /// Another view of a slot's memory, of as many bytes.
    pub fn view(&mut self, slot: SlotId, ty: TensorType, layout: Layout) -> SlotId {
        let Slot { name, storage, .. } = self.slots[slot.0].clone();
        self.push(name, ty, layout, storage)
    }

    /// A slot over a packed constant.
    pub fn constant_slot(&mut self, constant: ConstId, ty: TensorType, layout: Layout) -> SlotId {
        let storage = self.storage(Home::Constant(constant), ty.bytes());
        self.push(format!("c{}", constant.0), ty, layout, storage)
    }

    /// A constant; equal ones are stored once.
    pub fn constant(&mut self, constant: impl Into<PackedConstant>) -> ConstId {
        ConstId(self.constants.insert(constant.into()))
    }

    /// Adds a kernel call for `node`, which computes `origins`; one without work units is left out.
    pub fn step(&mut self, kernel: Kernel, operands: Vec<Operand>, (node, origins): (&str, &[String])) {
        if kernel.chunks > 0 {
            self.steps.push(Step { kernel, operands, node: node.into(), origins: origins.to_vec() });
        }
    }

    /// Number of steps so far.
    pub fn step_count(&self) -> usize {
        self.steps.len()
    }

    /// Closes the plan. Each output is a row-major slot; each update is a variable's slot and the row-major one of the value that
    /// the variable holds after a run.
    ///
    /// # Errors
    /// [`crate::Error::Plan`] if an operand is smaller than its kernel needs: a bug of a lowering.
    pub fn finish(mut self, name: String, outputs: Vec<(Port, SlotId)>, updates: &[(SlotId, SlotId)]) -> Result<Plan> {
        for (i, (port, slot)) in outputs.iter().enumerate() {
            self.place_output(i, port, *slot);
        }
        let plan = Plan {
            name,
            target: self.target,
            inputs: self.inputs,
            outputs: outputs.into_iter().map(|(port, _)| port).collect(),
            slots: self.slots,
            storages: self.storages,
            constants: self.constants.into_constants(),
            variables: self.variables,
            scratch_bytes: self.steps.iter().map(|s| s.kernel.scratch).max().unwrap_or(0),
            steps: self.steps,
            arena_bytes: 0,
            remarks: self.remarks,
            updates: updates.to_vec(),
        };
        verify(&plan)?;
        Ok(plan)
    }

    /// Puts an output's storage into the host's tensor, or copies it there where it is an input, a constant or another output too.
    fn place_output(&mut self, index: usize, port: &Port, slot: SlotId) {
        let Slot { storage, ty, .. } = self.slots[slot.0].clone();
        let home = &mut self.storages[storage.0];
        if home.home == Home::Unplaced && home.bytes == port.ty.bytes() {
            home.home = Home::Output(index);
            return;
        }
        let storage = self.storage(Home::Output(index), port.ty.bytes());
        let to = self.push(port.name.clone(), ty, Layout::RowMajor, storage);
        self.copy(slot, to, &port.name);
    }

    /// Copies one row-major slot to another.
    fn copy(&mut self, from: SlotId, to: SlotId, node: &str) {
        let ty = &self.slots[from.0].ty;
        let strides = Layout::RowMajor.strides(&ty.shape);
        let copy = Kernel::new(Loops::copy(ty.dtype, &ty.shape, &strides, &strides), &self.target);
        self.step(copy, vec![from.into(), to.into()], (node, &[]));
    }

    fn storage(&mut self, home: Home, bytes: usize) -> StorageId {
        self.storages.push(Storage { home, bytes });
        StorageId(self.storages.len() - 1)
    }

    fn push(&mut self, name: String, ty: TensorType, layout: Layout, storage: StorageId) -> SlotId {
        self.slots.push(Slot { name, ty, layout, storage });
        SlotId(self.slots.len() - 1)
    }
}
