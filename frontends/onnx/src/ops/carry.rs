//! What operators do with extents that depend on data: which of them carry such an axis, and where to.
//!
//! In: a node of which an operand is live (see [`crate::live`]), or has elements that are such extents. Out: the results of its import function over
//! the bound, marked. An operator that is not in the table here refuses such an operand by name, as do the forms of it that cannot carry the axis: nothing is
//! ever computed from what lies behind a count. Reductions along the axis first put what is neutral there.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::literal::{Data, Literal};
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Compact, Concat, Expand, Gather, Identity, Reduce, Slice, Where};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::DType;

use crate::context::{Context, ImportFn};
use crate::error::{Error, Result};
use crate::live::{Entry, Extent, Live};

use super::reduce::reduced_axes;
use super::shape::{listed_axes, listed_extents, resolve};
use super::support::{axes, axis, binary, cast, int_constant, positions, reshape, with_scalar};
use super::unary;

/// Imports a node some of whose operands are of extents that depend on data.
type Rule = fn(&mut Context<'_>, ImportFn) -> Result<Vec<ValueId>>;

/// The operators of the default domain with a rule, in the order of the names. Element-wise functions have one rule for all.
const RULES: &[(&str, Rule)] = &[
    ("ArgMax", arg_max),
    ("ArgMin", arg_min),
    ("Compress", own),
    ("Concat", concat),
    ("ConstantOfShape", constant_of_shape),
    ("Expand", expand),
    ("Flatten", flatten),
    ("Gather", gather),
    ("GatherND", gather_nd),
    ("Gemm", gemm),
    ("LogSoftmax", softmax),
    ("MatMul", matmul),
    ("NonMaxSuppression", own),
    ("NonZero", own),
    ("Range", range),
    ("ReduceL1", reduce_to_zero),
    ("ReduceL2", reduce_to_zero),
    ("ReduceMax", reduce_max),
    ("ReduceMean", reduce_mean),
    ("ReduceMin", reduce_min),
    ("ReduceProd", reduce_prod),
    ("ReduceSum", reduce_sum),
    ("ReduceSumSquare", reduce_to_zero),
    ("Reshape", reshape_to),
    ("Shape", shape),
    ("Size", size),
    ("Slice", slice),
    ("Softmax", softmax),
    ("Split", split),
    ("Squeeze", squeeze),
    ("TopK", top_k),
    ("Transpose", transpose),
    ("Unique", own),
    ("Unsqueeze", unsqueeze),
];

/// Element-wise operators besides the functions of one operand.
const ELEMENTWISE: &[&str] = &[
    "Add",
    "And",
    "BitShift",
    "BitwiseAnd",
    "BitwiseNot",
    "BitwiseOr",
    "BitwiseXor",
    "Cast",
    "CastLike",
    "Clip",
    "Cosh",
    "Div",
    "Dropout",
    "Equal",
    "Gelu",
    "Greater",
    "GreaterOrEqual",
    "Identity",
    "IsInf",
    "Less",
    "LessOrEqual",
    "Max",
    "Mean",
    "Min",
    "Mod",
    "Mul",
    "Or",
    "PRelu",
    "Pow",
    "Shrink",
    "Sinh",
    "Sub",
    "Sum",
    "Tan",
    "Where",
    "Xor",
];

/// Imports a node by its function, and by its rule where extents of its operands depend on data.
pub(crate) fn import(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let given: Vec<ValueId> = cx.inputs.iter().flatten().copied().collect();
    let live = given.iter().any(|id| cx.live(*id).is_some());
    let entries = given.iter().any(|id| cx.assembly.entries.contains_key(id));
    // What chooses by data itself makes such extents.
    let chooses = matches!(cx.op_type(), "Compress" | "NonMaxSuppression" | "NonZero" | "Unique");
    if !live && !entries && !chooses {
        return function(cx);
    }
    let rule = match cx.domain() {
        "" => RULES.binary_search_by(|(name, _)| (*name).cmp(cx.op_type())).ok().map(|at| RULES[at].1),
        _ => None,
    };
    let pointwise =
        cx.domain().is_empty() && (ELEMENTWISE.contains(&cx.op_type()) || unary::of_name(cx.op_type()).is_some());
    match rule.or(pointwise.then_some(elementwise as Rule)) {
        Some(rule) => {
            cx.assembly.carries = true;
            let results = rule(cx, function);
            cx.assembly.carries = false;
            results
        }
        None if live => match given.iter().find_map(|id| cx.live(*id)) {
            Some(live) => Err(cannot(cx, live, "this operator does not carry")),
            None => function(cx),
        },
        None => function(cx),
    }
}

/// The refusal of an extent that depends on data.
fn cannot(cx: &Context<'_>, live: Live, why: &str) -> Error {
    let Live { axis, extent } = live;
    cx.unsupported(format!(
        "an operand whose axis {axis} has an extent that depends on data (at most {}), which {why}",
        extent.bound
    ))
}

/// `value` with an extent that depends on data along an axis; cut to it where it is known after all.
pub(crate) fn mark(cx: &mut Context<'_>, value: ValueId, axis: usize, extent: Extent) -> Result<ValueId> {
    if cx.constant(extent.count).is_some() {
        let count = cx.const_int(extent.count, "extent")?;
        let mut sizes = cx.shape(value).to_vec();
        sizes[axis] = usize::try_from(count).unwrap_or(0).min(sizes[axis]);
        let starts = vec![0; sizes.len()];
        return cx.emit(Slice { starts, steps: Vec::new(), sizes }, &[value]);
    }
    let extent = cx.assembly.canonical(extent);
    // An operand that is its own result would be live for all its readers.
    let same = cx.live(value) == Some(Live { axis, extent });
    let value = if same { value } else { cx.emit(Identity {}, &[value])? };
    cx.set_live(value, axis, extent);
    Ok(value)
}

/// Marks all of `values`.
fn mark_all(cx: &mut Context<'_>, values: Vec<ValueId>, axis: usize, extent: Extent) -> Result<Vec<ValueId>> {
    values.into_iter().map(|value| mark(cx, value, axis, extent)).collect()
}

/// The results of the import function, of which the first are live.
fn carried(cx: &mut Context<'_>, function: ImportFn, axis: usize, extent: Extent) -> Result<Vec<ValueId>> {
    let values = function(cx)?;
    mark_all(cx, values, axis, extent)
}

/// The live axis of input `slot`, which has one.
fn live_input(cx: &Context<'_>, slot: usize) -> Result<Live> {
    let live = cx.optional(slot).and_then(|id| cx.live(id));
    // Another operand is live, which no form of the operator takes.
    let other = || cx.inputs.iter().flatten().find_map(|id| cx.live(*id));
    match (live, other()) {
        (Some(live), _) => Ok(live),
        (None, Some(live)) => Err(cannot(cx, live, "this operand does not carry")),
        (None, None) => Err(cx.unsupported("an operand with elements that depend on data")),
    }
}

/// Whether nothing but entries depends on data.
fn is_static(cx: &Context<'_>) -> bool {
    cx.inputs.iter().flatten().all(|id| cx.live(*id).is_none())
}

fn scalar(cx: &mut Context<'_>, value: i64) -> ValueId {
    int_constant(cx, DType::I64, Vec::new(), &[value])
}

/// `min(count, most) - start`, at least 0; the count itself where that is what it says.
fn clamped(cx: &mut Context<'_>, extent: Extent, most: i64, start: i64) -> Result<ValueId> {
    let mut count = extent.count;
    if most < extent.bound as i64 {
        let most = scalar(cx, most);
        count = binary(cx, BinaryFn::Min, count, most)?;
    }
    if start == 0 {
        return Ok(count);
    }
    let start = scalar(cx, start);
    count = binary(cx, BinaryFn::Sub, count, start)?;
    let zero = scalar(cx, 0);
    binary(cx, BinaryFn::Max, count, zero)
}

/// Which places of an axis are within its extent, as `bool` that broadcasts to values of rank `rank`.
pub(crate) fn within(cx: &mut Context<'_>, live: Live, rank: usize) -> Result<ValueId> {
    let mut shape = vec![1; rank];
    shape[live.axis] = live.extent.bound;
    let places = positions(cx, live.extent.bound, shape)?;
    binary(cx, BinaryFn::Less, places, live.extent.count)
}

/// `x` with `value` behind its extent.
pub(crate) fn filled(cx: &mut Context<'_>, x: ValueId, value: f64) -> Result<ValueId> {
    let Some(live) = cx.live(x) else { return Ok(x) };
    let inside = within(cx, live, cx.shape(x).rank())?;
    if cx.ty(x).dtype == DType::Bool {
        return match value == 0.0 {
            true => binary(cx, BinaryFn::And, x, inside),
            false => Err(cannot(cx, live, "true elements are not put behind")),
        };
    }
    let value = cx.scalar_like(x, value)?;
    cx.emit(Where {}, &[inside, x, value])
}

/// Positions of the true elements of a `bool` vector, and their number as an extent.
pub(crate) fn compacted(cx: &mut Context<'_>, mask: ValueId) -> Result<(ValueId, Extent)> {
    let bound = cx.shape(mask).numel();
    let found = cx.emit_all(Compact {}, &[mask])?;
    Ok((found[0], Extent { bound, count: found[1] }))
}

/// What needs no rule: it looks at its operands itself.
fn own(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    function(cx)
}

fn elementwise(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return on_entries(cx, function);
    }
    // Of these the others are no operands of the function.
    let only_first = matches!(cx.op_type(), "CastLike" | "Clip" | "Dropout");
    let given: Vec<ValueId> =
        cx.inputs.iter().flatten().copied().take(if only_first { 1 } else { usize::MAX }).collect();
    let rank = given.iter().map(|id| cx.shape(*id).rank()).max().unwrap_or(0);
    let mut found: Option<Live> = None;
    for id in &given {
        let Some(live) = cx.live(*id) else { continue };
        let here = Live { axis: live.axis + rank - cx.shape(*id).rank(), ..live };
        match found {
            Some(other) if other != here => return Err(cannot(cx, live, "differs from that of another operand")),
            _ => found = Some(here),
        }
    }
    let Some(live) = found else { return Err(live_input(cx, 0).err().unwrap_or_else(|| cx.unsupported("operands"))) };
    let fixed = |cx: &Context<'_>, id: &ValueId| {
        let at = (live.axis + cx.shape(*id).rank()).checked_sub(rank);
        cx.live(*id).is_none() && at.is_some_and(|at| cx.shape(*id)[at] != 1)
    };
    if given.iter().any(|id| fixed(cx, id)) {
        return Err(cannot(cx, live, "meets a fixed one of another operand"));
    }
    carried(cx, function, live.axis, live.extent)
}

