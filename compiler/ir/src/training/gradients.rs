//! The graph that computes a loss and adds its gradients to states.

use std::collections::BTreeMap;

use super::TrainingOptions;
use super::arithmetic::{Arithmetic, filled};
use super::fold;
use super::model::{Fold, Model, Parameter, Running};
use super::{drop, optimiser};
use crate::differentiate::differentiate;
use crate::error::{Error, OpError, Result};
use crate::graph::{Graph, GraphBuilder, NodeId, ValueId};
use crate::ops::reduce::ReduceKind;
use crate::ops::{BatchNorm, BatchStatistics, Conv, Expand, Gemm, Op, Reduce, Softmax};
use crate::scalar::UnaryFn;

/// The gradients graph, and what the other graphs need to know of it.
pub struct Built {
    /// The graph; its variables are those of all graphs.
    pub graph: Graph,
    /// The network alone, over the same variables.
    pub predict: Graph,
    /// Trained parameters.
    pub parameters: Vec<Parameter>,
    /// Folded batch norms.
    pub folds: Vec<Fold>,
    /// Names of the parameters and folded weights whose gradients are summed.
    pub leaves: Vec<String>,
    /// Names of running averages.
    pub running: Vec<String>,
    /// Names of residual blocks whose branches can be dropped.
    pub blocks: Vec<String>,
}

/// The name of the variable that holds the folded weights (0) or the folded bias (1) of a batch norm.
pub fn folded_name(fold: &Fold, part: usize) -> String {
    format!("folded.{}.{}", fold.name, ["weight", "bias"][part])
}

/// The name of the state that sums the gradients of a parameter or of folded weights.
pub fn gradient_name(name: &str) -> String {
    format!("grad.{name}")
}

/// Builds the gradients graph of a model.
pub fn build(model: Model<'_>, options: &TrainingOptions<'_>) -> Result<Built> {
    let mut b = GraphBuilder::of(model.graph.clone());
    let logits = logits(&mut b)?;
    let mut leaves: Vec<(String, ValueId)> = Vec::new();
    for parameter in &model.parameters {
        b.rename(parameter.value, "constant");
        let value = b.parameter(&parameter.name, &parameter.name, parameter.initial.clone());
        leaves.push((parameter.name.clone(), value));
    }
    for fold in &model.folds {
        let mut states = Vec::with_capacity(2);
        for (part, initial) in fold::initial(fold, &model.parameters)?.into_iter().enumerate() {
            let name = folded_name(fold, part);
            states.push(b.state(&name, &name, initial));
            leaves.push((name, states[part]));
        }
        let x = b.graph().operands(fold.conv)[0];
        b.graph_mut().set_op(fold.norm, Conv { bias: true, ..fold.op.clone() }.into(), &[x, states[0], states[1]]);
    }
    // What was folded reads its constants no more.
    for (parameter, (_, value)) in model.parameters.iter().zip(&leaves) {
        b.graph_mut().replace_uses(parameter.value, *value);
    }
    let network = b.graph().clone();
    let running = follow(&mut b, &model.running, options)?;
    if options.ema {
        optimiser::averages(&mut b, &model.parameters, &running);
    }
    let targets = b.input_of("targets", b.ty(logits).clone());
    if options.dropout {
        drop::dropout(&mut b, logits)?;
    }
    let blocks = if options.drop_path { drop::drop_path(&mut b)? } else { Vec::new() };
    let loss = loss(&mut b, logits, targets)?;
    b.graph_mut().set_outputs(vec![("loss".into(), loss), ("logits".into(), logits)]);
    b.graph_mut().remove_dead();
    let values: Vec<ValueId> = leaves.iter().map(|(_, value)| *value).collect();
    let last_uses = last_uses(&b, &values)?;
    let gradients = differentiate(&mut b, loss, &values)?;
    let (mut reached, mut missed) = (Vec::with_capacity(leaves.len()), Vec::new());
    for (((name, _), gradient), last_use) in leaves.into_iter().zip(gradients).zip(last_uses) {
        match gradient {
            Some(gradient) => reached.push((name, gradient, last_use)),
            None if used_directly(&model, &name) => {
                missed.push(format!("{name}: the loss changes with it in steps or not at all"))
            }
            None => {}
        }
    }
    if !missed.is_empty() {
        return Err(Error::NotDifferentiable(missed));
    }
    // Updates as the backward half comes to them: each sum is computed right after the gradient that it and the next layer read.
    let mut order: Vec<_> = reached.iter().collect();
    order.sort_by_key(|(.., last_use)| std::cmp::Reverse(*last_use));
    for (name, gradient, _) in order {
        accumulate(&mut b, name, *gradient)?;
    }
    optimiser::states(&mut b, &model.parameters, options.optimiser);
    let graph = b.finish().renumbered()?;
    let predict = predict(network, logits, &model, &graph, options)?;
    let Model { parameters, folds, .. } = model;
    let leaves = reached.into_iter().map(|(name, ..)| name).collect();
    Ok(Built { graph, predict, parameters, folds, leaves, running, blocks })
}

