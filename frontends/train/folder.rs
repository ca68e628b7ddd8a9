//! The folder of a run: what it has learnt, how it went, and what it needs to go on.
//!
//! ```text
//! run/model.onnx          the network, with classes, size, crop, mean and deviation in it
//! run/model.safetensors   its weights, under the names of their source
//! run/model.toml          the network as a spec that names these weights, if it was made from a spec or preset
//! run/model.so, model.h   model.onnx compiled
//! run/report.html         curves, confusion, calibration, the worst photos
//! run/log.jsonl           a line for each epoch
//! run/state/checkpoint    parameters, moments and epochs after the last one: what --resume goes on from
//! ```
//!
//! In: a network, epochs, the state of a step. Out: these files, each written aside and renamed, so that each is always whole.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use bytes::Bytes;
use fornax_ir::inputs::Bindings;
use fornax_runtime::Tensor;
use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::dataset::Photo;
use super::finetune::{Epoch, FinetuneOptions, Finetuned, Saved};
use super::photos::Photos;
use super::report::Report;
use crate::error::{Error, Result};
use crate::facade::{ArtifactOptions, Emit, Model, Options, ScaledOptions};
use crate::files::{write_file, write_files};
use crate::tensors::save_safetensors;

/// What a checkpoint begins with.
const MAGIC: &[u8; 8] = b"FNXTRAIN";
/// The file of the weights.
const WEIGHTS: &str = "model.safetensors";
/// Version of the form of a checkpoint.
const VERSION: u64 = 1;

/// A form in which a network is written.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// An ONNX file.
    Onnx,
    /// A state dict, with the spec that names it where the network was made from a spec or preset.
    Weights,
    /// A compiled library and its header.
    Library,
}

impl Form {
    /// All of them, with their names.
    pub const ALL: [(Self, &str); 3] = [(Self::Onnx, "onnx"), (Self::Weights, "safetensors"), (Self::Library, "so")];
}

impl FromStr for Form {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let found = Self::ALL.iter().find(|(_, name)| *name == text);
        found.map(|(form, _)| *form).ok_or_else(|| Error::usage("--emit", "onnx, safetensors or so", text))
    }
}

/// A run's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
    /// The file of the network that the run began with, or its preset.
    network: String,
    /// What a run that is resumed must have in common with this one.
    identity: Value,
}

impl Folder {
    /// The folder `path` of a run over `photos`; `resume` says that there is one already, else there must be none.
    ///
    /// # Errors
    /// [`Error::Usage`] if there is a folder and there should be none, or the other way round; [`Error::File`] if it cannot be made.
    pub fn open(
        path: &Path,
        model: &Model,
        photos: [&[Photo]; 2],
        options: &FinetuneOptions,
        resume: bool,
    ) -> Result<Self> {
        match (is_used(path)?, resume) {
            (true, false) => {
                return Err(Error::usage("--output", "a new or empty folder, or --resume", path.display().to_string()));
            }
            (false, true) => return Err(Error::usage("--resume", "a folder of a run", path.display().to_string())),
            _ => {}
        }
        let (path, network) = (path.to_path_buf(), model.path().display().to_string());
        Ok(Self { path, network, identity: identity(model, photos, options)? })
    }

    /// Where the run ended; none if no epoch has ended.
    ///
    /// # Errors
    /// [`Error::File`] if the checkpoint is none, or damaged; [`Error::Mismatch`] naming what differs from the run that wrote it.
    pub fn saved(&self) -> Result<Option<Saved>> {
        let path = self.checkpoint();
        if !path.exists() {
            return Ok(None);
        }
        let bytes = fornax_runtime::map_file(&path, u64::MAX)?;
        let damaged = || Error::file(&path, "expected a checkpoint of a run, found other or damaged bytes");
        let head = bytes.strip_prefix(MAGIC).and_then(|rest| rest.split_first_chunk::<8>()).ok_or_else(damaged)?;
        let (length, rest) = (usize::try_from(u64::from_le_bytes(*head.0)).map_err(|_| damaged())?, head.1);
        let (head, state) = rest.split_at_checked(length).ok_or_else(damaged)?;
        let head: Value = serde_json::from_slice(head).map_err(|_| damaged())?;
        self.expect_same(&head["identity"])?;
        let epochs = head["epochs"].as_array().ok_or_else(damaged)?.iter().map(epoch_of);
        Ok(Some(Saved {
            epochs: epochs.collect::<Option<_>>().ok_or_else(damaged)?,
            state: bytes.slice(bytes.len() - state.len()..),
        }))
    }

