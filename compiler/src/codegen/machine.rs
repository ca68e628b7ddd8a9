//! The half of code generation that names no processor: kernels as recorded code over values, and the places of those values.
//!
//! In: the calls of one kernel on a [`record::Recorder`]. Out: [`code::Code`] with loads folded, and for every class of registers a
//! [`registers::File`] that says where a value is and moves it through a back end's [`registers::Mover`]. What is recorded keeps its
//! order. A back end (`x86`) walks the code once, asks the files for registers and encodes.

pub mod code;
pub mod fold;
pub mod record;
pub mod registers;

/// The vector registers of a machine, as recording and folding see them.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Vectors {
    /// 32-bit lanes of a register.
    pub lanes: usize,
    /// How many there are.
    pub registers: usize,
    /// Whether an instruction can read one element from memory for every lane.
    pub embedded_broadcast: bool,
}
