//! Addresses of everything that code refers to, and the references written into it.

use object::elf;
use object::pod::bytes_of;

use super::{Layout, Section, plain, symbol};
use crate::codegen::clif::routine::{Reference, Relocation};
use crate::emit::aot::ObjectImage;
use crate::emit::aot::entry::{self, Symbol};
use crate::error::{Error, Result};

/// Where the parts of a library lie when it is loaded at 0.
pub struct Addresses {
    /// Kernels; the entry functions follow.
    pub text: usize,
    pub tables: usize,
    pub weights: Option<usize>,
    /// The entry functions, in the image's order.
    pub functions: Vec<usize>,
}

/// Offsets of the entry functions in the text, and its size.
pub fn place(image: &ObjectImage) -> (Vec<usize>, usize) {
    let mut end = image.kernels.len();
    let offsets = image.functions.iter().map(|function| {
        let offset = end.next_multiple_of(entry::ALIGN);
        end = offset + function.bytes.len();
        offset
    });
    (offsets.collect(), end)
}

impl Addresses {
    /// The text with every reference resolved.
    ///
    /// # Errors
    /// [`Error::Codegen`] if a reference leads to nothing or too far: a bug of ours, or more than 2 GiB of code and tables.
    pub fn text(&self, image: &ObjectImage) -> Result<Vec<u8>> {
        let mut text = image.kernels.clone();
        for (function, address) in image.functions.iter().zip(&self.functions) {
            text.resize(address - self.text, 0);
            text.extend_from_slice(&function.bytes);
            for reference in &function.references {
                let place = address + reference.offset as usize;
                let fail = |what: &str| Error::Codegen {
                    function: image.symbol(function),
                    message: format!("{reference:?}: {what}"),
                };
                let target = self.of(image, reference.symbol).ok_or_else(|| fail("no such part"))?;
                apply(&mut text[place - self.text..], reference, place, target).ok_or_else(|| fail("out of reach"))?;
            }
        }
        Ok(text)
    }

    fn of(&self, image: &ObjectImage, number: u32) -> Option<usize> {
        let is = |symbol: Symbol| symbol as u32 == number;
        if is(Symbol::Kernels) {
            return Some(self.text);
        }
        if is(Symbol::Tables) {
            return Some(self.tables);
        }
        if is(Symbol::Weights) {
            return self.weights;
        }
        let at = image.functions.iter().position(|function| is(function.symbol))?;
        Some(self.functions[at])
    }

    /// Appends `.symtab` and `.strtab`: every kernel and function by name.
    pub fn symbols(&self, tail: &mut Layout, image: &ObjectImage) {
        let section = tail.sections.iter().position(|section| section.name == ".text").map_or(0, |at| at + 1);
        let (mut names, mut local, mut global) = (vec![0u8], vec![symbol(0, 0, 0, 0, 0)], Vec::new());
        let mut name = |text: &str| {
            let at = names.len();
            names.extend(text.bytes().filter(|byte| *byte != 0));
            names.push(0);
            at
        };
        let info = |bind: u8| bind << 4 | elf::STT_FUNC;
        for kernel in &image.names {
            let (at, bytes) = (self.text + kernel.placed.offset, kernel.placed.bytes);
            local.push(symbol(name(&kernel.text), info(elf::STB_LOCAL), section, at, bytes));
        }
        for (function, address) in image.functions.iter().zip(&self.functions) {
            let (list, bind) =
                if function.exported { (&mut global, elf::STB_GLOBAL) } else { (&mut local, elf::STB_LOCAL) };
            list.push(symbol(name(&image.symbol(function)), info(bind), section, *address, function.bytes.len()));
        }
        let content: Vec<u8> = local.iter().chain(&global).flat_map(|symbol| bytes_of(symbol).to_vec()).collect();
        let like = Section {
            link: ".strtab",
            info: local.len() as u32,
            entry: bytes_of(&local[0]).len(),
            ..plain(".symtab", elf::SHT_SYMTAB, 0, 8)
        };
        tail.section(like, &content);
        tail.section(plain(".strtab", elf::SHT_STRTAB, 0, 1), &names);
    }
}

/// Writes a reference at the beginning of `code`, which lies at `place`.
fn apply(code: &mut [u8], reference: &Reference, place: usize, target: usize) -> Option<()> {
    let (place, target) = (place as i64, target as i64 + reference.addend);
    let word = code.first_chunk_mut::<4>()?;
    let or = |word: &mut [u8; 4], bits: u32| *word = (u32::from_le_bytes(*word) | bits).to_le_bytes();
    match reference.relocation {
        Relocation::X86Pc32 => *word = i32::try_from(target - place).ok()?.to_le_bytes(),
        Relocation::ArmCall26 => {
            let distance = target - place;
            (-(1 << 27)..1 << 27).contains(&distance).then_some(())?;
            or(word, (distance >> 2) as u32 & 0x03ff_ffff);
        }
        Relocation::ArmPage21 => {
            let pages = (target >> 12) - (place >> 12);
            (-(1 << 20)..1 << 20).contains(&pages).then_some(())?;
            or(word, (pages as u32 & 3) << 29 | (pages as u32 >> 2 & 0x7_ffff) << 5);
        }
        Relocation::ArmLow12 => or(word, (target as u32 & 0xfff) << 10),
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn applied(relocation: Relocation, code: u32, place: usize, target: usize) -> Option<u32> {
        let mut bytes = code.to_le_bytes();
        let reference = Reference { offset: 0, relocation, symbol: 0, addend: 0 };
        apply(&mut bytes, &reference, place, target)?;
        Some(u32::from_le_bytes(bytes))
    }

    #[test]
    fn references_are_what_an_assembler_writes() {
        assert_eq!(applied(Relocation::X86Pc32, 0, 0x1000, 0x0ffc), Some(0xffff_fffc));
        // bl . + 8, bl . - 4
        assert_eq!(applied(Relocation::ArmCall26, 0x9400_0000, 0x1000, 0x1008), Some(0x9400_0002));
        assert_eq!(applied(Relocation::ArmCall26, 0x9400_0000, 0x1000, 0x0ffc), Some(0x97ff_ffff));
        // adrp x0, the next page but two; adrp x0, the page before
        assert_eq!(applied(Relocation::ArmPage21, 0x9000_0000, 0x1234, 0x4000), Some(0xf000_0000));
        assert_eq!(applied(Relocation::ArmPage21, 0x9000_0000, 0x1234, 0x0010), Some(0xf0ff_ffe0));
        // add x0, x0, #0x234
        assert_eq!(applied(Relocation::ArmLow12, 0x9100_0000, 0, 0x1234), Some(0x9108_d000));
        assert_eq!(applied(Relocation::X86Pc32, 0, 0, 1 << 40), None);
        assert_eq!(applied(Relocation::ArmCall26, 0, 0, 1 << 27), None);
    }
}