/// The network up to its logits, as it was before anything was added to it but parameters and folded weights: with the other variables of
/// `gradients`, of which it reads the running averages of batch norms; and the averages of all that it reads, where they are kept.
fn predict(
    network: Graph,
    logits: ValueId,
    model: &Model<'_>,
    gradients: &Graph,
    options: &TrainingOptions<'_>,
) -> Result<Graph> {
    let mut b = GraphBuilder::of(network);
    let own = b.graph().variables().to_vec();
    let mut states = BTreeMap::new();
    for id in &gradients.variables()[own.len()..] {
        let node = gradients.node(*id);
        if let Some(variable) = node.variable() {
            let state = b.state(&node.name, &variable.name, variable.initial.clone());
            states.insert(variable.name.clone(), state);
        }
    }
    if options.ema {
        average(&mut b, model, &own, &states)?;
    }
    for running in &model.running {
        let mut operands = b.graph().operands(running.norm);
        for (i, (key, _)) in running.averages.iter().enumerate() {
            let key = if options.ema { optimiser::state_name("ema", key) } else { key.clone() };
            operands[3 + i] = states.get(&key).copied().unwrap_or(operands[3 + i]);
        }
        if let Some(op) = b.graph().node(running.norm).op().cloned() {
            b.graph_mut().set_op(running.norm, op, &operands);
        }
    }
    b.graph_mut().set_outputs(vec![("logits".into(), logits)]);
    b.graph_mut().remove_dead();
    b.graph_mut().name.push_str(".predict");
    Ok(b.finish())
}

/// Lets a network read averages in place of the parameters among `variables`, and what is folded of them.
fn average(
    b: &mut GraphBuilder,
    model: &Model<'_>,
    variables: &[NodeId],
    states: &BTreeMap<String, ValueId>,
) -> Result<()> {
    let averages = model.parameters.iter().filter_map(|p| states.get(&optimiser::state_name("ema", &p.name)).copied());
    let averages: Vec<ValueId> = averages.collect();
    // The first variables are the parameters, in order.
    for (parameter, average) in variables.iter().zip(&averages) {
        b.graph_mut().replace_uses(*parameter, *average);
    }
    for fold in &model.folds {
        let [weight, bias] = fold::folded(b, fold, &averages)?;
        let x = b.graph().operands(fold.norm)[0];
        b.graph_mut().set_op(fold.norm, Conv { bias: true, ..fold.op.clone() }.into(), &[x, weight, bias]);
    }
    Ok(())
}

