//! Text files in, snapshots out: `tests/filetests/<kind>/**/*.ir`, each with its expectation next to it.
//!
//! The first line says which test: `; test: parse`, `; test: verify`, `; test: pass fuse_activation`, `; test: pass
//! fold_constants 1000` (with a fold limit), `; test: plan x86-64-fma`, `; test: clif x86-64-fma`, `; test: asm x86-64-v4`; the last three name their target, so that
//! they read the same on every machine, and take the text of a graph or of a plan. The snapshot holds what the stage printed; `cargo insta review` accepts
//! new output. A pass is also held to compute the same as before on seeded inputs: over graphs by the evaluator, over plans in machine
//! code, bit for bit, over several runs where there are parameters or states.
//!
//! Stages: `; test: after lower x86-64-fma` prints the graph or plan after a stage of the pipeline. Plans: `; test: plan-pass fuse_chains` reads the text of a plan and prints what the pass makes of it, with its remarks;
//! `; test: plan-parse` prints a plan as it was read, or the error.
//! Training: `; test: differentiate x w` adds the gradients of the first output with respect to these values, or says why it cannot;
//! `; test: training fixed sgd` prints the training graphs of a network, its batch norms fixed or trained.

use std::fmt::Write;
use std::sync::Arc;

use fornax_compiler::internals::plain;
use fornax_compiler::pipeline::{PipelineOptions, plan_for, plan_of, run_pass, run_plan_pass};
use fornax_compiler::{Kernel, Plan, Target, clif, disassembly, distinct_kernels, jit, parse_plan};
use fornax_ir::differentiate;
use fornax_ir::graph::{Graph, GraphBuilder, ValueId, evaluate, parse, verify};
use fornax_ir::ops::literal::Literal;
use fornax_ir::training::{Norm, Optimiser, Setting, Training, TrainingOptions};
use fornax_ir::types::{Payload, TensorType, random_values};
use fornax_runtime::{Pool, Session, Tensor};