/// An operator over integers that are extents: which of its results are such extents too.
fn on_entries(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let operands: Vec<Option<Vec<Entry>>> = cx.inputs.iter().map(|id| id.and_then(|id| cx.entries(id))).collect();
    let results = function(cx)?;
    let (Some(result), true) = (results.first().copied(), operands.iter().all(Option::is_some)) else {
        return Ok(results);
    };
    let operands: Vec<Vec<Entry>> = operands.into_iter().flatten().collect();
    let bounds = |entry: &Entry| match entry {
        Entry::Known(value) => (usize::try_from(*value).ok(), true),
        Entry::Count(extent) => (Some(extent.bound), false),
    };
    let single: Option<Vec<(usize, bool)>> = operands
        .iter()
        .map(|entries| match &entries[..] {
            [entry] => Some((bounds(entry).0?, bounds(entry).1)),
            _ => None,
        })
        .collect();
    let whole = matches!(cx.ty(result).dtype, DType::I32 | DType::I64);
    let bound = match (cx.op_type(), single.as_deref()) {
        ("Cast" | "Identity", _) if whole => {
            cx.assembly.entries.insert(result, operands[0].clone());
            return Ok(results);
        }
        ("Min", Some(all)) => all.iter().map(|(bound, _)| *bound).min(),
        ("Max", Some(all)) => all.iter().map(|(bound, _)| *bound).max(),
        ("Add", Some([(a, _), (b, _)])) => a.checked_add(*b),
        ("Mul", Some([(a, _), (b, _)])) => a.checked_mul(*b),
        _ => None,
    };
    if let Some(bound) = bound.filter(|_| whole) {
        count_entry(cx, result, bound)?;
    }
    Ok(results)
}

