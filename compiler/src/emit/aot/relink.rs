//! A library written anew over other weights, without its plans.
//!
//! ```text
//! Library ─▶ tables ── other manifest, hash, self test ──▶ tables ─┐
//!        └─▶ kernels, their names, entry functions ───────────────┴▶ ObjectImage ─▶ elf
//! ```
//!
//! In: a library that this version has written, and changes of its weights. Out: the library that compiling the same
//! network with those weights gives, byte for byte. Nothing is compiled but the entry functions, which are the same for
//! every network.

use std::ops::Range;

use bytes::Bytes;
use fornax_runtime::artifact::{FORMAT_VERSION, FORMAT_WITH_STATE, Head, Sample};
use fornax_runtime::{Arch, DType, Level, Library, Port};
use object::elf;

use super::selftest::{self, Selftest};
use super::weights::{self, Weights};
use super::{CodeRange, Name, ObjectImage, SharedLibrary, entry, runtime, tables, write_shared_library};
use crate::error::{Error, Result};

/// The files of a library.
pub struct Relinked {
    /// The library.
    pub library: SharedLibrary,
    /// Its weights: part of the library, unless they are in a file of their own.
    pub weights: Weights,
}

/// Writes `library`, whose symbols begin with `prefix`, over its weights as `change` leaves them; `change` sees the
/// bytes of a weights file, whose header it leaves alone. `manifest` gives the manifest for the hash of the weights.
///
/// # Errors
/// [`Error::Library`] if the file is not as this version writes it; [`Error::Runtime`] if memory cannot be had.
pub fn relink(
    library: &Library,
    prefix: &str,
    change: impl FnOnce(&mut [u8]),
    manifest: impl FnOnce(u64) -> String,
    threads: usize,
) -> Result<Relinked> {
    let sections = library.sections();
    let head = Head::read(&sections.tables).ok_or_else(|| wrong("tables", "a head", "fewer bytes"))?;
    let state = match head.version {
        FORMAT_WITH_STATE => true,
        FORMAT_VERSION => false,
        other => return Err(wrong("format", &format!("{FORMAT_VERSION} or {FORMAT_WITH_STATE}, of inference"), other)),
    };
    let arch = Arch::HOST;
    let (simple, float_mode) = (simple(library), library.float_mode());
    let tiles = library.levels().iter().any(|level| level.vectors.tiles);
    let embedded = sections.embedded;
    let shape = entry::EntryOptions { arch, embedded, simple, state, step: None, float_mode, tiles };
    // Half of the work has nothing to do with the weights.
    let (functions, others) = std::thread::scope(|scope| {
        let functions = scope.spawn(|| entry::functions(shape));
        let others = changed_weights(library, &head, change, threads);
        (functions.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), others)
    });
    let (weights, tested) = others?;
    let image = ObjectImage {
        arch,
        format: head.version,
        prefix: prefix.to_string(),
        kernels: sections.kernels.to_vec(),
        names: names(&sections.file, sections.note.kernels as usize, sections.kernels.len())?,
        functions: functions?,
        tables: changed(&sections.tables, head, weights.hash, tested.as_ref(), &manifest(weights.hash))?,
        weights: sections.embedded.then(|| weights.clone()),
        weights_hash: weights.hash,
    };
    Ok(Relinked { library: write_shared_library(&image)?, weights })
}

/// The weights as `change` leaves them, and what the self test computes over them, if the library has one.
fn changed_weights(
    library: &Library,
    head: &Head,
    change: impl FnOnce(&mut [u8]),
    threads: usize,
) -> Result<(Weights, Option<Selftest>)> {
    let mut memory = library.weights_to_change().map_err(runtime)?;
    let bytes = memory.len();
    change(memory.slice_mut(0, bytes));
    let weights = weights::sealed(memory, head.layout, library.sections().note.guarded_bytes as usize);
    let tested = if head.selftest == 0 { None } else { run(library, &weights.bytes, threads)? };
    Ok((weights, tested))
}

fn wrong(what: &str, expected: &str, found: impl std::fmt::Display) -> Error {
    Error::Library { what: what.into(), expected: expected.into(), found: found.to_string() }
}

