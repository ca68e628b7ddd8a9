//! A network with two results, a parameter that hosts and the network itself rewrite, and states over 100 runs.
//!
//! All values are small whole numbers or halves, so that every engine and level must give the same bits.

use std::sync::Arc;

use fornax_compiler::pipeline::plan_of;
use fornax_compiler::{Target, jit};
use fornax_ir::graph::{Environment, Graph, GraphBuilder, evaluate_in};
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Binary, MatMul, Reduce, Unary};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::Constant;
use fornax_runtime::{Pool, Program, Session, Tensor};

/// Rows, inputs and outputs of the product.
pub const SIZES: [usize; 3] = [3, 40, 24];
pub const RUNS: usize = 100;
/// Before this run the host writes the parameter.
pub const REWRITE: usize = 30;
/// After this many runs the state is saved.
pub const SAVED: usize = 50;

/// Whole numbers from -3 to 3.
fn numbers(seed: usize, count: usize) -> Vec<f32> {
    (0..count).map(|i| ((i * 31 + seed * 17 + i / 7) % 7) as f32 - 3.0).collect()
}

/// The input of a run.
pub fn input(run: usize) -> Vec<f32> {
    numbers(run, SIZES[0] * SIZES[1])
}

/// What the host writes before run [`REWRITE`].
pub fn rewritten() -> Vec<f32> {
    numbers(1000, SIZES[1] * SIZES[2])
}

pub fn network() -> Graph {
    network_of(SIZES[0])
}

/// The same for another number of rows, which share the variables: they are of one row.
pub fn network_of(rows: usize) -> Graph {
    let [_, inputs, outputs] = SIZES;
    let mut b = GraphBuilder::new("step");
    let x = b.input("x", [rows, inputs]);
    let weight = Constant::from_f32([inputs, outputs], &numbers(5, inputs * outputs));
    let w = b.parameter("w", "layer.weight", weight);
    let zeros = |count: usize| Constant::from_f32([count], &vec![0.0; count]);
    let sum = b.state("sum", "sum", zeros(outputs));
    let previous = b.state("previous", "previous", zeros(outputs));
    let all = b.state("all", "all", zeros(1));
    let runs = b.state("runs", "runs", Constant::from_i64([], &[7]));
    let op = |b: &mut GraphBuilder, function, operands: &[_]| b.op("op", Binary { function }, operands).unwrap();
    let reduce = |kind, axes: Vec<usize>, keepdims| Reduce { kind, axes, keepdims };
    let product = b.op("product", MatMul {}, &[x, w]).unwrap();
    let column = b.op("column", reduce(ReduceKind::Sum, vec![0], false), &[product]).unwrap();
    let total = op(&mut b, BinaryFn::Add, &[sum, column]);
    let half = b.constant("half", Constant::from_f32([], &[0.5]));
    let y = op(&mut b, BinaryFn::Mul, &[total, half]);
    let most = b.op("most", reduce(ReduceKind::Max, vec![1], false), &[product]).unwrap();
    let whole = b.op("whole", reduce(ReduceKind::Sum, vec![0], true), &[column]).unwrap();
    let all_next = op(&mut b, BinaryFn::Add, &[all, whole]);
    let one = b.constant("one", Constant::from_i64([], &[1]));
    let runs_next = op(&mut b, BinaryFn::Add, &[runs, one]);
    let w_next = b.op("turned", Unary { function: UnaryFn::Neg }, &[w]).unwrap();
    b.output("y", y);
    b.output("most", most);
    for (variable, value) in [(sum, total), (previous, sum), (all, all_next), (runs, runs_next), (w, w_next)] {
        b.update(variable, value);
    }
    b.finish()
}

pub fn tensor(shape: &[usize], values: &[f32]) -> Tensor {
    Tensor::from_f32(shape.to_vec(), values).unwrap()
}

/// The outputs of every run of the evaluator, and what its variables hold at the end.
pub fn expected() -> (Vec<Vec<Vec<u8>>>, Environment) {
    let graph = network();
    let mut environment = Environment::new(&graph).unwrap();
    let runs = (0..RUNS).map(|run| {
        if run == REWRITE {
            environment.set("layer.weight", Literal::from_f32(SIZES[1..].to_vec(), &rewritten())).unwrap();
        }
        let x = Literal::from_f32(SIZES[..2].to_vec(), &input(run));
        evaluate_in(&graph, &[x], &mut environment).unwrap().iter().map(Literal::to_bytes).collect()
    });
    (runs.collect(), environment)
}

fn bytes(outputs: &[Tensor]) -> Vec<Vec<u8>> {
    outputs.iter().map(|output| output.bytes().to_vec()).collect()
}

/// One run of a session; before run [`REWRITE`] the host writes the parameter.
fn step(session: &mut Session, run: usize) -> Vec<Vec<u8>> {
    if run == REWRITE {
        session.set_parameter("layer.weight", &tensor(&SIZES[1..], &rewritten())).unwrap();
    }
    let mut outputs = session.outputs().unwrap();
    session.run(&[&tensor(&SIZES[..2], &input(run))], &mut outputs).unwrap();
    bytes(&outputs)
}