/// Notes that the one element of `value` is an extent of at most `bound`.
fn count_entry(cx: &mut Context<'_>, value: ValueId, bound: usize) -> Result<()> {
    if cx.constant(value).is_some() || cx.shape(value).numel() != 1 {
        return Ok(());
    }
    let count = reshape(cx, value, Vec::new())?;
    let count = cast(cx, count, DType::I64)?;
    let extent = cx.assembly.canonical(Extent { bound, count });
    cx.assembly.entries.insert(value, vec![Entry::Count(extent)]);
    Ok(())
}

/// An operator that moves elements, over operands of which the first `moved` are integers that are extents: it is asked where it puts their numbers.
fn moved_entries(cx: &mut Context<'_>, function: ImportFn, moved: usize) -> Result<Vec<ValueId>> {
    let results = function(cx)?;
    let given = cx.inputs.clone();
    let mut table = Vec::new();
    for slot in 0..moved.min(given.len()) {
        let Some(id) = given[slot] else { continue };
        let Some(entries) = cx.entries(id) else {
            cx.inputs = given;
            return Ok(results);
        };
        let numbers: Vec<i64> = (table.len()..table.len() + entries.len()).map(|n| n as i64).collect();
        table.extend(entries);
        let (dtype, shape) = (cx.ty(id).dtype, cx.shape(id).to_vec());
        cx.inputs[slot] = Some(int_constant(cx, dtype, shape, &numbers));
    }
    let numbered = function(cx);
    cx.inputs = given;
    for (result, numbers) in results.iter().zip(numbered?) {
        let Some(constant) = cx.constant(numbers) else { continue };
        let Ok(Literal { data: Data::Int(numbers), .. }) = Literal::from_constant(constant) else { continue };
        let entries: Option<Vec<Entry>> = numbers.iter().map(|n| table.get(*n as usize).copied()).collect();
        if let (Some(entries), None) = (entries, cx.constant(*result)) {
            cx.assembly.entries.insert(*result, entries);
        }
    }
    Ok(results)
}

/// `Transpose`: the axis goes where the permutation puts it.
fn transpose(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return moved_entries(cx, function, 1);
    }
    let (live, rank) = (live_input(cx, 0)?, cx.shape(cx.input(0)?).rank());
    let to = match cx.attrs().ints("perm")?.filter(|perm| !perm.is_empty()) {
        None => rank - 1 - live.axis,
        Some(perm) => perm.iter().position(|from| *from == live.axis as i64).unwrap_or(0),
    };
    carried(cx, function, to, live.extent)
}

/// `Squeeze`: the axis stays, of the others those listed go. Without a list the rank would depend on data.
fn squeeze(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return moved_entries(cx, function, 1);
    }
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let rank = cx.shape(x).rank();
    let Some(given) = listed_axes(cx, false)?.filter(|given| cx.version() >= 13 || !given.is_empty()) else {
        return Err(cannot(cx, live, "is squeezed or not, as no axes are listed"));
    };
    let gone = axes(cx, "axes", &given, rank)?;
    if gone.contains(&live.axis) {
        return Err(cannot(cx, live, "need not be 1"));
    }
    carried(cx, function, live.axis - gone.iter().filter(|axis| **axis < live.axis).count(), live.extent)
}

/// `Unsqueeze`: the axis stays, others come.
fn unsqueeze(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return moved_entries(cx, function, 1);
    }
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let given = listed_axes(cx, true)?.unwrap_or_default();
    let rank = cx.shape(x).rank() + given.len();
    let new = axes(cx, "axes", &given, rank)?;
    let old: Vec<usize> = (0..rank).filter(|axis| !new.contains(axis)).collect();
    carried(cx, function, old[live.axis], live.extent)
}

/// `Shape`: where the extent depends on data it is the count.
fn shape(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let listed = listed_extents(cx, x)?;
    if !listed.contains(&live.axis) {
        return function(cx);
    }
    let (mut parts, mut entries) = (Vec::new(), Vec::new());
    for axis in listed {
        let extent = cx.shape(x)[axis] as i64;
        if axis == live.axis {
            parts.push(reshape(cx, live.extent.count, vec![1])?);
            entries.push(Entry::Count(live.extent));
        } else {
            parts.push(int_constant(cx, DType::I64, vec![1], &[extent]));
            entries.push(Entry::Known(extent));
        }
    }
    let result = cx.emit(Concat { axis: 0 }, &parts)?;
    cx.assembly.entries.insert(result, entries);
    Ok(vec![result])
}

