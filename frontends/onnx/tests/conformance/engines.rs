//! What runs a case: the reference evaluator, or the passes and native code for the host.

use std::sync::Arc;

use fornax_compiler::pipeline::{self, PipelineOptions, plan_of};
use fornax_compiler::{Error, Target, jit};
use fornax_ir::graph::{Graph, ValueId, evaluate};
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::TensorType;
use fornax_runtime::{Pool, Port, Session, Tensor, cut_outputs, live_outputs};

use crate::case::Verdict;

/// Evaluates a graph as it was imported.
pub fn reference(graph: &Graph, inputs: &[Literal]) -> Result<Vec<Literal>, Verdict> {
    let wrong = |e: &dyn std::fmt::Display| Verdict::Wrong(e.to_string());
    let outputs = evaluate(graph, inputs).map_err(|e| Verdict::Wrong(format!("evaluation failed: {e}")))?;
    if live_outputs(&ports(graph)).is_empty() {
        return Ok(outputs);
    }
    let tensors = outputs.iter().map(tensor).collect::<Result<_, _>>().map_err(|e| wrong(&e))?;
    literals(graph, tensors)
}

fn ports(graph: &Graph) -> Vec<Port> {
    let port = |(name, value): &(String, ValueId)| {
        let ty = graph.ty(*value);
        Port { name: name.clone(), dtype: ty.dtype, shape: ty.shape.clone() }
    };
    graph.outputs().iter().map(port).collect()
}

fn tensor(x: &Literal) -> Result<Tensor, fornax_runtime::Error> {
    Tensor::from_bytes(x.ty.dtype, x.ty.shape.clone(), &x.to_bytes())
}

/// Outputs cut to the extents that others say, which are left out.
fn literals(graph: &Graph, outputs: Vec<Tensor>) -> Result<Vec<Literal>, Verdict> {
    let wrong = |e: &dyn std::fmt::Display| Verdict::Wrong(e.to_string());
    let outputs = cut_outputs(outputs, &live_outputs(&ports(graph))).map_err(|e| wrong(&e))?;
    let literal = |t: &Tensor| Literal::from_bytes(TensorType::new(t.dtype(), t.shape().clone()), t.bytes());
    outputs.iter().map(literal).collect::<Result<_, _>>().map_err(|e| wrong(&e))
}

/// Optimises, compiles and runs a graph. What has no kernel is unsupported.
pub fn native(graph: &Graph, inputs: &[Literal]) -> Result<Vec<Literal>, Verdict> {
    let wrong = |e: &dyn std::fmt::Display| Verdict::Wrong(e.to_string());
    let target = Target::host().map_err(Verdict::Unsupported)?;
    let optimised = pipeline::optimise(graph.clone(), &PipelineOptions::default()).map_err(|e| wrong(&e))?;
    let plan = match plan_of(&optimised.graph, &target) {
        Err(e @ Error::Unsupported(_)) => return Err(Verdict::Unsupported(e.to_string())),
        other => other.map_err(|e| wrong(&e))?,
    };
    let program = jit::compile(&plan).map_err(|e| wrong(&e))?;
    let run = || {
        let mut session = Session::new(Arc::new(program), Arc::new(Pool::new(1, false)?))?;
        let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>()?;
        let mut outputs = session.outputs()?;
        session.run(&tensors.iter().collect::<Vec<_>>(), &mut outputs)?;
        Ok::<_, fornax_runtime::Error>(outputs)
    };
    literals(graph, run().map_err(|e| wrong(&e))?)
}
