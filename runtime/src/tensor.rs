//! Shapes, and the buffers that a host gives to a program and gets back.
//!
//! A [`Tensor`] is row-major and contiguous, begins on a multiple of [`crate::ALIGN`], and holds exactly
//! `shape.numel() * dtype.size()` bytes. Rank 0 (one element) and extents of zero (none) are legal.
#![allow(unsafe_code, reason = "views aligned bytes as elements")]

use std::fmt;
use std::ops::Deref;

use half::{bf16, f16};

use crate::arena::Block;
use crate::dtype::DType;
use crate::error::Error;

/// The extents of a tensor, outermost first.
#[derive(Clone, PartialEq, Eq, Hash, Default)]
pub struct Shape(Vec<usize>);

impl Shape {
    /// Number of axes.
    pub fn rank(&self) -> usize {
        self.0.len()
    }

    /// Number of elements: 1 for rank 0, `usize::MAX` where [`Self::checked_numel`] has none.
    pub fn numel(&self) -> usize {
        self.checked_numel().unwrap_or(usize::MAX)
    }

    /// Number of elements, or `None` when the product of the extents does not fit a `usize`. Empty axes count as 1 in that product,
    /// so that where there is a number every product of some of the extents fits too, strides among them.
    pub fn checked_numel(&self) -> Option<usize> {
        let product = self.0.iter().try_fold(1usize, |product, &extent| product.checked_mul(extent.max(1)))?;
        Some(if self.0.contains(&0) { 0 } else { product })
    }

    /// Size in bytes of `dtype` elements in this shape, or `None` when it is not addressable: the rule for every shape that enters.
    /// Empty axes count as 1, as in [`Self::checked_numel`], so that strides in bytes are addressable too.
    pub fn checked_bytes(&self, dtype: DType) -> Option<usize> {
        let count = self.checked_numel()?;
        let most = self.0.iter().fold(dtype.size(), |bytes, &extent| bytes.saturating_mul(extent.max(1)));
        isize::try_from(most).ok().map(|_| count * dtype.size())
    }

    /// Row-major strides in elements, saturating.
    pub fn strides(&self) -> Vec<usize> {
        let mut strides = vec![1usize; self.0.len()];
        for axis in (1..self.0.len()).rev() {
            strides[axis - 1] = strides[axis].saturating_mul(self.0[axis]);
        }
        strides
    }
}

impl Deref for Shape {
    type Target = [usize];

    fn deref(&self) -> &[usize] {
        &self.0
    }
}

impl From<Vec<usize>> for Shape {
    fn from(extents: Vec<usize>) -> Shape {
        Shape(extents)
    }
}

impl From<&[usize]> for Shape {
    fn from(extents: &[usize]) -> Shape {
        Shape(extents.to_vec())
    }
}

impl<const N: usize> From<[usize; N]> for Shape {
    fn from(extents: [usize; N]) -> Shape {
        Shape(extents.to_vec())
    }
}

impl From<&Shape> for Shape {
    fn from(shape: &Shape) -> Shape {
        shape.clone()
    }
}

impl FromIterator<usize> for Shape {
    fn from_iter<I: IntoIterator<Item = usize>>(extents: I) -> Shape {
        Shape(extents.into_iter().collect())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("[")?;
        for (axis, extent) in self.0.iter().enumerate() {
            if axis > 0 {
                f.write_str(",")?;
            }
            write!(f, "{extent}")?;
        }
        f.write_str("]")
    }
}

impl fmt::Debug for Shape {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A Rust type that stands for a [`DType`].
///
/// # Safety
/// Values are `DTYPE.size()` bytes, aligned to at most [`crate::ALIGN`], without padding, and valid for every bit
/// pattern.
pub unsafe trait Element: Copy + 'static {
    /// The element type it stands for.
    const DTYPE: DType;
    /// The nearest double.
    fn to_f64(self) -> f64;
}

