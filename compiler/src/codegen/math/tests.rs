//! Every statement about errors, edges and NaN, on the interpreted machine.

use super::{error_bound, unary};
use crate::codegen::soft;
use fornax_ir::scalar::UnaryFn::{self, *};

/// Parameters with which functions are tried: of the lists of the length that a function has, each.
const PARAMETERS: &[&[f32]] =
    &[&[], &[1.0], &[0.01], &[2.0], &[1.702], &[-1.0, 6.0], &[1.673_263_2, 1.050_701], &[0.2, 0.5]];

/// Every function of the table of one `f32` to one; a swish also with a gate that turns round, or is none.
fn all() -> impl Iterator<Item = UnaryFn> {
    let named = |name: &&'static str| {
        let name = *name;
        PARAMETERS.iter().filter_map(move |parameters| UnaryFn::from_spelling(name, parameters))
    };
    let functions = UnaryFn::MNEMONICS.iter().flat_map(named).chain([
        Swish(-0.5),
        Swish(0.0),
        Swish(3e38),
        Swish(1e-40),
        Celu(-1.5),
    ]);
    functions.filter(|f| *f != IsNan && !matches!(f, Clip(lo, hi) if lo > hi))
}

fn apply(f: UnaryFn, mut xs: Vec<f32>) -> Vec<f32> {
    soft::map(&mut xs, |e, x| unary(e, f, &[x]));
    xs
}

/// Numbers of every exponent and sign, denser where functions bend, and small integers and halves.
fn sweep(f: UnaryFn) -> Vec<f32> {
    let mut xs = Vec::new();
    for exponent in 0..255u32 {
        for fraction in [0, 1, 0x2A_AAAA, 0x40_0000, 0x5F_1234, 0x7F_FFFF] {
            let x = f32::from_bits(exponent << 23 | fraction);
            xs.extend([x, -x]);
        }
    }
    xs.extend(fornax_ir::types::random_values(3, 4000).iter().map(|x| x * 20.0));
    xs.extend(fornax_ir::types::random_values(4, 2000).iter().map(|x| x * 110.0));
    xs.extend(fornax_ir::types::random_values(5, 2000));
    xs.extend((-40..=40).map(|i| i as f32 * 0.5));
    xs.retain(|x| f != Log || *x > 0.0);
    xs
}

