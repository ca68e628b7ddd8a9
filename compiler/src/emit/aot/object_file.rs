//! A relocatable object file, for linking into a program.
//!
//! In: an [`ObjectImage`]. Out: `.o` bytes whose only global symbols are the exported functions, with relocations relative to the program
//! counter and no undefined symbol.

use object::write::SymbolSection;
use object::write::{Object, Relocation as ObjectRelocation, SectionId, StandardSection, Symbol as ObjectSymbol};
use object::{
    Architecture, BinaryFormat, Endianness, RelocationFlags, SectionKind, SymbolFlags, SymbolKind, SymbolScope, elf,
};

use super::entry::{self, Symbol};
use super::{CodeRange, ObjectImage};
use crate::codegen::clif::routine::Relocation;
use crate::error::{Error, Result};
use crate::target::Arch;

/// Alignment of the kernels and of the weights.
const ALIGN: u64 = 64;

/// A linker puts programs together within 2 GiB; the rest is left to the program.
const REACH: u64 = 15 << 27;

/// The bytes of an object file.
///
/// # Errors
/// [`Error::Codegen`] if a reference leads to nothing: a bug of ours.
pub fn write_object(image: &ObjectImage) -> Result<Vec<u8>> {
    let fail = |message: String| Error::Codegen { function: image.prefix.clone(), message };
    let needed = (image.kernels.len() + image.tables.len()) as u64
        + image.weights.as_ref().map_or(0, |weights| weights.bytes.len() as u64);
    if needed > REACH {
        let what = "bytes of an object file with weights".to_string();
        let hint = Some("a shared library has no such limit, nor have weights in a file of their own".to_string());
        return Err(fornax_ir::Error::Limit { what, limit: REACH, needed, hint }.into());
    }
    let arch = match image.arch {
        Arch::X86_64 => Architecture::X86_64,
        Arch::Aarch64 => Architecture::Aarch64,
    };
    let mut object = Object::new(BinaryFormat::Elf, arch, Endianness::Little);
    let text = object.section_id(StandardSection::Text);
    // References name a section and a place in it: a linker may let another file replace an exported symbol.
    let mut places: Vec<(Symbol, SectionId, u64)> = Vec::new();
    let kernels = object.append_section_data(text, &image.kernels, ALIGN);
    places.push((Symbol::Kernels, text, kernels));
    for name in &image.names {
        let placed = CodeRange { offset: kernels as usize + name.placed.offset, ..name.placed };
        define(&mut object, &name.text, placed, text, Some(false));
    }
    let rodata = object.section_id(StandardSection::ReadOnlyData);
    let mut data = vec![(Symbol::Tables, "tables", &image.tables[..])];
    if let Some(weights) = &image.weights {
        data.push((Symbol::Weights, "weights", &weights.bytes[..]));
    }
    for (symbol, name, bytes) in data {
        let offset = object.append_section_data(rodata, bytes, ALIGN);
        let placed = CodeRange { offset: offset as usize, bytes: bytes.len() };
        define(&mut object, &format!("{}_{name}", image.prefix), placed, rodata, None);
        places.push((symbol, rodata, offset));
    }
    let mut starts = Vec::with_capacity(image.functions.len());
    for function in &image.functions {
        let start = object.append_section_data(text, &function.bytes, entry::ALIGN as u64);
        let placed = CodeRange { offset: start as usize, bytes: function.bytes.len() };
        define(&mut object, &image.symbol(function), placed, text, Some(function.exported));
        places.push((function.symbol, text, start));
        starts.push(start);
    }
    for (function, start) in image.functions.iter().zip(starts) {
        for reference in &function.references {
            let target = places.iter().find(|(symbol, ..)| *symbol as u32 == reference.symbol);
            let (_, section, at) =
                *target.ok_or_else(|| fail(format!("{}: {reference:?}: no such part", function.name)))?;
            let flags = RelocationFlags::Elf { r_type: kind(reference.relocation) };
            let (offset, addend) = (start + u64::from(reference.offset), at.cast_signed() + reference.addend);
            let relocation = ObjectRelocation { offset, symbol: object.section_symbol(section), addend, flags };
            object.add_relocation(text, relocation).map_err(|e| fail(e.to_string()))?;
        }
    }
    no_executable_stack(&mut object);
    object.write().map_err(|e| fail(e.to_string()))
}

/// Adds a symbol: data if `exported` is not said, else a function.
fn define(object: &mut Object<'_>, name: &str, at: CodeRange, section: SectionId, exported: Option<bool>) {
    let scope = if exported == Some(true) { SymbolScope::Dynamic } else { SymbolScope::Compilation };
    object.add_symbol(ObjectSymbol {
        name: name.into(),
        value: at.offset as u64,
        size: at.bytes as u64,
        kind: if exported.is_some() { SymbolKind::Text } else { SymbolKind::Data },
        scope,
        weak: false,
        section: SymbolSection::Section(section),
        flags: SymbolFlags::None,
    });
}

fn kind(relocation: Relocation) -> u32 {
    match relocation {
        Relocation::X86Pc32 => elf::R_X86_64_PC32,
        Relocation::ArmCall26 => elf::R_AARCH64_CALL26,
        Relocation::ArmPage21 => elf::R_AARCH64_ADR_PREL_PG_HI21,
        Relocation::ArmLow12 => elf::R_AARCH64_ADD_ABS_LO12_NC,
    }
}

/// A linker that finds an object without this section makes the stack of the program executable.
fn no_executable_stack(object: &mut Object<'_>) {
    object.add_section(Vec::new(), b".note.GNU-stack".to_vec(), SectionKind::Other);
}
