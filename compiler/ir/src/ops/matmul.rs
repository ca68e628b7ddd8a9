//! Matrix product with NumPy semantics: batch axes broadcast, a vector operand is a row or a column that disappears. Sums of integers wrap;
//! those of `i16` are `i32`.

use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::error_bound::over_absolutes;
use super::gradient::Value;
use super::literal::{Data, Literal};
use super::shapes::{
    broadcast, broadcast_offsets, check, checked, expect_dtype, expect_number, expect_operands, expect_rank, sum_type,
};
use super::{Gemm, GradientContext, OneResult};
use crate::error::OpError;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a matrix product: none.
    pub struct MatMul {}
}

impl MatMul {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }
}

/// The extents of a matrix product: for each index of `batch` an `[m, k]` by `[k, n]` product.
pub struct Product {
    /// Broadcast extents of the leading axes.
    pub batch: Shape,
    /// Rows of the result.
    pub m: usize,
    /// Summed extent.
    pub k: usize,
    /// Columns of the result.
    pub n: usize,
    /// Whether `a` is a vector: the result has no row axis.
    pub row: bool,
    /// Whether `b` is a vector: the result has no column axis.
    pub column: bool,
}

impl Product {
    /// The extents for operands of types `a` and `b`; fails unless they agree.
    pub fn new(a: &TensorType, b: &TensorType) -> Result<Self, OpError> {
        expect_rank("a", 1, a)?;
        expect_rank("b", 1, b)?;
        let (row, column) = (a.shape.rank() == 1, b.shape.rank() == 1);
        let (a_batch, m, k) = match &a.shape[..] {
            [batch @ .., m, k] => (batch, *m, *k),
            rest => (&rest[..0], 1, rest[0]),
        };
        let (b_batch, rows, n) = match &b.shape[..] {
            [batch @ .., k, n] => (batch, *k, *n),
            rest => (&rest[..0], rest[0], 1),
        };
        check(rows == k, "b", || format!("{k} rows, as {a} has columns"), || b.to_string())?;
        Ok(Self { batch: broadcast(a_batch, b_batch)?, m, k, n, row, column })
    }

    /// The products of the matrices of `a` and `b` that `pairs` number, one for each index of the batch.
    fn multiply<T: Copy + Default>(
        &self,
        a: &[T],
        b: &[T],
        pairs: &[(usize, usize)],
        step: impl Fn(T, T, T) -> T + Copy,
    ) -> Vec<T> {
        let (m, k, n) = (self.m, self.k, self.n);
        let mut out = vec![T::default(); pairs.len() * m * n];
        for (out, (i, j)) in out.chunks_exact_mut((m * n).max(1)).zip(pairs) {
            multiply_add(out, &a[i * m * k..][..m * k], &b[j * k * n..][..k * n], k, n, step);
        }
        out
    }

    /// The shape of the result.
    pub fn result(&self) -> Shape {
        let matrix = [(!self.row).then_some(self.m), (!self.column).then_some(self.n)];
        self.batch.iter().copied().chain(matrix.into_iter().flatten()).collect()
    }
}

impl OneResult for MatMul {
    fn name(&self) -> &'static str {
        "matmul"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 2)?;
        let (a, b) = (inputs[0], inputs[1]);
        expect_number("a", a)?;
        expect_dtype("b", a.dtype, b)?;
        checked(sum_type(a.dtype), Product::new(a, b)?.result())
    }

    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        over_absolutes(inputs, |inputs| self.evaluate(inputs))
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        self.infer(inputs)?;
        Ok(inputs[0].shape.last().copied().unwrap_or(0))
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        let types: Vec<_> = inputs.iter().map(|operand| &operand.ty).collect();
        let ty = self.infer(&types)?;
        if ty.shape.contains(&0) {
            return Literal::from_bytes(ty, &[]);
        }
        let (a, b) = (inputs[0], inputs[1]);
        let product = Product::new(types[0], types[1])?;
        let matrices = |operand: &Literal| {
            let rank = operand.ty.shape.rank();
            broadcast_offsets(&operand.ty.shape[..rank.saturating_sub(2)], &product.batch)
        };
        let pairs: Vec<_> = matrices(a).into_iter().zip(matrices(b)).collect();
        match (&a.data, &b.data) {
            (Data::Float(a), Data::Float(b)) => {
                let values = product.multiply(a, b, &pairs, |sum, x, y| sum + x * y);
                Ok(Literal::new_float(ty, values))
            }
            _ => {
                let (a, b) = (a.ints("a")?, b.ints("b")?);
                let values = product.multiply(a, b, &pairs, |sum, x, y| sum.wrapping_add(x.wrapping_mul(y)));
                Ok(Literal::new_int(ty, values))
            }
        }
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        let k = inputs.first().and_then(|a| a.shape.last()).copied().unwrap_or(0);
        (output.shape.numel() as u64).saturating_mul(k as u64)
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        let (dy, a, b) = (cx.dy()?, cx.operand(0), cx.operand(1));
        let (a_shape, b_shape) = (cx.shape(a), cx.shape(b));
        let extents = Product::new(cx.ty(a), cx.ty(b))?;
        let (m, k, n) = (extents.m, extents.k, extents.n);
        let matrices = |batch: &[usize], rows: usize, columns: usize| {
            batch.iter().copied().chain([rows, columns]).collect::<Vec<usize>>()
        };
        let dy = cx.reshape(dy, &matrices(&extents.batch, m, n))?;
        let a = if extents.row { cx.reshape(a, &[1, k])? } else { a };
        let b = if extents.column { cx.reshape(b, &[k, 1])? } else { b };
        let rank = |cx: &GradientContext<'_>, v: Value| cx.ty(v).shape.rank();
        if rank(cx, b) == 2 {
            // One product over all rows.
            let rows = extents.batch.iter().product::<usize>() * m;
            let (dy, a) = (cx.reshape(dy, &[rows, n])?, cx.reshape(a, &[rows, k])?);
            if cx.wanted(0) {
                let da = cx.op(Gemm { trans_b: true, ..Gemm::default() }, &[dy, b])?;
                let da = cx.reshape(da, &a_shape)?;
                cx.set(0, da)?;
            }
            if cx.wanted(1) {
                let db = cx.op(Gemm { trans_a: true, ..Gemm::default() }, &[a, dy])?;
                let db = cx.reshape(db, &b_shape)?;
                cx.set(1, db)?;
            }
            return Ok(());
        }
        for (slot, own, other) in [(0, a, b), (1, b, a)] {
            if cx.wanted(slot) {
                let axes = rank(cx, other);
                let turned: Vec<usize> = (0..axes - 2).chain([axes - 1, axes - 2]).collect();
                let other = cx.transpose(other, &turned)?;
                let product = cx.op(Self {}, &if slot == 0 { [dy, other] } else { [other, dy] })?;
                let (matrix, shape) = (cx.shape(own), if slot == 0 { &a_shape } else { &b_shape });
                let sum = cx.sum_to(product, &matrix)?;
                let sum = cx.reshape(sum, shape)?;
                cx.set(slot, sum)?;
            }
        }
        Ok(())
    }
}

