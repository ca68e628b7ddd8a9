//! Rewrites of the graph, one pass per file; [`crate::pipeline`] puts them in order.
//!
//! A rewrite looks at one value and answers with an [`Outcome`]; it never changes the graph. [`rewrite`] asks it about
//! every value that an operator computes until nothing changes, applies the patches, and keeps a remark for each choice made and each refusal
//! that stands at the end.

pub(crate) mod fold_batch_norm;
pub(crate) mod fold_constants;
pub(crate) mod fold_pad;
pub(crate) mod fold_quantised;
pub(crate) mod fuse_activation;
pub(crate) mod fuse_data_gradient;
pub(crate) mod fuse_gate;
pub(crate) mod fuse_gemm;
pub(crate) mod fuse_grouped_conv;
pub(crate) mod fuse_mbconv;
pub(crate) mod fuse_residual;
pub(crate) mod fuse_slope;
pub(crate) mod fuse_squeeze_excite;
mod matching;
mod range;
pub(crate) mod recognize_activation;
pub(crate) mod rematerialize;
pub(crate) mod remove_identity;

use crate::error::{Error, Result};
use crate::graph::{Graph, Names, Patch, ValueId};
use crate::remark::{Remark, Verdict};

/// What a rewrite says about a value.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The value is not what the rewrite looks for.
    NoMatch,
    /// It is, but something stands in the way: the obstacle, in one line.
    Declined(String),
    /// It is, and this should take its place.
    Replace(Patch),
}

/// Looks at one value of a graph; most operators have one.
pub type Rewrite = fn(&Graph, ValueId) -> Outcome;

/// What a pass sees besides the graph, and where it leaves its notes.
#[derive(Debug)]
pub struct Context {
    /// The pass that runs.
    pub pass: &'static str,
    /// Bound on what constant folding reads, writes and multiplies, in elements.
    pub fold_limit: u64,
    /// Bound on what the backward half of a graph keeps of the forward half, in bytes.
    pub kept_bytes: u64,
    /// Remarks so far.
    pub remarks: Vec<Remark>,
    /// Changes made so far.
    pub changes: usize,
}

impl Context {
    /// A context for one pass.
    pub fn new(pass: &'static str, fold_limit: u64) -> Self {
        Self { pass, fold_limit, kept_bytes: u64::MAX, remarks: Vec::new(), changes: 0 }
    }
}

/// The answer of the first rule that replaces; else the first refusal.
pub(crate) fn first(graph: &Graph, id: ValueId, rules: &[Rewrite]) -> Outcome {
    let mut refusal = Outcome::NoMatch;
    for rule in rules {
        match rule(graph, id) {
            Outcome::NoMatch => {}
            Outcome::Declined(reason) if matches!(refusal, Outcome::NoMatch) => refusal = Outcome::Declined(reason),
            Outcome::Declined(_) => {}
            replace => return replace,
        }
    }
    refusal
}

fn remark(cx: &Context, graph: &Graph, id: ValueId, (verdict, text): (Verdict, String)) -> Remark {
    let (node, origins) = (graph.name_of(id).to_owned(), graph.producer(id).origins.clone());
    Remark { stage: cx.pass, node, origins, verdict, text, figures: Vec::new() }
}

/// Asks `rule` about every operator, producers first, and applies its patches, until a sweep changes nothing.
///
/// # Errors
/// A patch that does not fit, or [`Error::Limit`] if the rule does not come to an end.
pub fn rewrite(mut graph: Graph, cx: &mut Context, mut rule: impl FnMut(&Graph, ValueId) -> Outcome) -> Result<Graph> {
    let mut names = Names::of(&graph);
    let limit = 64 + 16 * graph.len();
    let mut steps = 0;
    loop {
        let before = steps;
        let mut refusals = Vec::new();
        let values =
            |graph: &Graph| Ok(graph.topological()?.into_iter().flat_map(|id| graph.values(id)).collect::<Vec<_>>());
        for id in values(&graph)? {
            if !graph.contains(id.node) || graph.producer(id).op().is_none() {
                continue;
            }
            match rule(&graph, id) {
                Outcome::NoMatch => {}
                Outcome::Declined(text) => refusals.push(remark(cx, &graph, id, (Verdict::Declined, text))),
                Outcome::Replace(patch) => {
                    let at = cx.remarks.len();
                    cx.remarks.push(remark(cx, &graph, id, (Verdict::Made, patch.why().into())));
                    let result = patch.apply(&mut graph, &mut names)?;
                    // What replaces a node stands for more of the model than the node did; what a value is redirected to does not.
                    let node = graph.producer(result);
                    if node.name == cx.remarks[at].node {
                        cx.remarks[at].origins.clone_from(&node.origins);
                    }
                    steps += 1;
                    if steps > limit {
                        let (limit, needed) = (limit as u64, steps as u64);
                        return Err(Error::Limit {
                            what: format!("rewrites of {}", cx.pass),
                            limit,
                            needed,
                            hint: None,
                        });
                    }
                }
            }
        }
        if steps == before {
            cx.remarks.extend(refusals);
            cx.changes += steps;
            return Ok(graph);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;
    use crate::ops::{Op, Unary};
    use crate::scalar::UnaryFn;

    /// `neg` to `abs` and back, for ever.
    fn flip(graph: &Graph, id: ValueId) -> Outcome {
        let function = match graph.producer(id).op() {
            Some(Op::Unary(op)) if op.function == UnaryFn::Neg => UnaryFn::Abs,
            Some(Op::Unary(_)) => UnaryFn::Neg,
            _ => return Outcome::NoMatch,
        };
        Outcome::Replace(Patch::with_op(id, "flip", Unary { function }, &graph.operands(id.node)))
    }

    #[test]
    fn a_rule_without_end_is_stopped() -> Result<()> {
        let graph = parse("graph @g(%x: f32[2]) { %y = neg %x return %y as \"y\" }")?;
        let error = rewrite(graph, &mut Context::new("flip", 0), flip).map(drop);
        assert_eq!(error, Err(Error::Limit { what: "rewrites of flip".into(), limit: 96, needed: 97, hint: None }));
        Ok(())
    }

    #[test]
    fn refusals_are_kept_once() -> Result<()> {
        let graph = parse("graph @g(%x: f32[2]) { %a = neg %x %b = exp %a return %b as \"y\" }")?;
        let mut cx = Context::new("test", 0);
        rewrite(graph, &mut cx, |graph, id| match graph.producer(id).mnemonic() {
            "exp" => {
                Outcome::Replace(Patch::with_op(id, "sin", Unary { function: UnaryFn::Sin }, &graph.operands(id.node)))
            }
            "neg" => Outcome::Declined("as it is".into()),
            _ => Outcome::NoMatch,
        })?;
        let remarks: Vec<String> = cx.remarks.iter().map(ToString::to_string).collect();
        assert_eq!(remarks, ["test: %b: sin", "test: %a: declined: as it is"]);
        Ok(())
    }
}
