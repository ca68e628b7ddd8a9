//! An ELF shared library, written directly.
//!
//! ```text
//! R   ELF and program headers, notes, hash tables, .dynsym, .dynstr, .rodata (tables)
//! RX  .text (kernels, entry functions)
//! RW  .dynamic, read-only once loaded
//! R   .weights
//!     .symtab, .strtab, .shstrtab, section headers: not loaded
//! ```
//!
//! In: an [`ObjectImage`]. Out: the bytes before, of, and after the weights. Address and file offset of a byte are the same. Nothing is
//! imported and nothing relocated when the library is loaded; no page is writable and executable.

mod dynamic;
mod link;

use std::ops::Range;

use bytes::Bytes;
use fornax_runtime::artifact::{NOTE_NAME, NOTE_TYPE, Note};
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64, Sym64};
use object::pod::bytes_of;
use object::{LittleEndian as LE, U16, U32, U64};
use xxhash_rust::xxh3::xxh3_128;
use xxhash_rust::xxh64::Xxh64;

use link::Addresses;

use super::ObjectImage;
use crate::error::Result;
use crate::target::Arch;

/// A shared library in the order of its bytes.
pub struct SharedLibrary {
    /// Headers, tables, code.
    pub head: Vec<u8>,
    /// The weights, if they are embedded.
    pub weights: Bytes,
    /// Symbols and section headers.
    pub tail: Vec<u8>,
}

const EHDR: usize = size_of::<FileHeader64<LE>>();
const PHDR: usize = size_of::<ProgramHeader64<LE>>();
/// Segments: four to load, .dynamic, notes, stack, relro; the weights' one may be missing.
const SEGMENTS: usize = 8;
/// Size of the header of a note with its name.
const NOTE_HEAD: usize = 12 + 8;

/// A section as it is laid out.
struct Section {
    name: &'static str,
    kind: u32,
    flags: u32,
    offset: usize,
    bytes: usize,
    align: usize,
    link: &'static str,
    info: u32,
    entry: usize,
}

/// Bytes as they are laid out, and the sections among them.
struct Layout {
    bytes: Vec<u8>,
    /// File offset of the first of the bytes.
    base: usize,
    sections: Vec<Section>,
}

impl Layout {
    fn at(&self) -> usize {
        self.base + self.bytes.len()
    }

    fn align(&mut self, align: usize) {
        let at = self.at().next_multiple_of(align);
        self.bytes.resize(at - self.base, 0);
    }

    /// Appends a section; its entry in the table is `like` this one.
    fn section(&mut self, like: Section, content: &[u8]) -> usize {
        self.align(like.align);
        let offset = self.at();
        self.bytes.extend_from_slice(content);
        self.sections.push(Section { offset, bytes: content.len(), ..like });
        offset
    }
}

fn plain(name: &'static str, kind: u32, flags: u32, align: usize) -> Section {
    Section { name, kind, flags, offset: 0, bytes: 0, align, link: "", info: 0, entry: 0 }
}

