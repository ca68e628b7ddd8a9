//! Nests on every machine that runs here and on the interpreted one, whose accesses are checked.

use super::nest::{Affine, Combine, Entry, IndexTable, Inst, LoopNest, Output};
use super::{Family, Loops};
use crate::kernels::testing;
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

/// Row-major strides.
fn dense(extents: &[usize]) -> Vec<i64> {
    (0..extents.len()).map(|axis| extents[axis + 1..].iter().product::<usize>() as i64).collect()
}

/// A nest over dense `f32`, the last `reduced` axes not written.
fn nest(extents: &[usize], reduced: usize) -> LoopNest {
    let kept = &extents[..extents.len() - reduced];
    let strides = [dense(kept), vec![0; reduced]].concat();
    let output = Output { dtype: DType::F32, elements: kept.iter().product(), at: Affine::new(0, strides) };
    let mut nest = LoopNest::map(extents, output, vec![Inst::Load(0)]);
    nest.reduced = reduced;
    nest
}

/// What every machine computes; the interpreted ones too, with 4, 8 and 16 lanes.
fn run(name: &str, nest: LoopNest, inputs: &[&[f32]]) -> Result<Vec<f32>, String> {
    let kernel = Loops::new(name, nest);
    let found = testing::run(kernel.clone(), inputs);
    let schedule = kernel.nest().split();
    let same = |a: &f32, b: &f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
    for lanes in [4, 8, 16] {
        let other = testing::interpret(&kernel, &schedule, inputs, lanes);
        if !found[0].iter().zip(&other[0]).all(|(a, b)| same(a, b)) {
            return Err(format!("{}: {lanes} lanes give other bits", kernel.name()));
        }
    }
    Ok(found.into_iter().next().unwrap_or_default())
}

#[test]
fn copies_transpose_squares_of_any_size() {
    let shapes: [([usize; 4], [usize; 4]); 9] = [
        ([2, 4, 5, 7], [0, 2, 3, 1]),
        ([1, 16, 16, 16], [0, 2, 3, 1]),
        ([2, 33, 3, 19], [0, 2, 3, 1]),
        ([1, 20, 1, 300], [0, 3, 2, 1]),
        ([3, 5, 6, 50], [0, 3, 1, 2]),
        ([2, 3, 4, 8], [3, 2, 1, 0]),
        ([4, 3, 40, 32], [0, 2, 1, 3]),
        ([1, 3, 70, 5], [0, 2, 3, 1]),
        ([1, 300, 40, 9], [2, 3, 0, 1]),
    ];
    testing::report(shapes.into_iter().map(|(shape, perm)| {
        let extents = perm.map(|axis| shape[axis]);
        let strides = dense(&shape);
        let mut nest = nest(&extents, 0);
        let elements = shape.iter().product();
        nest.input("x", DType::F32, elements, Affine::new(0, perm.map(|axis| strides[axis])));
        let x = testing::values(1, elements);
        let own = dense(&extents);
        let from =
            |i: usize| -> usize { (0..4).map(|d| i / own[d] as usize % extents[d] * strides[perm[d]] as usize).sum() };
        let y = match run("copy", nest, &[&x]) {
            Ok(y) => y,
            Err(error) => return Some(error),
        };
        let wrong = (0..elements).find(|i| y[*i] != x[from(*i)])?;
        Some(format!("{shape:?} {perm:?}: element {wrong} is {}", y[wrong]))
    }));
}

