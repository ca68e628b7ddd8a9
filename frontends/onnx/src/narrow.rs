//! Elements below 8 bits, and 8-bit floats, which the IR has no types for: how a value of them is carried, and what its elements are as numbers.
//!
//! Such a value is carried one element to a byte: integers as `i8` or `u8`, floats as the bits that they are, in `u8`. That is what an input,
//! an output and a constant of the graph hold. The importer keeps the type with the value; only operators that move elements or turn them into
//! numbers and back (`ops/narrow.rs`) take it.

use fornax_ir::types::{Constant, DType, TensorType};

use crate::error::{Error, Result, short};
use crate::proto::{TensorProto, TypeProto};
use crate::tensors::TensorLoader;

/// An element type that the IR has not.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Narrow {
    /// Integers of so many bits, and whether they have a sign.
    Integer(u32, bool),
    /// Floats with a sign.
    Float(Format),
    /// `float8e8m0`: powers of two, 2^-127 and up, and one NaN.
    Exponent,
}

/// A float of a sign, an exponent and a mantissa.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Format {
    pub exponent_bits: u32,
    pub mantissa_bits: u32,
    pub bias: i32,
    pub special: Special,
}

impl Format {
    const E4M3FN: Self = Self::new(4, 3, 7, Special::Finite);
    const E4M3FNUZ: Self = Self::new(4, 3, 8, Special::Unsigned);
    const E5M2: Self = Self::new(5, 2, 15, Special::Infinite);
    const E5M2FNUZ: Self = Self::new(5, 2, 16, Special::Unsigned);
    const E2M1: Self = Self::new(2, 1, 1, Special::None);

    const fn new(exponent_bits: u32, mantissa_bits: u32, bias: i32, special: Special) -> Self {
        Self { exponent_bits, mantissa_bits, bias, special }
    }

    /// The bit of the sign.
    pub fn sign(self) -> u8 {
        1 << (self.exponent_bits + self.mantissa_bits)
    }

    /// The bits of the largest number.
    pub fn largest(self) -> u8 {
        let all = self.sign() - 1;
        match self.special {
            Special::None | Special::Unsigned => all,
            Special::Finite => all - 1,
            Special::Infinite => all - (1 << self.mantissa_bits),
        }
    }

    /// The bits of what is no number; a type without it has -0 there, as conversions of the standard's own cases do.
    pub fn nan(self) -> u8 {
        match self.special {
            Special::None | Special::Unsigned => self.sign(),
            Special::Finite => self.sign() - 1,
            Special::Infinite => self.sign() - 2,
        }
    }

    /// What an element is.
    fn number(self, bits: u8) -> f32 {
        let (sign, below) = (self.sign(), bits & (self.sign() - 1));
        let (exponent, mantissa) = (i32::from(below) >> self.mantissa_bits, below & ((1 << self.mantissa_bits) - 1));
        let negative = if bits & sign != 0 { -1.0 } else { 1.0 };
        match self.special {
            Special::Unsigned if below == 0 && negative < 0.0 => return f32::NAN,
            Special::Finite if below == sign - 1 => return f32::NAN,
            Special::Infinite if below > self.largest() => {
                return if mantissa == 0 { negative * f32::INFINITY } else { f32::NAN };
            }
            _ => {}
        }
        let whole = f64::from(1u32 << self.mantissa_bits);
        let fraction = f64::from(mantissa) / whole + if exponent > 0 { 1.0 } else { 0.0 };
        (f64::from(negative) * fraction * f64::from(exponent.max(1) - self.bias).exp2()) as f32
    }
}

/// What the largest exponents, or a zero with a sign, stand for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Special {
    /// Numbers.
    None,
    /// The largest of all is a NaN.
    Finite,
    /// Infinities and NaNs, as in IEEE 754.
    Infinite,
    /// The zero with a sign is the only NaN.
    Unsigned,
}

impl Narrow {
    /// The type of ONNX's number; none if the IR has it, or nobody.
    pub fn of(code: i32) -> Option<Self> {
        Some(match code {
            17 => Self::Float(Format::E4M3FN),
            18 => Self::Float(Format::E4M3FNUZ),
            19 => Self::Float(Format::E5M2),
            20 => Self::Float(Format::E5M2FNUZ),
            21 => Self::Integer(4, false),
            22 => Self::Integer(4, true),
            23 => Self::Float(Format::E2M1),
            24 => Self::Exponent,
            25 => Self::Integer(2, false),
            26 => Self::Integer(2, true),
            _ => return None,
        })
    }

    /// The type of a declared tensor.
    pub fn of_type(ty: Option<&TypeProto>) -> Option<Self> {
        Self::of(ty?.tensor_type.as_ref()?.elem_type)
    }

