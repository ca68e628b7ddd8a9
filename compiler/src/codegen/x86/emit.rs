//! The machine below allocation: encodes single instructions over physical registers, and owns the frame.
//!
//! Frame, from the top: return address, saved rbp (rbp points here), callee-saved registers, slots of general registers; then, from
//! the aligned stack pointer up, slots of vector registers.

use fornax_runtime::levels::Vectors;
use iced_x86::{Code as Op, Instruction, MemoryOperand, Register};

use super::assembler::{Assembler, Constant, EffectiveAddress, Encoded};
use super::opcodes::Opcodes;
use crate::codegen::machine::code::Class;
use crate::codegen::machine::registers::Mover;

/// Registers that a System V function hands back as it found them, besides rbp.
const SAVED: [Register; 5] = [Register::RBX, Register::R12, Register::R13, Register::R14, Register::R15];
/// Mask register of comparisons.
pub const COMPARED: Register = Register::K1;
/// Mask registers of partial vectors.
const MASKS: [Register; 6] = [Register::K2, Register::K3, Register::K4, Register::K5, Register::K6, Register::K7];

/// Encodes instructions.
pub struct Machine {
    pub asm: Assembler,
    pub opcodes: Opcodes,
    pub vectors: Vectors,
    general_slots: u32,
    vector_slots: u32,
    /// The immediate that reserves the frame.
    frame_field: usize,
    /// Element counts that mask registers stand for, in the order of [`MASKS`].
    masks: Vec<u8>,
}

/// A general register by number.
pub fn general(number: u32) -> Register {
    Register::RAX + number
}

impl Machine {
    /// A machine whose function has begun: frame built, masks for `partial` lane counts loaded.
    pub fn new(vectors: Vectors, partial: &[u8]) -> Result<Self, String> {
        let none = || format!("no encodings for vectors of {} lanes", vectors.lanes);
        let mut machine = Self {
            asm: Assembler::new(),
            opcodes: Opcodes::new(vectors).ok_or_else(none)?,
            vectors,
            general_slots: 0,
            vector_slots: 0,
            frame_field: 0,
            // With more kinds of tails than mask registers, the last register stands for none of them: see `mask`.
            masks: if partial.len() <= MASKS.len() { partial.to_vec() } else { partial[..MASKS.len() - 1].to_vec() },
        };
        machine.enter()?;
        Ok(machine)
    }

    fn enter(&mut self) -> Encoded {
        let (rsp, rbp) = (Register::RSP, Register::RBP);
        self.asm.put(Instruction::with1(Op::Push_r64, rbp))?;
        self.asm.put(Instruction::with2(Op::Mov_r64_rm64, rbp, rsp))?;
        for register in SAVED {
            self.asm.put(Instruction::with1(Op::Push_r64, register))?;
        }
        self.frame_field = self.asm.put_patched(Op::Sub_rm64_imm32, rsp)?;
        self.asm.put(Instruction::with2(Op::And_rm64_imm8, rsp, -64))?;
        for (i, lanes) in self.masks.clone().into_iter().enumerate() {
            self.load_mask(MASKS[i], lanes)?;
        }
        Ok(())
    }

    fn load_mask(&mut self, mask: Register, lanes: u8) -> Encoded {
        let bits = self.asm.constant(&((1u32 << lanes) - 1).to_le_bytes());
        self.asm.with_place(EffectiveAddress::Constant(bits), |m| Instruction::with2(Op::VEX_Kmovw_kr_km16, mask, m))
    }

    /// Ends the function and returns its bytes.
    pub fn finish(mut self) -> Result<Vec<u8>, String> {
        self.asm.put(Ok(Instruction::with(Op::VEX_Vzeroupper)))?;
        let saved = MemoryOperand::with_base_displ(Register::RBP, -8 * SAVED.len() as i64);
        self.asm.put(Instruction::with2(Op::Lea_r64_m, Register::RSP, saved))?;
        for register in SAVED.into_iter().rev().chain([Register::RBP]) {
            self.asm.put(Instruction::with1(Op::Pop_r64, register))?;
        }
        self.asm.put(Ok(Instruction::with(Op::Retnq)))?;
        let frame = 8 * self.general_slots + self.slot_bytes() * self.vector_slots;
        self.asm.finish(&[(self.frame_field, frame)])
    }

