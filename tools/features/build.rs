//! Nothing: without a build script Cargo would leave the build dependencies out.

fn main() {}
