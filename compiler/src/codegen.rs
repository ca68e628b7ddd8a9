//! The small vector machine that kernels are written against.
//!
//! In: calls of an [`Emitter`] by a kernel, in the order the instructions shall have (emission order is the schedule). Out: one
//! function with the kernel ABI `fn(ptrs: *const *mut u8, begin: u32, end: u32, scratch: *mut u8)`. Vectors hold
//! `lanes(element)` elements; a kernel that is correct for one lane count is correct for all, and computes the same bits.

pub mod clif;
pub mod elements;
pub mod epilogue;
pub(crate) mod machine;
pub mod math;
#[cfg(test)]
pub mod soft;
pub mod x86;

use std::cell::Cell;

use fornax_ir::types::DType;

use crate::error::Result;

/// A vector register.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct V(pub u32);

/// A general register: an address or a 64-bit integer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct R(pub u32);

/// What kernels compute with: the lanes of a vector operation. In memory, elements have any [`DType`].
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Element {
    /// 32-bit floating point.
    F32,
    /// 32-bit integer.
    I32,
    /// 64-bit floating point.
    F64,
    /// 64-bit integer.
    I64,
}

impl Element {
    /// Bytes of a lane.
    pub const fn size(self) -> usize {
        match self {
            Self::F32 | Self::I32 => 4,
            Self::F64 | Self::I64 => 8,
        }
    }
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
    /// Correctly rounded quotient (F32 and F64).
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
    /// In each 128-bit block, the lanes of the lower halves of `a` and `b` in turns: `a0 b0 a1 b1`.
    UnpackLow,
    /// As [`VOp::UnpackLow`], of the upper halves.
    UnpackHigh,
    /// The 128-bit blocks of `a` with even numbers, then those of `b`; of 128-bit vectors `a` itself.
    EvenBlocks,
    /// As [`VOp::EvenBlocks`], with odd numbers; 256 bits and more.
    OddBlocks,
    /// Lanes as pairs of signed 16-bit integers (I32 only): the product of the lower ones plus that of the upper ones, wrapped.
    Dot,
}

impl VOp {
    /// Whether the operands may change places.
    pub(crate) fn commutes(self) -> bool {
        matches!(self, Self::Add | Self::Mul | Self::And | Self::Or | Self::Xor | Self::Dot)
    }
}

/// An operation of two 64-bit integers that has no method of its own.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum IntOp {
    /// Product, wrapped.
    Mul,
    /// Bitwise and.
    And,
    /// Bitwise or.
    Or,
    /// Bitwise exclusive or.
    Xor,
    /// Signed quotient, towards zero. The divisor is neither 0 nor -1.
    Div,
    /// Unsigned quotient. The divisor is not 0.
    DivUnsigned,
}

/// An ordered comparison (false if unordered; of integers signed), or the test for unordered (floating point only).
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
    /// Constant displacement. A kernel says any; back ends refuse those beyond [`REACH`].
    pub offset: i64,
}

impl R {
    /// The memory at `self + offset`.
    pub fn at(self, offset: impl TryInto<i64>) -> Mem {
        Mem { base: self, offset: offset.try_into().unwrap_or(i64::MAX) }
    }
}

/// Bytes by which a displacement may lead away from its base: instructions have 32 bits for them, and the elements of a vector, of which
/// some are read one by one, follow.
pub const REACH: usize = i32::MAX as usize - 4096;

/// The displacements of a kernel as instructions have them: the one place that makes them 32 bits.
#[derive(Default, Debug)]
pub(crate) struct Displacements {
    /// The first that does not fit.
    beyond: Cell<Option<i64>>,
}

impl Displacements {
    /// The displacement of an instruction; one that does not fit is noted, and the kernel must not be used.
    pub fn of(&self, at: Mem) -> i32 {
        if let Ok(offset) = i32::try_from(at.offset)
            && offset.unsigned_abs() as usize <= REACH
        {
            return offset;
        }
        self.beyond.set(self.beyond.get().or(Some(at.offset)));
        0
    }

    /// Refuses a kernel with a displacement that does not fit.
    ///
    /// # Errors
    /// [`fornax_ir::Error::Limit`] with the displacement.
    pub fn check(&self, kernel: &str) -> Result<()> {
        match self.beyond.get() {
            None => Ok(()),
            Some(offset) => {
                let what = format!("bytes between operands of one instruction in {kernel}");
                let (limit, needed) = (REACH as u64, offset.unsigned_abs());
                Err(fornax_ir::Error::Limit { what, limit, needed, hint: None }.into())
            }
        }
    }
}

/// A tile register: a matrix of up to 16 rows of 64 bytes. There are [`TILES`], and who emits a kernel names them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct T(pub u8);

