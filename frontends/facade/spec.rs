//! A network of a spec or a preset, as the source of a model.
//!
//! In: a spec, and a state dict or a seed. Out: the graph for any batch, and what the spec knows of images, under the keys of an
//! ONNX file's metadata. What was chosen on the way (scheme, epsilon, padding) is said in [`Source::notes`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use fornax_ir::graph::Graph;
use fornax_ir::inputs::{Bindings, Dim, InputDecl};
use fornax_ir::types::Constant;
use fornax_runtime::DType;
use fornax_scaling::architecture::Architecture;
use fornax_scaling::build::{BuildOptions, Outputs, build, output_names};
use fornax_scaling::parameters::{Parameter, parameters};
use fornax_scaling::random::Random;
use fornax_scaling::spec::{COLOURS, Interpolation, Preprocessing, Spec};
use fornax_scaling::weights::{Classifier, Fit, Hints, Scheme, StateDict, Weights};
use serde_json::json;

use super::options::{Features, Options, ScaledOptions};
use super::source::Source;
use crate::error::{Error, Result};

/// An architecture with weights.
pub(crate) struct SpecModel {
    /// What it was made from, as it was asked for; none for an architecture.
    spec: Option<Spec>,
    architecture: Architecture,
    weights: Arc<dyn Weights + Send + Sync>,
    outputs: Outputs,
    side: (usize, usize),
    /// The state dict, if the weights are from one, and whose names it has.
    weights_file: Option<PathBuf>,
    scheme: Option<Scheme>,
    /// The one input.
    inputs: Vec<InputDecl>,
    /// Names of the outputs.
    output_names: Vec<String>,
    /// What was chosen, a line each.
    notes: Vec<String>,
    /// What the spec knows of images.
    metadata: BTreeMap<String, String>,
}

/// The spec of a file, or of the preset that `path` names if there is no such file; none if it is another kind of file.
///
/// # Errors
/// [`Error::Spec`] for what is no spec and no preset, [`Error::Runtime`] if the file cannot be read.
pub fn open_spec(path: &Path, file_bytes: u64) -> Result<Option<Spec>> {
    if path.extension().is_some_and(|suffix| suffix == "toml") {
        let bytes = fornax_runtime::map_file(path, file_bytes)?;
        let text = std::str::from_utf8(&bytes).map_err(|_| Error::file(path, "expected a spec in UTF-8"))?;
        return Ok(Some(Spec::parse(text, &path.display().to_string())?));
    }
    let named = path.to_str().filter(|name| !path.exists() && !name.contains(['/', '.']));
    Ok(named.map(Spec::preset).transpose()?)
}

