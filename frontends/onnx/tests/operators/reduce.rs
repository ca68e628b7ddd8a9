use fornax_ir::types::DType;

use crate::node::{Node, f32s, i64s, iota, of};

#[test]
fn axes_are_an_attribute_then_an_input() {
    let rows = || f32s(&[2, 1], &[3.0, 12.0]);
    Node::new("ReduceSum", 11).input(iota(&[2, 3])).ints("axes", &[-1]).gives(rows());
    Node::new("ReduceSum", 13).input(iota(&[2, 3])).constant(i64s(&[-1])).gives(rows());
    Node::new("ReduceMean", 13).input(iota(&[2, 3])).ints("axes", &[1]).gives(f32s(&[2, 1], &[1.0, 4.0]));
    Node::new("ReduceMean", 18).input(iota(&[2, 3])).constant(i64s(&[1])).gives(f32s(&[2, 1], &[1.0, 4.0]));
    Node::new("ReduceSum", 1)
        .input(iota(&[2, 3]))
        .ints("axes", &[1])
        .int("keepdims", 0)
        .gives(f32s(&[2], &[3.0, 12.0]));
    Node::new("ReduceSum", 13).input(iota(&[2, 3])).constant(i64s(&[1, -1])).refused("distinct axes");
    Node::new("ReduceSum", 13).input(iota(&[2, 3])).constant(i64s(&[2])).refused("axes");
}

#[test]
fn no_axes_mean_all_or_none() {
    let x = || iota(&[2, 2]);
    Node::new("ReduceMax", 11).input(x()).gives(f32s(&[1, 1], &[3.0]));
    Node::new("ReduceMax", 18).input(x()).int("keepdims", 0).gives(f32s(&[], &[3.0]));
    Node::new("ReduceMax", 18).input(x()).constant(i64s(&[])).gives(f32s(&[1, 1], &[3.0]));
    Node::new("ReduceSum", 13).input(x()).int("noop_with_empty_axes", 1).gives(x());
    let squares = f32s(&[2, 2], &[0.0, 1.0, 4.0, 9.0]);
    Node::new("ReduceSumSquare", 18).input(x()).constant(i64s(&[])).int("noop_with_empty_axes", 1).gives(squares);
}

#[test]
fn arguments() {
    let x = || f32s(&[1, 3], &[2.0, 5.0, 5.0]);
    let at = |dims: &[usize], i| of(DType::I64, dims, &[i]);
    Node::new("ArgMax", 11).input(x()).int("axis", 1).gives(at(&[1, 1], 1));
    Node::new("ArgMax", 12).input(x()).int("axis", -1).int("select_last_index", 1).gives(at(&[1, 1], 2));
    Node::new("ArgMin", 12).input(x()).int("axis", 1).int("keepdims", 0).gives(at(&[1], 0));
}

#[test]
fn top_k_sorts_and_numbers() {
    let x = || f32s(&[2, 3], &[1.0, 3.0, 3.0, 2.0, 0.0, 4.0]);
    let places = |values: &[i64]| of(DType::I64, &[2, 2], values);
    let largest = [f32s(&[2, 2], &[3.0, 3.0, 4.0, 2.0]), places(&[1, 2, 2, 0])];
    let node = |version| Node::new("TopK", version).input(x()).outputs(2);
    node(1).int("k", 2).gives_all(&largest);
    node(10).constant(i64s(&[2])).gives_all(&largest);
    node(11).constant(i64s(&[2])).int("sorted", 0).gives_all(&largest);
    let smallest = [f32s(&[2, 2], &[1.0, 3.0, 0.0, 2.0]), places(&[0, 1, 1, 0])];
    node(11).constant(i64s(&[2])).int("largest", 0).gives_all(&smallest);
    let rows = [f32s(&[1, 3], &[2.0, 3.0, 4.0]), of(DType::I64, &[1, 3], &[1, 0, 1])];
    node(11).constant(i64s(&[1])).int("axis", 0).gives_all(&rows);
    node(11).constant(i64s(&[4])).refused("k: expected at most 3, found 4");
    node(11).constant(i64s(&[-1])).refused("K");
    node(11).input(i64s(&[2])).refused("K");
}

#[test]
fn global_pools() {
    Node::new("GlobalAveragePool", 1).input(iota(&[1, 2, 2, 2])).gives(f32s(&[1, 2, 1, 1], &[1.5, 5.5]));
    Node::new("GlobalMaxPool", 1).input(iota(&[1, 2, 2])).gives(f32s(&[1, 2, 1], &[1.0, 3.0]));
    Node::new("GlobalAveragePool", 1).input(iota(&[1, 2])).refused("X: expected rank 3 or more");
}

#[test]
fn the_norm_of_integers_is_cut() {
    let node = |dtype, values: &[i64]| {
        Node::new("ReduceL2", 18).input(of(dtype, &[values.len()], values)).constant(i64s(&[0])).int("keepdims", 0)
    };
    node(DType::I32, &[3, -4]).gives(of(DType::I32, &[], &[5]));
    node(DType::I32, &[2, 2]).gives(of(DType::I32, &[], &[2]));
    node(DType::I32, &[2_147_483_647]).gives(of(DType::I32, &[], &[2_147_483_647]));
    node(DType::U32, &[3_000_000_000]).gives(of(DType::U32, &[], &[3_000_000_000]));
    node(DType::I64, &[94_906_266, 1]).gives(of(DType::I64, &[], &[94_906_266]));
    node(DType::I64, &[0, 0]).gives(of(DType::I64, &[], &[0]));
}
