use fornax_ir::types::DType;

use crate::node::{Node, f32s, iota, of};

fn pool(op: &str, version: i64) -> Node {
    Node::new(op, version).input(f32s(&[1, 1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0])).ints("kernel_shape", &[2])
}

#[test]
fn windows() {
    pool("MaxPool", 1).gives(f32s(&[1, 1, 4], &[2.0, 3.0, 4.0, 5.0]));
    pool("MaxPool", 8).ints("strides", &[2]).gives(f32s(&[1, 1, 2], &[2.0, 4.0]));
    pool("MaxPool", 10).ints("strides", &[2]).int("ceil_mode", 1).gives(f32s(&[1, 1, 3], &[2.0, 4.0, 5.0]));
    pool("MaxPool", 10).ints("dilations", &[3]).gives(f32s(&[1, 1, 2], &[4.0, 5.0]));
    pool("AveragePool", 7).ints("pads", &[1, 0]).gives(f32s(&[1, 1, 5], &[1.0, 1.5, 2.5, 3.5, 4.5]));
    let counted = pool("AveragePool", 7).ints("pads", &[1, 0]).int("count_include_pad", 1);
    counted.gives(f32s(&[1, 1, 5], &[0.5, 1.5, 2.5, 3.5, 4.5]));
}

#[test]
fn auto_pad_fixes_the_extents() {
    let same = |ceil| pool("MaxPool", 10).ints("strides", &[2]).string("auto_pad", "SAME_LOWER").int("ceil_mode", ceil);
    same(0).gives(f32s(&[1, 1, 3], &[1.0, 3.0, 5.0]));
    same(1).gives(f32s(&[1, 1, 3], &[1.0, 3.0, 5.0]));
    let valid = |stride| pool("MaxPool", 10).string("auto_pad", "VALID").int("ceil_mode", 1).ints("strides", &[stride]);
    valid(3).gives(f32s(&[1, 1, 2], &[2.0, 5.0]));
    valid(2).refused("auto_pad=VALID with ceil_mode=1");
}

#[test]
fn indices_count_through_the_tensor() {
    let x = || f32s(&[1, 2, 2, 3], &[1.0, 5.0, 2.0, 5.0, 0.0, 9.0, 7.0, 7.0, 7.0, 7.0, 8.0, 7.0]);
    let node = || Node::new("MaxPool", 12).input(x()).ints("kernel_shape", &[2, 2]).outputs(2);
    let values = f32s(&[1, 2, 1, 2], &[5.0, 9.0, 8.0, 8.0]);
    node().gives_all(&[values.clone(), of(DType::I64, &[1, 2, 1, 2], &[1, 5, 10, 10])]);
    node().int("storage_order", 1).gives_all(&[values, of(DType::I64, &[1, 2, 1, 2], &[2, 5, 9, 9])]);
}

#[test]
fn what_is_refused() {
    Node::new("MaxPool", 8).input(iota(&[1, 1, 3])).refused("kernel_shape");
    Node::new("MaxPool", 8).input(iota(&[1, 1, 3])).ints("kernel_shape", &[0]).refused("kernel_shape");
}
