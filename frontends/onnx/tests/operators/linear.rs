use crate::node::{Node, f32s, iota};

#[test]
fn softmax_of_a_matrix_before_version_13() {
    // Four zeros after axis 1 share one row; from version 13 on only the axis itself does.
    let zeros = || f32s(&[1, 2, 2], &[0.0; 4]);
    Node::new("Softmax", 11).input(zeros()).gives(f32s(&[1, 2, 2], &[0.25; 4]));
    Node::new("Softmax", 11).input(zeros()).int("axis", 2).gives(f32s(&[1, 2, 2], &[0.5; 4]));
    Node::new("Softmax", 11).input(zeros()).int("axis", -2).gives(f32s(&[1, 2, 2], &[0.25; 4]));
    Node::new("Softmax", 13).input(zeros()).gives(f32s(&[1, 2, 2], &[0.5; 4]));
    Node::new("LogSoftmax", 1).input(zeros()).gives_about(&[1, 2, 2], &[0.25f32.ln(); 4]);
    Node::new("Softmax", 13).input(zeros()).int("axis", 3).refused("axis");
}

#[test]
fn softmax_over_channels_keeps_the_shape() {
    let zeros = f32s(&[1, 2, 1, 1], &[0.0; 2]);
    Node::new("Softmax", 11).input(zeros).gives(f32s(&[1, 2, 1, 1], &[0.5; 2]));
}

#[test]
fn hardmax_takes_the_first() {
    let x = f32s(&[2, 3], &[1.0, 3.0, 3.0, 9.0, 0.0, 9.0]);
    Node::new("Hardmax", 13).input(x).gives(f32s(&[2, 3], &[0.0, 1.0, 0.0, 1.0, 0.0, 0.0]));
}

fn product(version: i64) -> Node {
    Node::new("Gemm", version).input(f32s(&[1, 2], &[1.0, 2.0])).constant(f32s(&[2, 2], &[1.0, 2.0, 3.0, 4.0]))
}

#[test]
fn gemm_forms() {
    product(11).gives(f32s(&[1, 2], &[7.0, 10.0]));
    product(11).int("transB", 1).float("alpha", 2.0).gives(f32s(&[1, 2], &[10.0, 22.0]));
    product(7).constant(f32s(&[2], &[1.0, -1.0])).float("beta", 3.0).gives(f32s(&[1, 2], &[10.0, 7.0]));
    product(7).constant(f32s(&[1], &[1.0])).gives(f32s(&[1, 2], &[8.0, 11.0]));
    product(6).constant(f32s(&[2], &[1.0, -1.0])).int("broadcast", 1).gives(f32s(&[1, 2], &[8.0, 9.0]));
    product(6).constant(f32s(&[2], &[1.0, -1.0])).refused("C");
    product(7).constant(iota(&[2, 2])).refused("C");
    Node::new("Gemm", 11).input(iota(&[2])).constant(iota(&[2, 2])).refused("A: expected rank 2");
    product(9).refused("input 2 (C): expected a value (opset 9), found none");
}
