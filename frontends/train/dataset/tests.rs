//! Folders made for the test: what becomes of them, and what is said of those that are no datasets.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use tempfile::TempDir;

use super::*;

/// A BMP photo of waves that `seed` decides, at a number of pixels.
fn photo(seed: u32, side: usize) -> Vec<u8> {
    let value = |y: usize, x: usize| {
        let (y, x, seed) = (y as f64 / side as f64, x as f64 / side as f64, f64::from(seed));
        (127.0 + 60.0 * (x * (3.0 + seed * 1.7)).sin() + 60.0 * (y * (2.0 + seed * 2.3) + x * seed).cos()) as u8
    };
    let row = |y: usize| {
        let mut row: Vec<u8> = (0..side).flat_map(|x| [value(y, x); 3]).collect();
        row.resize((3 * side).next_multiple_of(4), 0);
        row
    };
    let pixels: Vec<u8> = (0..side).rev().flat_map(row).collect();
    let mut out = b"BM".to_vec();
    for word in [54 + pixels.len() as u32, 0, 54, 40, side as u32, side as u32, 24 << 16 | 1, 0, 0, 0, 0, 0, 0] {
        out.extend(word.to_le_bytes());
    }
    [out, pixels].concat()
}

/// A folder with these files.
fn folder(files: &[(&str, &[u8])]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        let path = folder.path().join(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, bytes).unwrap();
    }
    folder
}

fn open(folder: &Path) -> Dataset {
    Dataset::open(folder, &DatasetOptions::default()).unwrap()
}

/// Every fault of a folder.
fn faults(folder: &Path) -> String {
    match Dataset::open(folder, &DatasetOptions::default()) {
        Err(Error::Dataset { faults, .. }) => faults.join("\n").replace(&folder.display().to_string(), "."),
        other => panic!("{other:?}"),
    }
}

fn names(dataset: &Dataset, photos: &[Photo]) -> Vec<String> {
    photos.iter().map(|photo| dataset.relative(&photo.path).display().to_string()).collect()
}

#[test]
fn halves_are_taken_as_they_lie() {
    let p = photo(1, 8);
    let folder = folder(&[
        ("train/b/1.bmp", &p),
        ("train/a/deep/2.bmp", &p),
        ("train/a/1.bmp", &p),
        ("train/a/notes.txt", b"text"),
        ("train/a/.hidden.bmp", &p),
        ("train/.ipynb_checkpoints/1.bmp", &p),
        ("train/__MACOSX/1.bmp", &p),
        ("valid/a/9.bmp", &p),
        ("valid/b/9", &p),
        ("test/c/9.bmp", &p),
        (".DS_Store", b""),
    ]);
    let dataset = open(folder.path());
    assert_eq!(dataset.classes, ["a", "b"]);
    assert_eq!(names(&dataset, &dataset.training), ["train/a/1.bmp", "train/a/deep/2.bmp", "train/b/1.bmp"]);
    assert_eq!(names(&dataset, &dataset.validation), ["valid/a/9.bmp", "valid/b/9"]);
    assert_eq!((dataset.counts(), &dataset.notes[..]), (vec![(2, 1), (1, 1)], &[][..]));
    assert_eq!(dataset.validation_folder, Some(folder.path().join("valid")));
}

#[test]
fn train_may_be_a_class() {
    let p = photo(1, 8);
    let files: Vec<String> =
        ["train", "plane"].iter().flat_map(|c| (0..3).map(move |i| format!("{c}/{i}.bmp"))).collect();
    let folder = folder(&files.iter().map(|name| (&name[..], &p[..])).collect::<Vec<_>>());
    assert_eq!(open(folder.path()).classes, ["plane", "train"]);
}

#[test]
fn a_share_of_each_class_is_drawn_by_the_seed() {
    let p = photo(1, 8);
    let sizes = [("a", 2), ("b", 10), ("c", 33)];
    let files: Vec<String> = sizes.iter().flat_map(|(c, n)| (0..*n).map(move |i| format!("{c}/{i:02}.bmp"))).collect();
    let files: Vec<(&str, &[u8])> = files.iter().map(|name| (&name[..], &p[..])).collect();
    let (folder, moved) = (folder(&files), folder(&files));
    let draw = |folder: &TempDir, validation: Option<Validation>, seed: u64| {
        let dataset = Dataset::open(folder.path(), &DatasetOptions { validation, seed }).unwrap();
        assert_eq!(dataset.photos().count(), 45);
        assert!(dataset.training.iter().all(|photo| !dataset.validation.contains(photo)));
        (dataset.counts(), names(&dataset, &dataset.validation))
    };
    let (counts, drawn) = draw(&folder, None, 0);
    assert_eq!(counts, [(1, 1), (8, 2), (26, 7)]);
    assert_eq!(draw(&moved, None, 0).1, drawn);
    assert_ne!(draw(&folder, None, 1).1, drawn);
    assert_eq!(draw(&folder, Some(Validation::Share(0.01)), 0).0, [(1, 1), (9, 1), (32, 1)]);
    assert_eq!(draw(&folder, Some(Validation::Share(0.99)), 0).0, [(1, 1), (1, 9), (1, 32)]);
    for share in [0.0, 1.0, -1.0, f64::NAN] {
        let options = DatasetOptions { validation: Some(Validation::Share(share)), seed: 0 };
        assert_eq!(Dataset::open(folder.path(), &options).unwrap_err().exit_code(), 2);
    }
}

