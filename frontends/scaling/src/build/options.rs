//! What to build: sizes and outputs, and the outputs resolved against an architecture.

use super::{Error, Result};
use crate::architecture::Architecture;

/// Which values a graph returns.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub enum Outputs {
    /// The classifier's result, `logits`.
    #[default]
    Logits,
    /// The features that the classifier reads, `pooled`.
    Pooled,
    /// Results of stages, counted from 0: `stage0`, `stage3`, … in ascending order.
    Stages(Vec<usize>),
    /// For each reduction of the input's side (2, 4, 8, …) the last value of that size: `stem` or `stage0`, … in order.
    Reductions(Vec<usize>),
}

/// What to build.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BuildOptions {
    /// Images at once.
    pub batch: usize,
    /// Height and width of the input.
    pub side: (usize, usize),
    /// The outputs.
    pub outputs: Outputs,
}

impl BuildOptions {
    /// One image of the architecture's own size, to logits.
    pub fn of(architecture: &Architecture) -> Self {
        Self { batch: 1, side: (architecture.side, architecture.side), outputs: Outputs::Logits }
    }
}

/// Names of the outputs that `options` ask of `architecture`, in order.
///
/// # Errors
/// [`Error::Option`] as for [`super::build`].
pub fn output_names(architecture: &Architecture, options: &BuildOptions) -> Result<Vec<String>> {
    let targets = Targets::of(architecture, options)?;
    let mut names: Vec<String> = targets.stem.iter().map(|name| name.to_string()).collect();
    (0..targets.stages).for_each(|stage| names.extend(targets.at(stage)));
    names.extend(targets.pooled.then(|| "pooled".to_string()));
    names.extend(targets.logits.then(|| "logits".to_string()));
    Ok(names)
}

/// Outputs of an architecture.
pub(super) struct Targets {
    /// Names of the stem's result.
    pub stem: Option<&'static str>,
    /// Number of stages to build.
    pub stages: usize,
    /// Stages whose results are outputs.
    kept: Vec<usize>,
    /// Whether the pooled features are the output.
    pub pooled: bool,
    /// Whether the logits are the output.
    pub logits: bool,
}

impl Targets {
    /// The outputs that `options` ask of `architecture`.
    pub fn of(architecture: &Architecture, options: &BuildOptions) -> Result<Self> {
        positive("batch", options.batch)?;
        positive("height", options.side.0)?;
        positive("width", options.side.1)?;
        let stages = architecture.stages.len();
        let all = |pooled, logits| Self { stem: None, stages, kept: Vec::new(), pooled, logits };
        match &options.outputs {
            Outputs::Logits => Ok(all(false, true)),
            Outputs::Pooled => Ok(all(true, false)),
            Outputs::Stages(wanted) => {
                let known = |stage: &usize| (*stage < stages).then_some(Some(*stage));
                let known_stages: Vec<usize> = (0..stages).collect();
                Self::taps("stages", wanted, known, &known_stages)
            }
            Outputs::Reductions(wanted) => {
                let points = reductions(architecture);
                let known =
                    |reduction: &usize| points.iter().rev().find(|(at, _)| at == reduction).map(|(_, stage)| *stage);
                let mut reached: Vec<usize> = points.iter().map(|(at, _)| *at).collect();
                reached.dedup();
                Self::taps("reductions", wanted, known, &reached)
            }
        }
    }

    /// Outputs inside the network; `known` gives the stage, or none for the stem, of what is wanted.
    fn taps(
        field: &'static str,
        wanted: &[usize],
        known: impl Fn(&usize) -> Option<Option<usize>>,
        choices: &[usize],
    ) -> Result<Self> {
        let refuse = |found: String| {
            let expected = format!("one or more of {choices:?}, each once");
            Error::Option { field, expected, found }
        };
        if wanted.is_empty() {
            return Err(refuse("none".into()));
        }
        let mut points = Vec::new();
        for one in wanted {
            let point = known(one).ok_or_else(|| refuse(one.to_string()))?;
            if points.contains(&point) {
                return Err(refuse(format!("{one} twice")));
            }
            points.push(point);
        }
        points.sort_unstable();
        let stem = points.contains(&None).then_some("stem");
        let kept: Vec<usize> = points.into_iter().flatten().collect();
        let stages = kept.last().map_or(0, |last| last + 1);
        Ok(Self { stem, stages, kept, pooled: false, logits: false })
    }

    /// Name of the result of `stage`, if it is an output.
    pub fn at(&self, stage: usize) -> impl Iterator<Item = String> {
        self.kept.contains(&stage).then(|| format!("stage{stage}")).into_iter()
    }
}

/// The reduction after the stem and after every stage.
fn reductions(architecture: &Architecture) -> Vec<(usize, Option<usize>)> {
    let mut total = architecture.stem.stride;
    let mut out = vec![(total, None)];
    for (stage, blocks) in architecture.stages.iter().enumerate() {
        total = blocks.iter().fold(total, |total, block| total.saturating_mul(block.stride));
        out.push((total, Some(stage)));
    }
    out
}

fn positive(field: &'static str, found: usize) -> Result<()> {
    if found > 0 {
        return Ok(());
    }
    Err(Error::Option { field, expected: "1 or more".into(), found: "0".into() })
}
