use fornax_ir::types::DType;

use crate::node::{Node, f32s, i64s, iota, of};

fn bytes(dims: &[usize], values: &[i64]) -> fornax_ir::ops::literal::Literal {
    of(DType::U8, dims, values)
}

#[test]
fn rounding_and_saturation() {
    let x = || f32s(&[5], &[-300.0, 1.0, 3.0, 5.0, 300.0]);
    let node = |version| Node::new("QuantizeLinear", version).input(x()).constant(f32s(&[], &[2.0]));
    node(10).gives(bytes(&[5], &[0, 0, 2, 2, 150]));
    node(13).constant(bytes(&[], &[128])).gives(bytes(&[5], &[0, 128, 130, 130, 255]));
    node(13).constant(of(DType::I8, &[], &[0])).gives(of(DType::I8, &[5], &[-128, 0, 2, 2, 127]));
    node(21).int("output_dtype", 5).gives(of(DType::I16, &[5], &[-150, 0, 2, 2, 150]));
    node(21).constant(bytes(&[], &[0])).int("output_dtype", 5).refused("y_zero_point");
    node(21).int("output_dtype", 6).refused("quantised elements of type i32");
    node(21).int("output_dtype", 22).gives(of(DType::I8, &[5], &[-8, 0, 2, 2, 7]));
    node(21).int("output_dtype", 8).refused("output_dtype");
}

#[test]
fn scales_by_axis_and_by_block() {
    let x = || bytes(&[1, 2, 2], &[1, 2, 3, 4]);
    let node = |version| Node::new("DequantizeLinear", version).input(x());
    let by_axis = node(13).constant(f32s(&[2], &[1.0, 10.0])).constant(bytes(&[2], &[1, 0]));
    by_axis.gives(f32s(&[1, 2, 2], &[0.0, 1.0, 30.0, 40.0]));
    let last = node(13).constant(f32s(&[2], &[1.0, 10.0])).int("axis", -1);
    last.gives(f32s(&[1, 2, 2], &[1.0, 20.0, 3.0, 40.0]));
    let row =
        || Node::new("DequantizeLinear", 21).input(bytes(&[1, 3], &[1, 2, 3])).int("axis", 1).int("block_size", 2);
    row().constant(f32s(&[1, 2], &[1.0, 10.0])).gives(f32s(&[1, 3], &[1.0, 2.0, 30.0]));
    row().constant(f32s(&[1, 3], &[1.0; 3])).refused("scale: expected shape [1, 2]");
    node(13).constant(f32s(&[3], &[1.0; 3])).refused("scale: expected 2 entries");
    node(13).constant(f32s(&[2], &[1.0; 2])).constant(bytes(&[], &[0])).refused("zero_point");
    node(13).constant(f32s(&[], &[1.0])).constant(of(DType::I8, &[], &[0])).refused("x_zero_point");
}

#[test]
fn wide_integers_are_subtracted_before_they_are_rounded() {
    let large = of(DType::I32, &[1], &[16_777_217]);
    let node = Node::new("DequantizeLinear", 10).input(large).constant(f32s(&[], &[1.0]));
    node.constant(of(DType::I32, &[], &[16_777_216])).gives(f32s(&[1], &[1.0]));
}

#[test]
fn integer_products_are_exact() {
    // 255 * 255 * 300 needs more than the 24 bits of an f32.
    let row = bytes(&[1, 300], &[255; 300]);
    let mut column = [255; 300];
    column[0] = 254;
    let node = Node::new("MatMulInteger", 10).input(row).constant(bytes(&[300, 1], &column));
    node.gives(of(DType::I32, &[1, 1], &[255 * 255 * 300 - 255]));
    let zeros = Node::new("MatMulInteger", 10).input(bytes(&[2, 1], &[5, 7])).constant(bytes(&[1, 2], &[2, 3]));
    let zeros = zeros.constant(bytes(&[2], &[1, 2])).constant(bytes(&[2], &[0, 1]));
    zeros.gives(of(DType::I32, &[2, 2], &[8, 8, 10, 10]));
    let wrong = Node::new("MatMulInteger", 10).input(bytes(&[2, 1], &[5, 7])).constant(bytes(&[1, 2], &[2, 3]));
    wrong.constant(bytes(&[3], &[1, 2, 3])).refused("a_zero_point");
}

