//! Instructions over general registers, encoded for the registers that their values are in.

use iced_x86::{Code as Op, Instruction, MemoryOperand, Register};

use super::allocate::Allocator;
use super::assembler::{EffectiveAddress, Encoded};
use super::emit::general;
use crate::codegen::machine::code::{Address, Class, Id, Inst};
use crate::codegen::machine::registers::Mover;
use crate::codegen::{Cmp, IntOp};
use fornax_ir::types::DType;

impl Allocator<'_> {
    pub(super) fn read_r(&mut self, id: Id) -> Result<Register, String> {
        Ok(general(self.r.read(id, &mut self.machine)?))
    }

    pub(super) fn write_r(&mut self, id: Id) -> Result<Register, String> {
        Ok(general(self.r.write(id, &mut self.machine)?))
    }

    pub(super) fn at(&mut self, address: Address) -> Result<EffectiveAddress, String> {
        Ok(EffectiveAddress::At(self.read_r(address.base)?, address.offset))
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
            Inst::Prefetch(at) => {
                let at = self.at(at)?;
                self.machine.asm.with_place(at, |m| Instruction::with1(Op::Prefetcht0_m8, m))
            }
            Inst::TileShapes(at) => {
                let at = self.at(at)?;
                self.machine.asm.with_place(at, |m| Instruction::with1(Op::VEX_Ldtilecfg_m512, m))
            }
            Inst::TileRelease => self.machine.asm.put(Ok(Instruction::with(Op::VEX_Tilerelease))),
            Inst::TileZero(d) => self.machine.asm.put(Instruction::with1(Op::VEX_Tilezero_tmm, tile(d))),
            Inst::TileLoad(d, at, stride) => {
                let rows = self.rows(at, stride)?;
                self.machine.asm.put(Instruction::with2(Op::VEX_Tileloadd_tmm_sibmem, tile(d), rows))
            }
            Inst::TileStore(s, at, stride) => {
                let rows = self.rows(at, stride)?;
                self.machine.asm.put(Instruction::with2(Op::VEX_Tilestored_sibmem_tmm, rows, tile(s)))
            }
            Inst::TileDot(d, a, b) => {
                self.machine.asm.put(Instruction::with3(Op::VEX_Tdpbf16ps_tmm_tmm_tmm, tile(d), tile(a), tile(b)))
            }
            Inst::LoadR(d, at) => {
                let from = self.at(at)?;
                let to = self.write_r(d)?;
                self.machine.load_form(Op::Mov_r64_rm64, to, from)
            }
            Inst::StoreR(s, at) => {
                let (s, to) = (self.read_r(s)?, self.at(at)?);
                self.machine.store_form(Op::Mov_rm64_r64, to, s)
            }
            Inst::IntOp(op, d, a, b) => self.int_op(op, d, a, b),
            Inst::Extend(d, a, dtype) => {
                let from = self.read_r(a)?;
                let to = self.write_r(d)?;
                let (code, wide, size) = extension(dtype);
                let to = if wide { to } else { sized(to, 4) };
                self.machine.registers(code, to, sized(from, size))
            }
            Inst::LoadInt(d, at, dtype) => {
                let from = self.at(at)?;
                let to = self.write_r(d)?;
                let (code, wide, _) = extension(dtype);
                self.machine.load_form(code, if wide { to } else { sized(to, 4) }, from)
            }
            Inst::StoreInt(s, at, dtype) => {
                let (s, to) = (self.read_r(s)?, self.at(at)?);
                let code = match dtype.size() {
                    1 => Op::Mov_rm8_r8,
                    2 => Op::Mov_rm16_r16,
                    4 => Op::Mov_rm32_r32,
                    _ => Op::Mov_rm64_r64,
                };
                self.machine.store_form(code, to, sized(s, dtype.size()))
            }
            Inst::Choose(d, cmp, operands) => self.choose_by(d, cmp, operands),
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
            return self.machine.load_form(Op::Add_r64_rm64, to, EffectiveAddress::Constant(constant));
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
        self.machine.load_form(Op::Lea_r64_m, to, EffectiveAddress::At(from, small))
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
            return self.machine.load_form(Op::Imul_r64_rm64, to, EffectiveAddress::Constant(constant));
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
        self.machine.asm.with_place(EffectiveAddress::Constant(divisor), |m| Instruction::with1(Op::Div_rm64, m))?;
        self.machine.store_form(Op::Mov_rm64_r64, quotient, Register::RAX)?;
        self.machine.load_form(Op::Mov_r64_rm64, Register::RAX, rax)?;
        self.machine.load_form(Op::Mov_r64_rm64, Register::RDX, rdx)?;
        let to = self.write_r(d)?;
        self.machine.load_form(Op::Mov_r64_rm64, to, quotient)
    }

    fn int_op(&mut self, op: IntOp, d: Id, a: Id, b: Id) -> Encoded {
        let code = match op {
            IntOp::Mul => Op::Imul_r64_rm64,
            IntOp::And => Op::And_r64_rm64,
            IntOp::Or => Op::Or_r64_rm64,
            IntOp::Xor => Op::Xor_r64_rm64,
            IntOp::Div | IntOp::DivUnsigned => return self.divide(op, d, a, b),
        };
        let (a, b) = if d == b { (b, a) } else { (a, b) };
        let other = self.read_r(b)?;
        let to = self.write_over(d, a)?;
        self.machine.registers(code, to, other)
    }

    fn divide(&mut self, op: IntOp, d: Id, a: Id, b: Id) -> Encoded {
        let machine = &mut self.machine;
        let slots = *self.division.get_or_insert_with(|| [(); 3].map(|()| machine.slot(Class::General)));
        let [rax, rdx, other] = slots.map(|slot| self.machine.general_slot(slot));
        let (from, by) = (self.read_r(a)?, self.read_r(b)?);
        self.machine.store_form(Op::Mov_rm64_r64, rax, Register::RAX)?;
        self.machine.store_form(Op::Mov_rm64_r64, rdx, Register::RDX)?;
        self.machine.store_form(Op::Mov_rm64_r64, other, by)?;
        self.machine.registers(Op::Mov_r64_rm64, Register::RAX, from)?;
        let divide = if op == IntOp::Div {
            self.machine.asm.put(Ok(Instruction::with(Op::Cqo)))?;
            Op::Idiv_rm64
        } else {
            self.machine.registers(Op::Xor_r32_rm32, Register::EDX, Register::EDX)?;
            Op::Div_rm64
        };
        self.machine.asm.with_place(other, |m| Instruction::with1(divide, m))?;
        self.machine.store_form(Op::Mov_rm64_r64, other, Register::RAX)?;
        self.machine.load_form(Op::Mov_r64_rm64, Register::RAX, rax)?;
        self.machine.load_form(Op::Mov_r64_rm64, Register::RDX, rdx)?;
        let to = self.write_r(d)?;
        self.machine.load_form(Op::Mov_r64_rm64, to, other)
    }

    /// Rows of memory from an address on, as far from each other as a register says.
    fn rows(&mut self, at: Address, stride: Id) -> Result<MemoryOperand, String> {
        let stride = self.read_r(stride)?;
        match self.at(at)? {
            EffectiveAddress::At(base, offset) => {
                let size = u32::from(offset != 0);
                Ok(MemoryOperand::new(base, stride, 1, i64::from(offset), size, false, Register::None))
            }
            _ => Err("rows lie in memory".into()),
        }
    }

    /// `d = yes` where a comparison holds, else `no`.
    fn choose_by(&mut self, d: Id, cmp: Cmp, [a, b, yes, no]: [Id; 4]) -> Encoded {
        let (holds, fails) = match cmp {
            Cmp::Less => (Op::Cmovl_r64_rm64, Op::Cmovge_r64_rm64),
            Cmp::LessOrEqual => (Op::Cmovle_r64_rm64, Op::Cmovg_r64_rm64),
            Cmp::Equal => (Op::Cmove_r64_rm64, Op::Cmovne_r64_rm64),
            Cmp::Unordered => return Err("integers are ordered".into()),
        };
        let [ra, rb, ryes, rno] = [self.read_r(a)?, self.read_r(b)?, self.read_r(yes)?, self.read_r(no)?];
        let to = self.write_r(d)?;
        self.machine.registers(Op::Cmp_r64_rm64, ra, rb)?;
        if d == yes {
            return self.machine.registers(fails, to, rno);
        }
        if to != rno {
            self.machine.registers(Op::Mov_r64_rm64, to, rno)?;
        }
        self.machine.registers(holds, to, ryes)
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
        self.machine.load_form(Op::Cmp_r64_rm64, index, EffectiveAddress::Constant(bound))?;
        if d == inside {
            return self.machine.registers(Op::Cmovae_r64_rm64, to, without);
        }
        if to != without {
            self.machine.registers(Op::Mov_r64_rm64, to, without)?;
        }
        self.machine.registers(Op::Cmovb_r64_rm64, to, within)
    }
}

