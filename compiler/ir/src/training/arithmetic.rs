//! Element-wise arithmetic over values of a graph under construction.

use std::sync::LazyLock;

use bytes::Bytes;

use crate::error::{Error, Result};
use crate::graph::{GraphBuilder, ValueId};
use crate::ops::Op;
use crate::ops::arithmetic::arithmetic;
use crate::ops::literal::Literal;
use crate::scalar::BinaryFn;
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

    /// The type of a value.
    fn ty(&self, value: ValueId) -> &TensorType {
        self.b.ty(value)
    }

    /// A constant.
    fn constant(&mut self, constant: Constant) -> ValueId {
        self.b.constant(&format!("{}.number", self.name), constant)
    }

    arithmetic!(ValueId, Error);

    /// `min(a, b)`
    pub fn min(&mut self, a: ValueId, b: ValueId) -> Result<ValueId> {
        self.binary(BinaryFn::Min, a, b)
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
