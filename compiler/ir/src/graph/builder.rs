//! Fluent construction of a graph, for frontends and tests.
//!
//! Nodes are added in order and typed at once. A node whose operands are all constants is evaluated on the spot if
//! its result is of an integer type or small ([`SMALL`] elements), so shape arithmetic disappears while a model is
//! read, quantised weights aside; folding of larger tensors is left to the `fold_constants` pass. The work spent that way is bounded.

use super::names::Names;
use super::nodes::{Graph, Node, ValueId, Variable};
use crate::error::{OpError, Result};
use crate::ops::Op;
use crate::ops::literal::Literal;
use crate::types::{Constant, DType, Payload, Shape, TensorType};

/// Largest floating-point result, in elements, that is evaluated while building.
pub const SMALL: usize = 1024;
/// Default bound on the elements read, written and multiplied by evaluation while building.
pub const FOLD_LIMIT: u64 = 1 << 20;

/// A graph under construction.
#[derive(Debug)]
pub struct GraphBuilder {
    graph: Graph,
    names: Names,
    work_left: u64,
}

impl GraphBuilder {
    /// An empty graph called `name`.
    pub fn new(name: impl Into<String>) -> Self {
        Self { graph: Graph::new(name), names: Names::default(), work_left: FOLD_LIMIT }
    }

    /// A builder that goes on with `graph`.
    pub fn of(graph: Graph) -> Self {
        Self { names: Names::of(&graph), graph, work_left: FOLD_LIMIT }
    }

    /// The same builder with another bound on evaluation, in elements; 0 evaluates nothing.
    pub fn with_fold_limit(mut self, elements: u64) -> Self {
        self.work_left = elements;
        self
    }

    /// Adds an `f32` input.
    pub fn input(&mut self, name: &str, shape: impl Into<Shape>) -> ValueId {
        self.input_of(name, TensorType::f32(shape))
    }

    /// Adds an input of any type.
    pub fn input_of(&mut self, name: &str, ty: TensorType) -> ValueId {
        let name = self.names.fresh(name);
        self.graph.add_input(name, ty).into()
    }

    /// Adds a constant.
    pub fn constant(&mut self, name: &str, constant: Constant) -> ValueId {
        let name = self.names.fresh(name);
        self.graph.add_constant(name, constant).into()
    }

    /// Adds an `f32` constant of seeded random elements in `[-1, 1)`.
    pub fn random(&mut self, name: &str, shape: impl Into<Shape>, seed: u64) -> ValueId {
        self.constant(name, Constant::new(TensorType::f32(shape), Payload::Random(seed)))
    }

    /// Adds a parameter, `key` being the name by which hosts address it.
    pub fn parameter(&mut self, name: &str, key: impl Into<String>, initial: Constant) -> ValueId {
        let name = self.names.fresh(name);
        self.graph.add_parameter(name, Variable::new(key, initial)).into()
    }

    /// Adds a state, `key` being the name by which hosts address it.
    pub fn state(&mut self, name: &str, key: impl Into<String>, initial: Constant) -> ValueId {
        let name = self.names.fresh(name);
        self.graph.add_state(name, Variable::new(key, initial)).into()
    }

    /// Makes `value` replace `variable` after each run.
    pub fn update(&mut self, variable: ValueId, value: ValueId) {
        self.graph.add_update(variable.node, value);
    }

    /// Adds an operator whose only origin is `name`; returns its value, a constant if it could be evaluated.
    ///
    /// # Errors
    /// What the operator's shape rule says against the operands.
    pub fn op(&mut self, name: &str, op: impl Into<Op>, operands: &[ValueId]) -> Result<ValueId> {
        self.op_from(name, op, operands, vec![name.to_owned()])
    }

    /// Adds an operator of one result that stands for the model file's nodes `origins`.
    ///
    /// # Errors
    /// What the operator's shape rule says against the operands.
    pub fn op_from(
        &mut self,
        name: &str,
        op: impl Into<Op>,
        operands: &[ValueId],
        origins: Vec<String>,
    ) -> Result<ValueId> {
        let op = op.into();
        let results = self.ops_from(&[name], op.clone(), operands, origins)?;
        let count = results.len().to_string();
        results.first().copied().ok_or_else(|| OpError::new("results", "at least one", count).at(name, op.name()))
    }