#[test]
fn folders_that_are_no_datasets_are_refused() {
    let p = photo(1, 8);
    assert_eq!(faults(folder(&[]).path()), "expected a folder of photos for each class in ., found none");
    assert_eq!(faults(folder(&[("1.bmp", &p)]).path()), "expected a folder of photos for each class in ., found none");
    assert_eq!(
        faults(folder(&[("a/1.bmp", &p), ("a/2.bmp", &p)]).path()),
        "expected two classes or more, found one: a"
    );
    assert_eq!(
        faults(folder(&[("a/1.bmp", &p), ("B/1.txt", b""), ("b/1.bmp", &p), ("b/2.bmp", &p)]).path()),
        "class B: expected photos, found none\nclasses B and b: expected names that differ by more than case\n\
         class a: expected two photos or more, one of them for validation, found 1"
    );
    assert_eq!(
        faults(
            folder(&[("train/a/1.bmp", &p), ("train/b/1.bmp", &p), ("val/a/1.bmp", &p), ("val/c/1.bmp", &p)]).path()
        ),
        "class c of ./val: expected one of a, b\nclass b: expected photos in ./val too, found none"
    );
    let odd = folder(&[("a/1.bmp", &p), ("a/2.bmp", &p), ("b\n/1.bmp", &p)]);
    fs::create_dir(odd.path().join(std::ffi::OsStr::from_bytes(b"c\xff"))).unwrap();
    assert!(faults(odd.path()).starts_with(
        "class \"b\\n\": expected a name without line breaks and control characters\nclass \"c\\xFF\": expected a name in UTF-8"
    ));
    let error = Dataset::open(odd.path().join("a/1.bmp"), &DatasetOptions::default()).unwrap_err().to_string();
    assert!(error.contains("expected a folder of photos: "), "{error}");
}

#[test]
fn a_half_among_classes_is_no_class() {
    let p = photo(1, 8);
    let names = ["a/1", "a/2", "b/1", "b/2", "val/a/1", "val/b/1"].map(|name| format!("{name}.bmp"));
    let folder = folder(&names.each_ref().map(|name| (&name[..], &p[..])));
    assert_eq!(
        faults(folder.path()),
        "folder val: expected it beside a folder train, or as --val, found beside classes"
    );
    let validation = Some(Validation::Folder(folder.path().join("val")));
    let dataset = Dataset::open(folder.path(), &DatasetOptions { validation, seed: 0 }).unwrap();
    assert_eq!((dataset.classes.len(), dataset.counts()), (2, vec![(2, 1), (2, 1)]));
}

#[test]
fn links_that_lead_back_lead_nowhere() {
    let p = photo(1, 8);
    let folder = folder(&[("a/1.bmp", &p), ("a/2.bmp", &p), ("b/1.bmp", &p), ("b/2.bmp", &p), ("3.bmp", &p)]);
    std::os::unix::fs::symlink("..", folder.path().join("a/loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("b/dangling")).unwrap();
    let dataset = open(folder.path());
    // By way of `a/loop` all photos would be of class a too.
    assert_eq!(dataset.counts().iter().map(|(t, v)| t + v).collect::<Vec<_>>(), [2, 2]);
    assert!(dataset.notes[0].ends_with("photos outside the class folders are left out: 1"), "{:?}", dataset.notes);
}

#[test]
fn broken_files_duplicates_and_leaks_are_found() {
    let [one, two, three, four] = [1, 4, 7, 10].map(|seed| photo(seed, 64));
    let smaller = photo(1, 48);
    let folder = folder(&[
        ("train/a/1.bmp", &one),
        ("train/a/2.bmp", &two),
        ("train/a/empty.jpg", b""),
        ("train/b/3.bmp", &three),
        ("train/b/cut.bmp", &three[..100]),
        ("train/b/two.bmp", &two),
        ("val/a/small.bmp", &smaller),
        ("val/b/4.bmp", &four),
    ]);
    let dataset = open(folder.path());
    let found = dataset.check(1, || ());
    let named = |photos: &[usize]| {
        let all: Vec<&Photo> = dataset.photos().collect();
        photos.iter().map(|at| dataset.relative(&all[*at].path).display().to_string()).collect::<Vec<_>>()
    };
    let broken: Vec<usize> = found.broken.iter().map(|broken| broken.photo).collect();
    assert_eq!(named(&broken), ["train/a/empty.jpg", "train/b/cut.bmp"]);
    assert_eq!(found.broken[0].message, "expected an image, found an empty file");
    let [equal] = &found.equal[..] else { panic!("{found:?}") };
    assert_eq!(
        (named(&equal.photos), equal.leak, equal.conflict),
        (vec!["train/a/2.bmp".into(), "train/b/two.bmp".into()], false, true)
    );
    let [near] = &found.near[..] else { panic!("{found:?}") };
    assert_eq!(
        (named(&near.photos), near.leak, near.conflict),
        (vec!["train/a/1.bmp".into(), "val/a/small.bmp".into()], true, false)
    );
    let count = std::sync::atomic::AtomicUsize::new(0);
    assert_eq!(dataset.check(3, || _ = count.fetch_add(1, std::sync::atomic::Ordering::Relaxed)), found);
    assert_eq!(count.into_inner(), 8);
}
