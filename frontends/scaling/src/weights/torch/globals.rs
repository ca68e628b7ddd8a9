//! The classes and functions that a pickle may name, and what calling one gives. None of them is run: a call describes a value.
//!
//! In: a name; a call's arguments. Out: a [`Global`]; a [`Value`]. Invariant: a name outside these tables is an error.

use safetensors::Dtype;

use super::error::{CheckpointError, Result};
use super::object::{Global, Objects, Storage, TensorRef, Value};

/// Names of `torch` with the element type that they stand for.
const STORAGES: [(&str, Dtype); 10] = [
    ("FloatStorage", Dtype::F32),
    ("DoubleStorage", Dtype::F64),
    ("HalfStorage", Dtype::F16),
    ("BFloat16Storage", Dtype::BF16),
    ("LongStorage", Dtype::I64),
    ("IntStorage", Dtype::I32),
    ("ShortStorage", Dtype::I16),
    ("CharStorage", Dtype::I8),
    ("ByteStorage", Dtype::U8),
    ("BoolStorage", Dtype::BOOL),
];

/// Names of `torch` that are element types.
const DTYPES: [(&str, Dtype); 13] = [
    ("float32", Dtype::F32),
    ("float64", Dtype::F64),
    ("float16", Dtype::F16),
    ("bfloat16", Dtype::BF16),
    ("int64", Dtype::I64),
    ("int32", Dtype::I32),
    ("int16", Dtype::I16),
    ("int8", Dtype::I8),
    ("uint8", Dtype::U8),
    ("uint16", Dtype::U16),
    ("uint32", Dtype::U32),
    ("uint64", Dtype::U64),
    ("bool", Dtype::BOOL),
];

/// What checkpoints of training runs hold besides tensors: options, counts, best values. Modules with their names.
const INERT: [(&str, &[&str]); 17] = [
    ("argparse", &["Namespace"]),
    ("types", &["SimpleNamespace"]),
    ("easydict", &["EasyDict"]),
    ("builtins", &["set", "frozenset", "bytearray", "complex", "list", "dict", "tuple", "int", "float", "str", "bool"]),
    ("__builtin__", &["set", "frozenset", "bytearray", "complex", "list", "dict", "tuple", "int", "float", "str"]),
    ("_codecs", &["encode"]),
    ("collections", &["Counter", "deque"]),
    ("datetime", &["date", "datetime", "timedelta"]),
    ("pathlib", &["Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"]),
    ("pathlib._local", &["Path", "PosixPath", "WindowsPath", "PurePosixPath", "PureWindowsPath"]),
    ("numpy", &["dtype", "ndarray", "float32", "float64", "int32", "int64", "bool_"]),
    ("numpy.core.multiarray", &["scalar", "_reconstruct"]),
    ("numpy._core.multiarray", &["scalar", "_reconstruct"]),
    ("torch", &["device", "Tensor", "strided", "contiguous_format", "channels_last"]),
    ("torch.nn.parameter", &["Parameter", "Buffer"]),
    ("lightning.fabric.utilities.data", &["AttributeDict"]),
    ("pytorch_lightning.utilities.parsing", &["AttributeDict"]),
];

impl Global {
    /// What `module.name` stands for.
    ///
    /// # Errors
    /// [`CheckpointError::Global`] if it is not known.
    pub fn named(module: &str, name: &str) -> Result<Self> {
        let typed = |table: &[(&str, Dtype)]| table.iter().find(|(known, _)| *known == name).map(|(_, dtype)| *dtype);
        let found = match (module, name) {
            ("collections", "OrderedDict" | "defaultdict") => Some(Self::Dict),
            ("torch", "Size") => Some(Self::Size),
            ("torch._utils", "_rebuild_tensor" | "_rebuild_tensor_v2") => Some(Self::Tensor { dtype: None }),
            ("torch._utils", "_rebuild_tensor_v3") => Some(Self::Tensor { dtype: Some(6) }),
            ("torch._utils", "_rebuild_parameter" | "_rebuild_parameter_with_state") => Some(Self::Wrapped(0)),
            ("torch._tensor", "_rebuild_from_type_v2") => Some(Self::FromType),
            ("torch.storage", "UntypedStorage") | ("torch", "UntypedStorage") => Some(Self::Storage(None)),
            ("torch", _) => {
                typed(&STORAGES).map(|dtype| Self::Storage(Some(dtype))).or(typed(&DTYPES).map(Self::Dtype))
            }
            _ => None,
        };
        let inert = || INERT.iter().any(|(known, names)| *known == module && names.contains(&name));
        found.or_else(|| inert().then_some(Self::Inert)).ok_or_else(|| CheckpointError::Global {
            name: format!("{module}.{name}").chars().take(120).flat_map(char::escape_debug).collect(),
        })
    }

