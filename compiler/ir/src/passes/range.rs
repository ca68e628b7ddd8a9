//! Whether constants can take a factor: what rewrites that move arithmetic into constants ask of their elements.
//!
//! In: elements and the factors they would be multiplied by. Out: nothing, or the obstacle in one line. A product that overflows is an
//! infinity where the unrewritten graph has a number, and one below the least normal number keeps few of its bits.

use crate::ops::literal::Literal;
use crate::types::{DType, TensorType};

/// A bias of this size hides what products below the least normal number lose: half of 2^-149 each, times elements up to 2^116.
const HIDES: f64 = 1.0 / (1 << 10) as f64;

/// The magnitudes of the numbers among some elements.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Magnitudes {
    /// The largest.
    largest: f64,
    /// The smallest that is not 0.
    smallest: f64,
}

impl Magnitudes {
    /// Those of no elements.
    pub const NONE: Self = Self { largest: 0.0, smallest: f64::INFINITY };

    /// Those of `f32` elements, little-endian.
    pub fn of_f32(elements: &[[u8; 4]]) -> Self {
        // Bits without the sign are in the order of the magnitudes, infinities and NaN after all numbers. Integers are compared in vectors.
        const BEYOND: i32 = f32::INFINITY.to_bits() as i32;
        let (mut largest, mut smallest) = (0, BEYOND);
        for bytes in elements {
            let magnitude = i32::from_le_bytes(*bytes) & i32::MAX;
            largest = largest.max(if magnitude < BEYOND { magnitude } else { 0 });
            smallest = smallest.min(if magnitude > 0 { magnitude } else { BEYOND });
        }
        let [largest, smallest] = [largest, smallest.min(BEYOND)].map(|bits| f32::from_bits(bits as u32).into());
        Self { largest, smallest }
    }

    /// Those of both.
    pub fn with(self, other: Self) -> Self {
        Self { largest: self.largest.max(other.largest), smallest: self.smallest.min(other.smallest) }
    }

    /// With another element.
    pub fn and(self, v: f64) -> Self {
        let v = v.abs();
        if v.is_finite() && v > 0.0 {
            Self { largest: self.largest.max(v), smallest: self.smallest.min(v) }
        } else {
            self
        }
    }
}

/// The least normal and the largest number of a floating-point type.
fn normal(dtype: DType) -> (f64, f64) {
    match dtype {
        DType::F16 => (half::f16::MIN_POSITIVE.to_f64(), half::f16::MAX.to_f64()),
        DType::BF16 => (half::bf16::MIN_POSITIVE.to_f64(), half::bf16::MAX.to_f64()),
        DType::F64 => (f64::MIN_POSITIVE, f64::MAX),
        _ => (f64::from(f32::MIN_POSITIVE), f64::from(f32::MAX)),
    }
}

/// Whether `v` is a number that elements of `dtype` hold to full precision: a normal one, or exactly one of theirs.
pub(super) fn is_held(dtype: DType, v: f64) -> bool {
    let (least, most) = normal(dtype);
    let exact = || Literal::new_float(TensorType::new(dtype, []), vec![v]).to_f64() == [v];
    v.is_finite() && ((least..=most).contains(&v.abs()) || exact())
}

/// Whether `v` is a number that added to what is beyond the largest of `dtype` does not bring it back: half of its last place at most.
pub(super) fn is_small(dtype: DType, v: f64) -> bool {
    let bits = if dtype == DType::F64 { 54 } else { 25 };
    v.abs() <= normal(dtype).1 * f64::from(-bits).exp2()
}

/// Whether a sum or product of the finite numbers `of` is beyond the largest number of `dtype`, where `v` is that result.
pub(super) fn overflows(dtype: DType, v: f64, of: &[f64]) -> bool {
    let beyond = v.is_nan() || v.abs() > normal(dtype).1;
    beyond && of.iter().all(|v| v.is_finite())
}