/// What the self test computes over these weights; none where this processor runs no level that the others agree with.
fn run(library: &Library, weights: &Bytes, threads: usize) -> Result<Option<Selftest>> {
    // A level without fused multiply-add stands for itself only.
    let fused = library.levels().iter().any(|level| level.vectors.fma);
    let runnable = |level: &&&Level| level.vectors.fma == fused && level.usable_here();
    let Some(level) = library.levels().iter().rev().find(runnable) else { return Ok(None) };
    let program = library.with_weights(weights.clone()).and_then(|library| library.program(0, level.number));
    selftest::run(program.map_err(runtime)?, threads).map(Some)
}

/// Whether `run_simple` fits: one input and one output of f32.
fn simple(library: &Library) -> bool {
    let one = |ports: &[Port]| matches!(ports, [port] if port.dtype == DType::F32);
    one(library.inputs(0)) && one(library.outputs(0))
}

/// The tables with another hash of the weights, other results of the self test, and another manifest.
fn changed(
    tables: &[u8],
    mut head: Head,
    weights_hash: u64,
    tested: Option<&Selftest>,
    manifest: &str,
) -> Result<Vec<u8>> {
    let inside = |range: Range<usize>| tables.get(range).map(<[u8]>::to_vec);
    let body = inside(Head::SIZE..head.signature_at as usize);
    let mut body = body.ok_or_else(|| wrong("tables", "a signature in them", head.signature_at))?;
    head.weights_hash = weights_hash;
    let mut samples = Vec::new();
    tested.iter().flat_map(|tested| &tested.samples).for_each(|sample| sample.write(&mut samples));
    let room = head.samples_len as usize * Sample::SIZE;
    let place = (head.samples as usize).checked_sub(Head::SIZE).and_then(|at| body.get_mut(at..at + room));
    match (tested, place) {
        (Some(tested), Some(place)) if place.len() == samples.len() => {
            place.copy_from_slice(&samples);
            head.selftest_hash = tested.hash;
        }
        // Fewer values are finite than were, or the machine computes none: the self test knows nothing of these
        // weights.
        _ => (head.selftest, head.selftest_hash) = (0, 0),
    }
    tables::signed(head, body, manifest)
}

/// The kernels' names and places, from the symbols of the file, in their order.
fn names(file: &[u8], kernels: usize, bytes: usize) -> Result<Vec<Name>> {
    let symbols =
        Symbols::find(file).ok_or_else(|| wrong("symbols", "a table of symbols", "none (was it stripped?)"))?;
    let mut known = Vec::new();
    for symbol in file[symbols.entries].chunks_exact(SYMBOL) {
        let [name, address, size] = [word(symbol, 0, 4), word(symbol, 8, 8), word(symbol, 16, 8)];
        let inside = address >= kernels && address.saturating_add(size) <= kernels + bytes && size > 0;
        if inside && symbol[4] == elf::STT_FUNC {
            let text = file[symbols.names.clone()].get(name..).and_then(|rest| rest.split(|byte| *byte == 0).next());
            let text = String::from_utf8_lossy(text.unwrap_or_default()).into_owned();
            known.push(Name { text, placed: CodeRange { offset: address - kernels, bytes: size } });
        }
    }
    Ok(known)
}

/// Size of a section header, and of a symbol.
const HEADER: usize = 64;
const SYMBOL: usize = 24;

/// Where a file's symbols and their names lie.
struct Symbols {
    entries: Range<usize>,
    names: Range<usize>,
}

impl Symbols {
    fn find(file: &[u8]) -> Option<Self> {
        let (at, count) = (word(file.get(..HEADER)?, 40, 8), word(file, 60, 2));
        let headers = file.get(at..at.checked_add(count * HEADER)?)?;
        let section = |number: usize| {
            let header = headers.chunks_exact(HEADER).nth(number)?;
            let (offset, bytes) = (word(header, 24, 8), word(header, 32, 8));
            file.get(offset..offset.checked_add(bytes)?)?;
            Some(offset..offset + bytes)
        };
        let is_symbols = |header: &[u8]| word(header, 4, 4) == elf::SHT_SYMTAB as usize;
        let number = headers.chunks_exact(HEADER).position(is_symbols)?;
        let names = word(headers.chunks_exact(HEADER).nth(number)?, 40, 4);
        Some(Self { entries: section(number)?, names: section(names)? })
    }
}

/// A little-endian number of `size` bytes; 0 where there are none.
fn word(bytes: &[u8], at: usize, size: usize) -> usize {
    let bytes = bytes.get(at..at + size).unwrap_or_default();
    bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte))
}
