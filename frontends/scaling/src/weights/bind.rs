//! A state dict matched against an architecture.
//!
//! In: a [`StateDict`], an [`Architecture`], a [`Scheme`]. Out: a [`Bound`], or one error with every tensor that is missing,
//! unexpected, misshapen, of a type without conversion, or a variance that cannot be one.

use std::collections::{BTreeMap, BTreeSet};

use fornax_ir::types::{Constant, TensorType};
use safetensors::Dtype;

use super::Weights;
use super::elements::{floats, not_finite, permuted, to_bytes, width};
use super::error::{Error, Result};
use super::file::{StateDict, Tensor};
use super::outline::Outline;
use super::random::Random;
use super::schemes::Scheme;
use super::stem::{self, COLOURS};
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

/// What may differ between a state dict and the network.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Fit {
    /// Where the classifier's weights come from.
    pub classifier: Classifier,
    /// Whether a stem over three channels is made one over those of the network, as timm does.
    pub adapt_stem: bool,
}

impl From<Classifier> for Fit {
    fn from(classifier: Classifier) -> Self {
        Self { classifier, adapt_stem: false }
    }
}

/// The least variance that is taken for 0: a sum of squares may be rounded to a little less.
const LEAST_VARIANCE: f32 = -1e-6;

/// Weights of one architecture, all checked.
#[derive(Clone, Debug)]
pub struct Bound {
    tensors: BTreeMap<String, Tensor>,
    scheme: Scheme,
    classifier: Classifier,
    notes: Vec<String>,
}

impl Bound {
    /// What was adapted, a line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }
}

