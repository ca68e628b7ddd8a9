//! The operands: values at which arithmetic changes its ways, of each element type.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType, random_values};

use crate::vary::SPECIAL;

/// Beside [`SPECIAL`]: ties, integers up to 2^32, ends of integer types and of exponentials, and sizes between.
const ORDINARY: [f64; 40] = [
    2.0,
    -2.0,
    3.0,
    0.1,
    -0.5,
    1.5,
    2.5,
    -2.5,
    0.499_999_97,
    8_388_607.5,
    8_388_609.0,
    16_777_215.0,
    -16_777_216.0,
    2_147_483_520.0,
    2_147_483_648.0,
    -2_147_483_648.0,
    4_294_967_296.0,
    -9.3e18,
    1e10,
    1e-10,
    1e20,
    -1e20,
    1e-20,
    1e30,
    -1e-30,
    88.7,
    -87.5,
    -104.0,
    20.0,
    0.3,
    -0.7,
    127.5,
    -128.5,
    255.5,
    65_504.0,
    7.0,
    -7.0,
    1.000_000_1,
    0.999_999_94,
    1e-45,
];

/// Of `f64`: ends of its range, of its exponentials and of 64-bit integers, subnormal numbers, ties that `f32` and `f16` do not hold.
const WIDE: [f64; 26] = [
    f64::MAX,
    f64::MIN,
    f64::MIN_POSITIVE,
    -f64::MIN_POSITIVE,
    5e-324,
    -5e-324,
    1.2e-310,
    1e300,
    -1e-300,
    709.782_712_893_384,
    709.8,
    -708.4,
    -745.13,
    -745.14,
    9_007_199_254_740_993.0,
    4_503_599_627_370_495.5,
    9_223_372_036_854_775_808.0,
    -9_223_372_036_854_775_808.0,
    9_223_372_036_854_774_784.0,
    18_446_744_073_709_551_616.0,
    18_446_744_073_709_549_568.0,
    -2_147_483_649.5,
    4_294_967_295.7,
    1.000_488_281_250_000_2,
    0.499_999_999_999_999_94,
    1.000_000_000_000_000_2,
];

/// Integers of which each type has its own.
const INTEGERS: [i64; 38] = [
    0,
    1,
    -1,
    2,
    -2,
    3,
    -3,
    5,
    7,
    -7,
    10,
    63,
    127,
    128,
    -128,
    255,
    256,
    -129,
    32_767,
    -32_768,
    65_535,
    65_536,
    1 << 23,
    (1 << 24) + 1,
    -(1 << 24) - 1,
    46_341,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 31,
    (1 << 31) + 1,
    (1 << 32) - 1,
    1 << 32,
    (1 << 53) + 1,
    -(1 << 53) - 1,
    3_037_000_500,
    i64::MAX,
    i64::MIN,
    i64::MIN + 1,
];

/// A line of the special values of an element type.
pub fn line(dtype: DType) -> Literal {
    let ty = |count: usize| TensorType::new(dtype, [count]);
    if dtype.is_float() {
        let mut values: Vec<f64> = SPECIAL.iter().map(|v| f64::from(*v)).chain(ORDINARY).collect();
        if dtype == DType::F64 {
            values.extend(WIDE);
        }
        return Literal::new_float(ty(values.len()), values);
    }
    let own = |v: &&i64| fornax_ir::ops::literal::wrap(dtype, **v) == **v;
    let values: Vec<i64> = INTEGERS.iter().filter(own).copied().collect();
    Literal::new_int(ty(values.len()), values)
}

/// As [`line`], and numbers of any bits, of one size, and halves of integers.
pub fn many(dtype: DType) -> Literal {
    if dtype == DType::F64 {
        let mut values = line(dtype).to_f64();
        let bits = |v: &f32| (f64::from(*v) * 2f64.powi(63)) as i64 as u64;
        values.extend(random_values(3, 200).iter().map(|v| f64::from_bits(bits(v).rotate_left(17))));
        values.extend(random_values(4, 200).iter().map(|v| f64::from(*v) * 20.0 + f64::from(*v).powi(5) * 1e-9));
        values.extend((-40..=40).map(|i| f64::from(i) * 0.5));
        return Literal::new_float(TensorType::new(dtype, [values.len()]), values);
    }
    if dtype != DType::F32 {
        return line(dtype);
    }
    let mut values = line(dtype).to_f64();
    let bits = |v: &f32| f64::from(f32::from_bits((f64::from(*v) * f64::from(1u32 << 31)) as i32 as u32));
    values.extend(random_values(1, 400).iter().map(bits));
    values.extend(random_values(2, 100).iter().map(|v| f64::from(*v) * 20.0));
    values.extend((-40..=40).map(|i| f64::from(i) * 0.5));
    Literal::new_float(TensorType::f32([values.len()]), values)
}

/// Elements of a shape: small numbers, of which a share is replaced by special values.
pub fn mixed(dtype: DType, shape: &[usize], seed: u64, share: f32) -> Literal {
    let count = shape.iter().product();
    let (special, random) = (line(dtype), random_values(seed, 3 * count));
    let at = |i: usize| ((random[i] + 1.0) / 2.0 * special.ty.shape.numel() as f32) as usize % special.ty.shape.numel();
    let chosen = |i: usize| (random[count + i] + 1.0) / 2.0 < share;
    let ty = TensorType::new(dtype, shape);
    if dtype.is_float() {
        let special = special.to_f64();
        let value = |i: usize| if chosen(i) { special[at(i)] } else { f64::from(random[2 * count + i]) * 4.0 };
        return Literal::new_float(ty, (0..count).map(value).collect());
    }
    let special = special.ints("values").expect("integers").to_vec();
    let value = |i: usize| if chosen(i) { special[at(i)] } else { (random[2 * count + i].abs() * 4.0) as i64 };
    Literal::new_int(ty, (0..count).map(value).collect())
}
