//! Lowering of `gemm`.

use super::Lower;
use fornax_ir::ops::Gemm;
use super::dense::{Matrix, Product};
use super::weights;
use fornax_ir::OpError;
use fornax_runtime::packing::{self, Packing, Transform};
use crate::plan::Layout;
use super::context::Lowering;

impl Lower for Gemm {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        if is_constant_product(self, cx)? {
            return lower_product(self, cx);
        }
        super::fallback::gemm(cx, self)
    }
}

/// Whether rows meet a constant matrix, the bias is the same for each of them and `alpha` goes into the matrix unrounded.
fn is_constant_product(op: &Gemm, cx: &Lowering<'_>) -> Result<bool, OpError> {
    let (m, ..) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let plain_a = !op.trans_a || m == 1;
    let known = (1..cx.count()).all(|i| weights::constant(cx, i).is_some());
    let rows_agree = !op.bias || m == 1 || !matches!(cx.operand_type(2).shape[..], [rows, _] if rows > 1);
    Ok(plain_a && known && rows_agree && is_power_of_two(op.alpha))
}


fn lower_product(op: &Gemm, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let (rows, inputs, outputs) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let product = Product { rows, inputs, outputs, then: op.then };
    let len = product.bias_len();
    let layout = packing::Layout::row_major(1).block(0, len);
    let packing = Packing::new([outputs], Transform::scale(op.beta), layout);
    let bias = weights::bias(cx, op.bias.then_some(2), packing)?;
    let x = cx.operand_as(0, Layout::RowMajor)?;
    let y = cx.output(Layout::RowMajor);
    product.lower(cx, x, Matrix { operand: 1, transposed: op.trans_b, factor: op.alpha }, bias, y)
}


/// Whether multiplying by `v` is exact: its significand is 1 and it is far from the ends of the exponents.
fn is_power_of_two(v: f32) -> bool {
    v.to_bits() & 0x7F_FFFF == 0 && (1e-6..=1e6).contains(&v.abs())
}
