//! Lowering of `gemm`.

use super::Lower;
use fornax_ir::ops::Gemm;
use super::dense::{Matrix, Product};
use super::weights;
use fornax_ir::OpError;
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
    let (len, beta) = (product.bias_len(), op.beta);
    let bias = if op.bias {
        let packing = format!("times {beta} on {outputs} of {len}");
        weights::pack(cx, 2, &packing, len, move |from, to| {
            let scaled = |v: &[u8; 4]| (f32::from_le_bytes(*v) * beta).to_le_bytes();
            to.iter_mut().take(outputs).zip(from.iter().cycle()).for_each(|(to, from)| *to = scaled(from));
        })?
    } else {
        weights::bias(cx, None, len)?
    };
    let x = cx.operand_as(0, Layout::RowMajor)?;
    let y = cx.output(Layout::RowMajor);
    product.lower(cx, x, Matrix { operand: 1, transposed: op.trans_b, factor: op.alpha }, bias, y)
}


/// Whether multiplying by `v` is exact: its significand is 1 and it is far from the ends of the exponents.
fn is_power_of_two(v: f32) -> bool {
    v.to_bits() & 0x7F_FFFF == 0 && (1e-6..=1e6).contains(&v.abs())
}
