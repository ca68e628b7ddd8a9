//! Constants in the order kernels read them.
//!
//! In: constants of the graph with a [`Packing`] each, and what lowerings make up themselves. Out: plain values that say what stands in memory,
//! a [`Pool`] that holds equal ones once, and [`PackedConstant::write`], which fills the memory. Equal texts mean equal bytes.

use std::borrow::Borrow;
use std::collections::HashMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::str::FromStr;

use bytes::Bytes;
use fornax_ir::types::{Constant, Payload, TensorType};
use fornax_runtime::packing::Packing;

/// What stands in a constant.
#[derive(Clone)]
pub enum Contents {
    /// Elements of a constant of the graph.
    Packed(Constant, Packing),
    /// What no model holds.
    Generated(Generated),
}

/// A constant that a lowering makes up.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Generated {
    /// So many zero bytes: what padding reads.
    Zeros(usize),
    /// So many `f32` of these bits.
    Fill(usize, u32),
    /// A list of `f32`: counts, factors.
    Floats(NumberList),
    /// A list of `i32` that kernels compute addresses from.
    Indices(NumberList),
}

/// A list of 32-bit numbers. One that was read back from text has no elements, only their hash.
#[derive(Clone, Debug)]
pub struct NumberList {
    count: usize,
    hash: u64,
    elements: Option<Bytes>,
}

impl NumberList {
    fn new(elements: impl Iterator<Item = [u8; 4]>) -> Self {
        let bytes: Bytes = elements.flatten().collect::<Vec<u8>>().into();
        Self { count: bytes.len() / 4, hash: xxhash_rust::xxh3::xxh3_64(&bytes), elements: Some(bytes) }
    }

    /// The smallest and largest number of a list of `i32`, if it has any and they are known.
    pub fn range(&self) -> Option<(i64, i64)> {
        let numbers =
            || self.elements.iter().flat_map(|bytes| bytes.as_chunks().0).map(|n| i64::from(i32::from_le_bytes(*n)));
        Some((numbers().min()?, numbers().max()?))
    }
}

impl PartialEq for NumberList {
    fn eq(&self, other: &Self) -> bool {
        // The hash is not keyed: lists of one hash may differ.
        let same = || match (&self.elements, &other.elements) {
            (Some(own), Some(others)) => own == others,
            _ => true,
        };
        (self.count, self.hash) == (other.count, other.hash) && same()
    }
}

impl Eq for NumberList {}

impl Hash for NumberList {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.count, self.hash).hash(state);
    }
}

impl fmt::Display for NumberList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {:016x}", self.count, self.hash)
    }
}

impl Generated {
    /// `count` times `value`.
    pub fn fill(count: usize, value: f32) -> Self {
        Self::Fill(count, value.to_bits())
    }

    pub fn floats(values: &[f32]) -> Self {
        Self::Floats(NumberList::new(values.iter().map(|value| value.to_le_bytes())))
    }

    pub fn indices(values: &[i32]) -> Self {
        Self::Indices(NumberList::new(values.iter().map(|value| value.to_le_bytes())))
    }

    pub fn bytes(&self) -> usize {
        match self {
            Self::Zeros(bytes) => *bytes,
            Self::Fill(count, _) => count * 4,
            Self::Floats(list) | Self::Indices(list) => list.count * 4,
        }
    }

    fn write(&self, to: &mut [u8]) {
        match self {
            Self::Zeros(_) => {}
            Self::Fill(_, bits) => to.as_chunks_mut::<4>().0.iter_mut().for_each(|to| *to = bits.to_le_bytes()),
            Self::Floats(list) | Self::Indices(list) => {
                if let Some(elements) = list.elements.as_ref().filter(|elements| elements.len() == to.len()) {
                    to.copy_from_slice(elements);
                }
            }
        }
    }
}

impl fmt::Display for Generated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Zeros(bytes) => write!(f, "zeros {bytes}"),
            Self::Fill(count, bits) => write!(f, "fill {count} {:?}", f32::from_bits(*bits)),
            Self::Floats(list) => write!(f, "floats {list}"),
            Self::Indices(list) => write!(f, "indices {list}"),
        }
    }
}

impl FromStr for Generated {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("expected zeros, fill, floats or indices with a count, found {text:?}");
        let (kind, rest) = text.split_once(' ').ok_or_else(wrong)?;
        let (count, value) = rest.split_once(' ').unwrap_or((rest, ""));
        let count: usize = count.parse().map_err(|_| wrong())?;
        let list = || {
            let hash = u64::from_str_radix(value, 16).ok().filter(|_| value.len() == 16).ok_or_else(wrong)?;
            Ok(NumberList { count, hash, elements: None })
        };
        match kind {
            "zeros" if value.is_empty() => Ok(Self::Zeros(count)),
            "fill" => Ok(Self::fill(count, value.parse().map_err(|_| wrong())?)),
            "floats" => list().map(Self::Floats),
            "indices" => list().map(Self::Indices),
            _ => Err(wrong()),
        }
    }
}

