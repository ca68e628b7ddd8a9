//! A file that appears whole or not at all.
//!
//! The bytes go into a file without a name, which is linked into its folder only when complete and on the disk: a process
//! that dies before leaves nothing behind. Where the name is taken, the new file gets a name of its own first, and is
//! renamed over the old one. File systems without nameless files (NFS, FAT) get a file under a name of its own from the
//! beginning; what a process that was killed leaves of these is removed by the next write into the folder.
//!
//! The mode and, as far as the system lets, the owner of a replaced file stay. Several files appear in the order in which they are
//! given, or, after an error, none of them; all are locked (`flock`) until the last one has its name.

mod draft;
mod target;
#[cfg(test)]
mod tests;

use std::fs::{File, OpenOptions, symlink_metadata};
use std::io::{self, ErrorKind, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::{AtFlags, CWD, FallocateFlags, FlockOperation, OFlags, RenameFlags};
use rustix::fs::{fallocate, flock, linkat, renameat_with};
use rustix::process::geteuid;

use crate::error::{Error, Result};
pub use draft::Draft;
use target::{Owner, Target, folder};

/// Beginning and end of temporary names. The name of the file is not in them: it may be as long as names can be.
const TEMPORARY: (&str, &str) = (".fornax-", ".tmp");
/// Age at which a temporary file that nobody has locked is one that was left behind.
const LEFT: Duration = Duration::from_secs(60);

/// Writes `bytes` as the content of the file at `path`, which is replaced at once or not at all.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    write_files(&[(path.as_ref(), &[bytes])])
}

/// Writes several files, each made of parts one after the other. None appears before all are complete; then they appear in this
/// order. Give a library last, after its weights: whoever opens it meanwhile then gets both old or both new.
///
/// # Errors
/// [`Error::File`] naming the first that cannot be written.
pub fn write_files(files: &[(&Path, &[&[u8]])]) -> Result<()> {
    let mut pending = Vec::with_capacity(files.len());
    for (path, parts) in files {
        pending.push((*path, written(path, parts)?));
    }
    publish(pending)
}

fn failed(path: &Path, error: &io::Error) -> Error {
    Error::file(path, format!("cannot write: {error}"))
}

/// A file that is complete but for its name.
fn written(path: &Path, parts: &[&[u8]]) -> Result<Pending> {
    Pending::write(path, parts).map_err(|e| failed(path, &e))
}

/// Gives files their names in this order, or after an error none of them.
fn publish(pending: Vec<(&Path, Pending)>) -> Result<()> {
    let (several, mut published) = (pending.len() > 1, Vec::with_capacity(pending.len()));
    for (path, pending) in pending {
        match pending.publish(several) {
            Ok(done) => published.push(done),
            Err(error) => {
                published.into_iter().rev().for_each(Published::undo);
                return Err(failed(path, &error));
            }
        }
    }
    Ok(())
}

/// Writes `bytes` into a new file at `path` that only this user may read, in a folder where others may make files too. A file or link
/// that this user has left there goes; one of another user is an error, and no link is followed.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn write_private_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    let create = || {
        let nofollow = OFlags::NOFOLLOW.bits() as i32;
        OpenOptions::new().write(true).create_new(true).custom_flags(nofollow).mode(0o600).open(path)
    };
    let created = || match create() {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {
            if symlink_metadata(path)?.uid() != geteuid().as_raw() {
                let found = "expected no file of this name, found one of another user";
                return Err(io::Error::new(ErrorKind::AlreadyExists, found));
            }
            std::fs::remove_file(path)?;
            create()
        }
        created => created,
    };
    let written = created().and_then(|mut file| file.write_all(bytes));
    written.map_err(|e| Error::file(path, format!("cannot write: {e}")))
}

/// A complete file that nobody sees yet; it is gone if it is dropped.
enum Pending {
    /// Written in place: a device or a pipe.
    Done,
    Nameless(File, PathBuf),
    Named(File, Temporary, PathBuf),
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
        let (path, replaced) = match target::find(path)? {
            Target::Stream => {
                let mut stream = OpenOptions::new().write(true).open(path)?;
                parts.iter().try_for_each(|part| stream.write_all(part))?;
                return Ok(Self::Done);
            }
            Target::File(path, replaced) => (path, replaced),
        };
        // What replaces a file is seen by nobody else before it has that one's mode.
        let mode = if replaced.is_some() { 0o600 } else { 0o666 };
        // Some file systems have no files without names, and without /proc there is no way to name one.
        let nameless = if Path::new("/proc/self/fd").exists() { nameless(folder(&path), mode).ok() } else { None };
        let (mut file, temporary) = match nameless {
            Some(file) => (file, None),
            None => named(folder(&path), mode).map(|(file, temporary)| (file, Some(temporary)))?,
        };
        complete(&mut file, parts, replaced.as_ref())?;
        Ok(match temporary {
            None => Self::Nameless(file, path),
            Some(temporary) => Self::Named(file, temporary, path),
        })
    }

    /// The file; none of a stream.
    fn file(&self) -> Option<&File> {
        match self {
            Self::Done => None,
            Self::Nameless(file, _) | Self::Named(file, ..) => Some(file),
        }
    }

    /// Gives the file its name; `keep` what was there before, to be able to undo it.
    fn publish(self, keep: bool) -> io::Result<Published> {
        let (file, temporary, path) = match self {
            Self::Done => return Ok(Published { lock: None, path: PathBuf::new(), before: Before::Lost }),
            Self::Named(file, temporary, path) => (file, temporary, path),
            Self::Nameless(file, path) => {
                let source = format!("/proc/self/fd/{}", file.as_raw_fd());
                let link = |to: &Path| linkat(CWD, &source, CWD, to, AtFlags::SYMLINK_FOLLOW).map_err(io::Error::from);
                match link(&path) {
                    Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                    linked => {
                        return linked.map(|()| Published { lock: Some(file), path, before: Before::Nothing });
                    }
                }
                let ((), temporary) = beside(folder(&path), link)?;
                (file, temporary, path)
            }
        };
        let before = rename(temporary, &path, keep)?;
        Ok(Published { lock: Some(file), path, before })
    }
}

