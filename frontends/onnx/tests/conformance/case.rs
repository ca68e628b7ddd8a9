//! One conformance case: its files, its run, its verdict.

use std::collections::HashSet;
use std::path::{Path, PathBuf};

use fornax_ir::graph::Graph;
use fornax_ir::inputs::Bindings;
use fornax_ir::ops::literal::{Data, Literal};
use fornax_ir::types::{DType, TensorType};
use fornax_onnx::{Limits, OnnxFile};
use onnx_protobuf::{Message, ModelProto, TensorProto};

/// Cases whose expected values are rounding errors of `f32` where the exact ones are 0, and what these are below.
const NOISE: &[(&str, f64)] = &[("node/test_dft_inverse", 5e-7)];

/// A case on disk.
pub struct Case {
    /// `kind/name`.
    pub name: String,
    /// `core` or `extended`.
    pub tier: String,
    folder: PathBuf,
    composed: bool,
    rtol: f64,
    atol: f64,
}

/// What runs a graph: the outputs, or why not.
pub type Engine = fn(&Graph, &[Literal]) -> Result<Vec<Literal>, Verdict>;

/// What became of a case.
pub enum Verdict {
    /// The outputs are within the case's tolerance.
    Pass,
    /// The importer says that it cannot.
    Refused(String),
    /// The engine says that it cannot.
    Unsupported(String),
    /// Anything else.
    Wrong(String),
}

/// The cases beneath `root`, by name.
pub fn find(root: &Path) -> Vec<Case> {
    let folders = |path: &Path| {
        let mut found: Vec<PathBuf> = std::fs::read_dir(path).unwrap().map(|e| e.unwrap().path()).collect();
        found.retain(|p| p.is_dir());
        found.sort();
        found
    };
    let mut cases = Vec::new();
    for folder in folders(root).iter().flat_map(|kind| folders(kind)) {
        let text = std::fs::read_to_string(folder.join("case.json")).unwrap();
        let about: serde_json::Value = serde_json::from_str(&text).unwrap();
        let name = folder.strip_prefix(root).unwrap().display().to_string();
        let noise = NOISE.iter().find(|(noisy, _)| *noisy == name).map_or(0.0, |(_, noise)| *noise);
        cases.push(Case {
            name,
            tier: about["tier"].as_str().unwrap().into(),
            composed: about["ops"].as_array().unwrap().len() > 1,
            rtol: about["rtol"].as_f64().unwrap(),
            atol: about["atol"].as_f64().unwrap().max(noise),
            folder,
        });
    }
    cases
}

impl Case {
    /// Imports the case and runs it on an engine.
    pub fn run(&self, engine: Engine) -> Verdict {
        let model = ModelProto::parse_from_bytes(&std::fs::read(self.folder.join("model.onnx")).unwrap()).unwrap();
        let inputs = self.tensors("input");
        let expected: Option<Vec<Literal>> = self.tensors("output").iter().map(literal).collect();
        let Some(expected) = expected else { return Verdict::Refused("outputs of another kind".into()) };
        let mut first_refusal = None;
        for kept in [inputs.len(), 1, 0] {
            match self.attempt(engine, &model, &inputs, kept, &expected) {
                Verdict::Refused(why) => _ = first_refusal.get_or_insert(why),
                done => return done,
            }
        }
        Verdict::Refused(first_refusal.unwrap_or_default())
    }

    /// One run with the inputs from `kept` on made initializers.
    fn attempt(
        &self,
        engine: Engine,
        model: &ModelProto,
        inputs: &[TensorProto],
        kept: usize,
        expected: &[Literal],
    ) -> Verdict {
        let mut model = model.clone();
        let graph = model.graph.as_mut().unwrap();
        let given: HashSet<&String> = graph.initializer.iter().map(|t| &t.name).collect();
        let names: Vec<String> =
            graph.input.iter().filter(|i| !given.contains(&i.name)).map(|i| i.name.clone()).collect();
        for (name, tensor) in names.iter().zip(inputs).skip(kept) {
            graph.initializer.push(TensorProto { name: name.clone(), ..tensor.clone() });
        }
        let literals: Option<Vec<Literal>> = inputs.iter().take(kept).map(literal).collect();
        let Some(literals) = literals else { return Verdict::Refused("inputs of another kind".into()) };
        let mut bindings = Bindings::default();
        for (name, literal) in names.into_iter().zip(&literals) {
            bindings.shapes.insert(name, literal.ty.shape.to_vec());
        }
        let bytes = model.write_to_bytes().unwrap();
        let imported = OnnxFile::from_bytes(bytes.into(), Some(&self.folder), &Limits::default())
            .and_then(|file| file.import(&bindings));
        let graph = match imported {
            Ok(graph) => graph,
            Err(e) => return Verdict::Refused(e.to_string()),
        };
        match engine(&graph, &literals) {
            Ok(outputs) => self.compare(&outputs, expected),
            Err(verdict) => verdict,
        }
    }