macro_rules! element {
    ($($rust:ty, $dtype:ident, $to_f64:expr;)*) => {$(
        // SAFETY: a plain number (`half` types are transparent over u16) of the size of its dtype.
        unsafe impl Element for $rust {
            const DTYPE: DType = DType::$dtype;
            fn to_f64(self) -> f64 {
                let convert: fn($rust) -> f64 = $to_f64;
                convert(self)
            }
        }
    )*};
}

element! {
    f32, F32, f64::from;
    f64, F64, |x| x;
    f16, F16, f16::to_f64;
    bf16, BF16, bf16::to_f64;
    i8, I8, f64::from;
    u8, U8, f64::from;
    i16, I16, f64::from;
    u16, U16, f64::from;
    i32, I32, f64::from;
    u32, U32, f64::from;
    i64, I64, |x| x as f64;
    u64, U64, |x| x as f64;
}

/// An owned, aligned, row-major buffer with its element type and shape.
///
/// ```
/// use fornax_runtime::{DType, Tensor};
/// let tensor = Tensor::from_f32([2, 2], &[1.0, 2.0, 3.0, 4.0])?;
/// assert_eq!((tensor.dtype(), tensor.shape().to_string()), (DType::F32, "[2,2]".to_owned()));
/// assert!(Tensor::zeros(DType::F32, [usize::MAX, 2]).is_err());
/// # Ok::<(), fornax_runtime::Error>(())
/// ```
pub struct Tensor {
    dtype: DType,
    shape: Shape,
    block: Block,
}

impl Tensor {
    /// A tensor of zeros. An impossible shape or a lack of memory is an error.
    pub fn zeros(dtype: DType, shape: impl Into<Shape>) -> Result<Tensor, Error> {
        let shape = shape.into();
        match shape.checked_bytes(dtype) {
            Some(bytes) => Ok(Tensor { dtype, shape, block: Block::zeroed(bytes, "a tensor")? }),
            None => Err(Error::TensorTooLarge { dtype, shape }),
        }
    }

    /// A tensor of `T`'s element type with a copy of `data`, whose length must fit the shape.
    pub fn from_slice<T: Element>(shape: impl Into<Shape>, data: &[T]) -> Result<Tensor, Error> {
        // SAFETY: an `Element` has no padding, so its bytes are initialised.
        let bytes = unsafe { std::slice::from_raw_parts(data.as_ptr().cast::<u8>(), size_of_val(data)) };
        Tensor::from_bytes(T::DTYPE, shape, bytes)
    }

    /// An `F32` tensor with a copy of `data`.
    pub fn from_f32(shape: impl Into<Shape>, data: &[f32]) -> Result<Tensor, Error> {
        Tensor::from_slice(shape, data)
    }

    /// An `I64` tensor with a copy of `data`.
    pub fn from_i64(shape: impl Into<Shape>, data: &[i64]) -> Result<Tensor, Error> {
        Tensor::from_slice(shape, data)
    }

    /// A tensor with a copy of `data`: its elements in this machine's byte order.
    pub fn from_bytes(dtype: DType, shape: impl Into<Shape>, data: &[u8]) -> Result<Tensor, Error> {
        let shape = shape.into();
        let Some(expected) = shape.checked_bytes(dtype) else {
            return Err(Error::TensorTooLarge { dtype, shape });
        };
        if data.len() != expected {
            return Err(Error::DataLength { dtype, shape, expected, found: data.len() });
        }
        let mut tensor = Tensor::zeros(dtype, shape)?;
        tensor.bytes_mut().copy_from_slice(data);
        Ok(tensor)
    }

    /// Element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// Extents.
    pub fn shape(&self) -> &Shape {
        &self.shape
    }

    /// Number of elements.
    pub fn numel(&self) -> usize {
        self.block.len() / self.dtype.size()
    }

    /// The elements as bytes.
    pub fn bytes(&self) -> &[u8] {
        self.block.bytes()
    }