/// `out += a b` for row-major `a [m, k]` and `b [k, n]`; `step(sum, x, y)` is the sum with one product more.
pub fn multiply_add<T: Copy>(out: &mut [T], a: &[T], b: &[T], k: usize, n: usize, step: impl Fn(T, T, T) -> T) {
    for (i, sums) in out.chunks_exact_mut(n.max(1)).enumerate() {
        for p in 0..k {
            let x = a[i * k + p];
            sums.iter_mut().zip(&b[p * n..]).for_each(|(sum, y)| *sum = step(*sum, x, *y));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::DType;

    fn run(a: &Literal, b: &Literal) -> (String, Vec<f64>) {
        let out = MatMul {}.evaluate(&[a, b]).unwrap();
        (out.ty.to_string(), out.to_f64())
    }

    #[test]
    fn vectors_are_rows_or_columns() {
        let m = Literal::from_f32([2, 2], &[1.0, 2.0, 3.0, 4.0]);
        let v = Literal::from_f32([2], &[1.0, 10.0]);
        assert_eq!(run(&m, &m), ("f32[2,2]".into(), vec![7.0, 10.0, 15.0, 22.0]));
        assert_eq!(run(&m, &v), ("f32[2]".into(), vec![21.0, 43.0]));
        assert_eq!(run(&v, &m), ("f32[2]".into(), vec![31.0, 42.0]));
        assert_eq!(run(&v, &v), ("f32[]".into(), vec![101.0]));
    }

    #[test]
    fn batches_broadcast() {
        let a = Literal::from_f32([2, 1, 1, 1], &[2.0, 3.0]);
        let b = Literal::from_f32([2, 1, 1], &[5.0, 7.0]);
        assert_eq!(run(&a, &b), ("f32[2,2,1,1]".into(), vec![10.0, 14.0, 15.0, 21.0]));
    }

    #[test]
    fn integers_wrap() {
        let a = Literal::new_int(TensorType::new(DType::I32, [1, 2]), vec![i64::from(i32::MAX), 1]);
        let b = Literal::new_int(TensorType::new(DType::I32, [2, 1]), vec![2, 3]);
        assert_eq!(run(&a, &b).1, [1.0]);
    }

    #[test]
    fn sums_of_16_bit_integers_have_32() {
        let pair = |v: i64| Literal::new_int(TensorType::new(DType::I16, [1, 2]), vec![v, v]);
        let column = Literal::new_int(TensorType::new(DType::I16, [2, 1]), vec![30_000, 1]);
        assert_eq!(run(&pair(30_000), &column), ("i32[1,1]".into(), vec![900_030_000.0]));
    }

    #[test]
    fn empty_sums_are_zero() {
        let (a, b) = (Literal::from_f32([2, 0], &[]), Literal::from_f32([0, 1], &[]));
        assert_eq!(run(&a, &b), ("f32[2,1]".into(), vec![0.0, 0.0]));
        assert_eq!(run(&Literal::from_f32([0, 2], &[]), &a).0, "f32[0,0]");
    }

    #[test]
    fn operands_that_disagree_are_errors() {
        let f = |shape: &[usize]| TensorType::f32(shape);
        let infer = |a: &[usize], b: &[usize]| MatMul {}.infer(&[&f(a), &f(b)]);
        assert_eq!(infer(&[2, 3], &[2, 3]).unwrap_err().field, "b");
        assert_eq!(infer(&[], &[3]).unwrap_err().field, "a");
        assert_eq!(infer(&[3], &[]).unwrap_err().field, "b");
        assert_eq!(infer(&[2, 1, 3], &[3, 3, 1]).unwrap_err().field, "operands");
        assert_eq!(infer(&[1 << 40, 1], &[1, 1 << 40]).unwrap_err().field, "result");
        let y = infer(&[4, 2, 3], &[3, 5]).unwrap();
        assert_eq!(MatMul {}.macs(&[&f(&[4, 2, 3]), &f(&[3, 5])], &y), 4 * 2 * 3 * 5);
    }
}
