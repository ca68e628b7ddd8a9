//! The class folders of one half: which there are, and what is wrong with them.
//!
//! In: a folder. Out: a [`Half`]. Invariant: each folder is entered once, however links lead to it.

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::error::{Error, Result};
use crate::images::Image;

/// Names that systems and programs leave behind, besides hidden ones.
const SYSTEM: [&str; 7] =
    ["__MACOSX", "Thumbs.db", "desktop.ini", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"];

/// What a fault begins with that only training minds.
pub(super) const ONE_CLASS: &str = "expected two classes or more, found one";

/// The class folders of one half.
#[derive(Debug, Default)]
pub(super) struct Half {
    root: PathBuf,
    /// Photos of each class, by path.
    pub classes: BTreeMap<String, Vec<PathBuf>>,
    /// Folders that cannot be a class, and others that cannot be read: a line each.
    wrong: Vec<String>,
    /// What is odd and does no harm.
    pub notes: Vec<String>,
}

/// Whether a name is one that nobody gave.
fn is_system(name: &OsStr) -> bool {
    name.as_encoded_bytes().starts_with(b".") || SYSTEM.iter().any(|known| name.eq_ignore_ascii_case(known))
}

/// What lies in a folder, but for what systems leave there, in order of names.
fn entries(folder: &Path) -> std::io::Result<Vec<PathBuf>> {
    let mut paths = fs::read_dir(folder)?.map(|entry| Ok(entry?.path())).collect::<std::io::Result<Vec<_>>>()?;
    paths.retain(|path| path.file_name().is_some_and(|name| !is_system(name)));
    paths.sort();
    Ok(paths)
}

/// The folders in a folder, in order of names.
///
/// # Errors
/// [`Error::File`] if it cannot be read.
pub(super) fn subfolders(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut paths = entries(folder).map_err(|e| Error::file(folder, format!("expected a folder of photos: {e}")))?;
    paths.retain(|path| path.is_dir());
    Ok(paths)
}

/// Reads the class folders of `root`, of which `except` is none.
///
/// # Errors
/// [`Error::File`] if `root` cannot be read.
pub(super) fn scan(root: &Path, except: Option<&Path>) -> Result<Half> {
    let mut half = Half { root: root.to_owned(), ..Half::default() };
    let outside = entries(root).map_err(|e| Error::file(root, format!("expected a folder of photos: {e}")))?;
    let outside = outside.iter().filter(|path| path.is_file() && Image::is_meant(path)).count();
    if outside > 0 {
        half.notes.push(format!("{}: photos outside the class folders are left out: {outside}", root.display()));
    }
    let identity = |path: &Path| fs::metadata(path).ok().map(|found| (found.dev(), found.ino()));
    let except = except.and_then(identity);
    for folder in subfolders(root)? {
        if except.is_some() && identity(&folder) == except {
            continue;
        }
        let name = folder.file_name().unwrap_or_default();
        match name.to_str() {
            None => half.wrong.push(format!("class {name:?}: expected a name in UTF-8")),
            Some(name) if name.chars().any(char::is_control) => {
                half.wrong.push(format!("class {name:?}: expected a name without line breaks and control characters"));
            }
            Some(name) => {
                let photos = half.photos(&folder);
                half.classes.insert(name.to_string(), photos);
            }
        }
    }
    Ok(half)
}

impl Half {
    /// The photos in a folder and those in it. A link back to the folder of all classes leads nowhere: what is there is
    /// of other classes.
    fn photos(&mut self, folder: &Path) -> Vec<PathBuf> {
        let (mut open, mut found, mut seen) = (vec![folder.to_owned()], Vec::new(), BTreeSet::new());
        seen.extend(fs::metadata(&self.root).map(|found| (found.dev(), found.ino())));
        while let Some(folder) = open.pop() {
            let identity = fs::metadata(&folder).map(|found| (found.dev(), found.ino()));
            let read =
                identity.and_then(|identity| if seen.insert(identity) { entries(&folder) } else { Ok(Vec::new()) });
            match read {
                Ok(paths) => {
                    let (folders, files): (Vec<_>, Vec<_>) = paths.into_iter().partition(|path| path.is_dir());
                    open.extend(folders);
                    found.extend(files.into_iter().filter(|path| Image::is_meant(path)));
                }
                Err(e) => self.wrong.push(format!("{}: cannot read: {e}", folder.display())),
            }
        }
        found.sort();
        found
    }

    /// What is wrong with the classes, a line each.
    pub fn faults(&self) -> Vec<String> {
        let mut faults = self.wrong.clone();
        match self.classes.len() {
            0 => faults
                .push(format!("expected a folder of photos for each class in {}, found none", self.root.display())),
            1 => faults.push(format!("{ONE_CLASS}: {}", self.names())),
            _ => {}
        }
        let mut lower: BTreeMap<String, &str> = BTreeMap::new();
        for (name, photos) in &self.classes {
            if photos.is_empty() {
                faults.push(format!("class {name}: expected photos, found none"));
            }
            if let Some(other) = lower.insert(name.to_lowercase(), name) {
                faults.push(format!("classes {other} and {name}: expected names that differ by more than case"));
            }
        }
        faults
    }

    /// Classes with a name of `halves` that hold folders of other classes, a line each: they are meant to be halves.
    pub fn misplaced(&self, halves: &[&str]) -> Vec<String> {
        let is_half = |name: &str| {
            let inside = subfolders(&self.root.join(name)).unwrap_or_default();
            let class =
                |path: &PathBuf| path.file_name().and_then(OsStr::to_str).is_some_and(|n| self.classes.contains_key(n));
            self.classes.contains_key(name) && inside.iter().any(class)
        };
        let found = halves.iter().filter(|name| is_half(name));
        found
            .map(|name| format!("folder {name}: expected it beside a folder train, or as --val, found beside classes"))
            .collect()
    }

    /// Classes that cannot be split in two, a line each.
    pub fn too_few_to_split(&self) -> Vec<String> {
        let single = self.classes.iter().filter(|(_, photos)| photos.len() == 1);
        single
            .map(|(name, _)| format!("class {name}: expected two photos or more, one of them for validation, found 1"))
            .collect()
    }

    /// Where the classes of this half for validation are others than those for training, a line each.
    pub fn differences(&self, training: &Half) -> Vec<String> {
        let mut faults = self.wrong.clone();
        for name in self.classes.keys().filter(|name| !training.classes.contains_key(*name)) {
            faults.push(format!("class {name} of {}: expected one of {}", self.root.display(), training.names()));
        }
        for name in training.classes.keys().filter(|name| self.classes.get(*name).is_none_or(Vec::is_empty)) {
            faults.push(format!("class {name}: expected photos in {} too, found none", self.root.display()));
        }
        faults
    }

    fn names(&self) -> String {
        self.classes.keys().map(String::as_str).collect::<Vec<_>>().join(", ")
    }
}
