//! Elements other than 32-bit lanes in CLIF: conversions between memory, lanes and 64-bit integers, and shuffles.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Type, Value, types};

use super::{ClifEmitter, memory};
use crate::codegen::{Cmp, Element, IntOp, VOp};
use fornax_ir::types::DType;

/// Lanes of 32 bits in a vector.
const LANES: usize = 4;

/// Bytes of the lower halves of two vectors, one after the other.
const LOWER_HALVES: [u8; 16] = [0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23];

/// CLIF's condition for integers.
pub(super) fn int_condition(cmp: Cmp) -> IntCC {
    match cmp {
        Cmp::Less => IntCC::SignedLessThan,
        Cmp::LessOrEqual => IntCC::SignedLessThanOrEqual,
        Cmp::Equal | Cmp::Unordered => IntCC::Equal,
    }
}

/// CLIF's condition for floating-point numbers.
pub(super) fn float_condition(cmp: Cmp) -> FloatCC {
    match cmp {
        Cmp::Less => FloatCC::LessThan,
        Cmp::LessOrEqual => FloatCC::LessThanOrEqual,
        Cmp::Equal => FloatCC::Equal,
        Cmp::Unordered => FloatCC::Unordered,
    }
}

/// CLIF's vector of an element.
pub(super) fn vector_of(element: Element) -> Type {
    match element {
        Element::F32 => types::F32X4,
        Element::I32 => types::I32X4,
        Element::F64 => types::F64X2,
        Element::I64 => types::I64X2,
    }
}

/// The bytes, of two vectors, that a shuffle of `unit`-byte lanes takes.
pub(super) fn shuffle_bytes(op: VOp, unit: usize) -> [u8; 16] {
    let half = if op == VOp::UnpackHigh { 8 } else { 0 };
    let blocks = matches!(op, VOp::EvenBlocks | VOp::OddBlocks);
    std::array::from_fn(|i| match blocks {
        true => i as u8,
        false => (i / unit % 2 * 16 + half + i / (2 * unit) * unit + i % unit) as u8,
    })
}

