//! Instructions on integers in general registers, each of which gives its result in a register of its own.

use crate::codegen::{Cmp, Emitter, IntOp, R};

/// `a op b`
pub(super) fn int_op(e: &mut dyn Emitter, op: IntOp, a: R, b: R) -> R {
    let d = e.r();
    e.int_op(op, d, a, b);
    d
}

/// `(a cmp b) ? yes : no`
pub(super) fn choose(e: &mut dyn Emitter, [a, b]: [R; 2], cmp: Cmp, yes: R, no: R) -> R {
    let d = e.r();
    e.choose(d, cmp, a, b, yes, no);
    d
}
