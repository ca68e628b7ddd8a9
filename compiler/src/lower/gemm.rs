//! Lowering of `gemm`.

use super::Lower;
use super::context::Lowering;
use super::dense::{Matrix, Product};
use super::nests::{NestCall, View, float};
use super::weights;
use crate::codegen::epilogue::Epilogue;
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use crate::plan::{AxisOrder, Operand};
use fornax_ir::OpError;
use fornax_ir::ops::Gemm;
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::{Constant, TensorType};
use fornax_runtime::packing::{self, Packing, Transform};

impl Lower for Gemm {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        match is_product(self, cx)? {
            true if scales_exactly(cx, self.alpha) => lower_product(self, cx),
            true => lower_scaled(self, cx),
            false => super::fallback::gemm(cx, self),
        }
    }
}

/// Whether rows meet a matrix of `f32`, the bias is the same for each of them and `alpha` is a power of two.
fn is_product(op: &Gemm, cx: &Lowering<'_>) -> Result<bool, OpError> {
    let (m, ..) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let usable = (0..cx.count()).all(|i| weights::usable(cx, i));
    let rows_agree = !op.bias || m == 1 || !matches!(cx.operand_type(2).shape[..], [rows, _] if rows > 1);
    Ok(usable && rows_agree && is_power_of_two(op.alpha))
}

/// Whether `alpha` times the matrix is exact: it is 1 or -1, or the elements are known and none of them leaves the normal numbers.
fn scales_exactly(cx: &Lowering<'_>, alpha: f32) -> bool {
    let exact = |bytes: &[u8; 4]| {
        let (v, scaled) = (f32::from_le_bytes(*bytes), f32::from_le_bytes(*bytes) * alpha);
        !v.is_finite() || scaled.is_finite() && scaled / alpha == v
    };
    let known = || match weights::constant(cx, 1).and_then(Constant::bytes) {
        Some(bytes) => bytes.as_chunks::<4>().0.iter().all(exact),
        None => false,
    };
    alpha.abs() == 1.0 || known()
}

/// The rows of the product in row-major order.
fn rows(op: &Gemm, cx: &mut Lowering<'_>, extents: [usize; 2]) -> Result<Operand, OpError> {
    let as_it_is = !op.trans_a || extents.contains(&1);
    if as_it_is { Ok(cx.operand_as(0, AxisOrder::RowMajor)?.into()) } else { weights::transposed(cx, 0) }
}

fn lower_product(op: &Gemm, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let (rows, inputs, outputs) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let product = Product { rows, inputs, outputs, epilogue: Epilogue::new(op.activation, false, false) };
    let layout = packing::Layout::row_major(1).block(0, product.bias_len());
    let packing = Packing::new([outputs], Transform::scale(op.beta), layout);
    let bias = weights::bias(cx, op.bias.then_some(2), packing)?;
    let x = self::rows(op, cx, [rows, inputs])?;
    let y = cx.output(AxisOrder::RowMajor);
    product.lower(cx, x, Matrix { operand: 1, transposed: op.trans_b, factor: op.alpha }, bias, (y, &[]))
}

/// The product first, then `alpha` times it: what `alpha` would do to the matrix is not known, or not exact.
fn lower_scaled(op: &Gemm, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let (rows, inputs, outputs) = op.extents(cx.operand_type(0), cx.operand_type(1))?;
    let product = Product { rows, inputs, outputs, epilogue: Epilogue::default() };
    let none = weights::bias(cx, None, Packing::padded(outputs, product.bias_len()))?;
    let x = self::rows(op, cx, [rows, inputs])?;
    let sums = cx.temp("product", TensorType::f32([rows, outputs]), AxisOrder::RowMajor);
    product.lower(cx, x, Matrix { operand: 1, transposed: op.trans_b, factor: 1.0 }, none, (sums, &[]))?;
    let c = if op.bias { Some(View::operand(cx, 2)?) } else { None };
    let y = cx.output(AxisOrder::RowMajor);
    let (sums, y) = (View::of(cx, sums), View::of(cx, y));
    let mut call = NestCall::new("scale", &[rows, outputs], 0, &y, Affine::new(0, y.strides.clone()));
    let mut body = vec![Inst::Load(call.input("x", &sums, Affine::new(0, sums.strides.clone()))), float(op.alpha)];
    match c {
        Some(c) => {
            let c = Inst::Load(call.input("c", &c, Affine::new(0, c.broadcast(2))));
            body.extend([c, float(op.beta), Inst::Binary(BinaryFn::Mul, 2, 3), Inst::Fma(0, 1, 4)]);
        }
        None => body.push(Inst::Binary(BinaryFn::Mul, 0, 1)),
    }
    body.extend(op.activation.map(|function| Inst::Unary(function, body.len() - 1)));
    call.compute(Vec::new(), body, Combine::Last, Vec::new());
    call.run(cx);
    Ok(())
}

/// Whether multiplying by `v` is exact: its significand is 1 and it is far from the ends of the exponents.
fn is_power_of_two(v: f32) -> bool {
    v.to_bits() & 0x7F_FFFF == 0 && (1e-6..=1e6).contains(&v.abs())
}
