//! What of a network is trained, and by what: the part of a training that a step is compiled for.
//!
//! In: a classifier and a [`Recipe`]. Out: its training graphs, or the [`Step`] that runs them. The bits of a step depend on images,
//! targets, rates and [`mod@super::masks`] alone; where batch norms follow the batch, also on which images make one.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;
use fornax_ir::ops::Op;
use fornax_ir::training::{Norm, Optimiser, Setting, Training, TrainingOptions};
use fornax_ir::types::TensorType;
use fornax_runtime::Pool;
use serde_json::{Value, json};

use super::scope::{Layers, Scope};
use super::step::{Rates, Step};
use crate::error::{Error, Result};
use crate::facade::Model;

/// The share of a batch's statistics in running averages.
const MOMENTUM: f64 = 0.1;

/// What of a network is trained, and by what.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Recipe {
    /// How much of it is trained.
    pub scope: Scope,
    /// What becomes of its batch norms.
    pub norms: Norms,
    /// What turns gradients into steps.
    pub optimiser: Optimiser,
    /// Weight decay of what is neither a bias nor of a batch norm.
    pub weight_decay: f64,
    /// The rate of a stage over that of the one after it; the last layer's is the highest (Howard, Ruder 2018).
    pub layer_decay: f64,
    /// The norm of all gradients together to which longer ones are cut (Pascanu and others 2013); none: they are not.
    pub clip: Option<f64>,
    /// The largest share of the old in averages of the parameters, which are then what is validated and written; none:
    /// there are no averages.
    pub ema: Option<f64>,
    /// Share of the features that is dropped before the last layer.
    pub dropout: f64,
    /// Share of the images that skip the branch of the last residual block; of the blocks before it proportionally
    /// fewer (Huang and others 2016).
    pub drop_path: f64,
}

impl Default for Recipe {
    /// All of it with batch norms fixed, by AdamW with its usual betas, and nothing else.
    fn default() -> Self {
        Self {
            scope: Scope::All,
            norms: Norms::Fixed,
            optimiser: Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            weight_decay: 0.0,
            layer_decay: 1.0,
            clip: None,
            ema: None,
            dropout: 0.0,
            drop_path: 0.0,
        }
    }
}

/// What becomes of batch norms.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Norms {
    /// They keep their statistics; scales and shifts are trained.
    #[default]
    Fixed,
    /// Where scales and shifts are trained, statistics are those of the batch, and running averages follow them.
    Trained,
    /// All statistics are taken anew over the photos for training, before anything is trained
    /// ([`mod@super::statistics`]); from then on they are fixed.
    Statistics,
}

impl FromStr for Norms {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "fixed" => Ok(Self::Fixed),
            "train" => Ok(Self::Trained),
            "stats" => Ok(Self::Statistics),
            _ => Err(Error::usage("--bn", "fixed, train or stats", name)),
        }
    }
}

impl Recipe {
    /// Compiles the step of `model` for this machine; `bindings` say how many images a call of [`Step::gradients`] takes, 1 where they leave it
    /// open. Threads change no bit.
    ///
    /// # Errors
    /// As [`Recipe::check`]; [`Error::Usage`] if statistics are to be taken anew, for which there are no photos here, or are of batches of one
    /// image, or if the network has fewer stages than are to be trained, no batch norms or residual blocks where these are asked for, or
    /// does not end in a linear layer where only that is trained; [`Error::Model`] if dimensions stay open; [`Error::Graph`] naming every
    /// operator without a gradient.
    pub fn step(&self, model: &Model, bindings: &Bindings, threads: usize) -> Result<Step> {
        let graph = model.graph(bindings)?;
        let pool = Arc::new(Pool::at_most(threads.max(1), false)?);
        let target = crate::facade::host()?;
        self.alone(model, &graph, |head| {
            self.compiled(&graph, head, |options| Step::new(&graph, options, &target, pool))
        })
    }

    /// The training graphs of `graph`, which is one of `model`.
    pub(super) fn training(&self, model: &Model, graph: &Graph) -> Result<Training> {
        let new = |options: &TrainingOptions<'_>| Ok(Training::new(graph, options)?);
        let training = self.alone(model, graph, |head| self.with_options(graph, head, new))?;
        self.expect_blocks(training.blocks.len())?;
        Ok(training)
    }