/// `Size`: the count times all else.
fn size(cx: &mut Context<'_>, _function: ImportFn) -> Result<Vec<ValueId>> {
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let numel = cx.shape(x).numel();
    let slice = numel.checked_div(live.extent.bound).unwrap_or(0);
    let result = with_scalar(cx, BinaryFn::Mul, live.extent.count, slice as f64)?;
    count_entry(cx, result, numel)?;
    Ok(vec![result])
}

/// What is asked of an axis of a result: the extent at the bound, and whether it follows from the operand's.
type Asked = (usize, bool);

/// Where a reshape puts the live axis of a value of shape `given`: the axis of the result, and the factor and divisor of its extent.
fn reshaped(given: &[usize], live: usize, asked: &[Asked]) -> Option<(usize, usize, usize)> {
    let product = |extents: &[usize]| extents.iter().product::<usize>();
    let (before, after) = (product(&given[..live]), product(&given[live + 1..]));
    let shape: Vec<usize> = asked.iter().map(|(extent, _)| *extent).collect();
    let around = |axis: usize| (product(&shape[..axis]), product(&shape[axis + 1..]));
    let follows = |axis: &usize| asked[*axis].1;
    let exact = (0..asked.len()).filter(follows).find(|axis| around(*axis) == (before, after));
    if let Some(axis) = exact.filter(|axis| shape[*axis] == given[live]) {
        return Some((axis, 1, 1));
    }
    // The first elements of all: they stay the first, in slices of another size.
    let axis = (0..asked.len()).filter(follows).find(|axis| before == 1 && around(*axis).0 == 1)?;
    match (after, around(axis).1) {
        (_, 0) | (0, _) => None,
        (from, to) if from.is_multiple_of(to) => Some((axis, from / to, 1)),
        (from, to) if to.is_multiple_of(from) => Some((axis, 1, to / from)),
        _ => None,
    }
}

/// Marks the result of a reshape.
fn mark_reshaped(
    cx: &mut Context<'_>,
    live: Live,
    results: Vec<ValueId>,
    to: (usize, usize, usize),
) -> Result<Vec<ValueId>> {
    let (axis, factor, divisor) = to;
    let Extent { bound, mut count } = live.extent;
    if factor > 1 {
        count = with_scalar(cx, BinaryFn::Mul, count, factor as f64)?;
    }
    if divisor > 1 {
        count = with_scalar(cx, BinaryFn::Div, count, divisor as f64)?;
    }
    mark_all(cx, results, axis, Extent { bound: bound * factor / divisor, count })
}

/// `Reshape`: the axis is found again where the shape says -1, 0 or the extent itself.
fn reshape_to(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let wanted = match cx.version() {
        ..5 => Some(cx.attrs().require_ints("shape")?.into_iter().map(Entry::Known).collect()),
        _ => cx.entries(cx.input(1)?),
    };
    let Some(wanted) = wanted else { return function(cx) };
    if is_static(cx) && wanted.iter().all(|entry| matches!(entry, Entry::Known(_))) {
        return moved_entries(cx, function, 1);
    }
    let live = live_input(cx, 0)?;
    let given = cx.shape(x).to_vec();
    let allow_zero = cx.version() >= 14 && cx.attrs().flag("allowzero", false)?;
    let numbers: Vec<i64> = wanted
        .iter()
        .map(|entry| match entry {
            Entry::Known(value) => *value,
            Entry::Count(extent) => extent.bound as i64,
        })
        .collect();
    // The number of elements at the bound need not be a multiple of what is fixed: that of those that are there is.
    let resolved = resolve(cx, x, &numbers, allow_zero)?;
    let follows = |(at, entry): (usize, &Entry)| match entry {
        Entry::Known(-1) | Entry::Count(_) => true,
        Entry::Known(0) => !allow_zero && at == live.axis,
        Entry::Known(_) => false,
    };
    let follows = wanted.iter().enumerate().map(follows);
    let asked: Vec<Asked> = resolved.iter().copied().zip(follows).collect();
    let Some(to) = reshaped(&given, live.axis, &asked) else {
        return Err(cannot(cx, live, &format!("shape {numbers:?} does not keep")));
    };
    if cx.version() >= 5 {
        let shape: Vec<i64> = resolved.iter().map(|extent| *extent as i64).collect();
        cx.inputs[1] = Some(int_constant(cx, DType::I64, vec![shape.len()], &shape));
    }
    let results = function(cx)?;
    mark_reshaped(cx, live, results, to)
}

/// `Flatten`, as a reshape.
fn flatten(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let given = cx.shape(x).to_vec();
    let split = match cx.attrs().int("axis", 1)? {
        v if v == given.len() as i64 => given.len(),
        v => axis(cx, "axis", v, given.len())?,
    };
    let results = function(cx)?;
    let holds = [live.axis < split, live.axis >= split];
    let asked: Vec<Asked> = cx.shape(results[0]).iter().copied().zip(holds).collect();
    match reshaped(&given, live.axis, &asked) {
        Some(to) => mark_reshaped(cx, live, results, to),
        None => Err(cannot(cx, live, "a matrix does not keep")),
    }
}

