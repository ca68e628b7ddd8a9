//! Another last layer for a network.
//!
//! In: a network, and a linear layer over its pooled features, or none yet. Out: the constants of the layer as the
//! network holds them, and the network with them.

use std::collections::BTreeMap;

use fornax_ir::inputs::Bindings;
use fornax_ir::types::Constant;

use super::logistic::Linear;
use crate::error::{Error, Result};
use crate::facade::{Head, Model};
use crate::images::Preprocess;

/// The classifier `model` with `layer` as its last one, for photos of `classes` that are prepared as `preprocess` says.
///
/// # Errors
/// [`Error::Usage`] if the network does not end in a linear layer of its own, over as many features.
pub fn with_classifier(model: &Model, layer: &Linear, classes: &[String], preprocess: &Preprocess) -> Result<Model> {
    let head = model.head(&model.graph(&Bindings::default())?)?;
    if head.features != layer.width {
        return Err(Error::usage("features", head.features.to_string(), layer.width.to_string()));
    }
    let constants = fresh_head(&head, classes.len(), Some(layer));
    Ok(model.retrained(constants, model.metadata_for(classes, preprocess)?, classes.len()))
}

/// The constants of a last layer of `classes` classes: those of `layer`, else zeros.
pub(super) fn fresh_head(head: &Head, classes: usize, layer: Option<&Linear>) -> BTreeMap<String, Constant> {
    let features = head.features;
    let weight =
        |class: usize, feature: usize| layer.map_or(0.0, |layer| layer.weights[class * features + feature] as f32);
    let weights: Vec<f32> = if head.by_feature {
        (0..features).flat_map(|f| (0..classes).map(move |c| (c, f))).map(|(c, f)| weight(c, f)).collect()
    } else {
        (0..classes).flat_map(|c| (0..features).map(move |f| (c, f))).map(|(c, f)| weight(c, f)).collect()
    };
    let biases: Vec<f32> = (0..classes).map(|class| layer.map_or(0.0, |layer| layer.biases[class] as f32)).collect();
    let resized = |shape: &[usize]| -> Vec<usize> {
        let mut shape = shape.to_vec();
        if let Some(extent) = shape.iter_mut().find(|extent| **extent == head.classes) {
            *extent = classes;
        }
        shape
    };
    let mut shape = head.shape.clone();
    shape[usize::from(head.by_feature)] = classes;
    let weights = Constant::from_f32(shape, &weights);
    let biases = Constant::from_f32(resized(&head.bias_shape), &biases);
    BTreeMap::from([(head.weights.clone(), weights), (head.biases.clone(), biases)])
}
