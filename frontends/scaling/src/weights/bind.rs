//! A state dict matched against an architecture.
//!
//! In: a [`StateDict`], an [`Architecture`], a [`Scheme`]. Out: a [`Bound`], or one error with every tensor that is missing,
//! unexpected, misshapen, of a type without conversion, or a variance that cannot be one.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use fornax_ir::types::{Constant, TensorType};
use safetensors::Dtype;

use super::Weights;
use super::error::{Error, Result};
use super::file::{StateDict, Tensor};
use super::outline::Outline;
use super::random::Random;
use super::schemes::Scheme;
use crate::architecture::Architecture;
use crate::layers::Part;
use crate::parameters::{Parameter, Role, parameters};

/// Where the classifier's weights come from.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Classifier {
    /// The file.
    #[default]
    File,
    /// A seed; what the file has is left aside.
    Seeded(u64),
    /// Nowhere: the graph ends before it. What the file has is left aside.
    Unused,
}

/// Weights of one architecture, all checked.
#[derive(Clone, Debug)]
pub struct Bound {
    tensors: BTreeMap<String, Tensor>,
    scheme: Scheme,
    classifier: Classifier,
}

impl StateDict {
    /// Matches every tensor against the parameters of `architecture`, named as in `scheme`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with all tensors that do not fit.
    pub fn bind(&self, architecture: &Architecture, scheme: Scheme, classifier: Classifier) -> Result<Bound> {
        let mut matching = Matching { state: self, scheme, used: BTreeSet::new(), faults: Vec::new() };
        let mut tensors = BTreeMap::new();
        for parameter in parameters(architecture) {
            if classifier != Classifier::File && parameter.part == Part::Classifier {
                matching.leave_aside(architecture, &parameter);
            } else if let Some(tensor) = matching.find(architecture, &parameter) {
                tensors.insert(parameter.name, tensor.clone());
            }
        }
        matching.refuse_unexpected();
        matching.compare_outlines(architecture);
        if matching.faults.is_empty() {
            return Ok(Bound { tensors, scheme, classifier });
        }
        Err(Error::Mismatch {
            source_name: self.source_name.clone(),
            architecture: architecture.name.clone(),
            scheme: scheme.name(),
            faults: matching.faults,
        })
    }
}

struct Matching<'a> {
    state: &'a StateDict,
    scheme: Scheme,
    used: BTreeSet<String>,
    faults: Vec<String>,
}

impl<'a> Matching<'a> {
    /// The tensor of `parameter`; notes what is wrong with it.
    fn find(&mut self, architecture: &Architecture, parameter: &Parameter) -> Option<&'a Tensor> {
        let names = self.scheme.names(architecture, parameter);
        let shape = self.scheme.stored_shape(parameter);
        let Some((name, tensor)) = names.iter().find_map(|name| self.state.tensors.get_key_value(name)) else {
            self.faults.push(match names.first() {
                Some(name) => format!("missing: {name} {shape:?}"),
                None => format!("missing: {} {shape:?}, which {} has no name for", parameter.name, self.scheme.name()),
            });
            return None;
        };
        self.used.insert(name.clone());
        let origin = &tensor.origin;
        if tensor.shape != shape {
            let hint = if parameter.part == Part::Classifier {
                " (the classifier can be made anew for other classes)"
            } else {
                ""
            };
            self.faults.push(format!("misshapen: {origin}: expected {shape:?}, found {:?}{hint}", tensor.shape));
            return None;
        }
        if width(tensor.dtype).is_none() {
            let found = tensor.dtype;
            self.faults.push(format!("type: {origin}: expected F32, F16, BF16 or F64, found {found:?}"));
            return None;
        }
        if let Some(found) = not_finite(tensor) {
            self.faults.push(format!("values: {origin}: expected finite ones, found {found}"));
            return None;
        }
        if parameter.role == Role::Variance {
            let wrong = floats(tensor).into_iter().find(|v| *v < 0.0);
            if let Some(found) = wrong {
                self.faults.push(format!("variance: {origin}: expected values from 0 on, found {found}"));
                return None;
            }
        }
        Some(tensor)
    }

    fn leave_aside(&mut self, architecture: &Architecture, parameter: &Parameter) {
        self.used.extend(self.scheme.names(architecture, parameter));
    }

    /// Puts first, before faults, that this is another network.
    fn compare_outlines(&mut self, architecture: &Architecture) {
        let (expected, found) = (Outline::of(architecture), self.state.outline(architecture, self.scheme));
        let other = Outline { classes: expected.classes, ..found } != expected;
        if other && !self.faults.is_empty() {
            self.faults.insert(0, format!("network: expected {expected}; found {found}"));
        }
    }

    fn refuse_unexpected(&mut self) {
        for (name, tensor) in &self.state.tensors {
            if !self.used.contains(name) && !self.scheme.ignores(name) {
                self.faults.push(format!("unexpected: {} {:?}", tensor.origin, tensor.shape));
            }
        }
    }
}

