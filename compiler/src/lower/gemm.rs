//! Lowering of `gemm`.

use super::Lower;
use super::context::Lowering;
use super::dense::{Matrix, Product};
use super::weights;
use crate::plan::Layout;
use fornax_ir::OpError;
use fornax_ir::ops::Gemm;
use fornax_runtime::packing::{self, Packing, Transform};

impl Lower for Gemm {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        if is_product(self, cx)? {
            return lower_product(self, cx);
        }
        super::fallback::gemm(cx, self)
    }
}

/// Whether rows meet a matrix of `f32`, the bias is the same for each of them and `alpha` goes into the matrix unrounded.
fn is_product(op: &Gemm, cx: &Lowering<'_>) -> Result<bool, OpError> {
    let (m, ..) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let usable = (0..cx.count()).all(|i| weights::usable(cx, i));
    let rows_agree = !op.bias || m == 1 || !matches!(cx.operand_type(2).shape[..], [rows, _] if rows > 1);
    Ok(usable && rows_agree && is_power_of_two(op.alpha))
}

fn lower_product(op: &Gemm, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let (rows, inputs, outputs) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let product = Product { rows, inputs, outputs, activation: op.activation };
    let layout = packing::Layout::row_major(1).block(0, product.bias_len());
    let packing = Packing::new([outputs], Transform::scale(op.beta), layout);
    let bias = weights::bias(cx, op.bias.then_some(2), packing)?;
    let as_it_is = !op.trans_a || rows == 1 || inputs == 1;
    let x = if as_it_is { cx.operand_as(0, Layout::RowMajor)?.into() } else { weights::transposed(cx, 0)? };
    let y = cx.output(Layout::RowMajor);
    product.lower(cx, x, Matrix { operand: 1, transposed: op.trans_b, factor: op.alpha }, bias, y)
}

/// Whether multiplying by `v` is exact: its significand is 1 and it is far from the ends of the exponents.
fn is_power_of_two(v: f32) -> bool {
    v.to_bits() & 0x7F_FFFF == 0 && (1e-6..=1e6).contains(&v.abs())
}
