//! What of a network is trained.
//!
//! In: the graph and the options. Out: the trained parameters, the batch norms that are folded into convolutions, and those that follow
//! the batch. Invariant: every constant that is named here belongs to the graph.

use std::collections::BTreeMap;

use super::{Norm, TrainingOptions};
use crate::error::{Error, OpError, Result};
use crate::graph::{Graph, NodeId, ValueId};
use crate::ops::literal::Literal;
use crate::ops::{Conv, Op};
use crate::scalar::BinaryFn;
use crate::types::{Constant, Payload};

/// A parameter that is trained.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// Its name: that of the constant.
    pub name: String,
    /// The constant.
    pub value: ValueId,
    /// What it begins with.
    pub initial: Constant,
}

/// What a folded batch norm is computed from.
#[derive(Clone, Debug)]
pub enum Source {
    /// A trained parameter, by its position.
    Parameter(usize),
    /// A constant.
    Constant(Constant),
}

/// A convolution and the fixed batch norm after it.
#[derive(Clone, Debug)]
pub struct Fold {
    /// Name of the batch norm.
    pub name: String,
    /// The batch norm.
    pub norm: NodeId,
    /// The convolution.
    pub conv: NodeId,
    /// What the convolution is, without bias.
    pub op: Conv,
    /// The convolution's weights.
    pub weight: Source,
    /// The convolution's bias.
    pub bias: Option<Source>,
    /// The batch norm's scale.
    pub scale: Source,
    /// The batch norm's shift.
    pub shift: Source,
    /// The batch norm's mean.
    pub mean: Constant,
    /// The batch norm's variance.
    pub variance: Constant,
    /// What is added to the variance.
    pub epsilon: f32,
}

/// A batch norm that follows the batch: its node, and names and first elements of its running mean and variance.
#[derive(Clone, Debug)]
pub struct Running {
    /// The batch norm.
    pub norm: NodeId,
    /// Running mean and running variance.
    pub averages: [(String, Constant); 2],
}

/// What of a network is trained.
#[derive(Debug)]
pub struct Model<'a> {
    /// The network.
    pub graph: &'a Graph,
    /// Trained parameters, in topological order of their first readers.
    pub parameters: Vec<Parameter>,
    /// Batch norms that are folded.
    pub folds: Vec<Fold>,
    /// Batch norms that follow the batch.
    pub running: Vec<Running>,
}

impl<'a> Model<'a> {
    /// The model of `graph`.
    ///
    /// # Errors
    /// If nothing is trained, or a batch norm can neither stay nor be trained.
    pub fn new(graph: &'a Graph, options: &TrainingOptions<'_>) -> Result<Self> {
        let mut model = Self { graph, parameters: Vec::new(), folds: Vec::new(), running: Vec::new() };
        let mut numbers = BTreeMap::new();
        let order = graph.topological()?;
        for id in &order {
            for value in trainable(graph, *id) {
                let name = graph.name_of(value);
                if let Some(initial) = graph.producer(value).constant()
                    && (options.trained)(name)
                    && !numbers.contains_key(&value)
                {
                    if matches!(initial.payload, Payload::Hash(_)) {
                        return Err(OpError::new("elements", "known elements", "only a hash").at(name, "parameter"));
                    }
                    numbers.insert(value, model.parameters.len());
                    model.parameters.push(Parameter { name: name.to_owned(), value, initial: initial.clone() });
                }
            }
        }
        if model.parameters.is_empty() {
            return Err(OpError::new("trained", "a parameter that is trained", "none").at(&graph.name, "graph"));
        }
        for id in order {
            let node = graph.node(id);
            let Some(Op::BatchNorm(norm)) = node.op() else { continue };
            match (options.norms)(&node.name) {
                Norm::Fixed => {
                    if let Some(fold) = fold(graph, id, norm.epsilon, &numbers) {
                        expect_finite(&fold, &model.parameters)?;
                        model.folds.push(fold);
                    }
                }
                Norm::Trained => model.running.push(running(graph, id)?),
            }
        }
        Ok(model)
    }
}