    fn expect_same(&self, found: &Value) -> Result<()> {
        for (key, expected) in self.identity.as_object().into_iter().flatten() {
            if found.get(key) != Some(expected) {
                let found = found.get(key).map_or("nothing".to_string(), Value::to_string);
                return Err(Error::Mismatch {
                    what: format!("--resume: {key}"),
                    expected: found,
                    found: expected.to_string(),
                });
            }
        }
        Ok(())
    }

    /// Makes the folder, and the one in it for the state, where they are missing.
    ///
    /// # Errors
    /// [`Error::File`] if they cannot be made.
    pub fn make(&self) -> Result<()> {
        let state = self.path.join("state");
        std::fs::create_dir_all(state).map_err(|e| unwritable(&self.path, &e))
    }

    fn checkpoint(&self) -> PathBuf {
        self.path.join("state/checkpoint")
    }

    /// Writes the log and the checkpoint after an epoch: `state` is what [`super::step::Step::state_parts`] gives.
    ///
    /// # Errors
    /// [`Error::File`] if they cannot be written; those of the epoch before are then as they were.
    pub fn save(&self, epochs: &[Epoch], (parts, state): (Vec<u8>, &[u8])) -> Result<()> {
        let head =
            json!({"identity": self.identity, "epochs": epochs.iter().map(json_of).collect::<Vec<_>>()}).to_string();
        self.make()?;
        let length = (head.len() as u64).to_le_bytes();
        write_files(&[(&self.checkpoint(), &[MAGIC, &length, head.as_bytes(), &parts, state])])?;
        let lines: String = epochs.iter().map(|epoch| format!("{}\n", json_of(epoch))).collect();
        write_file(self.path.join("log.jsonl"), lines.as_bytes())
    }

    /// Writes the network in these forms, and the report. The names of the files.
    ///
    /// # Errors
    /// As [`write_network`]; [`Error::File`] if the report cannot be written.
    pub fn write_model(
        &self,
        done: &Finetuned,
        classes: &[String],
        validation: &Photos,
        forms: &[Form],
    ) -> Result<Vec<PathBuf>> {
        self.make()?;
        let mut files = write_network(&self.path, &done.model, forms)?;
        let title = format!("Fine-tuning of {}", self.network);
        let settings = self.settings();
        let report = Report {
            title: &title,
            labels: classes,
            epochs: &done.epochs,
            evaluation: &done.evaluation,
            photos: validation,
            settings: &settings,
        };
        files.push(write_report(&self.path, &report)?);
        Ok(files)
    }

    /// What the run was asked to do, by the names of the options.
    fn settings(&self) -> Vec<(String, String)> {
        let hashes = ["format", "model", "weights", "photos"];
        let own = self.identity.as_object().into_iter().flatten().filter(|(key, _)| !hashes.contains(&key.as_str()));
        // Options are kept as Rust prints them: `Sgd { momentum: 0.9 }`.
        let words = |text: &str| text.replace(" { ", ", ").replace(" }", "").replace(": ", " ");
        let text = |value: &Value| match value {
            Value::Null => "none".to_string(),
            Value::Bool(given) => if *given { "yes" } else { "no" }.to_string(),
            Value::String(text) => words(text),
            other => other.to_string(),
        };
        let network = ("network".to_string(), self.network.clone());
        [network].into_iter().chain(own.map(|(key, value)| (key.clone(), text(value)))).collect()
    }
}

/// Checks that there is nothing yet in the folder that a network is written to.
///
/// # Errors
/// [`Error::Usage`] if something is in it; [`Error::File`] if it cannot be read.
pub fn expect_new(path: &Path) -> Result<()> {
    match is_used(path)? {
        true => Err(Error::usage("--output", "a new or empty folder", path.display().to_string())),
        false => Ok(()),
    }
}

