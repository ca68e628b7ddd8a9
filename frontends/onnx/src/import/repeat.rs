//! `Loop` and `Scan` whose number of trips is known or has a bound: the body, inlined once for each.
//!
//! In: the node, its operands, its body. Out: what is carried after the last trip, and what every trip leaves, one after the
//! other. Where the condition of a loop is computed, every trip up to the bound is computed, and what is carried changes as long
//! as the condition holds; there is no bound without a number of trips, and no saying then how many trips leave something.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::{Concat, Slice};
use fornax_ir::types::{Constant, DType, TensorType};

use super::choice::{Condition, choose_all, reasons};
use super::{Importer, NamedValue, Scope};
use crate::attributes::{Attributes, node_name};
use crate::context::Context;
use crate::error::{Error, Result, short};
use crate::limits::Limits;
use crate::ops::support::{self, axis, reshape};
use crate::proto::{GraphProto, NodeProto};

/// The most trips of a loop whose condition is computed: all of them are inlined.
const COMPUTED_TRIPS: usize = 4096;

impl<'m> Importer<'m> {
    /// The attribute `body` of a node.
    pub(super) fn body<'n>(&self, node: &'n NodeProto) -> Result<&'n GraphProto>
    where
        'm: 'n,
    {
        let attribute = node.attribute.iter().find(|attribute| attribute.name == "body");
        let attributes = Attributes { node, loader: &self.file.loader };
        attribute.and_then(|a| a.g.as_ref()).ok_or_else(|| attributes.error("body", "a graph", "none"))
    }

    /// Counts a trip, so that none goes on for ever.
    fn trip(&mut self, node: &NodeProto) -> Result<()> {
        self.imported += 1;
        Limits::check(&short(node_name(node)), "nodes", self.file.loader.limits.nodes, self.imported)
    }

    /// The one element of a value that is known.
    fn known_number(&self, value: NamedValue) -> Option<f64> {
        let NamedValue::Known(id) = value else { return None };
        let constant = self.assembly.graph().producer(id).constant()?;
        Literal::from_constant(constant).ok()?.to_f64().first().copied()
    }

    /// Inlines a `Loop`.
    pub fn repeat(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
    ) -> Result<Vec<NamedValue>> {
        let body = self.body(node)?;
        let operand = |at: usize| operands.get(at).copied().unwrap_or(NamedValue::Absent);
        let (trips, condition) = (operand(0), operand(1));
        let mut carried: Vec<NamedValue> = operands.iter().skip(2).copied().collect();
        let per_trip = body.output.len().checked_sub(1 + carried.len());
        let (Some(per_trip), true) = (per_trip, body.input.len() == carried.len() + 2) else {
            let found = format!("{} inputs and {} outputs", body.input.len(), body.output.len());
            let expected = format!("{} inputs and at least {} outputs", carried.len() + 2, carried.len() + 1);
            return Err(self.context(node, operands, version).error("body", expected, found));
        };
        let most = match trips {
            NamedValue::Absent => f64::INFINITY,
            value => match self.known_number(value) {
                Some(most) => most,
                None => return Ok(self.refuse(node, "the number of trips is not known at compile time")),
            },
        };
        let mut going = match condition {
            NamedValue::Known(id) => self.condition(node, operands, version, id)?,
            _ => Condition::Known(true),
        };
        let mut left = vec![Vec::new(); per_trip];
        let mut trip = 0usize;
        while (trip as f64) < most && going != Condition::Known(false) {
            if let Condition::Computed(_) = going
                && let Some(obstacle) = unbounded(most, per_trip)
            {
                return Ok(self.refuse(node, &obstacle));
            }
            self.trip(node)?;
            let number = self.assembly.constant(node_name(node), Constant::from_i64([], &[trip as i64]));
            let on = Constant::from_bytes(TensorType::new(DType::Bool, []), vec![1]);
            let on = self.assembly.constant(node_name(node), on);
            let mut values = vec![NamedValue::Known(number), NamedValue::Known(on)];
            values.extend(&carried);
            let mut results = self.nested(scope, node, body, (&trip.to_string(), &values))?.into_iter();
            let next = match results.next() {
                Some(NamedValue::Known(id)) => self.condition(node, operands, version, id)?,
                _ => return Ok(vec![NamedValue::Refused; node.output.len()]),
            };
            let after: Vec<NamedValue> = results.by_ref().take(carried.len()).collect();
            for (all, value) in left.iter_mut().zip(results) {
                all.push(value);
            }
            let cx = &mut self.context(node, operands, version);
            let chosen = match going {
                Condition::Known(_) => Ok(after),
                Condition::Computed(on) => {
                    choose_all(cx, on, (&after, &carried), "carried values before and after a trip")
                }
            };
            going = going.and(next, cx)?;
            carried = match chosen {
                Ok(chosen) => chosen,
                Err(error) => {
                    self.refusals.variants(node, reasons(error)?);
                    return Ok(vec![NamedValue::Refused; node.output.len()]);
                }
            };
            trip += 1;
        }
        let results = self.left(node, operands, version, left)?;
        Ok(carried.into_iter().chain(results).collect())
    }

    /// Notes why a node is refused, and gives its results as such.
    fn refuse(&mut self, node: &NodeProto, why: &str) -> Vec<NamedValue> {
        self.refusals.variants(node, vec![why.to_string()]);
        vec![NamedValue::Refused; node.output.len()]
    }

    /// What the trips left, each along a new axis at the front.
    fn left(
        &mut self,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
        left: Vec<Vec<NamedValue>>,
    ) -> Result<Vec<NamedValue>> {
        let mut results = Vec::with_capacity(left.len());
        for values in left {
            if values.iter().any(|value| matches!(value, NamedValue::Narrow(..))) {
                self.refusals
                    .variants(node, vec!["results of every trip of elements below 8 bits, or 8-bit floats".into()]);
                results.push(NamedValue::Refused);
                continue;
            }
            let known: Option<Vec<ValueId>> = values.iter().map(|v| v.id()).collect();
            let cx = &mut self.context(node, operands, version);
            let Some(known) = known.filter(|known| !known.is_empty()) else {
                if values.is_empty() {
                    let why = cx.unsupported("results of every trip, of which there is none");
                    let Error::Unsupported(why) = why else { return Err(why) };
                    self.refusals.variants(node, why);
                }
                results.push(NamedValue::Refused);
                continue;
            };
            results.push(NamedValue::Known(stacked(cx, &known, 0, false)?));
        }
        Ok(results)
    }

    /// Inlines a `Scan`.
    pub fn scan(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
    ) -> Result<Vec<NamedValue>> {
        let body = self.body(node)?;
        if version < 9 {
            return self.batched_scan(scope, node, operands, version);
        }
        let cx = self.context(node, operands, version);
        let scanned = support::extent(&cx, "num_scan_inputs", cx.attrs().require_int("num_scan_inputs")?)?;
        let Some(states) = operands.len().checked_sub(scanned).filter(|_| scanned > 0) else {
            return Err(cx.error("num_scan_inputs", format!("1 to {}", operands.len()), scanned.to_string()));
        };
        let Some(per_trip) = body.output.len().checked_sub(states).filter(|_| body.input.len() == operands.len())
        else {
            let found = format!("{} inputs and {} outputs", body.input.len(), body.output.len());
            return Err(cx.error("body", format!("{} inputs and {states} outputs or more", operands.len()), found));
        };
        let input = Sides::of(&cx, ["scan_input_axes", "scan_input_directions"], scanned)?;
        let output = Sides::of(&cx, ["scan_output_axes", "scan_output_directions"], per_trip)?;
        let mut sources = Vec::with_capacity(scanned);
        for (i, given) in input.axes.iter().enumerate() {
            let x = cx.input(states + i)?;
            sources.push((x, axis(&cx, "scan_input_axes", *given, cx.shape(x).rank())?));
        }
        let trips = cx.shape(sources[0].0)[sources[0].1];
        if let Some((x, _)) = sources.iter().find(|(x, axis)| cx.shape(*x)[*axis] != trips) {
            return Err(cx.error("scan inputs", format!("{trips} slices each"), cx.ty(*x).to_string()));
        }
        let mut carried: Vec<NamedValue> = operands[..states].to_vec();
        let mut left = vec![Vec::new(); per_trip];
        for trip in 0..trips {
            self.trip(node)?;
            let mut values = std::mem::take(&mut carried);
            let cx = &mut self.context(node, operands, version);
            for ((x, axis), reversed) in sources.iter().zip(&input.reversed) {
                let at = if *reversed { trips - 1 - trip } else { trip };
                values.push(NamedValue::Known(slice(cx, *x, *axis, at)?));
            }
            let mut results = self.nested(scope, node, body, (&trip.to_string(), &values))?.into_iter();
            carried = results.by_ref().take(states).collect();
            for (all, value) in left.iter_mut().zip(results) {
                match value {
                    NamedValue::Known(id) => all.push(id),
                    _ => return Ok(vec![NamedValue::Refused; node.output.len()]),
                }
            }
        }
        for (i, values) in left.into_iter().enumerate() {
            let cx = &mut self.context(node, operands, version);
            let Some(first) = values.first() else {
                return Err(cx.error("scan inputs", "at least one slice", "none"));
            };
            let at = axis(cx, "scan_output_axes", output.axes[i], cx.shape(*first).rank() + 1)?;
            carried.push(NamedValue::Known(stacked(cx, &values, at, output.reversed[i])?));
        }
        Ok(carried)
    }
}

