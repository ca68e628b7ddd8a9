//! Einsum: any equation, as transposes, sums and matrix products.
//!
//! In: an equation whose terms name the axes of each operand. Out: the operands taken together from left to right, two at a time: axes that
//! only one has and nobody needs later are summed first, those of both that nobody needs later are summed in a matrix product, and those of both
//! that are needed are its batch. The dots stand for axes that align from the last.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{MatMul, Reduce, Slice};

use crate::context::Context;
use crate::error::Result;

use super::support::{expand, reshape, transpose};

/// An axis: a letter, or its position from the back under the dots.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
enum Label {
    Dots(usize),
    Letter(char),
}

/// A value and what its axes are called.
struct Term {
    value: ValueId,
    labels: Vec<Label>,
}

/// `Einsum`.
pub(crate) fn einsum(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let equation: String = cx.attrs().string("equation", "")?.chars().filter(|c| !c.is_whitespace()).collect();
    let (left, right) = match equation.split_once("->") {
        Some((left, right)) => (left, Some(right)),
        None => (equation.as_str(), None),
    };
    let texts: Vec<&str> = left.split(',').collect();
    if texts.len() != cx.input_count() {
        let found = format!("{} inputs", cx.input_count());
        return Err(cx.error("equation", format!("{} inputs for `{equation}`", texts.len()), found));
    }
    let (mut terms, mut written) = (Vec::with_capacity(texts.len()), Vec::new());
    for (slot, text) in texts.into_iter().enumerate() {
        let value = cx.input(slot)?;
        let labels = labels(cx, text, Some(cx.shape(value).rank()))?;
        written.extend_from_slice(&labels);
        terms.push(diagonal(cx, Term { value, labels })?);
    }
    same_extents(cx, &mut terms)?;
    let dots =
        terms.iter().flat_map(|term| &term.labels).filter(|label| matches!(label, Label::Dots(_))).max().copied();
    let wanted = match right {
        Some(right) => {
            let depth = dots.map_or(0, |label| if let Label::Dots(i) = label { i + 1 } else { 0 });
            let letters = right.chars().filter(char::is_ascii_alphabetic).count();
            let depth = if right.contains("...") { letters + depth } else { letters };
            labels(cx, right, Some(depth))?
        }
        None => implied(written),
    };
    for (i, label) in wanted.iter().enumerate() {
        let there = terms.iter().any(|term| term.labels.contains(label));
        if !there || wanted[..i].contains(label) {
            return Err(cx.error("equation", "results that are axes of operands, once each", equation.as_str()));
        }
    }
    let mut terms = terms.into_iter();
    let Some(mut all) = terms.next() else { return Err(cx.error("equation", "operands", "none")) };
    while let Some(next) = terms.next() {
        let later = |label: &Label| wanted.contains(label) || terms.as_slice().iter().any(|t| t.labels.contains(label));
        all = product(cx, all, next, &later)?;
    }
    let all = summed(cx, all, &|label| wanted.contains(label))?;
    let perm: Vec<usize> = wanted.iter().filter_map(|label| all.labels.iter().position(|l| l == label)).collect();
    Ok(vec![if perm.is_sorted() { all.value } else { transpose(cx, all.value, perm)? }])
}

/// The labels of a term over a value of rank `rank`.
fn labels(cx: &Context<'_>, text: &str, rank: Option<usize>) -> Result<Vec<Label>> {
    let wrong = || cx.error("equation", "letters, `...`, `,` and `->`, as many as axes", crate::error::short(text));
    let (before, after) = text.split_once("...").map_or((text, None), |(before, after)| (before, Some(after)));
    let letters = |text: &str| -> Result<Vec<Label>> {
        text.chars().map(|c| if c.is_ascii_alphabetic() { Ok(Label::Letter(c)) } else { Err(wrong()) }).collect()
    };
    let mut found = letters(before)?;
    let after_letters = letters(after.unwrap_or(""))?;
    let rank = rank.unwrap_or(found.len() + after_letters.len());
    let dots = rank.checked_sub(found.len() + after_letters.len()).ok_or_else(wrong)?;
    if after.is_none() && dots > 0 {
        return Err(wrong());
    }
    found.extend((0..dots).rev().map(Label::Dots));
    found.extend(after_letters);
    Ok(found)
}

/// The result's axes where the equation has none: the dots, then the letters that are there once, in their order; of all axes as they are written.
fn implied(mut all: Vec<Label>) -> Vec<Label> {
    all.sort_unstable();
    let once =
        |label: &Label| matches!(label, Label::Dots(_)) || all.iter().filter(|other| *other == label).count() == 1;
    let mut wanted: Vec<Label> = all.iter().copied().filter(once).collect();
    wanted.dedup();
    // The dots count from the back.
    let dots = wanted.iter().filter(|label| matches!(label, Label::Dots(_))).count();
    wanted[..dots].reverse();
    wanted
}

