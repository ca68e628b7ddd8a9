//! Sine and cosine for arguments of moderate size.

use super::exp::ROUND;
use super::{free, polynomial};
use crate::codegen::{Cmp, Emitter, Lane, V, VOp};

/// pi / 2 in three parts.
const HALF_PI: [f32; 3] = [1.570_796_4, -4.371_139e-8, -1.715_124_5e-15];
/// (sin(r) - r) / r^3 in r^2 for |r| <= pi / 4, highest power first.
const SINE: [f32; 3] = [-1.951_529_6e-4, 8.332_161e-3, -1.666_665_5e-1];
/// (cos(r) - 1 + r^2 / 2) / r^4 in r^2 for |r| <= pi / 4, highest power first.
const COSINE: [f32; 3] = [2.443_315_7e-5, -1.388_731_6e-3, 4.166_664_6e-2];

/// `sin(x + quarters pi / 2)`: 1.5 ulp of the larger of the result and 1/2, for |x| <= 2^15. Infinities and NaN give NaN.
pub(super) fn sine(e: &mut dyn Emitter, quarters: u32, xs: &[V]) {
    for x in xs {
        let (round, by) = (e.constant(ROUND), e.constant(std::f32::consts::FRAC_2_PI));
        let (quarter, n, part) = (e.v(), e.v(), e.v());
        e.copy_v(quarter, round);
        e.fma(quarter, *x, by);
        e.op(VOp::Sub, Lane::F32, n, quarter, round);
        for term in HALF_PI {
            e.splat(part, term.to_bits());
            e.fnma(*x, n, part);
        }
        free(e, &[round, by, n, part]);
        let offset = e.constant(f32::from_bits(quarters));
        e.op(VOp::Add, Lane::I32, quarter, quarter, offset);
        e.free_v(offset);
        quadrant(e, *x, quarter);
        e.free_v(quarter);
    }
}

/// `r = sin(r + quarter pi / 2)` for |r| <= pi / 4; the low bits of `quarter` count.
fn quadrant(e: &mut dyn Emitter, r: V, quarter: V) {
    let (square, one, half, zero) = (e.v(), e.constant(1.0), e.constant(0.5), e.constant(0.0));
    e.op(VOp::Mul, Lane::F32, square, r, r);
    let sine = polynomial(e, &[square], &SINE)[0];
    e.op(VOp::Mul, Lane::F32, sine, sine, square);
    let value = e.v();
    e.copy_v(value, r);
    e.fma(value, r, sine);
    let cosine = polynomial(e, &[square], &COSINE)[0];
    e.op(VOp::Mul, Lane::F32, cosine, cosine, square);
    e.op(VOp::Mul, Lane::F32, cosine, cosine, square);
    e.fnma(cosine, square, half);
    e.op(VOp::Add, Lane::F32, cosine, cosine, one);
    // Odd quarters take the cosine; the upper two turn the sign. The bit becomes the sign of a number that is never zero.
    let (odd, sign) = (e.v(), e.constant(-0.0));
    e.shift_left(odd, quarter, 31);
    e.op(VOp::Or, Lane::F32, odd, odd, one);
    e.select(value, Cmp::Less, odd, zero, cosine, value);
    e.shift_right(odd, quarter, 1);
    e.shift_left(odd, odd, 31);
    e.op(VOp::And, Lane::F32, odd, odd, sign);
    e.op(VOp::Xor, Lane::F32, r, value, odd);
    free(e, &[square, one, half, zero, sine, value, cosine, odd, sign]);
}