    /// Adds an operator of any number of results, whose names begin `names`; returns its values, which are constants if
    /// it could be evaluated.
    ///
    /// # Errors
    /// What the operator's shape rule says against the operands.
    pub fn ops_from(
        &mut self,
        names: &[&str],
        op: impl Into<Op>,
        operands: &[ValueId],
        origins: Vec<String>,
    ) -> Result<Vec<ValueId>> {
        let op = op.into();
        let first = names.first().copied().unwrap_or_default();
        let at = |e: OpError| e.at(origins.first().map_or(first, |o| o), op.name());
        let inputs: Vec<&TensorType> = operands.iter().map(|id| self.graph.ty(*id)).collect();
        let types = op.infer(&inputs).map_err(at)?;
        let named = (0..types.len()).map(|i| names.get(i).copied().filter(|n| !n.is_empty()).unwrap_or(first));
        if let Some(constants) = self.evaluate(&op, &types, operands) {
            return Ok(named.zip(constants).map(|(name, constant)| self.constant(name, constant)).collect());
        }
        let named = named.map(|name| self.names.fresh(name)).collect();
        let none = || OpError::new("results", "at least one", "none").at(first, "operator");
        let node = Node::of_op(op, types, named, origins).ok_or_else(none)?;
        let id = self.graph.add_node(node, operands);
        Ok(self.graph.values(id).collect())
    }

    /// Names a value as the next output.
    pub fn output(&mut self, name: impl Into<String>, value: ValueId) {
        self.graph.add_output(name, value);
    }

    /// A name that no node has: `base`, or with a numeric suffix. It is taken from now on.
    pub fn fresh(&mut self, base: &str) -> String {
        self.names.fresh(base)
    }

    /// Gives a value the name `base`, or that with a numeric suffix.
    pub fn rename(&mut self, value: ValueId, base: &str) {
        self.names.release(self.graph.name_of(value));
        let name = self.names.fresh(base);
        self.graph.rename(value, name);
    }

    /// The graph so far.
    pub fn graph(&self) -> &Graph {
        &self.graph
    }

    /// The graph so far, for its name and metadata.
    pub fn graph_mut(&mut self) -> &mut Graph {
        &mut self.graph
    }

    /// Type of a value.
    pub fn ty(&self, value: ValueId) -> &TensorType {
        self.graph.ty(value)
    }

    /// The constant behind a value, if it is known.
    pub fn known(&self, value: ValueId) -> Option<&Constant> {
        self.graph.producer(value).constant()
    }

    /// The finished graph, without nodes that no output and no update depends on.
    pub fn finish(mut self) -> Graph {
        self.graph.remove_dead();
        self.graph
    }

    /// Whether `op` begins to dequantise a weight: `fold_quantised` has to see its integers.
    fn dequantises(&self, op: &Op, operands: &[ValueId]) -> bool {
        let integers = |ty: &TensorType| matches!(ty.dtype, DType::U8 | DType::I8) && ty.shape.rank() > 1;
        matches!(op, Op::Cast(cast) if cast.to.is_float()) && operands.iter().any(|id| integers(self.ty(*id)))
    }

    /// The results of `op` over known operands, if they are worth having and the work allows. An operator that cannot
    /// be evaluated stays a node.
    fn evaluate(&mut self, op: &Op, types: &[TensorType], operands: &[ValueId]) -> Option<Vec<Constant>> {
        if types.iter().any(|ty| ty.dtype.is_float() && ty.shape.numel() > SMALL) || self.dequantises(op, operands) {
            return None;
        }
        let constants: Vec<&Constant> = operands.iter().map(|id| self.known(*id)).collect::<Option<_>>()?;
        let work = work(op, types, &constants);
        if work > self.work_left {
            return None;
        }
        let results = evaluate(op, &constants).ok()?;
        self.work_left -= work;
        Some(results)
    }
}

/// Elements that an evaluation of `op` with results of `types` reads, writes and multiplies.
pub(crate) fn work(op: &Op, types: &[TensorType], operands: &[&Constant]) -> u64 {
    let inputs: Vec<&TensorType> = operands.iter().map(|c| &c.ty).collect();
    let moved = inputs.iter().copied().chain(types).fold(0usize, |n, t| n.saturating_add(t.shape.numel())) as u64;
    moved.saturating_add(types.first().map_or(0, |ty| op.macs(&inputs, ty)))
}