/// A term whose letters that are there twice are taken along their diagonal.
fn diagonal(cx: &mut Context<'_>, mut term: Term) -> Result<Term> {
    loop {
        let twice = |i: &usize| term.labels[..*i].contains(&term.labels[*i]);
        let Some(second) = (0..term.labels.len()).find(twice) else { return Ok(term) };
        let Some(first) = term.labels.iter().position(|l| *l == term.labels[second]) else { return Ok(term) };
        let shape = cx.shape(term.value).to_vec();
        let n = shape[first];
        if shape[second] != n {
            return Err(cx.error("equation", "axes of one letter with one extent", cx.ty(term.value).to_string()));
        }
        let mut perm: Vec<usize> = (0..shape.len()).filter(|i| *i != first && *i != second).collect();
        let rest: Vec<usize> = perm.iter().map(|i| shape[*i]).collect();
        let mut labels: Vec<Label> = perm.iter().map(|i| term.labels[*i]).collect();
        labels.push(term.labels[first]);
        perm.extend([first, second]);
        let moved = transpose(cx, term.value, perm)?;
        let flat = reshape(cx, moved, [&rest[..], &[n.saturating_mul(n)]].concat())?;
        let mut steps = vec![1; rest.len()];
        steps.push(n as i64 + 1);
        let sizes = [&rest[..], &[n]].concat();
        let value = cx.emit(Slice { starts: vec![0; sizes.len()], steps, sizes }, &[flat])?;
        term = Term { value, labels };
    }
}

/// Spreads axes of extent 1 to the extent that the others of their label have.
fn same_extents(cx: &mut Context<'_>, terms: &mut [Term]) -> Result<()> {
    let mut extents = std::collections::BTreeMap::new();
    for term in terms.iter() {
        for (label, extent) in term.labels.iter().zip(cx.shape(term.value).iter()) {
            let known = extents.entry(*label).or_insert(*extent);
            match (*known, *extent) {
                (1, other) => *known = other,
                (known, other) if other != 1 && other != known => {
                    let expected = format!("{known}, as another axis of its letter");
                    return Err(cx.error("equation", expected, format!("{other} of {}", cx.ty(term.value))));
                }
                _ => {}
            }
        }
    }
    for term in terms {
        let shape = term.labels.iter().map(|label| extents[label]).collect();
        term.value = expand(cx, term.value, shape)?;
    }
    Ok(())
}

/// A term without the axes that are not `kept`, which are summed.
fn summed(cx: &mut Context<'_>, term: Term, kept: &dyn Fn(&Label) -> bool) -> Result<Term> {
    let axes: Vec<usize> = (0..term.labels.len()).filter(|i| !kept(&term.labels[*i])).collect();
    if axes.is_empty() {
        return Ok(term);
    }
    let value = cx.emit(Reduce { kind: ReduceKind::Sum, axes, keepdims: false }, &[term.value])?;
    Ok(Term { value, labels: term.labels.into_iter().filter(|label| kept(label)).collect() })
}

/// The axes of a term in groups, as a value of one axis for each group.
fn grouped(cx: &mut Context<'_>, term: &Term, groups: [&[Label]; 3]) -> Result<ValueId> {
    let order = groups.iter().flat_map(|group| group.iter());
    let perm: Vec<usize> = order.filter_map(|label| term.labels.iter().position(|l| l == label)).collect();
    let shape = cx.shape(term.value).to_vec();
    let mut at = perm.iter();
    let extents = groups.map(|group| group.iter().filter_map(|_| at.next()).map(|i| shape[*i]).product());
    let moved = if perm.is_sorted() { term.value } else { transpose(cx, term.value, perm)? };
    reshape(cx, moved, extents.to_vec())
}

/// Two terms together, without what is not needed `later`.
fn product(cx: &mut Context<'_>, a: Term, b: Term, later: &dyn Fn(&Label) -> bool) -> Result<Term> {
    let (of_a, of_b) = (a.labels.clone(), b.labels.clone());
    let a = summed(cx, a, &|label| later(label) || of_b.contains(label))?;
    let b = summed(cx, b, &|label| later(label) || of_a.contains(label))?;
    let both = |label: &&Label| b.labels.contains(label);
    let batch: Vec<Label> = a.labels.iter().filter(both).filter(|label| later(label)).copied().collect();
    let gone: Vec<Label> = a.labels.iter().filter(both).filter(|label| !later(label)).copied().collect();
    let rows: Vec<Label> = a.labels.iter().filter(|label| !b.labels.contains(label)).copied().collect();
    let columns: Vec<Label> = b.labels.iter().filter(|label| !a.labels.contains(label)).copied().collect();
    let extent = |cx: &Context<'_>, term: &Term, label: &Label| {
        term.labels.iter().position(|l| l == label).map_or(1, |i| cx.shape(term.value)[i])
    };
    let mut shape: Vec<usize> = batch.iter().chain(&rows).map(|label| extent(cx, &a, label)).collect();
    shape.extend(columns.iter().map(|label| extent(cx, &b, label)));
    let left = grouped(cx, &a, [&batch, &rows, &gone])?;
    let right = grouped(cx, &b, [&batch, &gone, &columns])?;
    let matrix = cx.emit(MatMul {}, &[left, right])?;
    let value = reshape(cx, matrix, shape)?;
    Ok(Term { value, labels: [batch, rows, columns].concat() })
}
