//! Tensors of element types below 8 bits, and of 8-bit floats: what their elements are as numbers.
//!
//! In: a tensor of the file. Out: a constant of `i8` or `u8` for integers, of `f32` for floats, which hold every element exactly; and ONNX's number of the type.
//! Only operators that turn such elements into numbers take them (DequantizeLinear, Cast): the importer keeps the type with the value.

use fornax_ir::types::{Constant, DType, TensorType};

use crate::error::{Error, Result, short};
use crate::proto::TensorProto;
use crate::tensors::TensorLoader;

/// How the elements of a type lie in bytes.
enum Layout {
    /// Integers of so many bits, the first in the lowest; whether they have a sign.
    Integers(u32, bool),
    /// Floats of so many bits, and what each of them is.
    Floats(u32, fn(u8) -> f32),
}

/// A type that is read here, by ONNX's number.
fn layout(code: i32) -> Option<Layout> {
    Some(match code {
        17 => Layout::Floats(8, |b| float(b, 4, 7, Special::Finite)),
        18 => Layout::Floats(8, |b| float(b, 4, 8, Special::Unsigned)),
        19 => Layout::Floats(8, |b| float(b, 5, 15, Special::Infinite)),
        20 => Layout::Floats(8, |b| float(b, 5, 16, Special::Unsigned)),
        21 => Layout::Integers(4, false),
        22 => Layout::Integers(4, true),
        23 => Layout::Floats(4, |b| float((b & 8) << 4 | (b & 7) << 4, 2, 1, Special::None)),
        24 => Layout::Floats(8, |b| if b == u8::MAX { f32::NAN } else { (f64::from(b) - 127.0).exp2() as f32 }),
        25 => Layout::Integers(2, false),
        26 => Layout::Integers(2, true),
        _ => return None,
    })
}

/// What the largest exponents, or a zero with a sign, stand for.
#[derive(PartialEq)]
enum Special {
    /// Numbers.
    None,
    /// The largest of all is a NaN.
    Finite,
    /// Infinities and NaNs, as in IEEE 754.
    Infinite,
    /// The zero with a sign is the only NaN.
    Unsigned,
}

/// An 8-bit float of a sign, so many bits of exponent, and the rest.
fn float(bits: u8, exponent_bits: u32, bias: i32, special: Special) -> f32 {
    let mantissa_bits = 7 - exponent_bits;
    let (exponent, mantissa) = (i32::from(bits & 0x7F) >> mantissa_bits, bits & ((1 << mantissa_bits) - 1));
    let sign = if bits & 0x80 != 0 { -1.0 } else { 1.0 };
    let last = exponent == (1 << exponent_bits) - 1;
    match special {
        Special::Unsigned if bits == 0x80 => return f32::NAN,
        Special::Finite if bits & 0x7F == 0x7F => return f32::NAN,
        Special::Infinite if last => return if mantissa == 0 { sign * f32::INFINITY } else { f32::NAN },
        _ => {}
    }
    let whole = f64::from(1u32 << mantissa_bits);
    let fraction = f64::from(mantissa) / whole + if exponent > 0 { 1.0 } else { 0.0 };
    (f64::from(sign) * fraction * f64::from(exponent.max(1) - bias).exp2()) as f32
}

/// The elements of a tensor as numbers; nothing if its type is none of these.
pub(crate) fn load(loader: &TensorLoader, tensor: &TensorProto, name: &str) -> Result<Option<Constant>> {
    let Some(layout) = layout(tensor.data_type) else { return Ok(None) };
    let shape = loader.shape(&tensor.dims, &short(name))?;
    let count = shape.numel();
    let bits = match layout {
        Layout::Integers(bits, _) | Layout::Floats(bits, _) => bits as usize,
    };
    let bytes = loader.bytes(tensor, name, count.saturating_mul(bits).div_ceil(8))?;
    let (per_byte, mask) = (8 / bits, ((1u16 << bits) - 1) as u8);
    let element = |i: usize| bytes[i / per_byte] >> (i % per_byte * bits) & mask;
    let constant = match layout {
        Layout::Integers(bits, signed) => {
            let dtype = if signed { DType::I8 } else { DType::U8 };
            let extend = |b: u8| if signed { (b << (8 - bits)) as i8 >> (8 - bits) } else { b as i8 };
            let values: Vec<u8> = (0..count).map(|i| extend(element(i)) as u8).collect();
            Constant::from_bytes(TensorType::new(dtype, shape), values)
        }
        Layout::Floats(_, number) => {
            let values: Vec<u8> = (0..count).flat_map(|i| number(element(i)).to_le_bytes()).collect();
            Constant::from_bytes(TensorType::new(DType::F32, shape), values)
        }
    };
    Ok(Some(constant))
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
        let of = |code: i32, bits: u8| match layout(code) {
            Some(Layout::Floats(_, number)) => number(bits),
            _ => panic!("{code}"),
        };
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
