//! Tensors of other elements than the lanes they are computed in: `f32` lanes of tensors stored as `f32`, `f16` or `bf16`.
//!
//! In: calls of a kernel that say the element type of a place in memory. Out: loads that widen, exactly, and stores that narrow, rounded to
//! nearest even; a NaN stays a NaN, an infinity an infinity, and subnormal numbers are kept. Written once against the vector machine, so
//! every back end has the same bits, and of `f32` nothing is left but the plain load or store.
//!
//! A spec says one element type, that of its tensors: maps, matrices, weights, gates. What sums start from, end in and are divided by is `f32`
//! whatever that type is: biases, sums of rows, counts, scratch memory ([`SINGLE`]), and the filters that Winograd's method has
//! transformed, as they would lose more than the method does. So a result is rounded once, when it is stored, and where a kernel keeps
//! a partial sum in memory decides no bit. The rows of a ring have the element type: they are the map between two kernels.

use super::{Cmp, Element, Emitter, Mem, V, VOp};
use fornax_ir::types::DType;

/// Bytes of what is `f32` whatever the tensors are stored in.
pub const SINGLE: usize = Element::F32.size();

/// Whether kernels that compute in `f32` lanes read and write tensors of `dtype`.
pub fn widens(dtype: DType) -> bool {
    matches!(dtype, DType::F32 | DType::F16 | DType::BF16)
}

/// Whether kernels multiply elements of `dtype` as integers: pairs of `i16` to a lane, by [`Emitter::dot`], into sums of `i32`.
pub fn in_pairs(dtype: DType) -> bool {
    dtype == DType::I16
}

/// The type of sums of products of elements of `dtype`, of what they start from, and of a result that nothing narrows.
pub fn sum_type(dtype: DType) -> DType {
    if in_pairs(dtype) { DType::I32 } else { DType::F32 }
}

/// The integer type that holds the bits of elements of `dtype`, up to 32, without a conversion.
fn bits_of(dtype: DType) -> DType {
    match dtype.size() {
        1 => DType::U8,
        2 => DType::U16,
        _ => DType::U32,
    }
}

