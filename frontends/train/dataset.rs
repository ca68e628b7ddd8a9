//! Photos in folders: one folder for each class, and which photos are kept for validation.
//!
//! In: a folder. Out: a [`Dataset`]: class names in order, and every photo with its class, in order of its path. Either the folder holds
//! `train` and `val`, each with the classes, or it holds the classes, and a part of each is drawn for validation. Nothing is
//! decoded here. Names that begin with a dot, and what systems leave behind (`Thumbs.db`, `__MACOSX`), are neither classes nor photos.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::random::{Draw, Purpose};
use crate::error::{Error, Result};

/// Names of what systems leave behind; those that begin with a dot are left out too.
const LITTER: &[&str] = &["Thumbs.db", "desktop.ini", "__MACOSX", "@eaDir"];
/// How deep folders within a class may lie.
const DEPTH: usize = 16;

/// A photo and what it shows.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct Photo {
    /// The file.
    pub path: PathBuf,
    /// Its class, by number.
    pub class: usize,
}

/// Which photos are kept for validation.
#[derive(Clone, PartialEq, Debug)]
pub enum Validation {
    /// Those of this folder, in folders of the same classes.
    Folder(PathBuf),
    /// This part of each class, at least one photo, drawn by a seed; where the folder has a `val` of its own, that instead.
    Share(f64),
}

/// Photos for training and for validation.
#[derive(Clone, PartialEq, Debug)]
pub struct Dataset {
    /// Names of the classes, ascending.
    pub classes: Vec<String>,
    /// Photos to train on.
    pub train: Vec<Photo>,
    /// Photos to validate on.
    pub val: Vec<Photo>,
}

impl Dataset {
    /// Finds the photos below `root`.
    ///
    /// # Errors
    /// [`Error::Input`] or [`Error::File`] in one line: no class, one class, a class without photos, photos outside of classes, names that
    /// are no text or equal but for their case, classes of the validation that the training lacks.
    pub fn folder(root: &Path, validation: &Validation, seed: u64) -> Result<Self> {
        let (own_train, own_val) = (root.join("train"), ["val", "valid", "validation"].map(|name| root.join(name)));
        let own_val = own_val.into_iter().find(|folder| folder.is_dir());
        let (train, val) = match (own_train.is_dir(), own_val, validation) {
            (true, _, Validation::Folder(val)) => (own_train, Some(val.clone())),
            (true, own, Validation::Share(_)) => (own_train, own),
            (false, _, Validation::Folder(val)) => (root.to_path_buf(), Some(val.clone())),
            (false, _, Validation::Share(_)) => (root.to_path_buf(), None),
        };
        let found = classes_of(&train)?;
        if found.len() < 2 {
            let names: Vec<&str> = found.keys().map(String::as_str).collect();
            let found = if names.is_empty() { "none".into() } else { format!("only {}", names.join(", ")) };
            let expected = "a folder of photos for each of at least two classes";
            return Err(Error::input(format!("{}", train.display()), expected, found));
        }
        let classes: Vec<String> = found.keys().cloned().collect();
        let by_class: Vec<Vec<PathBuf>> = found.into_values().collect();
        match (val, validation) {
            (Some(folder), _) => {
                let val = numbered(&classes, classes_of(&folder)?, &folder)?;
                Ok(Self { train: photos(by_class), val, classes })
            }
            (None, Validation::Share(share)) => Self::drawn(classes, by_class, *share, seed),
            (None, Validation::Folder(folder)) => Err(Error::file(folder, "expected a folder")),
        }
    }

    /// Draws a share of each class for validation.
    fn drawn(classes: Vec<String>, by_class: Vec<Vec<PathBuf>>, share: f64, seed: u64) -> Result<Self> {
        if !(share > 0.0 && share < 1.0) {
            return Err(Error::usage("--val", "a folder, or a share between 0 and 1", share.to_string()));
        }
        let (mut train, mut val) = (Vec::new(), Vec::new());
        for (class, mut paths) in by_class.into_iter().enumerate() {
            if paths.len() < 2 {
                let expected = "at least two photos, of which one is kept for validation";
                return Err(Error::input(format!("class {}", classes[class]), expected, paths.len().to_string()));
            }
            Draw::new(seed, Purpose::Split, 0, class as u64).shuffle(&mut paths);
            let kept = ((paths.len() as f64 * share).round() as usize).clamp(1, paths.len() - 1);
            let rest = paths.split_off(kept);
            val.push(paths);
            train.push(rest);
        }
        Ok(Self { classes, train: photos(train), val: photos(val) })
    }