    /// The elements as bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        self.block.bytes_mut()
    }

    /// The elements, when `T` stands for their type.
    pub fn as_slice<T: Element>(&self) -> Option<&[T]> {
        // SAFETY: the block is aligned for `T` and holds `numel` of them; every bit pattern is valid.
        (T::DTYPE == self.dtype)
            .then(|| unsafe { std::slice::from_raw_parts(self.block.as_ptr().cast(), self.numel()) })
    }

    /// The elements to write, when `T` stands for their type.
    pub fn as_mut_slice<T: Element>(&mut self) -> Option<&mut [T]> {
        let numel = self.numel();
        // SAFETY: as in `as_slice`, and the borrow is unique.
        (T::DTYPE == self.dtype).then(|| unsafe { std::slice::from_raw_parts_mut(self.block.as_ptr().cast(), numel) })
    }

    /// The elements of an `F32` tensor.
    pub fn as_f32(&self) -> Option<&[f32]> {
        self.as_slice()
    }

    /// The elements of an `F32` tensor, to write.
    pub fn as_f32_mut(&mut self) -> Option<&mut [f32]> {
        self.as_mut_slice()
    }

    /// The elements of an `I64` tensor.
    pub fn as_i64(&self) -> Option<&[i64]> {
        self.as_slice()
    }

    /// The elements as doubles, for comparison and printing; large 64-bit integers are rounded, true is 1.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        fn convert<T: Element>(tensor: &Tensor) -> Vec<f64> {
            tensor.as_slice::<T>().unwrap_or_default().iter().map(|x| x.to_f64()).collect()
        }
        match self.dtype {
            DType::F32 => convert::<f32>(self),
            DType::F64 => convert::<f64>(self),
            DType::F16 => convert::<f16>(self),
            DType::BF16 => convert::<bf16>(self),
            DType::I8 => convert::<i8>(self),
            DType::U8 => convert::<u8>(self),
            DType::I16 => convert::<i16>(self),
            DType::U16 => convert::<u16>(self),
            DType::I32 => convert::<i32>(self),
            DType::U32 => convert::<u32>(self),
            DType::I64 => convert::<i64>(self),
            DType::U64 => convert::<u64>(self),
            DType::Bool => self.bytes().iter().map(|&b| f64::from(u8::from(b != 0))).collect(),
        }
    }

    /// Address of the first element, for kernels.
    pub(crate) fn as_ptr(&self) -> *mut u8 {
        self.block.as_ptr()
    }
}

impl Clone for Tensor {
    /// Aborts like every collection when memory runs out; use [`Tensor::from_bytes`] where that must be an error.
    fn clone(&self) -> Tensor {
        match Block::zeroed(self.block.len(), "a tensor") {
            Ok(mut block) => {
                block.bytes_mut().copy_from_slice(self.bytes());
                Tensor { dtype: self.dtype, shape: self.shape.clone(), block }
            }
            Err(_) => std::alloc::handle_alloc_error(self.block.layout()),
        }
    }
}

impl PartialEq for Tensor {
    /// Same type, same shape, same bytes: -0 differs from 0, and a NaN equals itself.
    fn eq(&self, other: &Tensor) -> bool {
        self.dtype == other.dtype && self.shape == other.shape && self.bytes() == other.bytes()
    }
}

