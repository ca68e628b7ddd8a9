//! Photos by class, for training and for validation.
//!
//! ```text
//! photos/train/CLASS/**   photos/val/CLASS/**      two halves as they lie there
//! photos/CLASS/**         a share of each class    the validation half is drawn: seeded, and stratified
//! ```
//!
//! In: a folder. Out: a [`Dataset`], or one error with every fault of the folders, a line each. Whether the photos
//! themselves can be read is for [`Dataset::check`]. Invariant: there are two classes or more, each has a photo for
//! training, a photo of the validation half has one of these classes, and the order of classes and photos, and the half
//! that is drawn, depend on names and the seed only.

mod check;
mod folder;
mod split;

use std::path::{Path, PathBuf};

pub use check::{Broken, Findings, Group, NEAR};

use crate::error::{Error, Result};
use folder::{Half, ONE_CLASS, scan, subfolders};

/// Names of the folder with photos for training, where both halves are there.
const TRAINING: &str = "train";
/// Names of the folder with photos for validation, the preferred first.
const VALIDATION: [&str; 3] = ["val", "valid", "validation"];
/// A folder beside these two that is not looked at.
const TEST: &str = "test";

/// A photo of a class.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Photo {
    /// The file.
    pub path: PathBuf,
    /// Place of its class in [`Dataset::classes`].
    pub class: usize,
}

/// Where photos for validation come from.
#[derive(Clone, PartialEq, Debug)]
pub enum Validation {
    /// A folder with the same classes.
    Folder(PathBuf),
    /// This share of each class, above 0 and below 1; at least one photo of it.
    Share(f64),
}

/// How a folder becomes a dataset.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct DatasetOptions {
    /// Where photos for validation come from; by default the folder `val` beside `train` if there is one, else a fifth.
    pub validation: Option<Validation>,
    /// Seed of the share that is drawn.
    pub seed: u64,
}

/// A fifth.
const SHARE: f64 = 0.2;

/// Photos by class.
#[derive(Clone, PartialEq, Debug)]
pub struct Dataset {
    /// The folder.
    pub root: PathBuf,
    /// Names of the classes, those of their folders, in order of their bytes.
    pub classes: Vec<String>,
    /// Photos for training, by class and path.
    pub training: Vec<Photo>,
    /// Photos for validation, by class and path.
    pub validation: Vec<Photo>,
    /// The folder that the photos for validation are from; none if they were drawn.
    pub validation_folder: Option<PathBuf>,
    /// What is odd and does no harm, a line each.
    pub notes: Vec<String>,
}

impl Dataset {
    /// Reads the folders below `root`. Files and folders with hidden names, and those that systems leave behind, are
    /// passed over; a link is followed once, and not back to the folder of all classes.
    ///
    /// # Errors
    /// [`Error::Dataset`] with every fault; [`Error::Usage`] for a share that is none.
    pub fn open(root: impl AsRef<Path>, options: &DatasetOptions) -> Result<Self> {
        let root = root.as_ref();
        if let Some(Validation::Share(share)) = options.validation
            && !(share > 0.0 && share < 1.0)
        {
            return Err(Error::usage("share of validation", "a number above 0 and below 1", share.to_string()));
        }
        let (training_root, beside) = halves(root)?;
        let found = match &options.validation {
            Some(Validation::Folder(folder)) => Some(folder.clone()),
            Some(Validation::Share(_)) => None,
            None => beside,
        };
        let mut training = scan(&training_root, found.as_deref())?;
        let mut faults = training.faults();
        faults.extend(training.misplaced(&VALIDATION));
        let validation = found.as_deref().map(|folder| scan(folder, None)).transpose()?;
        match &validation {
            Some(half) => faults.extend(half.differences(&training)),
            None => faults.extend(training.too_few_to_split()),
        }
        if !faults.is_empty() {
            return Err(Error::Dataset { path: root.to_owned(), faults });
        }
        let mut notes = std::mem::take(&mut training.notes);
        let classes: Vec<String> = training.classes.keys().cloned().collect();
        let (training, validation) = match validation {
            Some(half) => {
                notes.extend(half.notes.iter().cloned());
                (photos(&training, &classes), photos(&half, &classes))
            }
            None => {
                let share = if let Some(Validation::Share(share)) = options.validation { share } else { SHARE };
                split::drawn(&photos(&training, &classes), &training_root, share, options.seed)
            }
        };
        Ok(Self { root: root.to_owned(), classes, training, validation, validation_folder: found, notes })
    }

    /// The photos of a folder of classes, or of the validation half in it, none of them set apart: class names, and the
    /// photos in order.
    ///
    /// # Errors
    /// As [`Dataset::open`], but that one class is enough.
    pub fn labelled(root: impl AsRef<Path>) -> Result<(Vec<String>, Vec<Photo>)> {
        let root = root.as_ref();
        let (_, beside) = halves(root)?;
        let root = beside.as_deref().unwrap_or(root);
        let half = scan(root, None)?;
        let mut faults = half.faults();
        if half.classes.len() == 1 {
            faults.retain(|fault| !fault.starts_with(ONE_CLASS));
        }
        if !faults.is_empty() {
            return Err(Error::Dataset { path: root.to_owned(), faults });
        }
        let classes: Vec<String> = half.classes.keys().cloned().collect();
        Ok((classes.clone(), photos(&half, &classes)))
    }

    /// Photos of both halves, those for training first.
    pub fn photos(&self) -> impl Iterator<Item = &Photo> {
        self.training.iter().chain(&self.validation)
    }

    /// The path of a photo below the folder of the dataset, or as it is if it lies elsewhere.
    pub fn relative<'p>(&self, path: &'p Path) -> &'p Path {
        path.strip_prefix(&self.root).unwrap_or(path)
    }

    /// The number of photos of each class, for training and for validation.
    pub fn counts(&self) -> Vec<(usize, usize)> {
        let mut counts = vec![(0, 0); self.classes.len()];
        self.training.iter().for_each(|photo| counts[photo.class].0 += 1);
        self.validation.iter().for_each(|photo| counts[photo.class].1 += 1);
        counts
    }
}

/// The folder with the classes for training, and the one for validation if there is one. A folder `train` is a half
/// only if there is nothing beside it but other halves: else it is a class like the others.
fn halves(root: &Path) -> Result<(PathBuf, Option<PathBuf>)> {
    let names: Vec<_> = subfolders(root)?.into_iter().filter_map(|path| Some(path.file_name()?.to_owned())).collect();
    let half =
        |name: &std::ffi::OsStr| name == TRAINING || name == TEST || VALIDATION.iter().any(|known| name == *known);
    if !names.iter().any(|name| name == TRAINING) || !names.iter().all(|name| half(name)) {
        return Ok((root.to_owned(), None));
    }
    let validation = VALIDATION.into_iter().find(|known| names.iter().any(|name| name == known));
    Ok((root.join(TRAINING), validation.map(|name| root.join(name))))
}

/// The photos of a half, all of them of `classes`.
fn photos(half: &Half, classes: &[String]) -> Vec<Photo> {
    let of = |(class, name): (usize, &String)| {
        let paths = half.classes.get(name).into_iter().flatten();
        paths.map(move |path| Photo { path: path.clone(), class }).collect::<Vec<_>>()
    };
    classes.iter().enumerate().flat_map(of).collect()
}

#[cfg(test)]
mod tests;
