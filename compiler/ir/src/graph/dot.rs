//! A picture of a graph in the DOT language: operators as boxes, values as edges with their types, updates of variables
//! as dashed edges. Constants are left out.

use std::fmt::Write;

use super::nodes::{Graph, Kind};
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
            Kind::Parameter(variable) | Kind::State(variable) => format!("{} {}", node.mnemonic(), variable.name),
            Kind::Op(op) => format!("{}{}", op.name(), attributes(op)),
        };
        let _ = writeln!(out, "  n{} [label={}];", id.index(), quoted(&label));
        for operand in graph.operands(id).into_iter().filter(|o| graph.producer(*o).constant().is_none()) {
            let ty = graph.ty(operand).to_string();
            let _ = writeln!(out, "  n{} -> n{} [label={}];", operand.node.index(), id.index(), quoted(&ty));
        }
    }
    for (i, (name, value)) in graph.outputs().iter().enumerate() {
        let _ = writeln!(out, "  out{i} [label={}, shape=oval];", quoted(&format!("output {name}")));
        let ty = quoted(&graph.ty(*value).to_string());
        let _ = writeln!(out, "  n{} -> out{i} [label={ty}];", value.node.index());
    }
    for (variable, value) in graph.updates() {
        let ty = quoted(&graph.ty(*value).to_string());
        let _ = writeln!(out, "  n{} -> n{} [label={ty}, style=dashed];", value.node.index(), variable.index());
    }
    out.push_str("}\n");
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Result;

    #[test]
    fn operators_and_types_are_drawn_constants_are_not() -> Result<()> {
        let text = r#"graph @g(%x: f32[2]) {
          %k = constant f32[] [6]
          %a = min %x, %k
          return %a as "y"
        }"#;
        let lines = dot(&crate::graph::parse(text)?);
        let expected = [
            "digraph \"g\" {",
            "  node [shape=box, fontname=monospace];",
            "  n0 [label=\"input x\"];",
            "  n2 [label=\"min\"];",
            "  n0 -> n2 [label=\"f32[2]\"];",
            "  out0 [label=\"output y\", shape=oval];",
            "  n2 -> out0 [label=\"f32[2]\"];",
            "}",
        ];
        assert_eq!(lines.lines().collect::<Vec<_>>(), expected);
        Ok(())
    }
}
