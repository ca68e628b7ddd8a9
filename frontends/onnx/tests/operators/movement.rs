use fornax_ir::types::DType;

use crate::node::{Node, f32s, i64s, index, iota, of};

fn sliced(starts: &[i64], ends: &[i64], steps: &[i64]) -> Node {
    let axes: Vec<i64> = (0..starts.len() as i64).collect();
    let node = Node::new("Slice", 13).input(iota(&[5])).constant(i64s(starts)).constant(i64s(ends));
    node.constant(i64s(&axes)).constant(i64s(steps))
}

#[test]
fn slices_clamp_and_walk_backwards() {
    let values = |v: &[f32]| f32s(&[v.len()], v);
    sliced(&[1], &[i64::MAX], &[2]).gives(values(&[1.0, 3.0]));
    sliced(&[-1], &[i64::MIN], &[-2]).gives(values(&[4.0, 2.0, 0.0]));
    sliced(&[9], &[0], &[-1]).gives(values(&[4.0, 3.0, 2.0, 1.0]));
    sliced(&[-9], &[2], &[1]).gives(values(&[0.0, 1.0]));
    // ONNX clamps a start before the first element to it, also when walking backwards.
    sliced(&[-9], &[i64::MIN], &[-1]).gives(values(&[0.0]));
    sliced(&[3], &[1], &[1]).gives(values(&[]));
    sliced(&[0], &[5], &[i64::MIN]).gives(values(&[]));
    sliced(&[0], &[5], &[i64::MAX]).gives(values(&[0.0]));
    sliced(&[0], &[5], &[0]).refused("steps");
    sliced(&[0], &[5, 5], &[1]).refused("ends: expected 1 entries");
    sliced(&[0, 0], &[1, 1], &[1, 1]).refused("axes");
    Node::new("Slice", 1)
        .input(iota(&[2, 2]))
        .ints("starts", &[1])
        .ints("ends", &[2])
        .gives(f32s(&[1, 2], &[2.0, 3.0]));
}

#[test]
fn an_empty_axis_slices_to_nothing() {
    let node = Node::new("Slice", 13).input(iota(&[0])).constant(i64s(&[-1])).constant(i64s(&[i64::MIN]));
    node.constant(i64s(&[0])).constant(i64s(&[-1])).gives(iota(&[0]));
}

#[test]
fn splits() {
    let parts = |a: &[f32], b: &[f32]| [f32s(&[a.len()], a), f32s(&[b.len()], b)];
    let node = |version| Node::new("Split", version).input(iota(&[3])).outputs(2);
    let expected = parts(&[0.0], &[1.0, 2.0]);
    node(1).constant(f32s(&[2], &[1.0, 2.0])).gives_all(&expected);
    node(1).ints("split", &[1, 2]).gives_all(&expected);
    node(2).ints("split", &[1, 2]).gives_all(&expected);
    node(13).constant(i64s(&[1, 2])).gives_all(&expected);
    node(18).int("num_outputs", 2).gives_all(&parts(&[0.0, 1.0], &[2.0]));
    Node::new("Split", 13).input(iota(&[2])).outputs(2).gives_all(&parts(&[0.0], &[1.0]));
    node(13).refused("a split of extent 3");
    node(13).constant(i64s(&[1, 1])).refused("add up to 3");
    node(13).constant(i64s(&[-1, 4])).refused("split");
    node(18).int("num_outputs", i64::MAX).refused("num_outputs");
    node(18).int("num_outputs", 0).refused("num_outputs");
}

#[test]
fn indices_are_checked() {
    let node = |op| Node::new(op, 13).input(iota(&[3]));
    node("Gather").constant(i64s(&[-1, 0])).gives(f32s(&[2], &[2.0, 0.0]));
    node("Gather").constant(index(1)).gives(f32s(&[], &[1.0]));
    node("Gather").constant(i64s(&[3])).refused("indices: expected -3 to 2, found 3");
    node("GatherElements").constant(i64s(&[-4])).refused("indices");
    node("Gather").constant(of(DType::U8, &[1], &[0])).refused("indices");
}

#[test]
fn tiles() {
    Node::new("Tile", 1)
        .input(iota(&[2]))
        .constant(f32s(&[], &[2.0]))
        .constant(f32s(&[], &[0.0]))
        .gives(f32s(&[4], &[0.0, 1.0, 0.0, 1.0]));
    Node::new("Tile", 6).input(iota(&[1, 2])).constant(i64s(&[2, 1])).gives(f32s(&[2, 2], &[0.0, 1.0, 0.0, 1.0]));
    Node::new("Tile", 6).input(iota(&[2])).constant(i64s(&[-1])).refused("repeats");
}

