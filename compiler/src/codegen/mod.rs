//! The small vector machine that kernels are written against.
//!
//! In: calls of an [`Emitter`] by a kernel, in the order the instructions shall have (emission order is the schedule). Out: one
//! function with the kernel ABI `fn(ptrs: *const *mut u8, begin: u32, end: u32, scratch: *mut u8)`. Vectors hold `lanes()` 32-bit
//! elements; a kernel that is correct for one lane count is correct for all, and computes the same bits.

pub mod clif;
pub mod epilogue;
pub mod loops;
pub(crate) mod machine;
pub mod math;
#[cfg(test)]
pub mod soft;
pub mod x86;

/// A vector register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct V(pub u32);

/// A general register: an address or a 64-bit integer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct R(pub u32);

/// Element type of a vector operation.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Lane {
    /// 32-bit floating point.
    F32,
    /// 32-bit integer.
    I32,
}

/// A vector operation of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum VOp {
    /// Sum.
    Add,
    /// Difference.
    Sub,
    /// Product.
    Mul,
    /// Correctly rounded quotient (F32 only).
    Div,
    /// `a < b ? a : b` (x86 `minps`: the second operand if unordered).
    Min,
    /// `a > b ? a : b` (x86 `maxps`: the second operand if unordered).
    Max,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
}

/// An ordered comparison of `f32` lanes (false if unordered), or the test for unordered.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Cmp {
    /// `a < b`
    Less,
    /// `a <= b`
    LessOrEqual,
    /// `a == b`
    Equal,
    /// `a` or `b` is a NaN
    Unordered,
}

/// `base + offset`, bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Mem {
    /// Base register.
    pub base: R,
    /// Constant displacement.
    pub offset: i32,
}

impl R {
    /// The memory at `self + offset`.
    pub fn at(self, offset: i32) -> Mem {
        Mem { base: self, offset }
    }
}

/// How often a loop runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Count {
    /// As often as a constant says.
    Times(u32),
    /// As often as a register says when the loop is entered; not at all if it is 0 or negative.
    Register(R),
}

/// A body that emits instructions.
pub type Body<'a> = &'a mut dyn FnMut(&mut dyn Emitter);

/// A machine with vector and general registers, memory operands with constant displacements, and counted loops.
///
/// Registers are variables: they may be assigned again, inside loops too. [`Emitter::v`] and [`Emitter::r`] hand out fresh ones,
/// `free_*` gives them back. A kernel keeps at most [`Emitter::budget`] vector registers live if it wants no spills.
pub trait Emitter {
    /// 32-bit lanes of a vector.
    fn lanes(&self) -> usize;
    /// Vector registers that a schedule may keep live, temporaries of single operations already taken off.
    fn budget(&self) -> usize;

    /// A fresh vector register.
    fn v(&mut self) -> V;
    /// Gives a vector register back.
    fn free_v(&mut self, v: V);
    /// A fresh general register.
    fn r(&mut self) -> R;
    /// Gives a general register back.
    fn free_r(&mut self, r: R);

    /// `d = ptrs[index]`
    fn arg(&mut self, d: R, index: usize);
    /// `d = begin`, zero-extended
    fn begin(&mut self, d: R);
    /// `d = end`, zero-extended
    fn end(&mut self, d: R);
    /// `d = scratch`
    fn scratch(&mut self, d: R);

    /// `d = value`
    fn set(&mut self, d: R, value: i64);
    /// `d = s`
    fn copy(&mut self, d: R, s: R);
    /// `d = a + b`
    fn add(&mut self, d: R, a: R, b: R);
    /// `d = a - b`
    fn sub(&mut self, d: R, a: R, b: R);
    /// `d = a + value`
    fn add_imm(&mut self, d: R, a: R, value: i64);
    /// `d = a * value`
    fn mul_imm(&mut self, d: R, a: R, value: i64);
    /// `d = a / value`, unsigned, `value > 0`
    fn div_imm(&mut self, d: R, a: R, value: u32);
    /// `d = min(a, b)`, signed
    fn min(&mut self, d: R, a: R, b: R);
    /// `d = max(a, b)`, signed
    fn max(&mut self, d: R, a: R, b: R);
    /// `d = *at`, 64 bits
    fn load_r(&mut self, d: R, at: Mem);
    /// `*at = s`, 64 bits
    fn store_r(&mut self, s: R, at: Mem);
    /// `d = (index as u64) < bound ? inside : outside`
    fn select_below(&mut self, d: R, index: R, bound: u32, inside: R, outside: R);

    /// Runs `body` as often as `count` says.
    fn repeat(&mut self, count: Count, body: Body<'_>);
    /// Runs `body` if `a < b`, signed.
    fn if_less(&mut self, a: R, b: R, body: Body<'_>);

    /// `d = 0`
    fn zero(&mut self, d: V);
    /// Every lane of `d` = these bits.
    fn splat(&mut self, d: V, bits: u32);
    /// `d = s`
    fn copy_v(&mut self, d: V, s: V);
    /// The first `lanes` lanes from memory, the others 0. No alignment is assumed; nothing beyond `lanes` elements is read.
    fn load(&mut self, d: V, at: Mem, lanes: usize);
    /// The first `lanes` lanes to memory; nothing beyond is written.
    fn store(&mut self, s: V, at: Mem, lanes: usize);
    /// Every lane of `d` = the 32-bit element at `at`.
    fn broadcast(&mut self, d: V, at: Mem);
    /// `d = a op b`
    fn op(&mut self, op: VOp, lane: Lane, d: V, a: V, b: V);
    /// `d = a * b + d`, rounded once (twice where the target has no FMA)
    fn fma(&mut self, d: V, a: V, b: V);
    /// `d = d - a * b`, rounded once (twice where the target has no FMA)
    fn fnma(&mut self, d: V, a: V, b: V);
    /// `d = sqrt(a)`, correctly rounded
    fn sqrt(&mut self, d: V, a: V);
    /// 32-bit lanes shifted left, zeros in
    fn shift_left(&mut self, d: V, a: V, bits: u32);
    /// 32-bit lanes shifted right, zeros in
    fn shift_right(&mut self, d: V, a: V, bits: u32);
    /// Lane by lane: `d = (a cmp b) ? yes : no`
    fn select(&mut self, d: V, cmp: Cmp, a: V, b: V, yes: V, no: V);
    /// 32-bit integer lanes to `f32`, rounded to nearest even
    fn int_to_float(&mut self, d: V, a: V);
    /// `f32` lanes to 32-bit integers, towards zero; out of range is unspecified
    fn float_to_int(&mut self, d: V, a: V);

    /// The whole body of a kernel: a loop nest over its arguments (inputs, tables, output), cut into chunks.
    fn loops(&mut self, nest: &loops::LoopNest, split: loops::Split);
}

/// Scoped helpers over any emitter.
impl dyn Emitter + '_ {
    /// A fresh register that holds `ptrs[index]`.
    pub fn pointer(&mut self, index: usize) -> R {
        let r = self.r();
        self.arg(r, index);
        r
    }

    /// A fresh vector register with `value` in every lane.
    pub fn constant(&mut self, value: f32) -> V {
        let v = self.v();
        self.splat(v, value.to_bits());
        v
    }
}
