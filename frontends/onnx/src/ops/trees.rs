//! Ensembles of decision trees: TreeEnsemble of `ai.onnx.ml`.
//!
//! In: rows of features, and trees of the file. Out: for each row and target, what the leaves that the row leads to add up to, or the least or largest of
//! them. All tests are made at once, for every row and node; then a row goes down all trees by one level at a time, to the depth of the deepest.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Gather, GatherElements, Reduce, Softmax, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::{DType, TensorType};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, cast, expand, expect_len, extent, extents, int_constant, unary, with_scalar};

/// The tests by their number in the standard; the next one is membership.
const TESTS: [Option<BinaryFn>; 6] = [
    Some(BinaryFn::LessOrEqual),
    Some(BinaryFn::Less),
    Some(BinaryFn::GreaterOrEqual),
    Some(BinaryFn::Greater),
    Some(BinaryFn::Equal),
    // Not equal.
    None,
];
const MEMBER: usize = 6;

/// The nodes and leaves of all trees.
struct Forest {
    features: Vec<i64>,
    modes: Vec<usize>,
    splits: Vec<f64>,
    /// The numbers that each node's set has, of membership tests.
    members: Vec<Vec<f64>>,
    /// Whether a NaN passes the test.
    nan_passes: Vec<i64>,
    /// Where a row goes that passes the test, and one that does not. Leaves come after the nodes, and lead to themselves.
    next: [Vec<i64>; 2],
    roots: Vec<i64>,
    weights: Vec<f64>,
    targets: Vec<i64>,
    /// How many steps lead from any root to its leaves.
    depth: usize,
}

/// Numbers of a tensor that must be an attribute.
fn numbers(cx: &Context<'_>, name: &str) -> Result<Option<Vec<f64>>> {
    let Some(tensor) = cx.attrs().tensor(name)? else { return Ok(None) };
    let literal = Literal::from_constant(&tensor).map_err(|e| cx.error(name, e.expected, e.found))?;
    Ok(Some(literal.to_f64()))
}

impl Forest {
    /// Reads the trees of a node over rows of `columns` features.
    fn of(cx: &Context<'_>, columns: usize) -> Result<Self> {
        let missing = |name: &str| cx.attrs().error(name, "a tensor", "none");
        let features = cx.attrs().require_ints("nodes_featureids")?;
        let count = features.len();
        if let Some(wrong) = features.iter().find(|at| !(0..columns as i64).contains(at)) {
            return Err(cx.error("nodes_featureids", format!("one of {columns} features"), wrong.to_string()));
        }
        let modes = numbers(cx, "nodes_modes")?.ok_or_else(|| missing("nodes_modes"))?;
        if let Some(wrong) = modes.iter().find(|mode| !(0.0..=MEMBER as f64).contains(*mode)) {
            return Err(cx.error("nodes_modes", format!("0 to {MEMBER}"), wrong.to_string()));
        }
        let modes: Vec<usize> = modes.iter().map(|mode| *mode as usize).collect();
        let splits = numbers(cx, "nodes_splits")?.ok_or_else(|| missing("nodes_splits"))?;
        let weights = numbers(cx, "leaf_weights")?.ok_or_else(|| missing("leaf_weights"))?;
        let targets = cx.attrs().require_ints("leaf_targetids")?;
        let nan_passes = cx.attrs().ints("nodes_missing_value_tracks_true")?.unwrap_or_else(|| vec![0; count]);
        expect_len(cx, "nodes_modes", &modes, count)?;
        expect_len(cx, "nodes_splits", &splits, count)?;
        expect_len(cx, "nodes_missing_value_tracks_true", &nan_passes, count)?;
        expect_len(cx, "leaf_targetids", &targets, weights.len())?;
        let side = |ids: &str, leafs: &str| -> Result<Vec<i64>> {
            let (ids, leaf) = (cx.attrs().require_ints(ids)?, cx.attrs().require_ints(leafs)?);
            expect_len(cx, "nodes", &ids, count)?;
            expect_len(cx, "leafs", &leaf, count)?;
            let place = |(id, leaf): (&i64, &i64)| match *leaf != 0 {
                true if (0..weights.len() as i64).contains(id) => Ok(count as i64 + id),
                false if (0..count as i64).contains(id) => Ok(*id),
                _ => Err(cx.error("nodes", format!("{count} nodes and {} leaves", weights.len()), id.to_string())),
            };
            let inner = ids.iter().zip(&leaf).map(place).collect::<Result<Vec<_>>>()?;
            Ok(inner.into_iter().chain(count as i64..(count + weights.len()) as i64).collect())
        };
        let next = [side("nodes_truenodeids", "nodes_trueleafs")?, side("nodes_falsenodeids", "nodes_falseleafs")?];
        let roots = cx.attrs().require_ints("tree_roots")?;
        if count == 0 || roots.is_empty() || roots.iter().any(|root| !(0..count as i64).contains(root)) {
            return Err(cx.error("tree_roots", format!("one or more of {count} nodes"), format!("{roots:?}")));
        }
        let members = members(cx, &modes)?;
        let mut forest = Self { features, modes, splits, members, nan_passes, next, roots, weights, targets, depth: 0 };
        forest.depth = forest.deepest(cx)?;
        Ok(forest)
    }

