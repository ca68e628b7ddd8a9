//! Values that a computed condition chooses between.
//!
//! In: a condition of one element and pairs of values, one for either answer. Out: one value for each pair, its elements taken
//! from the one or the other when the network runs. Both are computed either way: what a graph computes has no effect but its
//! values, so the one that is not taken costs time and changes nothing.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Where;
use fornax_ir::scalar::BinaryFn;

use super::NamedValue;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ops::support::{binary, reshape};

/// Whether a loop goes on, or which branch is taken.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Condition {
    /// Known at compile time.
    Known(bool),
    /// A boolean scalar of the graph.
    Computed(ValueId),
}

impl Condition {
    /// Whether this and then `next` holds, both in one trip.
    pub fn and(self, next: Self, cx: &mut Context<'_>) -> Result<Self> {
        Ok(match (self, next) {
            (Self::Known(false), _) | (_, Self::Known(false)) => Self::Known(false),
            (Self::Known(true), other) | (other, Self::Known(true)) => other,
            (Self::Computed(a), Self::Computed(b)) => Self::Computed(binary(cx, BinaryFn::And, a, b)?),
        })
    }
}

/// A computed condition as a scalar.
pub(super) fn scalar(cx: &mut Context<'_>, condition: ValueId) -> Result<ValueId> {
    match cx.shape(condition).numel() {
        1 => reshape(cx, condition, Vec::new()),
        _ => Err(cx.error("condition", "one element", cx.ty(condition).to_string())),
    }
}

/// `yes` where the scalar `condition` holds, else `no`; `what` names the two for a refusal.
///
/// # Errors
/// [`Error::Unsupported`] if the two differ in type or shape, or are no tensors.
pub(super) fn choose(
    cx: &mut Context<'_>,
    condition: ValueId,
    [yes, no]: [NamedValue; 2],
    what: &str,
) -> Result<NamedValue> {
    match (yes, no) {
        (NamedValue::Refused, _) | (_, NamedValue::Refused) => Ok(NamedValue::Refused),
        _ if yes == no => Ok(yes),
        (NamedValue::Known(a), NamedValue::Known(b)) if cx.ty(a) == cx.ty(b) => {
            cx.emit(Where {}, &[condition, a, b]).map(NamedValue::Known)
        }
        (NamedValue::Known(a), NamedValue::Known(b)) => {
            let (a, b) = (cx.ty(a).to_string(), cx.ty(b).to_string());
            Err(cx.unsupported(format!("{what} of a computed condition: {a} and {b}")))
        }
        _ => Err(cx.unsupported(format!("{what} of a computed condition: values that are no tensors"))),
    }
}

/// Each pair of `yes` and `no` as one value.
pub(super) fn choose_all(
    cx: &mut Context<'_>,
    condition: ValueId,
    (yes, no): (&[NamedValue], &[NamedValue]),
    what: &str,
) -> Result<Vec<NamedValue>> {
    yes.iter().zip(no).map(|(yes, no)| choose(cx, condition, [*yes, *no], what)).collect()
}

/// The reasons of a refusal; other errors as they are.
pub(super) fn reasons(error: Error) -> Result<Vec<String>> {
    match error {
        Error::Unsupported(why) => Ok(why),
        other => Err(other),
    }
}
