//! The portable half of the Fornax compiler: what a network computes, without a word on how.
//!
//! ```text
//!  frontends ──▶ graph::Graph     operators over values of static shape; verified, printed, parsed, evaluated
//!                   │  passes     fold constants and batch norms, drop identities, fuse activations, SE and MBConv
//!                   ▼
//!                graph::Graph     the same form, smaller; each rewrite leaves a remark
//! ```
//!
//! Invariant: nothing here knows a kernel, a plan, a target or a code generator. Modules depend downwards only:
//! `training > pipeline > differentiate > passes > remark > graph > ops > inputs, types, scalar, error`.

mod differentiate;
mod error;
pub mod graph;
pub mod inputs;
pub mod ops;
mod passes;
pub mod pipeline;
pub mod remark;
pub mod scalar;
pub mod training;
pub mod types;

pub use differentiate::{differentiate, pull_back};
pub use error::{Error, OpError, Result};
pub use remark::{Remark, Verdict};
