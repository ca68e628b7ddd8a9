//! `inspect`: a model at every stage on its way to code.

use fornax::compiler::pipeline::{Form, Stage, stages};
use fornax::compiler::{Kernel, KernelCall, Plan, clif, disassembly, distinct_kernels};
use fornax::ir::graph::dot;
use fornax::ir::graph::verify;
use fornax::ir::remark::{self, Remark};
use fornax::runtime::Library;
use fornax::{Bindings, Error, Model, Outline, Result, Stats};
use serde_json::json;

use crate::model_options::{ModelArgs, note_all};
use crate::output::Output;
use crate::progress;

/// Arguments of `inspect`.
#[derive(clap::Args)]
#[command(group = clap::ArgGroup::new("view").args(["stats", "remarks", "plan", "clif", "asm", "dot"]))]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    /// Parameters, multiply-accumulates, operators, memory.
    #[arg(long)]
    stats: bool,
    /// What the passes and the planner chose, and what they declined and why.
    #[arg(long)]
    remarks: bool,
    /// The text of the graph or plan after a stage (see list-passes), or after `import`.
    #[arg(long, value_name = "STAGE", conflicts_with_all = ["stats", "remarks", "plan", "clif", "asm"])]
    after: Option<String>,
    /// The plan: kernel calls, memory, constants.
    #[arg(long)]
    plan: bool,
    /// The code of kernels in Cranelift's form: those whose name contains KERNEL, or all.
    #[arg(long, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "")]
    clif: Option<String>,
    /// The instructions of kernels: those whose name contains KERNEL, or all.
    #[arg(long, value_name = "KERNEL", num_args = 0..=1, default_missing_value = "")]
    asm: Option<String>,
    /// A picture of the graph in the DOT language, after all passes or that of --after.
    #[arg(long)]
    dot: bool,
}

/// Runs the verb.
pub fn run(args: &Args, out: &mut Output<'_>) -> Result<()> {
    let model = args.model.open()?;
    let bindings = args.model.bindings(&model)?;
    if let Some(library) = model.library().filter(|_| !(args.stats || args.wants_graph())) {
        return of_library(library, &model, &bindings, out);
    }
    if let Some(pass) = &args.after {
        return after(&model, &bindings, pass, args.dot, out);
    }
    if args.stats {
        let stats = progress::during("planning", || model.stats(&bindings))?;
        return print_stats(&stats, out);
    }
    if args.remarks {
        return remarks(&model, &bindings, out);
    }
    if args.plan {
        let plan = progress::during("planning", || model.plan(&bindings))?;
        if out.json {
            return out.json(&json!({"version": 1, "plan": plan.to_string(), "steps": steps(&plan)}));
        }
        return text("plan", &plan.to_string(), out);
    }
    if let Some(pattern) = &args.clif {
        let plan = progress::during("planning", || model.plan(&bindings))?;
        let code = |kernel: &Kernel| Ok(clif(kernel, &plan.target)?);
        return text("clif", &kernels(&plan, ("--clif", pattern), code)?, out);
    }
    if let Some(pattern) = &args.asm {
        let plan = progress::during("planning", || model.plan(&bindings))?;
        let code = |kernel: &Kernel| Ok(format!("{}:\n{}", kernel.name, disassembly(kernel, &plan.target)?));
        return text("asm", &kernels(&plan, ("--asm", pattern), code)?, out);
    }
    if args.dot {
        return text("dot", &dot(&model.optimised(&bindings, None)?.graph), out);
    }
    summary(&model, &bindings, out)
}

impl Args {
    /// Whether what is to be shown exists before code generation only.
    fn wants_graph(&self) -> bool {
        self.remarks || self.plan || self.dot || self.after.is_some() || self.clif.is_some() || self.asm.is_some()
    }
}

