//! What the importer accepts against the table: every operator that is imported, at every version that changes it.

use fornax_ir::inputs::Bindings;
use fornax_ir::types::DType;
use prost::Message;

use super::{Operand, Schema, versions};
use crate::file::OnnxFile;
use crate::limits::Limits;
use crate::proto::{
    AttributeProto, DimensionProto, DimensionValue, GraphProto, ModelProto, NodeProto, OperatorSetId, TensorShapeProto,
    TensorTypeProto, TypeProto, ValueInfoProto, attribute_type as kind,
};
use crate::registry;
use crate::tensors::type_code;

/// A node of its required operands, each of a type that the schema has; optional ones among them have no name.
#[derive(Clone)]
struct Case {
    node: NodeProto,
    types: Vec<DType>,
    version: i64,
}

/// Every operator at the first version of each of its schemas.
fn cases() -> Vec<(Case, &'static Schema)> {
    let plain = |(name, _, _): &(&str, &str, i64)| !registry::is_structural(name, i64::MAX);
    let names = registry::operators().into_iter().filter(plain).map(|(name, domain, _)| (name, domain));
    let all = names.flat_map(|name| versions(name.1, name.0).unwrap().iter().map(move |row| (name, row)));
    all.filter_map(|((name, domain), (version, schema))| {
        let schema = schema.as_ref()?;
        let given = |operand: &Operand| operand.required || operand.several;
        let operands = &schema.inputs[..schema.inputs.iter().rposition(given).map_or(0, |last| last + 1)];
        let types = operands.iter().map(|operand| schema.types_of(operand)[0]).collect();
        let named = |(i, operand)| if given(operand) { format!("x{i}") } else { String::new() };
        let input = operands.iter().enumerate().map(named).collect();
        let required = schema.attributes.iter().filter(|attribute| attribute.required);
        let node = NodeProto {
            input,
            name: "node".into(),
            output: vec!["y".into()],
            op_type: name.into(),
            attribute: required.map(|attribute| of_type(attribute.name, attribute.kind)).collect(),
            domain: domain.into(),
            overload: String::new(),
        };
        Some((Case { node, types, version: *version }, schema))
    })
    .collect()
}

