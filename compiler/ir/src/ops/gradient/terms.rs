//! What gradient rules are mostly made of: arithmetic, sums that undo broadcasting, other shapes.

use super::{GradientContext, Value};
use crate::error::OpError;
use crate::ops::reduce::ReduceKind;
use crate::ops::{Binary, Cast, Expand, MatMul, Reduce, Reshape, Transpose, Unary, Where};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::DType;

impl GradientContext<'_> {
    /// A constant without axes, of the element type of `like`.
    pub fn number(&mut self, like: Value, value: f64) -> Value {
        let dtype = self.ty(like).dtype;
        self.floats(dtype, &[], vec![value])
    }

    /// Zeros of the type of `like`.
    pub fn zeros(&mut self, like: Value) -> Result<Value, OpError> {
        let shape = self.shape(like);
        let zero = self.number(like, 0.0);
        self.op(Expand { shape }, &[zero])
    }

    /// A function of one value.
    pub fn unary(&mut self, function: UnaryFn, a: Value) -> Result<Value, OpError> {
        self.op(Unary { function }, &[a])
    }

    /// A function of two values, which broadcast.
    pub fn binary(&mut self, function: BinaryFn, a: Value, b: Value) -> Result<Value, OpError> {
        self.op(Binary { function }, &[a, b])
    }

    /// `a + b`
    pub fn add(&mut self, a: Value, b: Value) -> Result<Value, OpError> {
        self.binary(BinaryFn::Add, a, b)
    }

    /// `a - b`
    pub fn sub(&mut self, a: Value, b: Value) -> Result<Value, OpError> {
        self.binary(BinaryFn::Sub, a, b)
    }

    /// `a * b`
    pub fn mul(&mut self, a: Value, b: Value) -> Result<Value, OpError> {
        self.binary(BinaryFn::Mul, a, b)
    }

    /// `a / b`
    pub fn div(&mut self, a: Value, b: Value) -> Result<Value, OpError> {
        self.binary(BinaryFn::Div, a, b)
    }

    /// `factor * a`; `a` itself if the factor is 1.
    pub fn times(&mut self, a: Value, factor: f64) -> Result<Value, OpError> {
        if factor == 1.0 {
            return Ok(a);
        }
        let factor = self.number(a, factor);
        self.mul(a, factor)
    }

    /// `a` where `condition` holds, else `b`; all three broadcast.
    pub fn choose(&mut self, condition: Value, a: Value, b: Value) -> Result<Value, OpError> {
        self.op(Where {}, &[condition, a, b])
    }

    /// `a` where `condition` holds, else 0.
    pub fn masked(&mut self, condition: Value, a: Value) -> Result<Value, OpError> {
        let zero = self.number(a, 0.0);
        self.choose(condition, a, zero)
    }

    /// `a` in another shape; itself if it has that.
    pub fn reshape(&mut self, a: Value, shape: &[usize]) -> Result<Value, OpError> {
        if self.ty(a).shape[..] == *shape { Ok(a) } else { self.op(Reshape { shape: shape.to_vec() }, &[a]) }
    }

    /// `a` with its axes in another order; itself if that is its order.
    pub fn transpose(&mut self, a: Value, perm: &[usize]) -> Result<Value, OpError> {
        if perm.is_sorted() { Ok(a) } else { self.op(Transpose { perm: perm.to_vec() }, &[a]) }
    }

    /// `a` repeated to a shape that it broadcasts to; itself if it has that.
    pub fn expand(&mut self, a: Value, shape: &[usize]) -> Result<Value, OpError> {
        if self.ty(a).shape[..] == *shape { Ok(a) } else { self.op(Expand { shape: shape.to_vec() }, &[a]) }
    }

    /// The sum of `a` over `axes`, which stay with extent 1 if `keepdims`.
    pub fn sum(&mut self, a: Value, axes: Vec<usize>, keepdims: bool) -> Result<Value, OpError> {
        if axes.is_empty() { Ok(a) } else { self.op(Reduce { kind: ReduceKind::Sum, axes, keepdims }, &[a]) }
    }

    /// What broadcasting to the shape of `a` makes of a value of `shape`, undone: the sum over what was repeated.
    pub fn sum_to(&mut self, a: Value, shape: &[usize]) -> Result<Value, OpError> {
        let own = self.shape(a);
        let missing = own.len().saturating_sub(shape.len());
        let repeated = |axis: &usize| *axis < missing || (shape[*axis - missing] == 1 && own[*axis] != 1);
        let sum = self.sum(a, (0..own.len()).filter(repeated).collect(), false)?;
        self.reshape(sum, shape)
    }

    /// The sum of `a [N, C, …]` over all axes but the channels: `[C]`.
    pub fn sum_channels(&mut self, a: Value) -> Result<Value, OpError> {
        let axes = (0..self.ty(a).shape.rank()).filter(|axis| *axis != 1).collect();
        self.sum(a, axes, false)
    }

    /// `v [C]` as it multiplies the channels of a value of the rank of `like`: `[C, 1, …]`.
    pub fn channels(&mut self, v: Value, like: Value) -> Result<Value, OpError> {
        let shape: Vec<usize> =
            [self.ty(v).shape[0]].into_iter().chain((2..self.ty(like).shape.rank()).map(|_| 1)).collect();
        self.reshape(v, &shape)
    }

    /// Adds to `axis` of `a` a product with a known matrix: element `i` of the result is the sum over `o` of `rows[o][i] a[o]`.
    /// `rows` has a row of `extent` entries, sparse, for each element of the axis.
    pub fn spread(
        &mut self,
        a: Value,
        axis: usize,
        extent: usize,
        rows: &[Vec<(usize, f64)>],
    ) -> Result<Value, OpError> {
        let (shape, dtype) = (self.shape(a), self.ty(a).dtype);
        let mut matrix = vec![0.0; rows.len() * extent];
        for (o, row) in rows.iter().enumerate() {
            row.iter().for_each(|(i, weight)| matrix[i * rows.len() + o] += weight);
        }
        let matrix = self.floats(dtype, &[extent, rows.len()], matrix);
        let (before, after) = (shape[..axis].iter().product(), shape[axis + 1..].iter().product());
        let flat = self.reshape(a, &[before, rows.len(), after])?;
        let product = self.op(MatMul {}, &[matrix, flat])?;
        let result: Vec<usize> =
            shape[..axis].iter().copied().chain([extent]).chain(shape[axis + 1..].iter().copied()).collect();
        self.reshape(product, &result)
    }

    /// `a` converted to another element type; itself if it has that.
    pub fn cast(&mut self, a: Value, to: DType) -> Result<Value, OpError> {
        if self.ty(a).dtype == to { Ok(a) } else { self.op(Cast { to }, &[a]) }
    }
}
