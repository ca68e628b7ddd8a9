//! Lowering of `binary`.
//!
//! A power whose exponent is one known number is the products, root or reciprocal that it stands for: within one unit in the last place of the
//! power (3 and -1/2, which round twice) or correctly rounded (the others), with the values of `pow` at zeros, infinities and NaNs.

use super::Lower;
use super::context::Lowering;
use super::nests::{float, map};
use crate::kernels::loops::nest::{Inst, Program};
use fornax_ir::OpError;
use fornax_ir::ops::Binary;
use fornax_ir::ops::literal::Literal;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

impl Lower for Binary {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let function = self.function;
        if function == BinaryFn::Pow
            && let Some((name, program)) = known_exponent(cx).and_then(power)
        {
            return map(cx, name, program);
        }
        map(cx, function.name(), vec![Inst::Load(0), Inst::Load(1), Inst::Binary(function, 0, 1)])
    }
}

/// The exponent, if it is one number that is known, of `f32` elements.
fn known_exponent(cx: &Lowering<'_>) -> Option<f64> {
    let constant = cx.constant(1).filter(|constant| constant.ty.dtype == DType::F32)?;
    // What is spread over a shape has few elements where it is a number.
    let values = Literal::from_constant(constant).ok().filter(|_| constant.ty.shape.numel() <= 1 << 12)?.to_f64();
    let first = *values.first()?;
    values.iter().all(|value| *value == first).then_some(first)
}

/// Name and program of the power with this exponent, if it is a short one.
fn power(exponent: f64) -> Option<(&'static str, Program)> {
    let times = |a, b| Inst::Binary(BinaryFn::Mul, a, b);
    // Of -0 the root of `pow` is 0, and of minus infinity it is infinite.
    let root = || {
        vec![
            Inst::Load(0),
            float(0.0),
            Inst::Binary(BinaryFn::Add, 0, 1),
            Inst::Unary(UnaryFn::Sqrt, 2),
            float(f32::NEG_INFINITY),
            Inst::Binary(BinaryFn::Equal, 0, 4),
            float(f32::INFINITY),
            Inst::Select(5, 6, 3),
        ]
    };
    Some(match exponent {
        1.0 => ("pow_1", vec![Inst::Load(0)]),
        2.0 => ("square", vec![Inst::Load(0), times(0, 0)]),
        3.0 => ("cube", vec![Inst::Load(0), times(0, 0), times(1, 0)]),
        -1.0 => ("inverse", vec![Inst::Load(0), Inst::Unary(UnaryFn::Reciprocal, 0)]),
        0.5 => ("root", root()),
        -0.5 => ("inverse_root", [root(), vec![Inst::Unary(UnaryFn::Reciprocal, 7)]].concat()),
        _ => return None,
    })
}
