//! Training graphs: from a network as a frontend built it to graphs that adapt its parameters.
//!
//! ```text
//!  inference graph ── model: which constants are trained, which batch norms are folded or follow the batch
//!        │
//!        ├─ gradients   x, targets ──▶ loss, logits; adds to the gradients' states
//!        ├─ mapped      the gradients' states ──▶ the gradient of every parameter; writes nothing
//!        ├─ update      rates ──▶ parameters and the optimiser's states after a step; zeroes the gradients' states
//!        └─ predict     x ──▶ logits, with what the parameters hold; writes nothing
//! ```
//!
//! In: a graph of one input and one output of logits (a softmax at its end is left out), and what is to be trained. Out: four graphs with the same variables in the
//! same order, so that their state blocks have one layout and are one block of memory, which begins with what the gradients graph
//! says. Invariants: what no trained parameter reaches stays
//! inference code over constants; the gradients of images are summed one image after the other, so that with fixed batch norms how many
//! of them a run takes changes no bit of a network of convolutions and linear layers.
//!
//! A batch norm that stays **fixed** is folded: the convolution reads `w' = a w` and `b' = shift + a (bias - mean)` with
//! `a = scale / sqrt(variance + epsilon)`, which are states that `update` keeps. Gradients are summed with respect to `w'` and `b'`, and
//! once a step taken back to `w`, `scale` and `shift` through that formula, which is exact since it does not change within a step.
//! A batch norm that is **trained** uses the statistics of the batch and leaves running averages behind, as torch has them: a share
//! of the batch's mean, and of its variance with one less than the number of elements as the divisor.

mod arithmetic;
mod drop;
mod fold;
mod gradients;
mod model;
mod optimiser;
mod update;

use crate::error::Result;
use crate::graph::{Graph, Kind};
use crate::passes::{Context, recognize_activation};
use crate::types::{Constant, TensorType};
pub use optimiser::{Optimiser, correction};

/// What becomes of a batch norm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Norm {
    /// It keeps its statistics, and is folded into the convolution before it where that has trained parameters.
    Fixed,
    /// It uses the batch's statistics, and its running averages follow them.
    Trained,
}

/// How a parameter is updated.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Setting {
    /// Factor of the learning rate.
    pub rate: f64,
    /// Weight decay.
    pub decay: f64,
}

/// What is trained, and how.
pub struct TrainingOptions<'a> {
    /// Whether the parameter of this name is trained: weights and biases of convolutions and linear layers, scales and shifts of batch
    /// norms, slopes of PReLU.
    pub trained: &'a dyn Fn(&str) -> bool,
    /// What becomes of the batch norm whose node has this name.
    pub norms: &'a dyn Fn(&str) -> Norm,
    /// The share of the batch's statistics in a running average, torch's `momentum`.
    pub momentum: f64,
    /// Whether the operand of the classifier is multiplied by an input, `dropout`: 0 or 1 over the share that is kept.
    pub dropout: bool,
    /// Whether the branch of every residual block is multiplied by an input `drop_path.N` of one element for each image.
    pub drop_path: bool,
    /// What turns gradients into steps.
    pub optimiser: Optimiser,
    /// How the parameter of this name and type is updated.
    pub setting: &'a dyn Fn(&str, &TensorType) -> Setting,
    /// Whether gradients are scaled by `min(1, clip / (norm + 1e-6))`: `clip` is an input of `update`, the norm over all parameters
    /// an output, `norm [1]`.
    pub clip: bool,
    /// Whether averages of the parameters, and of running averages, are kept as states `ema.NAME`: the factor of the old average is an
    /// input, `ema`.
    pub ema: bool,
}

/// The graphs of a network's training. Parameters keep their names; a gradient's state is `grad.` and a name.
#[derive(Clone, Debug)]
pub struct Training {
    /// Inputs: the network's own `[m, …]`; `targets [m, K]`, a weight for every class, already divided by the number of images or
    /// whatever the caller divides by; `dropout` and `drop_path.N` if asked for. Outputs: `loss [m]`, of each image, whose sum is
    /// differentiated, and `logits [m, K]`.
    pub gradients: Graph,
    /// No inputs. Outputs: the gradient of each trained parameter that the loss depends on, under the parameter's name.
    pub mapped: Graph,
    /// Inputs of one element each: `lr`; the optimiser's own ([`Optimiser::inputs`]); `clip`, `ema` if asked for.
    pub update: Graph,
    /// Inputs: the network's own. Outputs: `logits [m, K]` without masks, batch norms by their running averages; all of it by the averages
    /// over the steps, where those are kept.
    pub predict: Graph,
    /// Names of the parameters that are trained, in the order of the graph.
    pub parameters: Vec<String>,
    /// Names of the running averages that follow the batch.
    pub running: Vec<String>,
    /// Names of the residual blocks whose branches can be dropped: input `drop_path.N` is that of block N.
    pub blocks: Vec<String>,
}

impl Training {
    /// The training graphs of `graph`.
    ///
    /// # Errors
    /// Nothing that is trained; a graph of another form than one input `[m, …]` and logits `[m, K]`; operators without a gradient
    /// rule, all of them; parameters that the loss does not change with, or only in steps, as below a quantised layer; a batch norm that cannot be folded because a scale over its deviation is not finite, or cannot be trained
    /// because a channel has one element.
    pub fn new(graph: &Graph, options: &TrainingOptions<'_>) -> Result<Self> {
        // An activation that a file spells in arithmetic is one to differentiate too: one derivative, not one for each of its operators.
        let graph = recognize_activation::run(graph.clone(), &mut Context::new("recognize_activation", 0))?;
        let model = model::Model::new(&graph, options)?;
        let built = gradients::build(model, options)?;
        let variables = update::Variables::of(&built);
        Ok(Self {
            mapped: update::mapped(&built, &variables)?,
            update: update::update(&built, &variables, options)?,
            parameters: built.parameters.iter().map(|parameter| parameter.name.clone()).collect(),
            running: built.running,
            blocks: built.blocks,
            predict: built.predict,
            gradients: built.graph,
        })
    }

    /// Takes out of the graphs what their variables begin with, by their names: all say zeros from then on, which are left out here.
    /// For those who write the variables themselves, and have no use for elements that programs keep.
    pub fn take_initials(&mut self) -> Vec<(String, Constant)> {
        take_initials(&mut self.predict);
        let mut initials = take_initials(&mut self.gradients);
        initials.retain(|(_, initial)| !initial.bytes().is_some_and(|bytes| fornax_runtime::is_zero(&bytes)));
        initials
    }
}

/// What the variables of a graph begin with, which is zeros from then on.
fn take_initials(graph: &mut Graph) -> Vec<(String, Constant)> {
    let variables = graph.variables().to_vec();
    let taken = variables.into_iter().filter_map(|id| {
        let (Kind::Parameter(variable) | Kind::State(variable)) = &mut graph.node_mut(id).kind else { return None };
        let zeros = arithmetic::filled(&variable.initial.ty, 0.0);
        Some((variable.name.clone(), std::mem::replace(&mut variable.initial, zeros)))
    });
    taken.collect()
}
