//! Shapes and values that break an operator's rule, and those that only look so.

use fornax_ir::types::DType;

use crate::node::{Node, f32s, i64s, index, iota, of};

#[test]
fn lists_are_vectors() {
    let matrix = |values: &[i64]| of(DType::I64, &[1, values.len()], values);
    let x = || iota(&[2, 3]);
    let rows: Vec<(Node, &str)> = vec![
        (Node::new("Slice", 13).input(x()).constant(matrix(&[0])).constant(i64s(&[1])), "starts"),
        (Node::new("Slice", 13).input(x()).constant(i64s(&[0])).constant(matrix(&[1])), "ends"),
        (Node::new("Slice", 13).input(x()).constant(index(0)).constant(index(1)), "starts"),
        (Node::new("Reshape", 13).input(x()).constant(matrix(&[6])), "shape"),
        (Node::new("Expand", 13).input(x()).constant(matrix(&[2, 3])), "shape"),
        (Node::new("Tile", 13).input(x()).constant(matrix(&[1, 1])), "repeats"),
        (Node::new("Pad", 13).input(x()).constant(matrix(&[0, 0, 1, 1])), "pads"),
        (Node::new("Pad", 18).input(x()).constant(i64s(&[0, 1])).absent().constant(matrix(&[0])), "axes"),
        (Node::new("Split", 13).input(x()).constant(matrix(&[2])), "split"),
        (Node::new("ReduceSum", 13).input(x()).constant(index(0)), "axes"),
        (Node::new("Squeeze", 13).input(iota(&[1, 2])).constant(index(0)), "axes"),
        (Node::new("Unsqueeze", 13).input(x()).constant(matrix(&[0])), "axes"),
        (Node::new("TopK", 11).input(x()).constant(index(1)).outputs(2), "K"),
        (Node::new("ConstantOfShape", 9).constant(index(1)), "input"),
        (Node::new("CenterCropPad", 18).input(x()).constant(matrix(&[2, 2])), "shape"),
        (Node::new("Resize", 19).input(x()).absent().constant(f32s(&[1, 2], &[1.0, 2.0])), "scales"),
        (Node::new("Resize", 19).input(x()).absent().absent().constant(matrix(&[2, 4])), "sizes"),
    ];
    for (node, field) in rows {
        node.refused(&format!("{field}: expected a vector, found "));
    }
    // Exporters write the axis of an Unsqueeze so.
    Node::new("Unsqueeze", 13).input(iota(&[2])).constant(index(0)).gives(iota(&[1, 2]));
}

#[test]
fn scalars_have_one_element() {
    let x = || iota(&[2, 3]);
    let pair = || i64s(&[1, 1]);
    let rows: Vec<(Node, &str)> = vec![
        (Node::new("Clip", 13).input(x()).constant(f32s(&[1, 1], &[0.0])), "min"),
        (Node::new("CumSum", 14).input(x()).constant(pair()), "axis"),
        (Node::new("Trilu", 14).input(x()).constant(pair()), "k"),
        (Node::new("OneHot", 11).input(pair()).constant(pair()).constant(i64s(&[0, 1])), "depth"),
        (Node::new("Pad", 13).input(x()).constant(i64s(&[0; 4])).constant(f32s(&[1, 1], &[0.0])), "constant_value"),
        (Node::new("Dropout", 13).input(x()).constant(f32s(&[1], &[0.5])), "ratio"),
        (Node::new("Dropout", 13).input(x()).absent().constant(of(DType::Bool, &[1], &[0])), "training_mode"),
        (Node::new("Range", 11).constant(index(0)).constant(i64s(&[2, 2])).constant(index(1)), "limit"),
    ];
    for (node, field) in rows {
        node.refused(&format!("{field}: expected a scalar"));
    }
    Node::new("Range", 11).constant(index(0)).constant(i64s(&[2])).constant(index(1)).gives(i64s(&[0, 1]));
    Node::new("CumSum", 14).input(iota(&[3])).constant(i64s(&[0])).gives(f32s(&[3], &[0.0, 1.0, 3.0]));
    Node::new("OneHot", 11)
        .input(index(1))
        .constant(index(2))
        .constant(i64s(&[0, 1]))
        .refused("indices: expected rank 1");
}

#[test]
fn flags_are_0_or_1() {
    let x = || iota(&[2, 3]);
    let rows: Vec<(Node, &str)> = vec![
        (Node::new("ArgMax", 13).input(x()), "keepdims"),
        (Node::new("ArgMax", 13).input(x()), "select_last_index"),
        (Node::new("ReduceSum", 13).input(x()), "keepdims"),
        (Node::new("ReduceSum", 13).input(x()), "noop_with_empty_axes"),
        (Node::new("Reshape", 14).input(x()).constant(i64s(&[6])), "allowzero"),
        (Node::new("CumSum", 14).input(x()).constant(index(0)), "exclusive"),
        (Node::new("CumSum", 14).input(x()).constant(index(0)), "reverse"),
        (Node::new("Trilu", 14).input(x()), "upper"),
        (Node::new("TopK", 11).input(x()).constant(i64s(&[1])).outputs(2), "largest"),
        (Node::new("MaxPool", 12).input(iota(&[1, 1, 2])).ints("kernel_shape", &[2]), "ceil_mode"),
        (Node::new("AveragePool", 12).input(iota(&[1, 1, 2])).ints("kernel_shape", &[2]), "count_include_pad"),
        (Node::new("IsInf", 10).input(x()), "detect_negative"),
        (Node::new("Gemm", 13).input(x()).constant(iota(&[3, 1])), "transA"),
    ];
    for (node, flag) in rows {
        node.int(flag, 2).refused(&format!("attribute {flag}: expected 0 or 1, found 2"));
    }
}

