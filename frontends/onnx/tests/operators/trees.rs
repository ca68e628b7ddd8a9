//! Ensembles of trees, whose numbers are tensors.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::DType;

use crate::node::{Node, f32s, of};

/// Two trees over two features: `x0 <= 1 ? (x1 > 2 ? leaf 0 : leaf 1) : leaf 2`, and `x1 in {1, 3} ? leaf 3 : leaf 4`.
fn trees(x: Literal) -> Node {
    let sized = |dtype, values: &[i64]| of(dtype, &[values.len()], values);
    let node = Node::new("TreeEnsemble", 5).domain_at("ai.onnx.ml", 5).input(x);
    let node = node.ints("nodes_featureids", &[0, 1, 1]).tensor("nodes_modes", sized(DType::U8, &[0, 3, 6]));
    let node = node.tensor("nodes_splits", f32s(&[3], &[1.0, 2.0, 0.0]));
    let node = node.ints("nodes_truenodeids", &[1, 0, 3]).ints("nodes_trueleafs", &[0, 1, 1]);
    let node = node.ints("nodes_falsenodeids", &[2, 1, 4]).ints("nodes_falseleafs", &[1, 1, 1]);
    let node = node.tensor("membership_values", f32s(&[3], &[1.0, 3.0, f32::NAN])).ints("tree_roots", &[0, 2]);
    let node = node.tensor("leaf_weights", f32s(&[5], &[1.0, 2.0, 4.0, 8.0, 16.0]));
    node.ints("leaf_targetids", &[0, 1, 0, 1, 0]).int("n_targets", 2)
}

fn rows() -> Literal {
    f32s(&[5, 2], &[1.0, 3.0, 0.0, 2.0, 1.5, 1.0, f32::NAN, 0.0, 0.5, f32::NAN])
}

#[test]
fn leaves_add_up_by_their_targets() {
    let found = trees(rows()).run_natively().unwrap();
    assert_eq!(found[0], f32s(&[5, 2], &[1.0, 8.0, 16.0, 2.0, 4.0, 8.0, 20.0, 0.0, 16.0, 2.0]));
    let mean = trees(rows()).int("aggregate_function", 0).run_natively().unwrap();
    assert_eq!(mean[0], f32s(&[5, 2], &[0.5, 4.0, 8.0, 1.0, 2.0, 4.0, 10.0, 0.0, 8.0, 1.0]));
    // A NaN passes where the node says so.
    let missing = trees(rows()).ints("nodes_missing_value_tracks_true", &[1, 1, 0]).run_natively().unwrap();
    assert_eq!(missing[0], f32s(&[5, 2], &[1.0, 8.0, 16.0, 2.0, 4.0, 8.0, 16.0, 2.0, 17.0, 0.0]));
}

#[test]
fn faults_of_trees_are_named() {
    trees(f32s(&[1, 1], &[0.0])).refused("nodes_featureids: expected one of 1 features, found 1");
    trees(rows()).int("post_transform", 4).refused("post_transform 4");
    trees(rows()).int("aggregate_function", 2).refused("a target that a tree may leave out");
    let looped = |ids: &[i64]| {
        let node = Node::new("TreeEnsemble", 5).domain_at("ai.onnx.ml", 5).input(f32s(&[1, 1], &[0.0]));
        let node = node.ints("nodes_featureids", &[0]).tensor("nodes_modes", of(DType::U8, &[1], &[0]));
        let node = node.tensor("nodes_splits", f32s(&[1], &[0.0])).ints("nodes_truenodeids", ids);
        let node = node.ints("nodes_trueleafs", &[0]).ints("nodes_falsenodeids", &[0]).ints("nodes_falseleafs", &[1]);
        let node = node.tensor("leaf_weights", f32s(&[1], &[1.0])).ints("leaf_targetids", &[0]);
        node.ints("tree_roots", &[0]).int("n_targets", 1)
    };
    looped(&[0]).refused("nodes: expected trees, found two ways to node 0");
    looped(&[1]).refused("nodes: expected 1 nodes and 1 leaves, found 1");
}