#[test]
fn sums_run_along_dense_rows_in_sixteen_lanes() {
    let kinds = [Combine::Sum, Combine::SumProduct, Combine::Max, Combine::Min, Combine::Prod];
    let shapes = [(1, 1, 16), (3, 2, 17), (5, 1, 100), (9, 3, 33), (2, 4, 64), (70, 1, 31)];
    let cases = kinds.into_iter().flat_map(|kind| shapes.map(|shape| (kind, shape)));
    testing::report(cases.map(|(kind, (rows, outer, inner))| {
        // The outer reduced axis does not lie after the inner one, so that they stay apart.
        let extents = [rows, outer, inner];
        let mut nest = nest(&extents, 2);
        let strides = [inner as i64, (rows * inner) as i64, 1];
        nest.input("x", DType::F32, rows * outer * inner, Affine::new(0, strides));
        nest.input("w", DType::F32, inner, Affine::new(0, [0, 0, 1]));
        let start = match kind {
            Combine::Max => f32::NEG_INFINITY,
            Combine::Min => f32::INFINITY,
            Combine::Prod => 1.0,
            _ => 0.5,
        };
        nest.init = vec![Inst::Float(start.to_bits())];
        nest.body = match kind {
            Combine::SumProduct => vec![Inst::Load(0), Inst::Load(1)],
            _ => vec![Inst::Load(0), Inst::Load(1), Inst::Binary(BinaryFn::Add, 0, 1)],
        };
        nest.combine = kind;
        nest.finish = vec![Inst::Accumulated, Inst::Unary(UnaryFn::Neg, 0)];
        assert!(nest.clone().simplify().sums_in_lanes());
        let (x, w) = (testing::values(1, rows * outer * inner), testing::values(2, inner));
        let term = |row: usize, o: usize, i: usize| {
            let (x, w) = (f64::from(x[o * rows * inner + row * inner + i]), f64::from(w[i]));
            if kind == Combine::SumProduct { x * w } else { f64::from((x + w) as f32) }
        };
        let expected: Vec<f64> = (0..rows)
            .map(|row| {
                let terms = (0..outer * inner).map(|t| term(row, t / inner, t % inner));
                -match kind {
                    Combine::Max => terms.fold(f64::NEG_INFINITY, f64::max),
                    Combine::Min => terms.fold(f64::INFINITY, f64::min),
                    Combine::Prod => terms.product(),
                    _ => 0.5 + terms.sum::<f64>(),
                }
            })
            .collect();
        let name = format!("{kind:?} {rows}x{outer}x{inner}");
        match run(&name, nest, &[&x, &w]) {
            Ok(y) => testing::mismatch(&name, &y, &expected, |i| 1e-5 * expected[i].abs().max(1.0)),
            Err(error) => Some(error),
        }
    }));
}

#[test]
fn a_nan_wins_a_maximum_of_a_row_and_zeros_have_signs() {
    for (kind, larger) in [(Combine::Max, true), (Combine::Min, false)] {
        let mut nest = nest(&[3, 20], 1);
        nest.input("x", DType::F32, 60, Affine::new(0, [20, 1]));
        let start = if larger { f32::NEG_INFINITY } else { f32::INFINITY };
        (nest.init, nest.combine) = (vec![Inst::Float(start.to_bits())], kind);
        let mut x = [[if larger { -0.0f32 } else { 0.0 }; 20]; 3].concat();
        (x[7], x[20 + 18]) = (f32::NAN, if larger { 0.0 } else { -0.0 });
        let y = run("extreme", nest, &[&x]).unwrap();
        assert!(y[0].is_nan());
        assert_eq!([y[1].is_sign_negative(), y[2].is_sign_negative()], [!larger, larger]);
    }
}

/// A chain through 8-bit and 32-bit integers, in vectors and element by element.
#[test]
fn integers_saturate_and_wrap_alike_in_lanes_and_registers() {
    let body = |ty: DType| {
        vec![
            Inst::Load(0),
            Inst::ToInt(ty, 0),
            Inst::Int(100),
            Inst::Binary(BinaryFn::Add, 1, 2),
            Inst::Wrap(ty, 3),
            Inst::ToFloat(4),
        ]
    };
    let special = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 127.9, -128.9, 255.9, 3e9, -3e9, 2147483600.0];
    let x: Vec<f32> = special.into_iter().chain(testing::values(3, 61).into_iter().map(|v| v * 400.0)).collect();
    for (ty, low, high) in
        [(DType::I8, -128.0, 127.0), (DType::U8, 0.0, 255.0), (DType::I32, -2147483648.0, 2147483647.0)]
    {
        for stride in [1, 2] {
            let mut nest = nest(&[x.len()], 0);
            (nest.output.at.strides[0], nest.output.elements) = (stride, x.len() * stride as usize);
            nest.body = body(ty);
            nest.input("x", DType::F32, x.len(), Affine::new(0, [1]));
            let y = run("integers", nest, &[&x]).unwrap();
            for (i, x) in x.iter().enumerate() {
                let cut = if x.is_nan() { 0.0 } else { f64::from(*x).trunc().clamp(low, high) };
                let sum = cut as i64 + 100;
                let expected = match ty {
                    DType::I8 => f32::from(sum as i8),
                    DType::U8 => f32::from(sum as u8),
                    _ => sum as i32 as f32,
                };
                assert_eq!(y[i * stride as usize], expected, "{ty} of {x}");
            }
        }
    }
}

