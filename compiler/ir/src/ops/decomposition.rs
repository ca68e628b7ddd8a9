//! What an operator is in terms of others: how operators are computed that have no kernels of their own.
//!
//! In: the types of an operator's operands. Out: steps, each an operator of the table over operands and earlier results. Invariant:
//! every step has passed the shape rule of its operator.

use super::Op;
use crate::error::OpError;
use crate::types::TensorType;

/// An operator in terms of others. Its values have numbers: first the operands, then the results of each step.
#[derive(Clone, PartialEq, Debug)]
pub struct Decomposition {
    /// The type of each value.
    types: Vec<TensorType>,
    /// The steps, in the order in which they are computed.
    pub steps: Vec<Step>,
    /// The results of the operator, by their numbers; none of them is an operand.
    pub results: Vec<usize>,
}

/// A step of a decomposition.
#[derive(Clone, PartialEq, Debug)]
pub struct Step {
    /// What it computes.
    pub op: Op,
    /// From which values.
    pub operands: Vec<usize>,
    /// The types of its results.
    pub types: Vec<TensorType>,
}

impl Decomposition {
    /// One without steps, over operands of these types.
    pub fn over(operands: &[&TensorType]) -> Self {
        Self { types: operands.iter().copied().cloned().collect(), steps: Vec::new(), results: Vec::new() }
    }

    /// Adds a step; the number of its first result.
    ///
    /// # Errors
    /// What the operator's shape rule says.
    pub fn step(&mut self, op: impl Into<Op>, operands: &[usize]) -> Result<usize, OpError> {
        let op = op.into();
        let inputs: Vec<&TensorType> = operands.iter().filter_map(|number| self.types.get(*number)).collect();
        let (types, first) = (op.infer(&inputs)?, self.types.len());
        self.types.extend(types.iter().cloned());
        self.steps.push(Step { op, operands: operands.to_vec(), types });
        Ok(first)
    }

    /// The decomposition with its results.
    pub fn with_results(self, results: impl IntoIterator<Item = usize>) -> Self {
        Self { results: results.into_iter().collect(), ..self }
    }

    /// The type of a value.
    pub fn ty(&self, number: usize) -> &TensorType {
        &self.types[number]
    }

    /// For each value, whether one of the results `wanted` takes it.
    pub fn needed(&self, wanted: &[bool]) -> Vec<bool> {
        let mut needed = vec![false; self.types.len()];
        for (number, wanted) in self.results.iter().zip(wanted) {
            needed[*number] |= *wanted;
        }
        let mut first = self.types.len();
        for step in self.steps.iter().rev() {
            first -= step.types.len();
            if needed[first..first + step.types.len()].contains(&true) {
                step.operands.iter().for_each(|operand| needed[*operand] = true);
            }
        }
        needed
    }
}

#[cfg(test)]
pub(crate) use tests::evaluate;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::literal::Literal;
    use crate::ops::{Split, Unary};
    use crate::scalar::UnaryFn;

    /// The results of an operator by its decomposition, if it has one.
    pub(crate) fn evaluate(op: &Op, inputs: &[&Literal]) -> Result<Option<Vec<Literal>>, OpError> {
        let types: Vec<&TensorType> = inputs.iter().map(|x| &x.ty).collect();
        let Some(parts) = op.decompose(&types)? else { return Ok(None) };
        let mut values: Vec<Literal> = inputs.iter().copied().cloned().collect();
        for step in &parts.steps {
            let operands: Vec<&Literal> = step.operands.iter().map(|number| &values[*number]).collect();
            let results = step.op.evaluate(&operands)?;
            values.extend(results);
        }
        Ok(Some(parts.results.iter().map(|number| values[*number].clone()).collect()))
    }

    #[test]
    fn what_no_result_takes_is_not_needed() -> Result<(), OpError> {
        let x = TensorType::f32([4]);
        let mut parts = Decomposition::over(&[&x]);
        let neg = parts.step(Unary { function: UnaryFn::Neg }, &[0])?;
        let split = parts.step(Split { axis: 0, sizes: vec![1, 3] }, &[neg])?;
        let exp = parts.step(Unary { function: UnaryFn::Exp }, &[split + 1])?;
        let parts = parts.with_results([split, exp]);
        assert_eq!((neg, split, exp), (1, 2, 4));
        assert_eq!(parts.ty(exp), &TensorType::f32([3]));
        assert_eq!(parts.needed(&[true, false]), [true, true, true, false, false]);
        assert_eq!(parts.needed(&[false, true]), [true, true, false, true, true]);
        assert_eq!(parts.needed(&[false, false]), [false; 5]);
        Ok(())
    }

    #[test]
    fn steps_keep_shape_rules() {
        let x = TensorType::f32([4]);
        let error = Decomposition::over(&[&x]).step(Split { axis: 1, sizes: vec![4] }, &[0]).unwrap_err();
        assert_eq!(error.field, "axis");
    }
}