impl StateDict {
    /// Matches every tensor against the parameters of `architecture`, named as in `scheme`.
    ///
    /// # Errors
    /// [`Error::Mismatch`] with all tensors that do not fit.
    pub fn bind(&self, architecture: &Architecture, scheme: Scheme, fit: impl Into<Fit>) -> Result<Bound> {
        let fit = fit.into();
        let mut matching = Matching {
            state: self,
            scheme,
            fit,
            used: BTreeSet::new(),
            faults: Vec::new(),
            other_norms: false,
            variances: Vec::new(),
            notes: Vec::new(),
        };
        matching.refuse_other_norms(architecture);
        let mut tensors = BTreeMap::new();
        for parameter in parameters(architecture) {
            if fit.classifier != Classifier::File && parameter.part == Part::Classifier {
                matching.leave_aside(architecture, &parameter);
            } else if let Some(tensor) = matching.find(architecture, &parameter) {
                tensors.insert(parameter.name, tensor);
            }
        }
        matching.refuse_unexpected();
        matching.compare_outlines(architecture);
        if matching.faults.is_empty() {
            let notes = matching.notes();
            return Ok(Bound { tensors, scheme, classifier: fit.classifier, notes });
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
    fit: Fit,
    used: BTreeSet<String>,
    faults: Vec<String>,
    /// Whether the file's norms are no batch norms, which is a fault already.
    other_norms: bool,
    /// Variances with elements that are taken for 0.
    variances: Vec<String>,
    notes: Vec<String>,
}

impl Matching<'_> {
    /// The tensor of `parameter`; notes what is wrong with it.
    fn find(&mut self, architecture: &Architecture, parameter: &Parameter) -> Option<Tensor> {
        let names = self.scheme.names(architecture, parameter);
        let shape = self.scheme.stored_shape(parameter);
        let Some((name, tensor)) = names.iter().find_map(|name| self.state.tensors.get_key_value(name)) else {
            if self.other_norms && matches!(parameter.role, Role::Mean | Role::Variance) {
                return None;
            }
            self.faults.push(match names.first() {
                Some(name) => format!("missing: {name} {shape:?}"),
                None => format!("missing: {} {shape:?}, which {} has no name for", parameter.name, self.scheme.name()),
            });
            return None;
        };
        self.used.insert(name.clone());
        let origin = &tensor.origin;
        if width(tensor.dtype).is_none() {
            let found = tensor.dtype;
            self.faults.push(format!("type: {origin}: expected F32, F16, BF16 or F64, found {found:?}"));
            return None;
        }
        if let Some(found) = not_finite(tensor) {
            self.faults.push(format!("values: {origin}: expected finite ones, found {found}"));
            return None;
        }
        let tensor = self.shaped(tensor, parameter, shape)?;
        if parameter.role == Role::Variance { self.variance(tensor) } else { Some(tensor) }
    }

    /// The tensor, if it has the `shape` that is asked for or can be given it.
    fn shaped(&mut self, tensor: &Tensor, parameter: &Parameter, shape: Vec<usize>) -> Option<Tensor> {
        if tensor.shape == shape {
            return Some(tensor.clone());
        }
        let (origin, found) = (&tensor.origin, &tensor.shape);
        // Where the file has the channels that the stem reads.
        let axis = self.scheme.permutation(parameter).map_or(1, |axes| axes[1]);
        let coloured = || {
            let mut coloured = shape.clone();
            coloured[axis] = COLOURS;
            coloured
        };
        let colours = parameter.part == Part::Stem && !parameter.role.is_norm() && *found == coloured();
        if colours && self.fit.adapt_stem {
            let channels = shape[axis];
            let how = if channels == 1 { "summed" } else { "repeated and scaled" };
            self.notes.push(format!("the stem's filters over 3 channels are {how} to {channels}, as timm does"));
            let inner = shape[axis + 1..].iter().product();
            let bytes = to_bytes(&stem::adapted(&floats(tensor), inner, channels));
            return Some(Tensor { dtype: Dtype::F32, shape, bytes, origin: origin.clone() });
        }
        let hint = match parameter.part {
            Part::Classifier => " (the classifier can be made anew for other classes)",
            Part::Stem if colours => " (--channels adapts it)",
            _ => "",
        };
        self.faults.push(format!("misshapen: {origin}: expected {shape:?}, found {found:?}{hint}"));
        None
    }

    /// Variances, none of them below 0.
    fn variance(&mut self, tensor: Tensor) -> Option<Tensor> {
        let values = floats(&tensor);
        let least = values.iter().copied().fold(0.0, f32::min);
        if least < LEAST_VARIANCE {
            let wrong = values.iter().find(|value| **value < LEAST_VARIANCE).unwrap_or(&least);
            self.faults.push(format!("variance: {}: expected values from 0 on, found {wrong}", tensor.origin));
            return None;
        }
        if least == 0.0 {
            return Some(tensor);
        }
        self.variances.push(tensor.origin.clone());
        let bytes = to_bytes(&values.iter().map(|value| value.max(0.0)).collect::<Vec<_>>());
        Some(Tensor { dtype: Dtype::F32, bytes, ..tensor })
    }

    fn notes(&mut self) -> Vec<String> {
        let mut notes = std::mem::take(&mut self.notes);
        if let Some(first) = self.variances.first() {
            let others = self.variances.len() - 1;
            let others = if others == 0 { String::new() } else { format!(" and {others} others") };
            notes.push(format!(
                "variances that rounding left below 0 (down to {LEAST_VARIANCE:e}) are taken as 0: {first}{others}"
            ));
        }
        notes
    }

    /// Normalisations that keep no statistics are not batch norms: one fault for all of them.
    fn refuse_other_norms(&mut self, architecture: &Architecture) {
        let all = parameters(architecture);
        let named = |role: Role| {
            let names = all.iter().filter(move |p| p.role == role).flat_map(|p| self.scheme.names(architecture, p));
            names.filter(|name| self.state.tensors.contains_key(name)).collect::<Vec<_>>()
        };
        let statistics = [Role::Mean, Role::Variance].map(named);
        if let ([[], []], [first, ..]) = (statistics.each_ref().map(Vec::as_slice), &named(Role::Gamma)[..]) {
            let layer = first.rsplit_once(['.', '/']).map_or(&first[..], |(layer, _)| layer);
            self.other_norms = true;
            self.faults.push(format!(
                "normalisation: {layer}: expected a batch norm with running mean and variance, found neither in the file: \
                 a variant with group norm (timm's …_gn) or another norm"
            ));
        }
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