/// A file that has its name.
struct Published {
    /// Locked while it is open.
    lock: Option<File>,
    path: PathBuf,
    before: Before,
}

/// What a name led to before.
enum Before {
    Nothing,
    /// Another file, kept under a name of its own.
    Kept(Temporary),
    /// Another file that is gone.
    Lost,
}

impl Published {
    /// Puts back what was there before, as far as it is known.
    fn undo(self) {
        // This happens on the way out of an error, which is the one to report.
        match self.before {
            Before::Nothing => _ = std::fs::remove_file(&self.path),
            Before::Kept(temporary) => _ = std::fs::rename(&temporary.0, &self.path),
            Before::Lost => {}
        }
        drop(self.lock);
    }
}

/// Renames the file over what is at `path`, which takes its name instead if it is to be kept and the file system can exchange names.
fn rename(temporary: Temporary, path: &Path, keep: bool) -> io::Result<Before> {
    let found = symlink_metadata(path);
    // Names of folders can be exchanged too.
    let file = found.as_ref().is_ok_and(|found| found.is_file());
    if keep && file && renameat_with(CWD, &temporary.0, CWD, path, RenameFlags::EXCHANGE).is_ok() {
        return Ok(Before::Kept(temporary));
    }
    std::fs::rename(&temporary.0, path)?;
    Ok(if found.is_err() { Before::Nothing } else { Before::Lost })
}

/// Fills the file, has it on the disk, and locks it.
fn complete(file: &mut File, parts: &[&[u8]], replaced: Option<&Owner>) -> io::Result<()> {
    reserve(file, parts.iter().map(|part| part.len() as u64).sum())?;
    parts.iter().try_for_each(|part| file.write_all(part))?;
    if let Some(owner) = replaced {
        owner.take_over(file)?;
    }
    sync(file)?;
    // Some file systems have no locks: those who open the file then do without.
    _ = flock(&*file, FlockOperation::NonBlockingLockExclusive);
    Ok(())
}

/// Waits until the file is on the disk, but for file systems that have nothing to wait for.
fn sync(file: &File) -> io::Result<()> {
    file.sync_data().or_else(|e| if e.kind() == ErrorKind::InvalidInput { Ok(()) } else { Err(e) })
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

fn nameless(folder: &Path, mode: u32) -> io::Result<File> {
    let flags = OFlags::TMPFILE.bits() as i32;
    OpenOptions::new().write(true).custom_flags(flags).mode(mode).open(folder)
}

fn named(folder: &Path, mode: u32) -> io::Result<(File, Temporary)> {
    sweep(folder);
    beside(folder, |temporary| {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(temporary)?;
        _ = flock(&file, FlockOperation::NonBlockingLockExclusive);
        Ok(file)
    })
}

/// Makes a file under a name in `folder` that is free: names that others have left behind are passed over.
fn beside<T>(folder: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(T, Temporary)> {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    loop {
        let (begin, end) = TEMPORARY;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let temporary = Temporary(folder.join(format!("{begin}{}-{number}{end}", std::process::id())));
        match make(&temporary.0) {
            Ok(made) => return Ok((made, temporary)),
            // Not ours to remove.
            Err(error) if error.kind() == ErrorKind::AlreadyExists => std::mem::forget(temporary),
            Err(error) => {
                std::mem::forget(temporary);
                return Err(error);
            }
        }
    }
}

/// Removes the temporary files of processes that were killed: old ones that nobody has locked.
fn sweep(folder: &Path) {
    let (begin, end) = TEMPORARY;
    let Ok(entries) = std::fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let name = name.as_encoded_bytes();
        if !name.starts_with(begin.as_bytes()) || !name.ends_with(end.as_bytes()) {
            continue;
        }
        let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32;
        let Ok(file) = OpenOptions::new().read(true).custom_flags(flags).open(entry.path()) else { continue };
        let old = file.metadata().and_then(|found| found.modified());
        let old = old.is_ok_and(|written| written.elapsed().is_ok_and(|age| age >= LEFT));
        if old && flock(&file, FlockOperation::NonBlockingLockExclusive).is_ok() {
            // Whoever may not remove it leaves it.
            _ = std::fs::remove_file(entry.path());
        }
    }
}
