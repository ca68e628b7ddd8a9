//! Matrix products and what follows them: Gemm, MatMul, Softmax, LogSoftmax, Hardmax; Det.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{ArgReduce, Gemm, MatMul, Slice, Softmax};
use fornax_ir::scalar::BinaryFn;

use crate::context::Context;
use crate::error::Result;

use super::support::{self, axis, binary, broadcast, cast, reshape};

/// `Gemm`. Before version 7, C broadcasts only where the attribute `broadcast` says so.
pub(crate) fn gemm(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let fixed = cx.version() < 7 && !cx.attrs().flag("broadcast", false)?;
    Ok(vec![gemm_of(cx, !fixed)?])
}

/// The product that the node's attributes describe; whether C may broadcast.
pub(crate) fn gemm_of(cx: &mut Context<'_>, broadcasts: bool) -> Result<ValueId> {
    let (a, b, c) = (cx.input(0)?, cx.input(1)?, cx.optional(2));
    let (alpha, beta) = (cx.attrs().float("alpha", 1.0)?, cx.attrs().float("beta", 1.0)?);
    let trans_a = cx.attrs().flag("transA", false)?;
    let trans_b = cx.attrs().flag("transB", false)?;
    for (field, id) in [("A", a), ("B", b)] {
        if cx.shape(id).rank() != 2 {
            return Err(cx.error(field, "rank 2", cx.ty(id).to_string()));
        }
    }
    if let Some(c) = c {
        let (a, b) = (cx.shape(a), cx.shape(b));
        let result = [a[usize::from(trans_a)], b[usize::from(!trans_b)]];
        let fits = if broadcasts {
            broadcast(&result, cx.shape(c)).as_deref() == Some(&result[..])
        } else {
            cx.shape(c)[..] == result
        };
        if !fits {
            return Err(cx.error("C", format!("a shape that broadcasts to {result:?}"), cx.ty(c).to_string()));
        }
    }
    let op = Gemm { alpha, beta, trans_a, trans_b, bias: c.is_some(), ..Gemm::default() };
    let operands: Vec<ValueId> = [a, b].into_iter().chain(c).collect();
    cx.emit(op, &operands)
}

/// `MatMul`.
pub(crate) fn matmul(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    Ok(vec![cx.emit(MatMul {}, &[a, b])?])
}

/// `Softmax`.
pub(crate) fn softmax(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    along(cx, |cx, x, axis| cx.emit(Softmax { axis, log: false }, &[x]))
}

/// `LogSoftmax`.
pub(crate) fn log_softmax(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    along(cx, |cx, x, axis| cx.emit(Softmax { axis, log: true }, &[x]))
}

/// `Hardmax`: 1 at the first largest element, 0 elsewhere.
pub(crate) fn hardmax(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    along(cx, |cx, x, axis| {
        let shape = cx.shape(x).to_vec();
        let dtype = cx.ty(x).dtype;
        let largest = cx.emit(ArgReduce { axis, ..ArgReduce::default() }, &[x])?;
        let mut positions = vec![1; shape.len()];
        positions[axis] = shape[axis];
        let positions = support::positions(cx, shape[axis], positions)?;
        let hit = binary(cx, BinaryFn::Equal, positions, largest)?;
        cast(cx, hit, dtype)
    })
}

/// Applies `f` along the attribute `axis`. Before version 13 the operand counts as a matrix: the axes before `axis` are
/// its rows, all others one row each.
fn along(
    cx: &mut Context<'_>,
    f: impl Fn(&mut Context<'_>, ValueId, usize) -> Result<ValueId>,
) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).to_vec();
    if cx.version() >= 13 {
        let axis = axis(cx, "axis", cx.attrs().int("axis", -1)?, shape.len())?;
        return Ok(vec![f(cx, x, axis)?]);
    }
    let axis = axis(cx, "axis", cx.attrs().int("axis", 1)?, shape.len())?;
    // With one extent above 1 after `axis`, that axis alone is the row and the shape may stay.
    let wide: Vec<usize> = (axis..shape.len()).filter(|i| shape[*i] != 1).collect();
    if let [only] = wide[..] {
        return Ok(vec![f(cx, x, only)?]);
    }
    let rows = shape[..axis].iter().product();
    let columns = shape[axis..].iter().product();
    let matrix = reshape(cx, x, vec![rows, columns])?;
    let y = f(cx, matrix, 1)?;
    Ok(vec![reshape(cx, y, shape)?])
}

/// The most rows of a matrix whose determinant is written out.
const MOST_ROWS: usize = 4;

/// `Det` of matrices of up to 4 rows: by minors along the first row.
pub(crate) fn det(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let [ref outer @ .., rows, columns] = cx.shape(x).to_vec()[..] else {
        return Err(cx.error("X", "rank 2 or more", cx.ty(x).to_string()));
    };
    if rows != columns || rows == 0 {
        return Err(cx.error("X", "square matrices", cx.ty(x).to_string()));
    }
    if rows > MOST_ROWS {
        return Err(cx.unsupported(format!("matrices of more than {MOST_ROWS} rows")));
    }
    let outer = outer.to_vec();
    let mut elements = Vec::with_capacity(rows);
    for row in 0..rows {
        let mut of_row = Vec::with_capacity(columns);
        for column in 0..columns {
            let starts = [vec![0; outer.len()], vec![row, column]].concat();
            let sizes = [&outer[..], &[1, 1]].concat();
            let one = cx.emit(Slice { starts, steps: Vec::new(), sizes }, &[x])?;
            of_row.push(reshape(cx, one, outer.clone())?);
        }
        elements.push(of_row);
    }
    let all: Vec<usize> = (0..columns).collect();
    Ok(vec![minor(cx, &elements, &all)?])
}

/// The determinant of the rows and of the columns that are left.
fn minor(cx: &mut Context<'_>, rows: &[Vec<ValueId>], columns: &[usize]) -> Result<ValueId> {
    let Some((first, rest)) = rows.split_first() else { return Err(cx.error("X", "a row", "none")) };
    let mut sum = None;
    for (at, column) in columns.iter().enumerate() {
        let mut term = first[*column];
        if !rest.is_empty() {
            let left: Vec<usize> = columns.iter().copied().filter(|other| other != column).collect();
            let below = minor(cx, rest, &left)?;
            term = binary(cx, BinaryFn::Mul, term, below)?;
        }
        sum = Some(match sum {
            None => term,
            Some(before) => binary(cx, if at.is_multiple_of(2) { BinaryFn::Add } else { BinaryFn::Sub }, before, term)?,
        });
    }
    sum.ok_or_else(|| cx.error("X", "a column", "none"))
}
