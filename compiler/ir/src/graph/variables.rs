//! Values with memory of their own that outlives a run: parameters and states, and what replaces them.
//!
//! A [`Variable`] begins with known elements. A parameter is the model's and may be written between runs; a state is what the graph
//! itself carries from one run to the next. An update names the value that a variable holds after the run. All reads of a
//! run see the elements from before it, and all updates happen at once. Unlike a constant, a variable is never folded, packed
//! at compile time or merged with another; like an input, it stays in the graph even if nothing reads it.

use super::nodes::{Graph, Kind, Node, NodeId, ValueId, Variable};
use crate::types::TensorType;

impl Graph {
    /// Adds a parameter.
    pub fn add_parameter(&mut self, name: impl Into<String>, variable: Variable) -> NodeId {
        let ty = variable.initial.ty.clone();
        self.add_variable(name.into(), ty, Kind::Parameter(variable))
    }

    /// Adds a state.
    pub fn add_state(&mut self, name: impl Into<String>, variable: Variable) -> NodeId {
        let ty = variable.initial.ty.clone();
        self.add_variable(name.into(), ty, Kind::State(variable))
    }

    fn add_variable(&mut self, name: String, ty: TensorType, kind: Kind) -> NodeId {
        let id = self.add_node(Node::new(kind, ty, name, Vec::new()), &[]);
        self.variables.push(id);
        id
    }

    /// Makes `value` replace `variable` after each run.
    pub fn add_update(&mut self, variable: NodeId, value: impl Into<ValueId>) {
        self.updates.push((variable, value.into()));
    }

    /// Parameters and states, in order.
    pub fn variables(&self) -> &[NodeId] {
        &self.variables
    }

    /// Variables with the values that replace them after a run, in order.
    pub fn updates(&self) -> &[(NodeId, ValueId)] {
        &self.updates
    }

    /// Whether a value replaces a variable after the run.
    pub fn is_update(&self, value: impl Into<ValueId>) -> bool {
        let value = value.into();
        self.updates.iter().any(|(_, new)| *new == value)
    }
}

#[cfg(test)]
mod tests {
    use crate::error::Result;
    use crate::graph::parse;
    use crate::pipeline::{PipelineOptions, optimise};

    #[test]
    fn variables_survive_what_constants_do_not() -> Result<()> {
        let text = r#"graph @g(%x: f32[2]) {
          %w = parameter "w" f32[2] [1, 2]
          %again = parameter "again" f32[2] [1, 2]
          %unread = state "unread" f32[1] [0]
          %n = state "n" f32[2] [3, 4]
          %k = constant f32[] [0]
          %a = add %w, %again
          %b = add %x, %a
          %c = identity %b
          %dead = neg %w
          return %c as "y"
          update %n <- %c
        }"#;
        let optimised = optimise(parse(text)?, &PipelineOptions::default())?.graph;
        let expected = r#"graph @g(%x: f32[2]) {
          %w = parameter "w" f32[2] [1, 2]
          %again = parameter "again" f32[2] [1, 2]
          %unread = state "unread" f32[1] [0]
          %n = state "n" f32[2] [3, 4]
          %a = add %w, %again
          %b = add %x, %a
          return %b as "y"
          update %n <- %b
        }"#;
        assert!(optimised.same_as(&parse(expected)?), "{optimised}");
        Ok(())
    }
}