/// What a compiled library is: its shapes, levels and sizes, and what its manifest says.
fn of_library(library: &Library, model: &Model, bindings: &Bindings, out: &mut Output<'_>) -> Result<()> {
    let manifest: serde_json::Value = serde_json::from_str(library.manifest()).map_err(|e| Error::Input {
        what: "manifest of the library".into(),
        expected: "JSON".into(),
        found: e.to_string(),
    })?;
    if out.json {
        return out.json(&json!({"version": 1, "manifest": manifest}));
    }
    writeln!(out.to, "{} ({})", model.name(bindings)?, model.path().display())?;
    let levels: Vec<&str> = library.levels().iter().map(|level| level.name).collect();
    writeln!(
        out.to,
        "compiled    by Fornax {}, for {}",
        manifest["fornax"]["version"].as_str().unwrap_or("?"),
        levels.join(", ")
    )?;
    let best = library.best_level().map_or("cannot run on this processor", |level| level.name);
    writeln!(out.to, "here        {best}")?;
    for binding in 0..library.bindings() {
        for (kind, ports) in [("input", library.inputs(binding)), ("output", library.outputs(binding))] {
            for port in ports {
                writeln!(out.to, "{kind:<11} {}  {}{}", port.name, port.dtype, port.shape)?;
            }
        }
    }
    if !model.metadata().is_empty() {
        let keys: Vec<&str> = model.metadata().keys().map(String::as_str).collect();
        writeln!(out.to, "metadata    {}", keys.join(", "))?;
    }
    print_stats(&model.stats(bindings)?, out)
}

/// Text as it is, or as the value of a key.
fn text(key: &str, text: &str, out: &mut Output<'_>) -> Result<()> {
    if out.json {
        return out.json(&json!({"version": 1, key: text}));
    }
    let end = if text.ends_with('\n') { "" } else { "\n" };
    Ok(write!(out.to, "{text}{end}")?)
}

fn after(model: &Model, bindings: &Bindings, pass: &str, picture: bool, out: &mut Output<'_>) -> Result<()> {
    let shown = || stages().filter(|stage| stage.form != Form::Emit);
    let graph = match shown().find(|stage| stage.name == pass) {
        None if pass == "import" => model.graph(bindings)?,
        None => {
            let names: Vec<&str> = shown().map(|stage| stage.name).collect();
            return Err(Error::usage("--after", format!("import, {}", names.join(", ")), pass));
        }
        Some(Stage { form: Form::Graph, .. }) => model.optimised(bindings, Some(pass))?.graph,
        Some(_) if picture => return Err(Error::usage("--dot", "a stage over the graph", pass)),
        Some(_) => {
            let planned = progress::during("planning", || model.planned(bindings, Some(pass)))?;
            return text("plan", &planned.plans.iter().map(ToString::to_string).collect::<String>(), out);
        }
    };
    if picture { text("dot", &dot(&graph), out) } else { text("graph", &graph.to_string(), out) }
}

fn print_stats(stats: &Stats, out: &mut Output<'_>) -> Result<()> {
    if out.json {
        return out.json(&json!({
            "version": 1,
            "params": stats.params,
            "macs": stats.macs,
            "nodes": stats.nodes,
            "ops": stats.ops,
            "arena_bytes": stats.arena_bytes,
            "weights_bytes": stats.weights_bytes,
        }));
    }
    writeln!(out.to, "parameters  {}", grouped(stats.params))?;
    writeln!(out.to, "MACs        {}", grouped(stats.macs))?;
    writeln!(out.to, "arena       {} bytes", grouped(stats.arena_bytes as u64))?;
    writeln!(out.to, "weights     {} bytes", grouped(stats.weights_bytes as u64))?;
    writeln!(out.to, "operators   {}", stats.nodes)?;
    for (name, count) in &stats.ops {
        writeln!(out.to, "  {name:<16} {count:>5}")?;
    }
    Ok(())
}

/// A number with its thousands apart.
fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(' ');
        }
        out.push(digit);
    }
    out
}

fn remarks(model: &Model, bindings: &Bindings, out: &mut Output<'_>) -> Result<()> {
    let planned = model.planned(bindings, None)?;
    let mut remarks = planned.remarks;
    remarks.extend(planned.plans.into_iter().flat_map(|plan| plan.remarks));
    if out.json {
        let whole = |remark: &Remark| {
            let figures: serde_json::Map<_, _> =
                remark.figures.iter().map(|(name, value)| (name.to_string(), json!(value))).collect();
            json!({"stage": remark.stage, "node": remark.node, "nodes": remark.origins,
                "verdict": remark.verdict.name(), "text": remark.text, "figures": figures})
        };
        return out.json(&json!({"version": 1, "remarks": remarks.iter().map(whole).collect::<Vec<_>>()}));
    }
    Ok(write!(out.to, "{}", remark::summary(&remarks))?)
}

/// What each step is and costs, on the nominal machine of the plan's target.
fn steps(plan: &Plan) -> Vec<serde_json::Value> {
    let machine = plan.target.machine();
    let step = |step: &KernelCall| {
        let (kernel, predicted) = (&step.kernel, step.kernel.cost(&machine).microseconds(&machine));
        json!({"node": step.node, "kernel": kernel.name, "kind": kernel.kind.name(), "chunks": kernel.chunks,
            "flops": kernel.flops, "bytes": kernel.bytes, "predicted_us": predicted})
    };
    plan.steps.iter().map(step).collect()
}

