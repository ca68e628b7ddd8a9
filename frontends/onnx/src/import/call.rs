//! Calls of model-local functions, inlined.
//!
//! A body sees only its own inputs, the opsets that the function imports, and the attributes of the call. Calls that
//! lead back to a function being inlined are refused, and depth and the number of nodes are limited.

use std::collections::{BTreeMap, HashSet};

use super::{Importer, NamedValue, Scope};
use crate::attributes::node_name;
use crate::domain::opsets;
use crate::error::{Error, Result, short};
use crate::limits::Limits;
use crate::names::cut;
use crate::order::{Body, order};
use crate::proto::{AttributeProto, FunctionProto, NodeProto};

impl Importer<'_> {
    /// Inlines a call of the model's function number `index`.
    pub fn call(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        index: usize,
        operands: &[NamedValue],
    ) -> Result<Vec<NamedValue>> {
        let function = &self.file.model.functions[index];
        let place = format!("function {}", short(&function.name));
        if self.calls.contains(&index) {
            return Err(Error::model(place, "body", "no recursion", format!("the call {}", short(node_name(node)))));
        }
        let depth = self.calls.len() as u64 + self.depth + 1;
        Limits::check(&place, "depth", self.file.loader.limits.depth, depth)?;
        if operands.len() > function.input.len() || node.output.len() > function.output.len() {
            let count = |inputs: usize, outputs: usize| format!("{inputs} inputs and {outputs} outputs");
            let expected = format!("at most {}", count(function.input.len(), function.output.len()));
            let found = count(operands.len(), node.output.len());
            return Err(Error::model(place, format!("call {}", short(node_name(node))), expected, found));
        }
        let imported = opsets(&place, &function.opset_import)?;
        let attributes = call_attributes(function, node);
        let padded = operands.iter().copied().chain(std::iter::repeat(NamedValue::Absent));
        let mut body = Scope {
            values: function.input.iter().cloned().zip(padded).collect(),
            outer: None,
            prefix: Some(match &scope.prefix {
                Some(_) => node.name.clone(),
                None => cut(node_name(node)).to_string(),
            }),
            opsets: if imported.is_empty() { scope.opsets } else { &imported },
            attributes: Some(&attributes),
        };
        let indices = body_order(function, &place)?;
        self.calls.push(index);
        self.nodes(&mut body, &function.node, &indices)?;
        self.calls.pop();
        let result = |name: &String| body.values.get(name).copied();
        let results: Option<Vec<NamedValue>> = function.output.iter().take(node.output.len()).map(result).collect();
        results.ok_or_else(|| Error::model(place, "output", "a computed value", "none"))
    }
}

/// Attributes that the body may refer to: those of the call, else the function's defaults.
fn call_attributes(function: &FunctionProto, node: &NodeProto) -> BTreeMap<String, AttributeProto> {
    let defaults = function.attribute_proto.iter().map(|a| (a.name.clone(), a.clone()));
    let given = node.attribute.iter().map(|a| (a.name.clone(), a.clone()));
    defaults.chain(given).collect()
}

fn body_order(function: &FunctionProto, place: &str) -> Result<Vec<usize>> {
    let mut inputs = HashSet::new();
    if let Some(twice) = function.input.iter().find(|name| !inputs.insert(name.as_str())) {
        return Err(Error::model(place, "input", "unique names", format!("{} twice", short(twice))));
    }
    let outputs: Vec<&str> = function.output.iter().map(String::as_str).collect();
    let defined = |name: &str| inputs.contains(name);
    order(&Body { place, nodes: &function.node, defined: &defined, reserved: &inputs, outputs: &outputs })
}
