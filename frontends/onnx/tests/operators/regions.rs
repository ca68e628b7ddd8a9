//! What RoiAlign, DeformConv and MaxUnpool refuse; their values are those of `values.txt`.

use fornax_ir::types::DType;

use crate::node::{Node, f32s, i64s, iota, of};

#[test]
fn regions_are_checked() {
    let node = |ratio: i64| {
        let node = Node::new("RoiAlign", 16).input(iota(&[1, 1, 4, 4])).input(f32s(&[1, 4], &[0.0, 0.0, 2.0, 2.0]));
        node.int("sampling_ratio", ratio)
    };
    node(0).input(i64s(&[0])).refused("sampling_ratio 0");
    node(1).input(i64s(&[0, 0])).refused("batch_indices: expected shape [1]");
    node(1).input(i64s(&[0])).string("mode", "least").refused("mode");
}

#[test]
fn offsets_fit_the_result() {
    let node = |offsets: &[usize]| {
        Node::new("DeformConv", 19).input(iota(&[1, 1, 3, 3])).input(iota(&[1, 1, 2, 2])).input(iota(offsets))
    };
    node(&[1, 8, 3, 2]).refused("offset: expected shape [1,8,2,2]");
    node(&[1, 8, 2, 2]).int("offset_group", 2).refused("offset_group: expected a divisor of 1");
    let volume = Node::new("DeformConv", 19).input(iota(&[1, 1, 3, 3, 3])).input(iota(&[1, 1, 2, 2, 2]));
    volume.input(iota(&[1, 24, 2, 2, 2])).refused("other than two spatial axes");
}

#[test]
fn an_unpooled_map_may_be_larger_than_its_windows() {
    let node = |size: &[i64]| {
        let node = Node::new("MaxUnpool", 11).input(f32s(&[1, 1, 2], &[5.0, 6.0]));
        let indices = of(DType::I64, &[1, 1, 2], &[1, 2]);
        node.input(indices).constant(i64s(size)).ints("kernel_shape", &[2]).ints("strides", &[2])
    };
    node(&[1, 1, 5]).gives(f32s(&[1, 1, 5], &[0.0, 5.0, 6.0, 0.0, 0.0]));
    node(&[1, 1, 3]).refused("output_shape: expected [1, 1, 4] or more");
    // A window that padding crops to a few places, and that would reach over billions.
    let wide = Node::new("MaxUnpool", 11).input(f32s(&[1, 1, 1], &[5.0]));
    let index = of(DType::I64, &[1, 1, 1], &[0]);
    let wide = wide.input(index).ints("kernel_shape", &[1 << 40]).ints("pads", &[(1 << 40) - 2, 0]);
    wide.refused("fold_elements");
}
