//! Opens compiled libraries and makes programs of them.
//!
//! ```text
//! file ─▶ elf: note ─▶ parts: ranges, hash ─▶ tables ─▶ steps ─▶ Program
//!                                    └─▶ kernels, mapped for execution; weights
//! ```
//!
//! In: an ELF file that Fornax wrote, on this architecture. Out: a [`Library`], and from it a [`Program`] for a binding and
//! a level. The hash tells damage, not malice: opening a library runs nothing, but its programs are native code, to be
//! trusted as any other.
//!
//! A library with weights in a file of its own is two files, which are replaced one after the other: the weights first, locked until the
//! library is there. Whoever meets weights that are not those of the library that is open waits for that and opens the library again if
//! another one has taken its name, and so never pairs one with weights that were published with another.
//! [`crate::artifact`] describes the file; its entry functions are for C and not used here.

mod elf;
mod parts;
mod program;
mod steps;
mod tables;
mod weights;

use std::fmt;
use std::fmt::Display;
use std::ops::Range;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::artifact::{Note, WeightsHead};
use crate::cpu::FloatMode;
use crate::error::Error;
use crate::features::CpuFeatures;
use crate::levels::Level;
use crate::map::{self, Executable, MappedFile, Origin};
use crate::port::Port;
use crate::program::{ConstantPool, Program};
use crate::state::Variable;
use crate::sync::Arc;
use tables::Tables;

/// How often a library is opened again because another one has taken its name meanwhile.
const REOPENED: u32 = 16;

/// How to open a library.
#[derive(Clone, Debug)]
pub struct LibraryOptions {
    /// Read embedded weights whole and check their hash; off by default, so that a library opens before its weights are read. What
    /// kernels compute addresses from is always checked: damaged weights after it give wrong numbers. Weights in a file of
    /// their own are always checked whole.
    pub check_weights: bool,
    /// The file with the weights, also if the library has its own. By default a library without weights takes those next to
    /// it, in the file of the same name with the extension `weights`.
    pub weights: Option<PathBuf>,
    /// The most bytes that the library, and a file of weights, may have; 64 GiB by default.
    pub file_bytes: u64,
}

impl Default for LibraryOptions {
    fn default() -> LibraryOptions {
        LibraryOptions { check_weights: false, weights: None, file_bytes: 1 << 36 }
    }
}

/// A compiled library: code and weights in files, mapped. Clones share them, and so do its programs, which keep them alive.
///
/// # Trust
/// The programs of a library are native code: they do what the file says, and no check tells whether a compiler wrote it. That running
/// them is sound rests on two things that only the user knows, as with any shared library that is linked:
/// - the files come from `fornax compile`, or from whom one would run a program of;
/// - nobody changes them in place while they are in use. Replacing them by others of the same name is safe, and so is damage that happened
///   before: the hash tells.
///
/// Opening a library reads it only; [`Library::program`] vouches for its code.
#[derive(Clone)]
pub struct Library(Arc<Inner>);

struct Inner {
    tables: Arc<Tables>,
    kernels: Arc<Executable>,
    weights: Bytes,
    /// The file that the weights are part of, and where; none where they were given in memory.
    place: Option<(Origin, Range<usize>)>,
    sections: Sections,
}

/// What a library's file holds, for whoever writes another one of it.
#[derive(Clone, Debug)]
pub struct Sections {
    /// The whole file.
    pub file: Bytes,
    /// The note that says where the others are.
    pub note: Note,
    /// The tables, which begin with a [`crate::artifact::Head`].
    pub tables: Bytes,
    /// The kernels.
    pub kernels: Bytes,
    /// Whether the weights are in the file.
    pub embedded: bool,
}

impl Library {
    /// Opens the library at `path` with default options.
    ///
    /// # Errors
    /// As [`Library::open_with`].
    pub fn open(path: impl AsRef<Path>) -> Result<Library, Error> {
        Library::open_with(path, &LibraryOptions::default())
    }

