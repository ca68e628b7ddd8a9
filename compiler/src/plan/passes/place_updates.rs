//! What replaces a variable after a run.
//!
//! In: the steps in their final order, and for each updated variable the slot of its next value. Out: every such value in the
//! variable's memory when the steps are done. A value is written there straight away if nothing reads the variable
//! afterwards, else copied behind all other steps. Updates happen at once: a variable that is the next value of
//! another one is read before it is overwritten.

use crate::kernels::{Access, Kernel, Loops};
use crate::plan::{Home, Layout, Operand, Plan, Slot, SlotId, Step, Storage, StorageId};

/// Runs the pass.
pub(super) fn run(plan: &mut Plan) {
    let updates = std::mem::take(&mut plan.updates);
    plan.place_updates(&updates);
}

impl Plan {
    /// Places the next value of each variable; `updates` are slots of variables and of values.
    fn place_updates(&mut self, updates: &[(SlotId, SlotId)]) {
        let storage = |slot: &SlotId| self.slots[slot.0].storage;
        let moves: Vec<(StorageId, StorageId)> =
            updates.iter().map(|(variable, value)| (storage(variable), storage(value))).collect();
        let mut copies = Vec::new();
        for ((variable, value), (to, from)) in updates.iter().zip(&moves) {
            if from == to {
                continue;
            }
            let read = |other: &StorageId| moves.iter().filter(|(_, from)| from == other).count();
            if read(from) == 1 && read(to) == 0 && self.fits_in_place(*from, *to) {
                self.slots.iter_mut().filter(|slot| slot.storage == *from).for_each(|slot| slot.storage = *to);
            } else {
                copies.push((*variable, *value));
            }
        }
        // Variables that are both read and overwritten by what follows are read first.
        for (variable, value) in &mut copies {
            let from = self.slots[value.0].clone();
            if moves.iter().any(|(to, _)| *to == from.storage) {
                self.storages.push(Storage { home: Home::Unplaced, bytes: from.ty.bytes() });
                let storage = StorageId(self.storages.len() - 1);
                let name = format!("{}.before", from.name);
                self.slots.push(Slot { name, ty: from.ty, layout: Layout::RowMajor, storage });
                let kept = SlotId(self.slots.len() - 1);
                let node = self.slots[variable.0].name.clone();
                self.copy(*value, kept, &node);
                *value = kept;
            }
        }
        for (variable, value) in copies {
            let node = self.slots[variable.0].name.clone();
            self.copy(value, variable, &node);
        }
    }

    /// Copies one row-major slot to another.
    fn copy(&mut self, from: SlotId, to: SlotId, node: &str) {
        let ty = &self.slots[from.0].ty;
        let strides = Layout::RowMajor.strides(&ty.shape);
        let kernel = Kernel::new(Loops::copy(ty.dtype, &ty.shape, &strides, &strides), &self.target);
        if kernel.chunks > 0 {
            let operands = vec![from.into(), to.into()];
            self.steps.push(Step { kernel, operands, node: node.into(), origins: Vec::new() });
        }
    }

    /// Whether `from` may be written where variable `to` is: it lies in the arena, and no step reads `to` after the first that writes
    /// `from`, nor that one, unless its kernel may work in place.
    fn fits_in_place(&self, from: StorageId, to: StorageId) -> bool {
        let (source, target) = (&self.storages[from.0], &self.storages[to.0]);
        if source.home != Home::Unplaced || source.bytes != target.bytes {
            return false;
        }
        let storage = |operand: &Operand| match operand {
            Operand::Slot(slot) => Some(self.slots[slot.0].storage),
            Operand::Constant(_) => None,
        };
        let names = |step: usize, id: StorageId| {
            self.steps[step].operands.iter().filter(|operand| storage(operand) == Some(id)).count()
        };
        let steps = 0..self.steps.len();
        let Some(first) = steps.clone().find(|step| names(*step, from) > 0) else { return false };
        let in_place = || {
            let step = &self.steps[first];
            let mut written = step.kernel.arguments.iter().zip(&step.operands);
            let written = written.find(|(_, operand)| storage(operand) == Some(from)).map(|(argument, _)| argument);
            let over =
                written.filter(|argument| argument.access == Access::Write).and_then(|argument| argument.in_place);
            names(first, from) == 1
                && names(first, to) == 1
                && over.is_some_and(|operand| storage(&step.operands[operand]) == Some(to))
        };
        match steps.rev().find(|step| names(*step, to) > 0) {
            Some(last) => last < first || (last == first && in_place()),
            None => true,
        }
    }
}