/// The extents that `slot` asks for at their bounds, which it is replaced by, and the axis among them that depends on data.
fn asked_extents(cx: &mut Context<'_>, slot: usize) -> Result<Option<(usize, Option<Live>)>> {
    let id = cx.input(slot)?;
    let Some(entries) = cx.entries(id) else { return Ok(None) };
    let mut live = None;
    let mut numbers = Vec::with_capacity(entries.len());
    for (axis, entry) in entries.iter().enumerate() {
        numbers.push(match entry {
            Entry::Known(value) => *value,
            Entry::Count(extent) if live.is_none() => {
                live = Some(Live { axis, extent: *extent });
                extent.bound as i64
            }
            Entry::Count(_) => return Err(cx.unsupported("a shape of which two extents depend on data")),
        });
    }
    let (dtype, shape) = (cx.ty(id).dtype, cx.shape(id).to_vec());
    cx.inputs[slot] = Some(int_constant(cx, dtype, shape, &numbers));
    Ok(Some((entries.len(), live)))
}

/// `Expand`: to an extent that depends on data, or along other axes.
fn expand(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let Some((wanted, asked)) = asked_extents(cx, 1)? else { return function(cx) };
    let own_rank = cx.shape(x).rank();
    let rank = wanted.max(own_rank);
    let asked = asked.map(|live| Live { axis: live.axis + rank - wanted, ..live });
    let own = cx.live(x).map(|live| Live { axis: live.axis + rank - own_rank, ..live });
    let live = match (own, asked) {
        (None, None) => return function(cx),
        (Some(own), Some(asked)) if own != asked => return Err(cannot(cx, own, "differs from that of the shape")),
        (Some(live), _) | (None, Some(live)) => live,
    };
    let at = (live.axis + own_rank).checked_sub(rank);
    if own.is_none() && at.is_some_and(|at| cx.shape(x)[at] != 1) {
        return Err(cannot(cx, live, "meets a fixed one of the operand"));
    }
    let results = function(cx)?;
    match cx.shape(results[0]).get(live.axis) == Some(&live.extent.bound) {
        true => mark_all(cx, results, live.axis, live.extent),
        false => Err(cannot(cx, live, "meets a fixed one of the shape")),
    }
}

/// `ConstantOfShape`.
fn constant_of_shape(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    match asked_extents(cx, 0)? {
        Some((_, Some(live))) => carried(cx, function, live.axis, live.extent),
        _ => function(cx),
    }
}

/// `Range` from a known start, by ones, to an extent.
fn range(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let entry = |cx: &Context<'_>, slot: usize| -> Result<Option<Entry>> {
        Ok(cx.entries(cx.input(slot)?).and_then(|entries| entries.first().copied()))
    };
    let (Some(Entry::Known(start)), Some(Entry::Count(extent)), Some(Entry::Known(1))) =
        (entry(cx, 0)?, entry(cx, 1)?, entry(cx, 2)?)
    else {
        return function(cx);
    };
    let (id, end) = (cx.input(1)?, extent.bound as i64);
    let (dtype, shape) = (cx.ty(id).dtype, cx.shape(id).to_vec());
    cx.inputs[1] = Some(int_constant(cx, dtype, shape, &[end]));
    let count = clamped(cx, extent, end, start)?;
    let bound = usize::try_from(end.saturating_sub(start)).unwrap_or(0);
    carried(cx, function, 0, Extent { bound, count })
}

/// Indices of a gather whose operand or whose own extent depends on data: negative ones count from the true end, and what lies behind a count is clamped.
fn safe_indices(cx: &mut Context<'_>, indices: ValueId, extents: ValueId, live: bool) -> Result<ValueId> {
    let negative = with_scalar(cx, BinaryFn::Less, indices, 0.0)?;
    let extents = cast(cx, extents, cx.ty(indices).dtype)?;
    let raised = binary(cx, BinaryFn::Add, indices, extents)?;
    let mut safe = cx.emit(Where {}, &[negative, raised, indices])?;
    if live {
        let last = with_scalar(cx, BinaryFn::Sub, extents, 1.0)?;
        safe = binary(cx, BinaryFn::Min, safe, last)?;
    }
    with_scalar(cx, BinaryFn::Max, safe, 0.0)
}

/// `Gather`: with indices, of an operand, or of both of such extents.
fn gather(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    if is_static(cx) {
        return moved_entries(cx, function, 1);
    }
    let along = axis(cx, "axis", cx.attrs().int("axis", 0)?, cx.shape(x).rank())?;
    let rank = cx.shape(indices).rank();
    let (own, by) = (cx.live(x), cx.live(indices));
    let placed = own.filter(|live| live.axis != along).map(|live| match live.axis < along {
        true => live,
        false => Live { axis: live.axis + rank - 1, ..live },
    });
    let by_axis = by.map(|live| Live { axis: live.axis + along, ..live });
    if let (Some(own), Some(_)) = (placed, by_axis) {
        return Err(cannot(cx, own, "stands beside that of the indices"));
    }
    let extent = match own.filter(|live| live.axis == along) {
        Some(live) => live.extent.count,
        None => scalar(cx, cx.shape(x)[along] as i64),
    };
    cx.inputs[1] = Some(safe_indices(cx, indices, extent, by.is_some())?);
    let results = function(cx)?;
    match placed.or(by_axis) {
        Some(live) => mark_all(cx, results, live.axis, live.extent),
        None => Ok(results),
    }
}