    /// Opens the library at `path`: checks it, maps its code, and finds its weights. Nothing of it runs.
    ///
    /// # Errors
    /// [`Error::Io`], [`Error::NotAFile`] or [`Error::FileTooLarge`] for a file that cannot be read, [`Error::NotALibrary`]
    /// for one that is something else or for another architecture, [`Error::Damaged`] if it is not as it was written, and
    /// [`Error::NoWeights`] or [`Error::Weights`] if the weights are missing or not this library's.
    pub fn open_with(path: impl AsRef<Path>, options: &LibraryOptions) -> Result<Library, Error> {
        let path = path.as_ref();
        let mut left = REOPENED;
        loop {
            let file = MappedFile::open(path, options.file_bytes)?;
            let bytes = file.bytes();
            let found = elf::find(path, bytes)?;
            let parts = parts::check(path, bytes, &found)?;
            let sections = Sections {
                file: bytes.clone(),
                note: found.note,
                tables: bytes.slice(parts.tables),
                kernels: bytes.slice(parts.kernels.clone()),
                embedded: parts.weights.is_some(),
            };
            let tables = Tables::decode(path, &sections.tables, found.note.version)?;
            let embedded = parts.weights.clone();
            let weights = weights::find(path, parts.weights.map(|range| bytes.slice(range)), options)?;
            if left > 0 && weights.is_ahead_of(&file, &tables.head) {
                left -= 1;
                continue;
            }
            let place = weights.place(&file, embedded);
            let weights = weights.check(path, &tables.head, options)?;
            let kernels = Arc::new(file.executable(parts.kernels)?);
            return Ok(Library(Arc::new(Inner { tables: Arc::new(tables), kernels, weights, place, sections })));
        }
    }

    /// True when `path` leads to a regular file that begins like a library. Reads four bytes, and never waits.
    pub fn is_library(path: impl AsRef<Path>) -> bool {
        map::begins_with(path.as_ref(), elf::MAGIC)
    }

    /// The manifest: a JSON text, as the compiler wrote it. From C, `net_signature` gives it.
    pub fn manifest(&self) -> &str {
        &self.0.tables.manifest
    }

    /// The parts of the file.
    pub fn sections(&self) -> &Sections {
        &self.0.sections
    }

    /// The weights, as they would stand in a file of their own.
    pub fn weights(&self) -> &Bytes {
        &self.0.weights
    }

    /// The weights in memory of the caller's own, to change: where they are pages of a file, each is copied when it is written.
    ///
    /// # Errors
    /// [`Error::Allocation`] if there is no memory for them.
    pub fn weights_to_change(&self) -> Result<ConstantPool, Error> {
        let private = self.0.place.as_ref().and_then(|(origin, range)| origin.private(range.clone()));
        let private = private.and_then(ConstantPool::private);
        if let Some(pool) = private.filter(|pool| pool.len() == self.0.weights.len()) {
            return Ok(pool);
        }
        let mut pool = ConstantPool::zeroed(self.0.weights.len())?;
        pool.slice_mut(0, self.0.weights.len()).copy_from_slice(&self.0.weights);
        Ok(pool)
    }

    /// The same library over other weights in memory, which begin at a multiple of 64. Their hash is not checked. Its manifest and the
    /// results of its self test are still those of the file.
    ///
    /// # Errors
    /// [`Error::Weights`] if they are not of this library's layout, or differ where kernels compute addresses from them.
    pub fn with_weights(&self, weights: Bytes) -> Result<Library, Error> {
        let Inner { tables, kernels, sections, .. } = &*self.0;
        let weights = weights::check(&tables.path, &tables.head, weights, false)?;
        let guarded = WeightsHead::SIZE..(sections.note.guarded_bytes as usize).max(WeightsHead::SIZE);
        if weights.get(guarded.clone()) != self.0.weights.get(guarded) {
            let (field, path) = ("indices", tables.path.clone());
            let (expected, found) = ("those of the library".into(), "others".into());
            return Err(Error::Weights { path, field, expected, found });
        }
        let (tables, kernels, sections) = (Arc::clone(tables), Arc::clone(kernels), sections.clone());
        Ok(Library(Arc::new(Inner { tables, kernels, weights, place: None, sections })))
    }

