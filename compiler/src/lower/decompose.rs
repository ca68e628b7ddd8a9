//! Lowering of operators that have none of their own: each part of their decomposition in turn.

use super::context::{LoweredValue, Lowering, Pending};
use super::lower_op;
use fornax_ir::OpError;
use fornax_ir::ops::Op;
use fornax_ir::types::TensorType;

/// Adds the kernels of the parts that the used results of an operator take.
pub(super) fn lower(op: &Op, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let types: Vec<&TensorType> = cx.operands.iter().map(|operand| &operand.ty).collect();
    let missing = || OpError::new("operator", "one with a lowering or a decomposition", op.name());
    let parts = op.decompose(&types)?.ok_or_else(missing)?;
    let used: Vec<bool> = cx.results.iter().map(|result| result.used).collect();
    let needed = parts.needed(&used);
    let operands = cx.operands.len();
    let mut values: Vec<Option<LoweredValue>> = cx.operands.drain(..).map(Some).collect();
    for step in &parts.steps {
        let first = values.len();
        let numbers = first..first + step.types.len();
        values.resize(numbers.end, None);
        if !needed[numbers.clone()].contains(&true) {
            continue;
        }
        let pending = |(number, ty): (usize, &TensorType)| {
            let result = parts.results.iter().position(|result| *result == number);
            let name = result.map_or(cx.node, |result| cx.results[result].name);
            Pending { name, ty: ty.clone(), used: needed[number], view: None }
        };
        let results = numbers.zip(&step.types).map(pending).collect();
        let mut inner = Lowering {
            plan: &mut *cx.plan,
            node: cx.node,
            origins: cx.origins,
            parts: cx.parts,
            current: cx.current.clone(),
            operands: step.operands.iter().filter_map(|number| values[*number].clone()).collect(),
            ty: step.types[0].clone(),
            results,
            exact: cx.exact,
            narrow: cx.narrow,
            // Which of the parts reads which is not looked at.
            discrete: true,
        };
        lower_op(&step.op, &mut inner)?;
        let Lowering { operands, results, .. } = inner;
        for (number, operand) in step.operands.iter().zip(operands) {
            values[*number] = Some(operand);
        }
        for (number, Pending { ty, view, .. }) in (first..).zip(results) {
            values[number] = view.map(|view| LoweredValue { ty, constant: None, views: vec![view] });
        }
    }
    for (result, number) in cx.results.iter_mut().zip(&parts.results) {
        result.view = values[*number].as_ref().and_then(|value| value.views.first().copied());
    }
    cx.operands = values.into_iter().take(operands).flatten().collect();
    Ok(())
}