/// `GatherND`, as [`gather`].
fn gather_nd(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let (x, indices) = (cx.input(0)?, cx.input(1)?);
    let batch = usize::try_from(cx.attrs().int("batch_dims", 0)?).unwrap_or(0);
    let (shape, outer) = (cx.shape(x).to_vec(), cx.shape(indices).rank().saturating_sub(1));
    let width = cx.shape(indices).last().copied().unwrap_or(0);
    let (own, by) = (cx.live(x), cx.live(indices));
    let refuse = |live: Live| Err(cannot(cx, live, "is of a batch or of the indices themselves"));
    if let Some(live) = by.filter(|live| live.axis >= outer || live.axis < batch) {
        return refuse(live);
    }
    if let Some(live) = own.filter(|live| live.axis < batch) {
        return refuse(live);
    }
    let placed = own.filter(|live| live.axis >= batch + width);
    let placed = placed.map(|live| Live { axis: outer + live.axis - batch - width, ..live });
    if let (Some(own), Some(_)) = (placed, by) {
        return Err(cannot(cx, own, "stands beside that of the indices"));
    }
    let mut extents = Vec::with_capacity(width);
    for (axis, extent) in shape.iter().enumerate().skip(batch).take(width) {
        extents.push(match own.filter(|live| live.axis == axis) {
            Some(live) => reshape(cx, live.extent.count, vec![1])?,
            None => int_constant(cx, DType::I64, vec![1], &[*extent as i64]),
        });
    }
    if !extents.is_empty() {
        let extents = cx.emit(Concat { axis: 0 }, &extents)?;
        cx.inputs[1] = Some(safe_indices(cx, indices, extents, by.is_some())?);
    }
    let results = function(cx)?;
    match placed.or(by) {
        Some(live) => mark_all(cx, results, live.axis, live.extent),
        None => Ok(results),
    }
}

/// `Slice`: along other axes, or the first of the axis from a known start on.
fn slice(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let own = cx.live(x);
    if is_static(cx) && cx.assembly.entries.contains_key(&x) {
        return moved_entries(cx, function, 1);
    }
    let list = |cx: &Context<'_>, slot: usize, field: &str| -> Result<Option<Vec<Entry>>> {
        match cx.version() {
            ..10 => Ok(cx.attrs().ints(field)?.map(|list| list.into_iter().map(Entry::Known).collect())),
            _ => Ok(cx.optional(slot).and_then(|id| cx.entries(id))),
        }
    };
    let (Some(starts), Some(ends)) = (list(cx, 1, "starts")?, list(cx, 2, "ends")?) else { return function(cx) };
    let whole: Vec<Entry> = (0..starts.len() as i64).map(Entry::Known).collect();
    let listed = list(cx, 3, "axes")?.unwrap_or(whole);
    let ones = vec![Entry::Known(1); starts.len()];
    let steps = if cx.version() < 10 { ones } else { list(cx, 4, "steps")?.unwrap_or(ones) };
    let mut live = own;
    let mut numbers = Vec::new();
    let rank = cx.shape(x).rank();
    for (((start, end), along), step) in starts.iter().zip(&ends).zip(&listed).zip(&steps) {
        let Entry::Known(along) = along else { return function(cx) };
        let along = axis(cx, "axes", *along, rank)?;
        let here = own.filter(|live| live.axis == along);
        let refused = |cx: &Context<'_>, extent: Extent| {
            Err(cannot(cx, Live { axis: along, extent }, "is cut by known starts of 0 or more and steps of 1 only"))
        };
        let full = cx.shape(x)[along];
        let (extent, known_end) = match (here, end) {
            (None, Entry::Known(end)) => {
                numbers.push(*end);
                continue;
            }
            (Some(live), Entry::Known(end)) => (live.extent, Some(*end)),
            (None, Entry::Count(extent)) => (*extent, None),
            (Some(live), Entry::Count(extent)) => {
                let count = binary(cx, BinaryFn::Min, live.extent.count, extent.count)?;
                (Extent { bound: live.extent.bound.min(extent.bound), count }, None)
            }
        };
        let (Entry::Known(start @ 0..), Entry::Known(1)) = (start, step) else { return refused(cx, extent) };
        let (extent, end) = match known_end {
            // From the true end: what is there less that many, and 0 where there are fewer.
            Some(end) if end < 0 => {
                let count = with_scalar(cx, BinaryFn::Add, extent.count, end.max(-(full as i64)) as f64)?;
                let zero = scalar(cx, 0);
                let count = binary(cx, BinaryFn::Max, count, zero)?;
                let bound = (full as i64).saturating_add(end).max(0) as usize;
                (Extent { bound, count }, bound)
            }
            Some(end) => (extent, extent.bound.min(usize::try_from(end).unwrap_or(usize::MAX))),
            None => (extent, extent.bound.min(full)),
        };
        let count = clamped(cx, extent, end as i64, *start)?;
        let bound = end.saturating_sub(usize::try_from(*start).unwrap_or(usize::MAX));
        numbers.push(end as i64);
        if let Some(other) = live.filter(|live| live.axis != along) {
            return Err(cannot(cx, other, "stands beside another one"));
        }
        live = Some(Live { axis: along, extent: Extent { bound, count } });
    }
    if cx.version() >= 10 {
        let id = cx.input(2)?;
        let (dtype, shape) = (cx.ty(id).dtype, cx.shape(id).to_vec());
        cx.inputs[2] = Some(int_constant(cx, dtype, shape, &numbers));
    } else if own.is_some_and(|own| live != Some(own)) {
        return Err(cannot(cx, live_input(cx, 0)?, "is cut since version 10 only"));
    }
    match live {
        Some(live) => carried(cx, function, live.axis, live.extent),
        None => function(cx),
    }
}