    fn slot_bytes(&self) -> u32 {
        4 * self.vectors.lanes as u32
    }

    /// Clears a vector register.
    pub fn zero(&mut self, register: u32) -> Encoded {
        self.materialise(register, 0)
    }

    /// A vector register by number.
    pub fn vector(&self, number: u32) -> Register {
        let first = if self.vectors.lanes > 8 { Register::ZMM0 } else { Register::YMM0 };
        first + number
    }

    /// The first lanes of a vector register by number: a half, or 128 bits.
    pub fn part(&self, number: u32, lanes: usize) -> Register {
        let first = match lanes {
            16 => Register::ZMM0,
            8 => Register::YMM0,
            _ => Register::XMM0,
        };
        first + number
    }

    /// The slot of a general register.
    pub fn general_slot(&self, slot: u32) -> EffectiveAddress {
        EffectiveAddress::At(Register::RBP, -8 * (SAVED.len() as i32 + 1 + slot as i32))
    }

    /// The slot of a vector register.
    pub fn vector_slot(&self, slot: u32) -> EffectiveAddress {
        EffectiveAddress::At(Register::RSP, (self.slot_bytes() * slot) as i32)
    }

    /// The same bits in every two lanes, as an operand of an operation on elements of `size` bytes; 0: of one that broadcasts none.
    pub fn splat_operand(&mut self, bits: u64, size: usize) -> EffectiveAddress {
        let bytes = bits.to_le_bytes();
        let alike = bits as u32 == (bits >> 32) as u32;
        if self.vectors.embedded_broadcast && (size == 8 || size == 4 && alike) {
            return EffectiveAddress::ConstantElement(self.asm.constant(&bytes[..size]));
        }
        EffectiveAddress::Constant(self.asm.constant(&bytes.repeat(self.slot_bytes() as usize / bytes.len())))
    }

    /// Register and memory operand.
    pub fn load_form(&mut self, code: Op, register: Register, from: EffectiveAddress) -> Encoded {
        self.asm.with_place(from, |m| Instruction::with2(code, register, m))
    }

    /// Memory and register operand.
    pub fn store_form(&mut self, code: Op, to: EffectiveAddress, register: Register) -> Encoded {
        self.asm.with_place(to, |m| Instruction::with2(code, m, register))
    }

    /// Two register operands.
    pub fn registers(&mut self, code: Op, a: Register, b: Register) -> Encoded {
        self.asm.put(Instruction::with2(code, a, b))
    }

    /// The first `lanes` lanes of a vector register from memory, the others 0. `spare` is a register that may be lost.
    pub fn load_lanes(&mut self, d: u32, from: EffectiveAddress, lanes: u8, spare: Option<u32>) -> Encoded {
        let (register, codes) = (self.vector(d), self.opcodes);
        match lanes {
            _ if usize::from(lanes) == self.vectors.lanes => self.load_form(codes.load(), register, from),
            8 => self.load_form(codes.load_ymm(), Register::YMM0 + d, from),
            4 => self.load_form(codes.load_xmm(), Register::XMM0 + d, from),
            _ if self.vectors.masks => {
                let mask = self.mask(lanes)?;
                self.asm.with_place(from, |m| {
                    let mut load = Instruction::with2(codes.load(), register, m)?;
                    load.set_op_mask(mask);
                    load.set_zeroing_masking(true);
                    Ok(load)
                })
            }
            1 => self.load_form(Op::VEX_Vmovss_xmm_m32, Register::XMM0 + d, from),
            2 => self.load_form(Op::VEX_Vmovsd_xmm_m64, Register::XMM0 + d, from),
            _ => {
                let mask = self.mask_vector(lanes, spare)?;
                self.asm.with_place(from, |m| Instruction::with3(Op::VEX_Vmaskmovps_ymm_ymm_m256, register, mask, m))
            }
        }
    }