impl SpecModel {
    /// Resolves a spec and binds its weights: those of the options, else those that it names, a file in `folder`.
    ///
    /// # Errors
    /// [`Error::Spec`] and [`Error::Weights`] naming what does not fit.
    pub fn new(spec: &Spec, folder: &Path, options: &Options) -> Result<Self> {
        let (features, file_bytes) = (options.features.as_ref(), options.limits.file_bytes);
        let own = spec.weights.as_ref().map(|name| folder.join(name));
        let options = &ScaledOptions { weights: options.scaled.weights.clone().or(own), ..options.scaled.clone() };
        let mut spec = spec.clone();
        if let Some(classes) = options.classes.filter(|classes| *classes != spec.classes) {
            (spec.classes, spec.labels) = (classes, None);
        }
        if let Some(channels) = options.channels {
            set_channels(&mut spec, channels);
        }
        let resolved = spec.resolve()?;
        let mut architecture = resolved.architecture;
        let scale = resolved.multipliers;
        let side = options.side.unwrap_or((architecture.side, architecture.side));
        let mut notes =
            vec![format!("width {:.4}, depth {:.4}, input {} x {}", scale.width, scale.depth, side.0, side.1)];
        notes.extend(resolved.warnings.into_iter().map(|warning| format!("warning: {warning}")));
        let mut naming = None;
        let weights: Arc<dyn Weights + Send + Sync> = match &options.weights {
            None => {
                if let Some(pattern) = options.ignore.first() {
                    return Err(Error::usage("--ignore", "a state dict (--weights) to leave tensors out of", pattern));
                }
                notes.push(format!("random weights of seed {}", options.seed));
                Arc::new(Random { seed: options.seed })
            }
            Some(path) => {
                let state = StateDict::open(path, file_bytes)?.without(&options.ignore)?;
                notes.extend(state.notes().iter().cloned());
                let scheme = state.scheme()?;
                naming = Some(scheme);
                let hints = Hints::beside(path);
                let defaults = scheme.defaults(&architecture, &hints);
                notes.extend(
                    hints.contradictions(&architecture.name).into_iter().map(|line| format!("warning: {line}")),
                );
                notes.push(format!("weights in the naming of {}; {}", scheme.name(), defaults.why));
                // What a spec says itself comes before what its weights' source is known for.
                for (key, own) in [("eps", spec.states("eps")), ("padding", spec.states("padding"))] {
                    match (own, key) {
                        (true, _) => notes.push(format!("{key} as the spec says")),
                        (false, "eps") => architecture.eps = defaults.eps,
                        (false, _) => architecture.padding = defaults.padding,
                    }
                }
                let (classifier, note) = classifier(&state, &architecture, scheme, options, features);
                notes.extend(note);
                let fit = Fit { classifier, adapt_stem: options.channels.is_some() };
                let bound = state.bind(&architecture, scheme, fit)?;
                notes.extend(bound.notes().iter().cloned());
                Arc::new(bound)
            }
        };
        architecture.eps = options.eps.unwrap_or(architecture.eps);
        architecture.padding = options.padding.unwrap_or(architecture.padding);
        (spec.eps, spec.padding) = (architecture.eps, architecture.padding);
        if side != (scale.side, scale.side) {
            spec = spec.with_side(side.0);
        }
        let metadata = described(&spec, side);
        let bound = Self::over(architecture, weights, side, features)?;
        let (spec, weights_file) = (Some(spec), options.weights.clone());
        Ok(Self { spec, notes, metadata, weights_file, scheme: naming, ..bound })
    }

    /// An architecture with random weights.
    ///
    /// # Errors
    /// [`Error::Build`] if the options do not fit it.
    pub fn random(architecture: Architecture, options: &Options) -> Result<Self> {
        let side = options.scaled.side.unwrap_or((architecture.side, architecture.side));
        let weights = Arc::new(Random { seed: options.scaled.seed });
        Self::over(architecture, weights, side, options.features.as_ref())
    }

    fn over(
        architecture: Architecture,
        weights: Arc<dyn Weights + Send + Sync>,
        side: (usize, usize),
        features: Option<&Features>,
    ) -> Result<Self> {
        let dims = vec![
            Dim::Symbol("batch".into()),
            Dim::Known(architecture.channels),
            Dim::Known(side.0),
            Dim::Known(side.1),
        ];
        let inputs = vec![InputDecl { name: "input".into(), dtype: DType::F32, dims, ranked: true }];
        let outputs = match features {
            None => Outputs::Logits,
            Some(Features::Pooled) => Outputs::Pooled,
            Some(Features::Reductions(reductions)) => Outputs::Reductions(reductions.clone()),
        };
        let wanted = BuildOptions { batch: 1, side, outputs: outputs.clone() };
        let output_names = output_names(&architecture, &wanted)?;
        let (notes, metadata, weights_file) = (Vec::new(), BTreeMap::new(), None);
        let (spec, scheme) = (None, None);
        Ok(Self {
            spec,
            architecture,
            weights,
            outputs,
            side,
            weights_file,
            scheme,
            inputs,
            output_names,
            notes,
            metadata,
        })
    }
}

