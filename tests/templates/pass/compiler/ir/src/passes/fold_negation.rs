//! The sum of a value and another one negated becomes their difference.
//!
//! Holds: exactly; zeros, infinities and NaN are those of the sum.
//! Needs: nothing of the constants.

use super::matching::binary;
use super::{Context, Outcome, rewrite};
use crate::error::Result;
use crate::graph::{Graph, Patch, ValueId};
use crate::ops::{Binary, Op};
use crate::scalar::{BinaryFn, UnaryFn};

/// Runs the pass.
pub fn run(graph: Graph, cx: &mut Context) -> Result<Graph> {
    rewrite(graph, cx, difference)
}

fn difference(graph: &Graph, id: ValueId) -> Outcome {
    let Some((BinaryFn::Add, a, b)) = binary(graph, id) else { return Outcome::NoMatch };
    match graph.producer(b).op() {
        Some(Op::Unary(op)) if op.function == UnaryFn::Neg && graph.ty(b).dtype.is_float() => {}
        _ => return Outcome::NoMatch,
    }
    let negated = graph.operands(b.node)[0];
    Outcome::Replace(Patch::with_op(id, "difference", Binary { function: BinaryFn::Sub }, &[a, negated]))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::graph::parse;
    use crate::pipeline::run_pass;

    #[test]
    fn template_the_sum_of_a_negated_value_is_a_difference() -> Result<()> {
        let text = "graph @g(%x: f32[4], %y: f32[4]) { %n = neg %y %z = add %x, %n return %z as \"z\" }";
        let (after, remarks) = run_pass(parse(text)?, "fold_negation", 0)?;
        let expected = parse("graph @g(%x: f32[4], %y: f32[4]) { %z = sub %x, %y return %z as \"z\" }")?;
        assert!(after.same_as(&expected), "{after}");
        assert_eq!(remarks[0].to_string(), "fold_negation: %z: difference");
        Ok(())
    }
}