/// Where in the order of the graph each value is read last.
fn last_uses(b: &GraphBuilder, values: &[ValueId]) -> Result<Vec<usize>> {
    let order = b.graph().topological()?;
    let places: BTreeMap<NodeId, usize> = order.into_iter().zip(0..).collect();
    let last = |value: &ValueId| b.graph().users(*value).iter().filter_map(|(user, _)| places.get(user).copied()).max();
    Ok(values.iter().map(|value| last(value).unwrap_or(0)).collect())
}

/// Whether a leaf is no parameter that only folded weights are made of.
fn used_directly(model: &Model<'_>, name: &str) -> bool {
    let Some(number) = model.parameters.iter().position(|parameter| parameter.name == name) else { return true };
    let folded = model.folds.iter().flat_map(|fold| [fold.norm, fold.conv]).collect::<Vec<_>>();
    model.graph.users(model.parameters[number].value).iter().any(|(user, _)| !folded.contains(user))
}

/// The logits of the network, `[m, K]`: its output without a softmax.
fn logits(b: &mut GraphBuilder) -> Result<ValueId> {
    let graph = b.graph();
    let refuse =
        |field: &str, expected: &str, found: String| OpError::new(field, expected, found).at(&graph.name, "graph");
    if graph.inputs().len() != 1 {
        return Err(refuse("inputs", "one", graph.inputs().len().to_string()));
    }
    let [(_, output)] = graph.outputs() else {
        return Err(refuse("outputs", "one", graph.outputs().len().to_string()));
    };
    let mut value = *output;
    while let Some(Op::Softmax(_) | Op::Identity(_)) = graph.producer(value).op() {
        value = graph.operands(value.node)[0];
    }
    let ty = graph.ty(value);
    let classes = ty.shape.iter().skip(1).product::<usize>();
    let images = graph.ty(graph.inputs()[0]).shape.first().copied();
    let flat = ty.shape.rank() >= 2 && ty.shape.iter().skip(1).filter(|extent| **extent > 1).count() <= 1;
    if !ty.dtype.is_float() || !flat || images != ty.shape.first().copied() {
        return Err(refuse("output", "logits [images, classes]", ty.to_string()));
    }
    let shape = vec![ty.shape[0], classes];
    Arithmetic::new(b, "logits").reshape(value, &shape)
}

/// Cross-entropy with soft targets, for each image: minus the sum over classes of target times log softmax.
fn loss(b: &mut GraphBuilder, logits: ValueId, targets: ValueId) -> Result<ValueId> {
    let mut a = Arithmetic::new(b, "loss");
    let probabilities = a.op(Softmax { axis: 1, log: true }, &[logits])?;
    let products = a.mul(probabilities, targets)?;
    let sum = a.op(Reduce { kind: ReduceKind::Sum, axes: vec![1], keepdims: false }, &[products])?;
    let loss = a.unary(UnaryFn::Neg, sum)?;
    b.rename(loss, "loss");
    Ok(loss)
}

/// Makes batch norms use the batch's statistics, and their running averages follow these; returns the averages' names.
fn follow(b: &mut GraphBuilder, norms: &[Running], options: &TrainingOptions<'_>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for running in norms {
        let (name, operands) = (b.graph().node(running.norm).name.clone(), b.graph().operands(running.norm));
        let Some(Op::BatchNorm(norm)) = b.graph().node(running.norm).op().cloned() else { continue };
        let results = [format!("{name}.mean"), format!("{name}.variance")];
        let results = results.each_ref().map(String::as_str);
        let statistics = b.ops_from(&results, BatchStatistics {}, &operands[..1], Vec::new())?;
        let shape = b.ty(operands[0]).shape.to_vec();
        let elements = (shape.iter().product::<usize>() / shape[1]) as f64;
        let factors = [1.0, elements / (elements - 1.0)];
        for (i, (key, initial)) in running.averages.iter().enumerate() {
            if names.contains(key) {
                let error = OpError::new("statistics", "its own running averages", format!("{key} of another"));
                return Err(error.at(&name, "batch_norm"));
            }
            b.rename(operands[3 + i], "constant");
            let state = b.state(key, key, initial.clone());
            let mut a = Arithmetic::new(b, key);
            let unbiased = a.times(statistics[i], factors[i])?;
            let kept = a.times(state, 1.0 - options.momentum)?;
            let added = a.times(unbiased, options.momentum)?;
            let next = a.add(kept, added)?;
            b.update(state, next);
            names.push(key.clone());
        }
        let operands = [operands[0], operands[1], operands[2], statistics[0], statistics[1]];
        b.graph_mut().set_op(running.norm, BatchNorm { epsilon: norm.epsilon }.into(), &operands);
    }
    Ok(names)
}

