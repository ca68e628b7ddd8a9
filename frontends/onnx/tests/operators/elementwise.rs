use fornax_ir::types::DType;

use crate::node::{Node, f32s, iota, of};

#[test]
fn broadcasting_before_version_7() {
    let x = || iota(&[1, 2, 2]);
    let channel = || f32s(&[2], &[10.0, 20.0]);
    let by_channel = f32s(&[1, 2, 2], &[10.0, 11.0, 22.0, 23.0]);
    Node::new("Add", 6).input(x()).constant(channel()).int("broadcast", 1).int("axis", 1).gives(by_channel.clone());
    Node::new("Add", 6).input(x()).constant(channel()).int("broadcast", 1).int("axis", -2).gives(by_channel);
    // Without an axis the last ones match.
    let by_column = f32s(&[1, 2, 2], &[10.0, 21.0, 12.0, 23.0]);
    Node::new("Add", 6).input(x()).constant(channel()).int("broadcast", 1).gives(by_column);
    Node::new("Add", 6).input(x()).constant(channel()).refused("B: expected shape [1,2,2], as A");
    Node::new("Add", 6).input(x()).constant(iota(&[2, 2])).int("broadcast", 1).int("axis", 2).refused("axis");
    Node::new("Add", 6).input(channel()).constant(x()).int("broadcast", 1).refused("B: expected rank 1");
}

#[test]
fn variadic_functions() {
    Node::new("Sum", 8).input(iota(&[2])).gives(iota(&[2]));
    let three = |op| Node::new(op, 13).input(iota(&[2, 1])).input(f32s(&[2], &[3.0, -3.0])).input(f32s(&[], &[0.5]));
    three("Max").gives(f32s(&[2, 2], &[3.0, 0.5, 3.0, 1.0]));
    three("Min").gives(f32s(&[2, 2], &[0.0, -3.0, 0.5, -3.0]));
    three("Sum").gives(f32s(&[2, 2], &[3.5, -2.5, 4.5, -1.5]));
    Node::new("Mean", 8).input(iota(&[2])).input(f32s(&[], &[3.0])).gives(f32s(&[2], &[1.5, 2.0]));
    Node::new("Sum", 6).input(iota(&[2])).input(f32s(&[], &[1.0])).refused("input 1");
}

#[test]
fn powers_keep_the_type_of_the_base() {
    let ints = || of(DType::I32, &[3], &[2, 3, 4]);
    Node::new("Pow", 15).input(ints()).input(f32s(&[], &[0.5])).gives(of(DType::I32, &[3], &[1, 1, 2]));
    Node::new("Pow", 15).input(ints()).input(of(DType::I64, &[], &[3])).gives(of(DType::I32, &[3], &[8, 27, 64]));
    Node::new("Pow", 12).input(iota(&[3])).input(of(DType::I64, &[], &[2])).gives(f32s(&[3], &[0.0, 1.0, 4.0]));
}

#[test]
fn powers_of_large_integers_know_odd_from_even() {
    let odd = (1i64 << 24) + 1;
    let base = || f32s(&[4], &[-1.0, -0.0, f32::NEG_INFINITY, 1.0 + f32::EPSILON]);
    let power = |exponents: &[i64]| {
        let exponents = of(DType::I64, &[exponents.len(), 1], exponents);
        let known = Node::new("Pow", 17).input(base()).constant(exponents.clone()).run().unwrap();
        let computed = Node::new("Pow", 17).input(base()).input(exponents).run().unwrap();
        assert_eq!(known[0].to_bytes(), computed[0].to_bytes());
        known[0].to_f64()
    };
    let found = power(&[odd, odd + 1, -odd, 3]);
    let e_squared = f64::from((2.0f64.exp() * (1.0 - 2.0 * f64::from(f32::EPSILON))) as f32);
    let close = |a: f64, b: f64| (a - b).abs() < 1e-5 * b;
    assert!(close(found[3], e_squared) && close(found[7], e_squared) && close(found[11], 1.0 / e_squared), "{found:?}");
    assert_eq!(found[..3], [-1.0, 0.0, f64::NEG_INFINITY]);
    assert!(found[1].is_sign_negative() && found[5].is_sign_positive());
    assert_eq!(found[4..7], [1.0, 0.0, f64::INFINITY]);
    assert_eq!(found[8..11], [-1.0, f64::NEG_INFINITY, 0.0]);
    assert_eq!(found[12..15], [-1.0, 0.0, f64::NEG_INFINITY]);
    // Small exponents that are known keep the plain form.
    Node::new("Pow", 12).input(base()).constant(of(DType::I64, &[], &[3])).run().unwrap();
}

