//! Extents that depend on data: memory by a bound, and a computed count of how much of it is there.
//!
//! A value is live along at most one axis: its first `count` slices along it are what the model says, those after them are anything. Integers that
//! a count is made of (a shape, a `k`) are known entry by entry, so that a shape that is read off such a value and given to another operator gives the axis back.

use fornax_ir::graph::ValueId;

/// An extent that depends on data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Extent {
    /// What it is at most: how much memory there is.
    pub bound: usize,
    /// What it is: an `i64` scalar.
    pub count: ValueId,
}

/// The axis of a value along which its extent depends on data.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Live {
    pub axis: usize,
    pub extent: Extent,
}

/// An element of an integer value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Entry {
    Known(i64),
    Count(Extent),
}