    /// The standard's name of the type.
    pub fn name(self) -> &'static str {
        match self {
            Self::Integer(2, false) => "uint2",
            Self::Integer(2, true) => "int2",
            Self::Integer(_, false) => "uint4",
            Self::Integer(_, true) => "int4",
            Self::Float(Format::E4M3FN) => "float8e4m3fn",
            Self::Float(Format::E4M3FNUZ) => "float8e4m3fnuz",
            Self::Float(Format::E5M2) => "float8e5m2",
            Self::Float(Format::E5M2FNUZ) => "float8e5m2fnuz",
            Self::Float(_) => "float4e2m1",
            Self::Exponent => "float8e8m0",
        }
    }

    /// The type that carries an element.
    pub fn carrier(self) -> DType {
        if matches!(self, Self::Integer(_, true)) { DType::I8 } else { DType::U8 }
    }

    /// The smallest and the largest integer; none of floats.
    pub fn range(self) -> Option<(f64, f64)> {
        match self {
            Self::Integer(bits, true) => Some((-f64::from(1u32 << (bits - 1)), f64::from((1u32 << (bits - 1)) - 1))),
            Self::Integer(bits, false) => Some((0.0, f64::from((1u32 << bits) - 1))),
            _ => None,
        }
    }

    /// What a carried float is.
    pub fn number(self, carried: u8) -> f32 {
        match self {
            Self::Integer(..) if self.carrier() == DType::I8 => f32::from(carried as i8),
            Self::Integer(..) => f32::from(carried),
            Self::Float(format) => format.number(carried),
            Self::Exponent if carried == u8::MAX => f32::NAN,
            Self::Exponent => (f64::from(carried) - 127.0).exp2() as f32,
        }
    }

    /// Bits of an element in a file, the first in the lowest of a byte.
    fn bits(self) -> usize {
        match self {
            Self::Integer(bits, _) => bits as usize,
            Self::Float(format) => (1 + format.exponent_bits + format.mantissa_bits) as usize,
            Self::Exponent => 8,
        }
    }
}

/// A tensor of one of these types as it is carried, and the type; nothing if it is of another.
pub(crate) fn load(loader: &TensorLoader, tensor: &TensorProto, name: &str) -> Result<Option<(Constant, Narrow)>> {
    let Some(kind) = Narrow::of(tensor.data_type) else { return Ok(None) };
    let shape = loader.shape(&tensor.dims, &short(name))?;
    let (count, bits) = (shape.numel(), kind.bits());
    let bytes = loader.bytes(tensor, name, count.saturating_mul(bits).div_ceil(8))?;
    let ty = TensorType::new(kind.carrier(), shape);
    if bits == 8 {
        return Ok(Some((Constant::from_bytes(ty, bytes), kind)));
    }
    let (per_byte, mask) = (8 / bits, (1u8 << bits) - 1);
    let element = |i: usize| bytes[i / per_byte] >> (i % per_byte * bits) & mask;
    let carried = |b: u8| match kind {
        Narrow::Integer(_, true) => ((b << (8 - bits)) as i8 >> (8 - bits)) as u8,
        _ => b,
    };
    let values: Vec<u8> = (0..count).map(|i| carried(element(i))).collect();
    Ok(Some((Constant::from_bytes(ty, values), kind)))
}

impl TensorLoader {
    /// The packed bytes of a tensor, of which there must be `size`.
    fn bytes(&self, tensor: &TensorProto, name: &str, size: usize) -> Result<Vec<u8>> {
        let place = short(name);
        let bytes = if self.is_external(tensor) {
            self.external.read(tensor, &place, size, &self.limits)?.to_vec()
        } else {
            match &tensor.raw_data {
                Some(raw) if !raw.is_empty() => raw.to_vec(),
                _ => tensor.int32_data.iter().map(|v| *v as u8).collect(),
            }
        };
        match bytes.len() == size {
            true => Ok(bytes),
            false => Err(Error::tensor(place, "data", format!("{size} bytes"), format!("{} bytes", bytes.len()))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn small_floats_are_what_their_tables_say() {
        let of = |code: i32, bits: u8| Narrow::of(code).expect("one of these types").number(bits);
        // The largest, the smallest normal and subnormal ones, and what is no number.
        assert_eq!([of(17, 0x7E), of(17, 0x08), of(17, 0x01)], [448.0, 0.015625, 0.001953125]);
        assert_eq!([of(18, 0x7F), of(18, 0x08), of(18, 0x01)], [240.0, 0.0078125, 0.0009765625]);
        assert_eq!([of(19, 0x7B), of(19, 0x04), of(19, 0x01)], [57344.0, 1.0 / 16_384.0, 1.0 / 65_536.0]);
        assert_eq!([of(20, 0x7F), of(20, 0x04), of(20, 0x01)], [57344.0, 1.0 / 32_768.0, 1.0 / 131_072.0]);
        assert_eq!((of(19, 0xFC), of(24, 127), of(24, 0)), (f32::NEG_INFINITY, 1.0, (-127f64).exp2() as f32));
        assert!([of(17, 0xFF), of(18, 0x80), of(19, 0x7D), of(20, 0x80), of(24, 0xFF)].iter().all(|v| v.is_nan()));
        let four: Vec<f32> = (0..16).map(|b| of(23, b)).collect();
        assert_eq!(four[..8], [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0]);
        assert_eq!(four[9..], [-0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0]);
    }
}
