//! The instructions of loop nests in CLIF, one value at a time.
//!
//! Values are F32 or F32X4 (the same function on both gives the same bits), or integers: I64 for every type, sign- or zero-extended when
//! loaded, cut when stored, wrapped in between where a program says so; or I32X4 for what [`super::loops`] computes in vectors. Integer
//! division by zero gives 0 and never traps.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{BlockArg, InstBuilder, Type, Value, types};

use super::loops::Width;
use super::{ClifEmitter, memory};
use crate::codegen::{Emitter, V, math};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

impl ClifEmitter<'_> {
    /// `ptrs[index]`
    pub(super) fn pointer_value(&mut self, index: usize) -> Value {
        let r = self.r();
        self.arg(r, index);
        let value = self.get_r(r);
        self.free_r(r);
        value
    }

    /// `begin` and `end`, zero-extended.
    pub(super) fn chunk_range(&mut self) -> (Value, Value) {
        let r = self.r();
        self.begin(r);
        let begin = self.get_r(r);
        self.end(r);
        let end = self.get_r(r);
        self.free_r(r);
        (begin, end)
    }

    pub(super) fn value_type(&self, value: Value) -> Type {
        self.builder.func.dfg.value_type(value)
    }

    fn is_int(&self, value: Value) -> bool {
        self.value_type(value).lane_type().is_int()
    }

    fn is_vector(&self, value: Value) -> bool {
        self.value_type(value).is_vector()
    }

    /// An element in every lane: F32X4 or I32X4.
    pub(super) fn in_lanes(&mut self, element: Value) -> Value {
        if self.value_type(element) == types::F32 {
            return self.builder.ins().splat(types::F32X4, element);
        }
        let low = self.builder.ins().ireduce(types::I32, element);
        self.builder.ins().splat(types::I32X4, low)
    }

    /// Four consecutive elements of a 32-bit or 8-bit type: F32X4 or I32X4.
    pub(super) fn load_vector(&mut self, dtype: DType, at: Value, offset: i32) -> Value {
        let ty = if dtype == DType::F32 { types::F32X4 } else { types::I32X4 };
        if dtype.size() == 4 {
            return self.builder.ins().load(ty, memory(), at, offset);
        }
        let four = self.builder.ins().load(types::I32, memory(), at, offset);
        let four = self.builder.ins().scalar_to_vector(types::I32X4, four);
        let bytes = self.bits(types::I8X16, four);
        if dtype == DType::U8 {
            let halves = self.builder.ins().uwiden_low(bytes);
            self.builder.ins().uwiden_low(halves)
        } else {
            let halves = self.builder.ins().swiden_low(bytes);
            self.builder.ins().swiden_low(halves)
        }
    }

    /// Four lanes that hold 8-bit integers, in 32 bits.
    fn narrow(&mut self, dtype: DType, value: Value) -> Value {
        let wrapped = self.wrap_int(dtype, value);
        let halves = self.builder.ins().snarrow(wrapped, wrapped);
        let bytes = match dtype {
            DType::U8 => self.builder.ins().unarrow(halves, halves),
            _ => self.builder.ins().snarrow(halves, halves),
        };
        let four = self.bits(types::I32X4, bytes);
        self.builder.ins().extractlane(four, 0u8)
    }

    /// The element at an address: F32, or I64 (bits of the other floating-point types).
    pub(super) fn load_element(&mut self, dtype: DType, at: Value) -> Value {
        let (ins, flags) = (self.builder.ins(), memory());
        match dtype {
            DType::F32 => ins.load(types::F32, flags, at, 0),
            DType::I8 => ins.sload8(types::I64, flags, at, 0),
            DType::U8 | DType::Bool => ins.uload8(types::I64, flags, at, 0),
            DType::I16 => ins.sload16(types::I64, flags, at, 0),
            DType::U16 | DType::F16 | DType::BF16 => ins.uload16(types::I64, flags, at, 0),
            DType::I32 => ins.sload32(flags, at, 0),
            DType::U32 => ins.uload32(flags, at, 0),
            DType::I64 | DType::U64 | DType::F64 => ins.load(types::I64, flags, at, 0),
        }
    }

    /// Stores what [`Self::load_element`] gives, or a vector.
    pub(super) fn store_element(&mut self, dtype: DType, value: Value, at: Value, offset: i32) {
        if self.is_vector(value) {
            let value = if dtype.size() == 1 { self.narrow(dtype, value) } else { value };
            self.builder.ins().store(memory(), value, at, offset);
            return;
        }
        let (ins, flags) = (self.builder.ins(), memory());
        match dtype.size() {
            1 => ins.istore8(flags, value, at, offset),
            2 => ins.istore16(flags, value, at, offset),
            4 if dtype != DType::F32 => ins.istore32(flags, value, at, offset),
            _ => ins.store(flags, value, at, offset),
        };
    }

    /// One register per vector.
    pub(super) fn spread(&self, values: &[Value], width: Width) -> Vec<Value> {
        values.iter().copied().cycle().take(if values.is_empty() { 0 } else { width.vectors }).collect()
    }

    /// An `f32` constant in an element or in every lane.
    pub(super) fn float_constant(&mut self, bits: u32, width: Width) -> Value {
        if width.lanes == 1 { self.float_like(f32::from_bits(bits), types::F32) } else { self.splat_bits(bits) }
    }

    fn float_like(&mut self, value: f32, ty: Type) -> Value {
        if ty == types::F32 { self.builder.ins().f32const(value) } else { self.splat_bits(value.to_bits()) }
    }

    /// An integer in an element or in every lane.
    pub(super) fn int_constant(&mut self, value: i64, width: Width) -> Value {
        let element = self.int(value);
        if width.lanes == 1 { element } else { self.in_lanes(element) }
    }

    /// An integer rounded to `f32`.
    pub(super) fn int_to_f32(&mut self, x: Value) -> Value {
        let ty = if self.is_vector(x) { types::F32X4 } else { types::F32 };
        self.builder.ins().fcvt_from_sint(ty, x)
    }

    fn int(&mut self, value: i64) -> Value {
        self.builder.ins().iconst(types::I64, value)
    }

    /// `condition` as 0 or 1.
    fn flag(&mut self, condition: Value) -> Value {
        self.builder.ins().uextend(types::I64, condition)
    }

    /// `a * b + c`, rounded once (twice where the target has no FMA).
    pub(super) fn multiply_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.is_int(a) {
            let product = self.builder.ins().imul(a, b);
            return self.builder.ins().iadd(c, product);
        }
        if self.fma {
            return self.builder.ins().fma(a, b, c);
        }
        let product = self.builder.ins().fmul(a, b);
        self.builder.ins().fadd(c, product)
    }

    /// `(a cmp b) ? yes : no` on floating-point values.
    fn choose(&mut self, cmp: FloatCC, a: Value, b: Value, yes: Value, no: Value) -> Value {
        let mask = self.builder.ins().fcmp(cmp, a, b);
        if self.value_type(a) == types::F32 {
            return self.builder.ins().select(mask, yes, no);
        }
        let mask = self.bits(types::F32X4, mask);
        self.builder.ins().bitselect(mask, yes, no)
    }

    /// A function of one value per vector.
    pub(super) fn unary(&mut self, function: UnaryFn, xs: &[Value]) -> Vec<Value> {
        match function {
            _ if self.is_int(xs[0]) => xs.iter().map(|x| self.unary_int(function, *x)).collect(),
            UnaryFn::IsNan => {
                let nan = self.builder.ins().fcmp(FloatCC::Unordered, xs[0], xs[0]);
                vec![self.flag(nan)]
            }
            UnaryFn::Sin | UnaryFn::Cos => vec![self.sine(xs[0], function == UnaryFn::Cos)],
            _ => self.lane_wise(function, xs),
        }
    }

    /// A function of `f32` lanes; an element is computed in every lane of a vector.
    fn lane_wise(&mut self, function: UnaryFn, xs: &[Value]) -> Vec<Value> {
        let scalar = self.value_type(xs[0]) == types::F32;
        let registers: Vec<V> = xs.iter().map(|_| self.v()).collect();
        for (v, x) in registers.iter().zip(xs) {
            let vector = if scalar { self.builder.ins().splat(types::F32X4, *x) } else { *x };
            self.set_v(*v, vector);
        }
        math::unary(self, function, &registers);
        let mut results = Vec::with_capacity(xs.len());
        for v in registers {
            let vector = self.get_v(v);
            self.free_v(v);
            results.push(if scalar { self.builder.ins().extractlane(vector, 0u8) } else { vector });
        }
        results
    }

    fn unary_int(&mut self, function: UnaryFn, x: Value) -> Value {
        match function {
            UnaryFn::Relu => {
                let zero = self.int(0);
                self.builder.ins().smax(x, zero)
            }
            UnaryFn::Clip(low, high) => {
                let (low, high) = (self.int(low as i64), self.int(high as i64));
                let x = self.builder.ins().smax(x, low);
                self.builder.ins().smin(x, high)
            }
            UnaryFn::Abs => self.builder.ins().iabs(x),
            UnaryFn::Neg => self.builder.ins().ineg(x),
            UnaryFn::Sign => {
                let above = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, x, 0);
                let above = self.flag(above);
                let below = self.builder.ins().sshr_imm_u(x, 63);
                self.builder.ins().bor(above, below)
            }
            UnaryFn::Not => {
                let zero = self.builder.ins().icmp_imm_s(IntCC::Equal, x, 0);
                self.flag(zero)
            }
            _ => x,
        }
    }

    /// A function of two values of one kind.
    pub(super) fn binary(&mut self, function: BinaryFn, a: Value, b: Value) -> Value {
        if self.is_int(a) {
            return self.binary_int(function, a, b);
        }
        let cmp = match function {
            BinaryFn::Add => return self.builder.ins().fadd(a, b),
            BinaryFn::Sub => return self.builder.ins().fsub(a, b),
            BinaryFn::Mul => return self.builder.ins().fmul(a, b),
            BinaryFn::Div => return self.builder.ins().fdiv(a, b),
            BinaryFn::Min => return self.builder.ins().fmin(a, b),
            BinaryFn::Max => return self.builder.ins().fmax(a, b),
            BinaryFn::Prelu => {
                let product = self.builder.ins().fmul(a, b);
                let zero = self.float_like(0.0, self.value_type(a));
                return self.choose(FloatCC::LessThan, a, zero, product, a);
            }
            BinaryFn::Pow => return self.power(a, b),
            BinaryFn::Mod => return self.remainder(a, b, true),
            BinaryFn::Fmod => return self.remainder(a, b, false),
            // Logical functions have no floating-point form; the shape rule refuses them.
            BinaryFn::Equal | BinaryFn::And | BinaryFn::Or | BinaryFn::Xor => FloatCC::Equal,
            BinaryFn::Less => FloatCC::LessThan,
            BinaryFn::LessOrEqual => FloatCC::LessThanOrEqual,
            BinaryFn::Greater => FloatCC::GreaterThan,
            BinaryFn::GreaterOrEqual => FloatCC::GreaterThanOrEqual,
        };
        let holds = self.builder.ins().fcmp(cmp, a, b);
        self.flag(holds)
    }

    fn binary_int(&mut self, function: BinaryFn, a: Value, b: Value) -> Value {
        let cmp = match function {
            BinaryFn::Add => return self.builder.ins().iadd(a, b),
            BinaryFn::Sub => return self.builder.ins().isub(a, b),
            BinaryFn::Mul => return self.builder.ins().imul(a, b),
            BinaryFn::Div => return self.divide_int(a, b),
            BinaryFn::Fmod => return self.remainder_int(a, b),
            BinaryFn::Mod => return self.modulo_int(a, b),
            BinaryFn::Pow => return self.power_int(a, b),
            BinaryFn::Min => return self.builder.ins().smin(a, b),
            BinaryFn::Max => return self.builder.ins().smax(a, b),
            BinaryFn::Prelu => {
                let product = self.builder.ins().imul(a, b);
                let below = self.builder.ins().icmp_imm_s(IntCC::SignedLessThan, a, 0);
                return self.builder.ins().select(below, product, a);
            }
            BinaryFn::And => return self.builder.ins().band(a, b),
            BinaryFn::Or => return self.builder.ins().bor(a, b),
            BinaryFn::Xor => return self.builder.ins().bxor(a, b),
            BinaryFn::Equal => IntCC::Equal,
            BinaryFn::Less => IntCC::SignedLessThan,
            BinaryFn::LessOrEqual => IntCC::SignedLessThanOrEqual,
            BinaryFn::Greater => IntCC::SignedGreaterThan,
            BinaryFn::GreaterOrEqual => IntCC::SignedGreaterThanOrEqual,
        };
        let holds = self.builder.ins().icmp(cmp, a, b);
        self.flag(holds)
    }

    /// A divisor that cannot trap: 1 in place of 0 and -1; with whether it was 0, and whether it was either.
    fn safe_divisor(&mut self, b: Value) -> (Value, Value, Value) {
        let zero = self.builder.ins().icmp_imm_s(IntCC::Equal, b, 0);
        let minus = self.builder.ins().icmp_imm_s(IntCC::Equal, b, -1);
        let either = self.builder.ins().bor(zero, minus);
        let one = self.int(1);
        (self.builder.ins().select(either, one, b), zero, either)
    }

    /// The quotient towards zero; 0 for a divisor of 0; wraps.
    fn divide_int(&mut self, a: Value, b: Value) -> Value {
        let (divisor, by_zero, either) = self.safe_divisor(b);
        let quotient = self.builder.ins().sdiv(a, divisor);
        let negated = self.builder.ins().ineg(a);
        let zero = self.int(0);
        let special = self.builder.ins().select(by_zero, zero, negated);
        self.builder.ins().select(either, special, quotient)
    }

    /// The remainder with the dividend's sign; 0 for a divisor of 0.
    fn remainder_int(&mut self, a: Value, b: Value) -> Value {
        let (divisor, _, either) = self.safe_divisor(b);
        let remainder = self.builder.ins().srem(a, divisor);
        let zero = self.int(0);
        self.builder.ins().select(either, zero, remainder)
    }

    /// The remainder with the divisor's sign; 0 for a divisor of 0.
    fn modulo_int(&mut self, a: Value, b: Value) -> Value {
        let remainder = self.remainder_int(a, b);
        let signs = self.builder.ins().bxor(remainder, b);
        let differ = self.builder.ins().icmp_imm_s(IntCC::SignedLessThan, signs, 0);
        let some = self.builder.ins().icmp_imm_s(IntCC::NotEqual, remainder, 0);
        let shift = self.builder.ins().band(differ, some);
        let shifted = self.builder.ins().iadd(remainder, b);
        self.builder.ins().select(shift, shifted, remainder)
    }

    /// `a` to the power `b` by squaring, wrapping; 0 for negative exponents unless `a` is 1 or -1.
    fn power_int(&mut self, a: Value, b: Value) -> Value {
        let (head, body, exit) =
            (self.builder.create_block(), self.builder.create_block(), self.builder.create_block());
        let [base, exponent, power] = [(); 3].map(|()| self.builder.append_block_param(head, types::I64));
        let (one, zero) = (self.int(1), self.int(0));
        self.builder.ins().jump(head, &[a, b, one].map(BlockArg::Value));
        self.builder.switch_to_block(head);
        let more = self.builder.ins().icmp(IntCC::SignedGreaterThan, exponent, zero);
        self.builder.ins().brif(more, body, &[], exit, &[]);
        self.builder.seal_block(body);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(body);
        let odd = self.builder.ins().band_imm_u(exponent, 1);
        let product = self.builder.ins().imul(power, base);
        let power_next = self.builder.ins().select(odd, product, power);
        let square = self.builder.ins().imul(base, base);
        let half = self.builder.ins().sshr_imm_u(exponent, 1);
        self.builder.ins().jump(head, &[square, half, power_next].map(BlockArg::Value));
        self.builder.seal_block(head);
        self.builder.switch_to_block(exit);
        // A negative exponent leaves 1 in `power`: right for a base of 1, its sign for a base of -1, else 0.
        let is_one = self.builder.ins().icmp_imm_s(IntCC::Equal, a, 1);
        let is_minus = self.builder.ins().icmp_imm_s(IntCC::Equal, a, -1);
        let odd = self.builder.ins().band_imm_u(b, 1);
        let sign = self.builder.ins().select(odd, a, one);
        let unit = self.flag(is_one);
        let inverse = self.builder.ins().select(is_minus, sign, unit);
        let negative = self.builder.ins().icmp(IntCC::SignedLessThan, b, zero);
        self.builder.ins().select(negative, inverse, power)
    }

    /// An F32 truncated and saturated to an integer type, as I64; to bool: whether it differs from 0.
    pub(super) fn saturate(&mut self, dtype: DType, x: Value) -> Value {
        if dtype == DType::Bool {
            let zero = self.builder.ins().f32const(0.0);
            let differs = self.builder.ins().fcmp(FloatCC::NotEqual, x, zero);
            return self.flag(differs);
        }
        let vector = self.is_vector(x);
        let value = self.builder.ins().fcvt_to_sint_sat(if vector { types::I32X4 } else { types::I64 }, x);
        let Some((low, high)) = bounds(dtype).filter(|_| !vector || dtype.size() < 4) else { return value };
        let (mut low, mut high) = (self.int(low), self.int(high));
        if vector {
            (low, high) = (self.in_lanes(low), self.in_lanes(high));
        }
        let value = self.builder.ins().smax(value, low);
        self.builder.ins().smin(value, high)
    }

    /// An I64 wrapped to an integer type; to bool: whether it differs from 0.
    pub(super) fn wrap_int(&mut self, dtype: DType, x: Value) -> Value {
        if self.is_vector(x) {
            return self.wrap_lanes(dtype, x);
        }
        let narrow = match dtype.size() {
            1 => types::I8,
            2 => types::I16,
            4 => types::I32,
            _ => return x,
        };
        if dtype == DType::Bool {
            let differs = self.builder.ins().icmp_imm_s(IntCC::NotEqual, x, 0);
            return self.flag(differs);
        }
        let cut = self.builder.ins().ireduce(narrow, x);
        match dtype {
            DType::U8 | DType::U16 | DType::U32 => self.builder.ins().uextend(types::I64, cut),
            _ => self.builder.ins().sextend(types::I64, cut),
        }
    }
}

impl ClifEmitter<'_> {
    /// I32X4 lanes wrapped to an 8-bit type; as they are for a 32-bit one.
    fn wrap_lanes(&mut self, dtype: DType, x: Value) -> Value {
        if dtype.size() == 4 {
            return x;
        }
        let bits = self.builder.ins().iconst(types::I32, 24);
        let high = self.builder.ins().ishl(x, bits);
        match dtype {
            DType::U8 => self.builder.ins().ushr(high, bits),
            _ => self.builder.ins().sshr(high, bits),
        }
    }
}

/// Range of an integer type narrower than 64 bits.
fn bounds(dtype: DType) -> Option<(i64, i64)> {
    Some(match dtype {
        DType::I8 => (i64::from(i8::MIN), i64::from(i8::MAX)),
        DType::U8 => (0, i64::from(u8::MAX)),
        DType::I16 => (i64::from(i16::MIN), i64::from(i16::MAX)),
        DType::U16 => (0, i64::from(u16::MAX)),
        DType::I32 => (i64::from(i32::MIN), i64::from(i32::MAX)),
        DType::U32 => (0, i64::from(u32::MAX)),
        _ => return None,
    })
}
