//! From a checked model and static input shapes to a graph.
//!
//! Nodes are imported in order, each by the function that the registry names. A node that cannot be imported because
//! its operator or variant is unsupported does not stop the import: its results are marked, what depends on them is
//! skipped, and one error lists them all at the end. Any other error stops at once.

mod batched_scan;
mod branch;
mod call;
mod choice;
pub(crate) mod flex;
mod repeat;
pub(crate) mod sequences;

use std::borrow::Cow;
use std::cell::Cell;
use std::collections::{BTreeMap, HashMap};

use fornax_ir::graph::{Graph, ValueId};
use fornax_ir::inputs::{Bindings, Dim};
use fornax_ir::types::{Constant, TensorType};
use fornax_runtime::extent_name;

use crate::assembly::Assembly;
use crate::attributes::node_name;
use crate::bindings::{Bound, bind, declared, matches, show};
use crate::context::Context;
use crate::domain::{show_domain, standard_domain};
use crate::error::{Error, Result, short};
use crate::file::OnnxFile;
use crate::limits::Limits;
use crate::names::{join, plain_name};
use crate::narrow::Narrow;
use crate::ops::carry;
use crate::proto::{AttributeProto, NodeProto, ValueInfoProto};
use crate::refusals::Refusals;
use crate::registry;
use crate::schema;

/// What a name of the model stands for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum NamedValue {
    /// A value of the graph.
    Known(ValueId),
    /// An optional operand that was left out.
    Absent,
    /// The result of something unsupported.
    Refused,
    /// A value of elements that the IR has not, one to a byte: of fewer than 8 bits, or 8-bit floats.
    Narrow(ValueId, Narrow),
    /// A sequence of tensors, by its number in the importer's list.
    Sequence(usize),
}

impl NamedValue {
    /// The value of the graph, if it is one.
    fn id(self) -> Option<ValueId> {
        match self {
            Self::Known(id) | Self::Narrow(id, _) => Some(id),
            _ => None,
        }
    }
}

/// The names visible to the nodes of one graph or function body.
pub(crate) struct Scope<'s> {
    /// Values defined so far.
    pub values: HashMap<String, NamedValue>,
    /// The scope around a nested graph.
    pub outer: Option<&'s Scope<'s>>,
    /// Put before the names of inlined nodes; `None` in the main graph.
    pub prefix: Option<String>,
    /// Opset version by domain.
    pub opsets: &'s BTreeMap<String, i64>,
    /// Attributes of the call, in a function body.
    pub attributes: Option<&'s BTreeMap<String, AttributeProto>>,
}

/// An import in progress.
pub(crate) struct Importer<'m> {
    pub file: &'m OnnxFile,
    pub assembly: Assembly,
    pub refusals: Refusals,
    /// Functions being inlined, outermost first, as indices into the model's list.
    pub calls: Vec<usize>,
    /// Nested graphs being inlined.
    pub depth: u64,
    /// The batch, where the file fixes it to 1 and another was asked for.
    reopened: Option<usize>,
    initializers: HashMap<&'m str, ValueId>,
    imported: u64,
    /// The sequences made so far.
    sequences: Vec<Vec<ValueId>>,
}

impl OnnxFile {
    /// Builds the graph for the shapes that `bindings` give. Besides the names of dimensions, [`Bindings::dims`] may name an axis of an input, such as
    /// `x.2`. A batch of 1 that the file fixes becomes the one asked for, if all outputs have it then; [`Graph::notes`] says so.
    ///
    /// # Errors
    /// [`Error`] naming every unbound dimension, every unsupported operator, or the first node at fault.
    pub fn import(&self, bindings: &Bindings) -> Result<Graph> {
        let bound = bind(self.inputs(), bindings, &self.loader.limits)?;
        let mut graph = build(self, &bound, &bindings.values)?;
        graph.metadata = self.metadata();
        graph.notes = self.notes.clone();
        if let Some(batch) = bound.reopened {
            graph.notes.push(format!("the file fixes the batch to 1; it is opened again as {batch}"));
        }
        self.check_outputs(&mut graph, bound.reopened)?;
        Ok(graph)
    }