/// Why elements of magnitudes `of` cannot take `factor`, if they cannot: the factor is no number; or a product overflows, or vanishes,
/// which makes an infinity times it NaN; or one loses bits that show beside `bias`, what is added to sums of the products.
pub(super) fn obstacle_to_factor(dtype: DType, of: Magnitudes, factor: f64, bias: f64) -> Option<String> {
    if !factor.is_finite() {
        return Some(format!("the factor {factor} is not finite"));
    }
    if factor == 0.0 || factor.abs() == 1.0 || of == Magnitudes::NONE {
        return None;
    }
    let (largest, smallest) = (of.largest * factor.abs(), of.smallest * factor.abs());
    let (least, most) = normal(dtype);
    let vanishes = Literal::new_float(TensorType::new(dtype, []), vec![smallest]).to_f64() == [0.0];
    if largest > most {
        return Some(format!("elements up to {:.2e} times {factor:.2e} exceed the largest {dtype}", of.largest));
    }
    if vanishes || (smallest < least && bias.abs() < HIDES) {
        return Some(format!("elements from {:.2e} times {factor:.2e} fall below the least {dtype}", of.smallest));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_held_to_full_precision() {
        for (v, held) in [
            (0.0, true),
            (-1e38, true),
            (1e39, false),
            (1e-39, false),
            (f64::from(f32::from_bits(1)), true),
            (f64::INFINITY, false),
            (f64::NAN, false),
        ] {
            assert_eq!(is_held(DType::F32, v), held, "{v}");
        }
        assert!(is_held(DType::F64, 1e39) && !is_held(DType::F16, 1e5) && !is_held(DType::F16, 1e-6));
    }

    #[test]
    fn factors_keep_elements_in_range() {
        let obstacle =
            |v, factor, bias| obstacle_to_factor(DType::F32, Magnitudes::NONE.and(v), factor, bias).unwrap_or_default();
        assert_eq!(obstacle(1e20, 1e18, 0.0), "");
        assert_eq!(obstacle(1e20, -1e19, 0.0), "elements up to 1.00e20 times -1.00e19 exceed the largest f32");
        assert_eq!(obstacle(1e-20, 1e-19, 0.0), "elements from 1.00e-20 times 1.00e-19 fall below the least f32");
        assert_eq!(obstacle(1e-20, 1e-19, -0.5), "", "the bias hides it");
        assert_eq!(obstacle(1e-20, 1e-30, -0.5), "elements from 1.00e-20 times 1.00e-30 fall below the least f32");
        assert_eq!(obstacle(1e-40, -1.0, 0.0), "", "exact");
        assert_eq!(obstacle(1.0, 0.0, 0.0), "");
        assert_eq!(obstacle(1.0, f64::NEG_INFINITY, 0.0), "the factor -inf is not finite");
        let both = Magnitudes::NONE.and(1.0).and(-1e-30).and(f64::NAN).and(0.0);
        assert_eq!(obstacle_to_factor(DType::F32, both, 1e-7, 0.0), None);
        assert!(obstacle_to_factor(DType::F32, both, 1e-10, 0.0).is_some(), "the smallest counts");
        assert_eq!(obstacle_to_factor(DType::F64, both, 1e30, 1e30), None);
    }

    #[test]
    fn magnitudes_of_bits_are_those_of_numbers() {
        let numbers = [0.0, -0.0, 1.5, -3e38, 1e-45, f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -f32::NAN, 7.0];
        for count in 0..=numbers.len() {
            let bytes: Vec<[u8; 4]> = numbers[..count].iter().map(|v| v.to_le_bytes()).collect();
            let one_by_one = numbers[..count].iter().fold(Magnitudes::NONE, |of, v| of.and(f64::from(*v)));
            assert_eq!(Magnitudes::of_f32(&bytes), one_by_one, "{count}");
            assert_eq!(Magnitudes::of_f32(&bytes).with(Magnitudes::NONE), one_by_one, "{count}");
        }
    }

    #[test]
    fn small_numbers_bring_nothing_back() {
        assert!(is_small(DType::F32, 1e31) && !is_small(DType::F32, -1e32) && is_small(DType::F64, 1e38));
        assert!(!is_small(DType::F32, f64::NAN) && !is_small(DType::F32, f64::INFINITY));
    }

    #[test]
    fn only_numbers_overflow() {
        assert!(overflows(DType::F32, 1e39, &[1e30, 1e9]));
        assert!(overflows(DType::F64, f64::NAN, &[1e300]));
        assert!(!overflows(DType::F32, f64::INFINITY, &[f64::INFINITY, 1.0]));
        assert!(!overflows(DType::F32, 1e38, &[1e38]));
    }
}
