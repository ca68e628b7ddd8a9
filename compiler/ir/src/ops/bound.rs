//! How far a kernel may be from the evaluator: the sums of magnitudes that the bound is made of.
//!
//! In: an operator and its operands. Out: for each element of the result, the sum of |x| |w| over its products, bias and
//! residual included, before any activation. A kernel that accumulates K terms in f32 is right within
//! `(K + 8) * 2^-24` of that sum, plus the ulps that its activation states; K is [`terms`].

use super::literal::{Data, Literal};
use super::{Conv, Gemm, OneResult, Op, SqueezeExcite, only};
use crate::error::OpError;
use crate::scalar::UnaryFn;
use crate::types::TensorType;

/// The sum of magnitudes of each element of the result of a linear operator.
///
/// For a fused block it is that of its stages one after the other, which takes an activation to be no larger than its operand and
/// a gate to be at most 1. Any other operator than a convolution, a matrix product or a fused block is an error.
pub fn magnitude(op: &Op, inputs: &[&Literal]) -> Result<Literal, OpError> {
    if let Op::MbConv(block) = op {
        return block.chain(inputs, |value| &value.ty, |_, op, operands| magnitude(op, operands));
    }
    let absolute: Vec<_> = inputs.iter().map(|operand| absolute(operand)).collect();
    let operands: Vec<_> = absolute.iter().collect();
    match op {
        Op::Conv(op) => Conv { then: None, ..op.clone() }.evaluate(&operands),
        Op::ConvTranspose(op) => op.evaluate(&operands),
        Op::Gemm(op) => {
            Gemm { alpha: op.alpha.abs(), beta: op.beta.abs(), then: None, ..op.clone() }.evaluate(&operands)
        }
        Op::MatMul(op) => op.evaluate(&operands),
        Op::SqueezeExcite(_) => squeeze_excite(&operands),
        other => Err(OpError::new("operator", "a linear operator", other.name())),
    }
}

/// The number of terms that an element of the result of a linear operator sums, bias and residual included.
pub fn terms(op: &Op, inputs: &[&TensorType]) -> Result<usize, OpError> {
    let result = only(op.infer(inputs)?)?;
    let product = |shape: &[usize]| shape.iter().product::<usize>();
    Ok(match op {
        Op::Conv(op) => product(&inputs[1].shape[1..]) + usize::from(op.bias) + usize::from(op.residual),
        Op::ConvTranspose(op) => inputs[1].shape[0] / op.group * product(&inputs[1].shape[2..]) + usize::from(op.bias),
        Op::Gemm(op) => inputs[0].shape[usize::from(!op.trans_a)] + usize::from(op.bias),
        Op::MatMul(_) => inputs[0].shape.last().copied().unwrap_or(0),
        Op::SqueezeExcite(_) => product(&result.shape[2..]) + inputs[1].shape[0] + inputs[1].shape[1] + 2,
        Op::MbConv(block) => {
            let mut total = 0;
            block.chain(
                inputs,
                |ty| ty,
                |_, op, operands| {
                    total += terms(op, operands)?;
                    only(op.infer(operands)?)
                },
            )?;
            total
        }
        other => return Err(OpError::new("operator", "a linear operator", other.name())),
    })
}

/// `|x|` and what an error of its gate, which changes no faster than its operand, makes of it.
fn squeeze_excite(operands: &[&Literal]) -> Result<Literal, OpError> {
    let identity = UnaryFn::Clip(f32::NEG_INFINITY, f32::INFINITY);
    let gated = SqueezeExcite { act: identity, gate: identity }.evaluate(operands)?;
    let sums = gated.floats("x")?.iter().zip(operands[0].floats("x")?).map(|(gated, x)| gated + x);
    let sums = sums.collect();
    Ok(Literal::new_float(gated.ty, sums))
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
    use crate::ops::MbConv;

    #[test]
    fn magnitudes_do_not_cancel() {
        let x = Literal::from_f32([1, 2, 1, 1], &[3.0, -3.0]);
        let w = Literal::from_f32([1, 2, 1, 1], &[1.0, 1.0]);
        let b = Literal::from_f32([1], &[-0.5]);
        let op: Op = Conv { bias: true, then: Some(UnaryFn::Relu), ..Conv::default() }.into();
        assert_eq!(magnitude(&op, &[&x, &w, &b]).unwrap().to_f64(), [6.5]);
        assert_eq!(terms(&op, &[&x.ty, &w.ty, &b.ty]).unwrap(), 3);
        let (a, b) = (Literal::from_f32([1, 2], &[3.0, -3.0]), Literal::from_f32([2, 1], &[1.0, 1.0]));
        let op: Op = Gemm { alpha: -2.0, ..Gemm::default() }.into();
        assert_eq!(magnitude(&op, &[&a, &b]).unwrap().to_f64(), [12.0]);
        let op: Op = crate::ops::MatMul {}.into();
        assert_eq!(magnitude(&op, &[&a, &b]).unwrap().to_f64(), [6.0]);
        assert_eq!(terms(&op, &[&a.ty, &b.ty]).unwrap(), 2);
    }

    #[test]
    fn a_block_has_the_magnitude_of_its_stages() {
        let one = |shape: &[usize], v: f32| Literal::from_f32(shape, &[v]);
        let x = one(&[1, 1, 1, 1], -2.0);
        let (w, b) = (one(&[1, 1, 1, 1], 3.0), one(&[1], -1.0));
        let op: Op = MbConv { residual: true, ..MbConv::default() }.into();
        let inputs = [&x, &w, &b, &w, &b];
        // Depthwise 2 * 3 + 1, projection 7 * 3 + 1, residual 2.
        assert_eq!(magnitude(&op, &inputs).unwrap().to_f64(), [24.0]);
        assert_eq!(terms(&op, &inputs.map(|operand| &operand.ty)).unwrap(), 2 + 3);
        let op: Op = SqueezeExcite::default().into();
        assert_eq!(magnitude(&op, &[&x, &w, &b, &w, &b]).unwrap().to_f64(), [2.0 * (1.0 + 22.0)]);
    }

    #[test]
    fn other_operators_have_none() {
        let x = Literal::from_f32([1], &[1.0]);
        let op: Op = crate::ops::Identity {}.into();
        assert_eq!(magnitude(&op, &[&x]).unwrap_err().field, "operator");
        assert_eq!(terms(&op, &[&x.ty]).unwrap_err().field, "operator");
    }
}