#[test]
fn errors_stay_within_their_statements() {
    let mut failures = Vec::new();
    for f in all() {
        let xs = sweep(f);
        let (mut worst, mut at) = (0.0f64, 0.0f32);
        for (x, y) in xs.iter().zip(apply(f, xs.clone())) {
            let exact = f.eval(f64::from(*x));
            let rounded = exact as f32;
            if y == rounded || (y.is_nan() && rounded.is_nan()) {
                continue;
            }
            // Results that round to a subnormal number or to infinity have steps of their own.
            let slack = f64::from(f32::MIN_POSITIVE) * 2f64.powi(-23);
            let limit = if exact.abs() > f64::from(f32::MAX) { 0.0 } else { error_bound(f, exact) + slack };
            let off = (f64::from(y) - exact).abs();
            let share = if off.is_finite() { off / limit.max(f64::MIN_POSITIVE) } else { f64::INFINITY };
            if share > worst {
                (worst, at) = (share, *x);
            }
        }
        if worst > 1.0 {
            failures.push(format!(
                "{f:?}: {worst:.3} of the bound, at {at:e}: {:e} for {:e}",
                apply(f, vec![at])[0],
                f.eval(f64::from(at))
            ));
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn a_nan_stays_unless_a_comparison_decides() {
    for f in all() {
        // Quiet and signalling ones, of both signs, with low bits of all kinds.
        for bits in [0x7FC0_0000, 0x7FC0_0001, 0x7F80_0001, 0x7FC0_01FF, 0xFFC0_0001, 0xFFFF_FFFF] {
            let y = apply(f, vec![f32::from_bits(bits)])[0];
            match f {
                ThresholdedRelu(_) | Not => assert_eq!(y, 0.0, "{f:?}"),
                _ => assert!(y.is_nan(), "{f:?} of the NaN {bits:#010X} is {y:e}"),
            }
        }
    }
    assert_eq!(apply(IsNan, vec![f32::NAN, 1.0, f32::INFINITY]), [1.0, 0.0, 0.0]);
}

#[test]
fn a_limit_that_is_no_number_leaves_none() {
    for (lo, hi) in [(f32::NAN, 6.0), (-1.0, f32::NAN), (f32::NAN, f32::NAN)] {
        let ys = apply(Clip(lo, hi), vec![-f32::INFINITY, -2.0, -0.0, 3.0, f32::INFINITY, f32::NAN]);
        assert!(ys.iter().all(|y| y.is_nan()), "{lo} to {hi}: {ys:?}");
    }
}

#[test]
fn infinities_give_the_stated_limits() {
    let inf = f32::INFINITY;
    let limits = |f| apply(f, vec![-inf, inf]);
    for (f, below, above) in [
        (Relu, 0.0, inf),
        (Clip(-1.0, 6.0), -1.0, 6.0),
        (Elu(1.0), -1.0, inf),
        (Exp, 0.0, inf),
        (Softplus, 0.0, inf),
        (HardSigmoid(0.2, 0.5), 0.0, 1.0),
        (Floor, -inf, inf),
        (Round, -inf, inf),
        (Sign, -1.0, 1.0),
        (LeakyRelu(0.5), -inf, inf),
    ] {
        assert_eq!(limits(f), [below, above], "{f:?}");
    }
    // Where the formula has no value at -inf, the kernels have none, as the evaluator.
    for f in [Silu, Swish(1.702), Swish(3e38), Mish, Gelu, GeluTanh, HardSwish] {
        assert!(f.eval(-f64::INFINITY).is_nan() && limits(f)[0].is_nan(), "{f:?} of -inf");
        assert_eq!(limits(f)[1], inf, "{f:?} of +inf");
        assert_eq!(apply(f, vec![-f32::MAX, -1e4]), [0.0, 0.0], "{f:?} far below");
    }
    assert_eq!(apply(Sigmoid, vec![-inf, -89.0, 40.0, inf]), [0.0, 0.0, 1.0, 1.0]);
    assert_eq!([limits(Tanh), limits(Erf)], [[-1.0, 1.0], [-1.0, 1.0]]);
    assert!([Softsign, Swish(0.0)].iter().all(|f| limits(*f).iter().all(|y| y.is_nan())));
    assert!(limits(Swish(-0.5))[1].is_nan() && limits(Swish(-0.5))[0] == -inf);
    assert!(limits(Log)[0].is_nan() && limits(Log)[1] == inf);
    assert_eq!(apply(Log, vec![0.0, -0.0]), [-inf, -inf]);
    assert!(limits(Sin).iter().chain(&limits(Cos)).all(|y| y.is_nan()));
}

#[test]
fn rounding_keeps_the_sign_of_zero() {
    let bits = |f, x| apply(f, vec![x])[0].to_bits();
    for f in [Floor, Ceil, Round, Sign, Relu, Silu, Gelu, GeluTanh, Mish, Tanh, Erf, Softsign, Sin] {
        assert_eq!(bits(f, -0.0), (-0.0f32).to_bits(), "{f:?}");
        assert_eq!(bits(f, 0.0), 0, "{f:?}");
    }
    assert_eq!(bits(Ceil, -0.3), (-0.0f32).to_bits());
    assert_eq!(bits(Floor, 0.3), 0);
}

#[test]
fn exponentials_underflow_gradually() {
    let xs = vec![-87.5, -95.0, -103.0, -103.9];
    for (x, y) in xs.iter().zip(apply(Exp, xs.clone())) {
        let exact = libm::exp(f64::from(*x)) as f32;
        assert!(y.to_bits().abs_diff(exact.to_bits()) <= 1, "exp({x}) = {y:e}, not {exact:e}");
    }
    assert_eq!(apply(Exp, vec![-105.0, 88.8, 0.0]), [0.0, f32::INFINITY, 1.0]);
}

/// Numbers of every exponent beyond the one up to which a multiple of three parts of pi / 2 is exact.
#[test]
fn sines_of_large_numbers_are_reduced_exactly() {
    let xs: Vec<f32> = (155..255u32)
        .flat_map(|exponent| [0, 1, 0x2A_AAAA, 0x5F_1234, 0x7F_FFFF].map(|f| f32::from_bits(exponent << 23 | f)))
        .collect();
    for f in [Sin, Cos] {
        let exact: Vec<f32> = xs.iter().map(|x| f.eval(f64::from(*x)) as f32).collect();
        assert_eq!(apply(f, xs.clone()), exact, "{f:?}");
    }
}

#[test]
fn celu_of_any_alpha_is_its_definition() {
    for alpha in [-1.0, -1e-3, -3e38, -1e-40, 0.0, -0.0, f32::INFINITY, f32::NAN] {
        let f = Celu(alpha);
        let xs = vec![-f32::INFINITY, -1e30, -80.0, -1.0, -1e-6, -1e-30, 0.0, 1e-30, 0.5, 3.0, 200.0, f32::INFINITY];
        for (x, y) in xs.iter().zip(apply(f, xs.clone())) {
            let exact = f.eval(f64::from(*x)) as f32;
            assert!(y == exact || y.is_nan() && exact.is_nan(), "{f:?} of {x:e} is {y:e}, not {exact:e}");
        }
    }
}

/// What is stored as `bf16` may be short: within 2^-12.3 wherever that counts, and the same bits for every lane count.
#[test]
fn short_silu_is_close_to_silu() {
    let mut xs: Vec<f32> = (-4000..4000).map(|i| i as f32 / 37.0).collect();
    xs.extend([0.0, -0.0, 1e-30, -1e-30, 1e30, -1e30, f32::INFINITY, f32::MAX, f32::MIN]);
    let mut found = xs.clone();
    soft::map(&mut found, |e, x| super::exp::short_silu(e, &[x]));
    for (x, y) in xs.iter().zip(&found) {
        let exact = f64::from(*x) / (1.0 + (-f64::from(*x)).exp());
        let bound = (2f64.powf(-12.3) * exact.abs()).max(1e-30);
        assert!(f64::from(*y) == exact || (f64::from(*y) - exact).abs() <= bound, "{x}: {y} for {exact}");
    }
    let mut special = [f32::NAN, f32::NEG_INFINITY];
    soft::map(&mut special, |e, x| super::exp::short_silu(e, &[x]));
    assert!(special[0].is_nan() && special[1] < 0.0 && special[1] > -1e-30, "{special:?}");
}