#[test]
fn pads_by_version() {
    let padded = || f32s(&[4], &[7.0, 0.0, 1.0, 7.0]);
    let pads = || Node::new("Pad", 13).input(iota(&[2])).constant(i64s(&[1, 1]));
    Node::new("Pad", 1).input(iota(&[2])).ints("paddings", &[1, 1]).float("value", 7.0).gives(padded());
    Node::new("Pad", 2).input(iota(&[2])).ints("pads", &[1, 1]).float("value", 7.0).gives(padded());
    pads().constant(f32s(&[], &[7.0])).gives(padded());
    pads().string("mode", "edge").gives(f32s(&[4], &[0.0, 0.0, 1.0, 1.0]));
    pads().string("mode", "reflect").gives(f32s(&[4], &[1.0, 0.0, 1.0, 0.0]));
    pads().string("mode", "wrap").refused("mode");
    let some = Node::new("Pad", 18).input(iota(&[1, 2])).constant(i64s(&[1, -1])).absent().constant(i64s(&[-1]));
    some.gives(f32s(&[1, 2], &[0.0, 0.0]));
    let cropped =
        |mode, pads: [i64; 2]| Node::new("Pad", 19).input(iota(&[4])).constant(i64s(&pads)).string("mode", mode);
    // What is left of the axis is repeated.
    cropped("edge", [-1, 2]).gives(f32s(&[5], &[1.0, 2.0, 3.0, 3.0, 3.0]));
    cropped("reflect", [-1, 2]).gives(f32s(&[5], &[1.0, 2.0, 3.0, 2.0, 1.0]));
    cropped("wrap", [2, -1]).gives(f32s(&[5], &[1.0, 2.0, 0.0, 1.0, 2.0]));
    cropped("edge", [-3, -2]).refused("pads");
    let large = Node::new("Pad", 13).input(of(DType::I64, &[1], &[1])).constant(i64s(&[1, 1]));
    large.constant(index(i64::MAX)).refused("2^53");
}

#[test]
fn depth_and_space_are_inverse() {
    for mode in ["DCR", "CRD"] {
        let space = Node::new("DepthToSpace", 11).input(iota(&[1, 8, 1, 2])).int("blocksize", 2).string("mode", mode);
        let space = space.run().unwrap().remove(0);
        assert_eq!(space.ty.shape[..], [1, 2, 2, 4]);
        let depth = Node::new("SpaceToDepth", 28).input(space).int("blocksize", 2).string("mode", mode);
        depth.gives(iota(&[1, 8, 1, 2]));
    }
    let node = |block| Node::new("DepthToSpace", 1).input(iota(&[1, 8, 1, 1])).int("blocksize", block);
    node(3).refused("blocksize");
    node(0).refused("blocksize");
    node(i64::MAX).refused("blocksize");
}

#[test]
fn the_begin_of_a_centre_is_rounded_down() {
    let node = |wanted| Node::new("CenterCropPad", 18).input(iota(&[5])).constant(i64s(&[wanted]));
    node(2).gives(f32s(&[2], &[1.0, 2.0]));
    node(8).gives(f32s(&[8], &[0.0, 0.0, 1.0, 2.0, 3.0, 4.0, 0.0, 0.0]));
}

#[test]
fn permutations() {
    Node::new("Transpose", 1).input(iota(&[1, 2])).gives(iota(&[2, 1]));
    Node::new("Transpose", 13).input(iota(&[1, 2])).ints("perm", &[0, 0]).refused("perm");
    Node::new("Concat", 1).input(iota(&[1, 1])).input(iota(&[1, 1])).gives(f32s(&[1, 2], &[0.0, 0.0]));
    Node::new("Concat", 4).input(iota(&[1, 1])).refused("axis");
}

#[test]
fn pads_that_crop_more_than_there_is_crop_the_padding() {
    let pad = |dims: &[usize], pads: &[i64]| {
        Node::new("Pad", 21).input(f32s(dims, &[5.0])).constant(i64s(pads)).constant(f32s(&[], &[7.0]))
    };
    pad(&[1], &[4, -2]).gives(f32s(&[3], &[7.0; 3]));
    pad(&[1], &[-2, 4]).gives(f32s(&[3], &[7.0; 3]));
    pad(&[1, 1], &[0, 2, 1, -2]).gives(f32s(&[2, 1], &[7.0, 7.0]));
    pad(&[1], &[-3, 2]).gives(f32s(&[0], &[]));
    pad(&[1], &[-4, 2]).refused("pads: expected to crop at most what [3] has, padded");
}
