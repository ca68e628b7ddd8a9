//! Where the next value of a variable is written: straight into it, or after all reads. Every case runs three times against the
//! evaluator; values are small whole numbers, so that the bits must agree.

use std::sync::Arc;

use fornax_compiler::Target;
use fornax_compiler::pipeline::plan_of;
use fornax_ir::graph::{Environment, evaluate_in, parse};
use fornax_ir::ops::literal::Literal;
use fornax_runtime::{Pool, Session, Tensor};

use super::network::{compiled, targets};

const M: &str = "%m = state \"m\" f32[2,2] [1, 2, 3, 4]";
const N: &str = "%n = state \"n\" f32[2,2] [5, 6, 7, 8]";

/// Nodes, and updates.
const CASES: &[(&str, &str, &str)] = &[
    ("sum", "%y = add %m, %x", "update %m <- %y"),
    ("second operand", "%y = sub %x, %m", "update %m <- %y"),
    ("both operands", "%y = add %m, %m", "update %m <- %y"),
    ("chain", "%a = sub %m, %x %b = abs %a %y = neg %b", "update %m <- %y"),
    ("read again", "%a = add %m, %x %y = mul %a, %m", "update %m <- %a"),
    ("read by another", "%y = add %m, %x %b = add %n, %m", "update %m <- %y update %n <- %b"),
    ("read transposed", "%t = transpose %m {perm=[1, 0]} %y = add %t, %x", "update %m <- %y"),
    ("transposed", "%y = transpose %m {perm=[1, 0]}", "update %m <- %y"),
    ("swap", "%y = add %m, %n", "update %m <- %n update %n <- %m"),
    ("shift", "%y = add %m, %x", "update %n <- %m update %m <- %y"),
    ("shift, other order", "%y = add %m, %x", "update %m <- %y update %n <- %m"),
    ("one value for two", "%y = add %m, %x", "update %m <- %y update %n <- %y"),
    ("input", "%y = add %m, %x", "update %m <- %x"),
    ("itself", "%y = add %m, %x", "update %m <- %m"),
    ("constant", "%k = constant f32[2,2] [9, 9, 9, 9] %y = add %m, %k", "update %m <- %k"),
    ("view", "%y = reshape %m {shape=[2, 2]} %b = add %m, %x", "update %n <- %y update %m <- %b"),
    ("product", "%y = matmul %x, %m", "update %m <- %y"),
    ("product that is read", "%y = matmul %x, %m %b = add %y, %n", "update %m <- %y update %n <- %b"),
];

fn text(nodes: &str, updates: &str) -> String {
    format!("graph @g(%x: f32[2,2]) {{ {M}\n{N}\n{nodes}\nreturn %y as \"y\", %m as \"before\"\n{updates}\n}}")
}

fn check(what: &str, text: &str, target: &Target) {
    let graph = parse(text).unwrap_or_else(|e| panic!("{what}: {e}"));
    fornax_ir::graph::verify(&graph).unwrap_or_else(|e| panic!("{what}: {e}"));
    let mut environment = Environment::new(&graph).unwrap();
    let pool = Arc::new(Pool::new(2, false).unwrap());
    let mut session = Session::new(compiled(&graph, target), pool).unwrap();
    let ty = graph.node(graph.inputs()[0]).ty.clone();
    for run in 0..3 {
        let values: Vec<f32> = (0..ty.shape.numel()).map(|i| ((i + run) % 3) as f32 - 1.0).collect();
        let x = Tensor::from_f32(ty.shape.clone(), &values).unwrap();
        let mut outputs = session.outputs().unwrap();
        session.run(&[&x], &mut outputs).unwrap();
        let x = Literal::from_f32(ty.shape.clone(), &values);
        let expected = evaluate_in(&graph, &[x], &mut environment).unwrap();
        for (output, expected) in outputs.iter().zip(&expected) {
            assert_eq!(output.to_f64_vec(), expected.to_f64(), "{what}, {target}, run {run}");
        }
        for port in session.states() {
            let (held, expected) = (session.parameter(&port.name).unwrap(), environment.get(&port.name).unwrap());
            assert_eq!(held.to_f64_vec(), expected.to_f64(), "{what}, {target}, run {run}: {}", port.name);
        }
    }
}

#[test]
fn updates_see_the_state_from_before_the_run() {
    for target in targets() {
        for (what, nodes, updates) in CASES {
            check(what, &text(nodes, updates), &target);
        }
    }
}

#[test]
fn a_value_in_another_layout_is_written_row_major() {
    let text = r#"graph @g(%x: f32[1,8,3,3]) {
      %w = state "w" f32[8,8,1,1] random(3)
      %k = constant f32[8,8,1,1] [0]
      %m = state "m" f32[1,8,3,3] [0]
      %y = conv %x, %k : f32[1,8,3,3]
      %next = add %m, %y
      return %y as "y"
      update %m <- %y
      update %w <- %k
    }"#;
    let ones = |count: usize| vec!["1"; count].join(", ");
    let text = text.replacen("[8,8,1,1] [0]", &format!("[8,8,1,1] [{}]", ones(64)), 1);
    let text = text.replace("[1,8,3,3] [0]", &format!("[1,8,3,3] [{}]", ones(72)));
    targets().iter().for_each(|target| check("convolution", &text, target));
}

#[test]
fn a_value_that_nothing_reads_later_is_written_straight_into_its_variable() {
    let plan = |next: &str, outputs: &str| {
        let text = format!(
            "graph @g(%x: f32[64]) {{
               %m = state \"m\" f32[64] random(1)
               {next}
               %z = neg %y
               return %z as \"z\"{outputs}
               update %m <- %y
             }}"
        );
        plan_of(&parse(&text).unwrap(), &Target::host().unwrap()).unwrap()
    };
    let steps = |next: &str, outputs: &str| plan(next, outputs).steps.len();
    assert_eq!([steps("%y = add %m, %x", ""), steps("%y = exp %x", "")], [2, 2]);
    // A variable that is read after its next value is there gets a copy of it.
    assert_eq!(steps("%y = add %m, %x %late = mul %y, %m", ", %late as \"late\""), 4);
    let text = plan("%y = add %m, %x", "").to_string();
    assert!(text.contains(", state 256 bytes\nstate+0 = state \"m\" f32[64] "), "{text}");
    assert!(text.contains("=state+0"), "{text}");
}