    fn nodes(&self) -> usize {
        self.features.len()
    }

    /// The number of steps after which every row is at a leaf. Nodes that more than one way leads to are refused, and so those that lead back to
    /// themselves.
    fn deepest(&self, cx: &Context<'_>) -> Result<usize> {
        let (mut level, mut depth) = (self.roots.clone(), 0);
        let mut met = vec![false; self.nodes()];
        loop {
            level.retain(|node| *node < self.nodes() as i64);
            for node in &level {
                if std::mem::replace(&mut met[*node as usize], true) {
                    return Err(cx.error("nodes", "trees", format!("two ways to node {node}")));
                }
            }
            if level.is_empty() {
                return Ok(depth);
            }
            level = level.iter().flat_map(|node| self.next.each_ref().map(|next| next[*node as usize])).collect();
            depth += 1;
        }
    }
}

/// The sets of membership tests, in the order of their nodes; a NaN ends each.
fn members(cx: &Context<'_>, modes: &[usize]) -> Result<Vec<Vec<f64>>> {
    let values = numbers(cx, "membership_values")?.unwrap_or_default();
    let sets: Vec<&[f64]> = values.split(|value| value.is_nan()).collect();
    let wanted = modes.iter().filter(|mode| **mode == MEMBER).count();
    // What follows the last NaN is no set.
    if sets.len() != wanted + 1 || sets.last().is_some_and(|rest| !rest.is_empty()) {
        let found = sets.len().saturating_sub(1).to_string();
        return Err(cx.error("membership_values", format!("{wanted} sets, a NaN after each"), found));
    }
    let mut sets = sets.into_iter();
    let of = |mode: &usize| if *mode == MEMBER { sets.next().unwrap_or_default().to_vec() } else { Vec::new() };
    Ok(modes.iter().map(of).collect())
}

/// A row of numbers of the element type of `like`.
fn row(cx: &mut Context<'_>, like: ValueId, values: &[f64]) -> ValueId {
    let ty = TensorType::new(cx.ty(like).dtype, [1, values.len()]);
    cx.add_constant(Literal::new_float(ty, values.to_vec()).to_constant())
}

/// A row of yes and no.
fn flags(cx: &mut Context<'_>, values: impl Iterator<Item = bool>) -> ValueId {
    let values: Vec<i64> = values.map(i64::from).collect();
    int_constant(cx, DType::Bool, vec![1, values.len()], &values)
}

impl Forest {
    /// Whether each row passes each node's test: `bool [rows, nodes]`.
    fn tests(&self, cx: &mut Context<'_>, x: ValueId) -> Result<ValueId> {
        let features = int_constant(cx, DType::I64, vec![self.nodes()], &self.features);
        let x = cx.emit(Gather { axis: 1 }, &[x, features])?;
        let splits = row(cx, x, &self.splits);
        let mut passed = flags(cx, self.modes.iter().map(|_| false));
        for (mode, test) in TESTS.iter().enumerate().filter(|(mode, _)| self.modes.contains(mode)) {
            let found = match test {
                Some(function) => binary(cx, *function, x, splits)?,
                None => {
                    let equal = binary(cx, BinaryFn::Equal, x, splits)?;
                    unary(cx, UnaryFn::Not, equal)?
                }
            };
            let of_mode = flags(cx, self.modes.iter().map(|m| *m == mode));
            let found = binary(cx, BinaryFn::And, found, of_mode)?;
            passed = binary(cx, BinaryFn::Or, passed, found)?;
        }
        // The first members of all sets at once, then the second ones.
        for at in 0..self.members.iter().map(Vec::len).max().unwrap_or(0) {
            let value = |set: &Vec<f64>| set.get(at).copied().unwrap_or(0.0);
            let values = row(cx, x, &self.members.iter().map(value).collect::<Vec<_>>());
            let there = flags(cx, self.members.iter().map(|set| at < set.len()));
            let equal = binary(cx, BinaryFn::Equal, x, values)?;
            let equal = binary(cx, BinaryFn::And, equal, there)?;
            passed = binary(cx, BinaryFn::Or, passed, equal)?;
        }
        if self.nan_passes.contains(&1) {
            let passes = flags(cx, self.nan_passes.iter().map(|flag| *flag == 1));
            let nan = unary(cx, UnaryFn::IsNan, x)?;
            let nan = binary(cx, BinaryFn::And, nan, passes)?;
            passed = binary(cx, BinaryFn::Or, passed, nan)?;
        }
        Ok(passed)
    }

