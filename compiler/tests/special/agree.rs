//! Whether native code computes what the evaluator does, whatever of a graph is known before it runs.
//!
//! In: a graph, its inputs, and how far each element of each output may be off. Each choice of inputs becomes constants, passes run, and
//! every level of this machine computes what is left; those with FMA must give the same bits. With all inputs constant, folding must
//! leave nothing to compute, and give the evaluator's bits.

use std::sync::Arc;

use fornax_compiler::pipeline::{PipelineOptions, optimise, plan_of};
use fornax_compiler::{Error, Target, jit};
use fornax_ir::graph::{Graph, evaluate};
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::Constant;
use fornax_runtime::{Pool, Program, Session, Tensor};

use crate::rebuild::{Edit, rebuilt};

/// How far an element may be off.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Limit {
    /// Not at all: a zero has its sign.
    Bits,
    /// By so much; an infinity and a NaN are themselves.
    Within(f64),
    /// Steps between may overflow, so that nothing is promised.
    Anything,
}

/// What a graph is compared by.
pub struct Case<'a> {
    pub graph: &'a Graph,
    /// Inputs with which it is run, each in turn; the first also become constants.
    pub inputs: &'a [Vec<Literal>],
    /// The limit of an element: the number of the inputs, of the output, of the element, and the value that is expected.
    pub limit: &'a dyn Fn(usize, usize, usize, f64) -> Limit,
}

/// The inputs of these numbers as constants.
struct Known<'a>(&'a [Literal], usize);

impl Edit for Known<'_> {
    fn input(&mut self, number: usize) -> Option<Constant> {
        (self.1 >> number & 1 == 1).then(|| self.0[number].to_constant())
    }
}

impl Case<'_> {
    /// How many elements agree with the evaluator, each counted once for each choice of constants; else where one does not.
    ///
    /// # Errors
    /// `Ok(Err(refusal))` if no kernel computes the graph.
    pub fn compared(&self) -> Result<Result<usize, String>, String> {
        let evaluated = |inputs: &Vec<Literal>| evaluate(self.graph, inputs).map_err(|e| format!("evaluator: {e}"));
        let expected = self.inputs.iter().map(evaluated).collect::<Result<Vec<_>, _>>()?;
        let elements: usize = expected[0].iter().map(|output| output.ty.shape.numel()).sum();
        let (mut count, all) = (0, (1 << self.inputs[0].len()) - 1);
        for known in 0..=all {
            let sets = if known == 0 { self.inputs.len() } else { 1 };
            let graph = rebuilt(self.graph, &mut Known(&self.inputs[0], known)).ok_or("refused with constants")?;
            let graph = optimise(graph, &PipelineOptions::default()).map_err(|e| e.to_string())?.graph;
            let says = |error| format!("with constants {known:#b}, {error}");
            if known == all {
                folded(&graph, &expected[0]).map_err(says)?;
                continue;
            }
            let unknown = |set: &Vec<Literal>| -> Vec<Literal> {
                set.iter().enumerate().filter(|(i, _)| known >> i & 1 == 0).map(|(_, input)| input.clone()).collect()
            };
            let inputs: Vec<Vec<Literal>> = self.inputs.iter().take(sets).map(unknown).collect();
            match levels(&graph, &inputs).map_err(says)? {
                Err(refusal) => return Ok(Err(refusal)),
                Ok(results) => {
                    for (target, found) in results {
                        self.agree(&expected, &found).map_err(|e| says(format!("{target}: {e}\n{graph}")))?;
                    }
                }
            }
            count += sets * elements;
        }
        Ok(Ok(count))
    }

    fn agree(&self, expected: &[Vec<Literal>], found: &[Vec<Literal>]) -> Result<(), String> {
        let mut wrong = Vec::new();
        let outputs = expected.iter().zip(found).enumerate().flat_map(|(set, (expected, found))| {
            expected.iter().zip(found).enumerate().map(move |(output, pair)| (set, output, pair))
        });
        for (set, output, (expected, found)) in outputs {
            for (i, (expected, found)) in expected.to_f64().into_iter().zip(found.to_f64()).enumerate() {
                let limit = (self.limit)(set, output, i, expected);
                if !limit.allows(expected, found) {
                    let place = format!("inputs {set}, output {output}, element {i}");
                    wrong.push(format!("{place}: expected {expected:e}, found {found:e} ({limit:?})"));
                }
            }
        }
        wrong.first().map_or(Ok(()), |first| Err(format!("{} wrong, the first: {first}", wrong.len())))
    }
}