fn unwritable(path: &Path, error: &std::io::Error) -> Error {
    Error::file(path, format!("expected a folder that can be written: {error}"))
}

/// Whether there is something in a folder.
fn is_used(path: &Path) -> Result<bool> {
    let mut entries = match std::fs::read_dir(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(false),
        found => found.map_err(|e| unwritable(path, &e))?,
    };
    Ok(entries.next().is_some())
}

/// Writes a network in these forms into a folder, which is made if there is none. The names of the files.
///
/// # Errors
/// As [`Model::export`] and [`Model::artifacts`]; [`Error::File`] if they cannot be written.
pub fn write_network(folder: &Path, model: &Model, forms: &[Form]) -> Result<Vec<PathBuf>> {
    std::fs::create_dir_all(folder).map_err(|e| unwritable(folder, &e))?;
    let mut written = Vec::new();
    let exported = || {
        let open = model.export(&Bindings::default(), false, true);
        open.or_else(|_| model.export(&Bindings::default(), false, false))
    };
    let onnx = if forms.contains(&Form::Onnx) || forms.contains(&Form::Library) { exported()? } else { Bytes::new() };
    if forms.contains(&Form::Onnx) {
        written.push(folder.join("model.onnx"));
        write_file(folder.join("model.onnx"), &onnx)?;
    }
    if forms.contains(&Form::Weights) {
        written.push(folder.join(WEIGHTS));
        write_weights(model, &folder.join(WEIGHTS))?;
        if let Some(spec) = model.to_spec(WEIGHTS)? {
            written.push(folder.join("model.toml"));
            write_file(folder.join("model.toml"), spec.as_bytes())?;
        }
    }
    if forms.contains(&Form::Library) {
        written.extend(write_library(folder, model, onnx)?);
    }
    Ok(written)
}

/// Compiles the ONNX file `bytes` of a network, as whoever compiles that gets it. The names of the files.
fn write_library(folder: &Path, model: &Model, bytes: Bytes) -> Result<Vec<PathBuf>> {
    let options = Options { scaled: ScaledOptions::default(), features: None, ..model.options().clone() };
    let exported = Model::from_bytes(bytes, &options)?;
    let artifacts = exported.artifacts(&ArtifactOptions::new("net"), &Emit::LOADED)?;
    let paths: Vec<PathBuf> =
        artifacts.files.iter().map(|file| folder.join(format!("model.{}", file.kind.suffix()))).collect();
    let parts: Vec<Vec<&[u8]>> =
        artifacts.files.iter().map(|file| file.parts.iter().map(|part| &part[..]).collect()).collect();
    let files: Vec<(&Path, &[&[u8]])> =
        paths.iter().zip(&parts).map(|(path, parts)| (path.as_path(), &parts[..])).collect();
    write_files(&files)?;
    Ok(paths)
}

/// Writes `report.html` into a folder that is there. Its name.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn write_report(folder: &Path, report: &Report<'_>) -> Result<PathBuf> {
    let path = folder.join("report.html");
    write_file(&path, report.html().as_bytes())?;
    Ok(path)
}

/// The weights of a network as a state dict.
fn write_weights(model: &Model, path: &Path) -> Result<()> {
    let tensors = model.state_dict()?;
    let views: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
    save_safetensors(path, &views, &[])
}

/// What must not differ between a run and one that goes on from it.
fn identity(model: &Model, photos: [&[Photo]; 2], options: &FinetuneOptions) -> Result<Value> {
    let mut hash = Xxh3::new();
    for photo in photos.into_iter().flatten() {
        let size = std::fs::metadata(&photo.path).map_or(0, |found| found.len());
        hash.update(format!("{} {} {size}\n", photo.path.display(), photo.class).as_bytes());
    }
    let mut all = json!({
        "format": VERSION, "fornax": env!("CARGO_PKG_VERSION"), "model": format!("{:016x}", model.source().hash()),
        "weights": weights(model)?, "photos": format!("{:016x}", hash.digest()),
    });
    options.identity().into_iter().for_each(|(key, value)| all[key] = value);
    Ok(all)
}

