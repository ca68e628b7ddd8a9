//! Calls of an [`Emitter`] become [`Recording`].
//!
//! A register that is written in the region it was declared in gets a fresh value there, so that a value's life ends with its last
//! use. A copy that the next multiply-add overwrites becomes its addend.

use fornax_runtime::levels::Vectors;

use super::code::{Address, Declared, Id, Inst, Recording, Region, Source, Times};
use crate::codegen::{Body, Cmp, Count, Displacements, Element, Emitter, IntOp, Mem, R, T, V, VOp, spelled_store_bf16};
use crate::error::Result;
use fornax_ir::types::DType;

/// Parameters of a kernel, general values 0 to 3.
const PTRS: Id = 0;
const BEGIN: Id = 1;
const END: Id = 2;
const SCRATCH: Id = 3;

/// Records a kernel.
pub struct Recorder {
    code: Recording,
    vectors: Vectors,
    /// The present value of each register that was handed out.
    v: Vec<Id>,
    r: Vec<Id>,
    region: u32,
    displacements: Displacements,
}

impl Recorder {
    /// A recorder for these vector registers.
    pub fn new(vectors: Vectors) -> Self {
        let mut code = Recording::default();
        code.regions.push(Region { parent: 0, is_loop: false, begin: 0, end: 0 });
        code.general = vec![Declared { at: 0, region: 0 }; 4];
        Self { code, vectors, v: Vec::new(), r: Vec::new(), region: 0, displacements: Displacements::default() }
    }

    /// The recorded kernel, called `name`.
    ///
    /// # Errors
    /// As [`Displacements::check`].
    pub fn finish(mut self, name: &str) -> Result<Recording> {
        self.displacements.check(name)?;
        self.code.regions[0].end = self.code.insts.len() as u32;
        Ok(self.code)
    }

    fn declared(&self) -> Declared {
        Declared { at: self.code.insts.len() as u32, region: self.region }
    }

    fn push(&mut self, inst: Inst) {
        self.code.insts.push(inst);
        self.code.region_of.push(self.region);
    }

    fn get_v(&self, v: V) -> Id {
        self.v[v.0 as usize]
    }

    fn get_r(&self, r: R) -> Id {
        self.r[r.0 as usize]
    }

    /// The value that a write of `d` makes.
    fn set_v(&mut self, d: V) -> Id {
        let value = self.v[d.0 as usize];
        if self.code.vector[value as usize].region != self.region {
            return value;
        }
        let declared = self.declared();
        self.code.vector.push(declared);
        self.v[d.0 as usize] = self.code.vector.len() as Id - 1;
        self.v[d.0 as usize]
    }

    fn set_r(&mut self, d: R) -> Id {
        let value = self.r[d.0 as usize];
        if self.code.general[value as usize].region != self.region {
            return value;
        }
        let declared = self.declared();
        self.code.general.push(declared);
        self.r[d.0 as usize] = self.code.general.len() as Id - 1;
        self.r[d.0 as usize]
    }

    fn address(&self, at: Mem) -> Address {
        Address { base: self.get_r(at.base), offset: self.displacements.of(at) }
    }

    /// Records what `body` emits as a region between `open` and `close`.
    fn region(&mut self, is_loop: bool, open: Inst, close: Inst, body: Body<'_>) {
        self.push(open);
        let outside = self.region;
        let begin = self.code.insts.len() as u32 - 1;
        self.region = self.code.regions.len() as u32;
        self.code.regions.push(Region { parent: outside, is_loop, begin, end: 0 });
        body(self);
        let inside = self.region as usize;
        self.region = outside;
        self.code.regions[inside].end = self.code.insts.len() as u32;
        self.push(close);
    }