/// Adds a gradient to the state that sums it, within the operator that makes it where that can.
fn accumulate(b: &mut GraphBuilder, name: &str, gradient: ValueId) -> Result<()> {
    let (ty, key) = (b.ty(gradient).clone(), gradient_name(name));
    let state = b.state(&format!("sum.{name}"), key, filled(&ty, 0.0));
    let unused = b.graph().users(gradient).is_empty() && !b.graph().is_output(gradient);
    let with_sum: Option<Op> = match b.graph().producer(gradient).op() {
        Some(Op::ConvWeightGradient(op)) if unused && !op.accumulate => {
            let mut op = op.clone();
            op.accumulate = true;
            Some(op.into())
        }
        Some(Op::Gemm(op)) if unused && !op.bias => Some(Gemm { bias: true, beta: 1.0, ..op.clone() }.into()),
        _ => None,
    };
    match with_sum {
        Some(op) => {
            let mut operands = b.graph().operands(gradient.node);
            operands.push(state);
            b.graph_mut().set_op(gradient.node, op, &operands);
            b.update(state, gradient);
        }
        None => {
            let sum = match images(b, gradient).filter(|_| unused) {
                Some(x) => add_images(b, name, state, x, gradient)?,
                None => Arithmetic::new(b, format!("sum.{name}")).add(state, gradient)?,
            };
            b.update(state, sum);
        }
    }
    Ok(())
}

/// What a gradient is the sum of, if that is over several images.
fn images(b: &GraphBuilder, gradient: ValueId) -> Option<ValueId> {
    let Some(Op::Reduce(reduce)) = b.graph().producer(gradient).op() else { return None };
    let x = b.graph().operands(gradient.node)[0];
    let several =
        reduce.kind == ReduceKind::Sum && !reduce.keepdims && reduce.axes.contains(&0) && b.ty(x).shape[0] > 1;
    several.then_some(x)
}

/// A state and the sums of every image of `x`, added one image after the other: as if each had come by itself. That is a product with
/// ones, which begins with the state.
fn add_images(b: &mut GraphBuilder, name: &str, state: ValueId, x: ValueId, gradient: ValueId) -> Result<ValueId> {
    let axes = match b.graph().producer(gradient).op() {
        Some(Op::Reduce(reduce)) => reduce.axes.iter().copied().filter(|axis| *axis != 0).collect::<Vec<_>>(),
        _ => Vec::new(),
    };
    let (ty, images) = (b.ty(gradient).clone(), b.ty(x).shape[0]);
    let (shape, count) = (ty.shape.to_vec(), ty.shape.numel());
    let mut a = Arithmetic::new(b, format!("sum.{name}"));
    let rows = match axes.is_empty() {
        true => x,
        false => a.op(Reduce { kind: ReduceKind::Sum, axes, keepdims: false }, &[x])?,
    };
    let rows = a.reshape(rows, &[images, count])?;
    let one = a.number(x, 1.0);
    let ones = a.op(Expand { shape: vec![1, images] }, &[one])?;
    let before = a.reshape(state, &[1, count])?;
    let sum = a.op(Gemm { bias: true, ..Gemm::default() }, &[ones, rows, before])?;
    a.reshape(sum, &shape)
}
