//! What steps of training refuse; their values are those of `values.txt`.

use fornax_ir::ops::literal::Literal;

use crate::node::{Node, f32s, index, iota};

#[test]
fn operands_come_in_kinds() {
    let node = |rest: &[Literal]| {
        let node = Node::new("Adagrad", 1).domain("ai.onnx.preview.training").input(f32s(&[], &[0.1])).input(index(0));
        rest.iter().fold(node, |node, value| node.input(value.clone())).outputs(2)
    };
    node(&[iota(&[2]), iota(&[2])]).refused("inputs: expected 2, and 3 for each tensor, found 4");
    node(&[iota(&[2]), iota(&[3]), iota(&[2])]).refused("tensor 0: expected f32[2] for each kind, found f32[3]");
    let momentum = Node::new("Momentum", 1).domain("ai.onnx.preview.training").input(f32s(&[], &[0.1])).input(index(0));
    let momentum = momentum.input(iota(&[2])).input(iota(&[2])).input(iota(&[2])).outputs(2);
    let momentum = momentum.float("alpha", 0.9).float("beta", 0.9).float("norm_coefficient", 0.0);
    momentum.string("mode", "fast").refused("mode: expected standard or nesterov");
}
