//! Declared inputs of an ONNX graph, and the sizes that make them static.
//!
//! In: declared dimensions and a [`Bindings`]. Out: one static shape per input. A given shape (or value) of an input
//! wins, then a dimension's name; axis 0 of an input counts as the batch whatever its name: `batch` binds it, and it
//! defaults to 1. A name has one size in the whole model. Everything that stays unbound is listed in one error.

use std::collections::BTreeMap;

use fornax_ir::inputs::{Bindings, Dim, InputDecl};
use fornax_ir::types::{DType, Shape, TensorType};

use crate::error::{Error, Result, short};
use crate::limits::Limits;
use crate::proto::{DimensionValue, TypeProto, ValueInfoProto};
use crate::tensors::element_type;

/// The dimension name that stands for axis 0 of every input.
const BATCH: &str = "batch";

/// A declared tensor type: element type, and dimensions unless the type is unranked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    pub dtype: DType,
    pub dims: Option<Vec<Dim>>,
}

/// Reads a declared type; `None` if no type is declared.
pub(crate) fn declared(place: &str, ty: Option<&TypeProto>) -> Result<Option<Declared>> {
    let Some(ty) = ty else { return Ok(None) };
    let Some(tensor) = &ty.tensor_type else {
        return Err(Error::model(place, "type", "a tensor type", "another type"));
    };
    let dtype = element_type(tensor.elem_type).map_err(|e| Error::model(place, "element type", "a numeric type", e))?;
    let dim = |value: &Option<DimensionValue>| match value {
        Some(DimensionValue::Extent(extent)) => usize::try_from(*extent).map_or(Dim::Unknown, Dim::Known),
        Some(DimensionValue::Symbol(name)) if !name.is_empty() => Dim::Symbol(name.clone()),
        _ => Dim::Unknown,
    };
    let dims = tensor.shape.as_ref().map(|shape| shape.dim.iter().map(|d| dim(&d.value)).collect());
    Ok(Some(Declared { dtype, dims }))
}

