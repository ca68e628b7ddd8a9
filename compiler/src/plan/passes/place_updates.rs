//! What replaces a variable after a run.
//!
//! In: the steps in their final order, and for each updated variable the view of its next value. Out: every such value in the
//! variable's memory when the steps are done. A value is written there straight away if nothing reads the variable
//! afterwards, else copied after all other steps. Updates happen at once: a variable that is the next value of
//! another one is read before it is overwritten.

use crate::kernels::{Access, Kernel, Loops};
use crate::plan::{AxisOrder, Buffer, BufferId, BufferView, KernelCall, Placement, Plan, ViewId};

pub(super) fn run(plan: &mut Plan) {
    let updates = std::mem::take(&mut plan.updates);
    plan.place_updates(&updates);
}

impl Plan {
    /// Places the next value of each variable; `updates` are views of variables and of values.
    fn place_updates(&mut self, updates: &[(ViewId, ViewId)]) {
        let buffer = |view: &ViewId| self.views[view.0].buffer;
        let moves: Vec<(BufferId, BufferId)> =
            updates.iter().map(|(variable, value)| (buffer(variable), buffer(value))).collect();
        let uses = self.uses();
        let mut copies = Vec::new();
        for ((variable, value), (to, from)) in updates.iter().zip(&moves) {
            if from == to {
                continue;
            }
            let read = |other: &BufferId| moves.iter().filter(|(_, from)| from == other).count();
            if read(from) == 1 && read(to) == 0 && self.fits_in_place(&uses, *from, *to) {
                self.views.iter_mut().filter(|view| view.buffer == *from).for_each(|view| view.buffer = *to);
            } else {
                copies.push((*variable, *value));
            }
        }
        // Variables that are both read and overwritten by what follows are read first.
        for (variable, value) in &mut copies {
            let from = self.views[value.0].clone();
            if moves.iter().any(|(to, _)| *to == from.buffer) {
                self.buffers.push(Buffer { placement: Placement::Unplaced, bytes: from.ty.bytes() });
                let buffer = BufferId(self.buffers.len() - 1);
                let name = format!("{}.before", from.name);
                self.views.push(BufferView { name, ty: from.ty, order: AxisOrder::RowMajor, buffer, offset: 0 });
                let kept = ViewId(self.views.len() - 1);
                let node = self.views[variable.0].name.clone();
                self.copy(*value, kept, &node);
                *value = kept;
            }
        }
        for (variable, value) in copies {
            let node = self.views[variable.0].name.clone();
            self.copy(value, variable, &node);
        }
    }

    /// Copies one row-major view to another.
    fn copy(&mut self, from: ViewId, to: ViewId, node: &str) {
        let ty = &self.views[from.0].ty;
        let strides = AxisOrder::RowMajor.strides(&ty.shape);
        let kernel = Kernel::new(Loops::copy(ty.dtype, &ty.shape, &strides, &strides), &self.target);
        if kernel.chunks > 0 {
            let operands = vec![from.into(), to.into()];
            self.steps.push(KernelCall { kernel, operands, node: node.into(), origins: Vec::new() });
        }
    }

    /// The steps that name each buffer, ascending; a step is there as often as it names it.
    fn uses(&self) -> Vec<Vec<usize>> {
        let mut uses = vec![Vec::new(); self.buffers.len()];
        for (at, step) in self.steps.iter().enumerate() {
            step.operands.iter().filter_map(|operand| self.buffer(*operand)).for_each(|buffer| uses[buffer.0].push(at));
        }
        uses
    }

    /// Whether `from` may be written where variable `to` is: it lies in the arena, and no step reads `to` after the first that writes
    /// `from`, nor that one, unless its kernel may work in place.
    fn fits_in_place(&self, uses: &[Vec<usize>], from: BufferId, to: BufferId) -> bool {
        let (source, target) = (&self.buffers[from.0], &self.buffers[to.0]);
        if source.placement != Placement::Unplaced || source.bytes != target.bytes {
            return false;
        }
        let names = |step: usize, id: BufferId| uses[id.0].iter().filter(|at| **at == step).count();
        let Some(first) = uses[from.0].first().copied() else { return false };
        let in_place = || {
            let step = &self.steps[first];
            let mut written = step.kernel.arguments.iter().zip(&step.operands);
            let written = written.find(|(_, o)| self.buffer(**o) == Some(from)).map(|(argument, _)| argument);
            let over =
                written.filter(|argument| argument.access == Access::Write).and_then(|argument| argument.in_place);
            names(first, from) == 1
                && names(first, to) == 1
                && over.is_some_and(|operand| self.buffer(step.operands[operand]) == Some(to))
        };
        match uses[to.0].last().copied() {
            Some(last) => last < first || (last == first && in_place()),
            None => true,
        }
    }
}
