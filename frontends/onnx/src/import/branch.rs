//! `If`: the branch that is taken, inlined; of a condition that is computed both, with a choice between their results.
//!
//! Exporters leave nodes of known conditions behind where they traced a test of a shape. A branch sees the names around it.

use std::collections::{HashMap, HashSet};

use fornax_ir::graph::ValueId;
use fornax_ir::ops::literal::Literal;

use super::choice::{Condition, choose_all, reasons, scalar};
use super::{Importer, NamedValue, Scope};
use crate::attributes::{Attributes, node_name};
use crate::error::{Error, Result, short};
use crate::initializers::Initializers;
use crate::limits::Limits;
use crate::names::{cut, join};
use crate::order::{Body, names_read, order};
use crate::proto::{GraphProto, NodeProto};

impl Importer<'_> {
    /// Inlines the branch of an `If` that its condition takes, or both where it is computed.
    pub fn branch(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
    ) -> Result<Vec<NamedValue>> {
        let attributes = Attributes { node, loader: &self.file.loader };
        let [NamedValue::Known(condition)] = operands else {
            return Err(attributes.error("condition", "one input", format!("{}", operands.len())));
        };
        let mut branches = Vec::with_capacity(2);
        for name in ["then_branch", "else_branch"] {
            let graph = attributes.graph(name)?.ok_or_else(|| attributes.error(name, "a graph", "none"))?;
            if graph.output.len() != node.output.len() {
                let expected = format!("{} outputs", node.output.len());
                return Err(attributes.error(name, expected, graph.output.len().to_string()));
            }
            branches.push(graph);
        }
        match self.condition(node, operands, version, *condition)? {
            Condition::Known(taken) => self.nested(scope, node, branches[usize::from(!taken)], ("", &[])),
            Condition::Computed(condition) => {
                let yes = self.nested(scope, node, branches[0], ("then", &[]))?;
                let no = self.nested(scope, node, branches[1], ("else", &[]))?;
                let cx = &mut self.context(node, operands, version);
                choose_all(cx, condition, (&yes, &no), "branches").or_else(|error| {
                    self.refusals.variants(node, reasons(error)?);
                    Ok(vec![NamedValue::Refused; node.output.len()])
                })
            }
        }
    }

    /// A value of one element as a condition.
    pub(super) fn condition(
        &mut self,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
        id: ValueId,
    ) -> Result<Condition> {
        let Some(constant) = self.assembly.graph().producer(id).constant() else {
            return scalar(&mut self.context(node, operands, version), id).map(Condition::Computed);
        };
        match Literal::from_constant(constant).map(|l| l.to_f64()) {
            Ok(values) if values.len() == 1 => Ok(Condition::Known(values[0] != 0.0)),
            _ => {
                let ty = constant.ty.to_string();
                Err(Attributes { node, loader: &self.file.loader }.error("condition", "one element", ty))
            }
        }
    }

    /// Inlines a graph of a node, with values for its inputs; `label` tells its names from those of another graph or trip of
    /// the node.
    pub(super) fn nested(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        graph: &GraphProto,
        (label, inputs): (&str, &[NamedValue]),
    ) -> Result<Vec<NamedValue>> {
        let place = format!("graph of {}", short(node_name(node)));
        let limits = &self.file.loader.limits;
        Limits::check(&place, "depth", limits.depth, self.depth + self.calls.len() as u64 + 1)?;
        let prefix = match &scope.prefix {
            Some(_) => node.name.clone(),
            None => cut(node_name(node)).to_string(),
        };
        let prefix = if label.is_empty() { prefix } else { format!("{prefix}/{label}") };
        let initializers = Initializers::of(graph, &self.file.loader)?;
        let indices = self.nested_order(scope, graph, &initializers, &place)?;
        if graph.input.len() != inputs.len() {
            let (expected, found) = (format!("{} inputs", inputs.len()), graph.input.len().to_string());
            return Err(Error::model(place, "inputs", expected, found));
        }
        let given = graph.input.iter().zip(inputs);
        let mut values: HashMap<String, NamedValue> = given.map(|(info, value)| (info.name.clone(), *value)).collect();
        let mut read = Vec::new();
        names_read(graph, &mut read);
        let read: HashSet<&str> = read.into_iter().collect();
        for (name, why) in &initializers.foreign {
            if read.contains(name.as_str()) {
                self.refusals.initializer(&join(&prefix, name), why);
            }
            values.insert(name.clone(), NamedValue::Refused);
        }
        for (name, (constant, kind)) in initializers.narrow {
            let id = self.assembly.constant(&join(&prefix, &name), constant);
            values.insert(name, NamedValue::Narrow(id, kind));
        }
        for (name, constant) in initializers.constants {
            let id = self.assembly.constant(&join(&prefix, &name), constant);
            values.insert(name, NamedValue::Known(id));
        }
        let mut inner = Scope {
            values,
            outer: Some(scope),
            prefix: Some(prefix),
            opsets: scope.opsets,
            attributes: scope.attributes,
        };
        self.depth += 1;
        self.nodes(&mut inner, &graph.node, &indices)?;
        self.depth -= 1;
        let mut results = Vec::with_capacity(graph.output.len());
        for output in &graph.output {
            let value = self.value(&inner, &output.name);
            results.push(value.ok_or_else(|| Error::model(&place, "output", "a value", short(&output.name)))?);
        }
        Ok(results)
    }

    fn nested_order(
        &self,
        scope: &Scope<'_>,
        graph: &GraphProto,
        initializers: &Initializers,
        place: &str,
    ) -> Result<Vec<usize>> {
        let inputs = graph.input.iter().map(|info| info.name.as_str());
        let own: HashSet<&str> = initializers.names().chain(inputs).collect();
        let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
        let around = |name: &str| {
            let mut scope = Some(scope);
            while let Some(s) = scope {
                if s.values.contains_key(name) || (s.prefix.is_none() && self.file.initializers.contains(name)) {
                    return true;
                }
                scope = s.outer;
            }
            false
        };
        let defined = |name: &str| own.contains(name) || around(name);
        order(&Body { place, nodes: &graph.node, defined: &defined, reserved: &own, outputs: &outputs })
    }
}