/// The code of the plan's distinct kernels whose names contain `pattern`.
fn kernels(plan: &Plan, (flag, pattern): (&str, &str), code: impl Fn(&Kernel) -> Result<String>) -> Result<String> {
    let (kernels, _) = distinct_kernels(plan);
    let mut text = String::new();
    for kernel in kernels.iter().filter(|kernel| kernel.name.contains(pattern)) {
        text.push_str(&code(kernel)?);
        text.push('\n');
    }
    if text.is_empty() {
        let names: Vec<&str> = kernels.iter().map(|kernel| kernel.name.as_str()).collect();
        return Err(Error::usage(flag, format!("part of a kernel's name ({})", names.join(", ")), pattern));
    }
    Ok(text)
}

/// What a model is that leaves dimensions open: what its file declares and holds.
fn of_outline(outline: &Outline, open: &Error, model: &Model, out: &mut Output<'_>) -> Result<()> {
    let nodes: usize = outline.operators.values().sum();
    if out.json {
        let port = |input: &fornax::InputDecl| json!({"name": input.name, "type": input.ty()});
        let inputs: Vec<_> = model.inputs().iter().map(port).collect();
        let outputs: Vec<&String> = outline.outputs.iter().map(|(name, _)| name).collect();
        let keys: Vec<&String> = model.metadata().keys().collect();
        return out
            .json(&json!({"version": 1, "name": outline.name, "inputs": inputs, "outputs": outputs, "metadata": keys,
            "imported_nodes": nodes, "operators": outline.operators, "obstacle": open.to_string()}));
    }
    writeln!(out.to, "{} ({})", outline.name, model.path().display())?;
    for input in model.inputs() {
        writeln!(out.to, "input       {}  {}", input.name, input.ty())?;
    }
    for (name, ty) in &outline.outputs {
        writeln!(out.to, "output      {name}  {ty}")?;
    }
    if !model.metadata().is_empty() {
        let keys: Vec<&str> = model.metadata().keys().map(String::as_str).collect();
        writeln!(out.to, "metadata    {}", keys.join(", "))?;
    }
    writeln!(out.to, "operators   {nodes} in the file")?;
    for (name, count) in &outline.operators {
        writeln!(out.to, "  {name:<16} {count:>5}")?;
    }
    Ok(writeln!(out.to, "cannot be compiled yet: {open}")?)
}

/// What the model is, as declared and after the passes; it need not be compilable.
fn summary(model: &Model, bindings: &Bindings, out: &mut Output<'_>) -> Result<()> {
    let imported = match (model.graph(bindings), model.outline()) {
        (Err(error), Some(outline)) if error.is_unbound() => return of_outline(&outline, &error, model, out),
        (imported, _) => imported?,
    };
    verify(&imported)?;
    note_all(model, &imported.notes);
    let nodes = imported.ids().filter(|id| imported.node(*id).op().is_some()).count();
    let stats = progress::during("planning", || model.stats(bindings));
    if out.json {
        let port = |input: &fornax::InputDecl| json!({"name": input.name, "type": input.ty()});
        let inputs: Vec<_> = model.inputs().iter().map(port).collect();
        let keys: Vec<&String> = model.metadata().keys().collect();
        let mut value = json!({"version": 1, "name": imported.name, "inputs": inputs, "outputs": model.outputs(),
            "metadata": keys, "imported_nodes": nodes});
        match stats {
            Ok(stats) => value["nodes"] = stats.nodes.into(),
            Err(error) => value["obstacle"] = error.to_string().into(),
        }
        return out.json(&value);
    }
    writeln!(out.to, "{} ({})", imported.name, model.path().display())?;
    for input in model.inputs() {
        writeln!(out.to, "input       {}  {}", input.name, input.ty())?;
    }
    for (name, id) in imported.outputs() {
        writeln!(out.to, "output      {name}  {}", imported.ty(*id))?;
    }
    if !model.metadata().is_empty() {
        let keys: Vec<&str> = model.metadata().keys().map(String::as_str).collect();
        writeln!(out.to, "metadata    {}", keys.join(", "))?;
    }
    writeln!(out.to, "imported    {nodes} operators")?;
    match stats {
        Ok(stats) => print_stats(&stats, out),
        Err(error) => Ok(writeln!(out.to, "cannot be compiled: {error}")?),
    }
}