    /// A step for as many images as `graph` takes, whose last layer has the constants `head`; `new` is [`Step::new`].
    ///
    /// # Errors
    /// As [`Recipe::step`], but that statistics count as taken.
    pub(super) fn compiled(
        &self,
        graph: &Graph,
        head: &BTreeSet<String>,
        new: impl FnOnce(&TrainingOptions<'_>) -> Result<Step>,
    ) -> Result<Step> {
        let step = self.with_options(graph, head, new)?;
        self.expect_blocks(step.blocks())?;
        Ok(step)
    }

    /// Calls `run` with the constants of the last layer, where a recipe stands by itself: without photos, and with images as they come.
    fn alone<T>(&self, model: &Model, graph: &Graph, run: impl FnOnce(&BTreeSet<String>) -> Result<T>) -> Result<T> {
        self.check()?;
        let images = graph.inputs().first().and_then(|id| graph.ty(*id).shape.first().copied()).unwrap_or(1);
        match self.norms {
            Norms::Fixed => {}
            Norms::Trained if images > 1 => {}
            Norms::Trained => {
                let expected = "with --bn train at least two images at once (--dim), to take statistics of";
                return Err(Error::usage("images", expected, images.to_string()));
            }
            Norms::Statistics => {
                let expected = "fixed or train: stats takes photos, which `finetune` has";
                return Err(Error::usage("--bn", expected, "stats"));
            }
        }
        let mut of_head = BTreeSet::new();
        if self.scope == Scope::Head {
            let head = model.head(graph)?;
            of_head.extend([head.weights, head.biases]);
        }
        run(&of_head)
    }

    /// Calls `run` with the options that this recipe comes to for `graph`, whose last layer has the constants `head`.
    fn with_options<T>(
        &self,
        graph: &Graph,
        head: &BTreeSet<String>,
        run: impl FnOnce(&TrainingOptions<'_>) -> Result<T>,
    ) -> Result<T> {
        let layers = Layers::new(graph, head)?;
        let names = layers.names(self.scope)?;
        let follow = if self.norms == Norms::Trained { trained_norms(graph, &names)? } else { BTreeSet::new() };
        run(&TrainingOptions {
            trained: &|name| names.contains(name),
            norms: &|name| if follow.contains(name) { Norm::Trained } else { Norm::Fixed },
            momentum: MOMENTUM,
            dropout: self.dropout > 0.0,
            drop_path: self.drop_path > 0.0,
            optimiser: self.optimiser,
            setting: &|name, ty: &TensorType| Setting {
                rate: layers.rate(name, self.layer_decay),
                decay: decay_of(self.weight_decay, ty),
            },
            clip: self.clip.is_some(),
            ema: self.ema.is_some(),
        })
    }

    /// Fails if branches of blocks are to be skipped, and there are none.
    fn expect_blocks(&self, blocks: usize) -> Result<()> {
        if self.drop_path > 0.0 && blocks == 0 {
            return Err(Error::usage("--drop-path", "a network with residual blocks", "none"));
        }
        Ok(())
    }

    /// What step number `number`, from 1, takes at a learning rate.
    pub fn rates(&self, lr: f64, number: u64) -> Rates {
        let mut rates = Rates::new(lr, number);
        rates.clip = self.clip.unwrap_or(rates.clip);
        // As TensorFlow's `ExponentialMovingAverage` with `num_updates`: the first steps are forgotten sooner.
        rates.ema = self.ema.map_or(rates.ema, |ema| ema.min((1 + number) as f64 / (10 + number) as f64));
        rates
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let share = |value: f64| (0.0..1.0).contains(&value);
        let decay = self.weight_decay >= 0.0 && self.weight_decay.is_finite();
        expect(decay, "--weight-decay", "a number from 0", &self.weight_decay)?;
        let factor = self.layer_decay > 0.0 && self.layer_decay <= 1.0;
        expect(factor, "--layer-decay", "a factor above 0, at most 1", &self.layer_decay)?;
        expect(self.clip.is_none_or(positive), "--clip", "a norm above 0", &self.clip.unwrap_or_default())?;
        expect(self.ema.is_none_or(share), "--ema", "a share from 0 to below 1", &self.ema.unwrap_or_default())?;
        expect(share(self.dropout), "--dropout", "a share from 0 to below 1", &self.dropout)?;
        expect(share(self.drop_path), "--drop-path", "a share from 0 to below 1", &self.drop_path)?;
        let idle = self.norms == Norms::Trained && self.scope == Scope::Head;
        expect(!idle, "--bn", "fixed or stats with --train head, which trains no batch norm", &"train")
    }

    /// All that can change a bit of the result, by the names of the flags.
    pub(super) fn identity(&self) -> Vec<(&'static str, Value)> {
        vec![
            ("train", json!(format!("{:?}", self.scope))),
            ("bn", json!(format!("{:?}", self.norms))),
            ("optimizer", json!(format!("{:?}", self.optimiser))),
            ("weight-decay", json!(self.weight_decay)),
            ("layer-decay", json!(self.layer_decay)),
            ("clip", json!(self.clip)),
            ("ema", json!(self.ema)),
            ("dropout", json!(self.dropout)),
            ("drop-path", json!(self.drop_path)),
        ]
    }
}

/// Fails by the name of a flag unless what it says is `ok`.
pub(super) fn expect(ok: bool, flag: &str, expected: &str, found: &dyn fmt::Display) -> Result<()> {
    if ok { Ok(()) } else { Err(Error::usage(flag, expected, found.to_string())) }
}

/// The batch norms of which a scale or shift is trained, by the names of their nodes.
///
/// # Errors
/// [`Error::Usage`] if there is none.
fn trained_norms(graph: &Graph, trained: &BTreeSet<String>) -> Result<BTreeSet<String>> {
    let is_trained = |id: &_| {
        let affine = graph.operands(*id).into_iter().skip(1).take(2);
        matches!(graph.node(*id).op(), Some(Op::BatchNorm(_)))
            && affine.into_iter().any(|value| trained.contains(graph.name_of(value)))
    };
    let found: BTreeSet<String> = graph.ids().filter(is_trained).map(|id| graph.node(id).name.clone()).collect();
    if found.is_empty() {
        return Err(Error::usage("--bn train", "batch norms in what is trained of the network", "none"));
    }
    Ok(found)
}

/// The weight decay of a parameter of type `ty`, given that of weights: none for what has one axis, biases and batch norms.
fn decay_of(weights: f64, ty: &TensorType) -> f64 {
    if ty.shape.rank() > 1 { weights } else { 0.0 }
}
