//! Lowering of `matmul`.

use super::Lower;
use super::context::Lowering;
use super::dense::{self, Matrix};
use super::weights;
use crate::codegen::elements::in_pairs;
use crate::codegen::epilogue::Epilogue;
use crate::kernels::{Conv, conv};
use crate::plan::{AxisOrder, Operand};
use fornax_ir::OpError;
use fornax_ir::ops::MatMul;
use fornax_ir::ops::matmul::Product;
use fornax_ir::types::DType;
use fornax_runtime::packing::{self, Packing, Transform};

impl Lower for MatMul {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let product = Product::new(cx.operand_type(0), cx.operand_type(1))?;
        if in_pairs(cx.operand_type(0).dtype) {
            let one = cx.operand_type(1).shape.rank() <= 2 && cx.constant(1).is_some() && weights::usable(cx, 1);
            return if one && product.k > 0 { lower_pairs(&product, cx) } else { super::fallback::matmul(cx) };
        }
        if !(0..2).all(|i| weights::usable(cx, i)) {
            return super::fallback::matmul(cx);
        }
        if cx.operand_type(1).shape.rank() <= 2 {
            return lower_one(&product, cx);
        }
        lower_batch(&product, cx)
    }
}

/// The product of all rows with one matrix.
fn lower_one(op: &Product, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let rows = op.batch.numel() * op.m;
    let product = dense::Product { rows, inputs: op.k, outputs: op.n, epilogue: Epilogue::default() };
    let bias = cx.zeros(product.bias_len() * 4);
    let x = cx.operand_as(0, AxisOrder::RowMajor)?.into();
    let y = cx.output(AxisOrder::RowMajor);
    product.lower(cx, x, Matrix { operand: 1, transposed: false, factor: 1.0 }, bias, (y, &[]))
}

/// The product of all rows of `i16` with one matrix of them that is known.
fn lower_pairs(op: &Product, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let rows = op.batch.numel() * op.m;
    let spec = Conv { element: DType::I16, ..Conv::pointwise(rows, op.k, op.n, Epilogue::default()) };
    let bias = cx.zeros(spec.bias_packing().len() * 4);
    let x = cx.operand_as(0, AxisOrder::RowMajor)?.into();
    let weights = weights::pack(cx, 1, spec.matrix_packing())?;
    let y = cx.output(AxisOrder::RowMajor);
    cx.step(spec, &[x, weights, bias, y.into()]);
    Ok(())
}

/// A product for each index of the batch, every one with a matrix of its own.
fn lower_batch(op: &Product, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let count = op.batch.numel();
    let spec = Conv::pointwise(count * op.m, op.k, op.n, Epilogue::default()).per_image(count);
    let bias = cx.zeros(spec.bias_packing().len() * 4);
    let x = if cx.operand_type(0).shape.numel() == count * op.m * op.k {
        cx.operand_as(0, AxisOrder::RowMajor)?.into()
    } else {
        repeated(cx, 0, op, (&[op.m * op.k], None))?
    };
    let weights = repeated(cx, 1, op, (&[op.k, op.n], Some(conv::width(op.n))))?;
    let y = cx.output(AxisOrder::RowMajor);
    cx.step(spec, &[x, weights, bias, y.into()]);
    Ok(())
}

/// Operand `i` with a matrix of these extents for each index of the batch; in panels of so many columns, or row-major.
fn repeated(
    cx: &mut Lowering<'_>,
    i: usize,
    op: &Product,
    (matrix, width): (&[usize], Option<usize>),
) -> Result<Operand, OpError> {
    let own = cx.operand_type(i).shape.to_vec();
    let own = &own[..own.len().saturating_sub(2)];
    let elements: usize = matrix.iter().product();
    let each = own.iter().product::<usize>() == op.batch.numel();
    // Axes of the batch one by one only where the operand is repeated along some of them.
    let (batch, lead) = if each {
        (vec![op.batch.numel()], vec![elements])
    } else {
        let missing = op.batch.rank() - own.len();
        let mut lead = vec![0; op.batch.rank()];
        let mut step = elements;
        for (axis, extent) in own.iter().enumerate().rev() {
            lead[missing + axis] = if *extent == 1 { 0 } else { step };
            step *= extent;
        }
        (op.batch.to_vec(), lead)
    };
    let (extents, strides) = ([&batch[..], matrix].concat(), [lead, AxisOrder::RowMajor.strides(matrix)].concat());
    let rank = extents.len();
    let layout = match width {
        None => packing::Layout::row_major(rank),
        Some(width) => packing::Layout::new((0..rank - 2).chain([rank - 1, rank - 2])).block(rank - 1, width),
    };
    let packing = Packing::new(extents, Transform::None, layout);
    if each {
        return weights::pack(cx, i, packing);
    }
    weights::packed_by_step(cx, i, AxisOrder::RowMajor, (packing, strides))
}
