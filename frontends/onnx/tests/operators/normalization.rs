use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType};

use crate::node::{Node, f32s, iota};

fn batch(version: i64) -> Node {
    let node = Node::new("BatchNormalization", version).input(f32s(&[1, 2, 1], &[3.0, 5.0]));
    let node = node.constant(f32s(&[2], &[2.0, 1.0])).constant(f32s(&[2], &[0.5, 0.0]));
    node.constant(f32s(&[2], &[1.0, 5.0])).constant(f32s(&[2], &[4.0, 1.0])).float("epsilon", 0.0)
}

#[test]
fn batch_normalization_by_running_statistics() {
    let y = || f32s(&[1, 2, 1], &[2.5, 0.0]);
    for version in [1, 6, 7, 9, 14, 15] {
        batch(version).gives(y());
    }
    batch(6).int("is_test", 1).gives(y());
    batch(6).outputs(5).refused("training mode");
    batch(9).outputs(3).refused("training mode");
    batch(8).int("spatial", 0).refused("spatial=0");
}

#[test]
fn batch_normalization_by_statistics_of_the_batch() {
    let node = Node::new("BatchNormalization", 15).input(f32s(&[2, 2, 1], &[1.0, 10.0, 3.0, 14.0]));
    let node = node.constant(f32s(&[2], &[2.0, 1.0])).constant(f32s(&[2], &[0.5, 0.0]));
    let node = node.input(f32s(&[2], &[1.0, 5.0])).input(f32s(&[2], &[4.0, 1.0])).float("epsilon", 0.0);
    let y = f32s(&[2, 2, 1], &[-1.5, -1.0, 2.5, 1.0]);
    let running = [f32s(&[2], &[1.5, 8.5]), f32s(&[2], &[2.5, 2.5])];
    let node = node.int("training_mode", 1).float("momentum", 0.5).outputs(3);
    node.gives_all(&[y, running[0].clone(), running[1].clone()]);
}

#[test]
fn layer_normalization_outputs() {
    let node = Node::new("LayerNormalization", 17).input(f32s(&[2, 2], &[1.0, 3.0, 5.0, 5.0]));
    let node = node.constant(f32s(&[2], &[1.0, 2.0])).constant(f32s(&[2], &[0.0, 1.0])).float("epsilon", 0.25);
    let inverse = [1.0 / 1.25f32.sqrt(), 2.0];
    let y = f32s(&[2, 2], &[-inverse[0], 1.0 + 2.0 * inverse[0], 0.0, 1.0]);
    let outputs = node.outputs(3).run().unwrap();
    assert_eq!(outputs[1], f32s(&[2, 1], &[2.0, 5.0]));
    for (found, expected) in [(&outputs[0], y), (&outputs[2], f32s(&[2, 1], &inverse))] {
        assert_eq!(found.ty, expected.ty);
        assert!(found.to_f64().iter().zip(expected.to_f64()).all(|(a, b)| (a - b).abs() < 1e-6), "{found:?}");
    }
}

#[test]
fn statistics_of_layers_are_of_the_stashed_type() {
    let x = Literal::new_float(TensorType::new(DType::F64, [1, 2]), vec![1.0, 3.0]);
    let one = || Literal::new_float(TensorType::new(DType::F64, [2]), vec![1.0, 1.0]);
    let node = Node::new("LayerNormalization", 17).input(x).constant(one()).outputs(2);
    let outputs = node.run().unwrap();
    assert_eq!((outputs[0].ty.dtype, &outputs[1]), (DType::F64, &f32s(&[1, 1], &[2.0])));
}

#[test]
fn layers_of_older_exporters() {
    let node = Node::new("LayerNormalization", 11).input(f32s(&[1, 2], &[1.0, 3.0])).constant(f32s(&[2], &[1.0, 2.0]));
    node.float("epsilon", 0.0).gives(f32s(&[1, 2], &[-1.0, 2.0]));
}

#[test]
fn narrow_layers_are_normalised_in_f32() {
    // The square of 400 overflows f16.
    let half = |dims: &[usize], v: Vec<f64>| Literal::new_float(TensorType::new(DType::F16, dims), v);
    let node =
        Node::new("RMSNormalization", 23).input(half(&[2], vec![400.0, 400.0])).constant(half(&[2], vec![1.0, 3.0]));
    node.float("epsilon", 0.0).gives(half(&[2], vec![1.0, 3.0]));
}

#[test]
fn groups_are_scaled_by_group_then_by_channel() {
    let x = || f32s(&[1, 4, 1], &[0.0, 2.0, 0.0, 2.0]);
    let node = |version| Node::new("GroupNormalization", version).input(x()).int("num_groups", 2).float("epsilon", 0.0);
    let by_group = node(18).constant(f32s(&[2], &[1.0, 3.0])).constant(f32s(&[2], &[0.0, 1.0]));
    by_group.gives(f32s(&[1, 4, 1], &[-1.0, 1.0, -2.0, 4.0]));
    let by_channel = node(21).constant(f32s(&[4], &[1.0, 2.0, 3.0, 4.0])).constant(f32s(&[4], &[0.0, 0.0, 1.0, 1.0]));
    by_channel.gives(f32s(&[1, 4, 1], &[-1.0, 2.0, -2.0, 5.0]));
    let odd = Node::new("GroupNormalization", 21).input(x()).constant(iota(&[4])).constant(iota(&[4]));
    odd.int("num_groups", 3).refused("num_groups");
}

#[test]
fn instances_are_normalised_by_channel() {
    let node = Node::new("InstanceNormalization", 6).input(f32s(&[1, 2, 2], &[1.0, 3.0, 7.0, 7.0]));
    let node = node.constant(f32s(&[2], &[2.0, 2.0])).constant(f32s(&[2], &[0.0, 1.0])).float("epsilon", 0.0);
    // The second channel is 0 / 0 without epsilon.
    let outputs = node.run().unwrap()[0].to_f64();
    assert_eq!(outputs[..2], [-2.0, 2.0]);
    assert!(outputs[2..].iter().all(|v| v.is_nan()));
}

#[test]
fn a_vector_of_zeros_stays_zero() {
    let node = Node::new("LpNormalization", 22).input(f32s(&[2, 2], &[3.0, 4.0, 0.0, 0.0]));
    node.gives_about(&[2, 2], &[0.6, 0.8, 0.0, 0.0]);
    Node::new("LpNormalization", 1).input(iota(&[2])).int("p", 3).refused("p: expected 1 or 2");
}

#[test]
fn local_response_needs_a_size() {
    Node::new("LRN", 13).input(iota(&[1, 1, 1, 1])).refused("size");
    Node::new("LRN", 13).input(iota(&[1, 1, 1, 1])).int("size", 0).refused("size");
}
