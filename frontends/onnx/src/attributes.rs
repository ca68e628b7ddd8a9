//! Typed access to a node's attributes; every error names the node and the attribute.

use fornax_ir::types::Constant;

use crate::error::{Error, Result, short};
use crate::narrow::{self, Narrow};
use crate::proto::{AttributeProto, GraphProto, NodeProto, attribute_type as kind};
use crate::sparse;
use crate::tensors::TensorLoader;

/// The attributes of one node.
#[derive(Clone, Copy)]
pub(crate) struct Attributes<'a> {
    pub(crate) node: &'a NodeProto,
    pub(crate) loader: &'a TensorLoader,
}

impl<'a> Attributes<'a> {
    /// Whether the node has the attribute.
    pub fn has(&self, name: &str) -> bool {
        self.node.attribute.iter().any(|a| a.name == name)
    }

    /// An integer, `default` where absent.
    pub fn int(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.find(name, kind::INT)?.map_or(default, |a| a.i.unwrap_or(0)))
    }

    /// An integer that says no or yes by 0 or 1.
    pub fn flag(&self, name: &str, default: bool) -> Result<bool> {
        match self.int(name, default.into())? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(self.error(name, "0 or 1", other.to_string())),
        }
    }

    /// A number, `default` where absent.
    pub fn float(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.find(name, kind::FLOAT)?.map_or(default, |a| a.f.unwrap_or(0.0)))
    }

    /// A string, `default` where absent.
    pub fn string(&self, name: &str, default: &'a str) -> Result<&'a str> {
        let Some(attribute) = self.find(name, kind::STRING)? else { return Ok(default) };
        self.utf8(name, attribute.s.as_deref().unwrap_or(&[]))
    }

    /// A list of integers.
    pub fn ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        Ok(self.find(name, kind::INTS)?.map(|a| a.ints.clone()))
    }

    /// A list of numbers.
    pub fn floats(&self, name: &str) -> Result<Option<Vec<f32>>> {
        Ok(self.find(name, kind::FLOATS)?.map(|a| a.floats.clone()))
    }

    /// A list of strings.
    pub fn strings(&self, name: &str) -> Result<Option<Vec<&'a str>>> {
        let Some(attribute) = self.find(name, kind::STRINGS)? else { return Ok(None) };
        attribute.strings.iter().map(|bytes| self.utf8(name, bytes)).collect::<Result<_>>().map(Some)
    }

    /// A tensor.
    pub fn tensor(&self, name: &str) -> Result<Option<Constant>> {
        let Some(attribute) = self.find(name, kind::TENSOR)? else { return Ok(None) };
        let tensor = attribute.t.as_ref().ok_or_else(|| self.error(name, "a tensor", "none"))?;
        self.loader.load(tensor, &format!("{}.{name}", self.node_name())).map(Some)
    }

    /// A tensor of elements below 8 bits, or of 8-bit floats, as it is carried; `None` if it is of others.
    pub fn narrow_tensor(&self, name: &str) -> Result<Option<(Constant, Narrow)>> {
        let Some(tensor) = self.find(name, kind::TENSOR)?.and_then(|a| a.t.as_ref()) else { return Ok(None) };
        narrow::load(self.loader, tensor, &format!("{}.{name}", self.node_name()))
    }

    /// A sparse tensor, as a dense one.
    pub fn sparse_tensor(&self, name: &str) -> Result<Option<Constant>> {
        let Some(attribute) = self.find(name, kind::SPARSE_TENSOR)? else { return Ok(None) };
        let tensor = attribute.sparse_tensor.as_ref().ok_or_else(|| self.error(name, "a sparse tensor", "none"))?;
        sparse::load(self.loader, tensor, &format!("{}.{name}", self.node_name())).map(Some)
    }

    /// A graph.
    pub fn graph(&self, name: &str) -> Result<Option<&'a GraphProto>> {
        Ok(self.find(name, kind::GRAPH)?.and_then(|a| a.g.as_ref()))
    }

    /// An integer, if it is there.
    pub fn optional_int(&self, name: &str) -> Result<Option<i64>> {
        if self.has(name) { self.require_int(name).map(Some) } else { Ok(None) }
    }

    /// An integer that must be there.
    pub fn require_int(&self, name: &str) -> Result<i64> {
        self.require(name, self.has(name).then(|| self.int(name, 0)).transpose()?)
    }

    /// A number that must be there.
    pub fn require_float(&self, name: &str) -> Result<f32> {
        self.require(name, self.has(name).then(|| self.float(name, 0.0)).transpose()?)
    }

    /// A list of integers that must be there.
    pub fn require_ints(&self, name: &str) -> Result<Vec<i64>> {
        self.require(name, self.ints(name)?)
    }

    /// An error about attribute `name`.
    pub fn error(&self, name: &str, expected: impl Into<String>, found: impl Into<String>) -> Error {
        Error::Node {
            node: self.node_name(),
            op: short(&self.node.op_type),
            field: format!("attribute {}", short(name)),
            expected: expected.into(),
            found: found.into(),
        }
    }

    /// The node's name in messages.
    pub(crate) fn node_name(&self) -> String {
        short(node_name(self.node))
    }

    fn require<T>(&self, name: &str, value: Option<T>) -> Result<T> {
        value.ok_or_else(|| self.error(name, "a value", "none"))
    }

    fn utf8(&self, name: &str, bytes: &'a [u8]) -> Result<&'a str> {
        std::str::from_utf8(bytes).map_err(|_| self.error(name, "UTF-8 text", "other bytes"))
    }

    /// Fails if the attribute `name` is of another type than `wanted`, the code of one.
    pub fn expect_type(&self, name: &str, wanted: i32) -> Result<()> {
        self.find(name, wanted).map(drop)
    }

    /// The attribute `name`, which must be of type `wanted` and hold nothing else.
    fn find(&self, name: &str, wanted: i32) -> Result<Option<&'a AttributeProto>> {
        let Some(attribute) = self.node.attribute.iter().find(|a| a.name == name) else { return Ok(None) };
        let found = match attribute.r#type {
            // Files of IR version 1 leave the type out: the field that is filled tells it.
            0 => stored(attribute).first().copied().unwrap_or(wanted),
            declared => declared,
        };
        if found != wanted {
            return Err(self.error(name, kind::name(wanted), kind::name(found)));
        }
        match stored(attribute).into_iter().find(|stored| *stored != wanted) {
            None => Ok(Some(attribute)),
            Some(other) => Err(self.error(name, kind::name(wanted), format!("{} stored as well", kind::name(other)))),
        }
    }
}

/// The name of a node, or of its first output where it has none.
pub(crate) fn node_name(node: &NodeProto) -> &str {
    if !node.name.is_empty() {
        return &node.name;
    }
    node.output.iter().find(|o| !o.is_empty()).map_or("unnamed", String::as_str)
}

/// Types of the value fields that are filled.
fn stored(a: &AttributeProto) -> Vec<i32> {
    [
        (kind::FLOAT, a.f.is_some_and(|v| v != 0.0)),
        (kind::INT, a.i.is_some_and(|v| v != 0)),
        (kind::STRING, a.s.as_ref().is_some_and(|v| !v.is_empty())),
        (kind::TENSOR, a.t.is_some()),
        (kind::GRAPH, a.g.is_some()),
        (kind::FLOATS, !a.floats.is_empty()),
        (kind::INTS, !a.ints.is_empty()),
        (kind::STRINGS, !a.strings.is_empty()),
        (kind::SPARSE_TENSOR, a.sparse_tensor.is_some()),
    ]
    .into_iter()
    .filter_map(|(code, filled)| filled.then_some(code))
    .collect()
}