    /// What becomes of subnormal numbers while its programs run; the same for all of them.
    pub fn float_mode(&self) -> FloatMode {
        self.0.tables.bindings.first().map(|ports| ports.float_mode).unwrap_or_default()
    }

    /// Every level that the library has code for, in order of preference.
    pub fn levels(&self) -> &[&'static Level] {
        &self.0.tables.levels
    }

    /// The best level that this processor runs.
    ///
    /// # Errors
    /// [`Error::MissingFeatures`] for the first level, if the processor runs none.
    pub fn best_level(&self) -> Result<&'static Level, Error> {
        self.best_position().map(|position| self.0.tables.levels[position])
    }

    /// Number of bindings: sets of shapes. The library of a training step has one.
    pub fn bindings(&self) -> usize {
        if self.is_step() { 1 } else { self.0.tables.bindings.len() }
    }

    /// Whether it holds a training step. Its programs are [`crate::artifact::STEP_PREDICT`], which is the binding,
    /// [`crate::artifact::STEP_GRADIENTS`] and [`crate::artifact::STEP_UPDATE`]; [`crate::Session::of`] runs them over one state.
    pub fn is_step(&self) -> bool {
        self.0.tables.is_step()
    }

    /// Inputs of a binding or of a part of a training step, in the order of the model; none if there is no such binding.
    pub fn inputs(&self, binding: usize) -> &[Port] {
        self.0.tables.bindings.get(binding).map_or(&[], |ports| &ports.inputs)
    }

    /// Outputs of a binding or of a part of a training step, in the order of the model; none if there is no such binding.
    pub fn outputs(&self, binding: usize) -> &[Port] {
        self.0.tables.bindings.get(binding).map_or(&[], |ports| &ports.outputs)
    }

    /// Parameters and states, the same for every binding.
    pub fn variables(&self) -> &[Variable] {
        &self.0.tables.state.variables
    }

    /// The program of a binding, or of a part of a training step, on a level; level 0 is the best. A library that holds code for tile registers
    /// has the process ask for the permission to use them. This takes the library at its word: see [`Library`] for what that
    /// rests on.
    ///
    /// # Errors
    /// [`Error::NoBinding`] or [`Error::NoLevel`] if the library has none of this number, [`Error::MissingFeatures`] if the
    /// processor cannot run it, [`Error::Damaged`] or [`Error::BadStep`] if its steps contradict the rest of the library.
    pub fn program(&self, binding: usize, level: u32) -> Result<Program, Error> {
        let levels = &self.0.tables.levels;
        let position = match level {
            0 => self.best_position()?,
            _ => levels.iter().position(|known| known.number == level).ok_or_else(|| {
                let names = levels.iter().map(|level| format!("{} ({level})", level.number)).collect::<Vec<_>>();
                let expected = format!("0 (the best) or one of {}", names.join(", "));
                Error::NoLevel { path: self.0.tables.path.clone(), expected, found: level }
            })?,
        };
        program::program(&self.0, binding, position)
    }

    /// Position of [`Library::best_level`] among the levels.
    fn best_position(&self) -> Result<usize, Error> {
        let levels = &self.0.tables.levels;
        match levels.iter().rposition(|level| level.usable_here()) {
            Some(position) => Ok(position),
            None => CpuFeatures::prove(levels.first().map(|level| level.features).unwrap_or_default()).map(|_| 0),
        }
    }
}

impl fmt::Debug for Library {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Library")
            .field("path", &self.0.tables.path)
            .field("levels", &self.levels())
            .field("bindings", &self.bindings())
            .finish_non_exhaustive()
    }
}

fn damaged(path: &Path, field: impl Into<String>, expected: impl Display, found: impl Display) -> Error {
    let (expected, found) = (expected.to_string(), found.to_string());
    Error::Damaged { path: path.to_owned(), field: field.into(), expected, found }
}