/// A kind of test: its name, and from the rest of the first line and the text to what is kept.
type Kind = (&'static str, fn(&str, &str) -> String);

const KINDS: &[Kind] = &[
    ("parse", parses),
    ("verify", verifies),
    ("pass", passes),
    ("plan", plans),
    ("clif", clifs),
    ("asm", asms),
    ("after", afters),
    ("plan-pass", plan_passes),
    ("plan-parse", plan_parses),
    ("differentiate", differentiated),
    ("training", trained),
];

#[test]
fn filetests() {
    insta::glob!("filetests/**/*.ir", |path| {
        let text = std::fs::read_to_string(path).expect("a readable test file");
        let first = text.lines().next().unwrap_or_default();
        let test = first.strip_prefix("; test: ").expect("a first line `; test: kind`");
        let (kind, argument) = test.split_once(' ').unwrap_or((test, ""));
        let (_, run) = KINDS.iter().find(|(name, _)| *name == kind).expect("a kind of the table");
        let output = run(argument, &text);
        let mut settings = insta::Settings::clone_current();
        settings.set_snapshot_path(path.parent().expect("a folder"));
        settings.set_snapshot_suffix("");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.remove_input_file();
        let name = path.file_stem().expect("a file name").to_string_lossy();
        settings.bind(|| insta::assert_snapshot!(name.as_ref(), output));
    });
}

/// The graph as it prints, which must read back, or the error.
fn parses(_: &str, text: &str) -> String {
    match parse(text) {
        Err(e) => e.to_string(),
        Ok(graph) => {
            let printed = graph.to_string();
            let again = parse(&printed).expect("printed text parses");
            assert!(graph.same_as(&again), "reads back to another graph:\n{printed}");
            printed
        }
    }
}

fn verifies(_: &str, text: &str) -> String {
    match verify(&parse(text).expect("text that parses")) {
        Ok(()) => "valid".into(),
        Err(e) => e.to_string(),
    }
}

/// The graph with the gradients of its first output, for values that the first line names, as further outputs; or the error.
fn differentiated(names: &str, text: &str) -> String {
    let mut b = GraphBuilder::of(parse(text).unwrap_or_else(|e| panic!("{e}")));
    let value = |name: &str| {
        let all = b.graph().ids().flat_map(|id| b.graph().values(id));
        all.into_iter().find(|value| b.graph().name_of(*value) == name).unwrap_or_else(|| panic!("no value {name}"))
    };
    let (wrt, loss): (Vec<ValueId>, _) = (names.split(' ').map(value).collect(), b.graph().outputs()[0].1);
    match differentiate(&mut b, loss, &wrt) {
        Err(e) => e.to_string(),
        Ok(gradients) => {
            for (name, gradient) in names.split(' ').zip(gradients) {
                match gradient {
                    Some(gradient) => b.output(format!("grad.{name}"), gradient),
                    None => return format!("the loss does not depend on {name}"),
                }
            }
            parses("", &b.finish().to_string())
        }
    }
}

/// The training graphs of a network: every parameter is trained, weights decay, masks multiply branches and features.
fn trained(argument: &str, text: &str) -> String {
    let (norm, optimiser) = argument.split_once(' ').expect("`fixed` or `trained`, and an optimiser");
    let norm = if norm == "trained" { Norm::Trained } else { Norm::Fixed };
    let options = TrainingOptions {
        trained: &|_| true,
        norms: &|_| norm,
        momentum: 0.1,
        dropout: true,
        drop_path: true,
        optimiser: match optimiser {
            "sgd" => Optimiser::Sgd { momentum: 0.9, nesterov: false },
            "adamw" => Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            "rmsprop_tf" => Optimiser::RmspropTf { decay: 0.9, momentum: 0.9, epsilon: 1e-3 },
            _ => Optimiser::Lion { beta1: 0.9, beta2: 0.99 },
        },
        setting: &|_, ty| Setting { rate: 1.0, decay: if ty.shape.rank() > 1 { 0.01 } else { 0.0 } },
        clip: false,
        ema: false,
    };
    let graph = parse(text).unwrap_or_else(|e| panic!("{e}"));
    match Training::new(&graph, &options) {
        Err(e) => e.to_string(),
        Ok(training) => [training.gradients, training.mapped, training.update]
            .map(|graph| parses("", &graph.to_string()))
            .join("\n"),
    }
}

/// The graph after a pass, and the pass's remarks.
fn passes(argument: &str, text: &str) -> String {
    let (name, limit) = argument.split_once(' ').unwrap_or((argument, ""));
    let limit = limit.parse().unwrap_or(PipelineOptions::default().fold_limit);
    let before = parse(text).unwrap_or_else(|e| panic!("{e}"));
    verify(&before).unwrap_or_else(|e| panic!("{e}"));
    let (after, remarks) = run_pass(before.clone(), name, limit).unwrap_or_else(|e| panic!("{e}"));
    assert_same_results(&before, &after);
    let mut out = after.to_string();
    for remark in remarks {
        _ = writeln!(out, "; {remark}");
    }
    out
}

/// The graph or plan after a stage, with the remarks of all that ran.
fn afters(argument: &str, text: &str) -> String {
    let (stage, target) = argument.split_once(' ').expect("a stage and a target");
    let graph = parse(text).unwrap_or_else(|e| panic!("{e}"));
    let target = target.parse().unwrap_or_else(|e| panic!("{e}"));
    let options = PipelineOptions { after: Some(stage.into()), ..PipelineOptions::default() };
    let mut planned = plan_for(graph, &[target], &options.into()).unwrap_or_else(|e| panic!("{e}"));
    let mut out = planned.plans.first().map_or_else(|| planned.graph.to_string(), reads_back);
    planned.remarks.extend(planned.plans.into_iter().flat_map(|plan| plan.remarks));
    for remark in &planned.remarks {
        _ = writeln!(out, "; {remark}");
    }
    out
}

/// A plan as it prints, which must read back, or the error.
fn plan_parses(_: &str, text: &str) -> String {
    match parse_plan(text) {
        Err(e) => e.to_string(),
        Ok(plan) => reads_back(&plan),
    }
}

/// The plan after a pass over plans, and the pass's remarks.
fn plan_passes(name: &str, text: &str) -> String {
    let mut plan = parse_plan(text).unwrap_or_else(|e| panic!("{e}"));
    let before = plan.clone();
    run_plan_pass(&mut plan, name).unwrap_or_else(|e| panic!("{e}"));
    if plan.target.runs_here() {
        assert_eq!(runs(&before), runs(&plan), "the pass changes what is computed\n{before}\n{plan}");
    } else {
        eprintln!("NOT RUN: {}: this machine cannot", plan.target);
    }
    let mut out = reads_back(&plan);
    for remark in &plan.remarks {
        _ = writeln!(out, "; {remark}");
    }
    out
}

/// The bytes of the outputs of a plan over several runs on seeded inputs, constants and variables, and of the state after each, without
/// any pass over what the plan is.
fn runs(plan: &Plan) -> Vec<Vec<u8>> {
    let plan = plain(plan, |number, ty| seeded(ty, number.wrapping_add(100)).to_constant());
    let program = Arc::new(jit::compile(&plan).unwrap_or_else(|e| panic!("{e}\n{plan}")));
    let mut session = Session::new(program, Arc::new(Pool::new(2, false).unwrap())).unwrap();
    let mut outputs = session.outputs().unwrap();
    let mut found = Vec::new();
    for run in 0..3 {
        let inputs = (10 * run..).zip(&plan.inputs).map(|(seed, port)| {
            let input = seeded(&port.ty, seed);
            Tensor::from_bytes(port.ty.dtype, port.ty.shape.clone(), &input.to_bytes()).unwrap()
        });
        let inputs: Vec<Tensor> = inputs.collect();
        session.run(&inputs.iter().collect::<Vec<_>>(), &mut outputs).unwrap();
        found.extend(outputs.iter().map(|output| output.bytes().to_vec()));
        found.push(session.save_state());
    }
    found
}

/// The text of a plan, which must read back to a plan of the same text.
fn reads_back(plan: &Plan) -> String {
    let printed = plan.to_string();
    let again = parse_plan(&printed).unwrap_or_else(|e| panic!("{e}\n{printed}"));
    assert_eq!(again.to_string(), printed);
    printed
}

/// The plan of a graph, for the target that the first line names.
fn plans(target: &str, text: &str) -> String {
    reads_back(&plan(target, text))
}

/// The functions of a graph's kernels before register allocation, for the target that the first line names.
fn clifs(target: &str, text: &str) -> String {
    let plan = plan(target, text);
    let (kernels, _) = distinct_kernels(&plan);
    let function = |kernel: &&Kernel| clif(kernel, &plan.target).expect("a kernel that compiles");
    kernels.iter().map(function).collect::<Vec<_>>().join("\n")
}

/// The instructions of a graph's kernels, for the target that the first line names.
fn asms(target: &str, text: &str) -> String {
    let plan = plan(target, text);
    let (kernels, _) = distinct_kernels(&plan);
    let code = |kernel: &&Kernel| {
        let text = disassembly(kernel, &plan.code_target()).expect("a kernel that compiles");
        format!("{}:\n{text}", kernel.name)
    };
    kernels.iter().map(code).collect::<Vec<_>>().join("\n")
}

fn plan(target: &str, text: &str) -> Plan {
    let target: Target = target.parse().unwrap_or_else(|e| panic!("{e}"));
    if text.lines().any(|line| line.starts_with("plan @")) {
        let plan = parse_plan(text).unwrap_or_else(|e| panic!("{e}"));
        assert_eq!(plan.target, target);
        return plan;
    }
    let graph = parse(text).unwrap_or_else(|e| panic!("{e}"));
    plan_of(&graph, &target).unwrap_or_else(|e| panic!("{e}"))
}

/// Holds both graphs to the same results, unless a constant is known by its hash only.
fn assert_same_results(before: &Graph, after: &Graph) {
    let hashed = |id| matches!(before.node(id).constant().map(|c| &c.payload), Some(Payload::Hash(_)));
    if before.ids().any(hashed) {
        return;
    }
    let inputs: Vec<Literal> = (1..).zip(before.inputs()).map(|(seed, id)| seeded(before.ty(*id), seed)).collect();
    let expected = evaluate(before, &inputs).unwrap_or_else(|e| panic!("before: {e}"));
    let found = evaluate(after, &inputs).unwrap_or_else(|e| panic!("after: {e}\n{after}"));
    for ((name, _), (expected, found)) in before.outputs().iter().zip(expected.iter().zip(&found)) {
        assert_eq!(expected.ty, found.ty, "output {name}");
        let (expected, found) = (expected.to_f64(), found.to_f64());
        let largest = expected.iter().filter(|v| v.is_finite()).fold(1e-3, |m: f64, v| m.max(v.abs()));
        for (i, (e, f)) in expected.iter().zip(&found).enumerate() {
            let same = e == f || (e.is_nan() && f.is_nan()) || (e - f).abs() <= 1e-5 * largest;
            assert!(same, "output {name}, element {i}: expected {e}, found {f}\n{after}");
        }
    }
}

/// Random elements: floats in `[-4, 4)`, integers from 0 to 3.
fn seeded(ty: &TensorType, seed: u64) -> Literal {
    let values = random_values(seed, ty.shape.numel());
    if ty.dtype.is_float() {
        Literal::new_float(ty.clone(), values.iter().map(|v| f64::from(*v) * 4.0).collect())
    } else {
        Literal::new_int(ty.clone(), values.iter().map(|v| (v.abs() * 4.0) as i64).collect())
    }
}
