//! Schemas: what a node may have at its opset version.
//!
//! In: a node with the types of its operands, and then of its results. Out: nothing, or an error that names operator, field,
//! opset, what the schema has and what was found. The table is `schema/table.txt`, which `tools/onnx_schema.py` writes from the `onnx`
//! package, and `schema/microsoft.txt`, which `tools/onnxruntime_schema.py` writes of what ONNX Runtime has besides. An operator that
//! neither has is not looked at.

use std::collections::BTreeMap;

use fornax_ir::graph::ValueId;
use fornax_ir::types::DType;

use crate::context::Context;
use crate::error::Result;
use crate::proto::NodeProto;

mod table;
#[cfg(test)]
mod tests;

pub(crate) use table::{Operand, Schema, versions};

/// What the table says of an operator at a version.
#[derive(Debug)]
pub(crate) enum Found {
    /// Its schema.
    Schema(&'static Schema),
    /// It comes with this later version.
    Since(i64),
    /// It went with this version.
    Removed(i64),
    /// There is no such operator.
    Unknown,
}

/// The schema of an operator at a version.
pub(crate) fn of(domain: &str, op_type: &str, version: i64) -> Found {
    let Some(versions) = versions(domain, op_type) else { return Found::Unknown };
    match versions.iter().rfind(|(since, _)| *since <= version) {
        Some((_, Some(schema))) => Found::Schema(schema),
        Some((at, None)) => Found::Removed(*at),
        None => versions.first().map_or(Found::Unknown, |(since, _)| Found::Since(*since)),
    }
}

/// The types that the variables of a schema stand for at a node, each with the operand that settled it.
pub(crate) type Bound = BTreeMap<&'static str, (DType, &'static str)>;

/// Fails unless attributes, number and element types of the operands are as the schema has them.
pub(crate) fn check(cx: &Context<'_>) -> Result<Bound> {
    let Found::Schema(schema) = of(cx.domain(), cx.op_type(), cx.version()) else { return Ok(Bound::new()) };
    attributes(cx, schema)?;
    counts(cx, schema)?;
    let mut bound = Bound::new();
    for (slot, id) in cx.inputs.iter().enumerate() {
        let (Some(id), Some(operand)) = (id, at(&schema.inputs, slot)) else { continue };
        if cx.narrow(slot).is_some() {
            continue;
        }
        element_type(cx, schema, operand, cx.ty(*id).dtype, &mut bound)?;
    }
    Ok(bound)
}

/// Fails unless attributes and number of operands are as the schema has them: of operators whose operands need not be tensors.
pub(crate) fn check_form(cx: &Context<'_>) -> Result<()> {
    let Found::Schema(schema) = of(cx.domain(), cx.op_type(), cx.version()) else { return Ok(()) };
    attributes(cx, schema)?;
    counts(cx, schema)
}

/// Fails unless the element types of the results that are asked for are as the schema has them.
pub(crate) fn check_results(cx: &Context<'_>, mut bound: Bound, results: &[ValueId]) -> Result<()> {
    let Found::Schema(schema) = of(cx.domain(), cx.op_type(), cx.version()) else { return Ok(()) };
    for (slot, (id, name)) in results.iter().zip(&cx.node.output).enumerate() {
        let Some(operand) = at(&schema.outputs, slot).filter(|_| !name.is_empty()) else { continue };
        if slot == 0 && cx.gives.is_some() {
            continue;
        }
        element_type(cx, schema, operand, cx.ty(*id).dtype, &mut bound)?;
    }
    Ok(())
}

/// Why the operator set of a version does not have a node; element types that `types` does not know are not looked at.
pub(crate) fn fault(node: &NodeProto, version: i64, types: impl Fn(&str) -> Option<DType>) -> Option<String> {
    let op = &node.op_type;
    let Found::Schema(schema) = of("", op, version) else { return Some(format!("opset {version} has no {op}")) };
    let known = |name: &str| schema.attributes.iter().any(|attribute| attribute.name == name);
    if let Some(other) = node.attribute.iter().find(|attribute| !known(&attribute.name)) {
        return Some(format!("{op} of opset {version} has no attribute {}", other.name));
    }
    let mut bound: BTreeMap<&str, DType> = BTreeMap::new();
    for (operands, names) in [(&schema.inputs, &node.input), (&schema.outputs, &node.output)] {
        for (slot, name) in names.iter().enumerate() {
            let (Some(dtype), Some(operand)) = (types(name), at(operands, slot)) else { continue };
            let first = *bound.entry(operand.kind).or_insert(dtype);
            if first != dtype || !schema.types_of(operand).contains(&dtype) {
                return Some(format!("{op} of opset {version} has no {} of {dtype}", operand.name));
            }
        }
    }
    None
}

