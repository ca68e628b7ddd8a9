use fornax_ir::types::DType;

use crate::node::{Node, f32s, i64s, index, iota, of};

#[test]
fn constants_in_every_form() {
    let node = || Node::new("Constant", 13);
    node().tensor("value", iota(&[2])).gives(iota(&[2]));
    node().float("value_float", 1.5).gives(f32s(&[], &[1.5]));
    node().float("value_float", 0.0).gives(f32s(&[], &[0.0]));
    node().floats("value_floats", &[1.5]).gives(f32s(&[1], &[1.5]));
    node().int("value_int", 0).gives(index(0));
    node().ints("value_ints", &[1, 2]).gives(i64s(&[1, 2]));
    node().string("value_string", "x").refused("value_string");
    node().refused("value");
}

#[test]
fn constants_of_a_shape() {
    let node = |shape: &[i64]| Node::new("ConstantOfShape", 9).constant(i64s(shape));
    node(&[2]).gives(f32s(&[2], &[0.0, 0.0]));
    node(&[]).tensor("value", i64s(&[7])).gives(index(7));
    node(&[0, 3]).gives(iota(&[0, 3]));
    node(&[2]).tensor("value", i64s(&[7, 8])).refused("one element");
    node(&[-1]).refused("input");
    node(&[1 << 20, 1 << 20]).refused("tensor_elements");
}

#[test]
fn ranges() {
    let ints = |a, b, c| Node::new("Range", 11).constant(index(a)).constant(index(b)).constant(index(c));
    ints(1, 6, 2).gives(i64s(&[1, 3, 5]));
    ints(5, 0, -2).gives(i64s(&[5, 3, 1]));
    ints(5, 0, 1).gives(i64s(&[]));
    ints(0, 1, 0).refused("delta");
    ints(i64::MIN, i64::MAX, 1).refused("fold_elements");
    let floats = |a: f32, b: f32, c: f32| {
        let scalar = |v| f32s(&[], &[v]);
        Node::new("Range", 11).constant(scalar(a)).constant(scalar(b)).constant(scalar(c))
    };
    floats(0.0, 1.0, 0.4).gives(f32s(&[3], &[0.0, 0.4, 0.8]));
    floats(0.0, f32::NAN, 1.0).refused("delta");
    floats(1.0, 0.0, 1.0).gives(f32s(&[0], &[]));
    floats(0.0, f32::INFINITY, 1.0).refused("delta");
    Node::new("Range", 11).input(index(0)).constant(index(1)).constant(index(1)).refused("known at compile time");
}

#[test]
fn one_hot_wraps_negative_indices() {
    let node =
        Node::new("OneHot", 11).input(i64s(&[0, -1, 3, -4])).constant(index(3)).constant(f32s(&[2], &[5.0, 9.0]));
    let y = [9.0, 5.0, 5.0, 5.0, 5.0, 9.0, 5.0, 5.0, 5.0, 5.0, 5.0, 5.0];
    node.gives(f32s(&[4, 3], &y));
    let columns = Node::new("OneHot", 9).input(i64s(&[1])).constant(f32s(&[1], &[2.0])).constant(i64s(&[0, 1]));
    columns.int("axis", 0).gives(of(DType::I64, &[2, 1], &[0, 1]));
}

#[test]
fn triangles_and_diagonals() {
    let x = || f32s(&[2, 2], &[1.0, 2.0, 3.0, f32::INFINITY]);
    Node::new("Trilu", 14).input(x()).gives(f32s(&[2, 2], &[1.0, 2.0, 0.0, f32::INFINITY]));
    let lower = Node::new("Trilu", 14).input(x()).constant(index(-1)).int("upper", 0);
    lower.gives(f32s(&[2, 2], &[0.0, 0.0, 3.0, 0.0]));
    Node::new("EyeLike", 9).input(iota(&[2, 3])).int("k", 1).int("dtype", 7).gives(of(
        DType::I64,
        &[2, 3],
        &[0, 1, 0, 0, 0, 1],
    ));
    Node::new("EyeLike", 9).input(iota(&[2])).refused("rank 2");
}

#[test]
fn partial_sums() {
    let node = || Node::new("CumSum", 14).input(f32s(&[1, 5], &[1.0, 2.0, 3.0, 4.0, 5.0])).constant(index(-1));
    node().gives(f32s(&[1, 5], &[1.0, 3.0, 6.0, 10.0, 15.0]));
    node().int("exclusive", 1).gives(f32s(&[1, 5], &[0.0, 1.0, 3.0, 6.0, 10.0]));
    node().int("reverse", 1).gives(f32s(&[1, 5], &[15.0, 14.0, 12.0, 9.0, 5.0]));
    node().int("reverse", 1).int("exclusive", 1).gives(f32s(&[1, 5], &[14.0, 12.0, 9.0, 5.0, 0.0]));
}

/// What a small file may ask for is bounded before anything of that size is made.
#[test]
fn tables_of_any_size_are_refused() {
    let huge = || index(1 << 40);
    for name in ["HannWindow", "HammingWindow", "BlackmanWindow"] {
        Node::new(name, 17).constant(huge()).refused("limit fold_elements");
    }
    let mel = Node::new("MelWeightMatrix", 17).constant(huge()).constant(huge()).constant(huge());
    mel.constant(f32s(&[], &[0.0])).constant(f32s(&[], &[1.0])).refused("limit fold_elements");
    let image = Node::new("Col2Im", 18).input(iota(&[1, 4, 4])).constant(i64s(&[i64::MAX, i64::MAX]));
    image.constant(i64s(&[2, 2])).refused("places");
    Node::new("DFT", 20).input(iota(&[1, 4, 1])).constant(huge()).refused("limit");
}