#[test]
fn functions_agree_in_vectors_and_element_by_element() {
    let x: Vec<f32> = testing::values(5, 37).into_iter().map(|v| v * 9.0).collect();
    let other: Vec<f32> = x.iter().rev().copied().collect();
    let binary = [BinaryFn::Pow, BinaryFn::Mod, BinaryFn::Fmod, BinaryFn::Prelu, BinaryFn::Less, BinaryFn::Equal];
    let unary = [UnaryFn::Sin, UnaryFn::Cos, UnaryFn::IsNan, UnaryFn::Silu, UnaryFn::Round];
    let bodies = binary
        .map(|f| vec![Inst::Load(0), Inst::Load(1), Inst::Binary(f, 0, 1)])
        .into_iter()
        .chain(unary.map(|f| vec![Inst::Load(0), Inst::Unary(f, 0)]));
    for mut body in bodies {
        if matches!(
            body.last(),
            Some(Inst::Binary(BinaryFn::Less | BinaryFn::Equal, ..) | Inst::Unary(UnaryFn::IsNan, _))
        ) {
            body.push(Inst::ToFloat(body.len() - 1));
        }
        let of = |stride: i64| {
            let mut nest = nest(&[x.len()], 0);
            (nest.output.at.strides[0], nest.output.elements) = (stride, x.len() * stride as usize);
            nest.body = body.clone();
            nest.input("x", DType::F32, x.len(), Affine::new(0, [1]));
            nest.input("w", DType::F32, x.len(), Affine::new(0, [1]));
            assert_eq!(nest.clone().simplify().vectorises(), stride == 1);
            run("function", nest, &[&x, &other]).unwrap()
        };
        let (vectors, elements) = (of(1), of(3));
        let same = |i: usize| vectors[i].to_bits() == elements[3 * i].to_bits() || vectors[i].is_nan();
        assert!((0..x.len()).all(same), "{body:?}");
    }
}

/// From `f32` to `f64` and back, of every value of which a program may hold both.
#[test]
fn doubles_agree_in_vectors_and_element_by_element() {
    use Inst::{Binary, Fma, Int, Load, Select, ToDouble, ToFloat, ToInt, Unary, Wrap};
    let special =
        [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -0.0, 3e9, -3e9, 1e-40, 65_536.5, -65_536.5, 1e38, -710.0];
    let x: Vec<f32> = special.into_iter().chain(testing::values(5, 37).into_iter().map(|v| v * 9.0)).collect();
    let both = || vec![Load(0), ToDouble(0), Load(1), ToDouble(2)];
    let unary =
        [UnaryFn::Exp, UnaryFn::Log, UnaryFn::Tanh, UnaryFn::Erf, UnaryFn::Softplus, UnaryFn::Sqrt, UnaryFn::Ceil];
    let binary = [BinaryFn::Add, BinaryFn::Div, BinaryFn::Pow, BinaryFn::Max, BinaryFn::Min, BinaryFn::Prelu];
    let tails = unary
        .map(|f| vec![Unary(f, 1)])
        .into_iter()
        .chain(binary.map(|f| vec![Binary(f, 1, 3)]))
        .chain([BinaryFn::Less, BinaryFn::Equal].map(|f| vec![Binary(f, 1, 3), Select(4, 1, 3)]))
        .chain(
            [DType::I32, DType::I8, DType::U16, DType::Bool]
                .map(|ty| vec![ToInt(ty, 1), Int(3), Binary(BinaryFn::Mul, 4, 5), Wrap(ty, 6), ToDouble(7)]),
        )
        .chain([vec![Fma(1, 3, 1)], vec![Unary(UnaryFn::IsNan, 1), ToDouble(4)]]);
    for tail in tails {
        let mut body = [both(), tail].concat();
        body.push(ToFloat(body.len() - 1));
        let of = |stride: i64| {
            let mut nest = nest(&[x.len()], 0);
            (nest.output.at.strides[0], nest.output.elements) = (stride, x.len() * stride as usize);
            nest.body = body.clone();
            nest.input("x", DType::F32, x.len(), Affine::new(0, [1]));
            nest.input("w", DType::F32, x.len(), Affine::new(0, [1]));
            assert_eq!(nest.check_kinds(), Ok(()));
            assert_eq!(nest.clone().simplify().vectorises(), stride == 1);
            let other: Vec<f32> = x.iter().rev().copied().collect();
            run("doubles", nest, &[&x, &other]).unwrap()
        };
        let (vectors, elements) = (of(1), of(3));
        let same = |i: usize| vectors[i].to_bits() == elements[3 * i].to_bits() || vectors[i].is_nan();
        assert!((0..x.len()).all(same), "{body:?}");
    }
}

