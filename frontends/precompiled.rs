//! A compiled library as a model.
//!
//! In: a library. Out: what a model file tells (inputs, metadata), and the program of the set of shapes that is asked for, ready
//! to run. It has no graph and compiles nothing.

use std::collections::BTreeMap;

use fornax_compiler::target::Target;
use fornax_onnx::{Bindings, Dim, InputDecl};
use fornax_runtime::artifact::LEVELS;
use fornax_runtime::{Library, Port, Program};

use crate::error::{Error, Result};
use crate::signature::Signature;

/// An opened library.
pub(crate) struct Precompiled {
    pub library: Library,
    pub signature: Signature,
    pub inputs: Vec<InputDecl>,
    pub outputs: Vec<String>,
    /// Number of the level to use.
    level: u32,
}

impl Precompiled {
    /// Reads the signature of a library and chooses the level: that of `target`, or the best that this processor runs.
    ///
    /// # Errors
    /// [`Error::Usage`] if the library has no code for the target, [`Error::Runtime`] if the processor runs none of its levels,
    /// [`Error::Input`] if the signature is not one.
    pub fn new(library: Library, target: Option<&Target>) -> Result<Self> {
        let signature = Signature::parse(library.signature())?;
        let level = match target {
            None => library.best_level()?,
            Some(target) => {
                let levels = library.levels();
                let named = levels.iter().find(|(_, name)| *name == target.to_string());
                let names = || levels.iter().map(|(_, name)| *name).collect::<Vec<_>>().join(", ");
                let absent =
                    || Error::usage("target", format!("one of the library's ({})", names()), target.to_string());
                named.ok_or_else(absent)?.0
            }
        };
        if signature.stats.len() != library.bindings() {
            let (expected, found) = (format!("{} bindings", library.bindings()), signature.stats.len().to_string());
            return Err(Error::input("signature of the library", expected, found));
        }
        let inputs = declarations(&library, &signature.dims);
        let outputs = library.outputs(0).iter().map(|port| port.name.clone()).collect();
        Ok(Self { library, signature, inputs, outputs, level })
    }

    /// Name of the level.
    pub fn level(&self) -> &'static str {
        let named = self.library.levels().into_iter().chain(LEVELS).find(|(number, _)| *number == self.level);
        named.map_or("unknown", |(_, name)| name)
    }

    /// The set of shapes that `bindings` ask for: the first that has every extent they give.
    ///
    /// # Errors
    /// [`Error::Usage`] listing the sets if there is none.
    pub fn find(&self, bindings: &Bindings) -> Result<usize> {
        let fits = |number: &usize| {
            let named = &self.signature.dims[*number];
            let ports = self.library.inputs(*number);
            let dims = |(name, extent): (&String, &usize)| match named.get(name) {
                Some(own) => own == extent,
                None => ports.iter().zip(&self.inputs).all(|(port, input)| has(port, input, name, *extent)),
            };
            let shape = |port: &Port| bindings.shapes.get(&port.name).is_none_or(|shape| shape[..] == port.shape[..]);
            bindings.dims.iter().all(dims) && ports.iter().all(shape)
        };
        (0..self.library.bindings()).find(fits).ok_or_else(|| {
            let text = |number: usize| {
                let ports = self.library.inputs(number).iter();
                ports.map(|port| format!("{} {}", port.name, port.shape)).collect::<Vec<_>>().join(", ")
            };
            let expected: Vec<String> = (0..self.library.bindings()).map(text).collect();
            let dims = bindings.dims.iter().map(|(name, extent)| format!("{name}={extent}"));
            let shapes = bindings.shapes.iter().map(|(name, shape)| format!("{name} {shape:?}"));
            let (expected, found) = (expected.join("; "), dims.chain(shapes).collect::<Vec<_>>().join(", "));
            let expected = format!("one of those the library was compiled for ({expected})");
            // The shape of a tensor is input, not usage.
            match bindings.dims.is_empty() {
                true => Error::input("shapes", expected, found),
                false => Error::usage("shapes", expected, found),
            }
        })
    }

    /// The program for a set of shapes.
    ///
    /// # Errors
    /// [`Error::Runtime`] if the processor cannot run the level.
    pub fn program(&self, binding: usize) -> Result<Program> {
        Ok(self.library.program(binding, self.level)?)
    }
}

/// Whether an input has an extent wherever it has a dimension of this name; `batch` is its first.
fn has(port: &Port, input: &InputDecl, name: &str, extent: usize) -> bool {
    let named = |(axis, dim): (usize, &Dim)| match dim {
        _ if axis == 0 && name == "batch" => true,
        Dim::Symbol(own) => own == name,
        _ => false,
    };
    input.dims.iter().enumerate().filter(|dim| named(*dim)).all(|(axis, _)| port.shape.get(axis) == Some(&extent))
}

/// The inputs, with a name for every extent in which the sets of shapes differ.
fn declarations(library: &Library, named: &[BTreeMap<String, usize>]) -> Vec<InputDecl> {
    let sets = || (0..library.bindings()).map(|number| library.inputs(number));
    let declare = |(index, port): (usize, &Port)| {
        let same = |axis: usize| {
            let extents = sets().map(|ports| ports.get(index).and_then(|port| port.shape.get(axis)));
            extents.into_iter().all(|extent| extent == port.shape.get(axis))
        };
        // The name that gave this extent in every set of shapes, as far as they can tell.
        let name = |axis: usize| {
            let is = |name: &&String| {
                let extent = |ports: &[Port]| ports.get(index).and_then(|port| port.shape.get(axis)).copied();
                sets().zip(named).all(|(ports, dims)| extent(ports) == dims.get(*name).copied())
            };
            named.first().and_then(|dims| dims.keys().find(is)).cloned()
        };
        let dim = |(axis, extent): (usize, &usize)| match axis {
            _ if same(axis) => Dim::Known(*extent),
            0 => Dim::Symbol("batch".into()),
            _ => Dim::Symbol(name(axis).unwrap_or_else(|| format!("{}.{axis}", port.name))),
        };
        let dims = port.shape.iter().enumerate().map(dim).collect();
        InputDecl { name: port.name.clone(), dtype: port.dtype, dims, ranked: true }
    };
    library.inputs(0).iter().enumerate().map(declare).collect()
}
