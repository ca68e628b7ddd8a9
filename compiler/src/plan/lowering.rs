//! What an operator sees while it is lowered.

/// The lowering of one node into a plan.
pub struct Lowering<'a> {
    _node: &'a str,
}