    fn compare(&self, outputs: &[Literal], expected: &[Literal]) -> Verdict {
        if outputs.len() != expected.len() {
            return Verdict::Wrong(format!("{} outputs, expected {}", outputs.len(), expected.len()));
        }
        for (i, (found, expected)) in outputs.iter().zip(expected).enumerate() {
            if found.ty != expected.ty {
                return Verdict::Wrong(format!("output {i} is {}, expected {}", found.ty, expected.ty));
            }
            if let (Data::Int(found), Data::Int(expected)) = (&found.data, &expected.data) {
                if let Some(at) = (0..found.len()).find(|at| found[*at] != expected[*at]) {
                    return Verdict::Wrong(format!("output {i}[{at}] is {}, expected {}", found[at], expected[at]));
                }
                continue;
            }
            // Composed cases round each intermediate result to the type, the expected values another set of them. Of bf16 the
            // package's own runner allows two units in the last place, which are 2^-6 at most, whatever the case is made of.
            let steps = if self.composed { 4.0 } else { 1.0 };
            let step = match expected.ty.dtype {
                DType::F16 => steps / 2048.0,
                DType::BF16 => 4.0 / 256.0,
                _ => 0.0,
            };
            let relative = self.rtol.max(step);
            let (found, expected) = (found.to_f64(), expected.to_f64());
            let near = |a: f64, b: f64| {
                a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= self.atol + relative * b.abs()
            };
            if let Some(at) = (0..found.len()).find(|at| !near(found[*at], expected[*at])) {
                return Verdict::Wrong(format!("output {i}[{at}] is {}, expected {}", found[at], expected[at]));
            }
        }
        Verdict::Pass
    }

    /// The tensors of `test_data_set_0/<what>_<i>.pb`.
    fn tensors(&self, what: &str) -> Vec<TensorProto> {
        let path = |i: usize| self.folder.join(format!("test_data_set_0/{what}_{i}.pb"));
        let read = |path: PathBuf| TensorProto::parse_from_bytes(&std::fs::read(path).unwrap()).unwrap();
        (0..).map(path).take_while(|p| p.exists()).map(read).collect()
    }
}

/// A tensor as a literal, its elements one to a byte where they are of 8-bit floats or below 8 bits; `None` for strings and other types that the
/// IR does not know.
pub fn literal(tensor: &TensorProto) -> Option<Literal> {
    if matches!(tensor.data_type, 17..=26) {
        let bytes = tensor.write_to_bytes().unwrap();
        let (_, constant) = fornax_onnx::read_tensor(bytes.into(), &Limits::default()).ok()?;
        return Literal::from_constant(&constant).ok();
    }
    let dtype = match tensor.data_type {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        _ => return None,
    };
    let dims: Vec<usize> = tensor.dims.iter().map(|d| *d as usize).collect();
    let ty = TensorType::new(dtype, dims);
    if !tensor.raw_data.is_empty() || ty.shape.numel() == 0 {
        return Literal::from_bytes(ty, &tensor.raw_data).ok();
    }
    // What is no tensor (a sequence, an optional) does not look like one.
    let typed = [tensor.float_data.len(), tensor.double_data.len(), tensor.int32_data.len(), tensor.int64_data.len()];
    if typed.iter().sum::<usize>() + tensor.uint64_data.len() != ty.shape.numel() {
        return None;
    }
    let halves = |bits: &[i32]| bits.iter().flat_map(|v| (*v as u16).to_le_bytes()).collect::<Vec<u8>>();
    Some(match dtype {
        DType::F32 => Literal::new_float(ty, tensor.float_data.iter().map(|v| f64::from(*v)).collect()),
        DType::F64 => Literal::new_float(ty, tensor.double_data.clone()),
        DType::F16 | DType::BF16 => Literal::from_bytes(ty, &halves(&tensor.int32_data)).ok()?,
        DType::I64 => Literal::new_int(ty, tensor.int64_data.clone()),
        DType::U32 | DType::U64 => Literal::new_int(ty, tensor.uint64_data.iter().map(|v| *v as i64).collect()),
        _ => Literal::new_int(ty, tensor.int32_data.iter().map(|v| i64::from(*v)).collect()),
    })
}
