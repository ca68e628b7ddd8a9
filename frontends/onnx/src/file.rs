//! An opened model: mapped, decoded, and checked as far as that is possible without shapes.

use std::collections::{BTreeMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fornax_ir::inputs::{Dim, InputDecl};
use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{Constant, DType, Shape, TensorType};
use prost::Message;

use crate::bindings::{declared, input_decl, matches};
use crate::domain::{imported_twice, opsets, standard_domain};
use crate::error::{Error, Result, short};
use crate::external::ExternalFiles;
use crate::functions::Functions;
use crate::initializers::Initializers;
use crate::limits::Limits;
use crate::names::{distinct, plain_name};
use crate::order::{Body, order};
use crate::proto::{GraphProto, ModelProto, ValueInfoProto};
use crate::tensors::TensorLoader;

/// Newest version of the file format that is read.
const NEWEST_IR: i64 = 14;

/// A graph of nothing.
static EMPTY: GraphProto = GraphProto {
    node: Vec::new(),
    name: String::new(),
    initializer: Vec::new(),
    input: Vec::new(),
    output: Vec::new(),
    sparse_initializer: Vec::new(),
};

/// What a file holds whatever its shapes are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outline {
    /// Name of the network.
    pub name: String,
    /// Name and declared type of each output, `?` where none is declared.
    pub outputs: Vec<(String, String)>,
    /// How many nodes there are of each operator, as far as outputs depend on them; functions of the file count as one.
    pub operators: BTreeMap<String, usize>,
}

/// A model file, decoded and checked. Its tensors are slices of the mapped file.
pub struct OnnxFile {
    pub(crate) model: ModelProto,
    pub(crate) loader: TensorLoader,
    pub(crate) opsets: BTreeMap<String, i64>,
    pub(crate) functions: Functions,
    pub(crate) initializers: Initializers,
    /// Nodes of the main graph to import, in order.
    pub(crate) order: Vec<usize>,
    /// What is odd about it, a line each.
    pub(crate) notes: Vec<String>,
    inputs: Vec<InputDecl>,
}

impl OnnxFile {
    /// Maps, decodes and checks the file at `path`.
    ///
    /// # Errors
    /// [`Error`] if the file cannot be mapped or is not a valid model within `limits`.
    pub fn open(path: &Path, limits: &Limits) -> Result<Self> {
        let bytes = fornax_runtime::map_file(path, limits.file_bytes)
            .map_err(|e| Error::File { path: path.to_path_buf(), message: e.to_string() })?;
        let folder = path.parent().map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
        Self::from_bytes(bytes, folder, limits)
    }

    /// Decodes and checks a model in memory; external data is looked for beneath `base_dir`, and refused without one.
    ///
    /// # Errors
    /// [`Error`] if the bytes are not a valid model within `limits`.
    pub fn from_bytes(bytes: Bytes, base_dir: Option<&Path>, limits: &Limits) -> Result<Self> {
        Limits::check("model", "file_bytes", limits.file_bytes, bytes.len() as u64)?;
        let model = decode(bytes)?;
        let opsets = model_opsets(&model)?;
        let graph = model.graph.as_ref().ok_or_else(|| Error::NotOnnx("there is no graph".into()))?;
        Limits::check("graph", "nodes", limits.nodes, graph.node.len() as u64)?;
        let loader = TensorLoader { limits: limits.clone(), external: ExternalFiles::new(base_dir) };
        let initializers = Initializers::of(graph, &loader)?;
        let inputs = graph_inputs(graph, &initializers)?;
        let functions = Functions::new(&model.functions)?;
        let order = graph_order(graph, &initializers, &inputs)?;
        let notes = imported_twice(&model.opset_import);
        Ok(Self { opsets, functions, initializers, order, notes, inputs, loader, model })
    }

    /// Graph inputs that are not initializers, in order.
    pub fn inputs(&self) -> &[InputDecl] {
        &self.inputs
    }

    /// Names of the graph outputs, in order; one that is listed twice is `y` and `y_2`.
    pub fn outputs(&self) -> Vec<String> {
        distinct(self.graph().output.iter().map(|o| o.name.as_str()))
    }

    /// Inputs that have an initializer, which is their value unless they are fed, in order.
    pub fn defaults(&self) -> Vec<String> {
        let inputs = self.graph().input.iter().map(|info| &info.name);
        inputs.filter(|name| self.initializers.contains(name)).cloned().collect()
    }