    fn multiply_add(&mut self, negate: bool, d: V, a: V, b: V) {
        let (mut c, a, b) = (self.get_v(d), self.get_v(a), self.get_v(b));
        let last = self.code.insts.len().wrapping_sub(1);
        // The copy's value is read by this instruction alone, which writes its register.
        if let Some(Inst::CopyV(copy, from)) = self.code.insts.last().copied()
            && copy == c
            && ![a, b].contains(&copy)
            && self.code.vector[copy as usize].region == self.region
            && self.code.region_of[last] == self.region
        {
            self.code.insts[last] = Inst::Nop;
            c = from;
        }
        let d = self.set_v(d);
        self.push(Inst::Fma { negate, d, c, a, b: Source::Value(b) });
    }
}

impl Emitter for Recorder {
    fn lanes(&self, element: Element) -> usize {
        self.vectors.lanes * 4 / element.size()
    }

    fn budget(&self) -> usize {
        // One for what single operations need: masks, comparisons.
        self.vectors.registers - 1
    }

    fn v(&mut self) -> V {
        let declared = self.declared();
        self.code.vector.push(declared);
        self.v.push(self.code.vector.len() as Id - 1);
        V(self.v.len() as u32 - 1)
    }

    fn free_v(&mut self, _v: V) {}

    fn r(&mut self) -> R {
        let declared = self.declared();
        self.code.general.push(declared);
        self.r.push(self.code.general.len() as Id - 1);
        R(self.r.len() as u32 - 1)
    }

    fn free_r(&mut self, _r: R) {}

    fn arg(&mut self, d: R, index: usize) {
        let d = self.set_r(d);
        self.push(Inst::LoadR(d, Address { base: PTRS, offset: 8 * index as i32 }));
    }

    fn begin(&mut self, d: R) {
        let d = self.set_r(d);
        self.push(Inst::Low(d, BEGIN));
    }

    fn end(&mut self, d: R) {
        let d = self.set_r(d);
        self.push(Inst::Low(d, END));
    }

    fn scratch(&mut self, d: R) {
        let d = self.set_r(d);
        self.push(Inst::Move(d, SCRATCH));
    }

    fn set(&mut self, d: R, value: i64) {
        let d = self.set_r(d);
        self.push(Inst::Set(d, value));
    }

    fn copy(&mut self, d: R, s: R) {
        let s = self.get_r(s);
        let d = self.set_r(d);
        self.push(Inst::Move(d, s));
    }

    fn add(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let d = self.set_r(d);
        self.push(Inst::Add(d, a, b));
    }

    fn sub(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let d = self.set_r(d);
        self.push(Inst::Sub(d, a, b));
    }

    fn add_imm(&mut self, d: R, a: R, value: i64) {
        let a = self.get_r(a);
        if value == 0 && self.get_r(d) == a {
            return;
        }
        let d = self.set_r(d);
        self.push(Inst::AddImm(d, a, value));
    }

    fn mul_imm(&mut self, d: R, a: R, value: i64) {
        let a = self.get_r(a);
        let d = self.set_r(d);
        self.push(Inst::MulImm(d, a, value));
    }

    fn div_imm(&mut self, d: R, a: R, value: u32) {
        let a = self.get_r(a);
        let d = self.set_r(d);
        self.push(Inst::DivImm(d, a, value));
    }

    fn min(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let d = self.set_r(d);
        self.push(Inst::Min(d, a, b));
    }

    fn max(&mut self, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let d = self.set_r(d);
        self.push(Inst::Max(d, a, b));
    }

    fn tiles(&self) -> bool {
        self.vectors.tiles
    }

    fn tile_shapes(&mut self, at: Mem) {
        let at = self.address(at);
        self.push(Inst::TileShapes(at));
    }

    fn tile_release(&mut self) {
        self.push(Inst::TileRelease);
    }

    fn tile_zero(&mut self, d: T) {
        self.push(Inst::TileZero(d.0));
    }

    fn tile_load(&mut self, d: T, at: Mem, stride: R) {
        let (at, stride) = (self.address(at), self.get_r(stride));
        self.push(Inst::TileLoad(d.0, at, stride));
    }

    fn tile_store(&mut self, s: T, at: Mem, stride: R) {
        let (at, stride) = (self.address(at), self.get_r(stride));
        self.push(Inst::TileStore(s.0, at, stride));
    }

    fn tile_dot(&mut self, d: T, a: T, b: T) {
        self.push(Inst::TileDot(d.0, a.0, b.0));
    }

