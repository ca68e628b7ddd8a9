//! The folder of a run: what it has learnt, how it went, and what it needs to go on.
//!
//! ```text
//! run/model.onnx          the network, with classes, size, crop, mean and deviation in it
//! run/model.safetensors   its weights, under the names of their source
//! run/model.so, model.h   the network compiled
//! run/log.jsonl           a line for each epoch
//! run/state/checkpoint    parameters, moments and epochs after the last one: what --resume goes on from
//! ```
//!
//! In: a network, epochs, the state of a step. Out: these files, each written aside and renamed, so that each is always whole.

use std::path::{Path, PathBuf};
use std::time::Duration;

use fornax_ir::inputs::Bindings;
use fornax_runtime::Tensor;
use serde_json::{Value, json};
use xxhash_rust::xxh3::Xxh3;

use super::dataset::Photo;
use super::finetune::{Epoch, FinetuneOptions, Saved};
use crate::error::{Error, Result};
use crate::facade::{ArtifactOptions, Emit, Model};
use crate::files::{write_file, write_files};
use crate::tensors::save_safetensors;

/// What a checkpoint begins with.
const MAGIC: &[u8; 8] = b"FNXTRAIN";
/// Version of the form of a checkpoint.
const VERSION: u64 = 1;

/// A run's folder.
#[derive(Clone, Debug)]
pub struct Folder {
    path: PathBuf,
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
        let failed = |e: std::io::Error| Error::file(path, format!("expected a folder that can be written: {e}"));
        let used = path.exists() && std::fs::read_dir(path).map_err(failed)?.next().is_some();
        match (used, resume) {
            (true, false) => {
                return Err(Error::usage("--output", "a new or empty folder, or --resume", path.display().to_string()));
            }
            (false, true) => return Err(Error::usage("--resume", "a folder of a run", path.display().to_string())),
            _ => {}
        }
        Ok(Self { path: path.to_path_buf(), identity: identity(model, photos, options)? })
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
        Ok(Some(Saved { epochs: epochs.collect::<Option<_>>().ok_or_else(damaged)?, state: state.to_vec() }))
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
        let failed = |e: std::io::Error| Error::file(&self.path, format!("expected a folder that can be written: {e}"));
        std::fs::create_dir_all(state).map_err(failed)
    }

    fn checkpoint(&self) -> PathBuf {
        self.path.join("state/checkpoint")
    }

    /// Writes the log and the checkpoint after an epoch.
    ///
    /// # Errors
    /// [`Error::File`] if they cannot be written; those of the epoch before are then as they were.
    pub fn save(&self, epochs: &[Epoch], state: &[u8]) -> Result<()> {
        let head =
            json!({"identity": self.identity, "epochs": epochs.iter().map(json_of).collect::<Vec<_>>()}).to_string();
        self.make()?;
        let length = (head.len() as u64).to_le_bytes();
        write_files(&[(&self.checkpoint(), &[MAGIC, &length, head.as_bytes(), state])])?;
        let lines: String = epochs.iter().map(|epoch| format!("{}\n", json_of(epoch))).collect();
        write_file(self.path.join("log.jsonl"), lines.as_bytes())
    }

    /// Writes the network in every form. The names of the files.
    ///
    /// # Errors
    /// As [`Model::export`] and [`Model::artifacts`]; [`Error::File`] if they cannot be written.
    pub fn write_model(&self, model: &Model) -> Result<Vec<PathBuf>> {
        self.make()?;
        let onnx = self.path.join("model.onnx");
        let open = model.export(&Bindings::default(), false, true);
        let bytes = open.or_else(|_| model.export(&Bindings::default(), false, false))?;
        write_file(&onnx, &bytes)?;
        let weights = self.path.join("model.safetensors");
        write_weights(model, &weights)?;
        let options = ArtifactOptions::new("net");
        let artifacts = model.artifacts(&options, &Emit::LOADED)?;
        let paths: Vec<PathBuf> =
            artifacts.files.iter().map(|file| self.path.join(format!("model.{}", file.kind.suffix()))).collect();
        let parts: Vec<Vec<&[u8]>> =
            artifacts.files.iter().map(|file| file.parts.iter().map(|part| &part[..]).collect()).collect();
        let files: Vec<(&Path, &[&[u8]])> =
            paths.iter().zip(&parts).map(|(path, parts)| (path.as_path(), &parts[..])).collect();
        write_files(&files)?;
        Ok([onnx, weights].into_iter().chain(paths).collect())
    }
}

/// The constants of a network under the names they had in their file.
fn write_weights(model: &Model, path: &Path) -> Result<()> {
    let graph = model.graph(&Bindings::default())?;
    let mut tensors = Vec::new();
    for id in graph.ids() {
        let node = graph.node(id);
        let Some(constant) = node.constant().filter(|constant| constant.ty.dtype == fornax_runtime::DType::F32) else {
            continue;
        };
        let (name, ty) = (constant.origins.first().unwrap_or(&node.name).clone(), &constant.ty);
        if let Some(bytes) = constant.bytes() {
            tensors.push((name, Tensor::from_bytes(ty.dtype, ty.shape.clone(), &bytes)?));
        }
    }
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