    /// Makes an input that has an initializer one that is given, as any other.
    ///
    /// # Errors
    /// [`Error::Binding`] if there is no such input; [`Error::Model`] if it has no type.
    pub fn feed(&mut self, name: &str) -> Result<()> {
        let defaults = self.defaults();
        if !defaults.iter().any(|other| other == name) {
            let names: Vec<String> = defaults.iter().map(|name| short(name)).collect();
            let expected = format!("an input with an initializer ({})", names.join(", "));
            return Err(Error::Binding { name: short(name), expected, found: "none of this name".into() });
        }
        self.initializers.remove(name);
        self.inputs = graph_inputs(self.model.graph.as_ref().unwrap_or(&EMPTY), &self.initializers)?;
        Ok(())
    }

    /// Gives an input its value for good, as if it were an initializer: `numbers` in row-major order.
    ///
    /// # Errors
    /// [`Error::Binding`] if there is no such input, or the numbers are not of its type or do not fill its shape.
    pub fn fix(&mut self, name: &str, numbers: &[f64]) -> Result<()> {
        let Some(input) = self.inputs.iter().find(|input| input.name == name) else {
            let names: Vec<String> = self.inputs.iter().map(|input| short(&input.name)).collect();
            let expected = format!("an input ({})", names.join(", "));
            return Err(Error::Binding { name: short(name), expected, found: "none of this name".into() });
        };
        let constant = fixed(input, numbers)?;
        self.initializers.insert(name, constant);
        self.inputs.retain(|input| input.name != name);
        Ok(())
    }

