use crate::node::{Node, f32s, iota};

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
fn what_is_refused() {
    pool("MaxPool", 8).outputs(2).refused("the output Indices");
    Node::new("MaxPool", 8).input(iota(&[1, 1, 3])).refused("kernel_shape");
    Node::new("MaxPool", 8).input(iota(&[1, 1, 3])).ints("kernel_shape", &[0]).refused("kernel_shape");
}
