//! Several programs over the same parameters and states, as training has them: one computes with weights that are made of the
//! parameters, one rewrites the parameters. What depends on parameters alone is computed anew only after a rewrite.

use std::sync::Arc;

use fornax_compiler::{Plan, Target, pipeline::plan_of};
use fornax_ir::graph::{Environment, Graph, evaluate_in, parse};
use fornax_ir::ops::literal::Literal;
use fornax_runtime::{Error, Pool, Session, Tensor};

use super::network::{compiled, targets};

const VARIABLES: &str = r#"
  %w = parameter "w" f32[4,3] [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12]
  %a = parameter "a" f32[1,3] [1, -1, 2]
  %g = state "g" f32[4,3] [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]
"#;

/// Its weights are a product of parameters; it adds to a state.
fn forward() -> Graph {
    let nodes = "%s = mul %w, %a %y = matmul %x, %s %n = add %g, %s return %y as \"y\" update %g <- %n";
    parse(&format!("graph @forward(%x: f32[2,4]) {{ {VARIABLES} {nodes} }}")).unwrap()
}

/// Takes a multiple of the state off a parameter, and clears the state.
fn update() -> Graph {
    let nodes =
        "%d = mul %g, %rate %v = sub %w, %d %z = sub %g, %g return %rate as \"rate\" update %w <- %v update %g <- %z";
    parse(&format!("graph @update(%rate: f32[1,1]) {{ {VARIABLES} {nodes} }}")).unwrap()
}

fn tensor(shape: [usize; 2], values: &[f32]) -> (Tensor, Literal) {
    (Tensor::from_f32(shape, values).unwrap(), Literal::from_f32(shape, values))
}

#[test]
fn programs_see_what_the_others_write() {
    let graphs = [forward(), update()];
    let x = [1.0, 0.0, -1.0, 2.0, 3.0, 1.0, 0.0, -2.0];
    for target in targets() {
        for threads in [1, 3] {
            let programs = graphs.iter().map(|graph| compiled(graph, &target)).collect();
            let pool = Arc::new(Pool::new(threads, false).unwrap());
            let mut session = Session::of(programs, pool).unwrap();
            let mut environment = Environment::new(&graphs[0]).unwrap();
            // Twice the same one, so that the second run has a prologue behind it; then a host's rewrite.
            for (run, which) in [0, 0, 1, 0, 1, 1, 0, 0].into_iter().enumerate() {
                let (given, literal) = [tensor([2, 4], &x), tensor([1, 1], &[0.5])][which].clone();
                if run == 6 {
                    let (value, literal) = tensor([1, 3], &[2.0, 0.0, 1.0]);
                    session.set_parameter("a", &value).unwrap();
                    environment.set("a", literal).unwrap();
                }
                let shape = given_shape(which);
                let mut outputs = [Tensor::from_f32(shape, &vec![0.0; shape[0] * shape[1]]).unwrap()];
                session.run_program(which, &[&given], &mut outputs).unwrap();
                let expected = evaluate_in(&graphs[which], &[literal], &mut environment).unwrap();
                assert_eq!(outputs[0].to_f64_vec(), expected[0].to_f64(), "{target}, run {run}");
                for name in ["w", "a", "g"] {
                    let found = session.parameter(name).unwrap().to_f64_vec();
                    assert_eq!(found, environment.get(name).unwrap().to_f64(), "{name}, {target}, run {run}");
                }
            }
        }
    }
}

/// The shape of the output of a program.
fn given_shape(which: usize) -> [usize; 2] {
    [[2, 3], [1, 1]][which]
}

/// The nodes of the plan's steps that ran.
fn ran(plan: &Plan, times: &[u64]) -> usize {
    assert_eq!(plan.steps.len(), times.len());
    times.iter().filter(|time| **time > 0).count()
}