/// As `u64`, whose upper half no signed integer orders.
#[test]
fn unsigned_integers_are_those_of_64_bits() {
    use Inst::{Binary, Load, ToFloat, ToInt, Unsigned};
    let x = [0.0, 1.0, 3.0, 9.3e18, 1.2e19, 1.8e19, 4e19, f32::INFINITY, f32::NAN, -5.0, 1e10, 2f32.powi(63)];
    for (function, other) in [BinaryFn::Div, BinaryFn::Mod, BinaryFn::Max, BinaryFn::Min, BinaryFn::Add]
        .into_iter()
        .flat_map(|function| [0, 7, 1 << 62, u64::MAX].map(|other| (function, other)))
    {
        let mut nest = nest(&[x.len()], 0);
        nest.body = vec![Load(0), ToInt(DType::U64, 0), Unsigned(other), Binary(function, 1, 2), ToFloat(3)];
        nest.input("x", DType::F32, x.len(), Affine::new(0, [1]));
        assert_eq!(nest.check_kinds(), Ok(()));
        let y = run("unsigned", nest, &[&x]).unwrap();
        for (x, y) in x.iter().zip(y) {
            let a = *x as u64;
            let expected = match function {
                BinaryFn::Div => a.checked_div(other).unwrap_or(0),
                BinaryFn::Mod => a.checked_rem(other).unwrap_or(0),
                BinaryFn::Max => a.max(other),
                BinaryFn::Min => a.min(other),
                _ => a.wrapping_add(other),
            };
            assert_eq!(y, expected as f32, "{function:?} of {x} and {other}");
        }
    }
}

#[test]
fn lookups_skip_and_wrap() {
    // Entries are the bits of `f32` inputs: the harness knows no other type.
    let entries: Vec<f32> = [3, -1, 0, 7, 2, -9, 5].map(|v: i32| f32::from_bits(v as u32)).into();
    let x = testing::values(1, 4 * 5);
    for (entry, name) in [(Entry::Wrap(4), "wrap"), (Entry::Skip, "skip")] {
        let mut nest = nest(&[7, 5], 0);
        let rows = if entry == Entry::Skip { 8 } else { 4 };
        let x = if entry == Entry::Skip { testing::values(1, 8 * 5) } else { x.clone() };
        let input = nest.input("x", DType::F32, rows * 5, Affine::new(0, [0, 1]));
        nest.tables.push(IndexTable { name: "t", dtype: DType::I32, elements: 7, at: Affine::new(0, [1, 0]), entry });
        nest.inputs[input].lookups.push((0, 5));
        nest.init = vec![Inst::Float(7f32.to_bits())];
        let y = run(name, nest, &[&x, &entries]).unwrap();
        for (i, bits) in entries.iter().enumerate() {
            let entry_value = bits.to_bits() as i32;
            let row = match entry {
                Entry::Skip if entry_value < 0 => None,
                Entry::Skip => Some(entry_value),
                Entry::Wrap(_) => Some((if entry_value < 0 { entry_value + 4 } else { entry_value }).clamp(0, 3)),
            };
            for k in 0..5 {
                let expected = row.map_or(7.0, |row| x[row as usize * 5 + k]);
                assert_eq!(y[i * 5 + k], expected, "{name} {entry_value}");
            }
        }
    }
}

