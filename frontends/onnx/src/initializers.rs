//! The tensors that a graph holds.
//!
//! In: dense and sparse initializers of the file. Out: constants by name. Initializers of one name must be equal. Those of element types
//! that the IR does not have are kept by what they are: a node that reads one is refused, one that nobody reads does no harm.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use fornax_ir::types::Constant;

use crate::error::{Error, Result, short};
use crate::narrow::{self, Narrow};
use crate::proto::GraphProto;
use crate::sparse;
use crate::tensors::TensorLoader;

/// The tensors that a graph holds.
#[derive(Default)]
pub(crate) struct Initializers {
    /// Those that are known, by name.
    pub constants: BTreeMap<String, Constant>,
    /// Those of fewer than 8 bits and of 8-bit floats, as they are carried, by name.
    pub narrow: BTreeMap<String, (Constant, Narrow)>,
    /// Why the others are not, by name.
    pub foreign: BTreeMap<String, Vec<String>>,
}

impl Initializers {
    /// Reads those of a graph.
    pub fn of(graph: &GraphProto, loader: &TensorLoader) -> Result<Self> {
        let mut found = Self::default();
        for tensor in &graph.initializer {
            if let Some(narrow) = narrow::load(loader, tensor, &tensor.name)? {
                found.add_narrow(&tensor.name, narrow)?;
                continue;
            }
            found.add(&tensor.name, loader.load(tensor, &tensor.name))?;
        }
        for tensor in &graph.sparse_initializer {
            let name = tensor.values.as_ref().map_or("", |values| &values.name);
            found.add(name, sparse::load(loader, tensor, name))?;
        }
        Ok(found)
    }

    fn add_narrow(&mut self, name: &str, (constant, kind): (Constant, Narrow)) -> Result<()> {
        if name.is_empty() {
            return Err(Error::model("graph", "initializer", "a name", "none"));
        }
        if self.contains(name) {
            return Err(Error::tensor(short(name), "name", "a unique one", "two initializers of this name"));
        }
        self.narrow.insert(name.to_string(), (constant.with_origins(vec![name.to_string()]), kind));
        Ok(())
    }

    fn add(&mut self, name: &str, loaded: Result<Constant>) -> Result<()> {
        if name.is_empty() {
            return Err(Error::model("graph", "initializer", "a name", "none"));
        }
        let twice = || Error::tensor(short(name), "name", "a unique one", "two initializers of this name");
        match loaded {
            Ok(_) if self.foreign.contains_key(name) || self.narrow.contains_key(name) => Err(twice()),
            Ok(constant) => match self.constants.entry(name.to_string()) {
                Entry::Vacant(place) => {
                    place.insert(constant.with_origins(vec![name.to_string()]));
                    Ok(())
                }
                Entry::Occupied(other) => {
                    let equal = other.get().ty == constant.ty && other.get().bytes() == constant.bytes();
                    if equal { Ok(()) } else { Err(twice()) }
                }
            },
            Err(Error::Unsupported(_)) if self.contains(name) => Err(twice()),
            Err(Error::Unsupported(why)) => {
                self.foreign.insert(name.to_string(), why);
                Ok(())
            }
            Err(other) => Err(other),
        }
    }

    /// Adds one under a name that none has.
    pub fn insert(&mut self, name: &str, constant: Constant) {
        self.constants.insert(name.to_string(), constant);
    }

    /// Takes one away.
    pub fn remove(&mut self, name: &str) {
        self.constants.remove(name);
        self.narrow.remove(name);
        self.foreign.remove(name);
    }

    /// Whether there is one of this name.
    pub fn contains(&self, name: &str) -> bool {
        self.constants.contains_key(name) || self.narrow.contains_key(name) || self.foreign.contains_key(name)
    }

    /// Their names.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.constants.keys().chain(self.narrow.keys()).chain(self.foreign.keys()).map(String::as_str)
    }
}
