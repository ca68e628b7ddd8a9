//! Instructions over general registers, encoded for the registers that their values are in.

use iced_x86::{Code as Op, Instruction, MemoryOperand, Register};

use super::allocate::Allocator;
use super::assembler::{Encoded, Place};
use super::emit::general;
use crate::codegen::machine::code::{Address, Class, Id, Inst};
use crate::codegen::machine::registers::Mover;

impl Allocator<'_> {
    pub(super) fn read_r(&mut self, id: Id) -> Result<Register, String> {
        Ok(general(self.r.read(id, &mut self.machine)?))
    }

    fn write_r(&mut self, id: Id) -> Result<Register, String> {
        Ok(general(self.r.write(id, &mut self.machine)?))
    }

    pub(super) fn at(&mut self, address: Address) -> Result<Place, String> {
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

    pub(super) fn general(&mut self, inst: Inst) -> Encoded {
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
        let sum = MemoryOperand::with_base_index(ra, rb);
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
}