/// A tile register by number.
fn tile(number: u8) -> Register {
    Register::TMM0 + u32::from(number)
}

/// The part of a general register that has `size` bytes.
fn sized(register: Register, size: usize) -> Register {
    const BYTES: [Register; 16] = [
        Register::AL,
        Register::CL,
        Register::DL,
        Register::BL,
        Register::SPL,
        Register::BPL,
        Register::SIL,
        Register::DIL,
        Register::R8L,
        Register::R9L,
        Register::R10L,
        Register::R11L,
        Register::R12L,
        Register::R13L,
        Register::R14L,
        Register::R15L,
    ];
    let number = register as u32 - Register::RAX as u32;
    match size {
        1 => BYTES[number as usize],
        2 => Register::AX + number,
        4 => Register::EAX + number,
        _ => register,
    }
}

/// What extends an element to 64 bits, whether it names its destination by all of them, and the bytes of its source.
fn extension(dtype: DType) -> (Op, bool, usize) {
    match dtype {
        DType::I8 => (Op::Movsx_r64_rm8, true, 1),
        DType::U8 | DType::Bool => (Op::Movzx_r32_rm8, false, 1),
        DType::I16 => (Op::Movsx_r64_rm16, true, 2),
        DType::U16 | DType::F16 | DType::BF16 => (Op::Movzx_r32_rm16, false, 2),
        DType::I32 => (Op::Movsxd_r64_rm32, true, 4),
        DType::U32 | DType::F32 => (Op::Mov_r32_rm32, false, 4),
        DType::I64 | DType::U64 | DType::F64 => (Op::Mov_r64_rm64, true, 8),
    }
}
