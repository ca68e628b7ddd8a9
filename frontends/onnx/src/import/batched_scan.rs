//! `Scan` of opset 8: a batch of sequences, each of which is a `Scan` as it is from opset 9 on.
//!
//! In: states and sequences with the batch as their first axis, and after it time. Out: the results of all entries, one after the other.
//! Lengths of the sequences that differ are refused.

use fornax_ir::graph::ValueId;

use super::repeat::{slice, stacked};
use super::{Importer, NamedValue, Scope};
use crate::attributes::node_name;
use crate::error::Result;
use crate::names::cut;
use crate::proto::NodeProto;

impl Importer<'_> {
    /// Inlines a `Scan` of opset 8.
    pub(super) fn batched_scan(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
    ) -> Result<Vec<NamedValue>> {
        let refused = vec![NamedValue::Refused; node.output.len()];
        let cx = self.context(node, operands, version);
        let count = cx.input_count();
        let whole = (1..count).map(|slot| cx.input(slot)).collect::<Result<Vec<ValueId>>>()?;
        let Some(batch) = whole.first().and_then(|x| cx.shape(*x).first().copied()).filter(|batch| *batch > 0) else {
            return Err(cx.error("inputs", "a batch that is not empty", count.saturating_sub(1).to_string()));
        };
        if let Some(other) = whole.iter().find(|x| cx.shape(**x).first() != Some(&batch)) {
            return Err(cx.error("inputs", format!("a batch of {batch} each"), cx.ty(*other).to_string()));
        }
        if let Some(lengths) = cx.optional(0) {
            let longest = whole.last().and_then(|x| cx.shape(*x).get(1).copied()).unwrap_or(0);
            let all = cx.constant(lengths).is_some_and(|_| {
                let given = cx.const_ints(lengths, "sequence_lens");
                given.is_ok_and(|given| given.iter().all(|length| usize::try_from(*length) == Ok(longest)))
            });
            if !all {
                self.refusals.variants(node, vec!["sequence_lens other than the length of all sequences".into()]);
                return Ok(refused);
            }
        }
        let mut results: Vec<Vec<ValueId>> = vec![Vec::new(); node.output.len()];
        for entry in 0..batch {
            let mut one = node.clone();
            one.name = format!("{}/{entry}", cut(node_name(node)));
            for attribute in one.attribute.iter_mut().filter(|attribute| attribute.name == "directions") {
                attribute.name = "scan_input_directions".into();
            }
            let cx = &mut self.context(node, operands, version);
            let mut parts = Vec::with_capacity(whole.len());
            for x in &whole {
                parts.push(NamedValue::Known(slice(cx, *x, 0, entry)?));
            }
            let found = self.scan(scope, &one, &parts, 9)?;
            for (all, value) in results.iter_mut().zip(found) {
                match value {
                    NamedValue::Known(id) => all.push(id),
                    _ => return Ok(refused),
                }
            }
        }
        let cx = &mut self.context(node, operands, version);
        let joined = results.iter().map(|values| stacked(cx, values, 0, false).map(NamedValue::Known));
        joined.collect()
    }
}