    /// The first `lanes` lanes of a vector register to memory. `spare` is a register that may be lost.
    pub fn store_lanes(&mut self, s: u32, to: EffectiveAddress, lanes: u8, spare: Option<u32>) -> Encoded {
        let (register, codes) = (self.vector(s), self.opcodes);
        match lanes {
            _ if usize::from(lanes) == self.vectors.lanes => self.store_form(codes.store(), to, register),
            8 => self.store_form(codes.store_ymm(), to, Register::YMM0 + s),
            4 => self.store_form(codes.store_xmm(), to, Register::XMM0 + s),
            _ if self.vectors.masks => {
                let mask = self.mask(lanes)?;
                self.asm.with_place(to, |m| {
                    let mut store = Instruction::with2(codes.store(), m, register)?;
                    store.set_op_mask(mask);
                    Ok(store)
                })
            }
            1 => self.store_form(Op::VEX_Vmovss_m32_xmm, to, Register::XMM0 + s),
            2 => self.store_form(Op::VEX_Vmovsd_m64_xmm, to, Register::XMM0 + s),
            _ => {
                let mask = self.mask_vector(lanes, spare)?;
                self.asm.with_place(to, |m| Instruction::with3(Op::VEX_Vmaskmovps_m256_ymm_ymm, m, mask, register))
            }
        }
    }

    /// Whether a partial vector needs a register for its mask.
    pub fn needs_spare(&self, lanes: u8) -> bool {
        !self.vectors.masks && !matches!(lanes, 1 | 2 | 4 | 8)
    }

    pub fn mask(&mut self, lanes: u8) -> Result<Register, String> {
        if let Some(at) = self.masks.iter().position(|m| *m == lanes) {
            return Ok(MASKS[at]);
        }
        // The last register is loaded for each use, as what runs before, around a loop, may have loaded it for another.
        let last = MASKS[MASKS.len() - 1];
        self.load_mask(last, lanes)?;
        Ok(last)
    }

    fn mask_vector(&mut self, lanes: u8, spare: Option<u32>) -> Result<Register, String> {
        let mask = self.vector(spare.ok_or("a partial vector needs a mask")?);
        let bytes: Vec<u8> =
            (0..8u8).flat_map(|lane| (if lane < lanes { u32::MAX } else { 0 }).to_le_bytes()).collect();
        let constant: Constant = self.asm.constant(&bytes);
        self.load_form(self.opcodes.load(), mask, EffectiveAddress::Constant(constant))?;
        Ok(mask)
    }
}

impl Mover for Machine {
    fn save(&mut self, class: Class, register: u32, slot: u32) -> Encoded {
        match class {
            Class::General => self.store_form(Op::Mov_rm64_r64, self.general_slot(slot), general(register)),
            Class::Vector => self.store_form(self.opcodes.store(), self.vector_slot(slot), self.vector(register)),
        }
    }

    fn restore(&mut self, class: Class, register: u32, slot: u32) -> Encoded {
        match class {
            Class::General => self.load_form(Op::Mov_r64_rm64, general(register), self.general_slot(slot)),
            Class::Vector => self.load_form(self.opcodes.load(), self.vector(register), self.vector_slot(slot)),
        }
    }

    fn transfer(&mut self, class: Class, to: u32, from: u32) -> Encoded {
        match class {
            Class::General => self.registers(Op::Mov_r64_rm64, general(to), general(from)),
            Class::Vector => self.registers(self.opcodes.copy(), self.vector(to), self.vector(from)),
        }
    }

    fn materialise(&mut self, register: u32, bits: u64) -> Encoded {
        let d = self.vector(register);
        if bits == 0 && register < 16 {
            let x = Register::XMM0 + register;
            return self.asm.put(Instruction::with3(Op::VEX_Vxorps_xmm_xmm_xmmm128, x, x, x));
        }
        if bits == 0 {
            return self.asm.put(Instruction::with3(Op::EVEX_Vpxord_zmm_k1z_zmm_zmmm512b32, d, d, d));
        }
        let bytes = bits.to_le_bytes();
        if bits as u32 == (bits >> 32) as u32 {
            let constant = self.asm.constant(&bytes[..4]);
            return self.load_form(self.opcodes.broadcast(), d, EffectiveAddress::Constant(constant));
        }
        let constant = self.asm.constant(&bytes);
        self.load_form(self.opcodes.broadcast_64(), d, EffectiveAddress::Constant(constant))
    }

    fn slot(&mut self, class: Class) -> u32 {
        let slots = if class == Class::General { &mut self.general_slots } else { &mut self.vector_slots };
        *slots += 1;
        *slots - 1
    }
}