fn of_type(name: &str, kind: i32) -> AttributeProto {
    AttributeProto { name: name.into(), r#type: kind, ..AttributeProto::default() }
}

impl Case {
    /// The importer's message; an operator that reads the node has none.
    fn message(&self) -> String {
        let dim = DimensionProto { value: Some(DimensionValue::Extent(1)) };
        let info = |(name, dtype): (&String, &DType)| {
            let shape = Some(TensorShapeProto { dim: vec![dim.clone()] });
            let tensor_type = Some(TensorTypeProto { elem_type: type_code(*dtype), shape });
            ValueInfoProto { name: name.clone(), r#type: Some(TypeProto { tensor_type }) }
        };
        let named = self.node.input.iter().zip(&self.types).filter(|(name, _)| !name.is_empty());
        let graph = GraphProto {
            node: vec![self.node.clone()],
            input: named.map(info).collect(),
            output: vec![ValueInfoProto { name: "y".into(), r#type: None }],
            ..GraphProto::default()
        };
        let model = ModelProto {
            ir_version: Some(8),
            opset_import: vec![OperatorSetId { domain: self.node.domain.clone(), version: self.version }],
            graph: Some(graph),
            ..ModelProto::default()
        };
        let file = OnnxFile::from_bytes(model.encode_to_vec().into(), None, &Limits::default()).unwrap();
        file.import(&Bindings::default()).err().map(|e| e.to_string()).unwrap_or_default()
    }

    fn with(&self, attribute: AttributeProto) -> Self {
        let mut case = self.clone();
        case.node.attribute.retain(|other| other.name != attribute.name);
        case.node.attribute.push(attribute);
        case
    }

    #[track_caller]
    fn refused(&self, field: &str, expected: &str) {
        let (op, version) = (&self.node.op_type, self.version);
        let message = self.message();
        assert!(message.starts_with(&format!("node: {op}: {field}")), "{op} {version}: {field}: {message}");
        assert!(message.contains(expected), "{op} {version}: {expected}: {message}");
    }
}

#[test]
fn attributes_that_the_opset_does_not_have_are_refused() {
    for (case, schema) in cases() {
        let op = case.node.op_type.as_str();
        case.with(of_type("Axes_", kind::INT)).refused("attribute Axes_", &format!("(opset {})", case.version));
        // Attributes of other versions.
        for (since, other) in versions(&case.node.domain, op).unwrap() {
            let has = |name: &str| schema.attributes.iter().any(|known| known.name == name);
            for attribute in other.iter().flat_map(|other| &other.attributes).filter(|known| !has(known.name)) {
                let expected = if *since > case.version { "or later" } else { "or earlier" };
                let before = versions(&case.node.domain, op).unwrap().iter().any(|(at, schema)| {
                    let later = *at > case.version;
                    later && schema.iter().any(|s| s.attributes.iter().any(|known| known.name == attribute.name))
                });
                let expected = if before { "or later" } else { expected };
                case.with(of_type(attribute.name, attribute.kind))
                    .refused(&format!("attribute {}", attribute.name), expected);
            }
        }
        // Attributes of another type.
        for attribute in &schema.attributes {
            let other = if attribute.kind == kind::INT { kind::FLOAT } else { kind::INT };
            case.with(of_type(attribute.name, other))
                .refused(&format!("attribute {}", attribute.name), kind::name(other));
        }
    }
}

#[test]
fn attributes_are_given_where_they_must_be() {
    for (case, schema) in cases() {
        for attribute in &schema.attributes {
            let mut without = case.clone();
            without.node.attribute.retain(|other| other.name != attribute.name);
            if attribute.required {
                without.refused(&format!("attribute {}", attribute.name), "expected a value, found none");
            }
        }
        // The exporter's own.
        let own = case.with(of_type("__traced", kind::INT)).message();
        assert!(!own.contains("__traced"), "{own}");
    }
}

#[test]
fn operands_that_the_opset_does_not_have_are_refused() {
    for (case, schema) in cases() {
        let several = |operands: &[Operand]| operands.last().is_some_and(|last| last.several);
        if !several(&schema.inputs) {
            let mut more = case.clone();
            more.node.input.resize(schema.inputs.len(), String::new());
            more.node.input.push("more".into());
            more.types.resize(more.node.input.len(), DType::F32);
            more.refused("inputs: expected at most", &format!("(opset {})", case.version));
        }
        if !several(&schema.outputs) {
            let mut more = case.clone();
            more.node.output.extend((0..schema.outputs.len()).map(|i| format!("more{i}")));
            more.refused("outputs: expected at most", &format!("(opset {})", case.version));
        }
        if let Some(last) = schema.inputs.iter().rposition(|operand| operand.required) {
            let mut less = case.clone();
            less.node.input.truncate(last);
            less.refused(&format!("input {last} ({})", schema.inputs[last].name), "expected a value");
        }
    }
}

#[test]
fn element_types_that_the_opset_does_not_have_are_refused() {
    let mut refusals = 0;
    for (case, schema) in cases() {
        for (slot, operand) in schema.inputs.iter().enumerate().take(case.types.len()) {
            let allowed = schema.types_of(operand);
            let given = |at: &usize| !case.node.input[*at].is_empty();
            let alike = |at: &usize| schema.inputs[*at].kind == operand.kind;
            let first = (0..case.types.len()).filter(given).find(alike) == Some(slot);
            if !given(&slot) || operand.mixed {
                continue;
            }
            for dtype in DType::ALL {
                let mut other = case.clone();
                other.types[slot] = dtype;
                if !allowed.contains(&dtype) {
                    other.refused(&format!("{}: expected", operand.name), &format!("(opset {})", case.version));
                    refusals += 1;
                } else if !first && dtype != case.types[slot] {
                    other.refused(&format!("{}: expected {}, as ", operand.name, case.types[slot]), dtype.name());
                    refusals += 1;
                }
            }
        }
    }
    assert!(refusals > 3000, "{refusals}");
}