/// The bytes of a shared library.
///
/// # Errors
/// [`crate::Error::Codegen`] if a reference leads to nothing or too far.
pub fn write_shared_library(image: &ObjectImage) -> Result<SharedLibrary> {
    // Pages of 64 KiB exist on aarch64.
    let page = if image.arch == Arch::Aarch64 { 1 << 16 } else { 1 << 12 };
    let mut layout = Layout { bytes: vec![0; EHDR + SEGMENTS * PHDR], base: 0, sections: Vec::new() };
    let alloc = elf::SHF_ALLOC;
    let id = note(b"GNU\0", elf::NT_GNU_BUILD_ID, &build_id(image));
    let notes = layout.section(plain(".note.gnu.build-id", elf::SHT_NOTE, alloc, 4), &id);
    let empty = note(b"Fornax\0\0", NOTE_TYPE, &[0; Note::SIZE]);
    let own_note = layout.section(plain(".note.fornax", elf::SHT_NOTE, alloc, 4), &empty);
    let notes_end = layout.at();
    let exports = dynamic::Exports::new(&mut layout, image);
    let tables = layout.section(plain(".rodata", elf::SHT_PROGBITS, alloc, 64), &image.tables);
    let read_end = layout.at();
    layout.align(page);
    let text = layout.at();
    let (functions, text_bytes) = link::place(image);
    let dynamic = (text + text_bytes).next_multiple_of(page);
    let weights_at = (dynamic + dynamic::DYNAMIC).next_multiple_of(page);
    let addresses = Addresses {
        text,
        tables,
        weights: image.weights.as_ref().map(|_| weights_at),
        functions: functions.into_iter().map(|offset| text + offset).collect(),
    };
    let code = addresses.text(image)?;
    layout.section(plain(".text", elf::SHT_PROGBITS, alloc | elf::SHF_EXECINSTR, 64), &code);
    exports.resolve(&mut layout, image, &addresses);
    layout.align(page);
    let like = Section { link: ".dynstr", entry: 16, ..plain(".dynamic", elf::SHT_DYNAMIC, alloc | elf::SHF_WRITE, 8) };
    layout.section(like, &exports.dynamic());
    layout.align(page);
    let weights = image.weights.as_ref().map(|weights| weights.bytes.clone()).unwrap_or_default();
    let spans = Spans { notes: notes..notes_end, read_end, text: text..text + text_bytes, dynamic, weights_at, page };
    for (number, segment) in spans.segments(weights.len()).iter().enumerate() {
        layout.bytes[EHDR + number * PHDR..][..PHDR].copy_from_slice(bytes_of(segment));
    }
    let mut tail = Layout { bytes: Vec::new(), base: weights_at + weights.len(), sections: layout.sections };
    if !weights.is_empty() {
        let like = plain(".weights", elf::SHT_PROGBITS, alloc, page);
        tail.sections.push(Section { offset: weights_at, bytes: weights.len(), ..like });
    }
    addresses.symbols(&mut tail, image);
    let (headers, names, count) = section_headers(&mut tail);
    layout.bytes[..EHDR].copy_from_slice(bytes_of(&file_header(image.arch, headers, count, names)));
    let mut library = SharedLibrary { head: layout.bytes, weights, tail: tail.bytes };
    let parts = Note {
        version: image.format,
        tables: tables as u64,
        tables_bytes: image.tables.len() as u64,
        kernels: text as u64,
        kernels_bytes: image.kernels.len() as u64,
        weights: if library.weights.is_empty() { 0 } else { weights_at as u64 },
        weights_bytes: library.weights.len() as u64,
        guarded_bytes: image.weights.as_ref().map_or(0, |weights| weights.guarded) as u64,
        ..Note::default()
    };
    seal(&mut library, own_note + NOTE_HEAD, parts);
    Ok(library)
}

/// Where the parts that are loaded lie.
struct Spans {
    notes: Range<usize>,
    read_end: usize,
    text: Range<usize>,
    dynamic: usize,
    weights_at: usize,
    page: usize,
}

impl Spans {
    fn segments(&self, weights: usize) -> [ProgramHeader64<LE>; SEGMENTS] {
        let Self { notes, read_end, text, dynamic, weights_at, page } = self;
        let (read, write) = (elf::PF_R, elf::PF_R | elf::PF_W);
        let kind = if weights == 0 { elf::PT_NULL } else { elf::PT_LOAD };
        [
            segment(elf::PT_LOAD, read, 0, *read_end, *page),
            segment(elf::PT_LOAD, read | elf::PF_X, text.start, text.len(), *page),
            segment(elf::PT_LOAD, write, *dynamic, weights_at - dynamic, *page),
            segment(elf::PT_DYNAMIC, write, *dynamic, dynamic::DYNAMIC, 8),
            // Whole pages: a loader protects no part of one.
            segment(elf::PT_GNU_RELRO, read, *dynamic, weights_at - dynamic, 1),
            segment(elf::PT_NOTE, read, notes.start, notes.len(), 4),
            segment(elf::PT_GNU_STACK, write, 0, 0, 16),
            segment(kind, read, *weights_at, weights, *page),
        ]
    }
}

/// Writes the note, with the hash of everything but the constants after the guarded ones.
fn seal(library: &mut SharedLibrary, at: usize, mut note: Note) {
    let write = |library: &mut SharedLibrary, note: &Note| {
        let mut bytes = Vec::with_capacity(Note::SIZE);
        note.write(&mut bytes);
        library.head[at..at + Note::SIZE].copy_from_slice(&bytes);
    };
    write(library, &note);
    let mut hash = Xxh64::new(0);
    hash.update(&library.head);
    hash.update(&library.weights[..note.guarded_bytes as usize]);
    hash.update(&library.tail);
    note.hash = hash.digest();
    write(library, &note);
}

/// A note: name and description are multiples of 4.
fn note(name: &[u8], kind: u32, description: &[u8]) -> Vec<u8> {
    debug_assert!(!name.starts_with(NOTE_NAME.as_bytes()) || name.len() == NOTE_HEAD - 12);
    let bare = name.iter().position(|byte| *byte == 0).map_or(name.len(), |end| end + 1);
    let words = [bare as u32, description.len() as u32, kind].map(u32::to_le_bytes);
    [words.concat().as_slice(), name, description].concat()
}

