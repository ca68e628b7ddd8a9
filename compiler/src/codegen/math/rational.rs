//! Hyperbolic tangent and error function as quotients of polynomials in the square of the argument.

use super::{clip, constant_op, free, pairs, polynomial, with_copies};
use crate::codegen::{Element, Emitter, V, VOp};

/// tanh(x) = x P(x^2) / Q(x^2) for |x| <= 9, highest power first.
const TANH: (&[f32], &[f32]) = (
    &[-2.760_768_5e-16, 2.000_188e-13, -8.604_672e-11, 5.122_297e-8, 1.485_722_4e-5, 6.372_619_3e-4, 4.893_525e-3],
    &[1.198_258_4e-6, 1.185_347_1e-4, 2.268_434_6e-3, 4.893_525e-3],
);

/// erf(x) = x P(x^2) / Q(x^2) for |x| <= 4, highest power first.
const ERF: (&[f32], &[f32]) = (
    &[-2.726_142e-10, 2.770_681_5e-8, -2.101_024e-6, -5.692_506_4e-5, -7.349_906_3e-4, -2.954_6e-3, -1.609_603_3e-2],
    &[-1.456_607_2e-5, -2.133_740_5e-4, -1.682_827e-3, -7.373_329e-3, -1.426_473_9e-2],
);

/// `x = x P(x^2) / Q(x^2)` after bounding x.
fn quotient(e: &mut dyn Emitter, bound: f32, (p, q): (&[f32], &[f32]), xs: &[V]) {
    clip(e, -bound, bound, xs);
    with_copies(e, xs, |e, squares| {
        pairs(e, VOp::Mul, squares, xs);
        let above = polynomial(e, squares, p);
        let below = polynomial(e, squares, q);
        pairs(e, VOp::Div, &above, &below);
        pairs(e, VOp::Mul, xs, &above);
        free(e, &above);
        free(e, &below);
    });
}

/// `tanh(x)`: 4 ulp. Infinities give 1 and -1 within that error.
pub(super) fn tanh(e: &mut dyn Emitter, xs: &[V]) {
    quotient(e, 7.998_811_7, TANH, xs);
}

/// `erf(x)`: 4 ulp. Infinities give 1 and -1 within that error.
pub(super) fn erf(e: &mut dyn Emitter, xs: &[V]) {
    quotient(e, 4.0, ERF, xs);
}

/// `x (1 + erf(x / sqrt 2)) / 2`: 8 ulp of the larger of the result and 1. -inf gives 0 within that error, +inf itself.
pub(super) fn gelu(e: &mut dyn Emitter, xs: &[V]) {
    constant_op(e, VOp::Max, -6.0, xs);
    with_copies(e, xs, |e, ys| {
        constant_op(e, VOp::Mul, std::f32::consts::FRAC_1_SQRT_2, ys);
        erf(e, ys);
        let half = e.constant(0.5);
        for (x, y) in xs.iter().zip(ys) {
            // x / 2 + (x / 2) erf
            e.op(VOp::Mul, Element::F32, *x, *x, half);
            e.fma(*x, *x, *y);
        }
        e.free_v(half);
    });
}
