//! What a pickle builds: values that are handles into tables, so that nothing is nested.
//!
//! A value that the pickle shares is shared here, a container that holds itself does no harm, and dropping millions of nested lists does not
//! recurse. Memory is proportional to the number of instructions: texts stay in the file.

use std::ops::Range;

use bytes::Bytes;
use safetensors::Dtype;

use super::error::{CheckpointError, Result};

/// A value of a pickle.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) enum Value {
    /// `None`, and what is allowed but not read: floats, sets, options of a training run.
    Inert,
    Bool(bool),
    Int(i64),
    /// An integer of more than 64 bits: its little-endian bytes in the file.
    Long(Span),
    /// Text or bytes: where they are in the file.
    Text(Span),
    /// A tuple or list in [`Objects::sequences`].
    Sequence(usize),
    /// A dictionary in [`Objects::dicts`].
    Dict(usize),
    /// A class or function of [`super::globals`].
    Global(Global),
    /// A storage in [`Objects::storages`].
    Storage(usize),
    /// A tensor in [`Objects::tensors`].
    Tensor(usize),
}

/// What the name of a class or function stands for; [`super::globals`] knows the names.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Global {
    /// A dictionary.
    Dict,
    /// `torch.Size`: its argument.
    Size,
    /// `_rebuild_tensor`, `_v2`, `_v3`: storage, offset, shape, strides, …
    Tensor {
        /// Where among the arguments the element type is, if it is there.
        dtype: Option<usize>,
    },
    /// A wrapper whose argument of this place is the tensor.
    Wrapped(usize),
    /// `_rebuild_from_type_v2`: a function, a class, arguments of the function, attributes.
    FromType,
    /// A class of storages, of bytes if it has no type.
    Storage(Option<Dtype>),
    /// An element type.
    Dtype(Dtype),
    /// Allowed, and not read.
    Inert,
}

/// A range of the file.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) struct Span {
    pub start: usize,
    pub len: usize,
}

impl Span {
    pub fn range(self) -> Range<usize> {
        self.start..self.start + self.len
    }
}

/// A reference to a storage of the file.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct Storage {
    /// Its name in the file.
    pub key: Span,
    /// Type of its elements; none for a storage of bytes, whose tensors say it.
    pub dtype: Option<Dtype>,
    /// Number of elements.
    pub numel: usize,
    /// Elements before the part of it that is meant.
    pub start: usize,
}

/// A tensor as the pickle describes it; nothing is checked before it is asked for.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(super) struct TensorRef {
    /// Place in [`Objects::storages`].
    pub storage: usize,
    /// Type of its elements, if not the storage's.
    pub dtype: Option<Dtype>,
    pub offset: Value,
    pub shape: Value,
    pub strides: Value,
}

/// Everything that pickles of one file have built.
#[derive(Debug)]
pub(super) struct Objects {
    pub file: Bytes,
    pub sequences: Vec<Vec<Value>>,
    pub dicts: Vec<Vec<(Value, Value)>>,
    pub storages: Vec<Storage>,
    pub tensors: Vec<TensorRef>,
    /// Entries of dictionaries that calls may still copy.
    pub copies_left: usize,
}

impl Objects {
    pub fn new(file: Bytes) -> Self {
        Self {
            file,
            sequences: Vec::new(),
            dicts: Vec::new(),
            storages: Vec::new(),
            tensors: Vec::new(),
            copies_left: super::INSTRUCTIONS,
        }
    }

    pub fn sequence(&mut self, items: Vec<Value>) -> Value {
        self.sequences.push(items);
        Value::Sequence(self.sequences.len() - 1)
    }

    pub fn dict(&mut self, entries: Vec<(Value, Value)>) -> Value {
        self.dicts.push(entries);
        Value::Dict(self.dicts.len() - 1)
    }

    /// The items of a tuple or list.
    pub fn items(&self, value: Value) -> Option<&[Value]> {
        match value {
            Value::Sequence(at) => self.sequences.get(at).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The entries of a dictionary; a key may come twice, and the last one counts.
    pub fn entries(&self, value: Value) -> Option<&[(Value, Value)]> {
        match value {
            Value::Dict(at) => self.dicts.get(at).map(Vec::as_slice),
            _ => None,
        }
    }

    /// The value of a dictionary under a text.
    pub fn get(&self, dict: Value, key: &str) -> Option<Value> {
        let found = self.entries(dict)?.iter().rev().find(|(name, _)| self.text(*name) == Some(key));
        found.map(|(_, value)| *value)
    }

    /// A text, if it is one in UTF-8.
    pub fn text(&self, value: Value) -> Option<&str> {
        match value {
            Value::Text(span) => std::str::from_utf8(self.file.get(span.range())?).ok(),
            _ => None,
        }
    }

    /// A whole number from 0 on, of the part `what`.
    pub fn whole(&self, value: Value, what: impl FnOnce() -> String) -> Result<usize> {
        match value {
            Value::Int(n) if n >= 0 => usize::try_from(n).map_err(|_| self.no_whole(value, what())),
            _ => Err(self.no_whole(value, what())),
        }
    }

    fn no_whole(&self, value: Value, what: String) -> CheckpointError {
        CheckpointError::content(what, "a whole number from 0 on", self.describe(value))
    }

    /// What a value is, for messages.
    pub fn describe(&self, value: Value) -> String {
        match value {
            Value::Inert => "None or a value that is not read".into(),
            Value::Bool(value) => value.to_string(),
            Value::Int(value) => value.to_string(),
            Value::Long(span) => format!("an integer of {} bytes", span.len),
            Value::Text(_) => self.text(value).map_or("bytes".into(), |text| {
                let short: String = text.chars().take(40).collect();
                format!("the text {short:?}")
            }),
            Value::Sequence(_) => format!("{} values in a row", self.items(value).map_or(0, <[Value]>::len)),
            Value::Dict(_) => format!("a dictionary of {} entries", self.entries(value).map_or(0, <[_]>::len)),
            Value::Global(_) => "a class or function".into(),
            Value::Storage(_) => "a storage".into(),
            Value::Tensor(_) => "a tensor".into(),
        }
    }
}
