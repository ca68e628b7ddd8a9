//! Plans: kernel calls over slots for one target.

pub mod lowering;