/// `Concat`: along other axes, or of what is there of each operand.
fn concat(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let given: Vec<ValueId> = cx.inputs.iter().flatten().copied().collect();
    if is_static(cx) {
        return moved_entries(cx, function, given.len());
    }
    let rank = cx.shape(given[0]).rank();
    let along = if cx.version() < 4 { cx.attrs().int("axis", 1)? } else { cx.attrs().require_int("axis")? };
    let along = axis(cx, "axis", along, rank)?;
    let lives: Vec<Option<Live>> = given.iter().map(|id| cx.live(*id)).collect();
    let Some(first) = lives.iter().flatten().next().copied() else { return function(cx) };
    if first.axis != along {
        return match lives.iter().all(|live| *live == Some(first)) {
            true => carried(cx, function, first.axis, first.extent),
            false => Err(cannot(cx, first, "not all operands have")),
        };
    }
    if let Some(other) = lives.iter().flatten().find(|live| live.axis != along) {
        return Err(cannot(cx, *other, "stands beside that of the concatenation"));
    }
    let results = function(cx)?;
    let bound = cx.shape(results[0])[along];
    let mut masks = Vec::with_capacity(given.len());
    for (id, live) in given.iter().zip(&lives) {
        let extent = cx.shape(*id)[along];
        masks.push(match live {
            Some(live) => within(cx, Live { axis: 0, ..*live }, 1)?,
            None => {
                let yes = int_constant(cx, DType::Bool, Vec::new(), &[1]);
                cx.emit(Expand { shape: vec![extent] }, &[yes])?
            }
        });
    }
    if bound == 0 {
        return Ok(results);
    }
    let mask = cx.emit(Concat { axis: 0 }, &masks)?;
    let (indices, extent) = compacted(cx, mask)?;
    let result = cx.emit(Gather { axis: along }, &[results[0], indices])?;
    Ok(vec![mark(cx, result, along, extent)?])
}

/// `Split` along other axes.
fn split(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return moved_entries(cx, function, 1);
    }
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    if axis(cx, "axis", cx.attrs().int("axis", 0)?, cx.shape(x).rank())? == live.axis {
        return Err(cannot(cx, live, "is not split"));
    }
    carried(cx, function, live.axis, live.extent)
}

/// A reduction: along other axes, or along this one with what is `neutral` behind the count.
fn reduction(cx: &mut Context<'_>, function: ImportFn, since: i64, neutral: f64) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return function(cx);
    }
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let axes = reduced_axes(cx, since)?;
    if axes.contains(&live.axis) {
        cx.inputs[0] = Some(filled(cx, x, neutral)?);
        return function(cx);
    }
    let gone = if cx.attrs().flag("keepdims", true)? { 0 } else { axes.iter().filter(|a| **a < live.axis).count() };
    carried(cx, function, live.axis - gone, live.extent)
}

fn reduce_sum(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    reduction(cx, function, 13, 0.0)
}

fn reduce_to_zero(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    reduction(cx, function, 18, 0.0)
}

fn reduce_prod(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    reduction(cx, function, 18, 1.0)
}

fn reduce_max(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    extremum(cx, function, f64::NEG_INFINITY)
}

fn reduce_min(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    extremum(cx, function, f64::INFINITY)
}

/// The largest or the smallest; of extents it is at most the largest or smallest bound.
fn extremum(cx: &mut Context<'_>, function: ImportFn, neutral: f64) -> Result<Vec<ValueId>> {
    let entries = cx.entries(cx.input(0)?).filter(|_| is_static(cx));
    let results = reduction(cx, function, 18, neutral)?;
    let bounds = entries.into_iter().flatten().map(|entry| match entry {
        Entry::Known(value) => usize::try_from(value).ok(),
        Entry::Count(extent) => Some(extent.bound),
    });
    if let Some(bounds) = bounds.collect::<Option<Vec<usize>>>() {
        let bound = if neutral > 0.0 { bounds.iter().min() } else { bounds.iter().max() };
        if let Some(bound) = bound {
            count_entry(cx, results[0], *bound)?;
        }
    }
    Ok(results)
}

/// `ReduceMean`: along the axis, the sum of what is there over its number.
fn reduce_mean(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return function(cx);
    }
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let (axes, keepdims) = (reduced_axes(cx, 18)?, cx.attrs().flag("keepdims", true)?);
    if !axes.contains(&live.axis) {
        return reduction(cx, function, 18, 0.0);
    }
    let others: usize = axes.iter().filter(|axis| **axis != live.axis).map(|axis| cx.shape(x)[*axis]).product();
    let x = filled(cx, x, 0.0)?;
    let sum = cx.emit(Reduce { kind: ReduceKind::Sum, axes, keepdims }, &[x])?;
    let count = with_scalar(cx, BinaryFn::Mul, live.extent.count, others as f64)?;
    let count = cast(cx, count, cx.ty(sum).dtype)?;
    Ok(vec![binary(cx, BinaryFn::Div, sum, count)?])
}

fn arg_max(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    argument(cx, function, f64::NEG_INFINITY)
}

fn arg_min(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    argument(cx, function, f64::INFINITY)
}

fn argument(cx: &mut Context<'_>, function: ImportFn, neutral: f64) -> Result<Vec<ValueId>> {
    if is_static(cx) {
        return function(cx);
    }
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let along = axis(cx, "axis", cx.attrs().int("axis", 0)?, cx.shape(x).rank())?;
    if along == live.axis {
        // Of equal elements the first counts, which is one that is there.
        if cx.attrs().flag("select_last_index", false)? {
            return Err(cannot(cx, live, "select_last_index does not look at"));
        }
        cx.inputs[0] = Some(filled(cx, x, neutral)?);
        return function(cx);
    }
    let gone = usize::from(!cx.attrs().flag("keepdims", true)? && along < live.axis);
    carried(cx, function, live.axis - gone, live.extent)
}