/// The operand at a position; the last one stands for all from its position on where it may be several.
fn at(operands: &'static [Operand], slot: usize) -> Option<&'static Operand> {
    operands.get(slot).or_else(|| operands.last().filter(|last| last.several))
}

fn attributes(cx: &Context<'_>, schema: &'static Schema) -> Result<()> {
    for attribute in &cx.node.attribute {
        let name = attribute.name.as_str();
        match schema.attributes.iter().find(|known| known.name == name) {
            Some(known) => cx.attrs().expect_type(name, known.kind)?,
            // Names of two underscores are the exporter's own.
            None if name.starts_with("__") => {}
            None => return Err(unknown_attribute(cx, schema, name)),
        }
    }
    match schema.attributes.iter().find(|known| known.required && !cx.attrs().has(known.name)) {
        Some(missing) => Err(cx.attrs().error(missing.name, "a value", "none")),
        None => Ok(()),
    }
}

/// What is wrong with an attribute that the schema does not have.
fn unknown_attribute(cx: &Context<'_>, schema: &Schema, name: &str) -> crate::error::Error {
    let version = cx.version();
    let all = versions(cx.domain(), cx.op_type()).unwrap_or_default();
    let has = |(_, schema): &&(i64, Option<Schema>)| {
        schema.as_ref().is_some_and(|schema| schema.attributes.iter().any(|known| known.name == name))
    };
    if let Some((since, _)) = all.iter().filter(|(since, _)| *since > version).find(has) {
        return cx.attrs().error(name, format!("opset {since} or later"), format!("opset {version}"));
    }
    if let Some((last, _)) = all.iter().rfind(has) {
        let next = all.iter().map(|(since, _)| *since).find(|since| since > last).unwrap_or(version);
        return cx.attrs().error(name, format!("opset {} or earlier", next - 1), format!("opset {version}"));
    }
    let names: Vec<&str> = schema.attributes.iter().map(|known| known.name).collect();
    let expected = if names.is_empty() { "no attribute".to_string() } else { one_of(&names) };
    cx.attrs().error(name, format!("{expected} (opset {version})"), crate::error::short(name))
}

fn counts(cx: &Context<'_>, schema: &Schema) -> Result<()> {
    let version = cx.version();
    let most = |operands: &[Operand]| match operands.last() {
        Some(last) if last.several => usize::MAX,
        _ => operands.len(),
    };
    let named = |names: &[String]| names.iter().rposition(|name| !name.is_empty()).map_or(0, |last| last + 1);
    let (inputs, outputs) = (named(&cx.node.input), named(&cx.node.output));
    for (field, found, most_at) in
        [("inputs", inputs, most(&schema.inputs)), ("outputs", outputs, most(&schema.outputs))]
    {
        if found > most_at {
            return Err(cx.error(field, format!("at most {most_at} (opset {version})"), found.to_string()));
        }
    }
    // Names may be empty where exporters write them so; positions must be there.
    let least = schema.inputs.iter().rposition(|operand| operand.required).map_or(0, |last| last + 1);
    if cx.node.input.len() < least {
        let found = cx.node.input.len();
        let first = schema.inputs.get(found).map_or("", |operand| operand.name);
        return Err(cx.error(format!("input {found} ({first})"), format!("a value (opset {version})"), "none"));
    }
    Ok(())
}

fn element_type(
    cx: &Context<'_>,
    schema: &Schema,
    operand: &'static Operand,
    found: DType,
    bound: &mut Bound,
) -> Result<()> {
    let version = cx.version();
    let allowed = schema.types_of(operand);
    if !allowed.contains(&found) {
        let names: Vec<&str> = allowed.iter().map(|dtype| dtype.name()).collect();
        return Err(cx.error(operand.name, format!("{} (opset {version})", one_of(&names)), found.name()));
    }
    if operand.mixed {
        return Ok(());
    }
    match bound.insert(operand.kind, (found, operand.name)) {
        Some((first, name)) if first != found => {
            Err(cx.error(operand.name, format!("{first}, as {name} (opset {version})"), found.name()))
        }
        _ => Ok(()),
    }
}

/// `a`, `a or b`, `a, b or c`.
fn one_of(names: &[&str]) -> String {
    match names {
        [] => "none".into(),
        [only] => (*only).into(),
        [first @ .., last] => format!("{} or {last}", first.join(", ")),
    }
}