#[test]
fn what_depends_on_parameters_alone_runs_when_they_have_changed() {
    let target = targets().pop().unwrap();
    let graphs = [forward(), update()];
    let plan = plan_of(&graphs[0], &target).unwrap();
    let text = plan.to_string();
    assert!(text.lines().nth(1).is_some_and(|line| line.contains(", prologue ")), "{text}");
    let programs: Vec<_> = graphs.iter().map(|graph| compiled(graph, &target)).collect();
    let prologue = programs[0].prologue();
    assert!(prologue > 0 && programs[1].prologue() == 0);
    let mut session = Session::of(programs, Arc::new(Pool::new(1, false).unwrap())).unwrap();
    let (x, rate) = (tensor([2, 4], &[1.0; 8]).0, tensor([1, 1], &[0.5]).0);
    let count = |session: &mut Session| {
        let mut times = vec![0; plan.steps.len()];
        session.run_program_profiled(0, &[&x], &mut [tensor([2, 3], &[0.0; 6]).0], &mut times).unwrap();
        ran(&plan, &times)
    };
    let all = plan.steps.len();
    assert_eq!([count(&mut session), count(&mut session)], [all, all - prologue]);
    session.set_parameter("a", &tensor([1, 3], &[1.0; 3]).0).unwrap();
    assert_eq!([count(&mut session), count(&mut session)], [all, all - prologue]);
    session.run_program(1, &[&rate], &mut [tensor([1, 1], &[0.0]).0]).unwrap();
    assert_eq!([count(&mut session), count(&mut session)], [all, all - prologue]);
    let saved = session.save_state();
    session.restore_state(&saved).unwrap();
    assert_eq!([count(&mut session), count(&mut session)], [all, all - prologue]);
    session.release_arena();
    assert_eq!([count(&mut session), count(&mut session)], [all, all - prologue]);
}

#[test]
fn programs_that_are_added_share_variables_and_arena() {
    let target = targets().pop().unwrap();
    let settled = |graph: &Graph| Arc::new(Arc::into_inner(compiled(graph, &target)).unwrap().settled());
    let (first, second) = (settled(&forward()), settled(&update()));
    let pool = || Arc::new(Pool::new(2, false).unwrap());
    let mut whole = Session::of(vec![Arc::clone(&first), Arc::clone(&second)], pool()).unwrap();
    // Once it is the larger arena that comes first, once the smaller one.
    let mut grown = Session::new(Arc::clone(&first), pool()).unwrap();
    let mut turned = Session::new(Arc::clone(&second), pool()).unwrap();
    assert_eq!([grown.add_program(second).unwrap(), turned.add_program(first).unwrap()], [1, 1]);
    let (x, rate) = (tensor([2, 4], &[1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0]).0, tensor([1, 1], &[0.5]).0);
    for which in [0, 0, 1, 0, 1, 1, 0] {
        let shape = given_shape(which);
        let run = |session: &mut Session, at: usize| {
            let mut outputs = [Tensor::from_f32(shape, &vec![0.0; shape[0] * shape[1]]).unwrap()];
            session.run_program(at, &[[&x, &rate][which]], &mut outputs).unwrap();
            (outputs[0].to_f64_vec(), session.save_state())
        };
        let expected = run(&mut whole, which);
        assert_eq!(run(&mut grown, which), expected);
        grown.release_arena();
        assert_eq!(run(&mut turned, 1 - which), expected);
    }
    let (head, state) = whole.state_parts();
    assert_eq!([&head, state].concat(), whole.save_state());
    assert!(matches!(whole.set_parameter_bytes("w", &[0; 4]), Err(Error::State { field: "size", .. })));
    whole.set_parameter_bytes("a", &[0; 12]).unwrap();
    assert_eq!(whole.parameter("a").unwrap().to_f64_vec(), [0.0; 3]);
}

#[test]
fn programs_of_other_variables_are_refused() {
    let target = Target::host().unwrap();
    let other =
        parse("graph @other(%x: f32[2]) { %w = parameter \"w\" f32[2] [1, 2] %y = add %x, %w return %y as \"y\" }");
    let programs = vec![compiled(&forward(), &target), compiled(&other.unwrap(), &target)];
    let pool = Arc::new(Pool::new(1, false).unwrap());
    let error = Session::of(programs, Arc::clone(&pool)).map(drop).unwrap_err();
    assert!(matches!(error, Error::State { field: "layout", .. }), "{error}");
    assert!(matches!(Session::of(Vec::new(), Arc::clone(&pool)).map(drop), Err(Error::NoProgram)));
    let mut session = Session::new(compiled(&forward(), &target), pool).unwrap();
    let error = session.run_program(1, &[], &mut []).unwrap_err().to_string();
    assert_eq!(error, "program: expected one below 1, found 1");
}