impl Eq for Tensor {}

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tensor({}{})", self.dtype, self.shape)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shapes() {
        let shape = Shape::from([2, 3, 4]);
        assert_eq!((shape.rank(), shape.numel(), shape.strides()), (3, 24, vec![12, 4, 1]));
        assert_eq!(format!("{shape} {shape:?}"), "[2,3,4] [2,3,4]");
        assert_eq!((Shape::default().numel(), Shape::default().to_string()), (1, "[]".to_owned()));
        assert_eq!(Shape::from([usize::MAX, 0]).checked_numel(), Some(0));
        assert_eq!(Shape::from([usize::MAX, usize::MAX, 0]).checked_numel(), None, "nor does a part of it fit");
        let huge = Shape::from([usize::MAX, 2]);
        assert_eq!((huge.checked_numel(), huge.numel()), (None, usize::MAX));
        assert_eq!(Shape::from([1, usize::MAX, 3]).strides(), [usize::MAX, 3, 1]);
    }

    #[test]
    fn sizes_in_bytes_are_addressable() {
        let bytes = |dtype, shape: &[usize]| Shape::from(shape).checked_bytes(dtype);
        assert_eq!((bytes(DType::F32, &[]), bytes(DType::I16, &[3, 0])), (Some(4), Some(0)));
        assert_eq!(bytes(DType::U8, &[usize::MAX / 2]), Some(usize::MAX / 2));
        assert_eq!(bytes(DType::U8, &[usize::MAX / 2 + 1]), None);
        assert_eq!(bytes(DType::F64, &[0, usize::MAX / 8]), None, "strides in bytes");
        assert_eq!(bytes(DType::F32, &[1 << 40, 0, 1 << 40]), None, "neighbours of an empty axis");
    }

    #[test]
    fn impossible_tensors_are_errors() {
        let beside_none = Tensor::zeros(DType::F32, [1 << 40, 0, 1 << 40]);
        assert!(matches!(beside_none, Err(Error::TensorTooLarge { .. })));
        let overflow = Tensor::zeros(DType::F32, [1 << 32, 1 << 32]);
        assert!(matches!(overflow, Err(Error::TensorTooLarge { dtype: DType::F32, .. })));
        let bytes_overflow = Tensor::zeros(DType::F64, [usize::MAX / 2]);
        assert!(matches!(bytes_overflow, Err(Error::TensorTooLarge { .. })));
        assert!(matches!(Tensor::zeros(DType::U8, [1 << 60]), Err(Error::Allocation { .. })));
        let short = Tensor::from_bytes(DType::I16, [3], &[0; 5]);
        assert!(matches!(short, Err(Error::DataLength { expected: 6, found: 5, .. })));
        assert!(matches!(Tensor::from_f32([2], &[1.0]), Err(Error::DataLength { expected: 8, found: 4, .. })));
    }

    #[test]
    fn rank_0_and_zero_size() {
        let scalar = Tensor::from_f32([], &[3.5]).unwrap();
        assert_eq!(scalar.to_f64_vec(), [3.5]);
        let empty = Tensor::from_i64([0, 5], &[]).unwrap();
        assert_eq!((empty.numel(), empty.as_i64(), empty.clone() == empty), (0, Some(&[][..]), true));
    }

    #[test]
    fn views_and_equality() {
        let mut t = Tensor::from_f32([2, 2], &[1.0, -0.0, f32::NAN, 4.0]).unwrap();
        assert_eq!(t, t.clone());
        assert!(t.as_i64().is_none() && t.as_slice::<u32>().is_none());
        t.as_f32_mut().unwrap()[1] = 0.0;
        assert_ne!(t, Tensor::from_f32([2, 2], &[1.0, -0.0, f32::NAN, 4.0]).unwrap());
        assert_ne!(Tensor::zeros(DType::F32, [4]).unwrap(), Tensor::zeros(DType::F32, [2, 2]).unwrap());
        assert_eq!(format!("{t:?}"), "Tensor(f32[2,2])");
    }

    #[test]
    fn doubles_of_every_type() {
        let values: [(Tensor, f64); 6] = [
            (Tensor::from_slice([1], &[f16::from_f32(1.5)]).unwrap(), 1.5),
            (Tensor::from_slice([1], &[bf16::from_f32(-2.0)]).unwrap(), -2.0),
            (Tensor::from_slice([1], &[-7i8]).unwrap(), -7.0),
            (Tensor::from_slice([1], &[u64::MAX]).unwrap(), 18446744073709551616.0),
            (Tensor::from_slice([1], &[60000u16]).unwrap(), 60000.0),
            (Tensor::from_bytes(DType::Bool, [1], &[2]).unwrap(), 1.0),
        ];
        for (tensor, expected) in values {
            assert_eq!(tensor.to_f64_vec(), [expected], "{tensor:?}");
        }
    }
}