/// A constant in the order kernels read it. It is filled once, straight into the program's memory.
#[derive(Clone)]
pub struct PackedConstant {
    /// What stands in it.
    pub contents: Contents,
    pub bytes: usize,
}

impl PackedConstant {
    /// A constant of the graph, packed.
    pub fn packed(source: Constant, packing: Packing) -> Self {
        let bytes = packing.len() * source.ty.dtype.size();
        Self { contents: Contents::Packed(source, packing), bytes }
    }

    /// The elements in memory or in a file that packing reads.
    pub fn source_bytes(&self) -> Option<&Bytes> {
        match &self.contents {
            Contents::Packed(source, _) => source.source(),
            Contents::Generated(_) => None,
        }
    }

    /// Names of the model's parameters it stands for.
    pub fn origins(&self) -> &[String] {
        match &self.contents {
            Contents::Packed(source, _) => &source.origins,
            Contents::Generated(_) => &[],
        }
    }

    /// Element type and packing, without the values of what comes from the model.
    pub fn form(&self) -> String {
        match &self.contents {
            Contents::Packed(source, packing) => format!("{} {packing}", source.ty),
            Contents::Generated(generated) => generated.to_string(),
        }
    }

    /// Whether its size is that of what stands in it.
    pub fn fits(&self) -> bool {
        match &self.contents {
            Contents::Packed(source, packing) => packing.len().checked_mul(source.ty.dtype.size()) == Some(self.bytes),
            Contents::Generated(generated) => generated.bytes() == self.bytes,
        }
    }

    /// Whether its elements are there, not only their hash.
    pub fn is_known(&self) -> bool {
        match &self.contents {
            Contents::Packed(source, _) => !matches!(source.payload, Payload::Hash(_)),
            Contents::Generated(Generated::Floats(table) | Generated::Indices(table)) => table.elements.is_some(),
            Contents::Generated(Generated::Zeros(_) | Generated::Fill(..)) => true,
        }
    }

    /// The constant of this text; of elements that come from the model, or are many, it knows the hash.
    ///
    /// # Errors
    /// What was expected, and found.
    pub fn read(text: &str, origins: Vec<String>) -> Result<Self, String> {
        let wrong = || format!("a type with a hash and a packing, or what a lowering makes up, found {text}");
        let Some((ty, rest)) = text.split_once(']') else {
            return Ok(text.parse::<Generated>().map_err(|_| wrong())?.into());
        };
        let (dtype, extents) = ty.split_once('[').ok_or_else(wrong)?;
        let extents = extents.split(',').filter(|extent| !extent.is_empty()).map(|extent| extent.parse().ok());
        let extents = extents.collect::<Option<Vec<usize>>>().ok_or_else(wrong)?;
        let ty = TensorType::new(dtype.parse().map_err(|_| wrong())?, extents);
        ty.shape.checked_bytes(ty.dtype).ok_or_else(wrong)?;
        let rest = rest.strip_prefix(' ').ok_or_else(wrong)?;
        let (hash, packing) = rest.split_once(' ').unwrap_or((rest, ""));
        let hash = u64::from_str_radix(hash, 16).map_err(|_| wrong())?;
        let packing = match packing {
            "" => Packing::plain(ty.shape.numel()),
            packing => packing.parse().map_err(|_| wrong())?,
        };
        Ok(Self::packed(Constant::new(ty, Payload::Hash(hash)).with_origins(origins), packing))
    }

    /// Fills its memory, which holds zeros.
    pub fn write(&self, to: &mut [u8]) {
        match &self.contents {
            Contents::Generated(generated) => generated.write(to),
            Contents::Packed(source, packing) => {
                if let Some(bytes) = source.bytes() {
                    packing.pack(source.ty.dtype.size(), &bytes, to);
                }
            }
        }
    }

    /// Equal for equal constants, from a look at the first elements only.
    fn prefix_hash(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        match &self.contents {
            Contents::Generated(generated) => generated.hash(&mut hasher),
            Contents::Packed(source, packing) => {
                (&source.ty, packing, &source.origins, source.prefix_hash()).hash(&mut hasher);
            }
        }
        hasher.finish()
    }
}

/// Equal bytes that stand for the same parameters: those of others stay apart even if their values agree, so that weights can be replaced
/// without a new plan.
impl PartialEq for PackedConstant {
    fn eq(&self, other: &Self) -> bool {
        match (&self.contents, &other.contents) {
            (Contents::Generated(a), Contents::Generated(b)) => a == b,
            (Contents::Packed(a, packing), Contents::Packed(b, other)) => {
                packing == other && a.origins == b.origins && a.ty == b.ty && (a.is_clone_of(b) || a == b)
            }
            _ => false,
        }
    }
}

impl From<Generated> for PackedConstant {
    fn from(generated: Generated) -> Self {
        let bytes = generated.bytes();
        Self { contents: Contents::Generated(generated), bytes }
    }
}

