//! Plans without their passes: what passes over plans are held to.
//!
//! In: a plan before or after any of the passes. Out: one that may be emitted and computes the same: no two values share memory, next
//! values of variables go to their places by copies, and every constant and variable has elements, which the text of a plan leaves out.

use crate::kernels::{Kernel, Loops};
use crate::plan::{
    AxisOrder, Buffer, BufferId, BufferView, Contents, KernelCall, PackedConstant, Placement, Plan, ViewId,
};
use fornax_ir::types::{Constant, TensorType};
use fornax_runtime::ALIGN;

/// The plan as it is run where no pass may be trusted; `elements` makes what variables begin with, each by its number, and the constants,
/// each by its hash: a pass may number those anew.
pub fn plain(plan: &Plan, elements: impl Fn(u64, &TensorType) -> Constant) -> Plan {
    let mut plan = plan.clone();
    for (number, variable) in (0..).zip(&mut plan.variables) {
        variable.initial = elements(number, &variable.initial.ty);
    }
    for constant in &mut plan.constants {
        if let Contents::Packed(source, packing) = &constant.contents {
            *constant = PackedConstant::packed(elements(source.hash(), &source.ty), packing.clone());
        }
    }
    update_by_copies(&mut plan);
    for buffer in plan.buffers.iter_mut().filter(|buffer| buffer.placement == Placement::Unplaced) {
        buffer.placement = Placement::Arena(plan.arena_bytes);
        plan.arena_bytes = (plan.arena_bytes + buffer.bytes).next_multiple_of(ALIGN);
    }
    plan.scratch_bytes = plan.steps.iter().map(|step| step.kernel.scratch).max().unwrap_or(0);
    plan
}

/// Copies each next value aside behind all steps, and then all of them into their variables.
fn update_by_copies(plan: &mut Plan) {
    let updates = std::mem::take(&mut plan.updates);
    let kept: Vec<ViewId> = updates.iter().map(|(_, from)| aside(plan, *from)).collect();
    let out = updates.iter().zip(&kept).map(|((_, from), kept)| (*from, *kept));
    let back = updates.iter().zip(&kept).map(|((to, _), kept)| (*kept, *to));
    for (from, to) in out.chain(back) {
        let ty = &plan.views[from.0].ty;
        let strides = AxisOrder::RowMajor.strides(&ty.shape);
        let kernel = Kernel::new(Loops::copy(ty.dtype, &ty.shape, &strides, &strides), &plan.target);
        let operands = vec![from.into(), to.into()];
        plan.steps.push(KernelCall { kernel, operands, node: "update".into(), origins: Vec::new() });
    }
}

/// A view like another one, of memory of its own.
fn aside(plan: &mut Plan, view: ViewId) -> ViewId {
    let like = plan.views[view.0].clone();
    plan.buffers.push(Buffer { placement: Placement::Unplaced, bytes: like.ty.bytes() });
    plan.views.push(BufferView { buffer: BufferId(plan.buffers.len() - 1), ..like });
    ViewId(plan.views.len() - 1)
}
