use fornax_ir::types::DType;

use crate::node::{Node, f32s, iota, of};

#[test]
fn clip_bounds_by_version() {
    let x = || f32s(&[4], &[-9.0, -1.0, 5.0, 9.0]);
    let clipped = || f32s(&[4], &[0.0, 0.0, 5.0, 6.0]);
    for version in [1, 6] {
        Node::new("Clip", version).input(x()).float("min", 0.0).float("max", 6.0).gives(clipped());
    }
    for version in [11, 13] {
        let bound = |v| f32s(&[], &[v]);
        Node::new("Clip", version).input(x()).constant(bound(0.0)).constant(bound(6.0)).gives(clipped());
        Node::new("Clip", version).input(x()).input(bound(0.0)).constant(bound(6.0)).gives(clipped());
        Node::new("Clip", version).input(x()).absent().constant(bound(6.0)).gives(f32s(&[4], &[-9.0, -1.0, 5.0, 6.0]));
        Node::new("Clip", version).input(x()).constant(bound(0.0)).gives(f32s(&[4], &[0.0, 0.0, 5.0, 9.0]));
        Node::new("Clip", version).input(x()).gives(x());
        Node::new("Clip", version).input(x()).constant(f32s(&[2], &[0.0, 1.0])).refused("min: expected a scalar");
    }
    // With min above max everything is max.
    Node::new("Clip", 6).input(x()).float("min", 3.0).float("max", 1.0).gives(f32s(&[4], &[1.0; 4]));
}

#[test]
fn clip_of_integers() {
    for dtype in [DType::I8, DType::U8, DType::I64] {
        let bound = |v| of(dtype, &[], &[v]);
        let x = of(dtype, &[3], &[1, 50, 100]);
        Node::new("Clip", 12).input(x).constant(bound(2)).constant(bound(60)).gives(of(dtype, &[3], &[2, 50, 60]));
    }
}

#[test]
fn relu_of_integers() {
    Node::new("Relu", 14).input(of(DType::I32, &[3], &[-5, 0, 5])).gives(of(DType::I32, &[3], &[0, 0, 5]));
}

#[test]
fn prelu_slopes() {
    let x = || f32s(&[1, 2, 2], &[-1.0, 1.0, -1.0, -2.0]);
    let y = || f32s(&[1, 2, 2], &[-3.0, 1.0, -5.0, -10.0]);
    Node::new("PRelu", 6).input(x()).constant(f32s(&[2], &[3.0, 5.0])).gives(y());
    Node::new("PRelu", 9).input(x()).constant(f32s(&[2, 1], &[3.0, 5.0])).gives(y());
    Node::new("PRelu", 6).input(x()).constant(f32s(&[1], &[3.0])).gives(f32s(&[1, 2, 2], &[-3.0, 1.0, -3.0, -6.0]));
    Node::new("PRelu", 9).input(f32s(&[1], &[-1.0])).constant(iota(&[2])).refused("slope");
}

#[test]
fn defaults_by_version() {
    let x = || f32s(&[1], &[-1.0]);
    let below = |alpha: f64, gamma: f64| (gamma * alpha * (-1f64).exp_m1()) as f32;
    Node::new("Selu", 1).input(x()).gives_about(&[1], &[below(1.6732, 1.0507)]);
    Node::new("Selu", 6).input(x()).gives_about(&[1], &[below(1.673_263_242, 1.050_700_987)]);
    Node::new("LeakyRelu", 6).input(x()).gives(f32s(&[1], &[-0.01]));
    Node::new("HardSigmoid", 6).input(x()).gives_about(&[1], &[0.3]);
    Node::new("Elu", 6).input(x()).gives_about(&[1], &[(-1f32).exp() - 1.0]);
    Node::new("ThresholdedRelu", 10).input(f32s(&[2], &[1.0, 1.5])).gives(f32s(&[2], &[0.0, 1.5]));
    Node::new("Swish", 24).input(x()).gives_about(&[1], &[-1.0 / (1.0 + 1f32.exp())]);
}

#[test]
fn parameters_are_checked() {
    Node::new("Celu", 12).input(iota(&[1])).float("alpha", 0.0).refused("alpha");
    Node::new("Gelu", 20).input(iota(&[1])).string("approximate", "sigmoid").refused("approximate");
    Node::new("SwiGLU", 28).input(iota(&[2])).input(iota(&[1])).refused("B: expected f32[2]");
    Node::new("Gelu", 19).input(iota(&[1])).refused("Gelu");
}

#[test]
fn infinities_by_sign() {
    let x = || f32s(&[4], &[f32::NEG_INFINITY, f32::NAN, 1.0, f32::INFINITY]);
    let is = |values| of(DType::Bool, &[4], values);
    Node::new("IsInf", 10).input(x()).gives(is(&[1, 0, 0, 1]));
    Node::new("IsInf", 10).input(x()).int("detect_negative", 0).gives(is(&[0, 0, 0, 1]));
    Node::new("IsInf", 10).input(x()).int("detect_positive", 0).gives(is(&[1, 0, 0, 0]));
    Node::new("IsInf", 10).input(x()).int("detect_positive", 0).int("detect_negative", 0).gives(is(&[0, 0, 0, 0]));
}