#[test]
fn remainders() {
    let a = || of(DType::I32, &[4], &[-7, 7, -7, 7]);
    let b = || of(DType::I32, &[4], &[3, 3, -3, -3]);
    Node::new("Mod", 13).input(a()).input(b()).gives(of(DType::I32, &[4], &[2, 1, -1, -2]));
    Node::new("Mod", 13).input(a()).input(b()).int("fmod", 1).gives(of(DType::I32, &[4], &[-1, 1, -1, 1]));
    let a = || f32s(&[4], &[-7.0, 7.0, -1.0, 1.0]);
    let b = || f32s(&[4], &[3.0, -3.0, f32::INFINITY, f32::INFINITY]);
    Node::new("Mod", 13).input(a()).input(b()).int("fmod", 1).gives(f32s(&[4], &[-1.0, 1.0, -1.0, 1.0]));
    Node::new("Mod", 28).input(a()).input(b()).gives(f32s(&[4], &[2.0, -2.0, f32::INFINITY, 1.0]));
    Node::new("Mod", 13).input(a()).input(b()).refused("fmod");
}

#[test]
fn integer_division_truncates() {
    let node = Node::new("Div", 14).input(of(DType::I32, &[2], &[-7, 7])).input(of(DType::I32, &[], &[2]));
    node.gives(of(DType::I32, &[2], &[-3, 3]));
}

#[test]
fn casts() {
    let x = || f32s(&[3], &[-1.5, 0.0, 2.7]);
    Node::new("Cast", 9).input(x()).int("to", 7).gives(of(DType::I64, &[3], &[-1, 0, 2]));
    Node::new("Cast", 9).input(x()).int("to", 9).gives(of(DType::Bool, &[3], &[1, 0, 1]));
    Node::new("Cast", 19).input(x()).int("to", 1).gives(x());
    Node::new("Cast", 19).input(x()).int("to", 8).refused("strings");
    Node::new("Cast", 19).input(x()).int("to", 17).gives(of(DType::U8, &[3], &[188, 0, 67]));
    Node::new("Cast", 19).input(x()).int("to", 14).refused("element type 14");
    Node::new("Cast", 19).input(x()).int("to", 99).refused("an element type");
    Node::new("Cast", 19).input(x()).refused("to");
    Node::new("Cast", 1).input(x()).string("to", "INT32").gives(of(DType::I32, &[3], &[-1, 0, 2]));
    Node::new("Cast", 5).input(x()).string("to", "STRING").refused("strings");
    Node::new("Cast", 5).input(x()).string("to", "int32").refused("to: expected the name of an element type");
}

#[test]
fn bitwise_not_flips_every_bit() {
    Node::new("BitwiseNot", 18).input(of(DType::U8, &[2], &[0, 5])).gives(of(DType::U8, &[2], &[255, 250]));
    Node::new("BitwiseNot", 18).input(of(DType::I32, &[2], &[0, 5])).gives(of(DType::I32, &[2], &[-1, -6]));
}

#[test]
fn integers_to_powers_in_floats() {
    let pow = |dtype, base: &[i64], powers: &[f32]| {
        Node::new("Pow", 15).input(of(dtype, &[base.len()], base)).constant(f32s(&[powers.len()], powers))
    };
    pow(DType::I32, &[4, 9, 2, -2], &[0.5, 0.5, -1.0, 3.0]).gives(of(DType::I32, &[4], &[2, 3, 0, -8]));
    // In f32 these roots are the next integer, and the cube is not an integer.
    pow(DType::I32, &[2_147_395_599, 2_147_395_600], &[0.5]).gives(of(DType::I32, &[2], &[46_339, 46_340]));
    pow(DType::I32, &[1_289, 5], &[3.0]).gives(of(DType::I32, &[2], &[2_141_700_569, 125]));
    pow(DType::I32, &[2, 3, 0, 1, -1], &[1.5]).gives(of(DType::I32, &[5], &[2, 5, 0, 1, 0]));
    pow(DType::I32, &[2, 1, -1, -1], &[-0.5, -1.5, -1.0, -2.0]).gives(of(DType::I32, &[4], &[0, 1, -1, 1]));
    let large = 3_037_000_499i64;
    pow(DType::I64, &[large * large - 1, large * large, i64::MAX], &[0.5]).gives(of(
        DType::I64,
        &[3],
        &[large - 1, large, large],
    ));
    // Others in f64.
    pow(DType::I32, &[1000], &[0.25]).gives(of(DType::I32, &[1], &[5]));
    pow(DType::I64, &[4_000_000], &[1.5]).gives(of(DType::I64, &[1], &[8_000_000_000]));
}
