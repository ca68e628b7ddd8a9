//! Which values a discontinuous function reads: rounding, a cast to integers, a comparison, a quantisation.
//!
//! In: a graph. Out: the values whose last bit may decide such a function's result, for it is at most copied, added up, scaled or sent
//! through a piecewise linear function on its way there. Where the exact value is a tie or an integer, as in counts and in quantised
//! networks, an error of a millionth changes the result by one; so an algorithm that rounds differently from the definition does not
//! compute these values. Another product (of convolution, matrix or gate) ends the way: what it makes of the value is no integer any more.

use std::collections::BTreeSet;

use fornax_ir::Result;
use fornax_ir::graph::{Graph, Kind, NodeId, ValueId};
use fornax_ir::ops::Op;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::scalar::{BinaryFn, UnaryFn};

/// What an operator does with an operand's value.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Role {
    /// Reads it by a discontinuous function.
    Steps,
    /// Copies it, adds to it, scales it by a constant or takes it through a piecewise linear function.
    Passes,
    /// Neither.
    Ends,
}

/// The values of a graph that a discontinuous function reads.
///
/// # Errors
/// If the graph has a cycle.
pub fn read_discretely(graph: &Graph) -> Result<BTreeSet<ValueId>> {
    let mut found = BTreeSet::new();
    for id in graph.topological()?.into_iter().rev() {
        let Kind::Op(op) = &graph.node(id).kind else { continue };
        let reached = graph.values(id).any(|value| found.contains(&value));
        for (operand, value) in graph.operands(id).into_iter().enumerate() {
            match role(graph, id, op, operand) {
                Role::Steps => _ = found.insert(value),
                Role::Passes if reached => _ = found.insert(value),
                _ => {}
            }
        }
    }
    Ok(found)
}

/// Whether a function is piecewise linear: `None`, of an operator without activation, is.
pub fn is_piecewise_linear(function: Option<UnaryFn>) -> bool {
    use UnaryFn::{Abs, Clip, HardSigmoid, LeakyRelu, Neg, Relu, ThresholdedRelu};
    match function {
        None => true,
        Some(f) => {
            matches!(f, Relu | Clip(..) | HardSigmoid(..) | LeakyRelu(_) | ThresholdedRelu(_) | Abs | Neg)
        }
    }
}

fn role(graph: &Graph, id: NodeId, op: &Op, operand: usize) -> Role {
    use Role::{Ends, Passes, Steps};
    let passes_if = |condition: bool| if condition { Passes } else { Ends };
    match op {
        Op::UnaryGradient(_) | Op::UnaryWithSlope(_) | Op::ConvWithSlope(_) => Ends,
        Op::Unary(unary) => match unary.function {
            UnaryFn::Floor | UnaryFn::Ceil | UnaryFn::Round | UnaryFn::Sign => Steps,
            function => passes_if(is_piecewise_linear(Some(function))),
        },
        Op::Binary(binary) => match binary.function {
            BinaryFn::Add | BinaryFn::Sub | BinaryFn::Min | BinaryFn::Max => Passes,
            BinaryFn::Mul | BinaryFn::Div | BinaryFn::Prelu => passes_if(others_are_constant(graph, id, operand)),
            BinaryFn::Mod | BinaryFn::Fmod => Steps,
            function if function.is_comparison() => Steps,
            _ => Ends,
        },
        Op::Cast(cast) if cast.to.is_float() => Passes,
        Op::Cast(_) => Steps,
        Op::Where(_) | Op::BatchNorm(_) => Passes,
        Op::Reduce(reduce) => passes_if(matches!(
            reduce.kind,
            ReduceKind::Sum | ReduceKind::Mean | ReduceKind::Max | ReduceKind::Min | ReduceKind::L1
        )),
        Op::Gather(_) | Op::GatherElements(_) => passes_if(operand == 0),
        // Operands beyond the factors are added to the result.
        Op::Conv(conv) => passes_if(operand > 1 && is_piecewise_linear(conv.activation)),
        Op::ConvTranspose(_) | Op::ConvWeightGradient(_) | Op::Gemm(_) => passes_if(operand > 1),
        Op::MbConv(block) => passes_if(operand == 0 && block.residual),
        Op::Compact(_) | Op::NonMaxSuppression(_) | Op::TopK(_) | Op::ArgReduce(_) | Op::BatchStatistics(_) => Ends,
        Op::MatMul(_) | Op::Softmax(_) | Op::Lrn(_) | Op::SqueezeExcite(_) => Ends,
        // Identities, slices, paddings, pools and all else that copies elements. Of what is not named here it is the safe answer.
        _ => Passes,
    }
}

/// Whether every operand but this one is known at compile time.
fn others_are_constant(graph: &Graph, id: NodeId, operand: usize) -> bool {
    let others = graph.operands(id).into_iter().enumerate().filter(|(at, _)| *at != operand);
    others.map(|(_, value)| graph.producer(value)).all(|node| node.constant().is_some())
}

#[cfg(test)]
mod tests {
    use super::*;
    use fornax_ir::graph::parse;

    /// Names of the values of `body` over `%x` that a discontinuous function reads.
    fn names(body: &str) -> Vec<String> {
        let graph = parse(&format!("graph @g(%x: f32[1, 4, 3, 3]) {{ {body} return %y as \"y\" }}")).unwrap();
        let found = read_discretely(&graph).unwrap();
        let mut names: Vec<String> = found.iter().map(|value| graph.name_of(*value).to_string()).collect();
        names.sort();
        names
    }

    #[test]
    fn what_is_rounded_is_found_through_sums_scales_and_piecewise_linear_functions() {
        assert_eq!(names("%a = relu %x %b = add %a, %x %y = floor %b"), ["a", "b", "x"]);
        assert_eq!(names("%s = constant f32[] random(1) %a = div %x, %s %y = round %a"), ["a", "x"]);
        assert_eq!(names("%a = neg %x %y = cast %a {to=i32}"), ["a", "x"]);
        assert_eq!(names("%a = transpose %x {perm=[0, 2, 3, 1]} %z = exp %x %b = less %a, %a %y = not %b"), ["a", "x"]);
    }

    #[test]
    fn smooth_functions_and_products_end_the_way() {
        assert_eq!(names("%a = silu %x %y = round %a"), ["a"]);
        assert_eq!(names("%z = exp %x %a = mul %z, %x %y = round %a"), ["a"]);
        assert_eq!(names("%a = add %x, %x %y = exp %a"), Vec::<String>::new());
    }
}