#[test]
fn integer_convolution_pads_with_the_zero_point() {
    let node = Node::new("ConvInteger", 10).input(bytes(&[1, 1, 2], &[5, 7])).constant(bytes(&[1, 1, 2], &[1, 2]));
    let node = node.constant(bytes(&[], &[5])).ints("pads", &[1, 1]);
    node.gives(of(DType::I32, &[1, 1, 3], &[0, 4, 2]));
}

#[test]
fn quantised_convolution_has_a_bias_in_steps_of_the_product() {
    let node = Node::new("QLinearConv", 10).input(bytes(&[1, 1, 2], &[11, 13]));
    let node = node.constant(f32s(&[], &[0.5])).constant(bytes(&[], &[10]));
    let node = node.constant(of(DType::I8, &[2, 1, 1], &[1, -1])).constant(f32s(&[2], &[2.0, 4.0]));
    let node = node.constant(of(DType::I8, &[2], &[0, 0])).constant(f32s(&[], &[1.0])).constant(bytes(&[], &[100]));
    let node = node.constant(of(DType::I32, &[2], &[10, 0]));
    node.gives(bytes(&[1, 2, 2], &[111, 113, 98, 94]));
}

#[test]
fn a_dynamic_range_holds_zero() {
    let node = Node::new("DynamicQuantizeLinear", 11).input(f32s(&[2], &[255.0, 510.0])).outputs(3);
    node.gives_all(&[bytes(&[2], &[128, 255]), f32s(&[], &[2.0]), bytes(&[], &[0])]);
}

#[test]
fn elements_must_be_quantised() {
    let node = Node::new("DequantizeLinear", 10).input(iota(&[1])).constant(f32s(&[], &[1.0]));
    node.refused("x: expected i8, i32 or u8 (opset 10), found f32");
    Node::new("MatMulInteger", 10)
        .input(i64s(&[1]))
        .constant(i64s(&[1]))
        .refused("A: expected i8 or u8 (opset 10), found i64");
}

#[test]
fn integer_products_are_summed_in_32_bits() {
    let row = |dtype, value, count: usize| of(dtype, &[1, count], &vec![value; count]);
    let column = |dtype, value, count: usize| of(dtype, &[count, 1], &vec![value; count]);
    let product = |x: i64, w: i64, count: usize| {
        Node::new("MatMulInteger", 10).input(row(DType::U8, x, count)).constant(column(DType::I8, w, count))
    };
    product(255, 127, 300).gives(of(DType::I32, &[1, 1], &[255 * 127 * 300]));
    // 255 * 127 and an odd sum beyond 2^24, which f32 does not hold.
    product(255, 127, 519).gives(of(DType::I32, &[1, 1], &[255 * 127 * 519]));
    // Sums wrap, as those of i32 do.
    let wrapped = (255i64 * -128 * 70_000) as i32;
    product(255, -128, 70_000).gives(of(DType::I32, &[1, 1], &[i64::from(wrapped)]));
    let node = product(255, 127, 519).constant(bytes(&[], &[1])).constant(of(DType::I8, &[], &[-1]));
    node.gives(of(DType::I32, &[1, 1], &[254 * 128 * 519]));
}

#[test]
fn integer_convolutions_are_summed_in_32_bits() {
    let filled = |dtype, dims: &[usize], value: i64| of(dtype, dims, &vec![value; dims.iter().product()]);
    let node = Node::new("ConvInteger", 10).input(filled(DType::U8, &[1, 519, 1], 255));
    let node = node.constant(filled(DType::I8, &[1, 519, 3], 127)).constant(bytes(&[], &[1])).ints("pads", &[1, 1]);
    // Padding stands for the zero point: one of the three taps counts.
    node.gives(of(DType::I32, &[1, 1, 1], &[254 * 127 * 519]));
    let node = Node::new("ConvInteger", 10).input(filled(DType::U8, &[1, 600, 2], 200)).int("group", 2);
    let node = node.constant(filled(DType::U8, &[2, 300, 2], 255)).constant(bytes(&[], &[0]));
    node.constant(bytes(&[2], &[0, 254])).gives(of(DType::I32, &[1, 2, 1], &[200 * 255 * 600, 200 * 600]));
}