    /// Compares the declared types of the outputs with the inferred ones. What the file declares of a shape decides nothing, so that a difference is worth
    /// a note only, unless the batch is opened again: then every output must have it.
    fn check_outputs(&self, graph: &mut Graph, reopened: Option<usize>) -> Result<()> {
        // Exporters that leave the batch open often declare the outputs for the batch they traced with.
        let open_batch = self.inputs().iter().any(|i| !matches!(i.dims.first(), Some(Dim::Known(_))));
        for (at, info) in self.graph().output.iter().enumerate() {
            let (place, ty) = (format!("output {}", short(&info.name)), graph.ty(graph.outputs()[at].1));
            if let Some(batch) = reopened.filter(|batch| ty.shape.first() != Some(batch)) {
                let expected = format!("the batch of {batch} that was asked for, of which the file fixes 1");
                return Err(Error::model(place, "axis 0", expected, ty.shape.to_string()));
            }
            let Some(wanted) = declared(&place, info.r#type.as_ref())? else { continue };
            if wanted.dtype != ty.dtype {
                return Err(Error::model(place, "element type", wanted.dtype.name(), ty.dtype.name()));
            }
            let Some(mut dims) = wanted.dims else { continue };
            let text = show(&dims);
            if let (true, Some(first)) = (open_batch || reopened.is_some(), dims.first_mut()) {
                *first = Dim::Unknown;
            }
            if !matches(&dims, &ty.shape) {
                let note = format!("{place}: declared as {text}, computed as {}", ty.shape);
                graph.notes.push(note);
            }
        }
        Ok(())
    }
}

/// Builds the graph of `file` for inputs of the given shapes. Inputs in `known` are replaced by their values where they
/// are read.
fn build(file: &OnnxFile, bound: &Bound, known: &BTreeMap<String, Constant>) -> Result<Graph> {
    let graph = file.graph();
    let outputs = graph.node.iter().flat_map(|n| &n.output);
    let inputs = file.inputs().iter().map(|i| &i.name);
    let named = outputs.chain(inputs).map(String::as_str);
    let reserved = named.chain(file.initializers.names()).filter(|name| !name.is_empty());
    let mut importer = Importer {
        file,
        assembly: Assembly::new(&plain_name(&graph.name), file.loader.limits.clone(), reserved),
        refusals: Refusals::default(),
        calls: Vec::new(),
        depth: 0,
        reopened: bound.reopened,
        initializers: HashMap::new(),
        imported: 0,
        sequences: Vec::new(),
    };
    let mut values = HashMap::new();
    for (input, shape) in file.inputs().iter().zip(&bound.shapes) {
        let id = importer.assembly.input(&input.name, TensorType::new(input.dtype, shape.clone()));
        let value = known.get(&input.name).map(|v| importer.assembly.constant(&input.name, v.clone()));
        let id = value.unwrap_or(id);
        let info = graph.input.iter().find(|info| info.name == input.name);
        let kind = info.and_then(|info| Narrow::of_type(info.r#type.as_ref()));
        values.insert(input.name.clone(), kind.map_or(NamedValue::Known(id), |kind| NamedValue::Narrow(id, kind)));
    }
    let mut scope = Scope { values, outer: None, prefix: None, opsets: &file.opsets, attributes: None };
    importer.nodes(&mut scope, &graph.node, &file.order)?;
    importer.refusals.finish()?;
    let mut extents = Vec::new();
    for (output, name) in graph.output.iter().zip(file.outputs()) {
        match importer.value(&scope, &output.name) {
            Some(value @ (NamedValue::Known(id) | NamedValue::Narrow(id, _))) => {
                check_narrow(output, value)?;
                importer.assembly.output(&name, id);
                extents.extend(importer.assembly.live.get(&id).map(|live| (extent_name(&name, live.axis), *live)));
            }
            Some(NamedValue::Sequence(_)) => {
                return Err(Error::Unsupported(vec![format!("output {}: a sequence", short(&output.name))]));
            }
            _ => {
                importer.refusals.finish()?;
                return Err(Error::model("graph", "output", "a computed value", short(&output.name)));
            }
        }
    }
    for (name, live) in extents {
        importer.assembly.output(&name, live.extent.count);
    }
    Ok(importer.assembly.finish())
}

/// Fails if an output is declared with a type that the IR has not and is of another, or the other way round.
fn check_narrow(output: &ValueInfoProto, value: NamedValue) -> Result<()> {
    let wanted = Narrow::of_type(output.r#type.as_ref());
    let found = match value {
        NamedValue::Narrow(_, kind) => Some(kind),
        _ => None,
    };
    let named = |kind: Option<Narrow>| kind.map_or("another type", Narrow::name);
    if output.r#type.is_none() || wanted == found {
        return Ok(());
    }
    Err(Error::model(format!("output {}", short(&output.name)), "element type", named(wanted), named(found)))
}

impl<'m> Importer<'m> {
    /// Imports the nodes at the indices `order`, adding their results to `scope`.
    pub fn nodes(&mut self, scope: &mut Scope<'_>, nodes: &[NodeProto], order: &[usize]) -> Result<()> {
        for index in order {
            let node = scope.resolve(&nodes[*index])?;
            let results = self.node(scope, &node)?;
            for (name, value) in node.output.iter().zip(results) {
                if !name.is_empty() {
                    scope.values.insert(name.clone(), value);
                }
            }
        }
        Ok(())
    }

    /// What `name` stands for in `scope`; an initializer becomes a constant of the graph when first used.
    pub fn value(&mut self, scope: &Scope<'_>, name: &str) -> Option<NamedValue> {
        if let Some(value) = scope.values.get(name) {
            return Some(*value);
        }
        match scope.outer {
            Some(outer) => self.value(outer, name),
            // Only the main graph sees the model's initializers; a function body sees nothing around it.
            None if scope.prefix.is_some() => None,
            None => {
                let initializers = &self.file.initializers;
                if let Some((name, why)) = initializers.foreign.get_key_value(name) {
                    self.refusals.initializer(name, why);
                    return Some(NamedValue::Refused);
                }
                let (name, constant, kind) = match initializers.narrow.get_key_value(name) {
                    Some((name, (constant, kind))) => (name, constant, Some(*kind)),
                    None => {
                        initializers.constants.get_key_value(name).map(|(name, constant)| (name, constant, None))?
                    }
                };
                let assembly = &mut self.assembly;
                let id = *self.initializers.entry(name).or_insert_with(|| assembly.parameter(name, constant.clone()));
                Some(kind.map_or(NamedValue::Known(id), |kind| NamedValue::Narrow(id, kind)))
            }
        }
    }

    /// The results of one node.
    fn node(&mut self, scope: &Scope<'_>, node: &NodeProto) -> Result<Vec<NamedValue>> {
        self.imported += 1;
        let place = short(node_name(node));
        Limits::check(&place, "nodes", self.file.loader.limits.nodes, self.imported)?;
        let mut operands = Vec::with_capacity(node.input.len());
        for name in &node.input {
            let value = if name.is_empty() { Some(NamedValue::Absent) } else { self.value(scope, name) };
            operands.push(value.ok_or_else(|| Error::model(&place, "input", "a defined value", short(name)))?);
        }
        let first_new = self.assembly.graph().len();
        let results = self.dispatch(scope, node, &operands)?;
        self.name_results(scope, node, &results, first_new);
        Ok(results)
    }

    fn dispatch(&mut self, scope: &Scope<'_>, node: &NodeProto, operands: &[NamedValue]) -> Result<Vec<NamedValue>> {
        let domain = standard_domain(&node.domain);
        if let Some(function) = self.file.functions.find(node) {
            return self.call(scope, node, function, operands);
        }
        let Some(version) = scope.opsets.get(domain).copied() else {
            let imported: Vec<String> = scope.opsets.keys().map(|d| show_domain(d)).collect();
            let expected = format!("an imported domain ({})", imported.join(", "));
            return Err(Error::model(short(node_name(node)), "domain", expected, show_domain(domain)));
        };
        if domain.is_empty()
            && let Some(results) = self.structural(scope, node, operands, version)?
        {
            return Ok(results);
        }
        if (domain, node.op_type.as_str()) == flex::OPERATOR {
            return self.flex_attention(scope, node, operands, version);
        }
        let refused = vec![NamedValue::Refused; node.output.len()];
        let Some(function) = registry::lookup(domain, &node.op_type, version) else {
            self.refusals.operator(node, version);
            return Ok(refused);
        };
        if operands.contains(&NamedValue::Refused) {
            return Ok(refused);
        }
        if operands.iter().any(|operand| matches!(operand, NamedValue::Sequence(_))) {
            self.refusals.variants(node, vec!["a sequence as an operand".into()]);
            return Ok(refused);
        }
        let narrow = |operand: &NamedValue| matches!(operand, NamedValue::Narrow(..));
        if operands.iter().any(narrow) && !registry::takes_narrow(&node.op_type) {
            self.refusals.variants(node, vec!["elements below 8 bits, or 8-bit floats".into()]);
            return Ok(refused);
        }
        let mut cx = self.context(node, operands, version);
        cx.gives = cx.narrow(0).filter(|_| registry::moves_narrow(&node.op_type));
        let bound = schema::check(&cx)?;
        let results = carry::import(&mut cx, function).and_then(|ids| match ids.len() >= cx.output_count() {
            true => cx.all_inputs_asked().and_then(|()| schema::check_results(&cx, bound, &ids)).map(|()| ids),
            false => Err(cx.unsupported(format!("output {} ({})", ids.len(), short(&node.output[ids.len()])))),
        });
        match results {
            Ok(ids) => {
                let gives = cx.gives;
                let mut values: Vec<NamedValue> = ids.into_iter().map(NamedValue::Known).collect();
                if let (Some(kind), Some(NamedValue::Known(id))) = (gives, values.first().copied()) {
                    values[0] = NamedValue::Narrow(id, kind);
                }
                Ok(values)
            }
            Err(Error::Unsupported(why)) => {
                self.refusals.variants(node, why);
                Ok(refused)
            }
            Err(other) => Err(other),
        }
    }

    /// What an import function sees of a node; operands that are no tensors are absent.
    fn context<'a>(&'a mut self, node: &'a NodeProto, operands: &[NamedValue], version: i64) -> Context<'a> {
        let inputs = operands.iter().map(|operand| operand.id()).collect();
        let kind = |operand: &NamedValue| match operand {
            NamedValue::Narrow(_, kind) => Some(*kind),
            _ => None,
        };
        let narrow = operands.iter().map(kind).collect();
        let (reopened, assembly, loader) = (self.reopened, &mut self.assembly, &self.file.loader);
        Context { node, version, inputs, narrow, gives: None, reopened, asked: Cell::new(0), assembly, loader }
    }

    /// The results of a node that stands for others: one with a body, or of sequences. None of an operator of tensors.
    fn structural(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
    ) -> Result<Option<Vec<NamedValue>>> {
        if !registry::is_structural(&node.op_type, version) {
            return self.on_sequences(scope, node, operands, version);
        }
        let cx = self.context(node, operands, version);
        match sequences::OPERATORS.iter().any(|(name, _)| *name == node.op_type) {
            true => schema::check_form(&cx)?,
            false => drop(schema::check(&cx)?),
        }
        if operands.contains(&NamedValue::Refused) {
            return Ok(Some(vec![NamedValue::Refused; node.output.len()]));
        }
        if node.op_type == "Scan" && operands.iter().any(|operand| matches!(operand, NamedValue::Narrow(..))) {
            self.refusals.variants(node, vec!["elements below 8 bits, or 8-bit floats".into()]);
            return Ok(Some(vec![NamedValue::Refused; node.output.len()]));
        }
        match node.op_type.as_str() {
            "If" => self.branch(scope, node, operands, version),
            "Loop" => self.repeat(scope, node, operands, version),
            "Scan" => self.scan(scope, node, operands, version),
            _ => return self.on_sequences(scope, node, operands, version),
        }
        .map(Some)
    }

    /// Gives results that this node computed the model's names of them.
    fn name_results(&mut self, scope: &Scope<'_>, node: &NodeProto, results: &[NamedValue], first_new: usize) {
        for (name, value) in node.output.iter().zip(results) {
            let Some(id) = value.id() else { continue };
            if name.is_empty() || id.node.index() < first_new {
                continue;
            }
            let name = match &scope.prefix {
                None => name.clone(),
                Some(prefix) => match join(prefix, name) {
                    // The name it was given as the node's first result.
                    name if name == self.assembly.graph().name_of(id) => continue,
                    name => self.assembly.fresh(&name),
                },
            };
            self.assembly.rename(id, name);
        }
    }
}

impl Scope<'_> {
    /// The node with its name made unique to the scope, and references to attributes of the call replaced by their
    /// values.
    fn resolve<'n>(&self, node: &'n NodeProto) -> Result<Cow<'n, NodeProto>> {
        let refers = node.attribute.iter().any(|a| !a.ref_attr_name.is_empty());
        if self.prefix.is_none() && !refers {
            return Ok(Cow::Borrowed(node));
        }
        let mut node = node.clone();
        if let Some(prefix) = &self.prefix {
            node.name = join(prefix, node_name(&node));
        }
        let Some(attributes) = self.attributes else {
            return match refers {
                false => Ok(Cow::Owned(node)),
                true => {
                    Err(Error::model(short(node_name(&node)), "attribute", "a value", "a reference outside a function"))
                }
            };
        };
        let resolved = node.attribute.iter().filter_map(|a| match a.ref_attr_name.as_str() {
            "" => Some(a.clone()),
            // An attribute that the call leaves out is left out of the node too.
            outer => attributes.get(outer).map(|value| AttributeProto { name: a.name.clone(), ..value.clone() }),
        });
        node.attribute = resolved.collect();
        Ok(Cow::Owned(node))
    }
}