/// Type, hash and packing. The hash of the source is computed when it is asked for.
impl fmt::Display for PackedConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.contents {
            Contents::Packed(source, packing) if packing.is_plain() => {
                write!(f, "{} {:016x}", source.ty, source.hash())
            }
            Contents::Packed(source, packing) => write!(f, "{} {:016x} {packing}", source.ty, source.hash()),
            Contents::Generated(generated) => write!(f, "{generated}"),
        }
    }
}

impl fmt::Debug for PackedConstant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{self} ({} bytes)", self.bytes)
    }
}

/// Distinct constants, in the order they came in.
#[derive(Clone, Debug)]
pub struct Pool<C> {
    constants: Vec<C>,
    by_prefix: HashMap<u64, Vec<usize>>,
}

impl<C> Default for Pool<C> {
    fn default() -> Self {
        Self { constants: Vec::new(), by_prefix: HashMap::new() }
    }
}

impl<C: Borrow<PackedConstant>> Pool<C> {
    /// Adds a constant, unless an equal one is there: the number of the one that stands for it.
    ///
    /// Most constants differ in their first elements; only the others are hashed as a whole.
    pub fn insert(&mut self, constant: C) -> usize {
        let same = self.by_prefix.entry(constant.borrow().prefix_hash()).or_default();
        let known = same.iter().copied().find(|at| self.constants[*at].borrow() == constant.borrow());
        known.unwrap_or_else(|| {
            same.push(self.constants.len());
            self.constants.push(constant);
            self.constants.len() - 1
        })
    }

    pub fn constants(&self) -> &[C] {
        &self.constants
    }

    pub fn into_constants(self) -> Vec<C> {
        self.constants
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_sources_of_equal_packing_are_stored_once() {
        let mut pool = Pool::default();
        let mut values = [0.5f32; 40];
        let mut insert = |values: &[f32], len: usize| {
            let source = Constant::from_f32([values.len()], values);
            pool.insert(PackedConstant::packed(source, Packing::padded(values.len(), len)))
        };
        let (first, again, repacked) = (insert(&values, 48), insert(&values, 48), insert(&values, 64));
        // The same for longer than the prefix that is hashed, three times.
        values[30] = 2.0;
        let (late, late_again) = (insert(&values, 48), insert(&values, 48));
        let (early, shorter) = (insert(&[0.25; 40], 48), insert(&[0.5; 20], 48));
        assert_eq!((first, late), (again, late_again));
        assert_eq!([first, repacked, late, early, shorter], [0, 1, 2, 3, 4]);
        assert_eq!(pool.constants().len(), 5);
    }

    #[test]
    fn lists_of_one_hash_are_equal_by_their_elements_only() {
        let colliding = |values: &[i32]| {
            let elements = NumberList::new(values.iter().map(|value| value.to_le_bytes()));
            Generated::Indices(NumberList { hash: 7, ..elements })
        };
        assert_eq!(colliding(&[1, 2]), colliding(&[1, 2]));
        assert_ne!(colliding(&[1, 2]), colliding(&[1, 3]));
        let mut pool: Pool<PackedConstant> = Pool::default();
        let numbers = [&[1, 2], &[1, 3], &[1, 2]].map(|values| pool.insert(colliding(values).into()));
        assert_eq!(numbers, [0, 1, 0]);
    }

    #[test]
    fn other_parameters_stay_apart() {
        let source = |name: &str| Constant::from_f32([2], &[1.0, 2.0]).with_origins(vec![name.into()]);
        let mut pool = Pool::default();
        let numbers = ["a", "b", "a"].map(|name| pool.insert(PackedConstant::packed(source(name), Packing::plain(2))));
        assert_eq!(numbers, [0, 1, 0]);
    }

    #[test]
    fn generated_constants_read_back() {
        for generated in [
            Generated::Zeros(64),
            Generated::fill(3, f32::NEG_INFINITY),
            Generated::fill(2, 0.1),
            Generated::floats(&[1.0, 2.5]),
            Generated::indices(&[3, -1]),
        ] {
            assert_eq!(generated.to_string().parse(), Ok(generated));
        }
        for text in ["", "zeros", "zeros x", "zeros 3 4", "fill 3", "floats 2 12", "ones 3"] {
            assert!(text.parse::<Generated>().is_err(), "{text}");
        }
    }

    #[test]
    fn constants_fill_their_memory() {
        let written = |constant: PackedConstant| {
            let mut bytes = vec![0; constant.bytes];
            constant.write(&mut bytes);
            bytes.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect::<Vec<_>>()
        };
        assert_eq!(written(Generated::fill(2, -1.5).into()), [-1.5, -1.5]);
        assert_eq!(written(Generated::floats(&[1.0, 2.0]).into()), [1.0, 2.0]);
        assert_eq!(written(Generated::Zeros(8).into()), [0.0, 0.0]);
        let source = Constant::from_f32([2], &[1.0, 2.0]);
        assert_eq!(written(PackedConstant::packed(source, Packing::padded(2, 3))), [1.0, 2.0, 0.0]);
    }
}
