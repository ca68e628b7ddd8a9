//! Matrix product with NumPy semantics: batch axes broadcast, a vector operand is a row or a column that disappears.

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{broadcast, check, checked, expect_dtype, expect_number, expect_operands, expect_rank};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
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

    /// The shape of the result.
    pub fn result(&self) -> Shape {
        let matrix = [(!self.row).then_some(self.m), (!self.column).then_some(self.n)];
        self.batch.iter().copied().chain(matrix.into_iter().flatten()).collect()
    }
}

impl Operation for MatMul {
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
        checked(a.dtype, Product::new(a, b)?.result())
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
