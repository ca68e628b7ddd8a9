use crate::node::{Node, f32s, iota};

fn slide(version: i64) -> Node {
    Node::new("Conv", version).input(f32s(&[1, 1, 3], &[1.0, 2.0, 3.0])).constant(f32s(&[1, 1, 2], &[1.0, 10.0]))
}

#[test]
fn auto_pad_places_the_odd_element() {
    slide(11).string("auto_pad", "SAME_UPPER").gives(f32s(&[1, 1, 3], &[21.0, 32.0, 3.0]));
    slide(11).string("auto_pad", "SAME_LOWER").gives(f32s(&[1, 1, 3], &[10.0, 21.0, 32.0]));
    slide(11).string("auto_pad", "VALID").gives(f32s(&[1, 1, 2], &[21.0, 32.0]));
    slide(1).ints("pads", &[1, 0]).string("auto_pad", "NOTSET").gives(f32s(&[1, 1, 3], &[10.0, 21.0, 32.0]));
    slide(11).string("auto_pad", "SAME").refused("auto_pad");
}

#[test]
fn same_padding_counts_stride_and_dilation() {
    // ceil(5 / 2) = 3 windows of span 3 reach 4 + 3 - 5 = 2 beyond: one zero at each end.
    let x = f32s(&[1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0]);
    let w = f32s(&[1, 1, 2], &[1.0, 10.0]);
    let node = Node::new("Conv", 11).input(x).constant(w).string("auto_pad", "SAME_UPPER");
    node.ints("strides", &[2]).ints("dilations", &[2]).gives(f32s(&[1, 1, 3], &[20.0, 42.0, 4.0]));
}

#[test]
fn group_and_bias() {
    let node = Node::new("Conv", 22).input(f32s(&[1, 2, 1, 1], &[2.0, 3.0])).constant(f32s(&[2, 1, 1, 1], &[5.0, 7.0]));
    node.constant(f32s(&[2], &[0.5, 0.25])).int("group", 2).gives(f32s(&[1, 2, 1, 1], &[10.5, 21.25]));
}

#[test]
fn windows_are_checked() {
    slide(11).ints("kernel_shape", &[3]).refused("kernel_shape: expected [2], as the weight, found [3]");
    slide(11).ints("strides", &[0]).refused("strides");
    slide(11).ints("dilations", &[1, 1]).refused("dilations: expected 1 entries, found 2");
    slide(11).ints("pads", &[-1, 0]).refused("pads");
    slide(11).int("group", 0).refused("group");
    Node::new("Conv", 11).input(iota(&[1, 1, 3])).constant(iota(&[1, 1, 1, 1])).refused("W: expected rank 3");
    Node::new("Conv", 11).input(iota(&[1, 1])).constant(iota(&[1, 1])).refused("X: expected rank 3 or more");
    Node::new("Conv", 11).input(iota(&[1, 1, 1])).refused("input 1");
}

fn spread(version: i64) -> Node {
    Node::new("ConvTranspose", version)
        .input(f32s(&[1, 1, 2], &[1.0, 2.0]))
        .constant(f32s(&[1, 1, 3], &[1.0, 1.0, 1.0]))
}

#[test]
fn transposed_output_shape() {
    let natural = || spread(11).ints("strides", &[2]);
    natural().gives(f32s(&[1, 1, 5], &[1.0, 1.0, 3.0, 2.0, 2.0]));
    // One element too many goes at the begin, and at the end for SAME_UPPER; a missing one is added at the other side.
    natural().ints("output_shape", &[4]).gives(f32s(&[1, 1, 4], &[1.0, 3.0, 2.0, 2.0]));
    natural()
        .ints("output_shape", &[4])
        .string("auto_pad", "SAME_UPPER")
        .gives(f32s(&[1, 1, 4], &[1.0, 1.0, 3.0, 2.0]));
    natural().ints("output_shape", &[1, 1, 4]).gives(f32s(&[1, 1, 4], &[1.0, 3.0, 2.0, 2.0]));
    natural().ints("output_shape", &[6]).gives(f32s(&[1, 1, 6], &[1.0, 1.0, 3.0, 2.0, 2.0, 0.0]));
    natural()
        .ints("output_shape", &[6])
        .string("auto_pad", "SAME_UPPER")
        .gives(f32s(&[1, 1, 6], &[0.0, 1.0, 1.0, 3.0, 2.0, 2.0]));
    natural().ints("output_shape", &[7]).gives(f32s(&[1, 1, 7], &[0.0, 1.0, 1.0, 3.0, 2.0, 2.0, 0.0]));
    natural().ints("output_shape", &[8]).gives(f32s(&[1, 1, 8], &[0.0, 1.0, 1.0, 3.0, 2.0, 2.0, 0.0, 0.0]));
    natural().string("auto_pad", "SAME_LOWER").gives(f32s(&[1, 1, 4], &[1.0, 3.0, 2.0, 2.0]));
    spread(11).ints("strides", &[4]).string("auto_pad", "SAME_UPPER").refused("spans less than the stride");
    natural().string("auto_pad", "VALID").gives(f32s(&[1, 1, 5], &[1.0, 1.0, 3.0, 2.0, 2.0]));
}

#[test]
fn transposed_pads() {
    spread(1).ints("strides", &[2]).ints("pads", &[1, 1]).gives(f32s(&[1, 1, 3], &[1.0, 3.0, 2.0]));
    let padded = spread(1).ints("strides", &[2]).ints("pads", &[1, 1]).ints("output_padding", &[1]);
    padded.gives(f32s(&[1, 1, 4], &[1.0, 3.0, 2.0, 2.0]));
    spread(1).ints("output_padding", &[-1]).refused("output_padding");
}