    /// What calling it with `arguments` gives.
    ///
    /// # Errors
    /// [`CheckpointError::Content`] if it does not take these.
    pub fn call(self, objects: &mut Objects, arguments: Value) -> Result<Value> {
        let given = objects.items(arguments).unwrap_or_default();
        let argument = |at: usize| given.get(at).copied().unwrap_or(Value::Inert);
        match self {
            Self::Inert => Ok(Value::Inert),
            Self::Dict => dict(objects, argument(0)),
            Self::Size | Self::Wrapped(_) => Ok(argument(if let Self::Wrapped(at) = self { at } else { 0 })),
            Self::FromType => {
                let (function, arguments) = (argument(0), argument(2));
                match function {
                    // Itself excluded, so that the depth is bounded.
                    Value::Global(function) if function != Self::FromType => function.call(objects, arguments),
                    _ => Err(no_call(objects, "a function that makes a tensor", function)),
                }
            }
            Self::Tensor { dtype } => {
                let Value::Storage(storage) = argument(0) else {
                    return Err(no_call(objects, "a storage to make a tensor of", argument(0)));
                };
                let dtype = match dtype.map(argument) {
                    None => None,
                    Some(Value::Global(Self::Dtype(dtype))) => Some(dtype),
                    Some(other) => return Err(no_call(objects, "the element type of a tensor", other)),
                };
                let (offset, shape, strides) = (argument(1), argument(2), argument(3));
                objects.tensors.push(TensorRef { storage, dtype, offset, shape, strides });
                Ok(Value::Tensor(objects.tensors.len() - 1))
            }
            Self::Storage(_) | Self::Dtype(_) => Err(no_call(objects, "a function", Value::Global(self))),
        }
    }
}

fn no_call(objects: &Objects, expected: &str, found: Value) -> CheckpointError {
    CheckpointError::content("pickle, a call", expected, objects.describe(found))
}

/// A dictionary of a list of pairs, as Python 2 writes one, or an empty one.
///
/// # Errors
/// [`CheckpointError::Limit`] if calls copy more entries than instructions could have written.
fn dict(objects: &mut Objects, pairs: Value) -> Result<Value> {
    let pairs = objects.items(pairs).unwrap_or_default();
    if pairs.len() > objects.copies_left {
        return Err(CheckpointError::Limit { what: "copied entries of dictionaries", limit: super::INSTRUCTIONS });
    }
    let count = pairs.len();
    let pair = |value: &Value| match objects.items(*value) {
        Some([key, value]) => Some((*key, *value)),
        _ => None,
    };
    let entries = pairs.iter().filter_map(pair).collect();
    objects.copies_left -= count;
    Ok(objects.dict(entries))
}

/// The storage that a persistent identifier names: `("storage", class, key, device, elements)`, and in files before 1.6 the part of
/// it that is meant, `(key, first element, elements)` or `None`.
///
/// # Errors
/// [`CheckpointError::Content`] if it is another one.
pub(super) fn storage(objects: &mut Objects, id: Value) -> Result<Value> {
    let no_id = |found: String| {
        CheckpointError::content(
            "pickle, a persistent identifier",
            "(\"storage\", class, key, device, elements)",
            found,
        )
    };
    let parts = objects.items(id).ok_or_else(|| no_id(objects.describe(id)))?;
    let (kind, Some(&[class, key, _, numel])) = (parts.first(), parts.get(1..5).and_then(|rest| rest.first_chunk()))
    else {
        return Err(no_id(objects.describe(id)));
    };
    match (kind.and_then(|kind| objects.text(*kind)), class, key) {
        (Some("storage"), Value::Global(Global::Storage(dtype)), Value::Text(key)) => {
            let what = || "elements of a storage".to_string();
            let mut found = Storage { key, dtype, numel: objects.whole(numel, what)?, start: 0 };
            if let Some([_, start, numel]) = parts.get(5).and_then(|view| objects.items(*view)) {
                (found.start, found.numel) = (objects.whole(*start, what)?, objects.whole(*numel, what)?);
            }
            objects.storages.push(found);
            Ok(Value::Storage(objects.storages.len() - 1))
        }
        _ => Err(no_id("another one".into())),
    }
}
