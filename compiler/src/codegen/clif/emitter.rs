//! Every operation of the vector machine as CLIF.

use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{Block, BlockArg, Endianness, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::{FunctionBuilder, Variable};

use super::elements::{float_condition, int_condition, shuffle_bytes, vector_of};
use super::memory;
use crate::codegen::{Body, Cmp, Count, Displacements, Element, Emitter, IntOp, Mem, R, V, VOp};
use fornax_ir::types::DType;

/// Lanes of a vector.
const LANES: usize = 4;

/// Writes CLIF. Numbers of [`V`] and [`R`] are variable numbers.
pub(crate) struct ClifEmitter<'a> {
    /// The function under construction; its current block is where the next instruction goes.
    pub(crate) builder: FunctionBuilder<'a>,
    ptrs: Value,
    begin: Value,
    end: Value,
    scratch: Value,
    pub(super) fma: bool,
    x86: bool,
    free_v: Vec<V>,
    free_r: Vec<R>,
    pub(super) displacements: Displacements,
}

impl<'a> ClifEmitter<'a> {
    /// An emitter at the start of `entry`, which has the kernel's parameters; `fma`: CLIF's `fma` is one instruction.
    pub(super) fn new(builder: FunctionBuilder<'a>, entry: Block, fma: bool, x86: bool) -> Self {
        let p = builder.block_params(entry);
        let (ptrs, begin, end, scratch) = (p[0], p[1], p[2], p[3]);
        let (free_v, free_r, displacements) = (Vec::new(), Vec::new(), Displacements::default());
        Self { builder, ptrs, begin, end, scratch, fma, x86, free_v, free_r, displacements }
    }

    /// The current value of a vector register, F32X4.
    pub(crate) fn get_v(&mut self, v: V) -> Value {
        self.builder.use_var(Variable::from_u32(v.0))
    }

    /// Assigns a vector register.
    pub(crate) fn set_v(&mut self, v: V, value: Value) {
        self.builder.def_var(Variable::from_u32(v.0), value);
    }

    /// The current value of a general register, I64.
    pub(crate) fn get_r(&mut self, r: R) -> Value {
        self.builder.use_var(Variable::from_u32(r.0))
    }

    /// Assigns a general register.
    pub(crate) fn set_r(&mut self, r: R, value: Value) {
        self.builder.def_var(Variable::from_u32(r.0), value);
    }

    /// The same 128 bits as `ty`.
    pub(crate) fn bits(&mut self, ty: Type, value: Value) -> Value {
        if self.builder.func.dfg.value_type(value) == ty {
            return value;
        }
        self.builder.ins().bitcast(ty, MemFlagsData::new().with_endianness(Endianness::Little), value)
    }

    /// Every lane of an F32X4 = these bits. Each call materialises the constant again.
    pub(crate) fn splat_bits(&mut self, bits: u32) -> Value {
        let bytes: Vec<u8> = std::iter::repeat_n(bits.to_le_bytes(), LANES).flatten().collect();
        let constant = self.builder.func.dfg.constants.insert(bytes.into());
        self.builder.ins().vconst(types::F32X4, constant)
    }

    /// A mask where `a cmp b`, of their type.
    fn compare(&mut self, cc: FloatCC, a: Value, b: Value) -> Value {
        let mask = self.builder.ins().fcmp(cc, a, b);
        let ty = self.builder.func.dfg.value_type(a);
        self.bits(ty, mask)
    }

    fn float_op(&mut self, element: Element, op: VOp, a: Value, b: Value) -> Value {
        let ty = vector_of(element);
        let (a, b) = (self.bits(ty, a), self.bits(ty, b));
        let value = match op {
            VOp::Add => self.builder.ins().fadd(a, b),
            VOp::Sub => self.builder.ins().fsub(a, b),
            VOp::Mul => self.builder.ins().fmul(a, b),
            VOp::Div => self.builder.ins().fdiv(a, b),
            // These two shapes are what Cranelift turns into minps and maxps.
            VOp::Min => {
                let mask = self.compare(FloatCC::LessThan, a, b);
                self.builder.ins().bitselect(mask, a, b)
            }
            VOp::Max => {
                let mask = self.compare(FloatCC::LessThan, b, a);
                self.builder.ins().bitselect(mask, a, b)
            }
            VOp::And => self.builder.ins().band(a, b),
            VOp::Or => self.builder.ins().bor(a, b),
            _ => self.builder.ins().bxor(a, b),
        };
        self.bits(types::F32X4, value)
    }

