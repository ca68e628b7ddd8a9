//! Elements below 8 bits, and 8-bit floats: every one read, and every tie between two of them written, as ONNX's own types do it.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType};

use crate::node::{Node, f32s, i64s, of};

/// A type: its number in the standard, and the numbers that its elements are, in the order of their bits.
struct Kind {
    name: &'static str,
    code: i32,
    numbers: Vec<f32>,
}

fn kinds() -> Vec<Kind> {
    let line = |line: &'static str| {
        let mut words = line.split(' ');
        let (name, code) = (words.next().unwrap(), words.next().unwrap().parse().unwrap());
        Kind { name, code, numbers: words.map(|word| word.parse().unwrap()).collect() }
    };
    include_str!("narrow.txt").lines().filter(|line| !line.starts_with('#')).map(line).collect()
}

impl Kind {
    fn is_integer(&self) -> bool {
        self.name.contains("INT")
    }

    fn carrier(&self) -> DType {
        if self.name.starts_with("INT") { DType::I8 } else { DType::U8 }
    }

    /// Every element as it is carried: integers as what they are, floats as their bits.
    fn all(&self) -> Literal {
        let carried = |(i, number): (usize, &f32)| if self.is_integer() { *number as i64 } else { i as i64 };
        of(self.carrier(), &[self.numbers.len()], &self.numbers.iter().enumerate().map(carried).collect::<Vec<_>>())
    }

    /// What `x` is as an element, carried: the nearest number, of two the one with even bits.
    fn nearest(&self, x: f32, saturate: bool) -> i64 {
        let unsigned_zero = self.name.ends_with("UZ");
        let finite: Vec<usize> = (0..self.numbers.len() / 2).filter(|i| self.numbers[*i].is_finite()).collect();
        let last = *finite.last().unwrap();
        let (sign, nan) = (self.numbers.len() / 2, self.numbers.iter().position(|n| n.is_nan()));
        let signed = |bits: usize| (bits + if x.is_sign_negative() { sign } else { 0 }) as i64;
        if x.is_nan() {
            // e5m2 has several of them, and float4e2m1 none.
            return nan.map_or(sign, |nan| if self.name == "FLOAT8E5M2" { 0x7E } else { nan }) as i64;
        }
        let magnitude = f64::from(x.abs());
        let distance = |i: usize| (f64::from(self.numbers[i]) - magnitude).abs();
        let order = |a: &&usize, b: &&usize| distance(**a).total_cmp(&distance(**b)).then((*a % 2).cmp(&(*b % 2)));
        let best = *finite.iter().min_by(order).unwrap();
        // Beyond the largest by half a step and more there is the next number, were there one.
        let (largest, before) = (f64::from(self.numbers[last]), f64::from(self.numbers[last - 1]));
        let half = (largest - before) / 2.0;
        let beyond = magnitude > largest + half || (magnitude == largest + half && last % 2 == 1);
        match (beyond, saturate || self.name == "FLOAT4E2M1") {
            (true, true) => signed(last),
            (true, false) if unsigned_zero => nan.unwrap() as i64,
            (true, false) => signed(last + 1),
            _ if unsigned_zero && best == 0 => 0,
            _ => signed(best),
        }
    }
}

/// Every number of a type, every tie between two neighbours and its neighbours in `f32`, what lies beyond, and what is no number.
fn probes(kind: &Kind) -> Vec<f32> {
    let finite: Vec<f32> = kind.numbers.iter().copied().filter(|n| n.is_finite() && *n >= 0.0).collect();
    let mut probes: Vec<f32> = finite.clone();
    let next = 2.0 * finite[finite.len() - 1] - finite[finite.len() - 2];
    for pair in finite.windows(2).map(|pair| [pair[0], pair[1]]).chain([[finite[finite.len() - 1], next]]) {
        let tie = (pair[0] + pair[1]) / 2.0;
        probes.extend([tie, f32::from_bits(tie.to_bits() - 1), f32::from_bits(tie.to_bits() + 1)]);
    }
    probes.extend([next, 1e30, f32::MAX, f32::INFINITY, 1e-30, f32::MIN_POSITIVE, f32::NAN]);
    let negative: Vec<f32> = probes.iter().filter(|x| !x.is_nan()).map(|x| -x).collect();
    probes.extend(negative);
    probes
}

#[test]
fn every_element_is_read() {
    for kind in kinds() {
        let cast = Node::new("Cast", 25).input_as(kind.code, kind.all()).int("to", 1);
        let found = &cast.run_natively().unwrap()[0];
        assert_eq!(found.ty, TensorType::f32([kind.numbers.len()]), "{}", kind.name);
        for (i, (found, expected)) in found.to_f64().iter().zip(&kind.numbers).enumerate() {
            let (found, same) = (*found as f32, expected.is_nan() && found.is_nan());
            assert!(same || found.to_bits() == expected.to_bits(), "{} {i}: {found}, expected {expected}", kind.name);
        }
    }
}