/// Names the content: code, tables, weights and the beginning of symbols.
fn build_id(image: &ObjectImage) -> [u8; 16] {
    let functions: Vec<u8> = image.functions.iter().flat_map(|function| function.bytes.iter().copied()).collect();
    let embedded = u8::from(image.weights.is_some());
    let parts: [&[u8]; 5] = [image.prefix.as_bytes(), &image.tables, &image.kernels, &functions, &[embedded]];
    let hashes = parts.map(|part| xxh3_128(part).to_le_bytes());
    xxh3_128(&[hashes.concat().as_slice(), &image.weights_hash.to_le_bytes()].concat()).to_le_bytes()
}

fn segment(kind: u32, flags: u32, offset: usize, bytes: usize, align: usize) -> ProgramHeader64<LE> {
    let (offset, bytes) = (U64::new(LE, offset as u64), U64::new(LE, bytes as u64));
    ProgramHeader64 {
        p_type: U32::new(LE, kind),
        p_flags: U32::new(LE, flags),
        p_offset: offset,
        p_vaddr: offset,
        p_paddr: offset,
        p_filesz: bytes,
        p_memsz: bytes,
        p_align: U64::new(LE, align as u64),
    }
}

fn file_header(arch: Arch, sections: usize, count: usize, names: usize) -> FileHeader64<LE> {
    let machine = if arch == Arch::Aarch64 { elf::EM_AARCH64 } else { elf::EM_X86_64 };
    let ident = elf::Ident {
        magic: elf::ELFMAG,
        class: elf::ELFCLASS64,
        data: elf::ELFDATA2LSB,
        version: elf::EV_CURRENT,
        os_abi: elf::ELFOSABI_NONE,
        abi_version: 0,
        padding: [0; 7],
    };
    FileHeader64 {
        e_ident: ident,
        e_type: U16::new(LE, elf::ET_DYN),
        e_machine: U16::new(LE, machine),
        e_version: U32::new(LE, u32::from(elf::EV_CURRENT)),
        e_entry: U64::new(LE, 0),
        e_phoff: U64::new(LE, EHDR as u64),
        e_shoff: U64::new(LE, sections as u64),
        e_flags: U32::new(LE, 0),
        e_ehsize: U16::new(LE, EHDR as u16),
        e_phentsize: U16::new(LE, PHDR as u16),
        e_phnum: U16::new(LE, SEGMENTS as u16),
        e_shentsize: U16::new(LE, size_of::<SectionHeader64<LE>>() as u16),
        e_shnum: U16::new(LE, count as u16),
        e_shstrndx: U16::new(LE, names as u16),
    }
}

/// Writes the names and headers of all sections; where the headers are, which one holds the names, how many there are.
fn section_headers(tail: &mut Layout) -> (usize, usize, usize) {
    let mut names = vec![0u8];
    let mut at_name = |name: &str| {
        let at = names.len();
        names.extend_from_slice(name.as_bytes());
        names.push(0);
        at as u32
    };
    let mut at: Vec<u32> = tail.sections.iter().map(|section| at_name(section.name)).collect();
    at.push(at_name(".shstrtab"));
    tail.section(plain(".shstrtab", elf::SHT_STRTAB, 0, 1), &names);
    tail.align(8);
    let headers = tail.at();
    tail.bytes.resize(tail.bytes.len() + size_of::<SectionHeader64<LE>>(), 0);
    let index = |name: &str| tail.sections.iter().position(|section| section.name == name).map_or(0, |at| at + 1);
    for (section, name) in tail.sections.iter().zip(at) {
        let address = if section.flags & elf::SHF_ALLOC == 0 { 0 } else { section.offset };
        let header = SectionHeader64::<LE> {
            sh_name: U32::new(LE, name),
            sh_type: U32::new(LE, section.kind),
            sh_flags: U64::new(LE, u64::from(section.flags)),
            sh_addr: U64::new(LE, address as u64),
            sh_offset: U64::new(LE, section.offset as u64),
            sh_size: U64::new(LE, section.bytes as u64),
            sh_link: U32::new(LE, index(section.link) as u32),
            sh_info: U32::new(LE, section.info),
            sh_addralign: U64::new(LE, section.align as u64),
            sh_entsize: U64::new(LE, section.entry as u64),
        };
        tail.bytes.extend_from_slice(bytes_of(&header));
    }
    (headers, tail.sections.len(), tail.sections.len() + 1)
}

/// A symbol of a section.
fn symbol(name: usize, info: u8, section: usize, value: usize, bytes: usize) -> Sym64<LE> {
    Sym64 {
        st_name: U32::new(LE, name as u32),
        st_info: info,
        st_other: elf::STV_DEFAULT,
        st_shndx: U16::new(LE, section as u16),
        st_value: U64::new(LE, value as u64),
        st_size: U64::new(LE, bytes as u64),
    }
}
