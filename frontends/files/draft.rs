//! A file that is begun before all that goes into it is known.
//!
//! In: a path, and bytes that are most of what it will hold. Out: the file, written as [`super::write_files`] writes it. The bytes are on their way
//! to the disk while the caller computes what differs; only that is written then. Until the end nobody sees anything, and a draft
//! that is dropped leaves nothing behind.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::thread::JoinHandle;

use bytes::Bytes;

use super::target::{self, Target};
use super::{Pending, publish, sync, written};
use crate::error::Result;

/// Bytes that are compared at once.
const CHUNK: usize = 1 << 16;

/// A file under way.
#[derive(Debug)]
pub struct Draft {
    path: PathBuf,
    bytes: Bytes,
    /// None where it cannot be written ahead: into a device or pipe, or where the system gives no thread.
    worker: Option<JoinHandle<io::Result<Pending>>>,
}

impl Draft {
    /// Begins the file at `path` as `bytes`.
    pub fn begin(path: impl AsRef<Path>, bytes: Bytes) -> Self {
        let (path, own) = (path.as_ref().to_path_buf(), bytes.clone());
        let to = path.clone();
        let ahead = matches!(target::find(&path), Ok(Target::File(..)));
        let work = move || Pending::write(&to, &[&own]);
        let worker = ahead.then(|| std::thread::Builder::new().name("draft".into()).spawn(work).ok()).flatten();
        Self { path, bytes, worker }
    }

    /// [`super::write_files`]; of the file that this was begun for only what differs is still to be written.
    ///
    /// # Errors
    /// As there.
    pub fn write_files(mut self, files: &[(&Path, &[&[u8]])]) -> Result<()> {
        let mut pending = Vec::with_capacity(files.len());
        for (path, parts) in files {
            let begun = if **path == *self.path { self.finish(parts) } else { None };
            pending.push((
                *path,
                begun.map_or_else(|| written(path, parts), |begun| begun.map_err(|e| super::failed(path, &e)))?,
            ));
        }
        publish(pending)
    }

    /// The file with `parts` as its content; none if it was not written ahead.
    fn finish(&mut self, parts: &[&[u8]]) -> Option<io::Result<Pending>> {
        let worker = self.worker.take()?;
        // Found while the rest is still on its way to the disk.
        let differing = differing(&self.bytes, parts);
        let pending = worker.join().ok()?.ok()?;
        let length: u64 = parts.iter().map(|part| part.len() as u64).sum();
        let complete = |file: &File| {
            let same = length == self.bytes.len() as u64;
            for (at, bytes) in &differing {
                file.write_all_at(bytes, *at as u64)?;
            }
            if !same {
                file.set_len(length)?;
            }
            if same && differing.is_empty() { Ok(()) } else { sync(file) }
        };
        let completed = complete(pending.file()?);
        Some(completed.map(|()| pending))
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What has a name until then loses it.
        if let Some(worker) = self.worker.take() {
            _ = worker.join();
        }
    }
}

/// Where `parts`, one after the other, differ from `before`: offsets and bytes.
fn differing<'a>(before: &[u8], parts: &[&'a [u8]]) -> Vec<(usize, &'a [u8])> {
    let (mut found, mut at) = (Vec::new(), 0);
    for part in parts {
        let mut run: Option<Range<usize>> = None;
        for chunk in (0..part.len()).step_by(CHUNK) {
            let end = (chunk + CHUNK).min(part.len());
            if before.get(at + chunk..at + end) == Some(&part[chunk..end]) {
                found.extend(run.take().map(|run| (at + run.start, &part[run])));
            } else {
                run = Some(run.map_or(chunk, |run| run.start)..end);
            }
        }
        found.extend(run.map(|run| (at + run.start, &part[run])));
        at += part.len();
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn content(length: usize, seed: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 31 + at / 977 + seed) as u8).collect()
    }

    #[test]
    fn a_draft_becomes_what_is_written_whatever_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let long = content(5 * CHUNK + 77, 0);
        let mut changed = long.clone();
        changed[3 * CHUNK + 5] ^= 1;
        changed[4 * CHUNK..].fill(9);
        for (number, (before, after)) in [
            (&long, &changed),
            (&long, &long),
            (&long, &content(10, 3)),
            (&content(10, 3), &long),
            (&Vec::new(), &long),
            (&long, &Vec::new()),
        ]
        .into_iter()
        .enumerate()
        {
            let (path, beside) = (folder.path().join(format!("{number}")), folder.path().join(format!("{number}.h")));
            let draft = Draft::begin(&path, Bytes::from(before.clone()));
            let (first, second) = after.split_at(after.len() / 3);
            draft.write_files(&[(&beside, &[b"beside"]), (&path, &[first, second])]).unwrap();
            assert!(std::fs::read(&path).unwrap() == *after, "{number}");
            assert_eq!(std::fs::read(&beside).unwrap(), b"beside");
        }
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 12, "nothing else is left");
    }

    #[test]
    fn a_draft_that_is_dropped_was_never_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("file");
        std::fs::write(&path, b"old").unwrap();
        drop(Draft::begin(&path, Bytes::from(content(3 * CHUNK, 1))));
        assert_eq!(std::fs::read(&path).unwrap(), b"old");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        // Where there is no folder, the error is that of writing.
        let nowhere = folder.path().join("none/file");
        let error = Draft::begin(&nowhere, Bytes::from_static(b"x")).write_files(&[(&nowhere, &[b"x"])]);
        assert!(error.unwrap_err().to_string().contains("none/file"));
    }

    #[test]
    fn only_what_differs_is_written() {
        let before = content(4 * CHUNK, 0);
        let mut after = before.clone();
        after[CHUNK + 1] ^= 1;
        after[2 * CHUNK] ^= 1;
        let places = |parts: &[&[u8]]| -> Vec<(usize, usize)> {
            differing(&before, parts).into_iter().map(|(at, bytes)| (at, bytes.len())).collect()
        };
        assert_eq!(places(&[&after]), [(CHUNK, 2 * CHUNK)]);
        assert_eq!(places(&[&after[..10], &after[10..]]), [(10, 2 * CHUNK)], "chunks are of a part");
        assert!(places(&[&before]).is_empty());
    }
}
