//! A network that was trained, as what it came from: a state dict, and a spec.
//!
//! In: a model with the weights, classes and preprocessing it has now. Out: its weights as a state dict, and, if it was
//! made from a spec or preset, the spec that gives this network from them.

use fornax_ir::inputs::Bindings;
use fornax_runtime::{DType, Tensor};
use fornax_scaling::spec::{Interpolation, Preprocessing};

use super::metadata;
use super::model::Model;
use super::spec::described;
#[cfg(doc)]
use crate::error::Error;
use crate::error::Result;
use crate::images::{self, Preprocess, Resize};

impl Model {
    /// The spec of a network that was made from one, or from a preset, as TOML: with classes, labels and preprocessing
    /// as they are, and with `weights`, the name of a file next to it, for the state dict. None for what has no spec:
    /// other networks, and inputs that are not square.
    ///
    /// # Errors
    /// [`Error::Input`] if the model's metadata make no sense.
    pub fn to_spec(&self, weights: &str) -> Result<Option<String>> {
        let Some(own) = self.source().spec() else { return Ok(None) };
        let classes = self.architecture().map_or(own.classes, |network| network.classes);
        let side = own.multipliers()?.side;
        let mut spec = own.clone();
        (spec.classes, spec.labels, spec.weights) = (classes, self.labels()?, Some(weights.to_string()));
        spec.metadata.clear();
        if let Some(preprocess) = self.preprocess()? {
            spec.preprocessing = in_words(&preprocess, side, own.preprocessing.as_ref());
            let said = described(&spec, (side, side));
            if metadata::preprocess(&said)? != Some(preprocess) {
                // What the table has no words for.
                spec.preprocessing = None;
                spec.metadata.extend(self.metadata().get_key_value("preprocess").map(|(k, v)| (k.clone(), v.clone())));
            }
        }
        Ok(Some(spec.to_toml()))
    }
}

impl Model {
    /// The weights: the `f32` constants of the network under the names, and in the form, that they have in the state dict or file
    /// they came from.
    ///
    /// # Errors
    /// As [`Model::graph`]; [`Error::Runtime`] if memory cannot be had.
    pub fn state_dict(&self) -> Result<Vec<(String, Tensor)>> {
        let graph = self.graph(&Bindings::default())?;
        let mut tensors = Vec::new();
        for node in graph.ids().map(|id| graph.node(id)) {
            let Some(constant) = node.constant().filter(|constant| constant.ty.dtype == DType::F32) else { continue };
            let name = constant.origins.first().unwrap_or(&node.name).clone();
            let as_it_is = || Some((name, constant.ty.shape.to_vec(), constant.bytes()?));
            if let Some((name, shape, bytes)) = self.source().stored(&node.name, constant).or_else(as_it_is) {
                tensors.push((name, Tensor::from_bytes(DType::F32, shape, &bytes)?));
            }
        }
        Ok(tensors)
    }
}

/// The table `[preprocessing]` that comes closest to a preprocessing, for an input of this side; if it can, with the
/// crop that `own` has.
fn in_words(preprocess: &Preprocess, side: usize, own: Option<&Preprocessing>) -> Option<Preprocessing> {
    let interpolation = match preprocess.interpolation {
        images::Interpolation::Bilinear => Interpolation::Bilinear,
        images::Interpolation::Bicubic => Interpolation::Bicubic,
        _ => return None,
    };
    let (squash, edge) = match preprocess.resize {
        Resize::ShortEdge(edge) => (false, edge),
        Resize::Exact(height, _) => (true, height),
        Resize::None => return None,
    };
    let ratio = |edge: f64| side as f64 / edge;
    let crops = own.map(|own| own.crop).into_iter().chain([ratio(edge as f64), ratio(edge as f64 + 0.5)]);
    let crop = crops.into_iter().find(|crop| *crop <= 1.0 && ratio(*crop).floor() as usize == edge)?;
    let (mean, std) = (preprocess.mean.clone(), preprocess.std.clone());
    Some(Preprocessing { crop, squash, interpolation, mean, std })
}
