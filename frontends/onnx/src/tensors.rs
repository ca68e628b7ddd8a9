//! `TensorProto` to [`Constant`].
//!
//! In: a decoded tensor. Out: a constant whose payload has exactly the bytes its type asks for: a slice of the file for
//! `raw_data` and external data, a copy for the typed fields. Nothing is allocated from a size that the file only
//! claims. Elements are little-endian in the file and in memory; big-endian hosts are not supported.

use bytes::Bytes;
use fornax_ir::types::{Constant, DType, Shape, TensorType};

use crate::error::{Error, Result, short};
use crate::external::ExternalFiles;
use crate::limits::Limits;
use crate::proto::TensorProto;

const EXTERNAL: i32 = 1;

/// Turns tensors into constants, opening external data files as needed.
pub(crate) struct TensorLoader {
    pub limits: Limits,
    pub external: ExternalFiles,
}

impl TensorLoader {
    /// The constant that `tensor` holds; `name` is used in errors where the tensor has no name of its own.
    pub fn load(&self, tensor: &TensorProto, name: &str) -> Result<Constant> {
        let name = if tensor.name.is_empty() { name } else { &tensor.name };
        let place = short(name);
        if tensor.segment.is_some() {
            return Err(Error::tensor(place, "segment", "a whole tensor", "one segment of a tensor"));
        }
        let dtype = element_type(tensor.data_type).map_err(|found| match is_foreign(tensor.data_type) {
            true => Error::Unsupported(vec![format!("tensor {place}: elements of type {found}")]),
            false => Error::tensor(&place, "data_type", "a numeric element type", found),
        })?;
        let ty = TensorType::new(dtype, self.shape(&tensor.dims, &place)?);
        let external = self.is_external(tensor);
        let storages = storages(tensor);
        let expected = if external { "external data only" } else { "one storage field" };
        if storages.len() > usize::from(!external) {
            return Err(Error::tensor(place, "data", expected, storages.join(" and ")));
        }
        let payload = match (external, &tensor.raw_data) {
            (true, _) => self.external.read(tensor, &place, ty.bytes(), &self.limits)?,
            (false, Some(raw)) if storages == ["raw_data"] => raw.clone(),
            _ => typed_data(tensor, dtype, storages.first().copied(), &place)?,
        };
        if payload.len() != ty.bytes() {
            let field = storages.first().copied().unwrap_or("data");
            let found = format!("{} bytes", payload.len());
            return Err(Error::tensor(place, field, format!("{} bytes for {ty}", ty.bytes()), found));
        }
        Ok(Constant::from_bytes(ty, normal_bools(dtype, payload)))
    }

    /// Whether the data of a tensor is in another file.
    pub fn is_external(&self, tensor: &TensorProto) -> bool {
        tensor.data_location == EXTERNAL || !tensor.external_data.is_empty()
    }

    /// The shape that `dims` give, within the limits.
    pub fn shape(&self, dims: &[i64], place: &str) -> Result<Shape> {
        let axis = |d: &i64| {
            usize::try_from(*d).map_err(|_| Error::tensor(place, "dims", "extents of 0 or more", d.to_string()))
        };
        let shape: Shape = dims.iter().map(axis).collect::<Result<_>>()?;
        self.limits.check_shape(place, &shape)?;
        Ok(shape)
    }
}

/// ONNX's number of an element type.
pub(crate) fn type_code(dtype: DType) -> i32 {
    match dtype {
        DType::F32 => 1,
        DType::U8 => 2,
        DType::I8 => 3,
        DType::U16 => 4,
        DType::I16 => 5,
        DType::I32 => 6,
        DType::I64 => 7,
        DType::Bool => 9,
        DType::F16 => 10,
        DType::F64 => 11,
        DType::U32 => 12,
        DType::U64 => 13,
        DType::BF16 => 16,
    }
}

