//! Which parameters are trained.
//!
//! In: the graph of a classifier, and how much of it is to be trained. Out: the names of the constants. A stage is a
//! run of layers of one resolution, or of blocks that the names of the parameters count (`blocks.3.…`, `features.3.…`).

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use fornax_ir::graph::Graph;
use fornax_ir::ops::Op;

use crate::error::{Error, Result};

/// How much of a network is trained.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Scope {
    /// The last linear layer.
    Head,
    /// The last stages, so many, and all that follows them.
    Top(usize),
    /// Everything.
    #[default]
    All,
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Head => f.write_str("head"),
            Self::Top(stages) => write!(f, "top:{stages}"),
            Self::All => f.write_str("all"),
        }
    }
}

impl FromStr for Scope {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.strip_prefix("top:").map(str::parse)) {
            ("head", _) => Ok(Self::Head),
            ("all", _) => Ok(Self::All),
            (_, Some(Ok(stages))) if stages > 0 => Ok(Self::Top(stages)),
            _ => Err(Error::usage("--train", "head, top:N or all", text)),
        }
    }
}

/// What can be trained of a network, by its stages.
pub struct Layers {
    /// Names of constants and their stages, from 0, in the order of the network.
    stages: Vec<(String, usize)>,
    /// Names of the constants of the last linear layer.
    head: BTreeSet<String>,
}

impl Layers {
    /// Of a classifier whose last layer has the constants `head`.
    ///
    /// # Errors
    /// If the graph has a circle.
    pub fn new(graph: &Graph, head: &BTreeSet<String>) -> Result<Self> {
        Ok(Self { stages: stages(graph)?, head: head.clone() })
    }

    /// The last stage.
    fn last(&self) -> usize {
        self.stages.iter().map(|(_, stage)| *stage).max().unwrap_or(0)
    }

    /// Names of the constants that are trained, and may be.
    ///
    /// # Errors
    /// [`Error::Usage`] if there are fewer stages.
    pub fn names(&self, scope: Scope) -> Result<BTreeSet<String>> {
        let stages = self.last() + 1;
        let from = match scope {
            Scope::Head => return Ok(self.head.clone()),
            Scope::All => 0,
            Scope::Top(count) if count > stages => {
                let expected = format!("top:N of at most {stages} stages");
                return Err(Error::usage("--train", expected, format!("top:{count}")));
            }
            Scope::Top(count) => stages - count,
        };
        Ok(self.stages.iter().filter(|(_, stage)| *stage >= from).map(|(name, _)| name.clone()).collect())
    }

    /// The rate of a constant over that of the last layer: `decay` to the power of its distance from it in stages, of
    /// which the last one is 1.
    pub fn rate(&self, name: &str, decay: f64) -> f64 {
        if decay == 1.0 || self.head.contains(name) {
            return 1.0;
        }
        let stage = self.stages.iter().find(|(known, _)| known == name).map_or(0, |(_, stage)| *stage);
        libm::pow(decay, (self.last() - stage + 1) as f64)
    }
}

/// Every constant that a convolution, a product or a batch norm reads, and its stage, in the order of the network. What
/// comes before the first counted block belongs to the first stage, what comes after the last one to the last.
fn stages(graph: &Graph) -> Result<Vec<(String, usize)>> {
    let mut found: Vec<(String, Option<usize>, Vec<usize>)> = Vec::new();
    let mut seen = BTreeSet::new();
    for id in graph.topological()? {
        let Some(Op::Conv(_) | Op::ConvTranspose(_) | Op::Gemm(_) | Op::MatMul(_) | Op::BatchNorm(_) | Op::Binary(_)) =
            graph.node(id).op()
        else {
            continue;
        };
        let extents: Vec<usize> = graph.ty(id).shape.iter().skip(2).copied().collect();
        for operand in graph.operands(id) {
            let name = graph.name_of(operand);
            if graph.producer(operand).constant().is_some() && seen.insert(name.to_string()) {
                found.push((name.to_string(), counted(name), extents.clone()));
            }
        }
    }
    let by_name = found.iter().any(|(_, stage, _)| stage.is_some());
    let (mut stage, mut area, mut started, mut out) = (0, usize::MAX, None, Vec::with_capacity(found.len()));
    for (name, counted, extents) in found {
        if by_name {
            let first = *started.get_or_insert(counted);
            stage = counted.or(first).map_or(stage, |own| own.max(stage));
        } else if !extents.is_empty() && extents.iter().product::<usize>() > 1 {
            let own: usize = extents.iter().product();
            if area != usize::MAX && own < area {
                stage += 1;
            }
            area = own;
        }
        out.push((name, stage));
    }
    let first = out.first().map_or(0, |(_, stage)| *stage);
    out.iter_mut().for_each(|(_, stage)| *stage -= first.min(*stage));
    Ok(out)
}

/// The stage that a name counts.
fn counted(name: &str) -> Option<usize> {
    let rest = ["blocks.", "features."].iter().find_map(|prefix| name.strip_prefix(prefix))?;
    rest.split('.').next()?.parse().ok()
}