/// Hash of the files that the model was read from besides its own: a state dict, or external data.
fn weights(model: &Model) -> Result<Value> {
    let mut hash = Xxh3::new();
    for path in model.source().files() {
        hash.update(&fornax_runtime::map_file(&path, u64::MAX)?);
    }
    Ok(format!("{:016x}", hash.digest()).into())
}

fn json_of(epoch: &Epoch) -> Value {
    let Epoch { number, loss, accuracy, val_loss, val_accuracy, lr, time } = *epoch;
    json!({
        "epoch": number, "loss": loss, "accuracy": accuracy, "val_loss": val_loss, "val_accuracy": val_accuracy, "lr": lr,
        "seconds": time.as_secs_f64(),
    })
}

fn epoch_of(value: &Value) -> Option<Epoch> {
    let number = |key: &str| value[key].as_f64();
    Some(Epoch {
        number: usize::try_from(value["epoch"].as_u64()?).ok()?,
        loss: number("loss")?,
        accuracy: number("accuracy")?,
        val_loss: number("val_loss")?,
        val_accuracy: number("val_accuracy")?,
        lr: number("lr")?,
        time: Duration::try_from_secs_f64(number("seconds")?).ok()?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facade::open_spec;
    use fornax_ir::types::Constant;
    use fornax_scaling::parameters::parameters;
    use fornax_scaling::random::Random;
    use fornax_scaling::weights::{Scheme, Weights};
    use std::collections::BTreeMap;

    /// Every constant of a model by its name.
    fn constants(model: &Model) -> BTreeMap<String, Constant> {
        let graph = model.graph(&Bindings::default()).unwrap();
        let nodes: Vec<_> = graph.ids().map(|id| graph.node(id).clone()).collect();
        nodes.into_iter().filter_map(|node| Some((node.name.clone(), node.constant()?.clone()))).collect()
    }

    /// Convolutions of Keras have their axes elsewhere, and MobileNetV3's head is a matrix in torchvision's files.
    #[test]
    fn weights_are_written_as_their_source_has_them() {
        for (base, scheme) in [
            ("efficientnet_b0", Scheme::Keras),
            ("efficientnet_b0", Scheme::Torchvision),
            ("mobilenetv3_small_100", Scheme::TorchvisionMobileNetV3),
        ] {
            let folder = tempfile::tempdir().unwrap();
            let at = |name: &str| folder.path().join(name);
            let text = format!(
                "base = \"{base}\"\nwidth = 0.25\nresolution = 32\nclasses = 10\nweights = \"given.safetensors\"\n"
            );
            std::fs::write(at("given.toml"), text).unwrap();
            let network = open_spec(&at("given.toml"), 1 << 20).unwrap().unwrap().resolve().unwrap().architecture;
            let tensor = |parameter: &fornax_scaling::parameters::Parameter| {
                let elements = Random { seed: 3 }.constant(parameter).unwrap().bytes().unwrap();
                let (name, shape, bytes) = scheme.stored(&network, parameter, &elements);
                (name, Tensor::from_bytes(fornax_runtime::DType::F32, shape, &bytes).unwrap())
            };
            let tensors: Vec<(String, Tensor)> = parameters(&network).iter().map(tensor).collect();
            let views: Vec<(&str, &Tensor)> = tensors.iter().map(|(name, tensor)| (name.as_str(), tensor)).collect();
            save_safetensors(at("given.safetensors"), &views, &[]).unwrap();
            let given = Model::open(at("given.toml")).unwrap();
            write_weights(&given, &at(WEIGHTS)).unwrap();
            std::fs::write(at("model.toml"), given.to_spec(WEIGHTS).unwrap().unwrap()).unwrap();
            let again = Model::open(at("model.toml")).unwrap();
            assert!(constants(&given) == constants(&again), "{base} {scheme:?}");
            let written = crate::tensors::load(at(WEIGHTS)).unwrap();
            for (name, tensor) in &tensors {
                let own = written.iter().find(|own| own.name.as_ref() == Some(name));
                let own = own.unwrap_or_else(|| panic!("{scheme:?}: {name}"));
                assert_eq!(own.tensor.shape(), tensor.shape(), "{scheme:?}: {name}");
            }
        }
    }
}
