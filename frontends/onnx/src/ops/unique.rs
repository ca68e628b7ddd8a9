//! `Unique`: elements, or slices along an axis, each once.
//!
//! They are sorted (by TopK, the smallest first, which keeps equal ones in their order), an element that differs from its neighbour begins a group, and the groups'
//! beginnings are compacted. Slices are sorted by one of their elements after the other, from the last on.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Concat, Gather, Reduce, Slice, TopK, Where};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;
use crate::live::{Extent, Live};

use super::carry::{compacted, filled, mark, within};
use super::constant::shifted;
use super::support::{axis, binary, cast, int_constant, positions, reshape, transpose, unary, with_scalar};

/// How many elements a slice may have, each of which is sorted by.
const MOST: usize = 64;

/// `Unique`, with the indices of what comes first, the inverse and the counts.
pub(crate) fn unique(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let sorted = cx.attrs().flag("sorted", true)?;
    let shape = cx.shape(x).to_vec();
    let given = match cx.attrs().optional_int("axis")? {
        Some(given) => Some(axis(cx, "axis", given, shape.len())?),
        None => None,
    };
    let live = cx.live(x);
    if let Some(live) = live.filter(|live| given.is_none_or(|along| along != live.axis) && shape.len() > 1) {
        return Err(cx.unsupported(format!("X: axis {} has an extent that depends on data", live.axis)));
    }
    // Slices as rows of a matrix, in numbers that can be sorted.
    let mut order: Vec<usize> = (0..shape.len()).collect();
    let count = match given {
        Some(along) => {
            order.remove(along);
            order.insert(0, along);
            shape[along]
        }
        None => shape.iter().product(),
    };
    let width = shape.iter().product::<usize>().checked_div(count).unwrap_or(0);
    if count == 0 || width == 0 {
        return Err(cx.error("X", "one element or more", cx.ty(x).to_string()));
    }
    if width > MOST {
        return Err(cx.unsupported(format!("axis: slices of {width} elements, more than {MOST}")));
    }
    let dtype = cx.ty(x).dtype;
    let numbers = if dtype == DType::Bool { DType::U8 } else { dtype };
    let last = if dtype.is_float() { f64::NAN } else { f64::INFINITY };
    let mut all = x;
    if live.is_some() {
        let number = cast(cx, x, numbers)?;
        if let Some(live) = live {
            cx.set_live(number, live.axis, live.extent);
        }
        all = filled(cx, number, last)?;
    }
    let all = cast(cx, all, numbers)?;
    let rows = transpose_if(cx, all, order.clone(), given.is_some())?;
    let rows = reshape(cx, rows, vec![count, width])?;
    let (rows, places) = sort_rows(cx, rows)?;
    let starts = beginnings(cx, rows)?;
    let live = live.map(|live| Live { axis: 0, ..live });
    let starts = match live {
        Some(live) => {
            let inside = within(cx, live, 1)?;
            binary(cx, BinaryFn::And, starts, inside)?
        }
        None => starts,
    };
    let (begins, extent) = compacted(cx, starts)?;
    let total = match live {
        Some(live) => live.extent.count,
        None => int_constant(cx, DType::I64, Vec::new(), &[count as i64]),
    };
    let counts = lengths(cx, begins, extent, total)?;
    let firsts = cx.emit(Gather { axis: 0 }, &[places, begins])?;
    let chosen = cx.emit(Gather { axis: 0 }, &[rows, begins])?;
    let inverse = inverse(cx, starts, places)?;
    let groups = Groups { chosen, firsts, counts, inverse };
    let groups = if sorted { groups } else { by_appearance(cx, groups, extent)? };
    let mut result = order.iter().map(|axis| shape[*axis]).collect::<Vec<_>>();
    if given.is_none() {
        result = vec![count];
    }
    let y = reshape(cx, groups.chosen, result)?;
    let y = cast(cx, y, dtype)?;
    let mut back = vec![0; order.len()];
    order.iter().enumerate().for_each(|(to, from)| back[*from] = to);
    let y = transpose_if(cx, y, back, given.is_some())?;
    let inverse = match live {
        Some(live) => mark(cx, groups.inverse, 0, live.extent)?,
        None => groups.inverse,
    };
    Ok(vec![
        mark(cx, y, given.unwrap_or(0), extent)?,
        mark(cx, groups.firsts, 0, extent)?,
        inverse,
        mark(cx, groups.counts, 0, extent)?,
    ])
}

/// What is known of groups of equal rows.
struct Groups {
    /// A row of each.
    chosen: ValueId,
    /// Where its first row stood.
    firsts: ValueId,
    /// How many rows it has.
    counts: ValueId,
    /// The group of each row.
    inverse: ValueId,
}

fn transpose_if(cx: &mut Context<'_>, x: ValueId, perm: Vec<usize>, moved: bool) -> Result<ValueId> {
    if moved && !perm.is_sorted() { transpose(cx, x, perm) } else { Ok(x) }
}

