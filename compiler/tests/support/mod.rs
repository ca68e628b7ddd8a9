//! Whole plans against the reference evaluator, for any graph.

use std::sync::Arc;

use fornax_compiler::internals::error_bound;
use fornax_compiler::pipeline::plan_of;
use fornax_compiler::{Plan, Target, jit};
use fornax_ir::graph::{Graph, GraphBuilder, Kind, evaluate};
use fornax_ir::ops::Op;
use fornax_ir::ops::literal::Literal;
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::{DType, TensorType, random_values};
use fornax_runtime::{Pool, Session, Tensor};

/// A graph of one operator over one input and constants.
pub fn single(name: &str, op: impl Into<Op>, x: &[usize], constants: &[&[usize]]) -> Graph {
    let mut b = GraphBuilder::new(name);
    let mut operands = vec![b.input("x", x)];
    operands.extend(constants.iter().zip(100..).map(|(shape, seed)| b.random("w", *shape, seed)));
    let y = b.op("y", op, &operands).unwrap();
    b.output("y", y);
    b.finish()
}

/// The plan of a graph on this machine.
pub fn plan(graph: &Graph) -> Plan {
    plan_of(graph, &Target::host().unwrap()).unwrap_or_else(|e| panic!("{}: {e}", graph.name))
}

/// Seeded values for each input of a graph: floats in `[-1, 1)`, integers from -8 to 8 (from 0 if unsigned), both booleans.
pub fn inputs(graph: &Graph) -> Vec<Literal> {
    graph.inputs().iter().zip(1..).map(|(id, seed)| input(graph.ty(*id), seed)).collect()
}

fn input(ty: &TensorType, seed: u64) -> Literal {
    let values = random_values(seed, ty.shape.numel()).into_iter().map(f64::from);
    let whole = |v: f64| (v * 9.0) as i64;
    match ty.dtype {
        dtype if dtype.is_float() => Literal::new_float(ty.clone(), values.collect()),
        DType::Bool => Literal::new_int(ty.clone(), values.map(|v| i64::from(v > 0.0)).collect()),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => {
            Literal::new_int(ty.clone(), values.map(|v| whole(v).abs()).collect())
        }
        _ => Literal::new_int(ty.clone(), values.map(whole).collect()),
    }
}

/// The outputs of a graph's program, the same bytes on one thread, on three, and in a second run.
pub fn native(graph: &Graph, inputs: &[Literal]) -> Vec<Literal> {
    let program = Arc::new(jit::compile(&plan(graph)).unwrap_or_else(|e| panic!("{}: {e}", graph.name)));
    let tensors: Vec<Tensor> =
        inputs.iter().map(|x| Tensor::from_bytes(x.ty.dtype, x.ty.shape.clone(), &x.to_bytes()).unwrap()).collect();
    let tensors: Vec<&Tensor> = tensors.iter().collect();
    let mut results: Vec<Vec<Vec<u8>>> = Vec::new();
    for threads in [1, 3] {
        let mut session = Session::new(Arc::clone(&program), Arc::new(Pool::new(threads, false).unwrap())).unwrap();
        for _ in 0..2 {
            let mut outputs = session.outputs().unwrap();
            session.run(&tensors, &mut outputs).unwrap();
            results.push(outputs.iter().map(|y| y.bytes().to_vec()).collect());
        }
    }
    assert!(results.windows(2).all(|pair| pair[0] == pair[1]), "{}: runs differ", graph.name);
    let types = graph.outputs().iter().map(|(_, id)| graph.ty(*id).clone());
    types.zip(&results[0]).map(|(ty, bytes)| Literal::from_bytes(ty, bytes).unwrap()).collect()
}

/// Where the program of a graph leaves the evaluator by more than is allowed, on seeded inputs; `None` if nowhere.
///
/// A graph of one operator is held to that operator's bound, any other to 1e-5 of the largest element of an output; elements
/// that are not floats are equal.
pub fn mismatch(graph: &Graph) -> Option<String> {
    let inputs = inputs(graph);
    let expected = evaluate(graph, &inputs).unwrap();
    let found = native(graph, &inputs);
    let bounds = single_bound(graph, &inputs);
    expected.iter().zip(&found).zip(graph.outputs()).find_map(|((expected, found), (name, _))| {
        let (wanted, got) = (expected.to_f64(), found.to_f64());
        let largest = wanted.iter().filter(|v| v.is_finite()).fold(1.0f64, |a, v| a.max(v.abs()));
        let whole = if expected.ty.dtype.is_float() { 1e-5 * largest } else { 0.0 };
        let bound = |i: usize| bounds.as_ref().map_or(whole, |bounds| bounds(i, wanted[i]));
        let close = |i: &usize| {
            let (a, b) = (wanted[*i], got[*i]);
            a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= bound(*i)
        };
        let at = (0..wanted.len()).find(|i| !close(i))?;
        let (graph, wanted, bound, got) = (&graph.name, wanted[at], bound(at), got[at]);
        Some(format!("{graph}: {name}, element {at}: expected {wanted} within {bound:e}, found {got}"))
    })
}

type Bound = Box<dyn Fn(usize, f64) -> f64>;

/// The bound on each element of a graph that is one linear operator.
fn single_bound(graph: &Graph, inputs: &[Literal]) -> Option<Bound> {
    let mut ops = graph.ids().filter(|id| matches!(graph.node(*id).kind, Kind::Op(_)));
    let (id, None) = (ops.next()?, ops.next()) else { return None };
    let op = graph.node(id).op()?;
    let operands: Vec<Literal> = graph
        .operands(id)
        .into_iter()
        .map(|o| match graph.inputs().iter().position(|i| *i == o.node) {
            Some(at) => inputs[at].clone(),
            None => Literal::from_constant(graph.producer(o).constant().unwrap()).unwrap(),
        })
        .collect();
    let types: Vec<&TensorType> = operands.iter().map(|o| &o.ty).collect();
    let sizes = op.magnitude(&operands.iter().collect::<Vec<_>>()).ok()?.to_f64();
    let factor = (op.terms(&types).ok()? + 8) as f64 * 2f64.powi(-24);
    let functions = functions(op);
    Some(Box::new(move |i, exact| {
        let stated = functions.iter().map(|f| error_bound(*f, exact.abs().max(1.0))).sum::<f64>();
        factor * sizes[i] + stated
    }))
}

/// The functions that an operator's result goes through.
fn functions(op: &Op) -> Vec<UnaryFn> {
    match op {
        Op::Conv(op) => op.activation.into_iter().collect(),
        Op::Gemm(op) => op.activation.into_iter().collect(),
        Op::SqueezeExcite(op) => vec![op.activation, op.gate],
        Op::MbConv(op) => {
            let own = [op.expand_activation, op.activation, op.project_activation].into_iter().flatten();
            own.chain(op.se.iter().flatten().copied()).collect()
        }
        _ => Vec::new(),
    }
}

/// Fails with the mismatches of every graph of a table.
pub fn report(graphs: impl IntoIterator<Item = Graph>) {
    let failures: Vec<String> = graphs.into_iter().filter_map(|graph| mismatch(&graph)).collect();
    assert!(failures.is_empty(), "{} graphs failed:\n{}", failures.len(), failures.join("\n"));
}
