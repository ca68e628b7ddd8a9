//! Walks recorded code once: gives values registers and encodes every instruction.
//!
//! In: [`Code`] with loads folded. Out: bytes. At the ends of loops and conditions every value is where it was at their beginning.

use iced_x86::{Code as Op, Instruction, Register};

use super::assembler::{Encoded, Label, Place};
use super::code::{Address, Class, Code, Id, Inst, Source, Times};
use super::emit::{COMPARED, Machine, general};
use super::registers::{File, Snapshot, Span};
use crate::codegen::{Cmp, VOp};

/// General registers that values live in: all but the stack and the frame pointer.
const GENERAL: [u32; 14] = [0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 12, 13, 14, 15];
/// Registers of the parameters, values 0 to 3: rdi, rsi, rdx, rcx.
const PARAMETERS: [u32; 4] = [7, 6, 2, 1];
/// Low bits of conditional jumps' opcodes.
const NOT_ZERO: u8 = 5;
const GREATER_OR_EQUAL: u8 = 13;
const LESS_OR_EQUAL: u8 = 14;
/// Alignment of the head of a loop without loops inside.
const LOOP_ALIGN: usize = 32;

/// An open loop or condition.
struct Open {
    general: Snapshot,
    vector: Snapshot,
    head: Label,
    exit: Label,
}

struct Allocator<'a> {
    code: &'a Code,
    machine: Machine,
    r: File,
    v: File,
    open: Vec<Open>,
    /// Regions in the order they open.
    next_region: usize,
    /// Slots for what a division overwrites, once one is needed.
    division: Option<[u32; 3]>,
}

/// Where an operand is.
#[derive(Clone, Copy)]
enum Operand {
    Register(Register),
    Memory(Place),
}

/// Machine code for vectors of `lanes` lanes.
pub fn compile(code: &Code, lanes: usize) -> Result<Vec<u8>, String> {
    let wide = lanes == 16;
    let vectors = if wide { 32 } else { 16 };
    let mut allocator = Allocator {
        code,
        machine: Machine::new(wide, &partial_lanes(code, lanes))?,
        r: File::new(code, Class::General, GENERAL.to_vec(), 16),
        v: File::new(code, Class::Vector, (0..vectors).collect(), vectors as usize),
        open: Vec::new(),
        next_region: 1,
        division: None,
    };
    for (id, register) in (0..).zip(PARAMETERS) {
        allocator.r.seed(id, register);
    }
    for at in 0..code.insts.len() {
        allocator.inst(at as u32)?;
    }
    allocator.machine.finish()
}

/// The lane counts that need a mask, in order of first use.
fn partial_lanes(code: &Code, lanes: usize) -> Vec<u8> {
    let mut partial = Vec::new();
    for inst in &code.insts {
        if let Inst::Load(_, _, n) | Inst::Store(_, _, n) = inst
            && lanes == 16
            && !matches!(n, 4 | 8 | 16)
            && !partial.contains(n)
        {
            partial.push(*n);
        }
    }
    partial
}

