//! Reductions over axes, global pools, ArgMax, ArgMin and TopK.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{ArgReduce, Reduce, TopK};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;

use super::power::root;
use super::support::{axes, axis, cast, expect_rank, extent, reduce};

/// Import of one reduction; the axes are an attribute before the given version, an input since.
macro_rules! reductions {
    ($($name:ident = $kind:ident $since:literal),* $(,)?) => {$(
        #[doc = concat!("`Reduce", stringify!($kind), "`.")]
        pub(crate) fn $name(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
            reduction(cx, ReduceKind::$kind, $since)
        }
    )*};
}
reductions! {
    reduce_sum = Sum 13, reduce_mean = Mean 18, reduce_max = Max 18, reduce_min = Min 18, reduce_prod = Prod 18,
    reduce_l1 = L1 18, reduce_l2 = L2 18, reduce_sum_square = SumSquare 18, reduce_log_sum = LogSum 18,
    reduce_log_sum_exp = LogSumExp 18,
}

/// The axes of a reduction, in order; an attribute before the given version, an input since.
pub(crate) fn reduced_axes(cx: &Context<'_>, axes_input_since: i64) -> Result<Vec<usize>> {
    let rank = cx.shape(cx.input(0)?).rank();
    let given = if cx.version() < axes_input_since {
        cx.attrs().ints("axes")?
    } else {
        cx.optional(1).map(|id| cx.const_list(id, "axes")).transpose()?
    };
    let given = given.unwrap_or_default();
    let none = cx.version() >= axes_input_since && cx.attrs().flag("noop_with_empty_axes", false)?;
    if given.is_empty() && !none {
        return Ok((0..rank).collect());
    }
    let mut axes = axes(cx, "axes", &given, rank)?;
    axes.sort_unstable();
    Ok(axes)
}

fn reduction(cx: &mut Context<'_>, kind: ReduceKind, axes_input_since: i64) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let keepdims = cx.attrs().flag("keepdims", true)?;
    let axes = reduced_axes(cx, axes_input_since)?;
    let given = cx.ty(x).dtype;
    if kind == ReduceKind::L2 && !given.is_float() && given != DType::U64 {
        // In i64, as the sum and its root are.
        let wide = cast(cx, x, DType::I64)?;
        let squares = cx.emit(Reduce { kind: ReduceKind::SumSquare, axes, keepdims }, &[wide])?;
        let root = root(cx, squares)?;
        return Ok(vec![cast(cx, root, given)?]);
    }
    Ok(vec![cx.emit(Reduce { kind, axes, keepdims }, &[x])?])
}

/// `GlobalAveragePool`: the mean over the spatial axes.
pub(crate) fn global_average_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    global(cx, ReduceKind::Mean)
}

/// `GlobalMaxPool`: the largest over the spatial axes.
pub(crate) fn global_max_pool(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    global(cx, ReduceKind::Max)
}

fn global(cx: &mut Context<'_>, kind: ReduceKind) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    expect_rank(cx, "X", x, 3)?;
    let axes = (2..cx.shape(x).rank()).collect();
    Ok(vec![reduce(cx, kind, x, axes)?])
}

/// `ArgMax`.
pub(crate) fn arg_max(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    arg(cx, false)
}

/// `ArgMin`.
pub(crate) fn arg_min(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    arg(cx, true)
}

/// `TopK`: `k` is an attribute before version 10, a constant input since. The results are always sorted.
pub(crate) fn top_k(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let axis = axis(cx, "axis", cx.attrs().int("axis", -1)?, cx.shape(x).rank())?;
    let given = match cx.version() {
        ..10 => vec![cx.attrs().require_int("k")?],
        _ => cx.const_list(cx.input(1)?, "K")?,
    };
    let [k] = given[..] else { return Err(cx.error("K", "one number", format!("{given:?}"))) };
    let k = extent(cx, "K", k)?;
    let smallest = cx.version() >= 11 && !cx.attrs().flag("largest", true)?;
    cx.emit_all(TopK { axis, k, smallest }, &[x])
}

fn arg(cx: &mut Context<'_>, min: bool) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let axis = axis(cx, "axis", cx.attrs().int("axis", 0)?, cx.shape(x).rank())?;
    let keepdims = cx.attrs().flag("keepdims", true)?;
    let select_last = cx.attrs().flag("select_last_index", false)?;
    Ok(vec![cx.emit(ArgReduce { min, axis, keepdims, select_last }, &[x])?])
}