impl ClifEmitter<'_> {
    /// The bytes of two F32X4 in this order.
    pub(super) fn shuffle(&mut self, a: Value, b: Value, order: [u8; 16]) -> Value {
        let (a, b) = (self.bits(types::I8X16, a), self.bits(types::I8X16, b));
        let order = self.builder.func.dfg.immediates.push(order.as_slice().into());
        let value = self.builder.ins().shuffle(a, b, order);
        self.bits(types::F32X4, value)
    }

    /// Sums of the products of pairs of 16-bit integers, in the shape that Cranelift turns into one instruction where there is one.
    pub(super) fn dot_pairs(&mut self, a: Value, b: Value) -> Value {
        let [a, b] = [a, b].map(|lanes| self.bits(types::I16X8, lanes));
        let (low_a, low_b) = (self.builder.ins().swiden_low(a), self.builder.ins().swiden_low(b));
        let low = self.builder.ins().imul(low_a, low_b);
        let (high_a, high_b) = (self.builder.ins().swiden_high(a), self.builder.ins().swiden_high(b));
        let high = self.builder.ins().imul(high_a, high_b);
        self.builder.ins().iadd_pairwise(low, high)
    }

    /// `by` upper lanes to the bottom.
    pub(super) fn upper_lanes(&mut self, a: Value, by: usize) -> Value {
        self.shuffle(a, a, std::array::from_fn(|i| (4 * by + i % (4 * by)) as u8))
    }

    /// The first lanes, the others 0.
    pub(super) fn kept(&mut self, a: Value, lanes: usize) -> Value {
        let mask: Vec<u8> = (0..4 * LANES).map(|byte| if byte < 4 * lanes { u8::MAX } else { 0 }).collect();
        let constant = self.builder.func.dfg.constants.insert(mask.into());
        let mask = self.builder.ins().vconst(types::F32X4, constant);
        self.builder.ins().band(a, mask)
    }

    /// An element as I64: integers extended, other types by their bits.
    pub(super) fn load_element(&mut self, dtype: DType, at: Value, offset: i32) -> Value {
        let (ins, flags) = (self.builder.ins(), memory());
        match dtype {
            DType::I8 => ins.sload8(types::I64, flags, at, offset),
            DType::U8 | DType::Bool => ins.uload8(types::I64, flags, at, offset),
            DType::I16 => ins.sload16(types::I64, flags, at, offset),
            DType::U16 | DType::F16 | DType::BF16 => ins.uload16(types::I64, flags, at, offset),
            DType::I32 => ins.sload32(flags, at, offset),
            DType::U32 | DType::F32 => ins.uload32(flags, at, offset),
            DType::I64 | DType::U64 | DType::F64 => ins.load(types::I64, flags, at, offset),
        }
    }

    /// The low bits of an I64 or I32 as an element of `size` bytes.
    pub(super) fn store_element(&mut self, size: usize, value: Value, at: Value, offset: i32) {
        let (ins, flags) = (self.builder.ins(), memory());
        match size {
            1 => ins.istore8(flags, value, at, offset),
            2 => ins.istore16(flags, value, at, offset),
            4 if self.builder.func.dfg.value_type(value) == types::I64 => {
                self.builder.ins().istore32(flags, value, at, offset)
            }
            _ => self.builder.ins().store(flags, value, at, offset),
        };
    }

    /// The low bits of an I64, extended.
    pub(super) fn extended(&mut self, value: Value, dtype: DType) -> Value {
        let narrow = match dtype.size() {
            1 => types::I8,
            2 => types::I16,
            4 => types::I32,
            _ => return value,
        };
        let cut = self.builder.ins().ireduce(narrow, value);
        match dtype {
            DType::I8 | DType::I16 | DType::I32 => self.builder.ins().sextend(types::I64, cut),
            _ => self.builder.ins().uextend(types::I64, cut),
        }
    }

    pub(super) fn int_value(&mut self, op: IntOp, a: Value, b: Value) -> Value {
        match op {
            IntOp::Mul => self.builder.ins().imul(a, b),
            IntOp::And => self.builder.ins().band(a, b),
            IntOp::Or => self.builder.ins().bor(a, b),
            IntOp::Xor => self.builder.ins().bxor(a, b),
            IntOp::Div => self.builder.ins().sdiv(a, b),
            IntOp::DivUnsigned => self.builder.ins().udiv(a, b),
        }
    }

    /// Elements of 1 or 2 bytes, widened to I32X4.
    pub(super) fn widened(&mut self, dtype: DType, at: Value, offset: i32, lanes: usize) -> Value {
        let signed = matches!(dtype, DType::I8 | DType::I16);
        if lanes < LANES {
            let mut vector = self.splat_bits(0);
            for lane in 0..lanes {
                let element = self.load_element(dtype, at, offset + (lane * dtype.size()) as i32);
                let element = self.builder.ins().ireduce(types::I32, element);
                vector = self.bits(types::I32X4, vector);
                vector = self.builder.ins().insertlane(vector, element, lane as u8);
            }
            return self.bits(types::F32X4, vector);
        }
        let mut halves = if dtype.size() == 1 {
            let four = self.builder.ins().load(types::I32, memory(), at, offset);
            let four = self.builder.ins().scalar_to_vector(types::I32X4, four);
            let bytes = self.bits(types::I8X16, four);
            if signed { self.builder.ins().swiden_low(bytes) } else { self.builder.ins().uwiden_low(bytes) }
        } else {
            let four = self.builder.ins().load(types::I64, memory(), at, offset);
            let four = self.builder.ins().scalar_to_vector(types::I64X2, four);
            self.bits(types::I16X8, four)
        };
        halves = if signed { self.builder.ins().swiden_low(halves) } else { self.builder.ins().uwiden_low(halves) };
        self.bits(types::F32X4, halves)
    }

    /// The low 1 or 2 bytes of the first lanes.
    pub(super) fn narrowed(&mut self, value: Value, size: usize, at: Value, offset: i32, lanes: usize) {
        if lanes < LANES {
            let value = self.bits(types::I32X4, value);
            for lane in 0..lanes {
                let element = self.builder.ins().extractlane(value, lane as u8);
                self.store_element(size, element, at, offset + (lane * size) as i32);
            }
            return;
        }
        let together = self.shuffle(value, value, std::array::from_fn(|i| (i / size % 4 * 4 + i % size) as u8));
        let together = self.bits(if size == 1 { types::I32X4 } else { types::I64X2 }, together);
        let low = self.builder.ins().extractlane(together, 0u8);
        self.builder.ins().store(memory(), low, at, offset);
    }

    /// Half of the lanes as F64X2, in the form of a register.
    pub(super) fn promoted(&mut self, value: Value, upper: bool) -> Value {
        let half = if upper { self.upper_lanes(value, LANES / 2) } else { value };
        let doubles = self.builder.ins().fvpromote_low(half);
        self.bits(types::F32X4, doubles)
    }

    /// Two F64X2 as one F32X4.
    pub(super) fn demoted(&mut self, low: Value, high: Value) -> Value {
        let [low, high] = [low, high].map(|half| {
            let half = self.bits(types::F64X2, half);
            self.builder.ins().fvdemote(half)
        });
        self.shuffle(low, high, LOWER_HALVES)
    }
}