/// Ascending, equal ones in their order: the values and where they stood.
fn sort(cx: &mut Context<'_>, x: ValueId) -> Result<(ValueId, ValueId)> {
    let k = cx.shape(x)[0];
    let found = cx.emit_all(TopK { axis: 0, k, smallest: true }, &[x])?;
    Ok((found[0], found[1]))
}

/// Rows in lexicographic order, and where they stood.
fn sort_rows(cx: &mut Context<'_>, rows: ValueId) -> Result<(ValueId, ValueId)> {
    let (count, width) = (cx.shape(rows)[0], cx.shape(rows)[1]);
    let mut places: Option<ValueId> = None;
    for column in (0..width).rev() {
        let one = Slice { starts: vec![0, column], steps: Vec::new(), sizes: vec![count, 1] };
        let key = cx.emit(one, &[rows])?;
        let mut key = reshape(cx, key, vec![count])?;
        if let Some(places) = places {
            key = cx.emit(Gather { axis: 0 }, &[key, places])?;
        }
        let (_, moved) = sort(cx, key)?;
        places = Some(match places {
            Some(places) => cx.emit(Gather { axis: 0 }, &[places, moved])?,
            None => moved,
        });
    }
    let places = match places {
        Some(places) => places,
        None => positions(cx, count, vec![count])?,
    };
    Ok((cx.emit(Gather { axis: 0 }, &[rows, places])?, places))
}

/// Which of sorted rows differ from the one before.
fn beginnings(cx: &mut Context<'_>, rows: ValueId) -> Result<ValueId> {
    let (count, width) = (cx.shape(rows)[0], cx.shape(rows)[1]);
    let first = int_constant(cx, DType::Bool, vec![1], &[1]);
    if count == 1 {
        return Ok(first);
    }
    let part = |start: usize| Slice { starts: vec![start, 0], steps: Vec::new(), sizes: vec![count - 1, width] };
    let (before, after) = (cx.emit(part(0), &[rows])?, cx.emit(part(1), &[rows])?);
    let same = binary(cx, BinaryFn::Equal, before, after)?;
    let differs = unary(cx, UnaryFn::Not, same)?;
    let differs = cast(cx, differs, DType::I32)?;
    let any = cx.emit(Reduce { kind: ReduceKind::Max, axes: vec![1], keepdims: false }, &[differs])?;
    let any = cast(cx, any, DType::Bool)?;
    cx.emit(Concat { axis: 0 }, &[first, any])
}

/// How many rows there are from each beginning to the next, or to `total`.
fn lengths(cx: &mut Context<'_>, begins: ValueId, extent: Extent, total: ValueId) -> Result<ValueId> {
    let next = shifted(cx, begins, 0, (1, true), 0.0)?;
    let numbers = positions(cx, extent.bound, vec![extent.bound])?;
    let numbers = with_scalar(cx, BinaryFn::Add, numbers, 1.0)?;
    let inner = binary(cx, BinaryFn::Less, numbers, extent.count)?;
    let next = cx.emit(Where {}, &[inner, next, total])?;
    binary(cx, BinaryFn::Sub, next, begins)
}

/// The group of each row, where the rows stood.
fn inverse(cx: &mut Context<'_>, starts: ValueId, places: ValueId) -> Result<ValueId> {
    let mut groups = cast(cx, starts, DType::I64)?;
    let (count, mut distance) = (cx.shape(groups)[0], 1);
    while distance < count {
        let moved = shifted(cx, groups, 0, (distance, false), 0.0)?;
        groups = binary(cx, BinaryFn::Add, groups, moved)?;
        distance *= 2;
    }
    let groups = with_scalar(cx, BinaryFn::Sub, groups, 1.0)?;
    let (_, back) = sort(cx, places)?;
    cx.emit(Gather { axis: 0 }, &[groups, back])
}

/// The groups in the order of their first rows.
fn by_appearance(cx: &mut Context<'_>, groups: Groups, extent: Extent) -> Result<Groups> {
    let inside = within(cx, Live { axis: 0, extent }, 1)?;
    let behind = cx.scalar_like(groups.firsts, extent.bound as f64)?;
    let keys = cx.emit(Where {}, &[inside, groups.firsts, behind])?;
    let (_, order) = sort(cx, keys)?;
    let (_, ranks) = sort(cx, order)?;
    let moved = |cx: &mut Context<'_>, x: ValueId| cx.emit(Gather { axis: 0 }, &[x, order]);
    Ok(Groups {
        chosen: moved(cx, groups.chosen)?,
        firsts: moved(cx, groups.firsts)?,
        counts: moved(cx, groups.counts)?,
        inverse: cx.emit(Gather { axis: 0 }, &[ranks, groups.inverse])?,
    })
}