/// Tensors whose elements [`widens`] takes.
impl dyn Emitter + '_ {
    /// The first `lanes` elements of type `from` as `f32`, the others 0; see [`Emitter::load`].
    pub fn load_f32(&mut self, d: V, at: Mem, from: DType, lanes: usize) {
        self.load_bits(d, at, from, lanes);
        widen(self, d, from);
    }

    /// The first `lanes` lanes of `f32` as elements of type `to`, rounded to nearest even, or of sums of `i32`; see [`Emitter::store`]
    /// and, for `bf16`, [`Emitter::store_bf16`].
    pub fn store_f32(&mut self, s: V, at: Mem, to: DType, lanes: usize) {
        match to {
            DType::F32 | DType::I32 => self.store(s, at, lanes),
            DType::BF16 => self.store_bf16(s, at, lanes),
            _ => self.store_rounded(s, at, to, lanes),
        }
    }

    /// As [`Self::store_f32`], with subnormal numbers and one NaN whatever the machine and its float mode.
    pub fn store_rounded(&mut self, s: V, at: Mem, to: DType, lanes: usize) {
        if to == DType::F32 {
            return self.store(s, at, lanes);
        }
        let d = self.v();
        narrow(self, d, s, to);
        self.store_bits(d, at, to, lanes);
        self.free_v(d);
    }

    /// The element of type `from` as `f32` in every lane.
    pub fn broadcast_f32(&mut self, d: V, at: Mem, from: DType) {
        if from == DType::F32 {
            return self.broadcast(d, at);
        }
        let r = self.r();
        self.load_int(r, at, bits_of(from));
        self.splat_int(Element::I32, d, r);
        self.free_r(r);
        widen(self, d, from);
    }

    /// The first `lanes` lanes of factors of type `from`: elements as `f32`, or pairs of elements.
    pub fn load_factors(&mut self, d: V, at: Mem, from: DType, lanes: usize) {
        match in_pairs(from) {
            true => self.load(d, at, lanes),
            false => self.load_f32(d, at, from, lanes),
        }
    }

    /// The first `lanes` elements of type `from`, one to a lane: as `f32`, or `i16` with its sign extended.
    pub fn load_elements(&mut self, d: V, at: Mem, from: DType, lanes: usize) {
        match in_pairs(from) {
            true => self.load_as(d, at, from, lanes),
            false => self.load_f32(d, at, from, lanes),
        }
    }

    /// The first `lanes` elements of type `from` as factors of what [`Self::load_elements`] gives: as `f32`, or as pairs with 0.
    pub fn load_lone_factors(&mut self, d: V, at: Mem, from: DType, lanes: usize) {
        match in_pairs(from) {
            true => self.load_as(d, at, bits_of(from), lanes),
            false => self.load_f32(d, at, from, lanes),
        }
    }

    /// One factor of type `from` in every lane: an element as `f32`, a pair of elements, or, of a pair that is not `whole`, its first and 0.
    pub fn broadcast_factor(&mut self, d: V, at: Mem, from: DType, whole: bool) {
        match (in_pairs(from), whole) {
            (true, true) => self.broadcast(d, at),
            (true, false) => {
                let r = self.r();
                self.load_int(r, at, DType::U16);
                self.splat_int(Element::I32, d, r);
                self.free_r(r);
            }
            (false, _) => self.broadcast_f32(d, at, from),
        }
    }

    /// `d = d + a b` of factors of a type: of `f32` rounded once (see [`Emitter::fma`]), of pairs both products (see [`Emitter::dot`]).
    pub fn multiply_add(&mut self, factors: DType, d: V, a: V, b: V) {
        match in_pairs(factors) {
            true => self.dot(d, a, b),
            false => self.fma(d, a, b),
        }
    }

    /// The bits of the first `lanes` elements, of at most 32, one to a lane; to be stored by `store_bits`.
    pub fn load_bits(&mut self, d: V, at: Mem, dtype: DType, lanes: usize) {
        let most = self.lanes(Element::F32);
        match dtype.size() == SINGLE {
            true => self.load(d, at, lanes),
            false => self.load_as(d, at, bits_of(dtype), lanes.min(most)),
        }
    }

    /// The low bits of the first `lanes` lanes as elements.
    pub fn store_bits(&mut self, s: V, at: Mem, dtype: DType, lanes: usize) {
        let most = self.lanes(Element::F32);
        match dtype.size() == SINGLE {
            true => self.store(s, at, lanes),
            false => self.store_as(s, at, bits_of(dtype), lanes.min(most)),
        }
    }
}

/// The bits of elements of type `from` in lanes to their values, in place.
fn widen(e: &mut dyn Emitter, d: V, from: DType) {
    match from {
        DType::BF16 => e.shift_left(Element::I32, d, d, 16),
        DType::F16 => widen_f16(e, d),
        _ => debug_assert!(from == DType::F32, "{from} does not widen to f32"),
    }
}

/// Exponents of `f16` are those of `f32` less 112: a product with 2^112, exact for subnormal numbers too.
fn widen_f16(e: &mut dyn Emitter, d: V) {
    let (sign, special, most) = (e.v(), e.v(), e.constant(f32::from_bits(0x7BFF << 13)));
    e.shift_right(Element::I32, sign, d, 15);
    e.shift_left(Element::I32, sign, sign, 31);
    // The magnitude where `f32` has exponent and fraction.
    e.shift_left(Element::I32, d, d, 17);
    e.shift_right(Element::I32, d, d, 4);
    // Of infinities and NaNs all bits of the exponent are set.
    let constant = e.constant(f32::INFINITY);
    e.op(VOp::Or, Element::F32, special, d, constant);
    e.select(Element::I32, special, Cmp::Less, [most, d], special, d);
    // They stay what they are in a product.
    e.splat(constant, f32::to_bits(2f32.powi(112)));
    e.op(VOp::Mul, Element::F32, d, special, constant);
    e.op(VOp::Or, Element::F32, d, d, sign);
    [sign, special, most, constant].into_iter().for_each(|v| e.free_v(v));
}

/// `d =` the bits of `f32` lanes as elements of type `to`.
fn narrow(e: &mut dyn Emitter, d: V, s: V, to: DType) {
    match to {
        DType::BF16 => narrow_bf16(e, d, s),
        DType::F16 => narrow_f16(e, d, s),
        _ => debug_assert!(false, "f32 does not narrow to {to}"),
    }
}