    /// The leaf that each row leads to in each tree: `i64 [rows, trees]`.
    fn leaves(&self, cx: &mut Context<'_>, passed: ValueId, rows: usize) -> Result<ValueId> {
        let roots = int_constant(cx, DType::I64, vec![1, self.roots.len()], &self.roots);
        let mut at = expand(cx, roots, vec![rows, self.roots.len()])?;
        let next = [0, 1].map(|side| int_constant(cx, DType::I64, vec![self.next[side].len()], &self.next[side]));
        for _ in 0..self.depth {
            // A leaf leads to itself whatever is read for it.
            let node = with_scalar(cx, BinaryFn::Min, at, self.nodes() as f64 - 1.0)?;
            let passed = cx.emit(GatherElements { axis: 1 }, &[passed, node])?;
            let yes = cx.emit(Gather { axis: 0 }, &[next[0], at])?;
            let no = cx.emit(Gather { axis: 0 }, &[next[1], at])?;
            at = cx.emit(Where {}, &[passed, yes, no])?;
        }
        with_scalar(cx, BinaryFn::Sub, at, self.nodes() as f64)
    }
}

/// `TreeEnsemble`.
pub(crate) fn tree_ensemble(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let [rows, columns] = cx.shape(x)[..] else { return Err(cx.error("X", "rank 2", cx.ty(x).to_string())) };
    let forest = Forest::of(cx, columns)?;
    let targets = extent(cx, "n_targets", cx.attrs().require_int("n_targets")?)?;
    if let Some(wrong) = extents(cx, "leaf_targetids", &forest.targets)?.iter().find(|target| **target >= targets) {
        return Err(cx.error("leaf_targetids", format!("one of {targets} targets"), wrong.to_string()));
    }
    let (kind, neutral) = match cx.attrs().int("aggregate_function", 1)? {
        0 | 1 => (ReduceKind::Sum, 0.0),
        2 => (ReduceKind::Min, f64::INFINITY),
        3 => (ReduceKind::Max, f64::NEG_INFINITY),
        other => return Err(cx.error("aggregate_function", "0 to 3", other.to_string())),
    };
    if kind != ReduceKind::Sum && (0..targets as i64).any(|target| !forest.reaches_always(target)) {
        return Err(cx.unsupported("the least or largest of a target that a tree may leave out"));
    }
    let trees = forest.roots.len();
    let passed = forest.tests(cx, x)?;
    let leaves = forest.leaves(cx, passed, rows)?;
    let flat = TensorType::new(cx.ty(x).dtype, [forest.weights.len()]);
    let weights = cx.add_constant(Literal::new_float(flat, forest.weights.clone()).to_constant());
    let weights = cx.emit(Gather { axis: 0 }, &[weights, leaves])?;
    let of = int_constant(cx, DType::I64, vec![forest.targets.len()], &forest.targets);
    let of = cx.emit(Gather { axis: 0 }, &[of, leaves])?;
    let weights = super::support::reshape(cx, weights, vec![rows, trees, 1])?;
    let of = super::support::reshape(cx, of, vec![rows, trees, 1])?;
    let each = super::support::positions(cx, targets, vec![1, 1, targets])?;
    let own = binary(cx, BinaryFn::Equal, of, each)?;
    let neutral = cx.scalar_like(weights, neutral)?;
    let parts = cx.emit(Where {}, &[own, weights, neutral])?;
    let mut y = cx.emit(Reduce { kind, axes: vec![1], keepdims: false }, &[parts])?;
    if cx.attrs().int("aggregate_function", 1)? == 0 {
        y = with_scalar(cx, BinaryFn::Div, y, trees as f64)?;
    }
    y = match cx.attrs().int("post_transform", 0)? {
        0 => y,
        1 => cx.emit(Softmax { axis: 1, log: false }, &[y])?,
        2 => unary(cx, UnaryFn::Sigmoid, y)?,
        other => return Err(cx.unsupported(format!("post_transform {other}"))),
    };
    Ok(vec![cast(cx, y, cx.ty(x).dtype)?])
}

impl Forest {
    /// Whether some tree has leaves of this target only, so that every row has a leaf of it.
    fn reaches_always(&self, target: i64) -> bool {
        let all_leaves = |root: i64| {
            let (mut level, mut only) = (vec![root], true);
            while let Some(at) = level.pop() {
                match usize::try_from(at - self.nodes() as i64) {
                    Ok(leaf) => only &= self.targets[leaf] == target,
                    Err(_) => level.extend(self.next.each_ref().map(|next| next[at as usize])),
                }
            }
            only
        };
        self.roots.iter().any(|root| all_leaves(*root))
    }
}
