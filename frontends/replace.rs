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

use rustix::fs::{AtFlags, CWD, OFlags, linkat};

use crate::error::{Error, Result};

/// Writes `bytes` as the content of the file at `path`, which is replaced at once or not at all.
///
/// # Errors
/// [`Error::File`] if it cannot be written.
pub fn write_file(path: impl AsRef<Path>, bytes: &[u8]) -> Result<()> {
    let path = path.as_ref();
    write(path, bytes).map_err(|e| Error::file(path, format!("cannot write: {e}")))
}

fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    match std::fs::metadata(path) {
        Ok(found) if found.is_dir() => return Err(io::Error::from(io::ErrorKind::IsADirectory)),
        // A device or a pipe has a content of its own and cannot be replaced.
        Ok(found) if !found.is_file() => return OpenOptions::new().write(true).open(path)?.write_all(bytes),
        _ => {}
    }
    // A symbolic link stays one: the file it leads to is replaced.
    let path = std::fs::canonicalize(path).unwrap_or_else(|_| path.to_path_buf());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    match nameless(folder) {
        Ok(mut file) => {
            file.write_all(bytes)?;
            publish(&file, &path)
        }
        // Some file systems have no files without names.
        Err(_) => {
            let (mut file, temporary) = named(&path)?;
            let written = file.write_all(bytes).and_then(|()| std::fs::rename(&temporary, &path));
            written.inspect_err(|_| _ = std::fs::remove_file(&temporary))
        }
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
            let temporary = temporary(path);
            link(&temporary)?;
            std::fs::rename(&temporary, path).inspect_err(|_| _ = std::fs::remove_file(&temporary))
        }
        other => other,
    }
}

fn named(path: &Path) -> io::Result<(File, PathBuf)> {
    let temporary = temporary(path);
    Ok((OpenOptions::new().write(true).create_new(true).open(&temporary)?, temporary))
}

/// A name beside `path` that no other process uses.
fn temporary(path: &Path) -> PathBuf {
    let mut name = path.file_name().unwrap_or_default().to_os_string();
    name.push(format!(".{}.tmp", std::process::id()));
    path.with_file_name(name)
}