/// The operands of a node that may be trained.
fn trainable(graph: &Graph, id: NodeId) -> Vec<ValueId> {
    let operands = graph.operands(id);
    let slots = match graph.node(id).op() {
        Some(Op::Conv(conv)) => 1..2 + usize::from(conv.bias),
        Some(Op::ConvTranspose(_)) => 1..3,
        Some(Op::Gemm(_)) => 0..3,
        Some(Op::MatMul(_)) => 0..2,
        Some(Op::BatchNorm(_)) => 1..3,
        Some(Op::Binary(binary)) => match binary.function {
            BinaryFn::Prelu => 1..2,
            // The bias of a linear layer that is spelled as a sum.
            BinaryFn::Add if operands.iter().any(|value| is_linear(graph, *value)) => 0..2,
            _ => return Vec::new(),
        },
        _ => return Vec::new(),
    };
    let floats = |value: &ValueId| graph.ty(*value).dtype.is_float();
    operands
        .into_iter()
        .enumerate()
        .filter(|(slot, _)| slots.contains(slot))
        .map(|(_, value)| value)
        .filter(floats)
        .collect()
}

fn is_linear(graph: &Graph, value: ValueId) -> bool {
    matches!(graph.producer(value).op(), Some(Op::Conv(_) | Op::Gemm(_) | Op::MatMul(_) | Op::ConvTranspose(_)))
}

/// The batch norm `id` and the convolution before it, if the two can become one convolution and have a trained parameter.
fn fold(graph: &Graph, id: NodeId, epsilon: f32, numbers: &BTreeMap<ValueId, usize>) -> Option<Fold> {
    let operands = graph.operands(id);
    let (x, rest) = operands.split_first()?;
    let source = |value: ValueId| match numbers.get(&value) {
        Some(number) => Some(Source::Parameter(*number)),
        None => graph.producer(value).constant().cloned().map(Source::Constant),
    };
    let Some(Op::Conv(conv)) = graph.producer(*x).op() else { return None };
    if conv.activation.is_some() || conv.residual || graph.single_user(*x) != Some(id) {
        return None;
    }
    let of_conv = graph.operands(x.node);
    let weight = source(of_conv[1])?;
    let bias = if conv.bias { Some(source(of_conv[2])?) } else { None };
    let (scale, shift) = (source(rest[0])?, source(rest[1])?);
    let parts = [Some(&weight), bias.as_ref(), Some(&scale), Some(&shift)];
    if !parts.into_iter().flatten().any(|part| matches!(part, Source::Parameter(_))) {
        return None;
    }
    let statistic = |value: ValueId| graph.producer(value).constant().cloned();
    Some(Fold {
        name: graph.node(id).name.clone(),
        norm: id,
        conv: x.node,
        op: Conv { bias: false, ..conv.clone() },
        weight,
        bias,
        scale,
        shift,
        mean: statistic(rest[2])?,
        variance: statistic(rest[3])?,
        epsilon,
    })
}

/// Fails unless the factor of every channel is a number.
fn expect_finite(fold: &Fold, parameters: &[Parameter]) -> Result<()> {
    let at = |e: OpError| e.at(&fold.name, "batch_norm");
    let scale = match &fold.scale {
        Source::Parameter(number) => &parameters[*number].initial,
        Source::Constant(constant) => constant,
    };
    let scale = Literal::from_constant(scale).map_err(at)?.to_f64();
    let variance = Literal::from_constant(&fold.variance).map_err(at)?.to_f64();
    let factors = scale.iter().zip(&variance).map(|(scale, v)| scale / (v + f64::from(fold.epsilon)).sqrt());
    match factors.enumerate().find(|(_, factor)| !factor.is_finite()) {
        None => Ok(()),
        Some((channel, factor)) => {
            let expected = "a finite scale over the deviation of every channel";
            Err(at(OpError::new("variance", expected, format!("{factor} in channel {channel}"))))
        }
    }
}

/// The batch norm `id` as one that follows the batch.
fn running(graph: &Graph, id: NodeId) -> Result<Running> {
    let (node, operands) = (graph.node(id), graph.operands(id));
    let refuse = |field: &str, expected: &str, found: String| -> Error {
        OpError::new(field, expected, found).at(&node.name, "batch_norm")
    };
    let shape = &node.ty.shape;
    let elements = shape.iter().product::<usize>() / shape[1].max(1);
    if elements < 2 {
        let found = format!("{elements} of {}", node.ty);
        return Err(refuse("x", "at least two elements in a channel to take statistics of", found));
    }
    let average = |field: &str, value: ValueId| {
        let constant = graph.producer(value).constant().cloned();
        let constant = constant.ok_or_else(|| refuse(field, "a constant", graph.producer(value).mnemonic().into()))?;
        Ok::<_, Error>((graph.name_of(value).to_owned(), constant))
    };
    Ok(Running { norm: id, averages: [average("mean", operands[3])?, average("variance", operands[4])?] })
}