impl Weights for Bound {
    fn constant(&self, parameter: &Parameter) -> Result<Constant> {
        if let (Classifier::Seeded(seed), Part::Classifier) = (self.classifier, parameter.part) {
            return Random { seed }.constant(parameter);
        }
        let tensor = self.tensors.get(&parameter.name).ok_or_else(|| Error::Unknown(parameter.name.clone()))?;
        let elements = match tensor.dtype {
            Dtype::F32 => tensor.bytes.clone(),
            _ => to_bytes(&floats(tensor)),
        };
        let elements = match self.scheme.permutation(parameter) {
            Some(axes) => permuted(&elements, &tensor.shape, axes),
            None => elements,
        };
        let ty = TensorType::f32(parameter.shape.clone());
        if elements.len() != ty.bytes() {
            return Err(Error::Unknown(parameter.name.clone()));
        }
        Ok(Constant::from_bytes(ty, elements).with_origins(vec![tensor.origin.clone()]))
    }
}

/// Bytes of an element of a type that converts to `f32`.
fn width(dtype: Dtype) -> Option<usize> {
    match dtype {
        Dtype::F16 | Dtype::BF16 => Some(2),
        Dtype::F32 => Some(4),
        Dtype::F64 => Some(8),
        _ => None,
    }
}

/// The first element that is infinite or no number.
fn not_finite(tensor: &Tensor) -> Option<f32> {
    const EXPONENT: u32 = 0x7f80_0000;
    if tensor.dtype == Dtype::F32 {
        let finite = |c: &[u8; 4]| u32::from_le_bytes(*c) & EXPONENT != EXPONENT;
        let chunks = tensor.bytes.as_chunks().0;
        return chunks.iter().find(|c| !finite(c)).map(|c| f32::from_le_bytes(*c));
    }
    floats(tensor).into_iter().find(|value| !value.is_finite())
}

/// The elements as `f32`; none if the type does not convert.
fn floats(tensor: &Tensor) -> Vec<f32> {
    let Some(width) = width(tensor.dtype) else { return Vec::new() };
    let chunks = tensor.bytes.chunks_exact(width);
    match tensor.dtype {
        Dtype::F16 => chunks.map(|c| half::f16::from_le_bytes([c[0], c[1]]).to_f32()).collect(),
        Dtype::BF16 => chunks.map(|c| half::bf16::from_le_bytes([c[0], c[1]]).to_f32()).collect(),
        Dtype::F64 => chunks.map(|c| f64::from_le_bytes(c.try_into().unwrap_or_default()) as f32).collect(),
        _ => chunks.map(|c| f32::from_le_bytes(c.try_into().unwrap_or_default())).collect(),
    }
}

fn to_bytes(values: &[f32]) -> Bytes {
    values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into()
}

/// Row-major elements of four bytes with axis `i` of the result taken from axis `axes[i]`.
fn permuted(elements: &Bytes, shape: &[usize], axes: &[usize]) -> Bytes {
    let mut strides = vec![1; shape.len()];
    for axis in (1..shape.len()).rev() {
        strides[axis - 1] = strides[axis] * shape[axis];
    }
    let (extents, steps): (Vec<usize>, Vec<usize>) = axes.iter().map(|axis| (shape[*axis], strides[*axis])).unzip();
    let mut out = Vec::with_capacity(elements.len());
    let mut at = vec![0; axes.len()];
    for _ in 0..elements.len() / 4 {
        let from: usize = at.iter().zip(&steps).map(|(i, step)| i * step).sum();
        out.extend_from_slice(&elements[4 * from..4 * from + 4]);
        for axis in (0..at.len()).rev() {
            at[axis] += 1;
            if at[axis] < extents[axis] {
                break;
            }
            at[axis] = 0;
        }
    }
    out.into()
}
