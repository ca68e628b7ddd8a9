//! Element types, shapes and constants: the vocabulary that every stage shares.
//!
//! A [`TensorType`] is an element type and a static shape in ONNX's logical axis order. A [`Constant`] is the payload of a
//! weight: bytes that are usually a slice of the mapped model file, in row-major little-endian order and of no particular
//! alignment, so they are always read as bytes.

mod scaled;

use std::fmt;
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
pub use fornax_runtime::{DType, Shape};
pub use scaled::Scaled;

/// Element type and static shape of a value.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct TensorType {
    /// Element type.
    pub dtype: DType,
    /// Extent of each logical axis.
    pub shape: Shape,
}

impl TensorType {
    /// A type of `dtype` elements in `shape`.
    pub fn new(dtype: DType, shape: impl Into<Shape>) -> Self {
        Self { dtype, shape: shape.into() }
    }

    /// A type of `f32` elements in `shape`.
    pub fn f32(shape: impl Into<Shape>) -> Self {
        Self::new(DType::F32, shape)
    }

    /// Size in bytes when stored densely; saturates at `usize::MAX`.
    pub fn bytes(&self) -> usize {
        self.shape.numel().saturating_mul(self.dtype.size())
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}{}", self.dtype, self.shape)
    }
}

/// Where the elements of a constant come from.
#[derive(Clone)]
pub enum Payload {
    /// Row-major little-endian elements, unaligned.
    Bytes(Bytes),
    /// Seeded pseudo-random `f32` values in `[-1, 1)`, made by [`random_values`]; printed as `random(seed)`.
    Random(u64),
    /// `f32` elements times factors.
    Scaled(Scaled),
    /// Only the content hash is known: text that was parsed back from `hash(…)`. It can be compared, not evaluated.
    Hash(u64),
}

/// A tensor whose elements are known at compile time.
#[derive(Clone)]
pub struct Constant {
    /// Element type and shape.
    pub ty: TensorType,
    /// The elements.
    pub payload: Payload,
    /// Names of the parameters of the model file that this constant stands for; they survive folding and packing.
    pub origins: Vec<String>,
    hash: Arc<OnceLock<u64>>,
}

impl Constant {
    /// A constant over `payload`. The caller vouches that the payload holds exactly `ty.bytes()` bytes.
    pub fn new(ty: TensorType, payload: Payload) -> Self {
        Self { ty, payload, origins: Vec::new(), hash: Arc::default() }
    }

    /// A constant over row-major little-endian `bytes`.
    pub fn from_bytes(ty: TensorType, bytes: impl Into<Bytes>) -> Self {
        Self::new(ty, Payload::Bytes(bytes.into()))
    }

    /// A constant of `f32` elements.
    pub fn from_f32(shape: impl Into<Shape>, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::from_bytes(TensorType::f32(shape), bytes)
    }