    fn lanes_op(&mut self, element: Element, op: VOp, a: Value, b: Value) -> Value {
        let ty = vector_of(element);
        let (a, b) = (self.bits(ty, a), self.bits(ty, b));
        let value = match op {
            VOp::Add => self.builder.ins().iadd(a, b),
            VOp::Sub => self.builder.ins().isub(a, b),
            VOp::Mul => self.builder.ins().imul(a, b),
            VOp::Min => self.builder.ins().smin(a, b),
            VOp::Max => self.builder.ins().smax(a, b),
            VOp::And => self.builder.ins().band(a, b),
            VOp::Or => self.builder.ins().bor(a, b),
            VOp::Xor => self.builder.ins().bxor(a, b),
            VOp::Dot => self.dot_pairs(a, b),
            _ => {
                debug_assert!(false, "vectors of integers have no {op:?}");
                a
            }
        };
        self.bits(types::F32X4, value)
    }

    /// Runs `body` again and again until `counter`, positive at first, is counted down to zero.
    fn count_down(&mut self, counter: Value, body: Body<'_>) {
        let (head, exit) = (self.builder.create_block(), self.builder.create_block());
        let left = self.builder.append_block_param(head, types::I64);
        self.builder.ins().jump(head, &[BlockArg::Value(counter)]);
        self.builder.switch_to_block(head);
        body(self);
        let next = self.builder.ins().iadd_imm_s(left, -1);
        self.builder.ins().brif(next, head, &[BlockArg::Value(next)], exit, &[]);
        self.builder.seal_block(head);
        self.builder.seal_block(exit);
        self.builder.switch_to_block(exit);
    }

    /// Runs `then` where `condition` holds.
    fn when(&mut self, condition: Value, then: impl FnOnce(&mut Self)) {
        let (yes, no) = (self.builder.create_block(), self.builder.create_block());
        self.builder.ins().brif(condition, yes, &[], no, &[]);
        self.builder.switch_to_block(yes);
        self.builder.seal_block(yes);
        then(self);
        self.builder.ins().jump(no, &[]);
        self.builder.seal_block(no);
        self.builder.switch_to_block(no);
    }
}

