//! Sequences and optionals, which vanish while a model is imported: a sequence is the list of its tensors.
//!
//! In: a node of one of these operators. Out: tensors, or the number of a list that the importer keeps. Lengths and positions are known at compile time.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Concat, Slice};
use fornax_ir::types::{Constant, DType};

use super::{Importer, NamedValue, Scope};
use crate::context::Context;
use crate::error::Result;
use crate::ops::support::{self, axis, reshape};
use crate::proto::NodeProto;

/// Operators of sequences and optionals.
pub(crate) const OPERATORS: &[(&str, i64)] = &[
    ("ConcatFromSequence", 11),
    ("Optional", 15),
    ("OptionalGetElement", 15),
    ("OptionalHasElement", 15),
    ("SequenceAt", 11),
    ("SequenceConstruct", 11),
    ("SequenceEmpty", 11),
    ("SequenceErase", 11),
    ("SequenceInsert", 11),
    ("SequenceLength", 11),
    ("SequenceMap", 17),
    ("SplitToSequence", 11),
];

impl Importer<'_> {
    /// The results of a node of [`OPERATORS`], or of an `Identity` of a sequence; none of an operator of tensors.
    pub fn on_sequences(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
    ) -> Result<Option<Vec<NamedValue>>> {
        let sequence = operands.iter().any(|operand| matches!(operand, NamedValue::Sequence(_)));
        let own = OPERATORS.iter().any(|(name, since)| *name == node.op_type && *since <= version);
        if !(own || sequence && node.op_type == "Identity") {
            return Ok(None);
        }
        if operands.contains(&NamedValue::Refused) {
            return Ok(Some(vec![NamedValue::Refused; node.output.len()]));
        }
        let passes =
            matches!(node.op_type.as_str(), "Identity" | "Optional" | "OptionalGetElement" | "OptionalHasElement");
        if !passes && operands.iter().any(|operand| matches!(operand, NamedValue::Narrow(..))) {
            self.refusals.variants(node, vec!["elements below 8 bits, or 8-bit floats".into()]);
            return Ok(Some(vec![NamedValue::Refused; node.output.len()]));
        }
        let result = match node.op_type.as_str() {
            "Identity" | "Optional" | "OptionalGetElement" => match operands.first() {
                Some(value) => *value,
                None => NamedValue::Absent,
            },
            "OptionalHasElement" => {
                let there = operands.first().is_some_and(|value| *value != NamedValue::Absent);
                let bit =
                    Constant::from_bytes(fornax_ir::types::TensorType::new(DType::Bool, []), vec![u8::from(there)]);
                NamedValue::Known(self.assembly.constant(&node.op_type, bit))
            }
            "SequenceMap" => return self.map(scope, node, operands).map(Some),
            _ => match self.on_list(node, operands, version) {
                Ok(result) => result,
                Err(crate::error::Error::Unsupported(why)) => {
                    self.refusals.variants(node, why);
                    NamedValue::Refused
                }
                Err(other) => return Err(other),
            },
        };
        Ok(Some(vec![result]))
    }

    /// A new sequence.
    fn list(&mut self, values: Vec<ValueId>) -> NamedValue {
        self.sequences.push(values);
        NamedValue::Sequence(self.sequences.len() - 1)
    }

    fn on_list(&mut self, node: &NodeProto, operands: &[NamedValue], version: i64) -> Result<NamedValue> {
        let list = match operands.first() {
            Some(NamedValue::Sequence(at)) => Some(self.sequences[*at].clone()),
            _ => None,
        };
        let mut cx = self.context(node, operands, version);
        let list = |cx: &Context<'_>| list.clone().ok_or_else(|| cx.error("input 0", "a sequence", "another value"));
        let values = match node.op_type.as_str() {
            "SequenceEmpty" => Vec::new(),
            "SequenceConstruct" => (0..cx.input_count()).map(|slot| cx.input(slot)).collect::<Result<_>>()?,
            "SequenceLength" => {
                let count = list(&cx)?.len() as i64;
                return Ok(NamedValue::Known(cx.add_constant(Constant::from_i64([], &[count]))));
            }
            "SequenceAt" => {
                let list = list(&cx)?;
                let at = position(&cx, 1, list.len(), false)?;
                return Ok(NamedValue::Known(list[at]));
            }
            "SequenceInsert" => {
                let (mut list, value) = (list(&cx)?, cx.input(1)?);
                let at = match cx.optional(2) {
                    None => list.len(),
                    Some(_) => position(&cx, 2, list.len(), true)?,
                };
                list.insert(at, value);
                list
            }
            "SequenceErase" => {
                let mut list = list(&cx)?;
                let at = match cx.optional(1) {
                    None => list.len().checked_sub(1).ok_or_else(|| cx.error("input 0", "a value", "none"))?,
                    Some(_) => position(&cx, 1, list.len(), false)?,
                };
                list.remove(at);
                list
            }
            "SplitToSequence" => split(&mut cx)?,
            _ => {
                let list = list(&cx)?;
                return Ok(NamedValue::Known(concatenated(&mut cx, list)?));
            }
        };
        Ok(self.list(values))
    }

    /// `SequenceMap`: the body for each element of the sequences, which are of one length; tensors are the same for all.
    fn map(&mut self, scope: &Scope<'_>, node: &NodeProto, operands: &[NamedValue]) -> Result<Vec<NamedValue>> {
        let body = self.body(node)?;
        let lists: Vec<Option<Vec<ValueId>>> = operands
            .iter()
            .map(|operand| match operand {
                NamedValue::Sequence(at) => Some(self.sequences[*at].clone()),
                _ => None,
            })
            .collect();
        let count = lists.iter().flatten().map(Vec::len).min().unwrap_or(0);
        let mut results = vec![Vec::new(); node.output.len()];
        for i in 0..count {
            let values = operands.iter().zip(&lists);
            let values =
                values.map(|(operand, list)| list.as_ref().map_or(*operand, |list| NamedValue::Known(list[i])));
            let values: Vec<NamedValue> = values.collect();
            for (all, value) in results.iter_mut().zip(self.nested(scope, node, body, (&i.to_string(), &values))?) {
                match value {
                    NamedValue::Known(id) => all.push(id),
                    _ => return Ok(vec![NamedValue::Refused; node.output.len()]),
                }
            }
        }
        Ok(results.into_iter().map(|values| self.list(values)).collect())
    }
}

