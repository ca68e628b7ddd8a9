//! Inputs of a model as declared, before their shapes are known, and what makes them static.
//!
//! A frontend turns declarations and [`Bindings`] into a graph of static shapes.

use std::collections::BTreeMap;
use std::fmt;

use crate::types::{Constant, DType};

/// A dimension of a declared type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Dim {
    /// A fixed extent.
    Known(usize),
    /// A name; the same name has the same extent everywhere.
    Symbol(String),
    /// Neither an extent nor a name.
    Unknown,
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Known(extent) => write!(f, "{extent}"),
            Self::Symbol(name) => f.write_str(name),
            Self::Unknown => f.write_str("?"),
        }
    }
}

/// An input of a model, as declared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InputDecl {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Its declared dimensions; empty where `ranked` is false.
    pub dims: Vec<Dim>,
    /// Whether the number of axes is declared at all. If not, the input's shape must be given.
    pub ranked: bool,
}

impl InputDecl {
    /// Its declared type as text: `f32[batch,3,96,96]`.
    pub fn ty(&self) -> String {
        let dims: Vec<String> = self.dims.iter().map(ToString::to_string).collect();
        if self.ranked { format!("{}[{}]", self.dtype, dims.join(",")) } else { format!("{} of any rank", self.dtype) }
    }
}

/// Sizes, and where needed values, for what a model leaves open.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Bindings {
    /// Extent of named dimensions; `batch` is axis 0 of every input, whatever its name.
    pub dims: BTreeMap<String, usize>,
    /// Whole shapes, by input name.
    pub shapes: BTreeMap<String, Vec<usize>>,
    /// Values of whole inputs, by name, for models that take axes, bounds or shapes as inputs. The graph keeps such an
    /// input but does not read it: it is right for this value only, and the caller compares.
    pub values: BTreeMap<String, Constant>,
}

impl Bindings {
    /// The given shape of an input.
    pub fn shape(&self, input: &str) -> Option<&[usize]> {
        let value = || self.values.get(input).map(|v| &v.ty.shape[..]);
        self.shapes.get(input).map(Vec::as_slice).or_else(value)
    }

    /// Every input whose shape is given, with that shape.
    pub fn given(&self) -> impl Iterator<Item = (&str, &[usize])> {
        let shapes = self.shapes.iter().map(|(name, shape)| (name.as_str(), shape.as_slice()));
        shapes.chain(self.values.iter().map(|(name, value)| (name.as_str(), &value.ty.shape[..])))
    }
}