#[test]
fn normalisations_have_an_entry_for_each_channel() {
    let x = || iota(&[1, 4, 2]);
    let norm = |op: &str, version, scale: usize, bias: usize| {
        let node = Node::new(op, version).input(x()).constant(f32s(&[scale], &vec![1.0; scale]));
        node.constant(f32s(&[bias], &vec![0.0; bias]))
    };
    norm("InstanceNormalization", 17, 1, 4).refused("scale: expected shape [4], one for each channel, found f32[1]");
    norm("InstanceNormalization", 17, 4, 1).refused("B: expected shape [4]");
    norm("GroupNormalization", 21, 2, 4).int("num_groups", 2).refused("scale: expected shape [4]");
    norm("GroupNormalization", 18, 2, 1).int("num_groups", 2).refused("bias: expected shape [2]");
    norm("LayerNormalization", 17, 3, 2).refused("Scale: expected a shape that broadcasts to [1,4,2], found f32[3]");
    norm("LayerNormalization", 17, 2, 4).refused("B: expected a shape that broadcasts to [1,4,2]");
    // The result would be larger than the operand.
    let node = Node::new("RMSNormalization", 23).input(iota(&[2, 1])).constant(f32s(&[2], &[1.0; 2]));
    node.refused("scale: expected a shape that broadcasts to [2,1], found f32[2]");
    let node = norm("BatchNormalization", 15, 4, 4).constant(f32s(&[4], &[0.0; 4])).constant(f32s(&[1], &[1.0]));
    node.int("training_mode", 1).refused("input_var: expected shape [4]");
}

#[test]
fn windows_and_parts() {
    let transposed = |strides: i64, padding: i64| {
        let node = Node::new("ConvTranspose", 11).input(iota(&[1, 1, 2])).constant(f32s(&[1, 1, 1], &[1.0]));
        node.ints("strides", &[strides]).ints("output_padding", &[padding])
    };
    transposed(2, 2).refused("output_padding: expected entries below stride or dilation, 2 on axis 2, found [2]");
    transposed(2, 1).gives(f32s(&[1, 1, 4], &[0.0, 0.0, 1.0, 0.0]));
    transposed(1, 1).ints("dilations", &[2]).gives(f32s(&[1, 1, 3], &[0.0, 1.0, 0.0]));
    transposed(1, 0).ints("output_shape", &[0]).refused("output_shape: expected extents of 1 or more");
    transposed(1, 0).ints("output_shape", &[2]).ints("pads", &[0]).refused("pads: expected 2 entries");
    let pool = Node::new("MaxPool", 12).input(iota(&[1, 1, 2])).ints("kernel_shape", &[2]).ints("pads", &[0]);
    pool.string("auto_pad", "SAME_UPPER").refused("pads: expected 2 entries");
    Node::new("Transpose", 13).input(iota(&[2, 3])).ints("perm", &[0, -1]).refused("perm: expected no negative number");
    let split = || Node::new("Split", 18).input(iota(&[2])).constant(i64s(&[1, 1]));
    split().outputs(2).int("num_outputs", 2).refused("num_outputs: expected split or num_outputs, found both");
    split().refused("split: expected 1 extents that add up to 2, found [1, 1]");
    Node::new("Split", 18)
        .input(iota(&[2]))
        .int("num_outputs", 2)
        .refused("num_outputs: expected 1, as many as outputs");
    let constant = || Node::new("Constant", 13).int("value_int", 1);
    constant().float("value_float", 1.0).refused("attributes: expected one value, found 2");
    constant().gives(index(1));
}

#[test]
fn one_scale_is_a_scalar() {
    let bytes = |dims: &[usize], values: &[i64]| of(DType::U8, dims, values);
    let node = Node::new("DequantizeLinear", 13).input(bytes(&[1, 2], &[1, 2]));
    node.constant(f32s(&[1, 1], &[1.0])).refused("scale: expected 2 entries, as axis 1, found f32[1,1]");
    let node = |x: &[usize], y: &[usize]| {
        let node = Node::new("QLinearConv", 10).input(bytes(&[1, 1, 1], &[1])).constant(f32s(x, &[1.0]));
        let node = node.constant(bytes(&[], &[0])).constant(bytes(&[1, 1, 1], &[1])).constant(f32s(&[], &[1.0]));
        node.constant(bytes(&[], &[0])).constant(f32s(y, &[1.0])).constant(bytes(&[], &[0]))
    };
    node(&[1, 1], &[]).refused("x_scale: expected a scalar");
    node(&[], &[1, 1]).refused("y_scale: expected a scalar");
    node(&[1], &[]).gives(bytes(&[1, 1, 1], &[1]));
}
