//! A picture of a graph in the DOT language: operators as boxes, values as edges with their types. Constants are left out.

use std::fmt::Write;

use super::graph::{Graph, Kind};
use super::print::{attributes, quoted};

/// The graph as a `digraph`.
pub fn dot(graph: &Graph) -> String {
    let mut out = format!("digraph {} {{\n  node [shape=box, fontname=monospace];\n", quoted(&graph.name));
    let order = graph.topological().unwrap_or_else(|_| graph.ids().collect());
    for id in order {
        let node = graph.node(id);
        let label = match &node.kind {
            Kind::Constant(_) => continue,
            Kind::Input => format!("input {}", node.name),
            Kind::Op(op) => format!("{}{}", op.name(), attributes(op)),
        };
        let _ = writeln!(out, "  n{} [label={}];", id.index(), quoted(&label));
        for operand in graph.operands(id).into_iter().filter(|o| graph.node(*o).constant().is_none()) {
            let ty = graph.node(operand).ty.to_string();
            let _ = writeln!(out, "  n{} -> n{} [label={}];", operand.index(), id.index(), quoted(&ty));
        }
    }
    for (i, (name, id)) in graph.outputs().iter().enumerate() {
        let _ = writeln!(out, "  out{i} [label={}, shape=oval];", quoted(&format!("output {name}")));
        let _ = writeln!(out, "  n{} -> out{i} [label={}];", id.index(), quoted(&graph.node(*id).ty.to_string()));
    }
    out.push_str("}\n");
    out
}
