//! The graphs over variables alone: the gradient of every parameter, and the step of the optimiser.

use std::collections::BTreeMap;

use super::arithmetic::{Arithmetic, filled};
use super::gradients::{Built, folded_name, gradient_name};
use super::optimiser::{Rates, one, state_name, step};
use super::{TrainingOptions, fold};
use crate::differentiate::pull_back;
use crate::error::Result;
use crate::graph::{Graph, GraphBuilder, ValueId};
use crate::ops::reduce::ReduceKind;
use crate::ops::{Reduce, Reshape};
use crate::scalar::UnaryFn;
use crate::types::{Constant, TensorType};

/// Added to the norm before the factor that clips is taken, as torch does.
const CLIP_EPSILON: f64 = 1e-6;

/// The variables that all graphs of a training have, in order. What they begin with, the gradients graph alone says: here they are zeros,
/// which take no memory until they are written.
pub struct Variables {
    all: Vec<Variable>,
}

struct Variable {
    node: String,
    key: String,
    initial: Constant,
    is_parameter: bool,
}

impl Variables {
    /// Those of the gradients graph.
    pub fn of(built: &Built) -> Self {
        let nodes = built.graph.variables().iter().map(|id| built.graph.node(*id));
        let all = nodes.filter_map(|node| {
            let variable = node.variable()?;
            Some(Variable {
                node: node.name.clone(),
                key: variable.name.clone(),
                initial: filled(&variable.initial.ty, 0.0),
                is_parameter: node.mnemonic() == "parameter",
            })
        });
        Self { all: all.collect() }
    }

    /// Declares them; their values by name.
    fn declare(&self, b: &mut GraphBuilder) -> BTreeMap<String, ValueId> {
        let mut values = BTreeMap::new();
        for variable in &self.all {
            let (node, key, initial) = (&variable.node, variable.key.clone(), variable.initial.clone());
            let value =
                if variable.is_parameter { b.parameter(node, key, initial) } else { b.state(node, key, initial) };
            values.insert(variable.key.clone(), value);
        }
        values
    }
}

/// The parameters of a graph, and their gradients as the states sum them up, taken back through the folding of batch norms.
fn gradients(
    b: &mut GraphBuilder,
    built: &Built,
    variables: &BTreeMap<String, ValueId>,
) -> Result<(Vec<ValueId>, Vec<Option<ValueId>>)> {
    let parameters: Vec<ValueId> = built.parameters.iter().map(|parameter| variables[&parameter.name]).collect();
    let mut known = Vec::new();
    for (parameter, value) in built.parameters.iter().zip(&parameters) {
        known.extend(variables.get(&gradient_name(&parameter.name)).map(|gradient| (*value, *gradient)));
    }
    for fold in &built.folds {
        for (part, value) in fold::folded(b, fold, &parameters)?.into_iter().enumerate() {
            let gradient = variables.get(&gradient_name(&folded_name(fold, part)));
            known.extend(gradient.map(|gradient| (value, *gradient)));
        }
    }
    let gradients = pull_back(b, &known, &parameters)?;
    Ok((parameters, gradients))
}

/// The graph whose outputs are the gradients of the parameters.
pub fn mapped(built: &Built, variables: &Variables) -> Result<Graph> {
    let mut b = GraphBuilder::new(format!("{}.mapped", built.graph.name));
    let values = variables.declare(&mut b);
    let (_, gradients) = gradients(&mut b, built, &values)?;
    for (parameter, gradient) in built.parameters.iter().zip(gradients) {
        if let Some(gradient) = gradient {
            b.output(&parameter.name, gradient);
        }
    }
    Ok(b.finish())
}