/// The position that an input gives, from the back where it is negative; one past the end only if that is meant.
fn position(cx: &Context<'_>, slot: usize, count: usize, end: bool) -> Result<usize> {
    let given = cx.const_int(cx.input(slot)?, "position")?;
    let at = if given < 0 { given.saturating_add(count as i64) } else { given };
    let fits = |at: &usize| *at < count + usize::from(end);
    usize::try_from(at)
        .ok()
        .filter(fits)
        .ok_or_else(|| cx.error("position", format!("a position in a sequence of {count}"), given.to_string()))
}

/// `SplitToSequence`: parts of a listed length, of one length, or single slices, whose axis goes unless `keepdims`.
fn split(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let shape = cx.shape(x).to_vec();
    let axis = axis(cx, "axis", cx.attrs().int("axis", 0)?, shape.len())?;
    let keepdims = cx.attrs().flag("keepdims", true)?;
    let extent = shape[axis];
    cx.charge(extent as u64)?;
    let (sizes, single) = match cx.optional(1) {
        None => (vec![1; extent], true),
        Some(split) if cx.shape(split).rank() == 0 => {
            let size = support::extent(cx, "split", cx.const_int(split, "split")?)?;
            if size == 0 {
                return Err(cx.error("split", "1 or more", "0"));
            }
            ((0..extent.div_ceil(size)).map(|i| size.min(extent - i * size)).collect(), false)
        }
        Some(split) => (support::extents(cx, "split", &cx.const_list(split, "split")?)?, false),
    };
    if sizes.iter().try_fold(0usize, |n, size| n.checked_add(*size)) != Some(extent) {
        return Err(cx.error("split", format!("extents that add up to {extent}"), format!("{sizes:?}")));
    }
    let (mut start, mut parts) = (0, Vec::with_capacity(sizes.len()));
    for size in sizes {
        let (mut starts, mut extents) = (vec![0; shape.len()], shape.clone());
        (starts[axis], extents[axis]) = (start, size);
        start += size;
        let mut part = cx.emit(Slice { starts, steps: Vec::new(), sizes: extents.clone() }, &[x])?;
        if single && !keepdims {
            extents.remove(axis);
            part = reshape(cx, part, extents)?;
        }
        parts.push(part);
    }
    Ok(parts)
}

/// `ConcatFromSequence`: along an axis, or along a new one.
fn concatenated(cx: &mut Context<'_>, list: Vec<ValueId>) -> Result<ValueId> {
    let Some(first) = list.first() else {
        return Err(cx.error("input 0", "a sequence that is not empty", "an empty one"));
    };
    let new = cx.attrs().flag("new_axis", false)?;
    let rank = cx.shape(*first).rank() + usize::from(new);
    let axis = axis(cx, "axis", cx.attrs().require_int("axis")?, rank)?;
    let mut parts = Vec::with_capacity(list.len());
    for value in list {
        let mut shape = cx.shape(value).to_vec();
        if new {
            shape.insert(axis.min(shape.len()), 1);
        }
        parts.push(reshape(cx, value, shape)?);
    }
    cx.emit(Concat { axis }, &parts)
}
