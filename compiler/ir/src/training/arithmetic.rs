//! Element-wise arithmetic over values of a graph under construction.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::error::Result;
use crate::graph::{GraphBuilder, ValueId};
use crate::ops::literal::Literal;
use crate::ops::{Binary, Expand, Op, Reshape, Unary};
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{Constant, TensorType};

/// Adds operators whose names begin with that of what they are for.
pub struct Arithmetic<'a> {
    /// The graph.
    pub b: &'a mut GraphBuilder,
    /// What the operators are for.
    pub name: String,
}

impl<'a> Arithmetic<'a> {
    /// Arithmetic for the value called `name`.
    pub fn new(b: &'a mut GraphBuilder, name: impl Into<String>) -> Self {
        Self { b, name: name.into() }
    }

    /// Any operator of one result.
    pub fn op(&mut self, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId> {
        let op = op.into();
        let name = format!("{}.{}", self.name, op.name());
        self.b.op_from(&name, op, operands, Vec::new())
    }

    /// A number of the element type of `like`.
    pub fn number(&mut self, like: ValueId, value: f64) -> ValueId {
        let ty = TensorType::new(self.b.ty(like).dtype, []);
        self.b.constant(&format!("{}.number", self.name), Literal::new_float(ty, vec![value]).to_constant())
    }

    /// A function of one value.
    pub fn unary(&mut self, function: UnaryFn, a: ValueId) -> Result<ValueId> {
        self.op(Unary { function }, &[a])
    }

    fn binary(&mut self, function: BinaryFn, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.op(Binary { function }, &[a, b])
    }

    /// `a + b`
    pub fn add(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Add, a, b)
    }

    /// `a - b`
    pub fn sub(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Sub, a, b)
    }

    /// `a * b`
    pub fn mul(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Mul, a, b)
    }

    /// `a / b`
    pub fn div(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Div, a, b)
    }

    /// `min(a, b)`
    pub fn min(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Min, a, b)
    }

    /// `factor * a`; `a` itself if the factor is 1.
    pub fn times(&mut self, a: ValueId, factor: f64) -> Result<ValueId> {
        if factor == 1.0 {
            return Ok(a);
        }
        let factor = self.number(a, factor);
        self.mul(a, factor)
    }

    /// `a + number`
    pub fn plus(&mut self, a: ValueId, number: f64) -> Result<ValueId> {
        let number = self.number(a, number);
        self.add(a, number)
    }

    /// `a + factor (b - a)`
    pub fn towards(&mut self, a: ValueId, b: ValueId, factor: f64) -> Result<ValueId> {
        let distance = self.sub(b, a)?;
        let step = self.times(distance, factor)?;
        self.add(a, step)
    }

    /// `a` in another shape.
    pub fn reshape(&mut self, a: ValueId, shape: Vec<usize>) -> Result<ValueId> {
        if self.b.ty(a).shape[..] == shape[..] { Ok(a) } else { self.op(Reshape { shape }, &[a]) }
    }

    /// Zeros of the type of `like`.
    pub fn zeros(&mut self, like: ValueId) -> Result<ValueId> {
        let (zero, shape) = (self.number(like, 0.0), self.b.ty(like).shape.to_vec());
        self.op(Expand { shape }, &[zero])
    }
}

/// Elements of a float type, all equal.
pub fn filled(ty: &TensorType, value: f64) -> Constant {
    if value == 0.0 && value.is_sign_positive() {
        return Constant::from_bytes(ty.clone(), zeros(ty.bytes()));
    }
    Literal::new_float(ty.clone(), vec![value; ty.shape.numel()]).to_constant()
}

/// Zeros, which are the same few pages for all constants, unless there are too many of them.
fn zeros(bytes: usize) -> Bytes {
    const SHARED: usize = 16 << 20;
    static ZEROS: LazyLock<Bytes> = LazyLock::new(|| fornax_runtime::zeros(SHARED).unwrap_or_default());
    if bytes <= ZEROS.len() { ZEROS.slice(..bytes) } else { vec![0; bytes].into() }
}
