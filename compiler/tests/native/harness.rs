//! Runs a graph in native code and on the reference evaluator, and says where they differ.

use std::sync::Arc;

use fornax_compiler::internals::compile_kernels;
use fornax_compiler::pipeline::plan_of;
use fornax_compiler::{Target, distinct_kernels, jit};
use fornax_ir::graph::{Graph, evaluate, parse};
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType, random_values};
use fornax_runtime::{Pool, Session, Tensor};

/// Seeded elements: floats in [-4, 4), integers in [-3, 3) or [0, 3), bools.
fn random(ty: &TensorType, seed: u64) -> Literal {
    let values = random_values(seed, ty.shape.numel());
    if ty.dtype.is_float() {
        return Literal::new_float(ty.clone(), values.iter().map(|v| f64::from(v * 4.0)).collect());
    }
    let int = |v: &f32| match ty.dtype {
        DType::Bool => i64::from(*v > 0.0),
        DType::U8 | DType::U16 | DType::U32 | DType::U64 => (v.abs() * 3.0) as i64,
        _ => (v * 3.0).floor() as i64,
    };
    Literal::new_int(ty.clone(), values.iter().map(int).collect())
}

/// Runs `program` on `threads` threads; the bytes of its outputs.
fn run(program: &Arc<fornax_runtime::Program>, inputs: &[Literal], threads: usize) -> Result<Vec<Vec<u8>>, String> {
    let pool = Pool::new(threads, false).map_err(|e| e.to_string())?;
    let mut session = Session::new(program.clone(), Arc::new(pool)).map_err(|e| e.to_string())?;
    let tensor = |x: &Literal| Tensor::from_bytes(x.ty.dtype, x.ty.shape.clone(), &x.to_bytes());
    let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let mut outputs = session.outputs().map_err(|e| e.to_string())?;
    session.run(&tensors.iter().collect::<Vec<_>>(), &mut outputs).map_err(|e| e.to_string())?;
    Ok(outputs.iter().map(|output| output.bytes().to_vec()).collect())
}

/// Compiles a graph for a target; no kernel may be larger than 40 KiB.
fn compiles(graph: &Graph, target: &Target) -> Result<(), String> {
    let plan = plan_of(graph, target).map_err(|e| format!("{target}: {e}"))?;
    let code = compile_kernels(&distinct_kernels(&plan).0, target).map_err(|e| format!("{target}: {e}"))?;
    match code.iter().find(|code| code.bytes.len() > 40 << 10) {
        Some(code) => Err(format!("{target}: {} has {} bytes of code", code.name, code.bytes.len())),
        None => Ok(()),
    }
}

/// What differs between native code and the evaluator for a graph of these inputs and nodes, which end in `%y` or in a `return` of their own.
pub fn difference(header: &str, body: &str, inputs: Option<Vec<Literal>>, tolerance: f64) -> Result<(), String> {
    let graph = parse(&text(header, body)).map_err(|e| e.to_string())?;
    let types = graph.inputs().iter().map(|id| graph.node(*id).ty.clone());
    let inputs = inputs.unwrap_or_else(|| types.zip(1..).map(|(ty, seed)| random(&ty, seed)).collect());
    let expected = evaluate(&graph, &inputs).map_err(|e| format!("evaluator: {e}"))?;
    let target = Target::host()?;
    let plan = plan_of(&graph, &target).map_err(|e| e.to_string())?;
    let program = Arc::new(jit::compile(&plan).map_err(|e| e.to_string())?);
    let bytes = run(&program, &inputs, 1)?;
    if bytes != run(&program, &inputs, 3)? {
        return Err("the result depends on the number of threads".into());
    }
    for target in Target::all() {
        compiles(&graph, &target)?;
    }
    for target in Target::runnable().into_iter().filter(Target::fma) {
        let plan = plan_of(&graph, &target).map_err(|e| e.to_string())?;
        let program = Arc::new(jit::compile(&plan).map_err(|e| e.to_string())?);
        if bytes != run(&program, &inputs, 2)? {
            return Err(format!("{target} gives other bits\n{plan}"));
        }
    }
    for (output, (expected, bytes)) in expected.iter().zip(bytes).enumerate() {
        let found = Literal::from_bytes(expected.ty.clone(), &bytes).map_err(|e| e.to_string())?;
        let close =
            |a: f64, b: f64| a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= tolerance * b.abs().max(1.0);
        let pairs = found.to_f64().into_iter().zip(expected.to_f64()).enumerate();
        if let Some((i, (a, b))) = pairs.into_iter().find(|(_, (a, b))| !close(*a, *b)) {
            return Err(format!("output {output}, element {i}: expected {b}, found {a}\n{plan}"));
        }
    }
    Ok(())
}

/// The result of a graph in native code, the same on every target with FMA that the host runs.
pub fn output(header: &str, body: &str, inputs: &[Literal]) -> Result<Vec<u8>, String> {
    let graph = parse(&text(header, body)).map_err(|e| e.to_string())?;
    let mut results = Vec::new();
    for target in Target::runnable().into_iter().filter(Target::fma) {
        let plan = plan_of(&graph, &target).map_err(|e| e.to_string())?;
        let program = Arc::new(jit::compile(&plan).map_err(|e| e.to_string())?);
        results.push(run(&program, inputs, 1)?.remove(0));
    }
    results.dedup();
    if results.len() == 1 { Ok(results.remove(0)) } else { Err("the result depends on the target".into()) }
}

/// Whether all results of a graph for seeded inputs are zeros in native code, on every target with FMA that the host runs.
pub fn vanishes(header: &str, body: &str) -> bool {
    let graph = parse(&text(header, body)).unwrap();
    let inputs = graph.inputs().iter().zip(1..).map(|(id, seed)| random(&graph.node(*id).ty, seed)).collect::<Vec<_>>();
    Target::runnable().into_iter().filter(Target::fma).all(|target| {
        let program = Arc::new(jit::compile(&plan_of(&graph, &target).unwrap()).unwrap());
        run(&program, &inputs, 1).unwrap().into_iter().flatten().all(|byte| byte == 0)
    })
}

/// Names of the kernels that a graph calls.
pub fn kernels(header: &str, body: &str) -> Vec<String> {
    let graph = parse(&text(header, body)).unwrap();
    plan_of(&graph, &Target::x86_64_fma()).unwrap().steps.into_iter().map(|step| step.kernel.name).collect()
}

/// The number of kernel calls that a graph of these inputs and nodes takes.
pub fn steps(header: &str, body: &str) -> usize {
    let graph = parse(&text(header, body)).unwrap();
    plan_of(&graph, &Target::x86_64_fma()).unwrap().steps.len()
}

fn text(header: &str, body: &str) -> String {
    let outputs = if body.contains("return ") { "" } else { "return %y as \"y\"" };
    format!("graph @case({header}) {{\n{body}\n{outputs}\n}}\n")
}