/// Without blocks the sums of 2^18 and more terms are off by 1e-3 and more.
#[test]
fn long_sums_stay_within_their_bound() {
    const LONG: usize = 1 << 18;
    // Along the rows of memory, across them, over several axes, element by element.
    let cases: [(&[usize], usize, &[i64]); 5] = [
        (&[3, 16 * LONG], 1, &[0, 1]),
        (&[19, LONG], 1, &[1, 0]),
        (&[5, 300, 1000], 2, &[1, 0, 5]),
        (&[2, LONG], 1, &[1, 2]),
        (&[1, 7, 9, LONG / 16], 3, &[0, 0, 0, 1]),
    ];
    testing::report(cases.into_iter().flat_map(|case| [false, true].map(|product| (case, product))).map(
        |((extents, reduced, strides), product)| {
            let mut nest = nest(extents, reduced);
            let reach: i64 = extents.iter().zip(strides).map(|(n, stride)| (*n as i64 - 1) * stride).sum();
            nest.input("x", DType::F32, reach as usize + 1, Affine::new(0, strides));
            (nest.combine, nest.init) = (Combine::Sum, vec![Inst::Float(0)]);
            if product {
                (nest.combine, nest.body) = (Combine::SumProduct, vec![Inst::Load(0), Inst::Load(0)]);
            }
            let terms: usize = extents[extents.len() - reduced..].iter().product();
            let term = f64::from(0.1f32);
            let exact = terms as f64 * if product { term * term } else { term };
            let found = testing::run(Loops::new("sum", nest), &[&vec![0.1; reach as usize + 1]]).swap_remove(0);
            let expected = vec![exact; found.len()];
            testing::mismatch(&format!("{extents:?}, {product}"), &found, &expected, |_| 1e-4 * exact)
        },
    ));
}

#[test]
fn long_sums_have_the_same_bits_in_every_lane_count() {
    for (extents, strides) in [(&[3, 20_000], &[20_000, 1]), (&[19, 3_001], &[1, 19]), (&[2, 3_001], &[1, 2])] {
        let mut nest = nest(extents, 1);
        nest.input("x", DType::F32, extents[0] * extents[1], Affine::new(0, strides.map(i64::from)));
        (nest.combine, nest.init) = (Combine::Sum, vec![Inst::Float(0)]);
        run("sum", nest, &[&testing::values(1, extents[0] * extents[1])]).unwrap();
    }
}

#[test]
fn bytes_are_those_that_a_nest_comes_to() {
    // Channels 8 to 12 of 20 of 30 pixels, times a number for each of them.
    let mut part = nest(&[30, 4], 0);
    part.input("x", DType::F32, 600, Affine::new(8, [20, 1]));
    part.input("factor", DType::F32, 4, Affine::new(0, [0, 1]));
    assert_eq!(Loops::new("part", part.clone()).bytes(), 4 * (120 + 4 + 120));
    // Into a larger operand, and from wherever a table leads.
    (part.output.elements, part.output.at.strides) = (600, vec![20, 1]);
    assert_eq!(Loops::new("part", part.clone()).bytes(), 4 * (120 + 4 + 120));
    let at = Affine::new(0, [1, 0]);
    part.tables.push(IndexTable { name: "rows", dtype: DType::I64, elements: 50, at, entry: Entry::Wrap(30) });
    part.inputs[0].lookups.push((0, 20));
    assert_eq!(Loops::new("part", part).bytes(), 4 * (600 + 4 + 120) + 8 * 30);
}