/// The IR's element type for an ONNX one, or the name of what it is instead.
pub(crate) fn element_type(code: i32) -> Result<DType, String> {
    Ok(match code {
        1 => DType::F32,
        2 => DType::U8,
        3 => DType::I8,
        4 => DType::U16,
        5 => DType::I16,
        6 => DType::I32,
        7 => DType::I64,
        9 => DType::Bool,
        10 => DType::F16,
        11 => DType::F64,
        12 => DType::U32,
        13 => DType::U64,
        16 => DType::BF16,
        0 => return Err("UNDEFINED".into()),
        8 => return Err("STRING".into()),
        14 | 15 => return Err("a complex type".into()),
        17..=20 | 24 => return Err("an 8-bit float type".into()),
        21..=23 | 25..=26 => return Err("a type below 8 bits".into()),
        _ => return Err(format!("the unknown type {code}")),
    })
}

/// Whether ONNX has the element type and the IR has not.
pub(crate) fn is_foreign(code: i32) -> bool {
    matches!(code, 8 | 14 | 15 | 17..=26)
}

/// Names of the storage fields that hold anything.
fn storages(tensor: &TensorProto) -> Vec<&'static str> {
    [
        ("raw_data", tensor.raw_data.as_ref().is_some_and(|d| !d.is_empty())),
        ("float_data", !tensor.float_data.is_empty()),
        ("int32_data", !tensor.int32_data.is_empty()),
        ("string_data", !tensor.string_data.is_empty()),
        ("int64_data", !tensor.int64_data.is_empty()),
        ("double_data", !tensor.double_data.is_empty()),
        ("uint64_data", !tensor.uint64_data.is_empty()),
    ]
    .into_iter()
    .filter_map(|(name, used)| used.then_some(name))
    .collect()
}

/// Elements from the typed field that belongs to `dtype`.
fn typed_data(tensor: &TensorProto, dtype: DType, used: Option<&'static str>, place: &str) -> Result<Bytes> {
    let field = match dtype {
        DType::F32 => "float_data",
        DType::F64 => "double_data",
        DType::I64 => "int64_data",
        DType::U32 | DType::U64 => "uint64_data",
        _ => "int32_data",
    };
    if let Some(used) = used.filter(|used| *used != field) {
        return Err(Error::tensor(place, "data", format!("raw_data or {field} for {dtype}"), used));
    }
    let range = |v: String| Error::tensor(place, field, format!("values of {dtype}"), v);
    let bytes: Vec<u8> = match dtype {
        DType::F32 => tensor.float_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::F64 => tensor.double_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::I64 => tensor.int64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U64 => tensor.uint64_data.iter().flat_map(|v| v.to_le_bytes()).collect(),
        DType::U32 => {
            let value = |v: &u64| u32::try_from(*v).map_err(|_| range(v.to_string()));
            let values: Vec<u32> = tensor.uint64_data.iter().map(value).collect::<Result<_>>()?;
            values.iter().flat_map(|v| v.to_le_bytes()).collect()
        }
        _ => {
            let mut out = Vec::with_capacity(tensor.int32_data.len() * dtype.size());
            for v in &tensor.int32_data {
                let fits = match dtype {
                    DType::I8 => i8::try_from(*v).is_ok(),
                    DType::U8 => u8::try_from(*v).is_ok(),
                    DType::I16 => i16::try_from(*v).is_ok(),
                    DType::U16 | DType::F16 | DType::BF16 => u16::try_from(*v).is_ok(),
                    DType::Bool => matches!(v, 0 | 1),
                    _ => true,
                };
                if !fits {
                    return Err(range(v.to_string()));
                }
                out.extend_from_slice(&v.to_le_bytes()[..dtype.size()]);
            }
            out
        }
    };
    Ok(bytes.into())
}

/// Bool elements as 0 or 1, which is what kernels rely on.
fn normal_bools(dtype: DType, payload: Bytes) -> Bytes {
    if dtype != DType::Bool || payload.iter().all(|b| *b <= 1) {
        return payload;
    }
    payload.iter().map(|b| u8::from(*b != 0)).collect::<Vec<_>>().into()
}