#[test]
fn every_tie_is_written() {
    for kind in kinds().iter().filter(|kind| !kind.is_integer() && kind.code != 24) {
        let probes = probes(kind);
        for saturate in [true, false] {
            let x = f32s(&[probes.len()], &probes);
            let cast = Node::new("Cast", 25).input(x).int("to", kind.code.into()).int("saturate", saturate.into());
            let found = cast.run_natively().unwrap().remove(0);
            assert_eq!(found.ty.dtype, DType::U8);
            for (x, found) in probes.iter().zip(found.to_f64()) {
                let expected = kind.nearest(*x, saturate);
                assert_eq!(found as i64, expected, "{} of {x:e}, saturate {saturate}", kind.name);
            }
        }
    }
}

#[test]
fn a_double_is_rounded_once() {
    // Just above a tie, which f32 would make of it.
    let x = Literal::new_float(TensorType::new(DType::F64, [2]), vec![17.0 + 1e-12, 17.0]);
    Node::new("Cast", 25).input(x).int("to", 17).gives(of(DType::U8, &[2], &[0x59, 0x58]));
}

#[test]
fn exponents_are_rounded_as_asked() {
    let smallest = (-127f64).exp2() as f32;
    let x = [0.0, smallest / 4.0, smallest, 0.124, 0.25, 1.0, 1.1, 1.5, 1.75, 2.0, f32::MAX, f32::INFINITY, f32::NAN];
    let rows: [(&str, bool, [i64; 13]); 5] = [
        ("up", true, [0, 0, 0, 124, 125, 127, 128, 128, 128, 128, 254, 254, 255]),
        ("down", true, [0, 0, 0, 123, 125, 127, 127, 127, 127, 128, 254, 254, 255]),
        ("nearest", true, [0, 0, 0, 124, 125, 127, 127, 128, 128, 128, 254, 254, 255]),
        ("up", false, [255, 255, 0, 124, 125, 127, 128, 128, 128, 128, 255, 255, 255]),
        ("down", false, [255, 255, 0, 123, 125, 127, 127, 127, 127, 128, 254, 255, 255]),
    ];
    for (mode, saturate, expected) in rows {
        let cast = Node::new("Cast", 25).input(f32s(&[13], &x)).int("to", 24).int("saturate", saturate.into());
        let found = cast.string("round_mode", mode).run_natively().unwrap().remove(0);
        assert_eq!(found, of(DType::U8, &[13], &expected), "{mode}, {saturate}");
    }
    // Every power of two, and what is just above and below it.
    let powers: Vec<f32> = (-126..=127).map(|e| f64::from(e).exp2() as f32).collect();
    let shifted = |by: i32| powers.iter().map(|x| f32::from_bits((x.to_bits() as i32 + by) as u32)).collect::<Vec<_>>();
    for (by, round, more) in [(0, "up", 0), (1, "up", 1), (1, "down", 0), (-1, "down", -1), (-1, "nearest", 0)] {
        let x = f32s(&[powers.len()], &shifted(by));
        let cast = Node::new("Cast", 25).input(x).int("to", 24).string("round_mode", round);
        let expected: Vec<i64> = (1..=254).map(|code: i64| (code + more).min(254)).collect();
        assert_eq!(cast.run_natively().unwrap()[0], of(DType::U8, &[254], &expected), "{round} {by}");
    }
    Node::new("Cast", 25)
        .input(f32s(&[1], &[1.0]))
        .int("to", 24)
        .string("round_mode", "sideways")
        .refused("round_mode");
}

#[test]
fn integers_wrap_and_floats_are_truncated_before() {
    let x = || of(DType::I32, &[6], &[-9, -8, 7, 8, 200, -1]);
    let cast = |to: i64| Node::new("Cast", 25).input(x()).int("to", to).run_natively().unwrap().remove(0);
    assert_eq!(cast(22), of(DType::I8, &[6], &[7, -8, 7, -8, -8, -1]));
    assert_eq!(cast(21), of(DType::U8, &[6], &[7, 8, 7, 8, 8, 15]));
    assert_eq!(cast(26), of(DType::I8, &[6], &[-1, 0, -1, 0, 0, -1]));
    assert_eq!(cast(25), of(DType::U8, &[6], &[3, 0, 3, 0, 0, 3]));
    let cast = Node::new("Cast", 25).input(f32s(&[4], &[1.9, -1.9, 0.5, -0.5])).int("to", 22);
    assert_eq!(cast.run_natively().unwrap()[0], of(DType::I8, &[4], &[1, -1, 0, 0]));
}

