//! How far a kernel may be from the evaluator: the sums of magnitudes that the bound is made of.
//!
//! For each element of the result of a linear operator, that is the sum of |x| |w| over its products, bias and residual included,
//! before any activation: [`Operation::magnitude`](super::Operation::magnitude). A kernel that accumulates K terms in f32 is right
//! within `(K + 8) * 2^-24` of that sum, plus the ulps that its activation states; K is
//! [`Operation::terms`](super::Operation::terms). For a fused block it is that of its stages one after the other, which takes an
//! activation to be no larger than its operand and a gate to be at most 1. Other operators have neither.

use super::literal::{Data, Literal};
use crate::error::OpError;

/// What an operator that is not linear answers.
pub(super) fn not_linear(name: &str) -> OpError {
    OpError::new("operator", "a linear operator", name)
}

/// The result of `evaluate` over the absolute values of the operands.
pub(super) fn over_absolutes<T>(inputs: &[&Literal], evaluate: impl FnOnce(&[&Literal]) -> T) -> T {
    let absolute: Vec<_> = inputs.iter().map(|operand| absolute(operand)).collect();
    evaluate(&absolute.iter().collect::<Vec<_>>())
}

/// The absolute value of each element.
fn absolute(x: &Literal) -> Literal {
    match &x.data {
        Data::Float(values) => Literal::new_float(x.ty.clone(), values.iter().map(|v| v.abs()).collect()),
        Data::Int(values) => Literal::new_int(x.ty.clone(), values.iter().map(|v| v.wrapping_abs()).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Conv, Gemm, MbConv, Op, SqueezeExcite};
    use crate::scalar::UnaryFn;

    #[test]
    fn magnitudes_do_not_cancel() {
        let x = Literal::from_f32([1, 2, 1, 1], &[3.0, -3.0]);
        let w = Literal::from_f32([1, 2, 1, 1], &[1.0, 1.0]);
        let b = Literal::from_f32([1], &[-0.5]);
        let op: Op = Conv { bias: true, activation: Some(UnaryFn::Relu), ..Conv::default() }.into();
        assert_eq!(op.magnitude(&[&x, &w, &b]).unwrap().to_f64(), [6.5]);
        assert_eq!(op.terms(&[&x.ty, &w.ty, &b.ty]).unwrap(), 3);
        let (a, b) = (Literal::from_f32([1, 2], &[3.0, -3.0]), Literal::from_f32([2, 1], &[1.0, 1.0]));
        let op: Op = Gemm { alpha: -2.0, ..Gemm::default() }.into();
        assert_eq!(op.magnitude(&[&a, &b]).unwrap().to_f64(), [12.0]);
        let op: Op = crate::ops::MatMul {}.into();
        assert_eq!(op.magnitude(&[&a, &b]).unwrap().to_f64(), [6.0]);
        assert_eq!(op.terms(&[&a.ty, &b.ty]).unwrap(), 2);
    }

    #[test]
    fn a_block_has_the_magnitude_of_its_stages() {
        let one = |shape: &[usize], v: f32| Literal::from_f32(shape, &[v]);
        let x = one(&[1, 1, 1, 1], -2.0);
        let (w, b) = (one(&[1, 1, 1, 1], 3.0), one(&[1], -1.0));
        let op: Op = MbConv { residual: true, ..MbConv::default() }.into();
        let inputs = [&x, &w, &b, &w, &b];
        // Depthwise 2 * 3 + 1, projection 7 * 3 + 1, residual 2.
        assert_eq!(op.magnitude(&inputs).unwrap().to_f64(), [24.0]);
        assert_eq!(op.terms(&inputs.map(|operand| &operand.ty)).unwrap(), 2 + 3);
        let op: Op = SqueezeExcite::default().into();
        assert_eq!(op.magnitude(&[&x, &w, &b, &w, &b]).unwrap().to_f64(), [2.0 * (1.0 + 22.0)]);
    }

    #[test]
    fn other_operators_have_none() {
        let x = Literal::from_f32([1], &[1.0]);
        let op: Op = crate::ops::Identity {}.into();
        assert_eq!(op.magnitude(&[&x]).unwrap_err().field, "operator");
        assert_eq!(op.terms(&[&x.ty]).unwrap_err().field, "operator");
    }
}
