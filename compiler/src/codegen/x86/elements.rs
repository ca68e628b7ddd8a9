//! Conversions: between elements in memory and lanes, between lanes of two sizes, between both classes of registers.

use iced_x86::{Code as Op, Instruction, Register};

use super::allocate::Allocator;
use super::assembler::{EffectiveAddress, Encoded};
use super::emit::general;
use super::opcodes;
use crate::codegen::Element;
use crate::codegen::machine::code::{Id, Inst};
use fornax_ir::types::DType;

/// A register of another width with the same number; `from` is the first of its kind.
fn narrow(first: Register, number: u32) -> Register {
    first + number
}

/// `offset` bytes after a place in memory.
fn offset_by(place: EffectiveAddress, offset: usize) -> EffectiveAddress {
    match place {
        EffectiveAddress::At(base, displacement) => EffectiveAddress::At(base, displacement + offset as i32),
        other => other,
    }
}

impl Allocator<'_> {
    pub(super) fn elements(&mut self, inst: Inst) -> Encoded {
        match inst {
            Inst::LoadAs(d, at, dtype, lanes) => {
                let from = self.at(at)?;
                let to = self.v.write(d, &mut self.machine)?;
                self.load_as(to, from, dtype, lanes)
            }
            Inst::StoreAs(s, at, dtype, lanes) => {
                let (from, to) = (self.v.read(s, &mut self.machine)?, self.at(at)?);
                self.store_as(from, to, dtype.size(), lanes)
            }
            Inst::Keep(d, a, lanes) => self.keep(d, a, lanes),
            Inst::Upper(d, a, by) => self.upper(d, a, by),
            Inst::Promote(d, a, upper) => self.promote(d, a, upper),
            Inst::NarrowBf16(d, a) => {
                let a = self.read_v(a)?;
                let d = self.v.write(d, &mut self.machine)?;
                self.machine.registers(Op::EVEX_Vcvtneps2bf16_ymm_k1z_zmmm512b32, self.machine.part(d, 8), a)
            }
            Inst::Demote(d, low, high) => self.demote(d, low, high),
            Inst::SplatInt(element, d, a) => self.splat_int(element, d, a),
            Inst::FirstFromInt(d, a) => {
                let (code, from) = (self.machine.opcodes.first_from_int(), self.read_r(a)?);
                let to = self.v.write(d, &mut self.machine)?;
                // The lanes that stay must not wait for what wrote them.
                self.machine.zero(to)?;
                let to = self.machine.part(to, 4);
                self.machine.asm.put(Instruction::with3(code, to, to, from))
            }
            Inst::FirstBits(element, d, a) => {
                let from = {
                    let number = self.v.read(a, &mut self.machine)?;
                    self.machine.part(number, 4)
                };
                let to = self.r.write(d, &mut self.machine)?;
                match element.size() {
                    4 => self.machine.registers(self.machine.opcodes.first_bits(), narrow(Register::EAX, to), from),
                    _ => self.machine.registers(self.machine.opcodes.first_bits_64(), general(to), from),
                }
            }
            Inst::FirstToInt(d, a) => self.first_to_int(d, a),
            _ => Err("not a conversion".into()),
        }
    }

    fn load_as(&mut self, to: u32, from: EffectiveAddress, dtype: DType, lanes: u8) -> Encoded {
        let codes = self.machine.opcodes;
        let (code, size) = match dtype {
            DType::U8 | DType::Bool => (codes.widen_u8(), 1),
            DType::I8 => (codes.widen_i8(), 1),
            DType::U16 => (codes.widen_u16(), 2),
            DType::I16 => (codes.widen_i16(), 2),
            _ => return Err(format!("elements of {dtype} do not widen to 32 bits")),
        };
        let register = self.machine.vector(to);
        if self.machine.vectors.masks && usize::from(lanes) < self.machine.vectors.lanes {
            let mask = self.machine.mask(lanes)?;
            return self.machine.asm.with_place(from, |m| {
                let mut load = Instruction::with2(code, register, m)?;
                load.set_op_mask(mask);
                load.set_zeroing_masking(true);
                Ok(load)
            });
        }
        if usize::from(lanes) == self.machine.vectors.lanes {
            return self.machine.load_form(code, register, from);
        }
        let low = self.machine.part(to, 4);
        let insert = if size == 1 { Op::VEX_Vpinsrb_xmm_xmm_r32m8_imm8 } else { Op::VEX_Vpinsrw_xmm_xmm_r32m16_imm8 };
        self.machine.zero(to)?;
        for lane in 0..usize::from(lanes) {
            let at = offset_by(from, lane * size);
            self.machine.asm.with_place(at, |m| Instruction::with4(insert, low, low, m, lane as u32))?;
        }
        self.machine.registers(code, register, low)
    }

    fn store_as(&mut self, from: u32, to: EffectiveAddress, size: usize, lanes: u8) -> Encoded {
        if self.machine.vectors.masks {
            let code = if size == 1 { opcodes::NARROW_8 } else { opcodes::NARROW_16 };
            let mask =
                if usize::from(lanes) < self.machine.vectors.lanes { Some(self.machine.mask(lanes)?) } else { None };
            let register = self.machine.vector(from);
            return self.machine.asm.with_place(to, |m| {
                let mut store = Instruction::with2(code, m, register)?;
                if let Some(mask) = mask {
                    store.set_op_mask(mask);
                }
                Ok(store)
            });
        }
        // Each half's elements together at its bottom, then half by half.
        let spare = self.v.scratch(&mut self.machine)?;
        let (register, whole, low) =
            (self.machine.vector(from), self.machine.vector(spare), self.machine.part(spare, 4));
        let order = |i: usize| if i < 4 * size { (i / size * 4 + i % size) as u8 } else { 0x80 };
        let order: Vec<u8> = (0..32).map(|i| order(i % 16)).collect();
        let order = EffectiveAddress::Constant(self.machine.asm.constant(&order));
        self.machine.asm.with_place(order, |m| Instruction::with3(opcodes::ORDER_BYTES, whole, register, m))?;
        let (extract, half) = match size {
            1 => (Op::VEX_Vpextrb_r32m8_xmm_imm8, Op::VEX_Vmovd_rm32_xmm),
            _ => (Op::VEX_Vpextrw_r32m16_xmm_imm8, Op::VEX_Vmovq_xmmm64_xmm),
        };
        let lanes = usize::from(lanes);
        for first in (0..lanes).step_by(4) {
            if first > 0 {
                self.machine.asm.put(Instruction::with3(self.machine.opcodes.extract_half(), low, whole, 1))?;
            }
            if lanes - first >= 4 {
                self.machine.store_form(half, offset_by(to, first * size), low)?;
                continue;
            }
            for lane in first..lanes {
                let at = offset_by(to, lane * size);
                self.machine.asm.with_place(at, |m| Instruction::with3(extract, m, low, (lane - first) as u32))?;
            }
        }
        Ok(())
    }

    fn keep(&mut self, d: Id, a: Id, lanes: u8) -> Encoded {
        let codes = self.machine.opcodes;
        let from = self.read_v(a)?;
        self.release(&[a]);
        let to = self.write_v(d)?;
        if self.machine.vectors.masks {
            let mut copy = Instruction::with2(codes.copy(), to, from).map_err(|e| e.to_string())?;
            copy.set_op_mask(self.machine.mask(lanes)?);
            copy.set_zeroing_masking(true);
            return self.machine.asm.put(Ok(copy));
        }
        let mask: Vec<u8> = (0..32).map(|byte| if byte < 4 * usize::from(lanes) { u8::MAX } else { 0 }).collect();
        let mask = EffectiveAddress::Constant(self.machine.asm.constant(&mask));
        self.machine.asm.with_place(mask, |m| Instruction::with3(codes.and(), to, from, m))
    }

    fn upper(&mut self, d: Id, a: Id, by: u8) -> Encoded {
        let codes = self.machine.opcodes;
        let from = self.v.read(a, &mut self.machine)?;
        self.release(&[a]);
        let to = self.v.write(d, &mut self.machine)?;
        let (code, to, from, by) = match by {
            8 => (codes.extract_half(), self.machine.part(to, 8), self.machine.part(from, 16), 1),
            4 => (codes.extract_block(), self.machine.part(to, 4), self.machine.part(from, 8), 1),
            2 => (codes.permute(), self.machine.part(to, 4), self.machine.part(from, 4), 0xEE),
            _ => (codes.permute(), self.machine.part(to, 4), self.machine.part(from, 4), 0xF5),
        };
        self.machine.asm.put(Instruction::with3(code, to, from, by))
    }

    /// The half of a vector register by number.
    fn half(&self, number: u32) -> Register {
        self.machine.part(number, self.machine.vectors.lanes / 2)
    }

    fn promote(&mut self, d: Id, a: Id, upper: bool) -> Encoded {
        let codes = self.machine.opcodes;
        let from = self.v.read(a, &mut self.machine)?;
        self.release(&[a]);
        let to = self.v.write(d, &mut self.machine)?;
        let mut half = self.half(from);
        if upper {
            half = self.half(to);
            let whole = self.machine.vector(from);
            self.machine.asm.put(Instruction::with3(codes.extract_half(), half, whole, 1))?;
        }
        self.machine.registers(codes.promote(), self.machine.vector(to), half)
    }

    fn demote(&mut self, d: Id, low: Id, high: Id) -> Encoded {
        let codes = self.machine.opcodes;
        let (below, above) = (self.read_v(low)?, self.read_v(high)?);
        let spare = self.v.scratch(&mut self.machine)?;
        self.release(&[low, high]);
        let to = self.v.write(d, &mut self.machine)?;
        self.machine.registers(codes.demote(), self.half(spare), above)?;
        self.machine.registers(codes.demote(), self.half(to), below)?;
        let (half, to) = (self.half(spare), self.machine.vector(to));
        self.machine.asm.put(Instruction::with4(codes.insert_half(), to, to, half, 1))
    }

    fn splat_int(&mut self, element: Element, d: Id, a: Id) -> Encoded {
        let narrows = element.size() == 4;
        let number = self.r.read(a, &mut self.machine)?;
        let from = if narrows { narrow(Register::EAX, number) } else { general(number) };
        let to = self.v.write(d, &mut self.machine)?;
        if self.machine.vectors.masks {
            let code = if narrows { opcodes::SPLAT_INT } else { opcodes::SPLAT_INT_64 };
            return self.machine.registers(code, self.machine.vector(to), from);
        }
        let low = self.machine.part(to, 4);
        let (transfer, splat) = match narrows {
            true => (Op::VEX_Vmovd_xmm_rm32, opcodes::SPLAT_FIRST),
            false => (Op::VEX_Vmovq_xmm_rm64, opcodes::SPLAT_FIRST_64),
        };
        self.machine.registers(transfer, low, from)?;
        self.machine.registers(splat, self.machine.vector(to), low)
    }

    /// Beyond the range of the destination the machine gives its smallest integer: right below, corrected above and for NaN.
    fn first_to_int(&mut self, d: Id, a: Id) -> Encoded {
        let codes = self.machine.opcodes;
        let from = {
            let number = self.v.read(a, &mut self.machine)?;
            self.machine.part(number, 4)
        };
        let bits = narrow(Register::EAX, self.r.scratch(&mut self.machine)?);
        let to = general(self.r.write(d, &mut self.machine)?);
        self.machine.registers(codes.first_bits(), bits, from)?;
        self.machine.registers(codes.first_to_int(), to, from)?;
        // 2^63 and beyond, positive.
        let largest = EffectiveAddress::Constant(self.machine.asm.constant(&i64::MAX.to_le_bytes()));
        let zero = EffectiveAddress::Constant(self.machine.asm.constant(&0i64.to_le_bytes()));
        self.machine.asm.put(Instruction::with2(Op::Cmp_rm32_imm32, bits, 0x5F00_0000))?;
        self.machine.load_form(Op::Cmovge_r64_rm64, to, largest)?;
        self.machine.asm.put(Instruction::with2(Op::And_rm32_imm32, bits, i32::MAX))?;
        self.machine.asm.put(Instruction::with2(Op::Cmp_rm32_imm32, bits, f32::INFINITY.to_bits() as i32))?;
        self.machine.load_form(Op::Cmovg_r64_rm64, to, zero)
    }
}