/// Why a loop of a computed condition cannot be inlined.
fn unbounded(most: f64, per_trip: usize) -> Option<String> {
    match per_trip {
        _ if most > COMPUTED_TRIPS as f64 => {
            // The largest integer is what exporters write for no bound.
            let bound = if most < i64::MAX as f64 { format!("{most}") } else { "none".into() };
            Some(format!(
                "the condition is computed and bounds no trips: expected at most {COMPUTED_TRIPS} by M, found {bound}"
            ))
        }
        0 => None,
        _ => Some("what every trip leaves, where the condition is computed".into()),
    }
}

/// Along which axis, and from which end, each operand or result of a `Scan` is taken.
struct Sides {
    axes: Vec<i64>,
    reversed: Vec<bool>,
}

impl Sides {
    fn of(cx: &Context<'_>, [axes, directions]: [&str; 2], count: usize) -> Result<Self> {
        let list = |name: &str| -> Result<Vec<i64>> {
            let Some(given) = cx.attrs().ints(name)? else { return Ok(vec![0; count]) };
            support::expect_len(cx, name, &given, count)?;
            Ok(given)
        };
        let flags = list(directions)?;
        if let Some(wrong) = flags.iter().find(|flag| !matches!(flag, 0 | 1)) {
            return Err(cx.error(directions, "0 or 1", wrong.to_string()));
        }
        Ok(Self { axes: list(axes)?, reversed: flags.into_iter().map(|flag| flag == 1).collect() })
    }
}

/// Slice `at` along an axis, which goes.
pub(super) fn slice(cx: &mut Context<'_>, x: ValueId, axis: usize, at: usize) -> Result<ValueId> {
    let mut sizes = cx.shape(x).to_vec();
    let mut starts = vec![0; sizes.len()];
    (starts[axis], sizes[axis]) = (at, 1);
    let one = cx.emit(Slice { starts, steps: Vec::new(), sizes: sizes.clone() }, &[x])?;
    sizes.remove(axis);
    reshape(cx, one, sizes)
}

/// Values one after the other, or from the last to the first, along a new axis.
pub(super) fn stacked(cx: &mut Context<'_>, values: &[ValueId], axis: usize, reversed: bool) -> Result<ValueId> {
    let mut parts = Vec::with_capacity(values.len());
    for value in values {
        let mut shape = cx.shape(*value).to_vec();
        shape.insert(axis.min(shape.len()), 1);
        parts.push(reshape(cx, *value, shape)?);
    }
    if reversed {
        parts.reverse();
    }
    match parts[..] {
        [only] => Ok(only),
        _ => cx.emit(Concat { axis }, &parts),
    }
}
