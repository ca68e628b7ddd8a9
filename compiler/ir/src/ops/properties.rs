//! Properties of every shape rule below: no attributes and operand types make it panic, and what it accepts can be evaluated; in terms
//! of other operators, if it has a decomposition, to the same elements.

use proptest::prelude::*;

use super::literal::Literal;
use super::pad::PadMode;
use super::*;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::{DType, TensorType};

/// Mostly small extents, some of them absurd.
fn extent() -> impl Strategy<Value = usize> + Clone {
    prop_oneof![20 => 0usize..4, 1 => Just(1 << 40), 1 => Just(usize::MAX)]
}

fn signed() -> impl Strategy<Value = i64> + Clone {
    prop_oneof![20 => -3i64..4, 1 => Just(i64::MIN), 1 => Just(i64::MAX)]
}

/// A list that mostly has `len` entries.
fn list<S: Strategy + Clone>(len: usize, entry: S) -> impl Strategy<Value = Vec<S::Value>> {
    prop_oneof![19 => len..=len, 1 => 0usize..5].prop_flat_map(move |len| prop::collection::vec(entry.clone(), len))
}

fn dtype() -> impl Strategy<Value = DType> {
    use DType::*;
    prop_oneof![4 => Just(F32), 4 => Just(I64), 1 => Just(Bool), 1 => Just(U8), 1 => Just(F16), 1 => Just(U64)]
}

/// An operator that moves elements, mostly with as many attributes as an operand of `rank` needs.
fn movement(rank: usize) -> impl Strategy<Value = Op> {
    let mode = prop::sample::select(vec![PadMode::Constant, PadMode::Edge, PadMode::Reflect, PadMode::Wrap]);
    let steps = prop_oneof![Just(Vec::new()), list(rank, signed())];
    prop_oneof![
        list(rank, extent()).prop_map(|shape| Reshape { shape }.into()),
        list(rank, extent()).prop_map(|shape| Expand { shape }.into()),
        list(rank, extent()).prop_map(|perm| Transpose { perm }.into()),
        Just((0..rank).collect::<Vec<_>>()).prop_shuffle().prop_map(|perm| Transpose { perm }.into()),
        list(rank, extent()).prop_map(|repeats| Tile { repeats }.into()),
        extent().prop_map(|axis| Concat { axis }.into()),
        extent().prop_map(|axis| Gather { axis }.into()),
        extent().prop_map(|axis| GatherElements { axis }.into()),
        (extent(), list(2, extent())).prop_map(|(axis, sizes)| Split { axis, sizes }.into()),
        (list(rank, extent()), steps, list(rank, extent())).prop_map(|(starts, steps, sizes)| Slice {
            starts,
            steps,
            sizes
        }
        .into()),
        (mode, list(2 * rank, signed()), prop_oneof![Just(1.0), -2f64..2.0]).prop_map(|(mode, pads, value)| Pad {
            mode,
            pads,
            value
        }
        .into()),
    ]
}

fn elementwise() -> impl Strategy<Value = Op> {
    use UnaryFn::*;
    let unary = prop::sample::select(vec![Relu, Clip(-1.0, 1.0), Neg, Abs, Sign, Not, IsNan, Exp]);
    prop_oneof![
        unary.prop_map(|function| Unary { function }.into()),
        prop::sample::select(BinaryFn::ALL.to_vec()).prop_map(|function| Binary { function }.into()),
        Just(Where {}.into()),
        Just(Identity {}.into()),
        Just(BatchStatistics {}.into()),
        Just(Compact {}.into()),
        extent().prop_map(|k| NonMaxSuppression { k }.into()),
        (extent(), extent(), any::<bool>()).prop_map(|(axis, k, smallest)| TopK { axis, k, smallest }.into()),
        (1usize..3, 0usize..2, any::<bool>()).prop_map(|(kernel, pad, column_major)| {
            let (kernel, pads) = (vec![kernel], vec![pad; 2]);
            MaxPool { kernel, pads, strides: vec![1], dilations: vec![1], column_major, ..MaxPool::default() }.into()
        }),
        dtype().prop_map(|to| Cast { to }.into()),
    ]
}

/// Operand types that often agree: later ones repeat the first with one thing changed.
fn operands() -> impl Strategy<Value = Vec<TensorType>> {
    let change = (0usize..4, 0usize..4, extent(), dtype());
    let shape = prop::collection::vec(extent(), 0..4);
    (dtype(), shape, prop::collection::vec(change, 0..3)).prop_map(|(dtype, shape, changes)| {
        let first = TensorType::new(dtype, shape);
        let mut all = vec![first.clone()];
        for (kind, axis, extent, dtype) in changes {
            let mut shape = first.shape.to_vec();
            match shape.get_mut(axis) {
                Some(slot) if kind == 0 => *slot = extent,
                _ => {}
            }
            all.push(TensorType::new(if kind == 1 { dtype } else { first.dtype }, shape));
        }
        all
    })
}

fn case() -> impl Strategy<Value = (Op, Vec<TensorType>)> {
    operands()
        .prop_flat_map(|types| (prop_oneof![2 => movement(types[0].shape.rank()), 1 => elementwise()], Just(types)))
}

/// A literal of small elements, 0 1 2 0 1 2 ….
fn literal(ty: &TensorType) -> Literal {
    let count = ty.shape.numel();
    if ty.dtype.is_float() {
        Literal::new_float(ty.clone(), (0..count).map(|i| (i % 3) as f64).collect())
    } else {
        Literal::new_int(ty.clone(), (0..count).map(|i| (i % 3) as i64).collect())
    }
}

#[test]
fn operands_beyond_the_address_space_are_refused() {
    let ty = TensorType::f32([1 << 40, 0, 1 << 40]);
    let error = Op::from(BatchStatistics {}).infer(&[&ty]).unwrap_err();
    assert_eq!(error.to_string(), "operands: expected an addressable size, found f32[1099511627776,0,1099511627776]");
}

/// The environment's number of cases (`PROPTEST_CASES`), or what the tests of every build can spare.
fn cases() -> ProptestConfig {
    let set = std::env::var_os("PROPTEST_CASES").is_some();
    if set { ProptestConfig::default() } else { ProptestConfig::with_cases(16384) }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn what_is_accepted_can_be_evaluated((op, types) in case()) {
        let types: Vec<&TensorType> = types.iter().collect();
        let Ok(results) = op.infer(&types) else { return Ok(()) };
        let small = |ty: &TensorType| ty.shape.checked_numel().is_some_and(|n| n <= 4096);
        if results.iter().chain(types.iter().copied()).all(small) {
            let literals: Vec<Literal> = types.iter().map(|ty| literal(ty)).collect();
            let literals: Vec<&Literal> = literals.iter().collect();
            match op.evaluate(&literals) {
                Ok(values) => {
                    if let Some(parts) = decomposition::evaluate(&op, &literals).expect("parts that fit") {
                        prop_assert_eq!(&parts, &values);
                    }
                    prop_assert_eq!(values.into_iter().map(|value| value.ty).collect::<Vec<_>>(), results);
                }
                Err(error) => prop_assert_eq!(error.field, "indices", "only the elements of indices may be at fault"),
            }
        }
    }
}
