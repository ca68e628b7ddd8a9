//! Counts of n-grams: TfIdfVectorizer of integers.
//!
//! In: rows of integers, and a pool of n-grams of the file. Out: how often each is in each row, its items next to one another or a distance apart, as
//! a column of the result, weighted as the mode says.

use std::collections::BTreeMap;

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Concat, MatMul, Reduce, Slice};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::{Constant, DType};

use crate::context::Context;
use crate::error::Result;

use super::support::{binary, cast, extent, int_constant, reshape};

/// The n-grams of each length that counts: their items, and the column of each. The last of equal ones counts.
type Pool = BTreeMap<usize, BTreeMap<Vec<i64>, usize>>;

/// `TfIdfVectorizer`.
pub(crate) fn tf_idf_vectorizer(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    if cx.attrs().has("pool_strings") {
        return Err(cx.unsupported("pool_strings"));
    }
    let (batch, columns) = match cx.shape(x)[..] {
        [] => (None, 1),
        [columns] => (None, columns),
        [batch, columns] => (Some(batch), columns),
        _ => return Err(cx.error("X", "rank 1 or 2", cx.ty(x).to_string())),
    };
    let least = extent(cx, "min_gram_length", cx.attrs().require_int("min_gram_length")?)?.max(1);
    let most = extent(cx, "max_gram_length", cx.attrs().require_int("max_gram_length")?)?;
    let skips = extent(cx, "max_skip_count", cx.attrs().require_int("max_skip_count")?)?;
    let (pool, width) = pool(cx, (least, most))?;
    let rows = batch.unwrap_or(1);
    let x = cast(cx, x, DType::I64)?;
    let x = reshape(cx, x, vec![rows, columns])?;
    let mut counts = Vec::new();
    let mut places = Vec::new();
    for (length, grams) in &pool {
        let items: Vec<&Vec<i64>> = grams.keys().collect();
        let mut sum = None;
        // Items of one are no distance apart.
        for distance in 1..=if *length == 1 { 1 } else { skips.saturating_add(1) } {
            let Some(starts) = columns.checked_sub(distance.saturating_mul(length - 1)).filter(|n| *n > 0) else {
                break;
            };
            let found = hits(cx, x, &items, (distance, starts))?;
            sum = Some(match sum {
                None => found,
                Some(before) => binary(cx, BinaryFn::Add, before, found)?,
            });
        }
        if let Some(sum) = sum {
            counts.push(sum);
            places.extend(grams.values().copied());
        }
    }
    let y = match counts[..] {
        [] => {
            let count = rows.saturating_mul(width);
            cx.charge(count as u64)?;
            let zeros = vec![0.0; count];
            cx.add_constant(Constant::from_f32([rows, width], &zeros))
        }
        _ => {
            let all = if counts.len() == 1 { counts[0] } else { cx.emit(Concat { axis: 1 }, &counts)? };
            in_columns(cx, all, &places, width)?
        }
    };
    let y = weighted(cx, y, width)?;
    let shape = batch.map_or(vec![width], |batch| vec![batch, width]);
    Ok(vec![reshape(cx, y, shape)?])
}

/// The n-grams of the lengths that count, and the number of columns.
fn pool(cx: &Context<'_>, (least, most): (usize, usize)) -> Result<(Pool, usize)> {
    let items = cx.attrs().require_ints("pool_int64s")?;
    let starts = cx.attrs().require_ints("ngram_counts")?;
    let columns = cx.attrs().require_ints("ngram_indexes")?;
    let columns = super::support::extents(cx, "ngram_indexes", &columns)?;
    let width = columns.iter().max().map_or(0, |last| last.saturating_add(1));
    if width > items.len().max(1) {
        return Err(cx.error("ngram_indexes", format!("numbers below {}", items.len()), (width - 1).to_string()));
    }
    let (mut pool, mut next) = (Pool::new(), 0);
    for (i, start) in starts.iter().enumerate() {
        let length = i + 1;
        let start = extent(cx, "ngram_counts", *start)?;
        let end = starts.get(i + 1).map_or(Ok(items.len()), |end| extent(cx, "ngram_counts", *end))?;
        let Some(part) = items.get(start..end).filter(|part| part.len().is_multiple_of(length)) else {
            let expected = format!("ascending, in steps of {length}, to {} at most", items.len());
            return Err(cx.error("ngram_counts", expected, format!("{start} to {end}")));
        };
        for gram in part.chunks(length) {
            let column = columns.get(next).copied();
            let column = column.ok_or_else(|| cx.error("ngram_indexes", "one for each n-gram", next.to_string()))?;
            next += 1;
            if (least..=most).contains(&length) {
                pool.entry(length).or_default().insert(gram.to_vec(), column);
            }
        }
    }
    Ok((pool, width))
}

/// How often each of several n-grams of one length begins in each row, their items `distance` apart: `f32 [rows, n-grams]`.
fn hits(cx: &mut Context<'_>, x: ValueId, grams: &[&Vec<i64>], (distance, starts): (usize, usize)) -> Result<ValueId> {
    let rows = cx.shape(x)[0];
    let length = grams.first().map_or(0, |gram| gram.len());
    let mut all = None;
    for item in 0..length {
        let op = Slice { starts: vec![0, item * distance], steps: Vec::new(), sizes: vec![rows, starts] };
        let there = cx.emit(op, &[x])?;
        let there = reshape(cx, there, vec![rows, starts, 1])?;
        let wanted: Vec<i64> = grams.iter().map(|gram| gram[item]).collect();
        let wanted = int_constant(cx, DType::I64, vec![1, 1, grams.len()], &wanted);
        let equal = binary(cx, BinaryFn::Equal, there, wanted)?;
        all = Some(match all {
            None => equal,
            Some(before) => binary(cx, BinaryFn::And, before, equal)?,
        });
    }
    let Some(all) = all else { return Err(cx.error("pool_int64s", "n-grams", "none")) };
    let all = cast(cx, all, DType::F32)?;
    cx.emit(Reduce { kind: ReduceKind::Sum, axes: vec![1], keepdims: false }, &[all])
}

/// Counts added up in the columns of their n-grams.
fn in_columns(cx: &mut Context<'_>, counts: ValueId, places: &[usize], width: usize) -> Result<ValueId> {
    let size = places.len().saturating_mul(width);
    cx.charge(size as u64)?;
    let mut matrix = vec![0.0; size];
    for (row, column) in places.iter().enumerate() {
        matrix[row * width + column] = 1.0;
    }
    let matrix = cx.add_constant(Constant::from_f32([places.len(), width], &matrix));
    cx.emit(MatMul {}, &[counts, matrix])
}

/// Counts as the mode weights them.
fn weighted(cx: &mut Context<'_>, counts: ValueId, width: usize) -> Result<ValueId> {
    let counts = match cx.attrs().string("mode", "")? {
        "TF" => return Ok(counts),
        "IDF" => {
            let there = super::support::with_scalar(cx, BinaryFn::Greater, counts, 0.0)?;
            cast(cx, there, DType::F32)?
        }
        "TFIDF" => counts,
        other => return Err(cx.error("mode", "TF, IDF or TFIDF", other)),
    };
    let Some(weights) = cx.attrs().floats("weights")? else { return Ok(counts) };
    if weights.len() != width {
        return Err(cx.error("weights", format!("{width} numbers"), weights.len().to_string()));
    }
    let weights = cx.add_constant(Constant::from_f32([width], &weights));
    binary(cx, BinaryFn::Mul, counts, weights)
}
