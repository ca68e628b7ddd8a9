//! A network of a spec or a preset, as the source of a model.
//!
//! In: a spec, and a state dict or a seed. Out: the graph for any batch, and what the spec knows of images, under the keys of an
//! ONNX file's metadata. What was chosen on the way (scheme, epsilon, padding) is said in [`Scaled::notes`].

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fornax_compiler::ir::Graph;
use fornax_onnx::{Bindings, Dim, InputDecl};
use fornax_runtime::DType;
use fornax_scaling::architecture::{Architecture, Padding};
use fornax_scaling::build::{BuildOptions, Outputs, build, output_names};
use fornax_scaling::random::Random;
use fornax_scaling::spec::{Interpolation, Preprocessing, Spec};
use fornax_scaling::weights::{Classifier, Hints, Scheme, StateDict, Weights};
use serde_json::json;

use crate::error::{Error, Result};
use crate::options::Features;

/// How a spec becomes a network with weights.
#[derive(Clone, Debug, Default)]
pub struct ScaledOptions {
    /// State dict with the weights, safetensors; without one they are random.
    pub weights: Option<PathBuf>,
    /// Seed of random weights.
    pub seed: u64,
    /// Outputs of the classifier, if not those of the spec. A state dict that has another number keeps its other weights, and
    /// the classifier is random.
    pub classes: Option<usize>,
    /// Height and width of the input, if not those of the spec.
    pub side: Option<(usize, usize)>,
    /// Epsilon of batch norms, if not that of the source of the weights.
    pub eps: Option<f64>,
    /// Padding, if not that of the source of the weights.
    pub padding: Option<Padding>,
}

/// An architecture with weights.
pub(crate) struct Scaled {
    architecture: Architecture,
    weights: Arc<dyn Weights + Send + Sync>,
    outputs: Outputs,
    side: (usize, usize),
    /// The one input.
    pub inputs: Vec<InputDecl>,
    /// Names of the outputs.
    pub output_names: Vec<String>,
    /// What was chosen, a line each.
    pub notes: Vec<String>,
    /// What the spec knows of images.
    pub metadata: BTreeMap<String, String>,
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

impl Scaled {
    /// Resolves a spec and binds its weights.
    ///
    /// # Errors
    /// [`Error::Spec`] and [`Error::Weights`] naming what does not fit.
    pub fn new(spec: &Spec, options: &ScaledOptions, features: Option<&Features>, file_bytes: u64) -> Result<Self> {
        let mut spec = spec.clone();
        spec.classes = options.classes.unwrap_or(spec.classes);
        let resolved = spec.resolve()?;
        let mut architecture = resolved.architecture;
        let scale = resolved.multipliers;
        let side = options.side.unwrap_or((architecture.side, architecture.side));
        let mut notes =
            vec![format!("width {:.4}, depth {:.4}, input {} x {}", scale.width, scale.depth, side.0, side.1)];
        notes.extend(resolved.warnings.into_iter().map(|warning| format!("warning: {warning}")));
        let weights: Arc<dyn Weights + Send + Sync> = match &options.weights {
            None => {
                notes.push(format!("random weights of seed {}", options.seed));
                Arc::new(Random { seed: options.seed })
            }
            Some(path) => {
                let state = StateDict::open(path, file_bytes)?;
                let scheme = state.scheme()?;
                let defaults = scheme.defaults(&architecture, &Hints::beside(path));
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
                Arc::new(state.bind(&architecture, scheme, classifier)?)
            }
        };
        architecture.eps = options.eps.unwrap_or(architecture.eps);
        architecture.padding = options.padding.unwrap_or(architecture.padding);
        let metadata = spec.preprocessing.as_ref().map(|images| metadata(images, side)).unwrap_or_default();
        let bound = Self::over(architecture, weights, side, features)?;
        Ok(Self { notes, metadata, ..bound })
    }

    /// An architecture with random weights.
    ///
    /// # Errors
    /// [`Error::Build`] if the options do not fit it.
    pub fn random(architecture: Architecture, options: &ScaledOptions, features: Option<&Features>) -> Result<Self> {
        let side = options.side.unwrap_or((architecture.side, architecture.side));
        Self::over(architecture, Arc::new(Random { seed: options.seed }), side, features)
    }

    fn over(
        architecture: Architecture,
        weights: Arc<dyn Weights + Send + Sync>,
        side: (usize, usize),
        features: Option<&Features>,
    ) -> Result<Self> {
        let dims = vec![Dim::Symbol("batch".into()), Dim::Known(3), Dim::Known(side.0), Dim::Known(side.1)];
        let inputs = vec![InputDecl { name: "input".into(), dtype: DType::F32, dims, ranked: true }];
        let outputs = match features {
            None => Outputs::Logits,
            Some(Features::Pooled) => Outputs::Pooled,
            Some(Features::Reductions(reductions)) => Outputs::Reductions(reductions.clone()),
        };
        let wanted = BuildOptions { batch: 1, side, outputs: outputs.clone() };
        let output_names = output_names(&architecture, &wanted)?;
        let (notes, metadata) = (Vec::new(), BTreeMap::new());
        Ok(Self { architecture, weights, outputs, side, inputs, output_names, notes, metadata })
    }

    /// The graph, for the batch that `bindings` give.
    ///
    /// # Errors
    /// [`Error::Spec`] naming the option or the weight at fault, [`Error::Usage`] for a shape that the network does not take.
    pub fn graph(&self, bindings: &Bindings) -> Result<Graph> {
        let mut batch = bindings.dims.get("batch").copied().unwrap_or(1);
        if let Some(shape) = bindings.shapes.get("input") {
            let (height, width) = self.side;
            match shape[..] {
                [n, 3, h, w] if (h, w) == self.side => batch = n,
                _ => {
                    return Err(Error::input(
                        "input",
                        format!("a shape [n, 3, {height}, {width}]"),
                        format!("{shape:?}"),
                    ));
                }
            }
        }
        let options = BuildOptions { batch, side: self.side, outputs: self.outputs.clone() };
        Ok(build(&self.architecture, &options, &*self.weights)?)
    }

    /// The network.
    pub fn architecture(&self) -> &Architecture {
        &self.architecture
    }
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

/// The entry `preprocess`. A crop that is not square lies inside photos of every aspect.
fn metadata(images: &Preprocessing, (height, width): (usize, usize)) -> BTreeMap<String, String> {
    let interpolation = match images.interpolation {
        Interpolation::Bilinear => "bilinear",
        Interpolation::Bicubic => "bicubic",
    };
    let mut value = json!({
        "channel_order": "RGB", "interpolation": interpolation, "antialias": true, "scale": 1.0 / 255.0,
        "mean": images.mean, "std": images.std, "layout": "NCHW", "dtype": "float32",
    });
    if images.squash {
        value["resize"] = json!([height, width]);
    } else {
        value["resize_short_edge"] = json!((height.max(width) as f64 / images.crop).floor() as usize);
        value["crop"] = json!([height, width]);
        value["crop_mode"] = json!("center");
    }
    [("preprocess".to_string(), value.to_string())].into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use fornax_scaling::parameters::parameters;

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

    fn open(spec: &Spec, weights: PathBuf, classes: Option<usize>) -> Result<Scaled> {
        let options = ScaledOptions { weights: Some(weights), classes, ..ScaledOptions::default() };
        Scaled::new(spec, &options, None, u64::MAX)
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
}