/// The results of `op` over constants; they keep the names of their parameters.
pub(crate) fn evaluate(op: &Op, operands: &[&Constant]) -> Result<Vec<Constant>, OpError> {
    let literals: Vec<Literal> = operands.iter().map(|c| Literal::from_constant(c)).collect::<Result<_, _>>()?;
    let mut origins: Vec<String> = Vec::new();
    for origin in operands.iter().flat_map(|c| &c.origins) {
        if !origins.contains(origin) {
            origins.push(origin.clone());
        }
    }
    let results = op.evaluate(&literals.iter().collect::<Vec<_>>())?;
    Ok(results.iter().map(|value| value.to_constant().with_origins(origins.clone())).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ops::{Binary, Cast, Concat, Expand, Slice};
    use crate::scalar::BinaryFn;

    #[test]
    fn shape_arithmetic_disappears() -> Result<()> {
        let mut b = GraphBuilder::new("g");
        let x = b.input("x", [2]);
        let shape = b.constant("shape", Constant::from_i64([3], &[2, 3, 4]));
        let first = b.op("first", Slice { starts: vec![0], sizes: vec![1], ..Slice::default() }, &[shape])?;
        let rest = b.constant("rest", Constant::from_i64([1], &[-1]));
        let both = b.op("both", Concat { axis: 0 }, &[first, rest])?;
        let elements = b.known(both).and_then(|c| Literal::from_constant(c).ok());
        assert_eq!(elements.map(|l| l.to_f64()), Some(vec![2.0, -1.0]));
        b.output("x", x);
        assert_eq!(b.finish().len(), 1);
        Ok(())
    }

    #[test]
    fn small_floats_are_evaluated_and_keep_their_parameters() -> Result<()> {
        let mut b = GraphBuilder::new("g");
        let k = b.constant("k", Constant::from_f32([2], &[1.0, 2.0]).with_origins(vec!["p".into()]));
        let sum = b.op("sum", Binary { function: BinaryFn::Add }, &[k, k])?;
        assert_eq!(b.known(sum), Some(&Constant::from_f32([2], &[2.0, 4.0])));
        assert_eq!(b.known(sum).map(|c| c.origins.clone()), Some(vec!["p".to_string()]));
        Ok(())
    }

    #[test]
    fn integers_of_weights_stay() -> Result<()> {
        let mut b = GraphBuilder::new("g");
        let mut cast = |shape: &[usize]| -> Result<bool> {
            let integers = Literal::new_int(TensorType::new(DType::I8, shape), vec![7; shape.iter().product()]);
            let k = b.constant("k", integers.to_constant());
            let f = b.op("f", Cast { to: DType::F32 }, &[k])?;
            Ok(b.known(f).is_some())
        };
        assert_eq!([cast(&[4, 2])?, cast(&[4])?, cast(&[])?], [false, true, true]);
        Ok(())
    }

    #[test]
    fn an_operator_may_have_several_results() -> Result<()> {
        let mut b = GraphBuilder::new("g");
        let x = b.input("x", [3]);
        let op = crate::ops::Split { axis: 0, sizes: vec![1, 2] };
        let parts = b.ops_from(&["first"], op.clone(), &[x], vec!["/split".into()])?;
        let named: Vec<&str> = parts.iter().map(|part| b.graph().name_of(*part)).collect();
        assert_eq!(named, ["first", "first_1"]);
        assert_eq!((b.ty(parts[0]), b.ty(parts[1])), (&TensorType::f32([1]), &TensorType::f32([2])));
        let k = b.constant("k", Constant::from_f32([3], &[1.0, 2.0, 3.0]));
        let parts = b.ops_from(&["a", "b"], op, &[k], Vec::new())?;
        assert_eq!(b.known(parts[1]), Some(&Constant::from_f32([2], &[2.0, 3.0])));
        assert_eq!(b.graph().name_of(parts[1]), "b");
        Ok(())
    }

    #[test]
    fn variables_are_not_evaluated() -> Result<()> {
        let mut b = GraphBuilder::new("g");
        let k = b.constant("k", Constant::from_f32([1], &[1.0]));
        let w = b.parameter("v", "w", Constant::from_f32([1], &[1.0]));
        let n = b.state("v", "n", Constant::from_f32([1], &[1.0]));
        let sum = b.op("sum", Binary { function: BinaryFn::Add }, &[w, k])?;
        assert_eq!([w, n, sum].map(|id| b.known(id).is_some()), [false; 3]);
        b.update(n, sum);
        let graph = b.finish();
        let text = r#"graph @g() {
          %k = constant f32[1] [1]
          %v = parameter "w" f32[1] [1]
          %v_1 = state "n" f32[1] [1]
          %sum = add %v, %k  ; from "sum"
          return
          update %v_1 <- %sum
        }"#;
        assert!(graph.same_as(&crate::graph::parse(text)?), "{graph}");
        Ok(())
    }

    #[test]
    fn large_floats_and_work_beyond_the_limit_stay_nodes() -> Result<()> {
        let mut b = GraphBuilder::new("g").with_fold_limit(100);
        let k = b.constant("k", Constant::from_f32([1], &[1.0]));
        let large = b.op("e", Expand { shape: vec![SMALL + 1] }, &[k])?;
        assert!(b.known(large).is_none());
        let n = b.constant("n", Constant::from_i64([1], &[1]));
        let beyond = b.op("e", Expand { shape: vec![100] }, &[n])?;
        assert!(b.known(beyond).is_none());
        let within = b.op("e", Cast { to: DType::I32 }, &[n])?;
        assert!(b.known(within).is_some());
        assert_eq!(b.graph().name_of(within), "e_2");
        Ok(())
    }

    #[test]
    fn a_refusal_names_the_node_of_the_model() {
        let mut b = GraphBuilder::new("g");
        let (x, y) = (b.input("x", [2]), b.input("y", [3]));
        let error = b.op_from("sum", Binary { function: BinaryFn::Add }, &[x, y], vec!["/model/Add".into()]);
        assert!(error.is_err_and(|e| e.to_string().starts_with("/model/Add: add: ")));
    }
}