#[test]
fn a_tensor_quantised_is_within_the_range_of_its_type() {
    let x = || f32s(&[5], &[-300.0, -2.5, 0.5, 1.5, 300.0]);
    let node = |to: i64| Node::new("QuantizeLinear", 25).input(x()).constant(f32s(&[], &[1.0])).int("output_dtype", to);
    let gives = |to: i64| node(to).run_natively().unwrap().remove(0);
    assert_eq!(gives(22), of(DType::I8, &[5], &[-8, -2, 0, 2, 7]));
    assert_eq!(gives(21), of(DType::U8, &[5], &[0, 0, 0, 2, 15]));
    assert_eq!(gives(26), of(DType::I8, &[5], &[-2, -2, 0, 1, 1]));
    assert_eq!(gives(25), of(DType::U8, &[5], &[0, 0, 0, 2, 3]));
    // -6, -2, 0.5, 1.5 and 6.
    assert_eq!(gives(23), of(DType::U8, &[5], &[15, 12, 1, 3, 7]));
    assert_eq!(gives(17), of(DType::U8, &[5], &[0xF9, 0xC2, 0x30, 0x3C, 0x79]));
    // The zero point says the type, and is added.
    let zero = node(0).input_as(21, of(DType::U8, &[], &[3]));
    assert_eq!(zero.run_natively().unwrap()[0], of(DType::U8, &[5], &[0, 1, 3, 5, 15]));
    node(22).input_as(21, of(DType::U8, &[], &[3])).refused("y_zero_point: expected int4, found uint4");
}

#[test]
fn what_was_quantised_is_read_back() {
    let node =
        Node::new("DequantizeLinear", 25).input_as(22, of(DType::I8, &[3], &[-8, 0, 7])).constant(f32s(&[], &[0.5]));
    let node = node.constant_as(22, &[], &[0x01]);
    assert_eq!(node.run_natively().unwrap()[0], f32s(&[3], &[-4.5, -0.5, 3.0]));
    let node = Node::new("DequantizeLinear", 25).input_as(19, of(DType::U8, &[2], &[0x3E, 0xC0]));
    assert_eq!(node.constant(f32s(&[], &[2.0])).run_natively().unwrap()[0], f32s(&[2], &[3.0, -4.0]));
    let node = Node::new("DequantizeLinear", 25).input_as(22, of(DType::I8, &[1], &[1])).constant(f32s(&[], &[1.0]));
    node.input_as(21, of(DType::U8, &[], &[0])).refused("x_zero_point: expected int4, found uint4");
}

#[test]
fn moved_elements_keep_their_bits() {
    // A NaN of e5m2 with its own bits.
    let x = || of(DType::U8, &[2, 2], &[0x7D, 0xFF, 0x80, 1]);
    let node = |op: &str| Node::new(op, 25).input_as(19, x());
    assert_eq!(node("Identity").run_natively().unwrap()[0], x());
    assert_eq!(node("Transpose").run_natively().unwrap()[0], of(DType::U8, &[2, 2], &[0x7D, 0x80, 0xFF, 1]));
    node("Reshape").constant(i64s(&[4])).gives(of(DType::U8, &[4], &[0x7D, 0xFF, 0x80, 1]));
    node("Shape").gives(i64s(&[2, 2]));
    let padded = |node: Node| node.constant(i64s(&[0, 1, 0, 0]));
    padded(node("Pad")).gives(of(DType::U8, &[2, 3], &[0, 0x7D, 0xFF, 0, 0x80, 1]));
    let value = padded(node("Pad")).constant_as(19, &[], &[0x3C]);
    value.gives(of(DType::U8, &[2, 3], &[0x3C, 0x7D, 0xFF, 0x3C, 0x80, 1]));
    padded(node("Pad"))
        .constant_as(17, &[], &[0x3C])
        .refused("constant_value: expected float8e5m2, found float8e4m3fn");
    node("Relu").refused("elements below 8 bits, or 8-bit floats");
    // One type as another, and the type of a second operand.
    let cast = node("Cast").int("to", 17);
    assert_eq!(cast.run_natively().unwrap()[0], of(DType::U8, &[2, 2], &[0x7F, 0x7F, 0x80, 0]));
    let like = Node::new("CastLike", 25).input(f32s(&[2], &[1.0, -1.0])).constant_as(20, &[1], &[0]);
    assert_eq!(like.run_natively().unwrap()[0], of(DType::U8, &[2], &[0x40, 0xC0]));
}

#[test]
fn integers_of_one_width_are_reinterpreted() {
    let node = |x: Literal, to: i64| Node::new("BitCast", 26).input(x).int("to", to);
    node(of(DType::U8, &[2], &[200, 1]), 3).gives(of(DType::I8, &[2], &[-56, 1]));
    node(of(DType::I16, &[1], &[-1]), 4).gives(of(DType::U16, &[1], &[65535]));
    node(of(DType::U32, &[1], &[4_294_967_295]), 6).gives(of(DType::I32, &[1], &[-1]));
    node(of(DType::Bool, &[2], &[1, 0]), 2).gives(of(DType::U8, &[2], &[1, 0]));
    node(of(DType::U8, &[1], &[1]), 4).refused("to: expected a type of 1 bytes, found u16");
    node(f32s(&[1], &[1.0]), 6).refused("the bits of f32 as i32");
}