impl Allocator<'_> {
    fn inst(&mut self, at: u32) -> Encoded {
        let inst = self.code.insts[at as usize];
        self.r.begin(at);
        self.v.begin(at);
        self.emit(inst)?;
        inst.visit(|class, id, _| match class {
            Class::General => self.r.release_if_dead(id),
            Class::Vector => self.v.release_if_dead(id),
        });
        Ok(())
    }

    fn emit(&mut self, inst: Inst) -> Encoded {
        match inst {
            Inst::Nop => Ok(()),
            Inst::Loop(counter, times) => self.begin_loop(counter, times),
            Inst::EndLoop(counter) => self.end_loop(counter),
            Inst::IfLess(a, b) => self.begin_if(a, b),
            Inst::EndIf => self.end_if(),
            Inst::Set(..)
            | Inst::Move(..)
            | Inst::Low(..)
            | Inst::Add(..)
            | Inst::Sub(..)
            | Inst::AddImm(..)
            | Inst::MulImm(..)
            | Inst::DivImm(..)
            | Inst::Min(..)
            | Inst::Max(..)
            | Inst::LoadR(..)
            | Inst::StoreR(..)
            | Inst::SelectBelow(..) => self.general(inst),
            _ => self.vector(inst),
        }
    }

    // Regions.

    fn region(&mut self) -> (Span, bool) {
        let index = self.next_region;
        self.next_region += 1;
        let region = self.code.regions[index];
        // Regions are numbered as they open, so one inside is the next.
        let inner = self.code.regions[index + 1..].iter().take_while(|r| r.begin < region.end).any(|r| r.is_loop);
        (Span { begin: region.begin, end: region.end }, !inner)
    }

    fn begin_loop(&mut self, counter: Id, times: Times) -> Encoded {
        let (span, innermost) = self.region();
        for file in [&mut self.r, &mut self.v] {
            file.enter_loop(self.code, span, &mut self.machine)?;
        }
        let (head, exit) = (self.machine.asm.label(), self.machine.asm.label());
        match times {
            Times::Constant(times) => {
                let d = self.r.write(counter, &mut self.machine)?;
                self.machine.asm.put(Instruction::with2(Op::Mov_r32_imm32, Register::EAX + d, times))?;
            }
            Times::Register(r) => {
                let from = self.r.read(r, &mut self.machine)?;
                let d = self.r.write(counter, &mut self.machine)?;
                self.machine.registers(Op::Mov_r64_rm64, general(d), general(from))?;
                self.r.release_if_dead(r);
            }
        }
        let snapshots = [self.r.snapshot(span.end), self.v.snapshot(span.end)];
        if let Times::Register(_) = times {
            let d = general(self.r.register(counter).ok_or("a loop lost its counter")?);
            self.machine.registers(Op::Test_rm64_r64, d, d)?;
            self.machine.asm.jump_if(LESS_OR_EQUAL, exit);
        }
        if innermost {
            self.machine.asm.align(LOOP_ALIGN);
        }
        self.machine.asm.place(head);
        let [general, vector] = snapshots;
        self.open.push(Open { general, vector, head, exit });
        self.r.loops.push(span);
        self.v.loops.push(span);
        Ok(())
    }

    fn end_loop(&mut self, counter: Id) -> Encoded {
        let open = self.open.pop().ok_or("a loop ends that did not begin")?;
        self.r.agree(&open.general, &mut self.machine)?;
        self.v.agree(&open.vector, &mut self.machine)?;
        match self.r.register(counter) {
            Some(d) => self.machine.asm.put(Instruction::with1(Op::Dec_rm64, general(d)))?,
            None => {
                let slot = self.r.slot_only(counter).ok_or("a loop lost its counter")?;
                let place = self.machine.general_slot(slot);
                self.machine.asm.with_place(place, |m| Instruction::with1(Op::Dec_rm64, m))?;
            }
        }
        self.machine.asm.jump_if(NOT_ZERO, open.head);
        self.machine.asm.place(open.exit);
        for file in [&mut self.r, &mut self.v] {
            file.loops.pop();
            file.leave();
        }
        Ok(())
    }

    fn begin_if(&mut self, a: Id, b: Id) -> Encoded {
        let (span, _) = self.region();
        let (ra, rb) = (self.r.read(a, &mut self.machine)?, self.r.read(b, &mut self.machine)?);
        [a, b].into_iter().for_each(|id| self.r.release_if_dead(id));
        let (general_state, vector) = (self.r.snapshot(span.end), self.v.snapshot(span.end));
        self.machine.registers(Op::Cmp_r64_rm64, general(ra), general(rb))?;
        let (head, exit) = (self.machine.asm.label(), self.machine.asm.label());
        self.machine.asm.jump_if(GREATER_OR_EQUAL, exit);
        self.open.push(Open { general: general_state, vector, head, exit });
        Ok(())
    }

    fn end_if(&mut self) -> Encoded {
        let open = self.open.pop().ok_or("a condition ends that did not begin")?;
        self.r.agree(&open.general, &mut self.machine)?;
        self.v.agree(&open.vector, &mut self.machine)?;
        self.machine.asm.place(open.exit);
        self.r.leave();
        self.v.leave();
        Ok(())
    }

    // General registers.

    fn read_r(&mut self, id: Id) -> Result<Register, String> {
        Ok(general(self.r.read(id, &mut self.machine)?))
    }

    fn write_r(&mut self, id: Id) -> Result<Register, String> {
        Ok(general(self.r.write(id, &mut self.machine)?))
    }

    fn at(&mut self, address: Address) -> Result<Place, String> {
        Ok(Place::At(self.read_r(address.base)?, address.offset))
    }

    /// `d` as a register that holds `a`; `a`'s own if it ends here.
    fn write_over(&mut self, d: Id, a: Id) -> Result<Register, String> {
        let from = self.read_r(a)?;
        if d == a {
            return self.write_r(d);
        }
        if self.r.dies(a) && self.r.register(d).is_none() {
            self.r.rename(a, d);
            return Ok(from);
        }
        let to = self.write_r(d)?;
        self.machine.registers(Op::Mov_r64_rm64, to, from)?;
        Ok(to)
    }

    fn general(&mut self, inst: Inst) -> Encoded {
        match inst {
            Inst::Set(d, value) => {
                let d = self.write_r(d)?;
                self.set(d, value)
            }
            Inst::Move(d, a) => self.write_over(d, a).map(drop),
            Inst::Low(d, a) => {
                let from = self.read_r(a)?;
                let to = self.write_r(d)?;
                let low = |r: Register| Register::EAX + (r as u32 - Register::RAX as u32);
                self.machine.registers(Op::Mov_r32_rm32, low(to), low(from))
            }
            Inst::Add(d, a, b) => self.add(d, a, b),
            Inst::Sub(d, a, b) => {
                if d == b && d != a {
                    let (to, from) = (self.read_r(b)?, self.read_r(a)?);
                    self.write_r(d)?;
                    self.machine.asm.put(Instruction::with1(Op::Neg_rm64, to))?;
                    return self.machine.registers(Op::Add_r64_rm64, to, from);
                }
                let b = self.read_r(b)?;
                let to = self.write_over(d, a)?;
                self.machine.registers(Op::Sub_r64_rm64, to, b)
            }
            Inst::AddImm(d, a, value) => self.add_imm(d, a, value),
            Inst::MulImm(d, a, value) => self.mul_imm(d, a, value),
            Inst::DivImm(d, a, value) => self.div_imm(d, a, value),
            Inst::Min(d, a, b) => self.choose(Op::Cmovg_r64_rm64, d, a, b),
            Inst::Max(d, a, b) => self.choose(Op::Cmovl_r64_rm64, d, a, b),
            Inst::LoadR(d, at) => {
                let from = self.at(at)?;
                let to = self.write_r(d)?;
                self.machine.load_form(Op::Mov_r64_rm64, to, from)
            }
            Inst::StoreR(s, at) => {
                let (s, to) = (self.read_r(s)?, self.at(at)?);
                self.machine.store_form(Op::Mov_rm64_r64, to, s)
            }
            Inst::SelectBelow(d, index, bound, inside, outside) => {
                self.select_below(d, index, bound, [inside, outside])
            }
            _ => Err("not an instruction over general registers".into()),
        }
    }

    fn set(&mut self, d: Register, value: i64) -> Encoded {
        let low = Register::EAX + (d as u32 - Register::RAX as u32);
        match (u32::try_from(value), i32::try_from(value)) {
            (Ok(value), _) => self.machine.asm.put(Instruction::with2(Op::Mov_r32_imm32, low, value)),
            (_, Ok(value)) => self.machine.asm.put(Instruction::with2(Op::Mov_rm64_imm32, d, value)),
            _ => self.machine.asm.put(Instruction::with2(Op::Mov_r64_imm64, d, value)),
        }
    }

    fn add(&mut self, d: Id, a: Id, b: Id) -> Encoded {
        let (ra, rb) = (self.read_r(a)?, self.read_r(b)?);
        if d == a || d == b {
            let to = self.write_r(d)?;
            return self.machine.registers(Op::Add_r64_rm64, to, if d == a { rb } else { ra });
        }
        [a, b].into_iter().for_each(|id| self.r.release_if_dead(id));
        let to = self.write_r(d)?;
        if to == ra {
            return self.machine.registers(Op::Add_r64_rm64, to, rb);
        }
        let sum = iced_x86::MemoryOperand::with_base_index(ra, rb);
        self.machine.asm.put(Instruction::with2(Op::Lea_r64_m, to, sum))
    }

    fn add_imm(&mut self, d: Id, a: Id, value: i64) -> Encoded {
        let Ok(small) = i32::try_from(value) else {
            let constant = self.machine.asm.constant(&value.to_le_bytes());
            let to = self.write_over(d, a)?;
            return self.machine.load_form(Op::Add_r64_rm64, to, Place::Constant(constant));
        };
        if value == 0 {
            return self.write_over(d, a).map(drop);
        }
        let code = if i8::try_from(small).is_ok() { Op::Add_rm64_imm8 } else { Op::Add_rm64_imm32 };
        if let (true, Some(slot)) = (d == a, self.r.slot_only(a)) {
            let place = self.machine.general_slot(slot);
            return self.machine.asm.with_place(place, |m| Instruction::with2(code, m, small));
        }
        if d == a || self.r.dies(a) {
            let to = self.write_over(d, a)?;
            return self.machine.asm.put(Instruction::with2(code, to, small));
        }
        let from = self.read_r(a)?;
        let to = self.write_r(d)?;
        self.machine.load_form(Op::Lea_r64_m, to, Place::At(from, small))
    }

    fn mul_imm(&mut self, d: Id, a: Id, value: i64) -> Encoded {
        if value > 0 && value.count_ones() == 1 {
            let to = self.write_over(d, a)?;
            let shift = value.trailing_zeros();
            if shift == 0 {
                return Ok(());
            }
            return self.machine.asm.put(Instruction::with2(Op::Shl_rm64_imm8, to, shift));
        }
        let Ok(small) = i32::try_from(value) else {
            let constant = self.machine.asm.constant(&value.to_le_bytes());
            let to = self.write_over(d, a)?;
            return self.machine.load_form(Op::Imul_r64_rm64, to, Place::Constant(constant));
        };
        let from = self.read_r(a)?;
        self.r.release_if_dead(a);
        let to = self.write_r(d)?;
        self.machine.asm.put(Instruction::with3(Op::Imul_r64_rm64_imm32, to, from, small))
    }

    fn div_imm(&mut self, d: Id, a: Id, value: u32) -> Encoded {
        if value.is_power_of_two() {
            let to = self.write_over(d, a)?;
            let shift = value.trailing_zeros();
            if shift == 0 {
                return Ok(());
            }
            return self.machine.asm.put(Instruction::with2(Op::Shr_rm64_imm8, to, shift));
        }
        use super::registers::Mover;
        let machine = &mut self.machine;
        let slots = *self.division.get_or_insert_with(|| [(); 3].map(|()| machine.slot(Class::General)));
        let [rax, rdx, quotient] = slots.map(|slot| self.machine.general_slot(slot));
        let from = self.read_r(a)?;
        self.machine.store_form(Op::Mov_rm64_r64, rax, Register::RAX)?;
        self.machine.store_form(Op::Mov_rm64_r64, rdx, Register::RDX)?;
        self.machine.registers(Op::Mov_r64_rm64, Register::RAX, from)?;
        self.machine.registers(Op::Xor_r32_rm32, Register::EDX, Register::EDX)?;
        let divisor = self.machine.asm.constant(&u64::from(value).to_le_bytes());
        self.machine.asm.with_place(Place::Constant(divisor), |m| Instruction::with1(Op::Div_rm64, m))?;
        self.machine.store_form(Op::Mov_rm64_r64, quotient, Register::RAX)?;
        self.machine.load_form(Op::Mov_r64_rm64, Register::RAX, rax)?;
        self.machine.load_form(Op::Mov_r64_rm64, Register::RDX, rdx)?;
        let to = self.write_r(d)?;
        self.machine.load_form(Op::Mov_r64_rm64, to, quotient)
    }

    /// `d = b` where a comparison of `a` with `b` says so, else `a`.
    fn choose(&mut self, code: Op, d: Id, a: Id, b: Id) -> Encoded {
        let (over, other) = if d == b { (b, a) } else { (a, b) };
        let other = self.read_r(other)?;
        let to = self.write_over(d, over)?;
        self.machine.registers(Op::Cmp_r64_rm64, to, other)?;
        self.machine.registers(code, to, other)
    }

    fn select_below(&mut self, d: Id, index: Id, bound: u32, [inside, outside]: [Id; 2]) -> Encoded {
        let [index, within, without] = [self.read_r(index)?, self.read_r(inside)?, self.read_r(outside)?];
        let to = self.write_r(d)?;
        let bound = self.machine.asm.constant(&u64::from(bound).to_le_bytes());
        self.machine.load_form(Op::Cmp_r64_rm64, index, Place::Constant(bound))?;
        if d == inside {
            return self.machine.registers(Op::Cmovae_r64_rm64, to, without);
        }
        if to != without {
            self.machine.registers(Op::Mov_r64_rm64, to, without)?;
        }
        self.machine.registers(Op::Cmovb_r64_rm64, to, within)
    }

    // Vector registers.

    fn read_v(&mut self, id: Id) -> Result<Register, String> {
        let register = self.v.read(id, &mut self.machine)?;
        Ok(self.machine.vector(register))
    }

    fn write_v(&mut self, id: Id) -> Result<Register, String> {
        let register = self.v.write(id, &mut self.machine)?;
        Ok(self.machine.vector(register))
    }

    /// A last source: memory where that spares a register.
    fn operand(&mut self, source: Source) -> Result<Operand, String> {
        let id = match source {
            Source::Value(id) => id,
            Source::Memory(at) => return Ok(Operand::Memory(self.at(at)?)),
            Source::Element(at) => {
                let base = self.read_r(at.base)?;
                return Ok(Operand::Memory(Place::Element(base, at.offset)));
            }
        };
        if self.v.register(id).is_none() {
            if let Some(bits) = self.v.constant(id) {
                return Ok(Operand::Memory(self.machine.splat_operand(bits)));
            }
            if let (true, Some(slot)) = (self.v.dies(id), self.v.slot_only(id)) {
                return Ok(Operand::Memory(self.machine.vector_slot(slot)));
            }
        }
        self.read_v(id).map(Operand::Register)
    }

    /// Frees the registers of values that end here, so that the result may take one. Not for values that the instruction reads
    /// from their slot: making room for the result could store another value there.
    fn release(&mut self, sources: &[Id]) {
        sources.iter().for_each(|id| self.v.release_if_dead(*id));
    }

    /// The operands of an operation, a constant last where they may change places: there it can be read from memory.
    fn constant_last(&self, op: VOp, a: Id, b: Source) -> (Id, Source) {
        let commutes = matches!(op, VOp::Add | VOp::Mul | VOp::And | VOp::Or | VOp::Xor);
        match b {
            Source::Value(b) if commutes && self.v.constant(a).is_some() && self.v.constant(b).is_none() => {
                (b, Source::Value(a))
            }
            _ => (a, b),
        }
    }

    fn three(&mut self, code: Op, d: Register, a: Register, b: Operand) -> Encoded {
        match b {
            Operand::Register(b) => self.machine.asm.put(Instruction::with3(code, d, a, b)),
            Operand::Memory(place) => self.machine.asm.with_place(place, |m| Instruction::with3(code, d, a, m)),
        }
    }

    fn vector(&mut self, inst: Inst) -> Encoded {
        let codes = self.machine.opcodes;
        match inst {
            Inst::Splat(d, bits) => match self.v.constant(d) {
                Some(_) => Ok(()),
                None => {
                    let d = self.v.write(d, &mut self.machine)?;
                    use super::registers::Mover;
                    self.machine.materialise(d, bits)
                }
            },
            Inst::CopyV(d, a) => self.copy(d, a),
            Inst::Load(d, at, lanes) => {
                let from = self.at(at)?;
                let to = self.v.write(d, &mut self.machine)?;
                let spare = self.spare(lanes)?;
                self.machine.load_lanes(to, from, lanes, spare)
            }
            Inst::Store(s, at, lanes) => {
                let (s, to) = (self.v.read(s, &mut self.machine)?, self.at(at)?);
                let spare = self.spare(lanes)?;
                self.machine.store_lanes(s, to, lanes, spare)
            }
            Inst::Broadcast(d, at) => {
                let from = self.at(at)?;
                let to = self.write_v(d)?;
                self.machine.load_form(codes.broadcast(), to, from)
            }
            Inst::Op(op, lane, d, a, b) => {
                let code = codes.op(op, lane).ok_or("vectors of integers have no division")?;
                let (a, b) = self.constant_last(op, a, b);
                let (ra, ob) = (self.read_v(a)?, self.operand(b)?);
                self.release(&[a]);
                if let (Operand::Register(_), Source::Value(b)) = (ob, b) {
                    self.release(&[b]);
                }
                let to = self.write_v(d)?;
                self.three(code, to, ra, ob)
            }
            Inst::Fma { negate, d, c, a, b } => self.fma(negate, [d, c, a], b),
            Inst::Select(d, cmp, operands) => self.select(d, cmp, operands),
            Inst::Sqrt(d, a) => self.unary(codes.sqrt(), d, a),
            Inst::IntToFloat(d, a) => self.unary(codes.int_to_float(), d, a),
            Inst::FloatToInt(d, a) => self.unary(codes.float_to_int(), d, a),
            Inst::ShiftLeft(d, a, bits) => self.shift(codes.shift_left(), d, a, bits),
            Inst::ShiftRight(d, a, bits) => self.shift(codes.shift_right(), d, a, bits),
            _ => Err("not an instruction over vector registers".into()),
        }
    }

    fn spare(&mut self, lanes: u8) -> Result<Option<u32>, String> {
        if self.machine.needs_spare(lanes) { self.v.scratch(&mut self.machine).map(Some) } else { Ok(None) }
    }

    fn copy(&mut self, d: Id, a: Id) -> Encoded {
        use super::registers::Mover;
        if let (Some(bits), None) = (self.v.constant(a), self.v.register(a)) {
            let to = self.v.write(d, &mut self.machine)?;
            return self.machine.materialise(to, bits);
        }
        let from = self.read_v(a)?;
        if self.v.dies(a) && self.v.register(d).is_none() {
            self.v.rename(a, d);
            return Ok(());
        }
        let to = self.write_v(d)?;
        if to == from { Ok(()) } else { self.machine.registers(self.machine.opcodes.copy(), to, from) }
    }

    fn unary(&mut self, code: Op, d: Id, a: Id) -> Encoded {
        let from = self.read_v(a)?;
        self.release(&[a]);
        let to = self.write_v(d)?;
        self.machine.registers(code, to, from)
    }

    fn shift(&mut self, code: Op, d: Id, a: Id, bits: u8) -> Encoded {
        let from = self.read_v(a)?;
        self.release(&[a]);
        let to = self.write_v(d)?;
        self.machine.asm.put(Instruction::with3(code, to, from, u32::from(bits)))
    }

    /// `d = c ± a b`, in the form whose overwritten operand is lost anyway.
    fn fma(&mut self, negate: bool, [d, c, a]: [Id; 3], b: Source) -> Encoded {
        let codes = self.machine.opcodes;
        let pick = |plus: Op, minus: Op| if negate { minus } else { plus };
        let accumulate = pick(codes.fma231(), codes.fnma231());
        let dies = |file: &File, id: Id| file.dies(id) && file.constant(id).is_none() && file.register(d).is_none();
        let b_value = if let Source::Value(id) = b { Some(id) } else { None };
        if d == c {
            let to = self.read_v(d)?;
            let (ra, ob) = (self.read_v(a)?, self.operand(b)?);
            self.write_v(d)?;
            return self.three(accumulate, to, ra, ob);
        }
        if dies(&self.v, c) && a != c && b_value != Some(c) {
            let to = self.read_v(c)?;
            let (ra, ob) = (self.read_v(a)?, self.operand(b)?);
            self.v.rename(c, d);
            return self.three(accumulate, to, ra, ob);
        }
        // 213: the first factor is overwritten, the addend may be in memory.
        let factor = [Some(a), b_value].into_iter().flatten().find(|id| dies(&self.v, *id) && *id != c);
        match (factor, b_value) {
            (Some(over), Some(b)) if a != b => {
                let other = self.read_v(if over == a { b } else { a })?;
                let to = self.read_v(over)?;
                let addend = self.operand(Source::Value(c))?;
                self.v.rename(over, d);
                self.three(pick(codes.fma213(), codes.fnma213()), to, other, addend)
            }
            (Some(over), None) => {
                let (to, addend, memory) = (self.read_v(over)?, self.read_v(c)?, self.operand(b)?);
                self.v.rename(over, d);
                self.three(pick(codes.fma132(), codes.fnma132()), to, addend, memory)
            }
            _ => {
                let (ra, ob) = (self.read_v(a)?, self.operand(b)?);
                let clash = self.v.register(d);
                self.copy(d, c)?;
                debug_assert!(clash.is_none() || d != a, "a product that overwrites its factor");
                let to = self.read_v(d)?;
                self.three(accumulate, to, ra, ob)
            }
        }
    }

    fn select(&mut self, d: Id, cmp: Cmp, [a, b, yes, no]: [Id; 4]) -> Encoded {
        let codes = self.machine.opcodes;
        let predicate = match cmp {
            Cmp::Less => 1u32,
            Cmp::LessOrEqual => 2,
            Cmp::Equal => 0,
            Cmp::Unordered => 3,
        };
        let (ra, rb) = (self.read_v(a)?, self.read_v(b)?);
        let (ryes, rno) = (self.read_v(yes)?, self.read_v(no)?);
        if codes.wide {
            self.machine.asm.put(Instruction::with4(codes.compare(), COMPARED, ra, rb, predicate))?;
            self.release(&[a, b, yes, no]);
            let to = self.write_v(d)?;
            let mut blend = Instruction::with3(codes.blend(), to, rno, ryes).map_err(|e| e.to_string())?;
            blend.set_op_mask(COMPARED);
            return self.machine.asm.put(Ok(blend));
        }
        let mask = self.v.scratch(&mut self.machine)?;
        let mask = self.machine.vector(mask);
        self.machine.asm.put(Instruction::with4(codes.compare(), mask, ra, rb, predicate))?;
        self.release(&[a, b, yes, no]);
        let to = self.write_v(d)?;
        self.machine.asm.put(Instruction::with4(codes.blend(), to, rno, ryes, mask))
    }
}
