//! Instructions over vector registers, encoded for the registers that their values are in.

use iced_x86::{Code as Op, Instruction, Register};

use super::allocate::Allocator;
use super::assembler::{EffectiveAddress, Encoded};
use super::emit::COMPARED;
use super::opcodes;
use crate::codegen::machine::code::{Id, Inst, Source};
use crate::codegen::machine::registers::{File, Mover};
use crate::codegen::{Cmp, Element, VOp};

/// Where an operand is.
#[derive(Clone, Copy)]
enum Operand {
    Register(Register),
    Memory(EffectiveAddress),
}

impl Allocator<'_> {
    pub(super) fn read_v(&mut self, id: Id) -> Result<Register, String> {
        let register = self.v.read(id, &mut self.machine)?;
        Ok(self.machine.vector(register))
    }

    pub(super) fn write_v(&mut self, id: Id) -> Result<Register, String> {
        let register = self.v.write(id, &mut self.machine)?;
        Ok(self.machine.vector(register))
    }

    /// A last source: memory where that spares a register.
    fn operand(&mut self, source: Source, size: usize) -> Result<Operand, String> {
        let id = match source {
            Source::Value(id) => id,
            Source::Memory(at) => return Ok(Operand::Memory(self.at(at)?)),
            Source::Element(at) => {
                let base = self.read_r(at.base)?;
                return Ok(Operand::Memory(EffectiveAddress::Element(base, at.offset)));
            }
        };
        if self.v.register(id).is_none() {
            if let Some(bits) = self.v.constant(id) {
                return Ok(Operand::Memory(self.machine.splat_operand(bits, size)));
            }
            if let (true, Some(slot)) = (self.v.dies(id), self.v.slot_only(id)) {
                return Ok(Operand::Memory(self.machine.vector_slot(slot)));
            }
        }
        self.read_v(id).map(Operand::Register)
    }

    /// Frees the registers of values that end here, so that the result may take one. Not for values that the instruction reads
    /// from their slot: making room for the result could store another value there.
    pub(super) fn release(&mut self, sources: &[Id]) {
        sources.iter().for_each(|id| self.v.release_if_dead(*id));
    }

    /// The operands of an operation, a constant last where they may change places: there it can be read from memory.
    fn constant_last(&self, op: VOp, a: Id, b: Source) -> (Id, Source) {
        match b {
            Source::Value(b) if op.commutes() && self.v.constant(a).is_some() && self.v.constant(b).is_none() => {
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

    pub(super) fn vector(&mut self, inst: Inst) -> Encoded {
        let codes = self.machine.opcodes;
        match inst {
            Inst::Splat(d, bits) => match self.v.constant(d) {
                Some(_) => Ok(()),
                None => {
                    let d = self.v.write(d, &mut self.machine)?;
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
            Inst::Op(op, element, d, a, b) => {
                let code = codes.op(op, element).ok_or_else(|| format!("vectors of {element:?} have no {op:?}"))?;
                let (a, b) = self.constant_last(op, a, b);
                // An operation on parts of lanes takes whole vectors only.
                let size = if op == VOp::Dot { 0 } else { element.size() };
                let (ra, ob) = (self.read_v(a)?, self.operand(b, size)?);
                self.release(&[a]);
                if let (Operand::Register(_), Source::Value(b)) = (ob, b) {
                    self.release(&[b]);
                }
                let to = self.write_v(d)?;
                match (codes.immediate(op), ob) {
                    (None, _) => self.three(code, to, ra, ob),
                    (Some(by), Operand::Register(b)) => self.machine.asm.put(Instruction::with4(code, to, ra, b, by)),
                    (Some(by), Operand::Memory(place)) => {
                        self.machine.asm.with_place(place, |m| Instruction::with4(code, to, ra, m, by))
                    }
                }
            }
            Inst::Fma { negate, d, c, a, b } => self.fma(negate, [d, c, a], b),
            Inst::Select(element, d, cmp, operands) => self.select(element, d, cmp, operands),
            Inst::Sqrt(element, d, a) => {
                let code = if element.size() == 4 { codes.sqrt() } else { codes.sqrt_double() };
                self.unary(code, d, a)
            }
            Inst::Round(d, a) => self.with_immediate(codes.round(), d, a, opcodes::NEAREST),
            Inst::IntToFloat(d, a) => self.unary(codes.int_to_float(), d, a),
            Inst::FloatToInt(d, a) => self.unary(codes.float_to_int(), d, a),
            Inst::ShiftLeft(element, d, a, bits) => {
                let code = if element.size() == 4 { codes.shift_left() } else { codes.shift_left_64() };
                self.with_immediate(code, d, a, bits)
            }
            Inst::ShiftRight(element, d, a, bits) => {
                let code = if element.size() == 4 { codes.shift_right() } else { codes.shift_right_64() };
                self.with_immediate(code, d, a, bits)
            }
            _ => Err("not an instruction over vector registers".into()),
        }
    }

    fn spare(&mut self, lanes: u8) -> Result<Option<u32>, String> {
        if self.machine.needs_spare(lanes) { self.v.scratch(&mut self.machine).map(Some) } else { Ok(None) }
    }

    fn copy(&mut self, d: Id, a: Id) -> Encoded {
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

    /// An operation on one vector with an immediate: a shift by so many bits, a rounding.
    fn with_immediate(&mut self, code: Op, d: Id, a: Id, by: u8) -> Encoded {
        let from = self.read_v(a)?;
        self.release(&[a]);
        let to = self.write_v(d)?;
        self.machine.asm.put(Instruction::with3(code, to, from, u32::from(by)))
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
            let (ra, ob) = (self.read_v(a)?, self.operand(b, 4)?);
            self.write_v(d)?;
            return self.three(accumulate, to, ra, ob);
        }
        if dies(&self.v, c) && a != c && b_value != Some(c) {
            let to = self.read_v(c)?;
            let (ra, ob) = (self.read_v(a)?, self.operand(b, 4)?);
            self.v.rename(c, d);
            return self.three(accumulate, to, ra, ob);
        }
        // 213: the first factor is overwritten, the addend may be in memory.
        let factor = [Some(a), b_value].into_iter().flatten().find(|id| dies(&self.v, *id) && *id != c);
        match (factor, b_value) {
            (Some(over), Some(b)) if a != b => {
                let other = self.read_v(if over == a { b } else { a })?;
                let to = self.read_v(over)?;
                let addend = self.operand(Source::Value(c), 4)?;
                self.v.rename(over, d);
                self.three(pick(codes.fma213(), codes.fnma213()), to, other, addend)
            }
            (Some(over), None) => {
                let (to, addend, memory) = (self.read_v(over)?, self.read_v(c)?, self.operand(b, 4)?);
                self.v.rename(over, d);
                self.three(pick(codes.fma132(), codes.fnma132()), to, addend, memory)
            }
            _ => {
                let (ra, ob) = (self.read_v(a)?, self.operand(b, 4)?);
                self.copy(d, c)?;
                let to = self.read_v(d)?;
                self.three(accumulate, to, ra, ob)
            }
        }
    }

    fn select(&mut self, element: Element, d: Id, cmp: Cmp, [a, b, yes, no]: [Id; 4]) -> Encoded {
        let codes = self.machine.opcodes;
        let predicate = match cmp {
            Cmp::Less => 1u32,
            Cmp::LessOrEqual => 2,
            Cmp::Equal => 0,
            Cmp::Unordered => 3,
        };
        let (ra, rb) = (self.read_v(a)?, self.read_v(b)?);
        let (ryes, rno) = (self.read_v(yes)?, self.read_v(no)?);
        let (compare, blend) = match element {
            Element::F32 => (codes.compare(), codes.blend()),
            Element::F64 => (codes.compare_double(), codes.blend_64()),
            Element::I32 => (opcodes::COMPARE_INT, codes.blend()),
            Element::I64 => return Err("vectors of 64-bit integers are not compared".into()),
        };
        if self.machine.vectors.masks {
            self.machine.asm.put(Instruction::with4(compare, COMPARED, ra, rb, predicate))?;
            self.release(&[a, b, yes, no]);
            let to = self.write_v(d)?;
            let mut blend = Instruction::with3(blend, to, rno, ryes).map_err(|e| e.to_string())?;
            blend.set_op_mask(COMPARED);
            return self.machine.asm.put(Ok(blend));
        }
        let mask = self.v.scratch(&mut self.machine)?;
        let mask = self.machine.vector(mask);
        let mut choice = (rno, ryes);
        match (element, cmp) {
            (Element::I32, Cmp::Equal) => self.compare_int(opcodes::EQUAL_INT, mask, ra, rb)?,
            (Element::I32, Cmp::Less) => self.compare_int(opcodes::GREATER_INT, mask, rb, ra)?,
            (Element::I32, _) => {
                // Not less or equal: greater.
                choice = (ryes, rno);
                self.compare_int(opcodes::GREATER_INT, mask, ra, rb)?;
            }
            _ => self.machine.asm.put(Instruction::with4(compare, mask, ra, rb, predicate))?,
        }
        self.release(&[a, b, yes, no]);
        let to = self.write_v(d)?;
        self.machine.asm.put(Instruction::with4(blend, to, choice.0, choice.1, mask))
    }

    fn compare_int(&mut self, code: Op, mask: Register, a: Register, b: Register) -> Encoded {
        self.machine.asm.put(Instruction::with3(code, mask, a, b))
    }
}
