//! Where a path leads, and what a new file there takes over from the one that it replaces.
//!
//! In: the path that a file is to be written to. Out: a path whose last part is no link, or a stream to write into. A link stays a link:
//! the file it leads to is written, also one that is not there yet. Links that others have left in a folder that all
//! may write to are refused, as Linux does with `fs.protected_symlinks`.

use std::fs::{File, Metadata, Permissions, metadata, symlink_metadata};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use rustix::process::geteuid;

/// Links to follow before they count as a loop.
const LINKS: usize = 40;
/// A folder in which only owners may replace files, and everybody may make them.
const SHARED: u32 = 0o1002;

/// What a path leads to.
pub enum Target {
    /// A device or a pipe, which has a content of its own and cannot be replaced.
    Stream,
    /// A file to make or to replace, at a path whose last part is no link.
    File(PathBuf, Option<Owner>),
}

/// Who may do what with a file.
pub struct Owner {
    user: u32,
    group: u32,
    mode: u32,
}

/// What `path` leads to.
///
/// # Errors
/// The system's; for a folder; for a link that someone else has planted.
pub fn find(path: &Path) -> io::Result<Target> {
    let found = match metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Target::File(follow(path)?, None)),
        Err(error) => return Err(error),
    };
    let end = follow(path)?;
    if found.is_dir() {
        return Err(ErrorKind::IsADirectory.into());
    }
    if !found.is_file() {
        return Ok(Target::Stream);
    }
    let same = |other: &Path| metadata(other).is_ok_and(|other| identity(&other) == identity(&found));
    // The names behind the links of /proc are not those of files that were renamed since.
    let end = if same(&end) { end } else { std::fs::canonicalize(path)? };
    if !same(&end) {
        return Err(io::Error::other("the file was replaced meanwhile"));
    }
    Ok(Target::File(end, Some(Owner { user: found.uid(), group: found.gid(), mode: found.mode() & 0o777 })))
}

fn identity(found: &Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// The folder of a file.
pub fn folder(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// Follows the links that `path` ends in, to what is no link or not there.
fn follow(path: &Path) -> io::Result<PathBuf> {
    let mut path = path.to_path_buf();
    for _ in 0..LINKS {
        let link = match symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => found,
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => return Ok(path),
        };
        refuse_planted(&path, &link)?;
        let to = std::fs::read_link(&path)?;
        path = folder(&path).join(to);
    }
    Err(io::Error::other(format!("expected at most {LINKS} symbolic links, found more")))
}

fn refuse_planted(path: &Path, link: &Metadata) -> io::Result<()> {
    let folder = metadata(folder(path))?;
    let known = [geteuid().as_raw(), folder.uid()].contains(&link.uid());
    if known || folder.mode() & SHARED != SHARED {
        return Ok(());
    }
    let found = format!("expected no link of another user in a shared folder, found {}", path.display());
    Err(io::Error::new(ErrorKind::PermissionDenied, found))
}

impl Owner {
    /// Gives `file` to this owner and group, as far as the system lets, and restricts it to this mode.
    pub fn take_over(&self, file: &File) -> io::Result<()> {
        let own = file.metadata()?;
        let mut mode = self.mode;
        if (own.uid(), own.gid()) != (self.user, self.group) {
            // Only root gives files away; others may keep a group that they are in.
            let group = own.gid() == self.group;
            let kept = fchown(file, Some(self.user), Some(self.group)).is_ok()
                || group
                || fchown(file, None, Some(self.group)).is_ok();
            if !kept {
                mode = for_other_group(mode);
            }
        }
        // After the owner, whose change takes bits away. Not every file system has modes.
        if file.metadata()?.mode() & 0o777 == mode {
            Ok(())
        } else {
            file.set_permissions(Permissions::from_mode(mode))
        }
    }
}

/// A mode by which another group may do what everybody may, at most.
fn for_other_group(mode: u32) -> u32 {
    mode & (0o707 | (mode & 0o007) << 3)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_group_gets_no_more_than_everybody() {
        assert_eq!([0o640, 0o664, 0o600, 0o755].map(for_other_group), [0o600, 0o644, 0o600, 0o755]);
    }
}