impl Emitter for ClifEmitter<'_> {
    fn lanes(&self, element: Element) -> usize {
        4 * LANES / element.size()
    }

    // Cranelift's x86 `fma` overwrites a multiplicand, so each needs a copy; one more register goes to constants.
    fn budget(&self) -> usize {
        if self.x86 { 14 } else { 30 }
    }

    fn v(&mut self) -> V {
        self.free_v.pop().unwrap_or_else(|| V(self.builder.declare_var(types::F32X4).as_u32()))
    }

    fn free_v(&mut self, v: V) {
        debug_assert!(!self.free_v.contains(&v), "a vector register is given back twice");
        self.free_v.push(v);
    }

    fn r(&mut self) -> R {
        self.free_r.pop().unwrap_or_else(|| R(self.builder.declare_var(types::I64).as_u32()))
    }

    fn free_r(&mut self, r: R) {
        debug_assert!(!self.free_r.contains(&r), "a general register is given back twice");
        self.free_r.push(r);
    }

    fn arg(&mut self, d: R, index: usize) {
        let value = self.builder.ins().load(types::I64, memory(), self.ptrs, (index * 8) as i32);
        self.set_r(d, value);
    }

    fn begin(&mut self, d: R) {
        let value = self.builder.ins().uextend(types::I64, self.begin);
        self.set_r(d, value);
    }

    fn end(&mut self, d: R) {
        let value = self.builder.ins().uextend(types::I64, self.end);
        self.set_r(d, value);
    }

    fn scratch(&mut self, d: R) {
        self.set_r(d, self.scratch);
    }

    fn set(&mut self, d: R, value: i64) {
        let value = self.builder.ins().iconst(types::I64, value);
        self.set_r(d, value);
    }

    fn copy(&mut self, d: R, s: R) {
        let value = self.get_r(s);
        self.set_r(d, value);
    }

    fn add(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let value = self.builder.ins().iadd(a, b);
        self.set_r(d, value);
    }

    fn sub(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let value = self.builder.ins().isub(a, b);
        self.set_r(d, value);
    }

    fn add_imm(&mut self, d: R, a: R, value: i64) {
        let a = self.get_r(a);
        let value = if value == 0 { a } else { self.builder.ins().iadd_imm_s(a, value) };
        self.set_r(d, value);
    }

    fn mul_imm(&mut self, d: R, a: R, value: i64) {
        let a = self.get_r(a);
        let value = match value {
            1 => a,
            _ if value.count_ones() == 1 => self.builder.ins().ishl_imm_u(a, i64::from(value.trailing_zeros())),
            _ => self.builder.ins().imul_imm_s(a, value),
        };
        self.set_r(d, value);
    }

    fn div_imm(&mut self, d: R, a: R, value: u32) {
        let a = self.get_r(a);
        let value = match value {
            1 => a,
            _ if value.is_power_of_two() => self.builder.ins().ushr_imm_u(a, i64::from(value.trailing_zeros())),
            _ => self.builder.ins().udiv_imm_u(a, i64::from(value)),
        };
        self.set_r(d, value);
    }

    fn min(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let less = self.builder.ins().icmp(IntCC::SignedLessThan, a, b);
        let value = self.builder.ins().select(less, a, b);
        self.set_r(d, value);
    }

    fn max(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let less = self.builder.ins().icmp(IntCC::SignedLessThan, a, b);
        let value = self.builder.ins().select(less, b, a);
        self.set_r(d, value);
    }

    fn load_r(&mut self, d: R, at: Mem) {
        let (base, offset) = (self.get_r(at.base), self.displacements.of(at));
        let value = self.builder.ins().load(types::I64, memory(), base, offset);
        self.set_r(d, value);
    }

    fn store_r(&mut self, s: R, at: Mem) {
        let (value, base, offset) = (self.get_r(s), self.get_r(at.base), self.displacements.of(at));
        self.builder.ins().store(memory(), value, base, offset);
    }

    fn int_op(&mut self, op: IntOp, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let value = self.int_value(op, a, b);
        self.set_r(d, value);
    }

    fn extend(&mut self, d: R, a: R, dtype: DType) {
        let a = self.get_r(a);
        let value = self.extended(a, dtype);
        self.set_r(d, value);
    }

    fn load_int(&mut self, d: R, at: Mem, dtype: DType) {
        let (base, offset) = (self.get_r(at.base), self.displacements.of(at));
        let value = self.load_element(dtype, base, offset);
        self.set_r(d, value);
    }

    fn store_int(&mut self, s: R, at: Mem, dtype: DType) {
        let (value, base, offset) = (self.get_r(s), self.get_r(at.base), self.displacements.of(at));
        self.store_element(dtype.size(), value, base, offset);
    }

    fn choose(&mut self, d: R, cmp: Cmp, a: R, b: R, yes: R, no: R) {
        let [a, b, yes, no] = [a, b, yes, no].map(|r| self.get_r(r));
        let holds = self.builder.ins().icmp(int_condition(cmp), a, b);
        let value = self.builder.ins().select(holds, yes, no);
        self.set_r(d, value);
    }

    fn first_bits(&mut self, element: Element, d: R, s: V) {
        let (lanes, narrow) = (self.get_v(s), element.size() == 4);
        let lanes = self.bits(if narrow { types::I32X4 } else { types::I64X2 }, lanes);
        let first = self.builder.ins().extractlane(lanes, 0u8);
        let value = if narrow { self.builder.ins().uextend(types::I64, first) } else { first };
        self.set_r(d, value);
    }

    fn splat_int(&mut self, element: Element, d: V, s: R) {
        let s = self.get_r(s);
        let value = if element.size() == 4 {
            let low = self.builder.ins().ireduce(types::I32, s);
            self.builder.ins().splat(types::I32X4, low)
        } else {
            self.builder.ins().splat(types::I64X2, s)
        };
        let value = self.bits(types::F32X4, value);
        self.set_v(d, value);
    }

    fn first_from_int(&mut self, d: V, s: R) {
        let s = self.get_r(s);
        let first = self.builder.ins().fcvt_from_sint(types::F32, s);
        let value = self.builder.ins().scalar_to_vector(types::F32X4, first);
        self.set_v(d, value);
    }

    fn first_to_int(&mut self, d: R, s: V) {
        let lanes = self.get_v(s);
        let first = self.builder.ins().extractlane(lanes, 0u8);
        let value = self.builder.ins().fcvt_to_sint_sat(types::I64, first);
        self.set_r(d, value);
    }

    fn select_below(&mut self, d: R, index: R, bound: u32, inside: R, outside: R) {
        let (index, inside, outside) = (self.get_r(index), self.get_r(inside), self.get_r(outside));
        let below = self.builder.ins().icmp_imm_u(IntCC::UnsignedLessThan, index, i64::from(bound));
        let value = self.builder.ins().select(below, inside, outside);
        self.set_r(d, value);
    }

    fn repeat(&mut self, count: Count, body: Body<'_>) {
        match count {
            Count::Times(0) => {}
            Count::Times(1) => body(self),
            Count::Times(times) => {
                let counter = self.builder.ins().iconst(types::I64, i64::from(times));
                self.count_down(counter, body);
            }
            Count::Register(r) => {
                let counter = self.get_r(r);
                let some = self.builder.ins().icmp_imm_s(IntCC::SignedGreaterThan, counter, 0);
                self.when(some, |e| e.count_down(counter, body));
            }
        }
    }

    fn if_less(&mut self, a: R, b: R, body: Body<'_>) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let less = self.builder.ins().icmp(IntCC::SignedLessThan, a, b);
        self.when(less, |e| body(e));
    }

    fn zero(&mut self, d: V) {
        self.splat(d, 0);
    }

    fn splat(&mut self, d: V, bits: u32) {
        let value = self.splat_bits(bits);
        self.set_v(d, value);
    }

    fn splat_64(&mut self, d: V, bits: u64) {
        let bytes: Vec<u8> = std::iter::repeat_n(bits.to_le_bytes(), LANES / 2).flatten().collect();
        let constant = self.builder.func.dfg.constants.insert(bytes.into());
        let value = self.builder.ins().vconst(types::F32X4, constant);
        self.set_v(d, value);
    }

    fn copy_v(&mut self, d: V, s: V) {
        let value = self.get_v(s);
        self.set_v(d, value);
    }

    fn load(&mut self, d: V, at: Mem, lanes: usize) {
        let (base, start) = (self.get_r(at.base), self.displacements.of(at));
        let mut part = |ty, offset: i32| self.builder.ins().load(ty, memory(), base, start + offset);
        let value = match lanes {
            0 => self.splat_bits(0),
            1 => {
                let low = part(types::F32, 0);
                self.builder.ins().scalar_to_vector(types::F32X4, low)
            }
            2 | 3 => {
                let low = part(types::F64, 0);
                let high = (lanes == 3).then(|| part(types::F32, 8));
                let pair = self.builder.ins().scalar_to_vector(types::F64X2, low);
                let pair = self.bits(types::F32X4, pair);
                high.map_or(pair, |high| self.builder.ins().insertlane(pair, high, 2u8))
            }
            _ => part(types::F32X4, 0),
        };
        self.set_v(d, value);
    }

    fn store(&mut self, s: V, at: Mem, lanes: usize) {
        let (value, base, offset) = (self.get_v(s), self.get_r(at.base), self.displacements.of(at));
        if lanes >= LANES {
            self.builder.ins().store(memory(), value, base, offset);
            return;
        }
        if lanes >= 2 {
            let pair = self.bits(types::F64X2, value);
            let low = self.builder.ins().extractlane(pair, 0u8);
            self.builder.ins().store(memory(), low, base, offset);
        }
        if lanes % 2 == 1 {
            let last = self.builder.ins().extractlane(value, (lanes - 1) as u8);
            self.builder.ins().store(memory(), last, base, offset + 4 * (lanes as i32 - 1));
        }
    }

    fn load_as(&mut self, d: V, at: Mem, from: DType, lanes: usize) {
        if from.size() == 4 {
            return self.load(d, at, lanes);
        }
        let (base, offset) = (self.get_r(at.base), self.displacements.of(at));
        let value = self.widened(from, base, offset, lanes);
        self.set_v(d, value);
    }

    fn store_as(&mut self, s: V, at: Mem, to: DType, lanes: usize) {
        if to.size() == 4 {
            return self.store(s, at, lanes);
        }
        let (value, base, offset) = (self.get_v(s), self.get_r(at.base), self.displacements.of(at));
        self.narrowed(value, to.size(), base, offset, lanes);
    }

    // Cranelift joins a load and its splat into one instruction only while the splat's value has one use. Handing it to a block of
    // its own makes it so: uses of the block's parameter do not count, and the jump to the next instruction vanishes.
    fn broadcast(&mut self, d: V, at: Mem) {
        let (base, offset) = (self.get_r(at.base), self.displacements.of(at));
        let scalar = self.builder.ins().load(types::F32, memory(), base, offset);
        let value = self.builder.ins().splat(types::F32X4, scalar);
        let next = self.builder.create_block();
        let value_there = self.builder.append_block_param(next, types::F32X4);
        self.builder.ins().jump(next, &[BlockArg::Value(value)]);
        self.builder.seal_block(next);
        self.builder.switch_to_block(next);
        self.set_v(d, value_there);
    }

    fn keep(&mut self, d: V, a: V, lanes: usize) {
        let a = self.get_v(a);
        let value = self.kept(a, lanes);
        self.set_v(d, value);
    }

    fn op(&mut self, op: VOp, element: Element, d: V, a: V, b: V) {
        let (a, b) = (self.get_v(a), self.get_v(b));
        let value = match op {
            VOp::UnpackLow | VOp::UnpackHigh | VOp::EvenBlocks | VOp::OddBlocks => {
                self.shuffle(a, b, shuffle_bytes(op, element.size()))
            }
            _ => match element {
                Element::F32 | Element::F64 => self.float_op(element, op, a, b),
                Element::I32 | Element::I64 => self.lanes_op(element, op, a, b),
            },
        };
        self.set_v(d, value);
    }

    fn upper(&mut self, d: V, a: V, by: usize) {
        let a = self.get_v(a);
        let value = self.upper_lanes(a, by);
        self.set_v(d, value);
    }

    fn fma(&mut self, d: V, a: V, b: V) {
        let (a, b, c) = (self.get_v(a), self.get_v(b), self.get_v(d));
        let value = if self.fma {
            self.builder.ins().fma(a, b, c)
        } else {
            let product = self.builder.ins().fmul(a, b);
            self.builder.ins().fadd(c, product)
        };
        self.set_v(d, value);
    }

    fn fnma(&mut self, d: V, a: V, b: V) {
        let (a, b, c) = (self.get_v(a), self.get_v(b), self.get_v(d));
        let value = if self.fma {
            let a = self.builder.ins().fneg(a);
            self.builder.ins().fma(a, b, c)
        } else {
            let product = self.builder.ins().fmul(a, b);
            self.builder.ins().fsub(c, product)
        };
        self.set_v(d, value);
    }

    fn sqrt(&mut self, element: Element, d: V, a: V) {
        let a = self.get_v(a);
        let a = self.bits(vector_of(element), a);
        let value = self.builder.ins().sqrt(a);
        let value = self.bits(types::F32X4, value);
        self.set_v(d, value);
    }

    fn round(&mut self, d: V, a: V) {
        let a = self.get_v(a);
        let value = self.builder.ins().nearest(a);
        self.set_v(d, value);
    }

    fn shift_left(&mut self, element: Element, d: V, a: V, bits: u32) {
        let a = self.get_v(a);
        let a = self.bits(vector_of(element), a);
        let bits = self.builder.ins().iconst(types::I32, i64::from(bits));
        let value = self.builder.ins().ishl(a, bits);
        let value = self.bits(types::F32X4, value);
        self.set_v(d, value);
    }

    fn shift_right(&mut self, element: Element, d: V, a: V, bits: u32) {
        let a = self.get_v(a);
        let a = self.bits(vector_of(element), a);
        let bits = self.builder.ins().iconst(types::I32, i64::from(bits));
        let value = self.builder.ins().ushr(a, bits);
        let value = self.bits(types::F32X4, value);
        self.set_v(d, value);
    }

    fn select(&mut self, element: Element, d: V, cmp: Cmp, [a, b]: [V; 2], yes: V, no: V) {
        let (a, b, yes, no) = (self.get_v(a), self.get_v(b), self.get_v(yes), self.get_v(no));
        let (a, b) = (self.bits(vector_of(element), a), self.bits(vector_of(element), b));
        let mask = match element {
            Element::F32 | Element::F64 => self.builder.ins().fcmp(float_condition(cmp), a, b),
            Element::I32 | Element::I64 => self.builder.ins().icmp(int_condition(cmp), a, b),
        };
        let mask = self.bits(types::F32X4, mask);
        let value = self.builder.ins().bitselect(mask, yes, no);
        self.set_v(d, value);
    }

    fn promote(&mut self, d: V, a: V, upper: bool) {
        let a = self.get_v(a);
        let value = self.promoted(a, upper);
        self.set_v(d, value);
    }

    fn demote(&mut self, d: V, low: V, high: V) {
        let (low, high) = (self.get_v(low), self.get_v(high));
        let value = self.demoted(low, high);
        self.set_v(d, value);
    }

    fn int_to_float(&mut self, d: V, a: V) {
        let a = self.get_v(a);
        let a = self.bits(types::I32X4, a);
        let value = self.builder.ins().fcvt_from_sint(types::F32X4, a);
        self.set_v(d, value);
    }

    fn float_to_int(&mut self, d: V, a: V) {
        let a = self.get_v(a);
        let value = if self.x86 {
            self.builder.ins().x86_cvtt2dq(types::I32X4, a)
        } else {
            self.builder.ins().fcvt_to_sint_sat(types::I32X4, a)
        };
        let value = self.bits(types::F32X4, value);
        self.set_v(d, value);
    }
}
