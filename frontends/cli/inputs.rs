//! `--input [NAME=]FILE`: tensors from files, matched to the inputs of a model.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use fornax::ir::types::random_values;
use fornax::tensors::{self, NamedTensor};
use fornax::{Bindings, DType, Dim, Error, InputDecl, Model, Options, Result, Tensor};

use crate::model_options::ModelArgs;

/// The tensors of one `--input`.
pub struct Given {
    /// The input they are for.
    name: Option<String>,
    path: PathBuf,
    tensors: Vec<NamedTensor>,
}

/// Reads the files.
pub fn read(arguments: &[String]) -> Result<Vec<Given>> {
    let one = |argument: &String| {
        let (name, path) = split(argument);
        Ok(Given { name: name.map(str::to_string), tensors: tensors::load(path)?, path: path.to_path_buf() })
    };
    arguments.iter().map(one).collect()
}

/// The name and the file of `[NAME=]FILE`, either of which may have `=` in it: no name where the whole argument is a file, else what comes before
/// the first `=` that a file follows.
fn split(argument: &str) -> (Option<&str>, &Path) {
    let whole = Path::new(argument);
    if whole.exists() {
        return (None, whole);
    }
    let places = || argument.match_indices('=').map(|(at, _)| at);
    let found = places().find(|at| Path::new(&argument[at + 1..]).exists()).or(places().next());
    found.map_or((None, whole), |at| (Some(&argument[..at]), Path::new(&argument[at + 1..])))
}

/// Opens the model, with its defaults as inputs that are among the names of the tensors given.
pub fn open(model: &ModelArgs, given: &[Given]) -> Result<Model> {
    let opened = model.open()?;
    let named = |default: &String| given.iter().any(|given| given.name.as_ref() == Some(default));
    let fed: Vec<String> = opened.defaults().into_iter().filter(named).collect();
    if fed.is_empty() { Ok(opened) } else { model.open_with(Options { fed, ..Options::default() }) }
}

/// Puts tensors in the order of the model's inputs.
///
/// A file given for an input holds one tensor, or one of that name. From other files, tensors go to the input of their
/// name, and those without such a name to the inputs that are left, in order.
pub fn assign(given: Vec<Given>, model: &Model) -> Result<Vec<Tensor>> {
    let inputs = model.inputs();
    let mut slots: Vec<Option<Tensor>> = inputs.iter().map(|_| None).collect();
    let mut unnamed = Vec::new();
    for Given { name, path, tensors } in given {
        let single = tensors.len() == 1;
        for NamedTensor { name: own, tensor } in tensors {
            let wanted = match &name {
                Some(_) if !single && own != name => continue,
                Some(name) => Some(name.clone()),
                None => own,
            };
            let at = inputs.iter().position(|input| Some(&input.name) == wanted.as_ref());
            match (at, wanted) {
                (Some(at), _) if slots[at].is_none() => slots[at] = Some(tensor),
                (Some(at), _) => {
                    return Err(Error::usage(
                        "--input",
                        "one tensor per input",
                        format!("two for {}", inputs[at].name),
                    ));
                }
                (None, own) if name.is_none() && (single || own.is_none()) => unnamed.push(tensor),
                (None, wanted) => {
                    let found = format!("{} ({})", wanted.unwrap_or_default(), path.display());
                    return Err(Error::usage("--input", format!("the name of an input ({})", names(inputs)), found));
                }
            }
        }
    }
    let found = unnamed.len() + slots.iter().flatten().count();
    if found != inputs.len() {
        let expected = format!("{} tensors ({})", inputs.len(), names(inputs));
        return Err(Error::usage("--input", expected, found.to_string()));
    }
    let mut unnamed = unnamed.into_iter();
    Ok(slots.into_iter().filter_map(|slot| slot.or_else(|| unnamed.next())).collect())
}

fn names(inputs: &[InputDecl]) -> String {
    inputs.iter().map(|input| input.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// The bindings of `base`, the shapes of tensors given for all inputs, and the values of those that decide shapes.
///
/// # Errors
/// [`Error::Usage`] if a tensor has another extent than `base` gives its dimension.
pub fn bindings(model: &Model, base: Bindings, tensors: &[Tensor]) -> Result<Bindings> {
    let mut shapes = BTreeMap::new();
    for (input, tensor) in model.inputs().iter().zip(tensors) {
        for (dim, found) in input.dims.iter().zip(tensor.shape().iter()) {
            let Dim::Symbol(name) = dim else { continue };
            if let Some(expected) = base.dims.get(name).filter(|expected| *expected != found) {
                let what = format!("{}: dimension {name}", input.name);
                return Err(Error::usage(what, format!("{expected}, as --dim says"), found.to_string()));
            }
        }
        if let Some(expected) = base.shapes.get(&input.name).filter(|expected| expected[..] != tensor.shape()[..]) {
            let found = tensor.shape().to_string();
            return Err(Error::usage(input.name.as_str(), format!("{expected:?}, as --shape says"), found));
        }
        shapes.insert(input.name.clone(), tensor.shape().to_vec());
    }
    model.with_values(Bindings { shapes, ..base }, &tensors.iter().collect::<Vec<_>>())
}

/// Seeded noise in [-1, 1) for float inputs, zeros for others, in the shapes that the bindings give.
pub fn noise(model: &Model, bindings: &Bindings) -> Result<Vec<Tensor>> {
    let mut tensors = Vec::new();
    for (seed, port) in model.input_ports(bindings)?.into_iter().enumerate() {
        let values = || random_values(seed as u64 + 1, port.shape.numel());
        tensors.push(match port.dtype {
            DType::F32 => Tensor::from_f32(&port.shape, &values())?,
            other => Tensor::zeros(other, &port.shape)?,
        });
    }
    Ok(tensors)
}