/// Holds a program to the evaluator; returns what is saved after the last run.
pub fn check(program: &Arc<Program>, threads: usize, what: &str) -> Vec<u8> {
    let (outputs, environment) = expected();
    let pool = Arc::new(Pool::new(threads, false).unwrap());
    let session = || Session::new(Arc::clone(program), Arc::clone(&pool)).unwrap();
    let (mut first, mut second) = (session(), session());
    let mut middle = Vec::new();
    for (run, expected) in outputs.iter().enumerate() {
        if run == SAVED {
            middle = first.save_state();
        }
        assert_eq!(step(&mut first, run), *expected, "{what}, run {run}");
        // The other session is one run behind: neither sees the other's state.
        if run > 0 {
            assert_eq!(step(&mut second, run - 1), outputs[run - 1], "{what}, run {run} of the second");
        }
    }
    for port in first.parameters().chain(first.states()) {
        let held = first.parameter(&port.name).unwrap();
        let wanted = environment.get(&port.name).unwrap();
        assert_eq!(held.bytes(), wanted.to_bytes(), "{what}: {}", port.name);
    }
    let end = first.save_state();
    assert_eq!(end.len(), first.state_bytes());
    let mut third = session();
    third.restore_state(&middle).unwrap();
    (SAVED..RUNS).for_each(|run| assert_eq!(step(&mut third, run), outputs[run], "{what}, run {run} restored"));
    assert_eq!(third.save_state(), end, "{what}");
    assert_ne!(second.save_state(), end, "{what}: one run is missing");
    second.copy_state(&first).unwrap();
    assert_eq!(second.save_state(), end, "{what}");
    end
}

/// Every runnable target.
pub fn targets() -> Vec<Target> {
    Target::all().filter(Target::runs_here).collect()
}

pub fn compiled(graph: &Graph, target: &Target) -> Arc<Program> {
    Arc::new(jit::compile(&plan_of(graph, target).unwrap()).unwrap())
}

#[test]
fn code_in_memory_keeps_the_evaluators_state_on_every_level() {
    let mut ends = Vec::new();
    for target in targets() {
        let program = compiled(&network(), &target);
        for threads in [1, 2, 3] {
            ends.push(check(&program, threads, &format!("{target} on {threads} threads")));
        }
    }
    assert!(ends.windows(2).all(|pair| pair[0] == pair[1]));
}

#[test]
fn variables_have_names_and_types() {
    let program = compiled(&network(), &Target::host().unwrap());
    let mut session = Session::new(program, Arc::new(Pool::new(1, false).unwrap())).unwrap();
    let text = |port: &fornax_runtime::Port| format!("{} {}{}", port.name, port.dtype, port.shape);
    assert_eq!(session.parameters().map(text).collect::<Vec<_>>(), ["layer.weight f32[40,24]"]);
    let states = ["sum f32[24]", "previous f32[24]", "all f32[1]", "runs i64[]"];
    assert_eq!(session.states().map(text).collect::<Vec<_>>(), states);
    assert_eq!(session.parameter("runs").unwrap().as_i64(), Some(&[7][..]));
    let message = |error: fornax_runtime::Error| error.to_string();
    let names = "`layer.weight`, `sum`, `previous`, `all`, `runs`";
    let unknown = format!("parameter or state: expected one of {names}, found `w`");
    assert_eq!(message(session.parameter("w").unwrap_err()), unknown);
    assert_eq!(message(session.set_parameter("w", &tensor(&[1], &[0.0])).unwrap_err()), unknown);
    let wrong = session.set_parameter("sum", &tensor(&[1, 24], &[0.0; 24])).unwrap_err();
    assert_eq!(message(wrong), "variable `sum`: expected shape [24], found [1,24]");
    let wrong = session.set_parameter("sum", &Tensor::from_i64([24], &[0; 24]).unwrap()).unwrap_err();
    assert_eq!(message(wrong), "variable `sum`: expected element type f32, found i64");
}

#[test]
fn what_is_no_saved_state_is_refused() {
    let pool = Arc::new(Pool::new(1, false).unwrap());
    let host = Target::host().unwrap();
    let session = |graph: &Graph| Session::new(compiled(graph, &host), Arc::clone(&pool)).unwrap();
    let mut first = session(&network());
    step(&mut first, 0);
    let saved = first.save_state();
    let field = |session: &mut Session, bytes: &[u8]| match session.restore_state(bytes) {
        Err(fornax_runtime::Error::State { field, .. }) => field,
        other => panic!("{other:?}"),
    };
    for len in 0..saved.len() {
        assert_eq!(field(&mut first, &saved[..len]), "size", "{len} bytes");
    }
    assert_eq!(field(&mut first, &[&saved[..], &[0]].concat()), "size");
    for at in 0..saved.len() {
        let mut damaged = saved.clone();
        damaged[at] ^= 1 << (at % 8);
        let expected = match at {
            0..8 => "magic",
            8..12 => "version",
            16..24 => "stated size",
            24..32 => "layout",
            12..16 | 40..64 => "reserved fields",
            _ => "hash",
        };
        assert_eq!(field(&mut first, &damaged), expected, "byte {at}");
    }
    assert_eq!(first.save_state(), saved, "a state that is refused changes nothing");
    // The same sizes under another name.
    let text = "graph @g(%x: f32[2]) { %w = state \"W\" f32[2] [1, 2] %y = add %x, %w return %y as \"y\" }";
    let other = |text: &str| session(&fornax_ir::graph::parse(text).unwrap());
    let (mut upper, mut lower) = (other(text), other(&text.replace("\"W\"", "\"w\"")));
    assert_eq!(field(&mut lower, &upper.save_state()), "layout");
    assert!(matches!(upper.copy_state(&lower), Err(fornax_runtime::Error::State { field: "layout", .. })));
    // A network without variables saves nothing and takes nothing.
    let mut none = other("graph @g(%x: f32[2]) { %y = neg %x return %y as \"y\" }");
    assert_eq!((none.state_bytes(), none.save_state()), (0, Vec::new()));
    none.restore_state(&[]).unwrap();
    assert_eq!(field(&mut none, &saved), "size");
    assert!(none.parameter("w").is_err_and(|error| error.to_string().contains("expected none")));
}