    /// A constant of `i64` elements.
    pub fn from_i64(shape: impl Into<Shape>, values: &[i64]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|v| v.to_le_bytes()).collect();
        Self::from_bytes(TensorType::new(DType::I64, shape), bytes)
    }

    /// The same constant with the parameter names `origins`.
    pub fn with_origins(mut self, origins: Vec<String>) -> Self {
        self.origins = origins;
        self
    }

    /// The elements as row-major little-endian bytes; `None` if only the hash is known.
    pub fn bytes(&self) -> Option<Bytes> {
        match &self.payload {
            Payload::Bytes(bytes) => Some(bytes.clone()),
            Payload::Random(seed) => {
                let values = random_values(*seed, self.ty.shape.numel());
                Some(values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>().into())
            }
            Payload::Scaled(scaled) => Some(scaled.products()),
            Payload::Hash(_) => None,
        }
    }

    /// The bytes in memory or in a file behind the elements, if there are any.
    pub fn source(&self) -> Option<&Bytes> {
        match &self.payload {
            Payload::Bytes(bytes) => Some(bytes),
            Payload::Scaled(scaled) => Some(&scaled.elements),
            Payload::Random(_) | Payload::Hash(_) => None,
        }
    }

    /// Hash of the first elements: equal for constants that are equal and whose elements are known.
    pub fn prefix_hash(&self) -> u64 {
        const FIRST: usize = 16;
        let hash = xxhash_rust::xxh3::xxh3_64;
        match &self.payload {
            Payload::Bytes(bytes) => hash(&bytes[..bytes.len().min(FIRST * self.ty.dtype.size())]),
            Payload::Scaled(scaled) => hash(&scaled.first(FIRST)),
            Payload::Random(seed) => {
                let values = random_values(*seed, self.ty.shape.numel().min(FIRST));
                hash(&values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<u8>>())
            }
            Payload::Hash(hash) => *hash,
        }
    }

    /// The elements as `f32`; `None` if this is not an `f32` constant or only its hash is known.
    pub fn to_f32(&self) -> Option<Vec<f32>> {
        if self.ty.dtype != DType::F32 {
            return None;
        }
        if let Payload::Random(seed) = self.payload {
            return Some(random_values(seed, self.ty.shape.numel()));
        }
        let bytes = self.bytes()?;
        Some(bytes.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect())
    }

    /// Whether one was cloned from the other, so that they are equal without a look at the elements.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.hash, &other.hash)
    }

    /// Hash of the element bytes (xxh3), computed once.
    pub fn hash(&self) -> u64 {
        *self.hash.get_or_init(|| match &self.payload {
            Payload::Hash(hash) => *hash,
            _ => self.bytes().map_or(0, |bytes| xxhash_rust::xxh3::xxh3_64(&bytes)),
        })
    }
}

/// Equal types and elements. Where only the hash of one is known, the hashes decide.
impl PartialEq for Constant {
    fn eq(&self, other: &Self) -> bool {
        if self.ty != other.ty {
            return false;
        }
        if self.is_clone_of(other) {
            return true;
        }
        // The hash is not keyed: anyone can make two constants that share one.
        self.hash() == other.hash()
            && match (self.bytes(), other.bytes()) {
                (Some(own), Some(others)) => own == others,
                _ => true,
            }
    }
}

impl fmt::Debug for Constant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Constant({} hash {:#x})", self.ty, self.hash())
    }
}

/// `count` values in `[-1, 1)` from the splitmix64 counter stream of `seed`: value `k` (from 1) is the top 24 bits of the
/// finalised `seed + k * 0x9E3779B97F4A7C15`, over 2^23, minus 1. The reference goldens draw their inputs the same way.
pub fn random_values(seed: u64, count: usize) -> Vec<f32> {
    (1..=count as u64)
        .map(|k| {
            let mut z = seed.wrapping_add(k.wrapping_mul(0x9E37_79B9_7F4A_7C15));
            z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
            z ^= z >> 31;
            (z >> 40) as f32 / (1u64 << 23) as f32 - 1.0
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A constant that claims a hash, as one that was made to collide would have it.
    fn colliding(values: &[f32], hash: u64) -> Constant {
        Constant { hash: Arc::new(OnceLock::from(hash)), ..Constant::from_f32([values.len()], values) }
    }

    #[test]
    fn constants_of_one_hash_are_equal_by_their_elements_only() {
        assert_eq!(colliding(&[1.0, 2.0], 7), colliding(&[1.0, 2.0], 7));
        assert_ne!(colliding(&[1.0, 2.0], 7), colliding(&[1.0, 3.0], 7));
        assert_ne!(colliding(&[1.0, 2.0], 7), Constant::from_i64([1], &[7]));
        // Of what was read back from text only the hash is known.
        let read = Constant::new(TensorType::f32([2]), Payload::Hash(7));
        assert_eq!(read, colliding(&[1.0, 2.0], 7));
        assert_eq!(read.clone(), read);
    }
}
