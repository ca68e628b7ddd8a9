//! PyTorch checkpoints: `.pth`, `.pt`, `.bin`, `.pth.tar`, known by their content.
//!
//! ```text
//! zip archive ── zipped ─┐                                              ┌─ state dict ── strided ──▶ tensors
//!                        ├─▶ pickle ── globals ──▶ objects, storages ───┤  chosen by name
//! pickles ────── legacy ─┘   (a stack machine)                          └─ the rest is not looked at
//! ```
//!
//! In: a file. Out: the tensors of its state dict, as slices of the file where they are row-major. Invariant: nothing of the file is executed,
//! no class or function is known but those that tensors and containers are made of, memory is proportional to the file and to
//! [`INSTRUCTIONS`], and nothing recurses.

mod directory;
mod error;
mod globals;
mod legacy;
mod object;
mod pickle;
mod strided;
#[cfg(test)]
mod tests;
mod zipped;

use std::collections::{BTreeMap, HashMap};

use bytes::Bytes;

use super::file::Tensor;
pub use error::CheckpointError;
use error::Result;
use object::{Objects, Value};

/// The most instructions of a pickle; a checkpoint of a thousand tensors with an optimiser's state has some 200 000.
const INSTRUCTIONS: usize = 1 << 21;

/// Under which names a training run keeps a state dict, the preferred first: averaged weights, as timm does.
const NAMES: [&str; 7] =
    ["state_dict_ema", "model_ema", "state_dict", "model", "model_state_dict", "model_state", "net"];

/// Bytes that are copied of tensors that are not row-major, beyond twice the size of the file.
const COPIES: usize = 1 << 20;

/// How deep state dicts may lie.
const DEPTH: usize = 3;

/// Names listed in a message.
const LISTED: usize = 5;

/// What a checkpoint holds.
#[derive(Debug)]
pub(super) struct Checkpoint {
    /// Tensors by name.
    pub tensors: BTreeMap<String, Tensor>,
    /// Which state dict was taken, and what was left out, a line each.
    pub notes: Vec<String>,
}

/// The content of a file before a state dict is chosen.
struct Pickled {
    objects: Objects,
    root: Value,
    /// Bytes of storages by key.
    storages: HashMap<String, Bytes>,
}

/// Whether `file` may be a checkpoint: a zip archive or a pickle. A safetensors file may begin like a pickle, and is to be tried first.
pub(super) fn may_be(file: &[u8]) -> bool {
    file.starts_with(zipped::MAGIC) || matches!(file, [0x80, 2..=5, ..])
}

/// Reads a checkpoint.
///
/// # Errors
/// [`CheckpointError`] naming what does not fit.
pub(super) fn read(file: &Bytes) -> Result<Checkpoint> {
    let pickled = if file.starts_with(zipped::MAGIC) { zipped::read(file)? } else { legacy::read(file)? };
    let objects = &pickled.objects;
    let (dict, mut notes) = choose(objects, pickled.root)?;
    let (mut tensors, mut others) = (BTreeMap::new(), Vec::new());
    let mut copies_left = file.len().saturating_mul(2).saturating_add(COPIES);
    for (key, value) in objects.entries(dict).unwrap_or_default() {
        let Some(name) = objects.text(*key) else {
            let found = objects.describe(*key);
            return Err(CheckpointError::content("state dict", "names in UTF-8", found));
        };
        match value {
            Value::Tensor(at) => {
                let storage = |key: &str| pickled.storages.get(key).cloned();
                let tensor = strided::tensor(objects, name, objects.tensors[*at], storage, &mut copies_left)?;
                tensors.insert(name.to_string(), tensor);
            }
            _ => others.push(name),
        }
    }
    if !others.is_empty() {
        notes.push(format!("no tensors, left out: {}", listed(others.iter().copied(), others.len())));
    }
    Ok(Checkpoint { tensors, notes })
}

/// The state dict, and which one it is if there is a choice.
fn choose(objects: &Objects, root: Value) -> Result<(Value, Vec<String>)> {
    let (mut dict, mut notes) = (root, Vec::new());
    let has_tensors = |value: Value| {
        objects.entries(value).unwrap_or_default().iter().any(|(_, value)| matches!(value, Value::Tensor(_)))
    };
    let is_dict = |value: Value| has_tensors(value) || NAMES.iter().any(|name| objects.get(value, name).is_some());
    for _ in 0..DEPTH {
        let found = NAMES.into_iter().filter_map(|name| Some((name, objects.get(dict, name).filter(|v| is_dict(*v))?)));
        let found: Vec<(&str, Value)> = found.collect();
        let Some(((name, taken), rest)) = found.split_first() else { break };
        let rest: Vec<String> = rest.iter().map(|(name, _)| format!("`{name}`")).collect();
        let beside = if rest.is_empty() { String::new() } else { format!(", not {}", rest.join(", ")) };
        notes.push(format!("the checkpoint's `{name}` is taken{beside}"));
        dict = *taken;
    }
    if has_tensors(dict) {
        return Ok((dict, notes));
    }
    let expected = format!("a state dict, or one under {}", NAMES.join(", "));
    let found = match objects.entries(dict) {
        None => objects.describe(dict),
        Some(entries) => {
            let names = entries.iter().filter_map(|(key, _)| objects.text(*key));
            format!("a dictionary without tensors: {}", listed(names, entries.len()))
        }
    };
    Err(CheckpointError::content("checkpoint", expected, found))
}

/// The first of `count` names.
fn listed<'a>(names: impl Iterator<Item = &'a str>, count: usize) -> String {
    let short = |name: &str| name.chars().take(60).flat_map(char::escape_debug).collect::<String>();
    let mut text = names.take(LISTED).map(short).collect::<Vec<_>>().join(", ");
    if count > LISTED {
        text.push_str(&format!(" and {} more", count - LISTED));
    }
    text
}
