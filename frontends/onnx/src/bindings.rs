//! Declared inputs of an ONNX graph, and the sizes that make them static.
//!
//! In: declared dimensions and a [`Bindings`]. Out: one static shape per input. A given shape (or value) of an input
//! wins, then one axis of it (`x.2`), then a dimension's name; axis 0 of an input counts as the batch whatever its name: `batch`
//! binds it, and it defaults to 1. A name has one size in the whole model. Everything that stays unbound is listed in one error.
//! A batch of 1 that the file fixes is opened again where another is asked for.

use std::collections::BTreeMap;
use std::fmt;

use fornax_ir::inputs::{Bindings, Dim, InputDecl};
use fornax_ir::types::{DType, Shape, TensorType};

use crate::error::{Error, Result, short};
use crate::limits::Limits;
use crate::narrow::Narrow;
use crate::proto::{DimensionValue, TypeProto, ValueInfoProto};
use crate::tensors::{element_type, is_foreign};

/// The dimension name that stands for axis 0 of every input.
const BATCH: &str = "batch";

/// A declared tensor type: element type, and dimensions unless the type is unranked.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Declared {
    pub dtype: DType,
    pub dims: Option<Vec<Dim>>,
}

impl fmt::Display for Declared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.dims {
            Some(dims) => write!(f, "{}{}", self.dtype, show(dims)),
            None => write!(f, "{} of any rank", self.dtype),
        }
    }
}

/// Reads a declared type, of elements that the IR has not the one that carries them; `None` if no type is declared.
pub(crate) fn declared(place: &str, ty: Option<&TypeProto>) -> Result<Option<Declared>> {
    let Some(ty) = ty else { return Ok(None) };
    let Some(tensor) = &ty.tensor_type else {
        return Err(Error::Unsupported(vec![format!("{place}: a type other than dense tensors")]));
    };
    let carried = Narrow::of(tensor.elem_type).map(|narrow| Ok(narrow.carrier()));
    let dtype = carried.unwrap_or_else(|| element_type(tensor.elem_type)).map_err(|found| {
        match is_foreign(tensor.elem_type) {
            true => Error::Unsupported(vec![format!("{place}: elements of type {found}")]),
            false => Error::model(place, "element type", "a numeric type", found),
        }
    })?;
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
pub(crate) struct Bound {
    /// The shapes, in order of the inputs.
    pub shapes: Vec<Shape>,
    /// The batch, if the file fixes it to 1 and another was asked for.
    pub reopened: Option<usize>,
}

/// Binds everything that the declarations leave open.
pub(crate) fn bind(inputs: &[InputDecl], bindings: &Bindings, limits: &Limits) -> Result<Bound> {
    let mut inputs = inputs.to_vec();
    let mut bindings = bindings.clone();
    let reopened = bind_axes(&mut inputs, &mut bindings)?.or(reopen_batch(&mut inputs, &bindings));
    let shapes = static_shapes(&inputs, &bindings, limits)?;
    Ok(Bound { shapes, reopened })
}

/// Fixes the axes that [`Bindings::dims`] name as `x.2`: the extent of an axis without a name, the size of the name of others. The batch, where
/// that opens one that the file fixes to 1.
fn bind_axes(inputs: &mut [InputDecl], bindings: &mut Bindings) -> Result<Option<usize>> {
    let symbol = |name: &str| inputs.iter().flat_map(|i| &i.dims).any(|d| matches!(d, Dim::Symbol(s) if s == name));
    let (by_name, by_axis) = std::mem::take(&mut bindings.dims)
        .into_iter()
        .partition(|(name, _)| symbol(name) || axis_of(inputs, name).is_none());
    bindings.dims = by_name;
    let mut reopened = None;
    for (name, size) in by_axis {
        let Some((at, axis)) = axis_of(inputs, &name) else { continue };
        let whole = show(&inputs[at].dims);
        let wrong = |expected: String| Error::Binding { name: short(&name), expected, found: size.to_string() };
        let dim = &mut inputs[at].dims[axis];
        match dim {
            Dim::Symbol(symbol) => match bindings.dims.insert(symbol.clone(), size) {
                Some(other) if other != size => return Err(wrong(format!("one size for {}", short(symbol)))),
                _ => {}
            },
            Dim::Unknown => *dim = Dim::Known(size),
            Dim::Known(extent) if *extent == size => {}
            Dim::Known(1) if axis == 0 && reopened.is_none_or(|batch| batch == size) => {
                *dim = Dim::Known(size);
                reopened = Some(size);
            }
            Dim::Known(_) => {
                return Err(wrong(format!("the fixed axis {axis} of input {} {whole}", short(&inputs[at].name))));
            }
        }
    }
    Ok(reopened)
}

/// Opens axis 0 of the inputs that have it fixed to 1, where another batch is asked for and no input leaves it open.
fn reopen_batch(inputs: &mut [InputDecl], bindings: &Bindings) -> Option<usize> {
    let batch = *bindings.dims.get(BATCH).filter(|batch| **batch != 1)?;
    let named = |dim: &Dim| matches!(dim, Dim::Symbol(name) if name == BATCH);
    let open = |input: &InputDecl| !matches!(input.dims.first(), Some(Dim::Known(_))) || input.dims.iter().any(named);
    if inputs.iter().any(open) {
        return None;
    }
    let mut reopened = None;
    for dim in inputs.iter_mut().filter_map(|input| input.dims.first_mut()).filter(|dim| **dim == Dim::Known(1)) {
        *dim = Dim::Known(batch);
        reopened = Some(batch);
    }
    reopened
}

/// The input and the axis that `x.2` names.
fn axis_of(inputs: &[InputDecl], name: &str) -> Option<(usize, usize)> {
    let (input, axis) = name.rsplit_once('.')?;
    let (at, axis) = (inputs.iter().position(|i| i.name == input)?, axis.parse().ok()?);
    (axis < inputs[at].dims.len()).then_some((at, axis))
}

fn static_shapes(inputs: &[InputDecl], bindings: &Bindings, limits: &Limits) -> Result<Vec<Shape>> {
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
            let axes = "an axis of an input such as x.2";
            let expected = match &names[..] {
                [] => axes.to_string(),
                names => format!("one of the dimensions {}, or {axes}", names.join(", ")),
            };
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