    fn store_bf16(&mut self, s: V, at: Mem, lanes: usize) {
        if !self.vectors.tiles || !lanes.is_multiple_of(2) {
            return spelled_store_bf16(self, s, at, lanes);
        }
        let d = self.v();
        let (s, d) = (self.get_v(s), self.set_v(d));
        self.push(Inst::NarrowBf16(d, s));
        let at = self.address(at);
        self.push(Inst::Store(d, at, (lanes / 2) as u8));
    }

    fn prefetch(&mut self, at: Mem) {
        let at = self.address(at);
        self.push(Inst::Prefetch(at));
    }

    fn load_r(&mut self, d: R, at: Mem) {
        let at = self.address(at);
        let d = self.set_r(d);
        self.push(Inst::LoadR(d, at));
    }

    fn store_r(&mut self, s: R, at: Mem) {
        let (s, at) = (self.get_r(s), self.address(at));
        self.push(Inst::StoreR(s, at));
    }

    fn int_op(&mut self, op: IntOp, d: R, a: R, b: R) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        let d = self.set_r(d);
        self.push(Inst::IntOp(op, d, a, b));
    }

    fn extend(&mut self, d: R, a: R, dtype: DType) {
        let a = self.get_r(a);
        let d = self.set_r(d);
        self.push(Inst::Extend(d, a, dtype));
    }

    fn load_int(&mut self, d: R, at: Mem, dtype: DType) {
        let at = self.address(at);
        let d = self.set_r(d);
        self.push(Inst::LoadInt(d, at, dtype));
    }

    fn store_int(&mut self, s: R, at: Mem, dtype: DType) {
        let (s, at) = (self.get_r(s), self.address(at));
        self.push(Inst::StoreInt(s, at, dtype));
    }

    fn choose(&mut self, d: R, cmp: Cmp, a: R, b: R, yes: R, no: R) {
        let operands = [a, b, yes, no].map(|r| self.get_r(r));
        let d = self.set_r(d);
        self.push(Inst::Choose(d, cmp, operands));
    }

    fn first_bits(&mut self, element: Element, d: R, s: V) {
        let s = self.get_v(s);
        let d = self.set_r(d);
        self.push(Inst::FirstBits(element, d, s));
    }

    fn splat_int(&mut self, element: Element, d: V, s: R) {
        let s = self.get_r(s);
        let d = self.set_v(d);
        self.push(Inst::SplatInt(element, d, s));
    }

    fn first_from_int(&mut self, d: V, s: R) {
        let s = self.get_r(s);
        let d = self.set_v(d);
        self.push(Inst::FirstFromInt(d, s));
    }

    fn first_to_int(&mut self, d: R, s: V) {
        let s = self.get_v(s);
        let d = self.set_r(d);
        self.push(Inst::FirstToInt(d, s));
    }

    fn select_below(&mut self, d: R, index: R, bound: u32, inside: R, outside: R) {
        let [index, inside, outside] = [index, inside, outside].map(|r| self.get_r(r));
        let d = self.set_r(d);
        self.push(Inst::SelectBelow(d, index, bound, inside, outside));
    }

    fn repeat(&mut self, count: Count, body: Body<'_>) {
        let times = match count {
            Count::Times(0) => return,
            Count::Times(1) => return body(self),
            Count::Times(times) => Times::Constant(times),
            Count::Register(r) => Times::Register(self.get_r(r)),
        };
        let declared = self.declared();
        self.code.general.push(declared);
        let counter = self.code.general.len() as Id - 1;
        self.region(true, Inst::Loop(counter, times), Inst::EndLoop(counter), body);
    }

    fn if_less(&mut self, a: R, b: R, body: Body<'_>) {
        let (a, b) = (self.get_r(a), self.get_r(b));
        self.region(false, Inst::IfLess(a, b), Inst::EndIf, body);
    }

    fn zero(&mut self, d: V) {
        self.splat(d, 0);
    }

    fn splat(&mut self, d: V, bits: u32) {
        let d = self.set_v(d);
        self.push(Inst::Splat(d, u64::from(bits) << 32 | u64::from(bits)));
    }

    fn splat_64(&mut self, d: V, bits: u64) {
        let d = self.set_v(d);
        self.push(Inst::Splat(d, bits));
    }

    fn copy_v(&mut self, d: V, s: V) {
        let s = self.get_v(s);
        let d = self.set_v(d);
        self.push(Inst::CopyV(d, s));
    }

    fn load(&mut self, d: V, at: Mem, lanes: usize) {
        if lanes == 0 {
            return self.zero(d);
        }
        let at = self.address(at);
        let d = self.set_v(d);
        self.push(Inst::Load(d, at, lanes.min(self.vectors.lanes) as u8));
    }

    fn store(&mut self, s: V, at: Mem, lanes: usize) {
        if lanes > 0 {
            let (s, at) = (self.get_v(s), self.address(at));
            self.push(Inst::Store(s, at, lanes.min(self.vectors.lanes) as u8));
        }
    }

    fn load_as(&mut self, d: V, at: Mem, from: DType, lanes: usize) {
        if from.size() == 4 || lanes == 0 {
            return self.load(d, at, lanes);
        }
        let at = self.address(at);
        let d = self.set_v(d);
        self.push(Inst::LoadAs(d, at, from, lanes.min(self.vectors.lanes) as u8));
    }

    fn store_as(&mut self, s: V, at: Mem, to: DType, lanes: usize) {
        if to.size() == 4 {
            return self.store(s, at, lanes);
        }
        if lanes > 0 {
            let (s, at) = (self.get_v(s), self.address(at));
            self.push(Inst::StoreAs(s, at, to, lanes.min(self.vectors.lanes) as u8));
        }
    }

    fn keep(&mut self, d: V, a: V, lanes: usize) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::Keep(d, a, lanes as u8));
    }

    fn upper(&mut self, d: V, a: V, by: usize) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::Upper(d, a, by as u8));
    }

    fn broadcast(&mut self, d: V, at: Mem) {
        let at = self.address(at);
        let d = self.set_v(d);
        self.push(Inst::Broadcast(d, at));
    }

    fn op(&mut self, op: VOp, element: Element, d: V, a: V, b: V) {
        let (a, b) = (self.get_v(a), self.get_v(b));
        let d = self.set_v(d);
        self.push(Inst::Op(op, element, d, a, Source::Value(b)));
    }

    fn fma(&mut self, d: V, a: V, b: V) {
        self.multiply_add(false, d, a, b);
    }

    fn fnma(&mut self, d: V, a: V, b: V) {
        self.multiply_add(true, d, a, b);
    }

    fn sqrt(&mut self, element: Element, d: V, a: V) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::Sqrt(element, d, a));
    }

    fn round(&mut self, d: V, a: V) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::Round(d, a));
    }

    fn shift_left(&mut self, element: Element, d: V, a: V, bits: u32) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::ShiftLeft(element, d, a, bits as u8));
    }

    fn shift_right(&mut self, element: Element, d: V, a: V, bits: u32) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::ShiftRight(element, d, a, bits as u8));
    }

    fn select(&mut self, element: Element, d: V, cmp: Cmp, [a, b]: [V; 2], yes: V, no: V) {
        let operands = [a, b, yes, no].map(|v| self.get_v(v));
        let d = self.set_v(d);
        self.push(Inst::Select(element, d, cmp, operands));
    }

    fn promote(&mut self, d: V, a: V, upper: bool) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::Promote(d, a, upper));
    }

    fn demote(&mut self, d: V, low: V, high: V) {
        let (low, high) = (self.get_v(low), self.get_v(high));
        let d = self.set_v(d);
        self.push(Inst::Demote(d, low, high));
    }

    fn int_to_float(&mut self, d: V, a: V) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::IntToFloat(d, a));
    }

    fn float_to_int(&mut self, d: V, a: V) {
        let a = self.get_v(a);
        let d = self.set_v(d);
        self.push(Inst::FloatToInt(d, a));
    }
}
