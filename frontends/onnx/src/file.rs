//! An opened model: mapped, decoded, and checked as far as that is possible without shapes.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use fornax_ir::inputs::InputDecl;
use fornax_ir::types::Constant;
use prost::Message;

use crate::bindings::{declared, input_decl, matches, show};
use crate::domain::opsets;
use crate::error::{Error, Result, short};
use crate::external::ExternalFiles;
use crate::functions::Functions;
use crate::limits::Limits;
use crate::order::{Body, order};
use crate::proto::{GraphProto, ModelProto};
use crate::tensors::TensorLoader;

/// Newest version of the file format that is read.
const NEWEST_IR: i64 = 14;

/// A model file, decoded and checked. Its tensors are slices of the mapped file.
pub struct OnnxFile {
    pub(crate) model: ModelProto,
    pub(crate) loader: TensorLoader,
    pub(crate) opsets: BTreeMap<String, i64>,
    pub(crate) functions: Functions,
    pub(crate) initializers: HashMap<String, Constant>,
    /// Nodes of the main graph to import, in order.
    pub(crate) order: Vec<usize>,
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
        let initializers = initializers(graph, &loader)?;
        let inputs = graph_inputs(graph, &initializers)?;
        let functions = Functions::new(&model.functions)?;
        let order = graph_order(graph, &initializers, &inputs)?;
        Ok(Self { opsets, functions, initializers, order, inputs, loader, model })
    }

    /// Graph inputs that are not initializers, in order.
    pub fn inputs(&self) -> &[InputDecl] {
        &self.inputs
    }

    /// Names of the graph outputs, in order.
    pub fn outputs(&self) -> Vec<String> {
        self.graph().output.iter().map(|o| o.name.clone()).collect()
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
        static EMPTY: GraphProto = GraphProto {
            node: Vec::new(),
            name: String::new(),
            initializer: Vec::new(),
            input: Vec::new(),
            output: Vec::new(),
            sparse_initializer: Vec::new(),
        };
        self.model.graph.as_ref().unwrap_or(&EMPTY)
    }
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

fn initializers(graph: &GraphProto, loader: &TensorLoader) -> Result<HashMap<String, Constant>> {
    if let Some(sparse) = graph.sparse_initializer.first() {
        let name = sparse.values.as_ref().map_or("", |v| &v.name);
        return Err(Error::tensor(short(name), "storage", "a dense tensor", "a sparse one"));
    }
    let mut initializers = HashMap::with_capacity(graph.initializer.len());
    for tensor in &graph.initializer {
        if tensor.name.is_empty() {
            return Err(Error::model("graph", "initializer", "a name", "none"));
        }
        let constant = loader.load(tensor, &tensor.name)?.with_origins(vec![tensor.name.clone()]);
        if initializers.insert(tensor.name.clone(), constant).is_some() {
            return Err(Error::tensor(short(&tensor.name), "name", "a unique one", "two initializers of this name"));
        }
    }
    Ok(initializers)
}

/// The inputs that are not initializers; those that are must agree with theirs.
fn graph_inputs(graph: &GraphProto, initializers: &HashMap<String, Constant>) -> Result<Vec<InputDecl>> {
    let mut names = HashSet::new();
    let mut inputs = Vec::new();
    for info in &graph.input {
        if info.name.is_empty() || !names.insert(info.name.as_str()) {
            return Err(Error::model("graph", "input", "a unique name", format!("`{}`", short(&info.name))));
        }
        let Some(constant) = initializers.get(&info.name) else {
            inputs.push(input_decl(info)?);
            continue;
        };
        let place = format!("input {}", short(&info.name));
        let Some(ty) = declared(&place, info.r#type.as_ref())? else { continue };
        let dims_agree = ty.dims.as_ref().is_none_or(|dims| matches(dims, &constant.ty.shape));
        if ty.dtype != constant.ty.dtype || !dims_agree {
            let declared = format!("{}{}", ty.dtype, ty.dims.as_ref().map_or(String::new(), |d| show(d)));
            return Err(Error::model(place, "type", declared, format!("an initializer of {}", constant.ty)));
        }
    }
    Ok(inputs)
}

fn graph_order(
    graph: &GraphProto,
    initializers: &HashMap<String, Constant>,
    inputs: &[InputDecl],
) -> Result<Vec<usize>> {
    let outputs: Vec<&str> = graph.output.iter().map(|o| o.name.as_str()).collect();
    if outputs.is_empty() {
        return Err(Error::model("graph", "output", "at least one", "none"));
    }
    let reserved: HashSet<&str> =
        initializers.keys().map(String::as_str).chain(inputs.iter().map(|i| i.name.as_str())).collect();
    let defined = |name: &str| reserved.contains(name);
    order(&Body { place: "graph", nodes: &graph.node, defined: &defined, reserved: &reserved, outputs: &outputs })
}
