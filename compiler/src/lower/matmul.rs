//! Lowering of `matmul`.

use super::Lower;
use fornax_ir::ops::MatMul;
use fornax_ir::ops::matmul::Product;
use super::dense::{self, Matrix};
use super::weights;
use fornax_ir::OpError;
use crate::plan::Layout;
use super::context::Lowering;

impl Lower for MatMul {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let product = Product::new(cx.operand_type(0), cx.operand_type(1))?;
        let rows = product.batch.numel() * product.m;
        let one_matrix = cx.operand_type(1).shape.rank() <= 2;
        if one_matrix && weights::constant(cx, 1).is_some() {
            return lower_constant(&product, cx, rows);
        }
        super::fallback::matmul(cx)
    }
}

/// The product of `rows` rows with one constant matrix.
fn lower_constant(op: &Product, cx: &mut Lowering<'_>, rows: usize) -> Result<(), OpError> {
    let product = dense::Product { rows, inputs: op.k, outputs: op.n, then: None };
    let bias = cx.zeros(product.bias_len() * 4);
    let x = cx.operand_as(0, Layout::RowMajor)?;
    let y = cx.output(Layout::RowMajor);
    product.lower(cx, x, Matrix { operand: 1, transposed: false, factor: 1.0 }, bias, y)
}