/// The graph of a step.
pub fn update(built: &Built, variables: &Variables, options: &TrainingOptions<'_>) -> Result<Graph> {
    let mut b = GraphBuilder::new(format!("{}.update", built.graph.name));
    let scalar = one(&built.parameters[0].initial.ty);
    let lr = rate(&mut b, "lr", &scalar)?;
    let own = options.optimiser.inputs().iter().map(|name| rate(&mut b, name, &scalar)).collect::<Result<Vec<_>>>()?;
    let clip = if options.clip { Some(rate(&mut b, "clip", &scalar)?) } else { None };
    let ema = if options.ema { Some(rate(&mut b, "ema", &scalar)?) } else { None };
    let values = variables.declare(&mut b);
    let (parameters, mut gradients) = gradients(&mut b, built, &values)?;
    if let Some(clip) = clip {
        clipped(&mut b, clip, &mut gradients)?;
    }
    let (rates, mut after) = (Rates { lr, own }, parameters.clone());
    for (i, parameter) in built.parameters.iter().enumerate() {
        let Some(gradient) = gradients[i] else { continue };
        let setting = (options.setting)(&parameter.name, &parameter.initial.ty);
        let names: Vec<String> =
            options.optimiser.states().iter().map(|(state, _)| state_name(state, &parameter.name)).collect();
        let states: Vec<ValueId> = names.iter().map(|name| values[name]).collect();
        let mut a = Arithmetic::new(&mut b, &parameter.name);
        let stepped = step(&mut a, options.optimiser, setting, &rates, parameters[i], gradient, &states)?;
        b.update(parameters[i], stepped.parameter);
        states.iter().zip(stepped.states).for_each(|(state, next)| b.update(*state, next));
        after[i] = stepped.parameter;
    }
    if let Some(ema) = ema {
        average(&mut b, built, &values, &after, ema)?;
    }
    for fold in &built.folds {
        for (part, value) in fold::folded(&mut b, fold, &after)?.into_iter().enumerate() {
            b.update(values[&folded_name(fold, part)], value);
        }
    }
    for name in built.leaves.iter().map(|name| gradient_name(name)) {
        let zeros = Arithmetic::new(&mut b, &name).zeros(values[&name])?;
        b.update(values[&name], zeros);
    }
    Ok(b.finish())
}

/// An input of one element, as a value without axes.
fn rate(b: &mut GraphBuilder, name: &str, ty: &TensorType) -> Result<ValueId> {
    let input = b.input_of(name, ty.clone());
    b.op_from(&format!("{name}.value"), Reshape { shape: Vec::new() }, &[input], Vec::new())
}

/// Multiplies gradients by `min(1, clip / (norm + 1e-6))`; their norm becomes an output.
fn clipped(b: &mut GraphBuilder, clip: ValueId, gradients: &mut [Option<ValueId>]) -> Result<()> {
    let mut a = Arithmetic::new(b, "clip");
    let mut total: Option<ValueId> = None;
    for gradient in gradients.iter().flatten() {
        let axes = (0..a.b.ty(*gradient).shape.rank()).collect();
        let square = a.op(Reduce { kind: ReduceKind::SumSquare, axes, keepdims: false }, &[*gradient])?;
        total = Some(total.map_or(Ok(square), |total| a.add(total, square))?);
    }
    let Some(total) = total else { return Ok(()) };
    let norm = a.unary(UnaryFn::Sqrt, total)?;
    let shifted = a.plus(norm, CLIP_EPSILON)?;
    let (ratio, one) = (a.div(clip, shifted)?, a.number(norm, 1.0));
    let factor = a.min(one, ratio)?;
    for gradient in gradients.iter_mut().flatten() {
        *gradient = a.mul(*gradient, factor)?;
    }
    let output = a.reshape(norm, &[1])?;
    b.output("norm", output);
    Ok(())
}

/// Moves the averages: `e = d e + (1 - d) w`, `w` being a parameter after the step, or a running average.
fn average(
    b: &mut GraphBuilder,
    built: &Built,
    values: &BTreeMap<String, ValueId>,
    after: &[ValueId],
    kept: ValueId,
) -> Result<()> {
    let parameters = built.parameters.iter().zip(after).map(|(parameter, value)| (&parameter.name, *value));
    let running = built.running.iter().map(|name| (name, values[name]));
    for (name, value) in parameters.chain(running).collect::<Vec<_>>() {
        let state = values[&state_name("ema", name)];
        let mut a = Arithmetic::new(b, state_name("ema", name));
        let one = a.number(kept, 1.0);
        let share = a.sub(one, kept)?;
        let (old, new) = (a.mul(state, kept)?, a.mul(value, share)?);
        let next = a.add(old, new)?;
        b.update(state, next);
    }
    Ok(())
}
