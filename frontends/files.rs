//! A file that appears whole or not at all.
//!
//! The bytes go into a file without a name, which is linked into its folder only when complete: a process that dies
//! before leaves nothing behind. Where the name is taken, the new file gets a name of its own first, and is renamed
//! over the old one.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::fs::{AtFlags, CWD, FallocateFlags, OFlags, fallocate, linkat};

use crate::error::{Error, Result};

/// Writes `bytes` as the content of the file at `path`, which is replaced at once or not at all.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_files(&[(path.as_ref(), &[bytes])])
}

/// Writes several files, each made of parts one after the other. None appears before all are complete.
///
/// # Errors
/// [`Error::File`] naming the first that cannot be written.
pub fn write_files(files: &[(&Path, &[&[u8]])]) -> Result<()> {
    let failed = |path: &Path, e: io::Error| Error::file(path, format!("cannot write: {e}"));
    let mut pending = Vec::with_capacity(files.len());
    for (path, parts) in files {
        pending.push((path, Pending::write(path, parts).map_err(|e| failed(path, e))?));
    }
    pending.into_iter().try_for_each(|(path, pending)| pending.publish().map_err(|e| failed(path, e)))
}

/// A complete file that nobody sees yet; it is gone if it is dropped.
enum Pending {
    /// Written in place: a device or a pipe.
    Done,
    Nameless(File, PathBuf),
    Named(Temporary, PathBuf),
}

/// A file under a name of its own, removed when dropped.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        // After a rename there is nothing under this name.
        _ = std::fs::remove_file(&self.0);
    }
}

impl Pending {
    fn write(path: &Path, parts: &[&[u8]]) -> io::Result<Self> {
        let fill = |file: &mut File| parts.iter().try_for_each(|part| file.write_all(part));
        let bytes = parts.iter().map(|part| part.len() as u64).sum();
        match std::fs::metadata(path) {
            Ok(found) if found.is_dir() => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
            // A device or a pipe has a content of its own and cannot be replaced.
            Ok(found) if !found.is_file() => {
                fill(&mut OpenOptions::new().write(true).open(path)?)?;
                return Ok(Self::Done);
            }
            _ => {}
        }
        // A symbolic link stays one: the file it leads to is replaced.
        let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
        let folder = match path.parent() {
            Some(folder) if !folder.as_os_str().is_empty() => folder,
            _ => Path::new("."),
        };
        // Some file systems have no files without names, and without /proc there is no way to name one.
        let file = if Path::new("/proc/self/fd").exists() { nameless(folder).ok() } else { None };
        let (mut file, temporary) = match file {
            Some(file) => (file, None),
            None => named(&path).map(|(file, temporary)| (file, Some(temporary)))?,
        };
        reserve(&file, bytes)?;
        fill(&mut file)?;
        Ok(match temporary {
            None => Self::Nameless(file, path),
            Some(temporary) => Self::Named(temporary, path),
        })
    }

    fn publish(self) -> io::Result<()> {
        match self {
            Self::Done => Ok(()),
            Self::Nameless(file, path) => publish(&file, &path),
            Self::Named(temporary, path) => std::fs::rename(&temporary.0, path),
        }
    }
}

/// Takes the room on the disk at once: a full one is known before anything is written, and a large file is written faster.
fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    const LARGE: u64 = 1 << 20;
    if bytes < LARGE {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::empty(), 0, bytes) {
        Err(error) if error == rustix::io::Errno::NOSPC => Err(error.into()),
        // Not every file system can.
        _ => Ok(()),
    }
}

fn nameless(folder: &Path) -> io::Result<File> {
    let flags = OFlags::TMPFILE.bits() as i32;
    OpenOptions::new().write(true).custom_flags(flags).mode(0o666).open(folder)
}

/// Gives a nameless file its name.
fn publish(file: &File, path: &Path) -> io::Result<()> {
    let source = format!("/proc/self/fd/{}", file.as_raw_fd());
    let link = |target: &Path| linkat(CWD, &source, CWD, target, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
    match link(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
            let ((), temporary) = beside(path, link)?;
            std::fs::rename(&temporary.0, path)
        }
        other => other,
    }
}

fn named(path: &Path) -> io::Result<(File, Temporary)> {
    beside(path, |temporary| OpenOptions::new().write(true).create_new(true).open(temporary))
}

/// Makes a file under a name next to `path` that is free: names that others have left behind are passed over.
fn beside<T>(path: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, Temporary)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(format!(".{}-{}.tmp", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        let temporary = Temporary(path.with_file_name(name));
        match make(&temporary.0) {
            Ok(made) => return Ok((made, temporary)),
            // Not ours to remove.
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => std::mem::forget(temporary),
            Err(error) => return Err(error),
        }
    }
}
