//! The half of code generation that names no processor: kernels as recorded code over values, and the places of those values.
//!
//! In: the calls of one kernel on a [`record::Recorder`]. Out: [`code::Recording`] with loads folded, and for every class of registers a
//! [`registers::File`] that says where a value is and moves it through a back end's [`registers::Mover`]. What is recorded keeps its
//! order. A back end (`x86`) walks the code once, asks the files for registers and encodes.

pub mod code;
pub mod fold;
pub mod record;
pub mod registers;
