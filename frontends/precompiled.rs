//! A compiled library as a model.
//!
//! In: a library. Out: what a model file tells (inputs, metadata), and the program of the set of shapes that is asked for, ready
//! to run. It has no graph and compiles nothing.

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
    /// Reads the signature of a library and chooses the level: number `level`, or the best that this processor runs.
    ///
    /// # Errors
    /// [`Error::Runtime`] if the processor runs none, [`Error::Input`] if the signature is not one.
    pub fn new(library: Library, level: Option<u32>) -> Result<Self> {
        let signature = Signature::parse(library.signature())?;
        let level = level.map_or_else(|| library.best_level(), Ok)?;
        if signature.stats.len() != library.bindings() {
            let (expected, found) = (format!("{} bindings", library.bindings()), signature.stats.len().to_string());
            return Err(Error::input("signature of the library", expected, found));
        }
        let inputs = declarations(&library);
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
            let ports = self.library.inputs(*number);
            ports.iter().zip(&self.inputs).all(|(port, input)| fits(port, input, bindings))
        };
        (0..self.library.bindings()).find(fits).ok_or_else(|| {
            let text = |number: usize| {
                let ports = self.library.inputs(number).iter();
                ports.map(|port| format!("{} {}", port.name, port.shape)).collect::<Vec<_>>().join(", ")
            };
            let expected: Vec<String> = (0..self.library.bindings()).map(text).collect();
            let dims = bindings.dims.iter().map(|(name, extent)| format!("{name}={extent}"));
            let shapes = bindings.shapes.iter().map(|(name, shape)| format!("{name} {shape:?}"));
            let found: Vec<String> = dims.chain(shapes).collect();
            Error::usage(
                "shapes",
                format!("one of those the library was compiled for ({})", expected.join("; ")),
                found.join(", "),
            )
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

/// Whether an input has every extent that is asked of it.
fn fits(port: &Port, input: &InputDecl, bindings: &Bindings) -> bool {
    let shape = bindings.shapes.get(&port.name);
    let dim = |(axis, dim): (usize, &Dim)| {
        let batch = if axis == 0 { bindings.dims.get("batch") } else { None };
        let named = match dim {
            Dim::Symbol(name) => bindings.dims.get(name),
            _ => None,
        };
        [batch, named].into_iter().flatten().all(|extent| *extent == port.shape[axis])
    };
    shape.is_none_or(|shape| shape[..] == port.shape[..]) && input.dims.iter().enumerate().all(dim)
}

/// The inputs, with a name for every extent in which the sets of shapes differ.
fn declarations(library: &Library) -> Vec<InputDecl> {
    let sets = || (0..library.bindings()).map(|number| library.inputs(number));
    let declare = |(index, port): (usize, &Port)| {
        let same = |axis: usize| {
            let extents = sets().map(|ports| ports.get(index).and_then(|port| port.shape.get(axis)));
            extents.into_iter().all(|extent| extent == port.shape.get(axis))
        };
        let dim = |(axis, extent): (usize, &usize)| match axis {
            _ if same(axis) => Dim::Known(*extent),
            0 => Dim::Symbol("batch".into()),
            _ => Dim::Symbol(format!("{}.{axis}", port.name)),
        };
        let dims = port.shape.iter().enumerate().map(dim).collect();
        InputDecl { name: port.name.clone(), dtype: port.dtype, dims, ranked: true }
    };
    library.inputs(0).iter().enumerate().map(declare).collect()
}