/// Half of the last place less one bit, and that bit if the last place is odd; a carry into the exponent is right, up to infinity.
fn narrow_bf16(e: &mut dyn Emitter, d: V, s: V) {
    let constant = e.constant(f32::from_bits(0x7FFF));
    odd(e, d, s, 16);
    e.op(VOp::Add, Element::I32, d, d, s);
    e.op(VOp::Add, Element::I32, d, d, constant);
    e.shift_right(Element::I32, d, d, 16);
    e.splat(constant, 0x7FC0);
    e.select(Element::F32, d, Cmp::Unordered, [s, s], constant, d);
    e.free_v(constant);
}

/// Normal numbers as [`narrow_bf16`] does; below 2^-14 a sum with 1/2 whose last place is that of the result.
fn narrow_f16(e: &mut dyn Emitter, d: V, s: V) {
    let [size, small, constant] = [e.v(), e.v(), e.v()];
    e.shift_left(Element::I32, size, s, 1);
    e.shift_right(Element::I32, size, size, 1);
    odd(e, d, s, 13);
    e.op(VOp::Add, Element::I32, d, d, size);
    e.splat(constant, 0xFFFu32.wrapping_sub(112 << 23));
    e.op(VOp::Add, Element::I32, d, d, constant);
    e.shift_right(Element::I32, d, d, 13);
    e.splat(constant, 0.5f32.to_bits());
    e.op(VOp::Add, Element::F32, small, size, constant);
    e.op(VOp::Sub, Element::I32, small, small, constant);
    e.splat(constant, 2f32.powi(-14).to_bits());
    e.select(Element::F32, d, Cmp::Less, [size, constant], small, d);
    // From half a place above the largest number on: infinity.
    e.splat(constant, 65_520f32.to_bits());
    e.splat(small, 0x7C00);
    e.select(Element::F32, d, Cmp::Less, [size, constant], d, small);
    e.splat(constant, 0x7E00);
    e.select(Element::F32, d, Cmp::Unordered, [s, s], constant, d);
    e.shift_right(Element::I32, size, s, 31);
    e.shift_left(Element::I32, size, size, 15);
    e.op(VOp::Or, Element::I32, d, d, size);
    [size, small, constant].into_iter().for_each(|v| e.free_v(v));
}