impl Limit {
    fn allows(self, expected: f64, found: f64) -> bool {
        match self {
            _ if expected.is_nan() && found.is_nan() => true,
            Self::Bits => expected.to_bits() == found.to_bits(),
            Self::Anything => true,
            Self::Within(_) if expected == found => true,
            // Next to the largest number a rounding decides between it and an infinity.
            Self::Within(limit) => {
                let size = |v: f64| if v.is_infinite() { f64::from(f32::MAX) * v.signum() } else { v };
                let at_the_end = |v: f64| v.abs() > f64::from(f32::MAX) * (1.0 - 1e-5);
                let either = expected.is_infinite() || found.is_infinite();
                if either {
                    limit > 0.0 && at_the_end(expected) && at_the_end(found) && size(expected) * size(found) > 0.0
                } else {
                    (expected - found).abs() <= limit
                }
            }
        }
    }
}

/// Fails unless `graph` has nothing left to compute, and its outputs are these.
fn folded(graph: &Graph, expected: &[Literal]) -> Result<(), String> {
    for ((name, value), expected) in graph.outputs().iter().zip(expected) {
        let node = graph.node(value.node);
        let constant = node.constant().ok_or_else(|| format!("{name} is computed:\n{graph}"))?;
        let found = Literal::from_constant(constant).map_err(|e| e.to_string())?;
        let pairs = found.to_f64().into_iter().zip(expected.to_f64());
        if let Some((i, (a, b))) = pairs.enumerate().find(|(_, (a, b))| !Limit::Bits.allows(*b, *a)) {
            return Err(format!("{name} folds to {a:e} in element {i}, expected {b:e}"));
        }
    }
    Ok(())
}

/// The outputs of each inputs on each level.
type OnLevels = Vec<(Target, Vec<Vec<Literal>>)>;

/// The outputs of each inputs on every level of this machine; a refusal if no kernel computes the graph.
pub fn levels(graph: &Graph, inputs: &[Vec<Literal>]) -> Result<Result<OnLevels, String>, String> {
    let mut results = OnLevels::new();
    for target in Target::runnable() {
        let plan = match plan_of(graph, &target) {
            Err(Error::Unsupported(refusals)) => return Ok(Err(refusals.join("; "))),
            plan => plan.map_err(|e| format!("{target}: {e}"))?,
        };
        let program = Arc::new(jit::compile(&plan).map_err(|e| format!("{target}: {e}"))?);
        let runs =
            inputs.iter().map(|inputs| run(graph, program.clone(), inputs).map_err(|e| format!("{target}: {e}")));
        let found = runs.collect::<Result<Vec<_>, _>>()?;
        let with_fma = results.iter().find(|(earlier, _)| earlier.fma() && target.fma());
        let differ =
            |bits: &[Vec<Literal>]| bits.iter().flatten().zip(found.iter().flatten()).any(|(a, b)| !same(a, b));
        if let Some((first, _)) = with_fma.filter(|(_, bits)| differ(bits)) {
            return Err(format!("{target} gives other bits than {first}\n{plan}"));
        }
        results.push((target, found));
    }
    Ok(Ok(results))
}

fn same(a: &Literal, b: &Literal) -> bool {
    a.to_f64().into_iter().zip(b.to_f64()).all(|(a, b)| Limit::Bits.allows(a, b))
}

fn run(graph: &Graph, program: Arc<Program>, inputs: &[Literal]) -> Result<Vec<Literal>, String> {
    let pool = Pool::new(1, false).map_err(|e| e.to_string())?;
    let mut session = Session::new(program, Arc::new(pool)).map_err(|e| e.to_string())?;
    let tensor = |x: &Literal| Tensor::from_bytes(x.ty.dtype, x.ty.shape.clone(), &x.to_bytes());
    let tensors = inputs.iter().map(tensor).collect::<Result<Vec<_>, _>>().map_err(|e| e.to_string())?;
    let mut outputs = session.outputs().map_err(|e| e.to_string())?;
    session.run(&tensors.iter().collect::<Vec<_>>(), &mut outputs).map_err(|e| e.to_string())?;
    let values = graph.outputs().iter().zip(&outputs);
    values
        .map(|((_, id), found)| Literal::from_bytes(graph.ty(*id).clone(), found.bytes()).map_err(|e| e.to_string()))
        .collect()
}
