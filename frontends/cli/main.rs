//! Fornax.
fn main() {}