/// `d =` bit `place` of each lane, as 0 or 1.
fn odd(e: &mut dyn Emitter, d: V, s: V, place: u32) {
    e.shift_left(Element::I32, d, s, 31 - place);
    e.shift_right(Element::I32, d, d, 31);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::soft;
    use fornax_ir::types::random_values;
    use half::{bf16, f16};

    const NARROW: [DType; 2] = [DType::F16, DType::BF16];

    fn to_f32(dtype: DType, bits: u16) -> f32 {
        if dtype == DType::F16 { f16::from_bits(bits).to_f32() } else { bf16::from_bits(bits).to_f32() }
    }

    fn from_f32(dtype: DType, value: f32) -> u16 {
        if dtype == DType::F16 { f16::from_f32(value).to_bits() } else { bf16::from_f32(value).to_bits() }
    }

    /// Values as text: every NaN is the same, and zeros differ by their sign.
    fn same(dtype: DType, a: u16, b: u16) -> bool {
        a == b || to_f32(dtype, a).is_nan() && to_f32(dtype, b).is_nan()
    }

    /// `values` stored as elements, by a machine of `lanes` lanes, the last vector in part.
    fn stored(dtype: DType, values: &[f32], lanes: usize) -> Vec<u16> {
        let bytes = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        let mut buffers = [bytes, vec![0; 2 * values.len()], Vec::new()];
        soft::run(lanes, (0, 1), &mut buffers, |e| {
            let (from, to, v) = (e.pointer(0), e.pointer(1), e.v());
            for first in (0..values.len()).step_by(lanes) {
                let n = lanes.min(values.len() - first);
                e.load(v, from.at(SINGLE * first), n);
                e.store_rounded(v, to.at(dtype.size() * first), dtype, n);
            }
        });
        buffers[1].as_chunks().0.iter().map(|b| u16::from_le_bytes(*b)).collect()
    }

    /// All elements loaded, by vectors or one by one into every lane.
    fn loaded(dtype: DType, lanes: usize, broadcast: bool) -> Vec<f32> {
        let bytes = (0..=u16::MAX).flat_map(u16::to_le_bytes).collect();
        let mut buffers = [bytes, vec![0; SINGLE << 16], Vec::new()];
        let step = if broadcast { 1 } else { lanes };
        soft::run(lanes, (0, 1), &mut buffers, |e| {
            let (from, to, v) = (e.pointer(0), e.pointer(1), e.v());
            for first in (0..1 << 16).step_by(step) {
                let at = from.at(dtype.size() * first);
                match broadcast {
                    true => e.broadcast_f32(v, at, dtype),
                    false => e.load_f32(v, at, dtype, lanes),
                }
                e.store(v, to.at(SINGLE * first), step);
            }
        });
        buffers[1].as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
    }

    #[test]
    fn every_element_widens_exactly() {
        for (dtype, lanes) in NARROW.into_iter().flat_map(|dtype| [4, 8, 16].map(|lanes| (dtype, lanes))) {
            for (bits, found) in (0..=u16::MAX).zip(loaded(dtype, lanes, false)) {
                let expected = to_f32(dtype, bits);
                let equal = found.to_bits() == expected.to_bits() || found.is_nan() && expected.is_nan();
                assert!(equal, "{dtype} {bits:04x}: {found:e} for {expected:e}");
            }
        }
        for dtype in NARROW {
            let equal =
                loaded(dtype, 4, true).iter().zip(loaded(dtype, 4, false)).all(|(a, b)| a.to_bits() == b.to_bits());
            assert!(equal, "{dtype}: broadcast");
        }
    }

    /// Every element, what lies half-way to the next and the numbers of `f32` on both sides of that, subnormal numbers, random bits.
    fn numbers(dtype: DType) -> Vec<f32> {
        let mut numbers = Vec::new();
        for bits in 0..=u16::MAX {
            let (value, next) = (to_f32(dtype, bits), to_f32(dtype, bits.wrapping_add(1)));
            let half = ((f64::from(value) + f64::from(next)) / 2.0) as f32;
            let near = |by: i32| f32::from_bits(half.to_bits().wrapping_add_signed(by));
            numbers.extend([value, half, near(1), near(-1)]);
        }
        let random = random_values(7, 1 << 14).into_iter().zip(random_values(8, 1 << 14));
        numbers.extend(random.map(|(a, b)| f32::from_bits(a.to_bits() << 16 ^ b.to_bits())));
        numbers.extend((0..32).flat_map(|i| [1, 3].map(|odd| f32::from_bits(odd << i))));
        numbers.extend([65_519.996, 65_520.0, -65_520.0, 1e30, f32::MAX, f32::MIN, f32::MIN_POSITIVE]);
        numbers
    }

    #[test]
    fn stores_round_to_nearest_even() {
        for (dtype, lanes) in NARROW.into_iter().flat_map(|dtype| [4, 8, 16].map(|lanes| (dtype, lanes))) {
            let numbers = numbers(dtype);
            for (value, found) in numbers.iter().zip(stored(dtype, &numbers, lanes)) {
                let expected = from_f32(dtype, *value);
                assert!(same(dtype, found, expected), "{dtype} of {value:e}: {found:04x} for {expected:04x}");
            }
        }
    }

    #[test]
    fn single_elements_are_plain_loads_and_stores() {
        use crate::target::Target;
        let listing = |emit: &dyn Fn(&mut dyn Emitter)| {
            let target = Target::new(&fornax_runtime::levels::X86_64_V3);
            crate::codegen::x86::disassemble(&crate::codegen::x86::compile(&target, "test", |e| emit(e)).expect("code"))
        };
        let plain = listing(&|e| {
            let (p, a, b) = (e.pointer(0), e.v(), e.v());
            e.load(a, p.at(0), 8);
            e.broadcast(b, p.at(32));
            e.op(VOp::Add, Element::F32, a, a, b);
            e.store(a, p.at(0), 5);
        });
        let single = listing(&|e| {
            let (p, a, b) = (e.pointer(0), e.v(), e.v());
            e.load_f32(a, p.at(0), DType::F32, 8);
            e.broadcast_f32(b, p.at(32), DType::F32);
            e.op(VOp::Add, Element::F32, a, a, b);
            e.store_f32(a, p.at(0), DType::F32, 5);
        });
        assert_eq!(single, plain);
    }
}
