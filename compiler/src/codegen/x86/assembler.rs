//! Instructions to bytes: encoding through iced-x86, jumps, and the constants that stand after the code.
//!
//! In: instructions over physical registers, in order. Out: bytes that run at any address that is a multiple of [`ALIGN`]; constants
//! are read relative to the instruction pointer, so there are no relocations.

use std::collections::HashMap;

use iced_x86::{
    Code, Decoder, DecoderOptions, Encoder, Formatter, Instruction, MemoryOperand, NasmFormatter, Register,
};

/// Alignment of the code and of its constants.
pub const ALIGN: usize = 64;

/// Result of encoding.
pub type Encoded = Result<(), String>;

/// A place in the code that jumps lead to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Label(usize);

/// A constant after the code: its offset in the constants.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Constant(usize);

/// Memory as an operand.
#[derive(Clone, Copy, Debug)]
pub enum EffectiveAddress {
    /// Base register, displacement.
    At(Register, i32),
    /// One element at base and displacement, for every lane.
    Element(Register, i32),
    /// A constant.
    Constant(Constant),
    /// One element of a constant, for every lane.
    ConstantElement(Constant),
}

/// A four-byte field to fill once everything has its place.
enum Fixup {
    Jump { field: usize, label: Label },
    Constant { field: usize, end: usize, constant: Constant },
}

/// Writes code.
pub struct Assembler {
    encoder: Encoder,
    len: usize,
    labels: Vec<Option<usize>>,
    constants: Vec<u8>,
    known: HashMap<Vec<u8>, Constant>,
    fixups: Vec<Fixup>,
}

impl Assembler {
    /// An empty piece of code.
    pub fn new() -> Self {
        let encoder = Encoder::try_with_capacity(64, 16 << 10).unwrap_or_else(|_| Encoder::new(64));
        Self { encoder, len: 0, labels: Vec::new(), constants: Vec::new(), known: HashMap::new(), fixups: Vec::new() }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|b| self.encoder.write_u8(*b));
        self.len += bytes.len();
    }

    /// Encodes one instruction without a constant operand.
    pub fn put(&mut self, instruction: Result<Instruction, iced_x86::IcedError>) -> Encoded {
        let instruction = instruction.map_err(|e| e.to_string())?;
        self.len += self.encoder.encode(&instruction, self.len as u64).map_err(|e| e.to_string())?;
        Ok(())
    }

    /// Encodes the instruction that `make` builds from a memory operand.
    pub fn with_place(
        &mut self,
        place: EffectiveAddress,
        make: impl FnOnce(MemoryOperand) -> Result<Instruction, iced_x86::IcedError>,
    ) -> Encoded {
        let operand = |base, offset: i64, element| {
            let size = u32::from(offset != 0 || base == Register::RIP);
            MemoryOperand::new(base, Register::None, 1, offset, size, element, Register::None)
        };
        let (constant, element) = match place {
            EffectiveAddress::At(base, offset) => return self.put(make(operand(base, i64::from(offset), false))),
            EffectiveAddress::Element(base, offset) => return self.put(make(operand(base, i64::from(offset), true))),
            EffectiveAddress::Constant(constant) => (constant, false),
            EffectiveAddress::ConstantElement(constant) => (constant, true),
        };
        let start = self.len;
        self.put(make(operand(Register::RIP, start as i64, element)))?;
        let field = start + self.encoder.get_constant_offsets().displacement_offset();
        self.fixups.push(Fixup::Constant { field, end: self.len, constant });
        Ok(())
    }

    /// A constant with these bytes, aligned to their number up to [`ALIGN`].
    pub fn constant(&mut self, bytes: &[u8]) -> Constant {
        if let Some(constant) = self.known.get(bytes) {
            return *constant;
        }
        self.constants.resize(self.constants.len().next_multiple_of(bytes.len().next_power_of_two().min(ALIGN)), 0);
        let constant = Constant(self.constants.len());
        self.constants.extend_from_slice(bytes);
        self.known.insert(bytes.to_vec(), constant);
        constant
    }

    /// A label to be placed.
    pub fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Places a label here.
    pub fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.len);
    }

    /// `j<condition>` (the low four bits of its opcode) to a label.
    pub fn jump_if(&mut self, condition: u8, label: Label) {
        self.bytes(&[0x0F, 0x80 | condition, 0, 0, 0, 0]);
        self.fixups.push(Fixup::Jump { field: self.len - 4, label });
    }

    /// Idle instructions up to a multiple of `align`, a power of two.
    pub fn align(&mut self, align: usize) {
        const NOPS: [&[u8]; 9] = [
            &[0x90],
            &[0x66, 0x90],
            &[0x0F, 0x1F, 0x00],
            &[0x0F, 0x1F, 0x40, 0x00],
            &[0x0F, 0x1F, 0x44, 0x00, 0x00],
            &[0x66, 0x0F, 0x1F, 0x44, 0x00, 0x00],
            &[0x0F, 0x1F, 0x80, 0x00, 0x00, 0x00, 0x00],
            &[0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
            &[0x66, 0x0F, 0x1F, 0x84, 0x00, 0x00, 0x00, 0x00, 0x00],
        ];
        let mut left = self.len.next_multiple_of(align) - self.len;
        while left > 0 {
            let nop = NOPS[left.min(NOPS.len()) - 1];
            self.bytes(nop);
            left -= nop.len();
        }
    }

    /// The finished bytes; `patches` are four-byte fields with values of the caller's.
    pub fn finish(mut self, patches: &[(usize, u32)]) -> Result<Vec<u8>, String> {
        let mut bytes = self.encoder.take_buffer();
        let start = bytes.len().next_multiple_of(ALIGN);
        let mut fill = |field: usize, value: u32| bytes[field..field + 4].copy_from_slice(&value.to_le_bytes());
        for fixup in &self.fixups {
            match fixup {
                Fixup::Jump { field, label } => {
                    let target = self.labels[label.0].ok_or("a label was not placed")?;
                    fill(*field, (target as i64 - (*field as i64 + 4)) as u32);
                }
                Fixup::Constant { field, end, constant } => fill(*field, (start + constant.0 - end) as u32),
            }
        }
        patches.iter().for_each(|(field, value)| fill(*field, *value));
        if !self.constants.is_empty() {
            bytes.resize(start, 0xCC);
            bytes.append(&mut self.constants);
        }
        Ok(bytes)
    }

    /// Encodes and returns the offset of the instruction's last four bytes, an immediate.
    pub fn put_patched(&mut self, code: Code, register: Register) -> Result<usize, String> {
        // An immediate that needs all four bytes.
        self.put(Instruction::with2(code, register, 0x1234_5678))?;
        Ok(self.len - 4)
    }
}

/// The instructions of `bytes` up to the return, one a line.
pub fn disassemble(bytes: &[u8]) -> String {
    let mut decoder = Decoder::new(64, bytes, DecoderOptions::NONE);
    let mut formatter = NasmFormatter::new();
    formatter.options_mut().set_first_operand_char_index(12);
    let (mut text, mut line) = (String::new(), String::new());
    for instruction in &mut decoder {
        line.clear();
        formatter.format(&instruction, &mut line);
        text += &format!("{:5x}  {line}\n", instruction.ip());
        if instruction.code() == Code::Retnq {
            break;
        }
    }
    text
}
