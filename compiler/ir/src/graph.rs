//! The portable form of a network: a graph of operators with static shapes, before any target is known.
//!
//! In: what a frontend built. Out: what the passes rewrote, still the same form. Invariants, which [`verify()`] checks
//! between passes: operand slots are dense, every type is what the operator's shape rule says, names are unique, no
//! cycle. The text form ([`mod@print`], [`parse()`]) reads back to the same graph ([`Graph::same_as`]).

pub(crate) mod builder;
mod dot;
mod evaluate;
mod lex;
mod names;
mod nodes;
mod parse;
mod patch;
pub mod print;
mod variables;
mod verify;

pub use builder::GraphBuilder;
pub use dot::dot;
pub use evaluate::{Environment, evaluate, evaluate_in};
pub(crate) use names::Names;
pub use nodes::{Further, Graph, Kind, Node, NodeId, Part, ValueId, Variable};
pub use parse::parse;
pub(crate) use patch::{Patch, PatchValue};
pub use verify::verify;
pub(crate) use verify::verify_sizes;
