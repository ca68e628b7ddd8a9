//! Parameters and states from graph to session: the evaluator, code in memory on every level, compiled libraries from Rust and from C.

#[path = "../support/c.rs"]
mod c;
mod library;
mod network;
mod programs;
mod updates;