/// `TopK`: of an axis of such an extent, or with a `K` that is one. Where fewer are there, the result has these.
fn top_k(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let along = axis(cx, "axis", cx.attrs().int("axis", -1)?, cx.shape(x).rank())?;
    let own = cx.live(x);
    let k = match cx.version() {
        ..10 => Some(Entry::Known(cx.attrs().require_int("k")?)),
        _ => cx.entries(cx.input(1)?).and_then(|entries| entries.first().copied()),
    };
    let Some(k) = k else { return function(cx) };
    let smallest = cx.version() >= 11 && !cx.attrs().flag("largest", true)?;
    let full = cx.shape(x)[along];
    let within = own.filter(|live| live.axis == along);
    let (bound, count) = match (k, within) {
        (Entry::Known(_), None) => match own {
            Some(live) => return carried(cx, function, live.axis, live.extent),
            None => return function(cx),
        },
        (Entry::Known(k), Some(live)) => {
            let bound = usize::try_from(k).map_err(|_| cx.error("K", "no negative number", k.to_string()))?.min(full);
            (bound, clamped(cx, live.extent, bound as i64, 0)?)
        }
        (Entry::Count(k), None) => (k.bound.min(full), clamped(cx, k, full as i64, 0)?),
        (Entry::Count(k), Some(live)) => (k.bound.min(full), binary(cx, BinaryFn::Min, k.count, live.extent.count)?),
    };
    if let Some(other) = own.filter(|live| live.axis != along) {
        return Err(cannot(cx, other, "stands beside that of K"));
    }
    if within.is_some() {
        let float = cx.ty(x).dtype.is_float();
        let last = match (smallest, float) {
            (false, _) => f64::NEG_INFINITY,
            // Not a number is larger than all numbers.
            (true, true) => f64::NAN,
            (true, false) => f64::INFINITY,
        };
        cx.inputs[0] = Some(filled(cx, x, last)?);
    }
    if cx.version() >= 10 {
        let id = cx.input(1)?;
        let (dtype, shape) = (cx.ty(id).dtype, cx.shape(id).to_vec());
        cx.inputs[1] = Some(int_constant(cx, dtype, shape, &[bound as i64]));
    }
    carried(cx, function, along, Extent { bound, count })
}

/// `MatMul`: rows of the first factor, or columns of the second.
fn matmul(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let (rank_a, rank_b) = (cx.shape(a).rank(), cx.shape(b).rank());
    let rank = rank_a.max(rank_b);
    let live = match (cx.live(a), cx.live(b)) {
        (Some(live), None) if rank_b > 1 && live.axis + 2 == rank_a => Live { axis: rank - 2, ..live },
        (None, Some(live)) if rank_a > 1 && live.axis + 1 == rank_b && rank_b > 1 => Live { axis: rank - 1, ..live },
        (Some(live), _) | (None, Some(live)) => return Err(cannot(cx, live, "is of no rows or columns alone")),
        (None, None) => return function(cx),
    };
    carried(cx, function, live.axis, live.extent)
}

/// `Gemm`: rows of the first factor.
fn gemm(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let live = live_input(cx, 0)?;
    let others_fixed = (1..cx.inputs.len()).all(|slot| cx.inputs[slot].is_none_or(|id| cx.live(id).is_none()));
    let bias = cx.optional(2).map(|id| cx.shape(id).to_vec()).unwrap_or_default();
    let rows = bias.len() < 2 || bias[0] == 1;
    if cx.attrs().flag("transA", false)? || live.axis != 0 || !others_fixed || !rows {
        return Err(cannot(cx, live, "is of no rows alone"));
    }
    carried(cx, function, 0, live.extent)
}

/// `Softmax` and its logarithm along other axes.
fn softmax(cx: &mut Context<'_>, function: ImportFn) -> Result<Vec<ValueId>> {
    let (x, live) = (cx.input(0)?, live_input(cx, 0)?);
    let default = if cx.version() < 13 { 1 } else { -1 };
    let along = axis(cx, "axis", cx.attrs().int("axis", default)?, cx.shape(x).rank())?;
    let carries = if cx.version() < 13 { live.axis < along } else { live.axis != along };
    match carries {
        true => carried(cx, function, live.axis, live.extent),
        false => Err(cannot(cx, live, "is summed over")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_in_order() {
        assert!(RULES.is_sorted_by(|a, b| a.0 < b.0) && ELEMENTWISE.is_sorted());
    }

    #[test]
    fn a_reshape_keeps_the_axis_where_slices_stay_slices() {
        let free = |extent| (extent, true);
        let fixed = |extent| (extent, false);
        assert_eq!(reshaped(&[9, 1], 0, &[free(9)]), Some((0, 1, 1)));
        assert_eq!(reshaped(&[9, 4], 0, &[free(36)]), Some((0, 4, 1)));
        assert_eq!(reshaped(&[36], 0, &[free(9), fixed(4)]), Some((0, 1, 4)));
        assert_eq!(reshaped(&[1, 9, 4], 1, &[fixed(1), free(18), fixed(2)]), Some((1, 2, 1)));
        assert_eq!(reshaped(&[2, 9, 4], 1, &[fixed(2), free(9), fixed(2), fixed(2)]), Some((1, 1, 1)));
        assert_eq!(reshaped(&[2, 9], 1, &[free(18)]), None);
        assert_eq!(reshaped(&[9, 4], 0, &[fixed(9), fixed(4)]), None);
        assert_eq!(reshaped(&[9, 4], 0, &[fixed(4), free(9)]), None);
    }
}
