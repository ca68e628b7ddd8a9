//! The reference evaluator's tensor: wide elements, plain loops.
//!
//! Floating-point elements are held as `f64`, all others as `i64`; after every operator they are rounded to the element type
//! ([`Literal::new_float`] and [`Literal::new_int`] do it), so a literal always holds values that its type can represent.

use crate::error::OpError;
use crate::types::{Constant, DType, Shape, TensorType};

/// Elements of a [`Literal`], row-major.
#[derive(Clone, PartialEq, Debug)]
pub enum Data {
    /// `f16 bf16 f32 f64` elements.
    Float(Vec<f64>),
    /// Integers and bool (0 or 1); `u64` as its bits.
    Int(Vec<i64>),
}

/// A tensor of the reference evaluator.
#[derive(Clone, PartialEq, Debug)]
pub struct Literal {
    /// Element type and shape.
    pub ty: TensorType,
    /// The elements, row-major.
    pub data: Data,
}

impl Literal {
    /// A floating-point literal, rounded to `ty.dtype`.
    pub fn new_float(ty: TensorType, mut values: Vec<f64>) -> Self {
        debug_assert!(ty.dtype.is_float() && values.len() == ty.shape.numel());
        match ty.dtype {
            DType::F32 => values.iter_mut().for_each(|v| *v = f64::from(*v as f32)),
            DType::F16 => values.iter_mut().for_each(|v| *v = half::f16::from_f32(round_to_odd(*v)).to_f64()),
            DType::BF16 => values.iter_mut().for_each(|v| *v = half::bf16::from_f32(round_to_odd(*v)).to_f64()),
            _ => {}
        }
        Self { ty, data: Data::Float(values) }
    }

    /// An integer or bool literal, wrapped to `ty.dtype`.
    pub fn new_int(ty: TensorType, mut values: Vec<i64>) -> Self {
        debug_assert!(!ty.dtype.is_float() && values.len() == ty.shape.numel());
        values.iter_mut().for_each(|v| *v = wrap(ty.dtype, *v));
        Self { ty, data: Data::Int(values) }
    }

    /// An `f32` literal.
    pub fn from_f32(shape: impl Into<Shape>, values: &[f32]) -> Self {
        Self::new_float(TensorType::f32(shape), values.iter().map(|v| f64::from(*v)).collect())
    }

    /// Reads row-major little-endian elements.
    pub fn from_bytes(ty: TensorType, bytes: &[u8]) -> Result<Self, OpError> {
        let size = ty.dtype.size();
        if bytes.len() != ty.bytes() {
            return Err(OpError::new("elements", format!("{} bytes", ty.bytes()), bytes.len().to_string()));
        }
        let chunks = bytes.chunks_exact(size);
        macro_rules! read {
            ($t:ty) => {
                chunks.map(|c| <$t>::from_le_bytes(c.try_into().unwrap_or_default()))
            };
        }
        Ok(match ty.dtype {
            DType::F32 => Self::new_float(ty, read!(f32).map(f64::from).collect()),
            DType::F64 => Self::new_float(ty, read!(f64).collect()),
            DType::F16 => Self::new_float(ty, read!(u16).map(|v| half::f16::from_bits(v).to_f64()).collect()),
            DType::BF16 => Self::new_float(ty, read!(u16).map(|v| half::bf16::from_bits(v).to_f64()).collect()),
            DType::I8 => Self::new_int(ty, read!(i8).map(i64::from).collect()),
            DType::U8 => Self::new_int(ty, read!(u8).map(i64::from).collect()),
            DType::I16 => Self::new_int(ty, read!(i16).map(i64::from).collect()),
            DType::U16 => Self::new_int(ty, read!(u16).map(i64::from).collect()),
            DType::I32 => Self::new_int(ty, read!(i32).map(i64::from).collect()),
            DType::U32 => Self::new_int(ty, read!(u32).map(i64::from).collect()),
            DType::I64 => Self::new_int(ty, read!(i64).collect()),
            DType::U64 => Self::new_int(ty, read!(u64).map(|v| v as i64).collect()),
            DType::Bool => Self::new_int(ty, read!(u8).map(|v| i64::from(v != 0)).collect()),
        })
    }

    /// The elements of a constant; fails if only its hash is known.
    pub fn from_constant(constant: &Constant) -> Result<Self, OpError> {
        let bytes = constant.bytes().ok_or_else(|| OpError::new("constant", "known elements", "only a hash"))?;
        Self::from_bytes(constant.ty.clone(), &bytes)
    }

