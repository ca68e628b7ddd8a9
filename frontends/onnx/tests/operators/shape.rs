use fornax_ir::types::DType;

use crate::node::{Node, f32s, i64s, index, iota, of};

fn reshaped(shape: &[i64]) -> Node {
    Node::new("Reshape", 14).input(iota(&[2, 3, 4])).constant(i64s(shape))
}

#[test]
fn reshape_forms() {
    reshaped(&[0, -1]).gives(iota(&[2, 12]));
    reshaped(&[4, 0, -1]).gives(iota(&[4, 3, 2]));
    reshaped(&[2, 3, 4]).gives(iota(&[2, 3, 4]));
    Node::new("Reshape", 1).input(iota(&[4])).ints("shape", &[2, 2]).gives(iota(&[2, 2]));
    Node::new("Reshape", 5).input(iota(&[1])).constant(i64s(&[])).gives(iota(&[]));
    let empty = || Node::new("Reshape", 14).input(iota(&[0, 3])).int("allowzero", 1);
    empty().constant(i64s(&[3, 0])).gives(iota(&[3, 0]));
    reshaped(&[-1, -1]).refused("at most one -1");
    reshaped(&[5, -1]).refused("as many elements");
    reshaped(&[1, 1, 24, 0]).refused("0 only at axes of the operand");
    reshaped(&[-2, 12]).refused("extents of -1 or more");
    reshaped(&[i64::MAX, i64::MAX]).refused("as many elements");
    empty().constant(i64s(&[0, -1])).refused("no -1 beside 0");
    Node::new("Reshape", 14).input(iota(&[4])).input(i64s(&[4])).refused("known at compile time");
}

#[test]
fn flatten_axes() {
    let flat = |version, axis| Node::new("Flatten", version).input(iota(&[2, 3, 4])).int("axis", axis);
    flat(9, 0).gives(iota(&[1, 24]));
    flat(9, 3).gives(iota(&[24, 1]));
    flat(11, -1).gives(iota(&[6, 4]));
    flat(9, -1).refused("axis");
    flat(13, 4).refused("axis");
}

#[test]
fn squeeze_and_unsqueeze() {
    let x = || iota(&[1, 2, 1]);
    Node::new("Squeeze", 11).input(x()).ints("axes", &[-1]).gives(iota(&[1, 2]));
    Node::new("Squeeze", 11).input(x()).ints("axes", &[]).gives(iota(&[2]));
    Node::new("Squeeze", 13).input(x()).constant(i64s(&[0])).gives(iota(&[2, 1]));
    Node::new("Squeeze", 13).input(x()).gives(iota(&[2]));
    Node::new("Squeeze", 13).input(x()).constant(i64s(&[1])).refused("axes of extent 1");
    Node::new("Unsqueeze", 11).input(iota(&[2])).ints("axes", &[0, 2]).gives(x());
    Node::new("Unsqueeze", 13).input(iota(&[2])).constant(i64s(&[-1, 0])).gives(x());
    Node::new("Unsqueeze", 13).input(iota(&[2])).constant(i64s(&[3])).refused("axes");
    Node::new("Unsqueeze", 13).input(iota(&[2])).refused("axes");
    let many: Vec<i64> = (0..1_000_000).collect();
    Node::new("Unsqueeze", 13).input(iota(&[2])).constant(i64s(&many)).refused("at most 256 axes");
    Node::new("Squeeze", 13).input(iota(&[1])).constant(i64s(&many)).refused("distinct axes of rank 1");
    Node::new("Reshape", 13).input(iota(&[2])).constant(i64s(&many)).refused("shape: expected");
}

#[test]
fn shapes_are_constants() {
    Node::new("Shape", 1).input(iota(&[2, 3, 4])).gives(i64s(&[2, 3, 4]));
    Node::new("Shape", 15).input(iota(&[2, 3, 4])).int("start", -2).gives(i64s(&[3, 4]));
    Node::new("Shape", 15).input(iota(&[2, 3, 4])).int("start", -9).int("end", -1).gives(i64s(&[2, 3]));
    Node::new("Shape", 15).input(iota(&[2, 3, 4])).int("start", 2).int("end", 1).gives(i64s(&[]));
    Node::new("Size", 13).input(iota(&[2, 0])).gives(index(0));
}

#[test]
fn dropout_drops_nothing() {
    let x = || iota(&[2]);
    Node::new("Dropout", 7).input(x()).outputs(2).gives_all(&[x(), f32s(&[2], &[1.0, 1.0])]);
    Node::new("Dropout", 13).input(x()).outputs(2).gives_all(&[x(), of(DType::Bool, &[2], &[1, 1])]);
    Node::new("Dropout", 6).input(x()).int("is_test", 1).gives(x());
    Node::new("Dropout", 6).input(x()).refused("training mode");
    let training = |ratio| {
        let flag = of(DType::Bool, &[], &[1]);
        Node::new("Dropout", 13).input(x()).constant(f32s(&[], &[ratio])).constant(flag)
    };
    training(0.0).gives(x());
    training(0.5).refused("training mode");
}

#[test]
fn expand_broadcasts_both_ways() {
    let y = f32s(&[2, 2], &[0.0, 0.0, 1.0, 1.0]);
    Node::new("Expand", 8).input(iota(&[2, 1])).constant(i64s(&[1, 2])).gives(y);
    Node::new("Expand", 8).input(iota(&[2, 1])).constant(i64s(&[1])).gives(iota(&[2, 1]));
    Node::new("Expand", 8).input(iota(&[2])).constant(i64s(&[3])).refused("broadcasts");
    Node::new("Expand", 8).input(iota(&[2])).constant(i64s(&[-1])).refused("shape");
}