/// The declaration of a graph input.
pub(crate) fn input_decl(info: &ValueInfoProto) -> Result<InputDecl> {
    let place = format!("input {}", short(&info.name));
    let ty =
        declared(&place, info.r#type.as_ref())?.ok_or_else(|| Error::model(&place, "type", "a tensor type", "none"))?;
    let ranked = ty.dims.is_some();
    Ok(InputDecl { name: info.name.clone(), dtype: ty.dtype, dims: ty.dims.unwrap_or_default(), ranked })
}

/// Whether a static shape is one of the declared shapes; symbols and unknown dimensions match any extent.
pub(crate) fn matches(dims: &[Dim], shape: &[usize]) -> bool {
    dims.len() == shape.len() && dims.iter().zip(shape).all(|(d, n)| !matches!(d, Dim::Known(k) if k != n))
}

/// The declared dimensions as text: `[N,3,?]`.
pub(crate) fn show(dims: &[Dim]) -> String {
    let dim = |d: &Dim| match d {
        Dim::Known(n) => n.to_string(),
        Dim::Symbol(name) => short(name),
        Dim::Unknown => "?".into(),
    };
    format!("[{}]", dims.iter().map(dim).collect::<Vec<_>>().join(","))
}

/// The static shape of every input.
pub(crate) fn bind(inputs: &[InputDecl], bindings: &Bindings, limits: &Limits) -> Result<Vec<Shape>> {
    let sizes = symbol_sizes(inputs, bindings)?;
    let mut unbound = Vec::new();
    let mut shapes = Vec::with_capacity(inputs.len());
    for input in inputs {
        let shape = match bindings.shape(&input.name) {
            Some(shape) => shape.to_vec(),
            None => bind_input(input, &sizes, bindings, &mut unbound),
        };
        shapes.push(Shape::from(shape));
    }
    if !unbound.is_empty() {
        return Err(Error::Unbound(unbound));
    }
    for (input, shape) in inputs.iter().zip(&shapes) {
        check_value(input, shape, bindings)?;
        limits.check_shape(&input.name, shape)?;
    }
    Ok(shapes)
}

/// Fails if the value given for an input is not of its type.
fn check_value(input: &InputDecl, shape: &Shape, bindings: &Bindings) -> Result<()> {
    let ty = TensorType::new(input.dtype, shape.clone());
    match bindings.values.get(&input.name) {
        Some(value) if value.ty != ty || value.bytes().is_none_or(|b| b.len() != ty.bytes()) => {
            let (name, expected) = (short(&input.name), format!("a value of {ty}"));
            Err(Error::Binding { name, expected, found: value.ty.to_string() })
        }
        _ => Ok(()),
    }
}

/// The shape of an input whose shape is not given; what has no size is added to `unbound`.
fn bind_input(
    input: &InputDecl,
    sizes: &BTreeMap<&str, usize>,
    bindings: &Bindings,
    unbound: &mut Vec<String>,
) -> Vec<usize> {
    let name = short(&input.name);
    if !input.ranked {
        unbound.push(format!("all of input {name}, which declares no rank"));
    }
    let mut size = |(axis, dim): (usize, &Dim)| match dim {
        Dim::Known(n) => *n,
        Dim::Symbol(symbol) if sizes.contains_key(symbol.as_str()) => sizes[symbol.as_str()],
        _ if axis == 0 => bindings.dims.get(BATCH).copied().unwrap_or(1),
        Dim::Symbol(symbol) => {
            unbound.push(format!("{} (axis {axis} of input {name})", short(symbol)));
            0
        }
        Dim::Unknown => {
            unbound.push(format!("axis {axis} of input {name}, which has no name"));
            0
        }
    };
    input.dims.iter().enumerate().map(&mut size).collect()
}

/// The extent of every symbol that has one, checked against the declarations.
fn symbol_sizes<'a>(inputs: &'a [InputDecl], bindings: &'a Bindings) -> Result<BTreeMap<&'a str, usize>> {
    let mut sizes: BTreeMap<&str, usize> = BTreeMap::new();
    for (name, shape) in bindings.given() {
        let wrong =
            |expected: String| Error::Binding { name: short(name), expected, found: Shape::from(shape).to_string() };
        let Some(input) = inputs.iter().find(|i| i.name == name) else {
            let names: Vec<String> = inputs.iter().map(|i| short(&i.name)).collect();
            return Err(wrong(format!("one of the inputs {}", names.join(", "))));
        };
        if input.ranked && !matches(&input.dims, shape) {
            return Err(wrong(format!("a shape that fits {}", show(&input.dims))));
        }
        for (dim, size) in input.dims.iter().zip(shape) {
            let Dim::Symbol(symbol) = dim else { continue };
            if *sizes.entry(symbol).or_insert(*size) != *size {
                return Err(wrong(format!("one size for {}", short(symbol))));
            }
        }
    }
    let symbols = || {
        inputs.iter().flat_map(|i| &i.dims).filter_map(|d| match d {
            Dim::Symbol(name) => Some(name.as_str()),
            _ => None,
        })
    };
    for (name, size) in &bindings.dims {
        if symbols().any(|s| s == name) {
            sizes.entry(name).or_insert(*size);
        } else if name != BATCH {
            let mut names: Vec<&str> = symbols().collect();
            names.sort_unstable();
            names.dedup();
            let expected = format!("one of the dimensions {}", names.join(", "));
            return Err(Error::Binding { name: short(name), expected, found: "a name the model does not have".into() });
        } else {
            check_batch(inputs, *size)?;
        }
    }
    // Axis 0 is the batch whatever its name: the name then has that size on every other axis too.
    let batch = bindings.dims.get(BATCH).copied().unwrap_or(1);
    for input in inputs.iter().filter(|i| bindings.shape(&i.name).is_none()) {
        if let Some(Dim::Symbol(symbol)) = input.dims.first() {
            sizes.entry(symbol).or_insert(batch);
        }
    }
    Ok(sizes)
}

/// Fails if `batch` is asked of a model whose first axes are all fixed to something else.
fn check_batch(inputs: &[InputDecl], batch: usize) -> Result<()> {
    let first = |i: &InputDecl| i.dims.first().cloned().unwrap_or(Dim::Unknown);
    let fixed = inputs.iter().map(first).all(|d| matches!(d, Dim::Known(n) if n != batch));
    match inputs.first() {
        Some(input) if fixed => Err(Error::Binding {
            name: BATCH.into(),
            expected: format!("the fixed axis 0 of input {} {}", short(&input.name), show(&input.dims)),
            found: batch.to_string(),
        }),
        _ => Ok(()),
    }
}