/// Tile registers of a machine that has any.
pub const TILES: usize = 8;

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
    /// Lanes of a vector.
    fn lanes(&self, element: Element) -> usize;
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
    /// Asks for the cache line at `at`, which may be any memory: what is computed does not change.
    fn prefetch(&mut self, _at: Mem) {}
    /// `d = *at`, 64 bits
    fn load_r(&mut self, d: R, at: Mem);
    /// `*at = s`, 64 bits
    fn store_r(&mut self, s: R, at: Mem);
    /// `d = a op b`
    fn int_op(&mut self, op: IntOp, d: R, a: R, b: R);
    /// `d =` the low bits of `a` as an element of an integer type (`bool` as `u8`), extended with its sign or zeros.
    fn extend(&mut self, d: R, a: R, dtype: DType);
    /// `d = *at`, an element of an integer type (`bool` as `u8`, other types by their bits), extended with its sign or zeros.
    fn load_int(&mut self, d: R, at: Mem, dtype: DType);
    /// `*at =` as many low bits of `s` as an element of `dtype` has.
    fn store_int(&mut self, s: R, at: Mem, dtype: DType);
    /// `d = (a cmp b) ? yes : no`, signed; not [`Cmp::Unordered`].
    fn choose(&mut self, d: R, cmp: Cmp, a: R, b: R, yes: R, no: R);
    /// `d =` the bits of the first lane of this size, zero-extended.
    fn first_bits(&mut self, element: Element, d: R, s: V);
    /// Every lane of `d` of this size = the low bits of `s`.
    fn splat_int(&mut self, element: Element, d: V, s: R);
    /// The first lane of `d` = the integer `s` rounded to the nearest `f32`; the others are unspecified.
    fn first_from_int(&mut self, d: V, s: R);
    /// `d =` the first lane, an `f32`, truncated towards zero and saturated; 0 for a NaN.
    fn first_to_int(&mut self, d: R, s: V);
    /// `d = (index as u64) < bound ? inside : outside`
    fn select_below(&mut self, d: R, index: R, bound: u32, inside: R, outside: R);

    /// Runs `body` as often as `count` says.
    fn repeat(&mut self, count: Count, body: Body<'_>);
    /// Runs `body` if `a < b`, signed.
    fn if_less(&mut self, a: R, b: R, body: Body<'_>);

    /// `d = 0`
    fn zero(&mut self, d: V);
    /// Every 32-bit lane of `d` = these bits.
    fn splat(&mut self, d: V, bits: u32);
    /// Every 64-bit lane of `d` = these bits.
    fn splat_64(&mut self, d: V, bits: u64);
    /// `d = s`
    fn copy_v(&mut self, d: V, s: V);
    /// The first `lanes` lanes from memory, the others 0. No alignment is assumed; nothing beyond `lanes` elements is read.
    fn load(&mut self, d: V, at: Mem, lanes: usize);
    /// The first `lanes` lanes to memory; nothing beyond is written.
    fn store(&mut self, s: V, at: Mem, lanes: usize);
    /// The first `lanes` elements of type `from`, widened to 32-bit lanes, the others 0: integers of up to 32 bits (`bool` as `u8`) to
    /// [`Element::I32`], `f32` to [`Element::F32`]. Nothing beyond is read.
    fn load_as(&mut self, d: V, at: Mem, from: DType, lanes: usize);
    /// The low bits of the first `lanes` 32-bit lanes as elements of type `to`; nothing beyond is written.
    fn store_as(&mut self, s: V, at: Mem, to: DType, lanes: usize);
    /// The first `lanes` lanes of `f32` as `bf16`, rounded to nearest even: subnormal numbers are zero where the float mode flushes them, a
    /// NaN stays one, quiet, with the upper bits that it has.
    fn store_bf16(&mut self, s: V, at: Mem, lanes: usize) {
        spelled_store_bf16(self, s, at, lanes);
    }
    /// Every lane of `d` = the 32-bit element at `at`.
    fn broadcast(&mut self, d: V, at: Mem);
    /// The first `lanes` 32-bit lanes of `a`, the others 0.
    fn keep(&mut self, d: V, a: V, lanes: usize);
    /// `d = a op b`
    fn op(&mut self, op: VOp, element: Element, d: V, a: V, b: V);
    /// Element `i` of `d` = lane `i + by` of `a`, a vector of 32-bit lanes, for `i < by`; the others are unspecified. `by` is a power of two
    /// and at most half the lanes.
    fn upper(&mut self, d: V, a: V, by: usize);
    /// `d = a * b + d`, rounded once (twice where the target has no FMA)
    fn fma(&mut self, d: V, a: V, b: V);
    /// `d = d - a * b`, rounded once (twice where the target has no FMA)
    fn fnma(&mut self, d: V, a: V, b: V);
    /// `d = d + a . b`: to each 32-bit lane the products of two pairs of signed 16-bit integers are added. The sum wraps, so it is exact
    /// wherever the sum of all products is, in any order.
    fn dot(&mut self, d: V, a: V, b: V) {
        let products = self.v();
        self.op(VOp::Dot, Element::I32, products, a, b);
        self.op(VOp::Add, Element::I32, d, d, products);
        self.free_v(products);
    }
    /// `d = sqrt(a)`, correctly rounded; of [`Element::F32`] and [`Element::F64`]
    fn sqrt(&mut self, element: Element, d: V, a: V);
    /// `d = a` rounded to the nearest integer, ties to even; the sign of zero, infinities and NaN stay
    fn round(&mut self, d: V, a: V);
    /// Integer lanes shifted left, zeros in
    fn shift_left(&mut self, element: Element, d: V, a: V, bits: u32);
    /// Integer lanes shifted right, zeros in
    fn shift_right(&mut self, element: Element, d: V, a: V, bits: u32);
    /// Element by lane: `d = (a cmp b) ? yes : no`; not of [`Element::I64`].
    fn select(&mut self, element: Element, d: V, cmp: Cmp, of: [V; 2], yes: V, no: V);
    /// The lower or the upper half of `f32` lanes to `f64`, exactly
    fn promote(&mut self, d: V, a: V, upper: bool);
    /// The `f64` lanes of `low`, then those of `high`, to `f32`, rounded to nearest even
    fn demote(&mut self, d: V, low: V, high: V);
    /// 32-bit integer lanes to `f32`, rounded to nearest even
    fn int_to_float(&mut self, d: V, a: V);
    /// `f32` lanes to 32-bit integers, towards zero; out of range is unspecified
    fn float_to_int(&mut self, d: V, a: V);

    /// Whether there are tile registers; what follows is for machines that have them.
    fn tiles(&self) -> bool {
        false
    }
    /// Gives tiles the shapes that the 64 bytes at `at` say, as `ldtilecfg` reads them, and zeros in all of them.
    fn tile_shapes(&mut self, _at: Mem) {
        debug_assert!(false, "no tile registers");
    }
    /// Gives the tiles back: they have no shapes any more.
    fn tile_release(&mut self) {
        debug_assert!(false, "no tile registers");
    }
    /// `d = 0`
    fn tile_zero(&mut self, _d: T) {
        debug_assert!(false, "no tile registers");
    }
    /// Row `i` of `d` = the bytes at `at + i * stride`.
    fn tile_load(&mut self, _d: T, _at: Mem, _stride: R) {
        debug_assert!(false, "no tile registers");
    }
    /// The bytes at `at + i * stride` = row `i` of `s`.
    fn tile_store(&mut self, _s: T, _at: Mem, _stride: R) {
        debug_assert!(false, "no tile registers");
    }
    /// Adds to element `[m, n]` of `d`, an `f32`, the products of the pairs of `bf16` numbers `a[m, k]` and `b[k, n]` over all `k`: two sums
    /// from +0 by fused multiply-adds, of the lower and of the upper numbers, then their sum. Subnormal operands and results are zero.
    fn tile_dot(&mut self, _d: T, _a: T, _b: T) {
        debug_assert!(false, "no tile registers");
    }
}

/// [`Emitter::store_bf16`] by instructions that every machine has.
pub(crate) fn spelled_store_bf16<E: Emitter + ?Sized>(e: &mut E, s: V, at: Mem, lanes: usize) {
    let [value, d, constant] = [e.v(), e.v(), e.v()];
    e.splat(constant, 1f32.to_bits());
    e.op(VOp::Mul, Element::F32, value, s, constant);
    // Half of the last place less one bit, and that bit if the last place is odd; a carry into the exponent is right, up to infinity.
    e.shift_left(Element::I32, d, value, 15);
    e.shift_right(Element::I32, d, d, 31);
    e.op(VOp::Add, Element::I32, d, d, value);
    e.splat(constant, 0x7FFF);
    e.op(VOp::Add, Element::I32, d, d, constant);
    e.select(Element::F32, d, Cmp::Unordered, [value, value], value, d);
    e.shift_right(Element::I32, d, d, 16);
    e.store_as(d, at, DType::U16, lanes);
    [value, d, constant].into_iter().for_each(|v| e.free_v(v));
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

    /// A fresh general register that holds `value`.
    pub fn integer(&mut self, value: i64) -> R {
        let r = self.r();
        self.set(r, value);
        r
    }
}