    /// The elements as row-major little-endian bytes.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.ty.bytes());
        match &self.data {
            Data::Float(values) => {
                for v in values {
                    match self.ty.dtype {
                        DType::F64 => out.extend(v.to_le_bytes()),
                        DType::F16 => out.extend(half::f16::from_f64(*v).to_le_bytes()),
                        DType::BF16 => out.extend(half::bf16::from_f64(*v).to_le_bytes()),
                        _ => out.extend((*v as f32).to_le_bytes()),
                    }
                }
            }
            Data::Int(values) => {
                let size = self.ty.dtype.size();
                values.iter().for_each(|v| out.extend(&v.to_le_bytes()[..size]));
            }
        }
        out
    }

    /// The literal as a constant without origins.
    pub fn to_constant(&self) -> Constant {
        Constant::from_bytes(self.ty.clone(), self.to_bytes())
    }

    /// The elements as `f64`, whatever the type.
    pub fn to_f64(&self) -> Vec<f64> {
        match &self.data {
            Data::Float(values) => values.clone(),
            Data::Int(values) if self.ty.dtype == DType::U64 => values.iter().map(|v| *v as u64 as f64).collect(),
            Data::Int(values) => values.iter().map(|v| *v as f64).collect(),
        }
    }

    /// The floating-point elements, or an error that names `field`.
    pub fn floats(&self, field: &str) -> Result<&[f64], OpError> {
        match &self.data {
            Data::Float(values) => Ok(values),
            Data::Int(_) => Err(OpError::new(field, "floating-point elements", self.ty.dtype.name())),
        }
    }

    /// The integer elements, or an error that names `field`.
    pub fn ints(&self, field: &str) -> Result<&[i64], OpError> {
        match &self.data {
            Data::Int(values) => Ok(values),
            Data::Float(_) => Err(OpError::new(field, "integer elements", self.ty.dtype.name())),
        }
    }

    /// A literal of the same data in another shape with as many elements.
    pub fn reshaped(mut self, shape: Shape) -> Self {
        debug_assert_eq!(self.ty.shape.numel(), shape.numel());
        self.ty.shape = shape;
        self
    }

    /// The literal whose element `i` is element `index(i)` of this one, or `fill` where that is `None`.
    pub fn gather_elements(&self, shape: Shape, fill: f64, index: impl Fn(usize) -> Option<usize>) -> Self {
        let count = shape.numel();
        let ty = TensorType::new(self.ty.dtype, shape);
        match &self.data {
            Data::Float(v) => Self::new_float(ty, (0..count).map(|i| index(i).map_or(fill, |j| v[j])).collect()),
            Data::Int(v) => Self::new_int(ty, (0..count).map(|i| index(i).map_or(fill as i64, |j| v[j])).collect()),
        }
    }
}

/// `v` as `f32`, rounded to the neighbour whose last bit is set if it is inexact: rounding that to `f16` or `bf16` equals
/// rounding `v` itself. `half::f16::from_f64` drops low bits first, how many depends on the CPU.
fn round_to_odd(v: f64) -> f32 {
    let nearest = v as f32;
    let back = f64::from(nearest);
    if back == v || v.is_nan() || nearest.to_bits() & 1 == 1 {
        nearest
    } else if back < v {
        nearest.next_up()
    } else {
        nearest.next_down()
    }
}

/// `v` wrapped to the range of an integer type; bool becomes 0 or 1.
pub fn wrap(dtype: DType, v: i64) -> i64 {
    match dtype {
        DType::I8 => i64::from(v as i8),
        DType::U8 => i64::from(v as u8),
        DType::I16 => i64::from(v as i16),
        DType::U16 => i64::from(v as u16),
        DType::I32 => i64::from(v as i32),
        DType::U32 => i64::from(v as u32),
        DType::Bool => i64::from(v != 0),
        _ => v,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_floats_round_once() {
        let round = |dtype, v: f64| Literal::new_float(TensorType::new(dtype, []), vec![v]).to_f64()[0];
        for (dtype, bits) in [(DType::F16, 10), (DType::BF16, 7)] {
            let ulp = 2f64.powi(-bits);
            assert_eq!(round(dtype, 1.0 + ulp / 2.0), 1.0, "ties go to even");
            assert_eq!(round(dtype, 1.0 + ulp * 1.5), 1.0 + 2.0 * ulp);
            for excess in [2f64.powi(-22), 2f64.powi(-40), 2f64.powi(-52)] {
                assert_eq!(round(dtype, 1.0 + ulp / 2.0 + excess), 1.0 + ulp);
                assert_eq!(round(dtype, -1.0 - ulp / 2.0 - excess), -1.0 - ulp);
                assert_eq!(round(dtype, 1.0 + ulp * 1.5 - excess), 1.0 + ulp);
            }
            assert_eq!(round(dtype, 1e300), f64::INFINITY);
            assert_eq!(round(dtype, 1e-300), 0.0);
            assert!(round(dtype, f64::NAN).is_nan());
        }
        assert_eq!(round(DType::F16, 65519.999), 65504.0);
        assert_eq!(round(DType::F16, 65520.0), f64::INFINITY);
    }
}