impl Source for SpecModel {
    fn inputs(&self) -> &[InputDecl] {
        &self.inputs
    }

    fn outputs(&self) -> Vec<String> {
        self.output_names.clone()
    }

    fn metadata(&self) -> &BTreeMap<String, String> {
        &self.metadata
    }

    fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        let mut batch = bindings.dims.get("batch").copied().unwrap_or(1);
        if let Some(shape) = bindings.shapes.get("input") {
            let (channels, (height, width)) = (self.architecture.channels, self.side);
            match shape[..] {
                [n, c, h, w] if c == channels && (h, w) == self.side => batch = n,
                _ => {
                    return Err(Error::input(
                        "input",
                        format!("a shape [n, {channels}, {height}, {width}]"),
                        format!("{shape:?}"),
                    ));
                }
            }
        }
        let options = BuildOptions { batch, side: self.side, outputs: self.outputs.clone() };
        Ok(build(&self.architecture, &options, &*self.weights)?)
    }

    fn hash(&self) -> u64 {
        xxhash_rust::xxh3::xxh3_64(format!("{:?}", self.architecture).as_bytes())
    }

    fn name(&self, _: &Bindings) -> Result<String> {
        Ok(self.architecture.name.clone())
    }

    fn files(&self) -> Vec<PathBuf> {
        self.weights_file.iter().cloned().collect()
    }

    fn notes(&self) -> &[String] {
        &self.notes
    }

    fn architecture(&self) -> Option<&Architecture> {
        Some(&self.architecture)
    }

    fn stored(&self, name: &str, constant: &Constant) -> Option<(String, Vec<usize>, Bytes)> {
        let all = parameters(&self.architecture);
        let found = all.into_iter().find(|parameter| parameter.name == name)?;
        let parameter = Parameter { shape: constant.ty.shape.to_vec(), ..found };
        Some(self.scheme?.stored(&self.architecture, &parameter, &constant.bytes()?))
    }

    fn spec(&self) -> Option<&Spec> {
        self.spec.as_ref().filter(|_| self.side.0 == self.side.1)
    }
}

/// The metadata of a network of this spec and input: what the spec says of images and classes, and the entries it has for itself.
pub(super) fn described(spec: &Spec, side: (usize, usize)) -> BTreeMap<String, String> {
    let mut all = spec.preprocessing.as_ref().map(|images| metadata_of(images, side)).unwrap_or_default();
    all.extend(spec.labels.as_ref().map(|labels| ("labels".to_string(), json!(labels).to_string())));
    all.extend(spec.metadata.clone());
    all
}

/// Gives the network other channels. Photos are normalised by the means over the colours where they are grey, and by the grey ones where
/// they have colours; there are none of other channels.
fn set_channels(spec: &mut Spec, channels: usize) {
    let Some(images) = &mut spec.preprocessing else {
        spec.channels = channels;
        return;
    };
    if channels == spec.channels {
        return;
    }
    let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len().max(1) as f64;
    if matches!(channels, 1 | COLOURS) {
        images.mean = vec![mean(&images.mean); channels];
        images.std = vec![mean(&images.std); channels];
    } else {
        (images.mean, images.std) = (vec![0.0; channels], vec![1.0; channels]);
    }
    spec.channels = channels;
}

/// Where the classifier's weights come from, and a note if not from the file: it is made anew only where other classes are asked
/// for than the file has.
fn classifier(
    state: &StateDict,
    architecture: &Architecture,
    scheme: Scheme,
    options: &ScaledOptions,
    features: Option<&Features>,
) -> (Classifier, Option<String>) {
    let found = state.outline(architecture, scheme).classes;
    match options.classes {
        _ if features.is_some() => (Classifier::Unused, None),
        Some(classes) if found != Some(classes) => {
            let found = found.map_or("none".to_string(), |n| n.to_string());
            let note = format!("classifier of {classes} classes random, seed {}; the file has {found}", options.seed);
            (Classifier::Seeded(options.seed), Some(note))
        }
        _ => (Classifier::File, None),
    }
}

