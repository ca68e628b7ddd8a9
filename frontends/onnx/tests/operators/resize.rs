use crate::node::{Node, f32s, i64s, iota};

fn row(version: i64) -> Node {
    Node::new("Resize", version).input(iota(&[4]))
}

#[test]
fn samples_before_version_11() {
    let doubled = || f32s(&[1, 4], &[0.0, 0.0, 1.0, 1.0]);
    Node::new("Upsample", 7).input(iota(&[1, 2])).floats("scales", &[1.0, 2.0]).gives(doubled());
    Node::new("Upsample", 9).input(iota(&[1, 2])).constant(f32s(&[2], &[1.0, 2.0])).gives(doubled());
    let sides =
        Node::new("Upsample", 1).input(iota(&[1, 1, 1, 2])).float("height_scale", 2.0).float("width_scale", 1.0);
    sides.gives(f32s(&[1, 1, 2, 2], &[0.0, 1.0, 0.0, 1.0]));
    let linear = Node::new("Upsample", 9).input(iota(&[2])).constant(f32s(&[1], &[2.0])).string("mode", "linear");
    linear.gives(f32s(&[4], &[0.0, 0.5, 1.0, 1.0]));
    // An axis that shrinks takes the sample after the coordinate.
    row(10).constant(f32s(&[1], &[0.6])).gives(f32s(&[2], &[0.0, 2.0]));
    let mixed = Node::new("Resize", 10).input(iota(&[2, 5])).constant(f32s(&[2], &[2.0, 0.6]));
    mixed.gives(f32s(&[4, 3], &[0.0, 2.0, 4.0, 0.0, 2.0, 4.0, 5.0, 7.0, 9.0, 5.0, 7.0, 9.0]));
    Node::new("Upsample", 7).input(iota(&[2])).refused("scales");
}

#[test]
fn sizes_in_the_proportions_of_the_operand() {
    let node = |policy| {
        let node = Node::new("Resize", 19).input(iota(&[4, 2])).absent().absent().constant(i64s(&[2, 2]));
        node.string("keep_aspect_ratio_policy", policy).run().unwrap()[0].ty.shape.to_vec()
    };
    assert_eq!(node("stretch"), [2, 2]);
    assert_eq!(node("not_larger"), [2, 1]);
    assert_eq!(node("not_smaller"), [4, 2]);
}

#[test]
fn axes_are_listed() {
    let node = Node::new("Resize", 18).input(iota(&[1, 2])).absent().constant(f32s(&[1], &[2.0])).ints("axes", &[-1]);
    node.gives(f32s(&[1, 4], &[0.0, 0.0, 1.0, 1.0]));
}

/// An axis may be counted from the back; the reference of the onnx package and onnxruntime leave such axes as they are where proportions
/// are kept, though not where they are stretched.
#[test]
fn axes_counted_from_the_back_stay_where_proportions_are_kept() {
    let shape = |policy: &str, axes: &[i64]| {
        let node = Node::new("Resize", 18).input(iota(&[1, 2, 8, 7])).absent().absent().constant(i64s(&[12, 12]));
        let node = node.ints("axes", axes).string("keep_aspect_ratio_policy", policy);
        node.run().unwrap()[0].ty.shape.to_vec()
    };
    assert_eq!(shape("stretch", &[-2, -1]), [1, 2, 12, 12]);
    for (policy, kept) in [("not_larger", [1, 2, 12, 11]), ("not_smaller", [1, 2, 14, 12])] {
        assert_eq!(shape(policy, &[2, 3]), kept);
        assert_eq!(shape(policy, &[-2, -1]), [1, 2, 8, 7], "{policy}");
        assert_eq!(shape(policy, &[2, -1]), [1, 2, kept[2], 7], "{policy}");
    }
}

#[test]
fn targets_are_checked() {
    let scales = || f32s(&[1], &[2.0]);
    // An empty tensor counts as absent, as version 11 writes it.
    let sized = row(11).constant(f32s(&[0], &[])).constant(f32s(&[0], &[])).constant(i64s(&[2]));
    sized.gives(f32s(&[2], &[0.0, 2.0]));
    row(13).absent().constant(scales()).constant(i64s(&[2])).refused("expected scales or sizes, found both");
    row(13).absent().refused("expected scales or sizes, found neither");
    row(13).absent().constant(f32s(&[1], &[0.0])).refused("scales");
    row(13).absent().constant(f32s(&[2], &[1.0, 1.0])).refused("scales: expected 1 entries");
    row(13).absent().constant(scales()).string("mode", "area").refused("mode");
    row(13)
        .absent()
        .constant(scales())
        .string("coordinate_transformation_mode", "tf_crop_and_resize")
        .refused("input 1");
    row(18).absent().constant(scales()).int("antialias", 1).refused("antialias");
    row(13).absent().input(scales()).refused("known at compile time");
}