    /// The photos of a folder of classes, or of the `val` in it, none of them set apart: class names, and the photos in order.
    ///
    /// # Errors
    /// As [`Dataset::folder`]; one class is enough.
    pub fn labelled(root: &Path) -> Result<(Vec<String>, Vec<Photo>)> {
        let val = root.join("val");
        let root = if root.join("train").is_dir() && val.is_dir() { &val } else { root };
        let found = classes_of(root)?;
        if found.is_empty() {
            return Err(Error::input(format!("{}", root.display()), "a folder of photos for each class", "none"));
        }
        let (classes, by_class): (Vec<String>, Vec<Vec<PathBuf>>) = found.into_iter().unzip();
        Ok((classes, photos(by_class)))
    }

    /// Number of photos for training of each class.
    pub fn counts(&self) -> Vec<usize> {
        let mut counts = vec![0; self.classes.len()];
        self.train.iter().for_each(|photo| counts[photo.class] += 1);
        counts
    }
}

/// Photos of each class, in order of their paths.
fn photos(by_class: Vec<Vec<PathBuf>>) -> Vec<Photo> {
    let numbered = by_class.into_iter().enumerate();
    let mut photos: Vec<Photo> =
        numbered.flat_map(|(class, paths)| paths.into_iter().map(move |path| Photo { path, class })).collect();
    photos.sort();
    photos
}

/// The photos of a validation folder, by the numbers of the classes of the training.
fn numbered(classes: &[String], found: BTreeMap<String, Vec<PathBuf>>, folder: &Path) -> Result<Vec<Photo>> {
    let mut by_class = vec![Vec::new(); classes.len()];
    for (name, paths) in found {
        let class = classes.iter().position(|class| *class == name).ok_or_else(|| {
            let expected = format!("classes of the training ({})", classes.join(", "));
            Error::input(format!("{}", folder.display()), expected, name)
        })?;
        by_class[class] = paths;
    }
    let photos = photos(by_class);
    if photos.is_empty() {
        return Err(Error::input(format!("{}", folder.display()), "at least one photo", "none"));
    }
    Ok(photos)
}

/// Class names and the photos of each, in order.
fn classes_of(root: &Path) -> Result<BTreeMap<String, Vec<PathBuf>>> {
    let (mut classes, mut stray) = (BTreeMap::new(), Vec::new());
    for (name, path) in entries(root)? {
        if path.is_dir() {
            let mut paths = Vec::new();
            collect(&path, &mut paths, &mut BTreeSet::new(), 0)?;
            paths.sort();
            if paths.is_empty() {
                return Err(Error::input(format!("class {name} ({})", path.display()), "at least one photo", "none"));
            }
            classes.insert(name, paths);
        } else {
            stray.push(path);
        }
    }
    if let Some(first) = stray.first() {
        let found = format!("{} files beside them, the first {}", stray.len(), first.display());
        return Err(Error::input(format!("{}", root.display()), "photos in a folder for each class", found));
    }
    let mut lower = BTreeMap::new();
    for name in classes.keys() {
        if let Some(other) = lower.insert(name.to_lowercase(), name) {
            let found = format!("{other} and {name}");
            return Err(Error::input("class names", "names that differ in more than their case", found));
        }
    }
    Ok(classes)
}

/// Names and paths in a folder, without what systems leave there.
fn entries(folder: &Path) -> Result<Vec<(String, PathBuf)>> {
    let failed = |e: std::io::Error| Error::file(folder, format!("expected a folder that can be read: {e}"));
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let name = path.file_name().unwrap_or_default();
        let Some(name) = name.to_str().filter(|name| !name.chars().any(char::is_control)) else {
            return Err(Error::file(&path, "expected a name in UTF-8 without control characters"));
        };
        if !name.starts_with('.') && !LITTER.contains(&name) {
            found.push((name.to_string(), path));
        }
    }
    found.sort();
    Ok(found)
}

