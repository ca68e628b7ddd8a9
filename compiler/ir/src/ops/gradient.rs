//! What a gradient rule sees and says: graph in, graph out, without the graph.
//!
//! In: the types of an operator's operands and results, which gradients of results there are and which of operands are wanted. Out:
//! terms, each a constant or an operator over earlier values, and for each operand the value that is its gradient. Invariants: every
//! term has passed the shape rule of its operator, and a gradient has the type of its operand.

use super::arithmetic::arithmetic;
use super::literal::Literal;
use super::shapes::check;
use super::{Cast, Expand, MatMul, Op, Reduce, Transpose, Where};
use crate::error::OpError;
use crate::types::{Constant, DType, TensorType};

/// A value of a gradient rule: an operand, a result, the gradient of a result, or a result of a term, numbered in this order.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Value(usize);

impl Value {
    /// Its number.
    pub fn number(self) -> usize {
        self.0
    }
}

/// A step of a gradient.
#[derive(Clone, Debug)]
pub enum Term {
    /// Elements that are known.
    Constant(Constant),
    /// An operator over earlier values, and how many results it has.
    Op(Op, Vec<Value>, usize),
}

/// The gradient of one operator under construction.
#[derive(Debug)]
pub struct GradientContext<'a> {
    types: Vec<TensorType>,
    known: Vec<Option<&'a Constant>>,
    wanted: Vec<bool>,
    results: usize,
    upstream: Vec<Option<Value>>,
    terms: Vec<Term>,
    gradients: Vec<Option<Value>>,
}

/// What a rule has made: its terms, and the gradient of each operand; none: zero.
#[derive(Debug)]
pub struct Gradient {
    /// The steps, in order.
    pub terms: Vec<Term>,
    /// The gradient of each operand.
    pub gradients: Vec<Option<Value>>,
}

/// An operand as a rule sees it.
#[derive(Clone, Copy, Debug)]
pub struct Operand<'a> {
    /// Its type.
    pub ty: &'a TensorType,
    /// Its elements, if they are known.
    pub known: Option<&'a Constant>,
    /// Whether its gradient is wanted.
    pub wanted: bool,
}

impl<'a> GradientContext<'a> {
    /// A context without terms. `results` are the types of the results and whether there is a gradient of each.
    pub fn new(operands: &[Operand<'a>], results: &[(&TensorType, bool)]) -> Self {
        let mut types: Vec<TensorType> = operands.iter().map(|operand| operand.ty.clone()).collect();
        types.extend(results.iter().map(|(ty, _)| (*ty).clone()));
        let mut upstream = Vec::with_capacity(results.len());
        for (ty, there) in results {
            upstream.push(there.then_some(Value(types.len())));
            types.extend(there.then(|| (*ty).clone()));
        }
        Self {
            types,
            known: operands.iter().map(|operand| operand.known).collect(),
            wanted: operands.iter().map(|operand| operand.wanted).collect(),
            results: results.len(),
            upstream,
            terms: Vec::new(),
            gradients: vec![None; operands.len()],
        }
    }

    /// What the rule has made.
    pub fn finish(self) -> Gradient {
        Gradient { terms: self.terms, gradients: self.gradients }
    }

    /// Number of operands.
    pub fn operands(&self) -> usize {
        self.known.len()
    }

    /// Number of results.
    pub fn results(&self) -> usize {
        self.results
    }

    /// An operand.
    pub fn operand(&self, slot: usize) -> Value {
        Value(slot)
    }

    /// A result.
    pub fn result(&self, result: usize) -> Value {
        Value(self.operands() + result)
    }

    /// The gradient of a result; none: zero.
    pub fn upstream(&self, result: usize) -> Option<Value> {
        self.upstream.get(result).copied().flatten()
    }

    /// The gradient of the only result.
    ///
    /// # Errors
    /// If there is none, which a rule is not asked about.
    pub fn dy(&self) -> Result<Value, OpError> {
        self.upstream(0).ok_or_else(|| OpError::new("gradient", "that of the first result", "none"))
    }

    /// Whether the gradient of an operand is wanted; that of another need not be set.
    pub fn wanted(&self, slot: usize) -> bool {
        self.wanted.get(slot).copied().unwrap_or(false)
    }

    /// The elements of an operand, if they are known.
    pub fn known(&self, slot: usize) -> Option<&'a Constant> {
        self.known.get(slot).copied().flatten()
    }

    /// The type of a value.
    pub fn ty(&self, value: Value) -> &TensorType {
        &self.types[value.0]
    }

    /// The extents of a value.
    pub fn shape(&self, value: Value) -> Vec<usize> {
        self.ty(value).shape.to_vec()
    }

    /// Makes `value` the gradient of an operand.
    ///
    /// # Errors
    /// If it is of another type.
    pub fn set(&mut self, slot: usize, value: Value) -> Result<(), OpError> {
        let (expected, found) = (&self.types[slot], self.ty(value));
        check(expected == found, "gradient", || expected.to_string(), || found.to_string())?;
        self.gradients[slot] = Some(value);
        Ok(())
    }

    /// Adds an operator of one result.
    ///
    /// # Errors
    /// What its shape rule says.
    pub fn op(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Value, OpError> {
        let results = self.ops(op, operands)?;
        results.first().copied().ok_or_else(|| OpError::new("results", "at least one", "none"))
    }

    /// Adds an operator of any number of results.
    ///
    /// # Errors
    /// What its shape rule says.
    pub fn ops(&mut self, op: impl Into<Op>, operands: &[Value]) -> Result<Vec<Value>, OpError> {
        let op = op.into();
        let inputs: Vec<&TensorType> = operands.iter().map(|value| self.ty(*value)).collect();
        let types = op.infer(&inputs)?;
        self.terms.push(Term::Op(op, operands.to_vec(), types.len()));
        let first = self.types.len();
        self.types.extend(types);
        Ok((first..self.types.len()).map(Value).collect())
    }

    /// Adds a constant.
    pub fn constant(&mut self, constant: Constant) -> Value {
        self.types.push(constant.ty.clone());
        self.terms.push(Term::Constant(constant));
        Value(self.types.len() - 1)
    }

    /// Adds a constant of floating-point elements.
    pub fn floats(&mut self, dtype: DType, shape: &[usize], values: Vec<f64>) -> Value {
        self.constant(Literal::new_float(TensorType::new(dtype, shape), values).to_constant())
    }

    arithmetic!(Value, OpError);

    /// `a` where `condition` holds, else `b`; all three broadcast.
    pub fn choose(&mut self, condition: Value, a: Value, b: Value) -> Result<Value, OpError> {
        self.op(Where {}, &[condition, a, b])
    }

    /// `a` where `condition` holds, else 0.
    pub fn masked(&mut self, condition: Value, a: Value) -> Result<Value, OpError> {
        let zero = self.number(a, 0.0);
        self.choose(condition, a, zero)
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
        if axes.is_empty() { Ok(a) } else { self.op(Reduce { axes, keepdims, ..Reduce::default() }, &[a]) }
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

/// What an operator without a rule answers.
pub(super) fn no_rule(name: &str) -> OpError {
    OpError::new("gradient", "an operator with a gradient rule", name)
}