    /// What the file holds whatever the shapes are.
    pub fn outline(&self) -> Outline {
        let graph = self.graph();
        let mut operators = BTreeMap::new();
        for node in self.order.iter().map(|at| &graph.node[*at]) {
            let domain = standard_domain(&node.domain);
            let name = if domain.is_empty() { node.op_type.clone() } else { format!("{domain}.{}", node.op_type) };
            *operators.entry(name).or_default() += 1;
        }
        let output = |(info, name): (&ValueInfoProto, String)| {
            let declared = declared(&name, info.r#type.as_ref()).ok().flatten();
            (name, declared.map_or_else(|| "?".to_string(), |ty| ty.to_string()))
        };
        let outputs = graph.output.iter().zip(self.outputs()).map(output).collect();
        Outline { name: plain_name(&graph.name), outputs, operators }
    }

    /// The files of external data that it was read from.
    pub fn external_files(&self) -> Vec<PathBuf> {
        self.loader.external.paths()
    }

    /// The model's key-value metadata.
    pub fn metadata(&self) -> BTreeMap<String, String> {
        self.model.metadata_props.iter().map(|e| (e.key.clone(), e.value.clone())).collect()
    }

    /// The main graph.
    pub(crate) fn graph(&self) -> &GraphProto {
        self.model.graph.as_ref().unwrap_or(&EMPTY)
    }
}

/// The numbers as the value of an input; one open extent is what they leave.
fn fixed(input: &InputDecl, numbers: &[f64]) -> Result<Constant> {
    let fault = |expected: String, found: String| Error::Binding { name: short(&input.name), expected, found };
    let mut shape: Vec<usize> = match (input.ranked, numbers.len()) {
        (true, _) => input.dims.iter().map(|dim| if let Dim::Known(extent) = dim { *extent } else { 1 }).collect(),
        (false, 1) => Vec::new(),
        (false, count) => vec![count],
    };
    let open: Vec<usize> = (0..input.dims.len()).filter(|at| !matches!(input.dims[*at], Dim::Known(_))).collect();
    if let [axis] = open[..] {
        shape[axis] = numbers.len() / Shape::from(shape.clone()).numel().max(1);
    }
    let ty = TensorType::new(input.dtype, shape);
    if ty.shape.numel() != numbers.len() {
        return Err(fault(format!("{} numbers for {ty}", ty.shape.numel()), numbers.len().to_string()));
    }
    if ty.dtype.is_float() {
        return Ok(Constant::from_bytes(ty.clone(), Literal::new_float(ty, numbers.to_vec()).to_bytes()));
    }
    let unsigned = matches!(ty.dtype, DType::U8 | DType::U16 | DType::U32 | DType::U64);
    // Of 64 bits, the largest number of exporters stands for the end of an axis, and rounds to one beyond.
    let (low, beyond) = match (ty.dtype, unsigned, 8 * ty.dtype.size() as i32) {
        (DType::Bool, ..) => (0.0, 2.0),
        (_, true, bits) => (0.0, 2f64.powi(bits.min(63))),
        (_, false, bits) => (-2f64.powi(bits - 1), 2f64.powi(bits - 1)),
    };
    let whole = |number: &f64| number.fract() == 0.0 && (low..=(beyond - 1.0)).contains(number);
    if let Some(wrong) = numbers.iter().find(|number| !whole(number)) {
        return Err(fault(format!("numbers that are {}", ty.dtype), wrong.to_string()));
    }
    let literal = Literal::new_int(ty.clone(), numbers.iter().map(|number| *number as i64).collect());
    Ok(Constant::from_bytes(ty, literal.to_bytes()))
}

fn decode(bytes: Bytes) -> Result<ModelProto> {
    if bytes.is_empty() {
        return Err(Error::NotOnnx("the file is empty".into()));
    }
    if bytes.starts_with(b"version https://git-lfs") {
        return Err(Error::NotOnnx("this is a Git LFS pointer; fetch the file itself with `git lfs pull`".into()));
    }
    if bytes.trim_ascii_start().starts_with(b"<") {
        return Err(Error::NotOnnx("this is an HTML or XML page".into()));
    }
    let model = ModelProto::decode(bytes).map_err(|e| Error::NotOnnx(innermost(&e.to_string())))?;
    match model.ir_version {
        Some(1..=NEWEST_IR) => Ok(model),
        Some(v) => Err(Error::model("model", "ir_version", format!("1 to {NEWEST_IR}"), v.to_string())),
        None => Err(Error::model("model", "ir_version", format!("1 to {NEWEST_IR}"), "none")),
    }
}

/// The end of prost's message, which starts with the whole path of nested fields.
fn innermost(message: &str) -> String {
    const PARTS: usize = 4;
    let parts: Vec<&str> = message.split(": ").collect();
    match parts.len() > PARTS {
        true => parts[parts.len() - PARTS..].join(": "),
        false => message.into(),
    }
}

/// Opset versions by domain. Versions before 3 of the format have no such list and mean version 1 of the standard
/// domain.
fn model_opsets(model: &ModelProto) -> Result<BTreeMap<String, i64>> {
    let mut opsets = opsets("model", &model.opset_import)?;
    if opsets.is_empty() && model.ir_version < Some(3) {
        opsets.insert(String::new(), 1);
    }
    match opsets.is_empty() {
        false => Ok(opsets),
        true => Err(Error::model("model", "opset_import", "at least one operator set", "none")),
    }
}

/// The inputs that are not initializers; those that are must agree with theirs.
fn graph_inputs(graph: &GraphProto, initializers: &Initializers) -> Result<Vec<InputDecl>> {
    let mut names = HashSet::new();
    let mut inputs = Vec::new();
    for info in &graph.input {
        if info.name.is_empty() || !names.insert(info.name.as_str()) {
            return Err(Error::model("graph", "input", "a unique name", format!("`{}`", short(&info.name))));
        }
        if !initializers.contains(&info.name) {
            inputs.push(input_decl(info)?);
        }
        let Some(constant) = initializers.constants.get(&info.name) else { continue };
        let place = format!("input {}", short(&info.name));
        let Some(ty) = declared(&place, info.r#type.as_ref())? else { continue };
        let dims_agree = ty.dims.as_ref().is_none_or(|dims| matches(dims, &constant.ty.shape));
        if ty.dtype != constant.ty.dtype || !dims_agree {
            return Err(Error::model(place, "type", ty.to_string(), format!("an initializer of {}", constant.ty)));
        }
    }
    Ok(inputs)
}

fn graph_order(graph: &GraphProto, initializers: &Initializers, inputs: &[InputDecl]) -> Result<Vec<usize>> {
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    if outputs.is_empty() {
        return Err(Error::model("graph", "output", "at least one", "none"));
    }
    let reserved: HashSet<&str> = initializers.names().chain(inputs.iter().map(|i| i.name.as_str())).collect();
    let defined = |name: &str| reserved.contains(name);
    order(&Body { place: "graph", nodes: &graph.node, defined: &defined, reserved: &reserved, outputs: &outputs })
}