/// The files of a class, those in folders within it too; `above` are the folders that lead here, so that a link to one of them ends.
fn collect(folder: &Path, out: &mut Vec<PathBuf>, above: &mut BTreeSet<PathBuf>, depth: usize) -> Result<()> {
    let real = folder.canonicalize().map_err(|e| Error::file(folder, format!("expected a folder: {e}")))?;
    if depth > DEPTH || !above.insert(real.clone()) {
        return Err(Error::file(
            folder,
            format!("expected folders at most {DEPTH} deep, without links to those above"),
        ));
    }
    for (_, path) in entries(folder)? {
        if path.is_dir() {
            collect(&path, out, above, depth + 1)?;
        } else {
            out.push(path);
        }
    }
    above.remove(&real);
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;

    /// A folder with empty files.
    fn tree(files: &[&str]) -> tempfile::TempDir {
        let root = tempfile::tempdir().unwrap();
        for file in files {
            let path = root.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        root
    }

    fn found(root: &Path, validation: &Validation) -> Result<(Vec<String>, Vec<String>, Vec<String>), String> {
        let set =
            Dataset::folder(root, validation, 0).map_err(|e| e.to_string().replace(root.to_str().unwrap(), "ROOT"))?;
        let line = |photo: &Photo| format!("{} {}", photo.path.strip_prefix(root).unwrap().display(), photo.class);
        Ok((set.classes, set.train.iter().map(line).collect(), set.val.iter().map(line).collect()))
    }

    #[test]
    fn train_and_val_are_taken_as_they_are() {
        let root = tree(&[
            "train/b/1.jpg",
            "train/a/x/2.jpg",
            "train/a/1.jpg",
            "val/a/9.jpg",
            "train/.DS_Store",
            "train/a/Thumbs.db",
        ]);
        let (classes, train, val) = found(root.path(), &Validation::Share(0.2)).unwrap();
        assert_eq!(classes, ["a", "b"]);
        assert_eq!(train, ["train/a/1.jpg 0", "train/a/x/2.jpg 0", "train/b/1.jpg 1"]);
        assert_eq!(val, ["val/a/9.jpg 0"]);
        let own = Dataset::folder(&root.path().join("train"), &Validation::Folder(root.path().join("val")), 0).unwrap();
        assert_eq!((own.val.len(), own.counts()), (1, vec![2, 1]));
    }

    #[test]
    fn a_part_of_each_class_is_drawn() {
        let files: Vec<String> = (0..15).map(|i| format!("{}/{i}.jpg", if i < 5 { "few" } else { "many" })).collect();
        let root = tree(&files.iter().map(String::as_str).collect::<Vec<_>>());
        let drawn = |seed| Dataset::folder(root.path(), &Validation::Share(0.2), seed).unwrap();
        let set = drawn(1);
        assert_eq!((set.train.len(), set.val.len(), set.counts()), (12, 3, vec![4, 8]));
        assert!(set.val.iter().all(|photo| !set.train.contains(photo)));
        assert_eq!(set, drawn(1));
        assert!((0..9).any(|seed| drawn(seed) != set));
    }

    #[test]
    fn what_is_wrong_is_said_in_a_line() {
        let share = Validation::Share(0.2);
        let wrong = |files: &[&str]| found(tree(files).path(), &share).unwrap_err();
        for (files, expected) in [
            (&[".git/x"][..], "expected a folder of photos for each of at least two classes, found none"),
            (&["a/1"], "at least two classes, found only a"),
            (&["a/1", "b/.hidden"], "class b (ROOT/b): expected at least one photo, found none"),
            (
                &["a/1", "a/2", "b/1"],
                "class b: expected at least two photos, of which one is kept for validation, found 1",
            ),
            (
                &["a/1", "b/1", "p.jpg"],
                "photos in a folder for each class, found 1 files beside them, the first ROOT/p.jpg",
            ),
            (&["Cat/1", "cat/1"], "names that differ in more than their case, found Cat and cat"),
            (&["train/a/1", "train/b/1", "val/c/1"], "ROOT/val: expected classes of the training (a, b), found c"),
            (&["train/a/1", "train/b/1", "val/.x"], "ROOT/val: expected at least one photo, found none"),
        ] {
            let message = wrong(files);
            assert!(message.contains(expected), "{message}");
        }
        let root = tree(&["a/1", "a/2", "b/1", "b/2"]);
        for share in [0.0, 1.0, f64::NAN, -1.0] {
            assert!(found(root.path(), &Validation::Share(share)).unwrap_err().contains("a share between 0 and 1"));
        }
        assert!(found(&root.path().join("none"), &share).unwrap_err().contains("expected a folder that can be read"));
    }

    #[test]
    fn links_in_a_circle_end() {
        let root = tree(&["a/1", "b/1"]);
        std::os::unix::fs::symlink(root.path().join("a"), root.path().join("a/again")).unwrap();
        let message = found(root.path(), &Validation::Share(0.5)).unwrap_err();
        assert!(message.contains("without links to those above"), "{message}");
    }

    #[test]
    fn names_that_are_no_text_are_refused() {
        use std::os::unix::ffi::OsStrExt;
        let root = tree(&["a/1", "b/1"]);
        fs::create_dir(root.path().join(std::ffi::OsStr::from_bytes(b"c\xff"))).unwrap();
        assert!(found(root.path(), &Validation::Share(0.5)).unwrap_err().contains("a name in UTF-8"));
        let root = tree(&["a/1", "b\nc/1"]);
        assert!(found(root.path(), &Validation::Share(0.5)).unwrap_err().contains("without control characters"));
    }
}
