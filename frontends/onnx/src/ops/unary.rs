//! Element-wise functions of one operand that ONNX has under a name of its own: one row each, for the import and the export.

use fornax_ir::graph::ValueId;
use fornax_ir::scalar::UnaryFn;

use crate::context::Context;
use crate::error::Result;

use super::support::unary;

/// A function that is an ONNX operator.
pub(crate) struct Function {
    /// Name of the operator.
    pub name: &'static str,
    /// First version of the operator set that has it.
    pub since: i64,
    /// Mnemonic of the [`UnaryFn`].
    pub mnemonic: &'static str,
    /// The attributes that are its parameters, in order, with their defaults.
    pub parameters: &'static [(&'static str, f32)],
}

const fn row(
    name: &'static str,
    since: i64,
    mnemonic: &'static str,
    parameters: &'static [(&'static str, f32)],
) -> Function {
    Function { name, since, mnemonic, parameters }
}

/// Every function, in the order of the names. Celu, Relu and Selu have an import of their own, which goes first.
pub(crate) const FUNCTIONS: &[Function] = &[
    row("Abs", 1, "abs", &[]),
    row("Ceil", 1, "ceil", &[]),
    row("Celu", 12, "celu", &[("alpha", 1.0)]),
    row("Cos", 7, "cos", &[]),
    row("Elu", 1, "elu", &[("alpha", 1.0)]),
    row("Erf", 9, "erf", &[]),
    row("Exp", 1, "exp", &[]),
    row("Floor", 1, "floor", &[]),
    row("HardSigmoid", 1, "hard_sigmoid", &[("alpha", 0.2), ("beta", 0.5)]),
    row("HardSwish", 14, "hard_swish", &[]),
    row("IsNaN", 9, "is_nan", &[]),
    row("LeakyRelu", 1, "leaky_relu", &[("alpha", 0.01)]),
    row("Log", 1, "log", &[]),
    row("Mish", 18, "mish", &[]),
    row("Neg", 1, "neg", &[]),
    row("Not", 1, "not", &[]),
    row("Reciprocal", 1, "reciprocal", &[]),
    row("Relu", 1, "relu", &[]),
    row("Round", 11, "round", &[]),
    row("Selu", 1, "selu", &[("alpha", 1.673_263_2), ("gamma", 1.050_701)]),
    row("Sigmoid", 1, "sigmoid", &[]),
    row("Sign", 9, "sign", &[]),
    row("Sin", 7, "sin", &[]),
    row("Softplus", 1, "softplus", &[]),
    row("Softsign", 1, "softsign", &[]),
    row("Sqrt", 1, "sqrt", &[]),
    row("Swish", 24, "swish", &[("alpha", 1.0)]),
    row("Tanh", 1, "tanh", &[]),
    row("ThresholdedRelu", 1, "thresholded_relu", &[("alpha", 1.0)]),
];

/// The function of an operator.
pub(crate) fn of_name(name: &str) -> Option<&'static Function> {
    FUNCTIONS.iter().find(|row| row.name == name)
}

/// The operator of a function at a version of the operator set, and the function's parameters.
pub(crate) fn of_function(function: UnaryFn, version: i64) -> Option<(&'static Function, Vec<f32>)> {
    let (mnemonic, parameters) = function.spelling();
    let row = FUNCTIONS.iter().find(|row| row.mnemonic == mnemonic && row.since <= version)?;
    Some((row, parameters))
}

/// Imports a function of the table.
pub(crate) fn import(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let known = || cx.error("op_type", "a function of one operand", cx.op_type());
    let row = of_name(cx.op_type()).ok_or_else(known)?;
    let parameters = row.parameters.iter().map(|(name, default)| cx.attrs().float(name, *default));
    let parameters = parameters.collect::<Result<Vec<f32>>>()?;
    let function = UnaryFn::from_spelling(row.mnemonic, &parameters).ok_or_else(known)?;
    Ok(vec![unary(cx, function, x)?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_row_names_a_function() {
        for row in FUNCTIONS {
            let parameters: Vec<f32> = row.parameters.iter().map(|(_, default)| *default).collect();
            let function = UnaryFn::from_spelling(row.mnemonic, &parameters);
            let back = function.and_then(|function| of_function(function, row.since));
            assert!(back.is_some_and(|(found, _)| found.name == row.name), "{}", row.name);
        }
        assert!(FUNCTIONS.is_sorted_by(|a, b| a.name < b.name));
    }
}
