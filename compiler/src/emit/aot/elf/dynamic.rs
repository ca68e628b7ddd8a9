//! What a dynamic loader reads: exported symbols, their hash tables, the dynamic section.

use object::elf::{self, Dyn64, Sym64};
use object::pod::bytes_of;
use object::{I64, LittleEndian as LE, U64};

use super::link::Addresses;
use super::{Layout, Section, plain, symbol};
use crate::emit::aot::ObjectImage;
use crate::emit::aot::entry::Function;

const SYM: usize = size_of::<Sym64<LE>>();
/// Number of entries of the dynamic section.
const ENTRIES: usize = 7;
/// Size of the dynamic section.
pub const DYNAMIC: usize = ENTRIES * size_of::<Dyn64<LE>>();

/// Where the tables of exported symbols lie.
pub struct Exports {
    gnu_hash: usize,
    hash: usize,
    symbols: usize,
    strings: usize,
    strings_bytes: usize,
    names: Vec<usize>,
}

fn exported(image: &ObjectImage) -> impl Iterator<Item = (usize, &Function)> {
    image.functions.iter().enumerate().filter(|(_, function)| function.exported)
}

impl Exports {
    /// Appends all but the dynamic section to `layout`; the symbols have no addresses yet.
    pub fn new(layout: &mut Layout, image: &ObjectImage) -> Self {
        let symbols: Vec<String> = exported(image).map(|(_, function)| image.symbol(function)).collect();
        let mut strings = vec![0u8];
        let mut string = |text: &str| {
            let at = strings.len();
            strings.extend_from_slice(text.as_bytes());
            strings.push(0);
            at
        };
        let names = symbols.iter().map(|symbol| string(symbol)).collect();
        let alloc = elf::SHF_ALLOC;
        let like = Section { link: ".dynsym", ..plain(".gnu.hash", elf::SHT_GNU_HASH, alloc, 8) };
        let gnu_hash = layout.section(like, &gnu_hash(&symbols));
        let like = Section { link: ".dynsym", entry: 4, ..plain(".hash", elf::SHT_HASH, alloc, 8) };
        let hash = layout.section(like, &sysv_hash(&symbols));
        let like = Section { link: ".dynstr", info: 1, entry: SYM, ..plain(".dynsym", elf::SHT_DYNSYM, alloc, 8) };
        let table = layout.section(like, &vec![0; (symbols.len() + 1) * SYM]);
        let at = layout.section(plain(".dynstr", elf::SHT_STRTAB, alloc, 1), &strings);
        Self { gnu_hash, hash, symbols: table, strings: at, strings_bytes: strings.len(), names }
    }

    /// Gives the symbols their addresses.
    pub fn resolve(&self, layout: &mut Layout, image: &ObjectImage, addresses: &Addresses) {
        let section = layout.sections.iter().position(|section| section.name == ".text").map_or(0, |at| at + 1);
        for (number, (position, function)) in exported(image).enumerate() {
            let info = elf::STB_GLOBAL << 4 | elf::STT_FUNC;
            let (address, bytes) = (addresses.functions[position], function.bytes.len());
            let symbol = symbol(self.names[number], info, section, address, bytes);
            layout.bytes[self.symbols + (number + 1) * SYM..][..SYM].copy_from_slice(bytes_of(&symbol));
        }
    }

    pub fn dynamic(&self) -> Vec<u8> {
        let entries: [(i64, usize); ENTRIES] = [
            (elf::DT_HASH, self.hash),
            (elf::DT_GNU_HASH, self.gnu_hash),
            (elf::DT_STRTAB, self.strings),
            (elf::DT_SYMTAB, self.symbols),
            (elf::DT_STRSZ, self.strings_bytes),
            (elf::DT_SYMENT, SYM),
            (elf::DT_NULL, 0),
        ];
        let entry =
            |(tag, value): (i64, usize)| Dyn64::<LE> { d_tag: I64::new(LE, tag), d_val: U64::new(LE, value as u64) };
        entries.into_iter().flat_map(|pair| bytes_of(&entry(pair)).to_vec()).collect()
    }
}

/// A GNU hash table of one bucket. Symbols count from 1, in their order.
fn gnu_hash(symbols: &[String]) -> Vec<u8> {
    const SHIFT: u32 = 6;
    let hashes: Vec<u32> = symbols.iter().map(|symbol| elf::gnu_hash(symbol.as_bytes())).collect();
    let bits = |hash: u32| 1u64 << (hash % 64) | 1u64 << ((hash >> SHIFT) % 64);
    let bloom = hashes.iter().fold(0, |bloom, hash| bloom | bits(*hash));
    // Buckets, first symbol, words of the filter, shift; the filter; the bucket.
    let mut table: Vec<u8> = [1, 1, 1, SHIFT].into_iter().flat_map(u32::to_le_bytes).collect();
    table.extend(bloom.to_le_bytes());
    table.extend(1u32.to_le_bytes());
    // The lowest bit ends a chain.
    for (number, hash) in hashes.iter().enumerate() {
        let last = u32::from(number + 1 == hashes.len());
        table.extend((hash & !1 | last).to_le_bytes());
    }
    table
}

/// A System V hash table of one bucket, whose chain goes through all symbols in order.
fn sysv_hash(symbols: &[String]) -> Vec<u8> {
    let count = symbols.len() as u32 + 1;
    let chain = (0..count).map(|number| if number == 0 || number + 1 == count { 0 } else { number + 1 });
    [1, count, 1].into_iter().chain(chain).flat_map(u32::to_le_bytes).collect()
}