/// The entry `preprocess`; none for inputs that are no photos. A crop that is not square lies inside photos of every aspect.
fn metadata_of(images: &Preprocessing, (height, width): (usize, usize)) -> BTreeMap<String, String> {
    let interpolation = match images.interpolation {
        Interpolation::Bilinear => "bilinear",
        Interpolation::Bicubic => "bicubic",
    };
    let order = match images.mean.len() {
        1 => "gray",
        COLOURS => "RGB",
        _ => return BTreeMap::new(),
    };
    let mut value = json!({
        "channel_order": order, "interpolation": interpolation, "antialias": true, "scale": 1.0 / 255.0,
        "mean": images.mean, "std": images.std, "layout": "NCHW", "dtype": "float32",
    });
    let margin = |side: usize| (side as f64 / images.crop).floor() as usize;
    if images.squash {
        value["resize"] = json!([margin(height), margin(width)]);
    } else {
        value["resize_short_edge"] = json!(margin(height.max(width)));
    }
    if !images.squash || (margin(height), margin(width)) != (height, width) {
        value["crop"] = json!([height, width]);
        value["crop_mode"] = json!("center");
    }
    [("preprocess".to_string(), value.to_string())].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fornax_scaling::architecture::Padding;

    /// A state dict in timm's names under `name`, for a network of 10 classes.
    fn state_dict(folder: &Path, name: &str) -> PathBuf {
        let architecture = spec("").resolve().unwrap().architecture;
        let tensors: Vec<_> = parameters(&architecture)
            .iter()
            .map(|parameter| {
                let values = Random { seed: 1 }.values(parameter);
                (parameter.name.clone(), fornax_runtime::Tensor::from_f32(parameter.shape.clone(), &values).unwrap())
            })
            .collect();
        let views: Vec<_> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
        crate::tensors::save_safetensors(folder.join(name), &views, &[]).unwrap();
        folder.join(name)
    }

    fn spec(more: &str) -> Spec {
        let text =
            format!("base = \"efficientnet_b0\"\nwidth = 0.25\ndepth = 0.35\nresolution = 32\nclasses = 10\n{more}");
        Spec::parse(&text, "small.toml").unwrap()
    }

    fn open(spec: &Spec, weights: PathBuf, classes: Option<usize>) -> Result<SpecModel> {
        let scaled = ScaledOptions { weights: Some(weights), classes, ..ScaledOptions::default() };
        SpecModel::new(spec, Path::new("."), &Options { scaled, ..Options::default() })
    }

    #[test]
    fn a_spec_has_the_last_word_on_numerics() {
        let folder = tempfile::tempdir().unwrap();
        let weights = state_dict(folder.path(), "tf_efficientnet_b0.safetensors");
        let of = |more: &str| {
            let scaled = open(&spec(more), weights.clone(), None).unwrap();
            (scaled.architecture.eps, scaled.architecture.padding)
        };
        assert_eq!(of(""), (1e-3, Padding::Same));
        assert_eq!(of("eps = 1e-5\npadding = \"symmetric\"\n"), (1e-5, Padding::Symmetric));
        assert_eq!(of("eps = 1e-4\n"), (1e-4, Padding::Same));
    }

    #[test]
    fn a_random_classifier_is_asked_for_and_said() {
        let folder = tempfile::tempdir().unwrap();
        let weights = state_dict(folder.path(), "w.safetensors");
        let random = |classes| {
            let scaled = open(&spec(""), weights.clone(), classes).unwrap();
            scaled.notes.iter().any(|note| note.starts_with("classifier of"))
        };
        assert_eq!([None, Some(10), Some(12)].map(random), [false, false, true]);
        let mut other = spec("");
        other.classes = 12;
        assert!(open(&other, weights, None).is_err());
    }

    #[test]
    fn squash_leaves_a_margin_where_there_is_a_crop() {
        let of = |keys: &str, side: (usize, usize)| {
            let spec = spec(&format!("[preprocessing]\n{keys}\n"));
            let text = &metadata_of(spec.preprocessing.as_ref().unwrap(), side)["preprocess"];
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            ["resize", "resize_short_edge", "crop"].map(|key| value[key].to_string())
        };
        let squash = |crop: &str| format!("crop_mode = \"squash\"\ncrop = {crop}");
        assert_eq!(of(&squash("0.5"), (64, 64)), ["[128,128]", "null", "[64,64]"]);
        assert_eq!(of(&squash("0.9"), (300, 200)), ["[333,222]", "null", "[300,200]"]);
        assert_eq!(of(&squash("1.0"), (64, 64)), ["[64,64]", "null", "null"]);
        assert_eq!(of("crop = 0.875", (224, 224)), ["null", "256", "[224,224]"]);
    }

    #[test]
    fn photos_are_grey_for_one_channel_and_none_for_four() {
        let of = |channels: usize| {
            let spec = spec(&format!("channels = {channels}\n"));
            let model = SpecModel::new(&spec, Path::new("."), &Options::default()).unwrap();
            let graph = model.graph(&Bindings::default()).unwrap();
            assert_eq!(graph.ty(graph.inputs()[0]).shape[1], channels);
            let Some(text) = model.metadata.get("preprocess") else { return "none".to_string() };
            let value: serde_json::Value = serde_json::from_str(text).unwrap();
            format!("{} {}", value["channel_order"], value["mean"])
        };
        assert_eq!([1, 3, 4].map(of), ["\"gray\" [0.0]", "\"RGB\" [0.485,0.456,0.406]", "none"]);
    }

    #[test]
    fn other_channels_adapt_the_stem_and_the_photos() {
        let folder = tempfile::tempdir().unwrap();
        let weights = state_dict(folder.path(), "w.safetensors");
        let of = |channels: usize| {
            let scaled =
                ScaledOptions { weights: Some(weights.clone()), channels: Some(channels), ..ScaledOptions::default() };
            SpecModel::new(&spec(""), Path::new("."), &Options { scaled, ..Options::default() }).unwrap()
        };
        let grey = of(1);
        assert!(grey.notes.iter().any(|note| note.contains("stem's filters over 3 channels are summed to 1")));
        let value: serde_json::Value = serde_json::from_str(&grey.metadata["preprocess"]).unwrap();
        let mean = value["mean"][0].as_f64().unwrap();
        assert!(value["channel_order"] == "gray" && (mean - 0.449).abs() < 1e-9, "{value}");
        assert!(of(4).metadata.is_empty());
        assert!(!of(3).notes.iter().any(|note| note.contains("stem")));
    }

    #[test]
    fn patterns_need_a_state_dict() {
        let scaled = ScaledOptions { ignore: vec!["fc.*".into()], ..ScaledOptions::default() };
        let Err(error) = SpecModel::new(&spec(""), Path::new("."), &Options { scaled, ..Options::default() }) else {
            panic!()
        };
        assert_eq!(error.exit_code(), 2);
    }

    #[test]
    fn a_config_of_another_network_is_noted() {
        let folder = tempfile::tempdir().unwrap();
        let weights = state_dict(folder.path(), "w.safetensors");
        std::fs::write(folder.path().join("config.json"), r#"{"architecture": "tf_efficientnet_b0"}"#).unwrap();
        let mut named = spec("");
        named.name = "efficientnet_b0".into();
        let warns = |spec: &Spec| {
            let notes = open(spec, weights.clone(), None).unwrap().notes;
            notes.iter().any(|note| note.starts_with("warning: config.json beside the weights says tf_efficientnet_b0"))
        };
        assert!(warns(&named));
        named.name = "tf_efficientnet_b0".into();
        assert!(!warns(&named));
    }
}
