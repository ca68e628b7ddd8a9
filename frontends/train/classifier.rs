//! Another last layer for a network.
//!
//! In: a network, a linear classifier over its pooled features or none yet, the photos that it was found with. Out: the constants of the
//! layer as the network holds them, and the network with them.

use std::collections::BTreeMap;

use fornax_ir::inputs::Bindings;
use fornax_ir::types::Constant;

use super::logistic::Linear;
use super::outputs::outputs;
use super::photos::Photos;
use crate::error::{Error, Result};
use crate::facade::{Head, Model};

impl Model {
    /// The classifier with a new last layer for `classes` classes, all of them as likely; their names, if there are any, become its labels. It
    /// stays as it is if it has as many classes already and no other names are given.
    ///
    /// ```
    /// let signs = fornax::Model::open("examples/signs.onnx")?;
    /// let other = signs.for_classes(2, Some(&["cat".to_string(), "dog".to_string()]))?;
    /// assert_eq!(other.labels()?.map(|labels| labels.len()), Some(2));
    /// # Ok::<(), fornax::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::Usage`] if there are fewer than two classes, another number of names, or the network does not end in a linear layer with
    /// weights and biases of its own; as [`Model::graph`] without bindings.
    pub fn for_classes(&self, classes: usize, labels: Option<&[String]>) -> Result<Model> {
        if classes < 2 {
            return Err(Error::usage("--classes", "at least two to tell apart", classes.to_string()));
        }
        if let Some(labels) = labels.filter(|labels| labels.len() != classes) {
            return Err(Error::usage("labels", format!("{classes}, one for each class"), labels.len().to_string()));
        }
        let head = self.head(&self.graph(&Bindings::default())?)?;
        if labels.is_none() && head.classes == classes {
            return Ok(self.clone());
        }
        let labels = labels.map(|labels| ("labels".to_string(), serde_json::json!(labels).to_string()));
        Ok(self.retrained(fresh(&head, classes, None), labels.into_iter().collect(), classes))
    }

    /// The model with other weights: what [`super::step::Step::constants`] gives, by the names of the constants in its graph.
    ///
    /// # Errors
    /// [`Error::Usage`] if the graph has no constant of a name, [`Error::Graph`] if one does not fit; as [`Model::graph`] without bindings.
    pub fn with_weights(&self, weights: BTreeMap<String, Constant>) -> Result<Model> {
        let labels = self.metadata().get_key_value("labels").map(|(key, value)| (key.clone(), value.clone()));
        let classes = self.architecture().map_or(0, |architecture| architecture.classes);
        let model = self.retrained(weights, labels.into_iter().collect(), classes);
        model.graph(&Bindings::default())?;
        Ok(model)
    }
}

/// The classifier `model` with `layer`, which was found with `photos` of `classes`, as its last one. The photos are run again, on at
/// most `threads` threads, where a ReLU reads the layer's scores.
///
/// # Errors
/// [`Error::Usage`] if the network does not end in a linear layer of its own, over as many features.
pub fn with_classifier(
    model: &Model,
    layer: &Linear,
    classes: &[String],
    photos: &Photos,
    threads: usize,
) -> Result<Model> {
    let head = model.head(&model.graph(&Bindings::default())?)?;
    if head.features != layer.width {
        return Err(Error::usage("features", head.features.to_string(), layer.width.to_string()));
    }
    let constants = fitted(model, &head, layer, classes, photos, threads)?;
    Ok(model.retrained(constants, model.metadata_for(classes, photos.preprocess())?, classes.len()))
}

/// The constants of `layer` in `model`, whose last layer is `head`; raised where a ReLU reads its scores of `photos`.
pub(super) fn fitted(
    model: &Model,
    head: &Head,
    layer: &Linear,
    classes: &[String],
    photos: &Photos,
    threads: usize,
) -> Result<BTreeMap<String, Constant>> {
    let mut constants = fresh(head, classes.len(), Some(layer));
    if head.rectified {
        let fitted = model.retrained(constants.clone(), BTreeMap::new(), classes.len());
        let least = outputs(&fitted.least_score(), photos, threads)?;
        lift(&mut constants, head, least.iter().flatten().fold(0.0, |least, own| own.min(least)));
    }
    Ok(constants)
}

/// The constants of a last layer of `classes` classes, by name: those of `layer`, else zeros; where a ReLU follows, biases of one, since at
/// zero nothing would be learnt.
pub(super) fn fresh(head: &Head, classes: usize, layer: Option<&Linear>) -> BTreeMap<String, Constant> {
    let features = head.features;
    let weight =
        |class: usize, feature: usize| layer.map_or(0.0, |layer| layer.weights[class * features + feature] as f32);
    let weights: Vec<f32> = if head.by_feature {
        (0..features).flat_map(|f| (0..classes).map(move |c| (c, f))).map(|(c, f)| weight(c, f)).collect()
    } else {
        (0..classes).flat_map(|c| (0..features).map(move |f| (c, f))).map(|(c, f)| weight(c, f)).collect()
    };
    let open = if head.rectified { 1.0 } else { 0.0 };
    let biases: Vec<f32> = (0..classes).map(|class| layer.map_or(open, |layer| layer.biases[class] as f32)).collect();
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

/// Raises the scores of all classes alike where a ReLU reads them, given the `least` of them, at or below zero: by twice what it lacks, so
/// that other photos' scores are left alone too. What all classes share changes no probability.
fn lift(constants: &mut BTreeMap<String, Constant>, head: &Head, least: f32) {
    if let Some(biases) = constants.get_mut(&head.biases)
        && let Some(values) = biases.to_f32()
    {
        let raised: Vec<f32> = values.iter().map(|value| value - 2.0 * least).collect();
        *biases = Constant::from_f32(biases.ty.shape.clone(), &raised);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn head(rectified: bool) -> Head {
        let [weights, biases] = ["w", "b"].map(String::from);
        let (shape, bias_shape) = (vec![3, 2, 1, 1], vec![3]);
        Head { weights, shape, by_feature: false, biases, bias_shape, classes: 3, features: 2, rectified }
    }

    #[test]
    fn other_classes_have_other_shapes() {
        let layer = Linear { weights: vec![1.0, 2.0, 3.0, 4.0], biases: vec![5.0, 6.0], width: 2 };
        let made = fresh(&head(false), 2, Some(&layer));
        assert_eq!(made["w"].ty.shape.to_vec(), [2, 2, 1, 1]);
        assert_eq!((made["w"].to_f32(), made["b"].to_f32()), (Some(vec![1.0, 2.0, 3.0, 4.0]), Some(vec![5.0, 6.0])));
        let turned = Head { by_feature: true, shape: vec![2, 3], ..head(false) };
        assert_eq!(fresh(&turned, 2, Some(&layer))["w"].to_f32(), Some(vec![1.0, 3.0, 2.0, 4.0]));
    }

    #[test]
    fn a_rectifier_is_left_open() {
        let biases = |constants: &BTreeMap<String, Constant>| constants["b"].to_f32().unwrap();
        assert_eq!(biases(&fresh(&head(false), 2, None)), [0.0, 0.0]);
        let mut made = fresh(&head(true), 2, None);
        assert_eq!(biases(&made), [1.0, 1.0]);
        lift(&mut made, &head(true), -3.0);
        assert_eq!(biases(&made), [7.0, 7.0]);
    }
}
