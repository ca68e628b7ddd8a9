//! Files as bytes, without copying: the only caller of memmap2.
//!
//! In: the path of a regular file. Out: `Bytes` over its pages, read as they are touched and shared with every process
//! that reads the same file; and pages of it that can be executed.
//!
//! Soundness rests on the file: nobody may change or truncate it in place while it is mapped. Rust's rules say of `&[u8]` that its
//! bytes stay as they are, and the system kills a process that reads past a new end. Replacing a file by another of the same name, as
//! everything in Fornax does that writes files, is safe: the map keeps the file it was made of.
#![allow(unsafe_code, reason = "maps files and advises the system about the pages")]

use std::collections::BTreeMap;
use std::fs::{File, FileType, OpenOptions};
use std::io::Read;
use std::ops::Range;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use bytes::Bytes;
use memmap2::{Mmap, MmapMut, MmapOptions};
use rustix::fs::{FlockOperation, OFlags, flock};
use rustix::io::Errno;
use rustix::mm::{Advice, madvise};

use crate::abi::KernelFn;
use crate::error::Error;
use crate::sync::{Mutex, MutexGuard, OnceLock, lock};

/// The live maps of this module. Only pages known to be a file's may be given back: the same advice on other memory would erase it.
static MAPS: OnceLock<Maps> = OnceLock::new();

/// The maps that a process has made.
struct Maps {
    process: u32,
    /// Address to length.
    live: Mutex<BTreeMap<usize, usize>>,
    /// Those of a process that was forked from it, which has a list of its own: at that moment another thread may have held the lock,
    /// and in the child nobody would ever let go of it. What was mapped before stays mapped there.
    child: OnceLock<Box<Maps>>,
}

impl Maps {
    fn new() -> Maps {
        Maps { process: std::process::id(), live: Mutex::new(BTreeMap::new()), child: OnceLock::new() }
    }

    /// Those of this process.
    fn own() -> MutexGuard<'static, BTreeMap<usize, usize>> {
        let mut maps = MAPS.get_or_init(Maps::new);
        while maps.process != std::process::id() {
            maps = maps.child.get_or_init(|| Box::new(Maps::new()));
        }
        lock(&maps.live)
    }
}

/// How long to wait for files that another process is publishing: that takes milliseconds.
const PATIENCE: Duration = Duration::from_secs(2);

/// A map, listed in [`MAPS`] while it lives.
struct Listed(Mmap);

impl Listed {
    fn new(map: Mmap) -> Listed {
        Maps::own().insert(map.as_ptr().addr(), map.len());
        Listed(map)
    }
}

impl AsRef<[u8]> for Listed {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl Drop for Listed {
    fn drop(&mut self) {
        Maps::own().remove(&self.0.as_ptr().addr());
    }
}

/// Maps the regular file at `path`, of at most `limit` bytes, for reading.
pub fn map_file(path: &Path, limit: u64) -> Result<Bytes, Error> {
    MappedFile::open(path, limit).map(|file| file.bytes)
}

/// Zeros of which no page takes memory, however often they are read.
///
/// # Errors
/// [`Error::Allocation`] if the system has no addresses for them.
pub fn zeros(bytes: usize) -> Result<Bytes, Error> {
    let map = MmapOptions::new().len(bytes.max(1)).map_anon();
    let map = map.map_err(|_| Error::Allocation { what: "zeros", bytes })?;
    Ok(Bytes::from_owner(map).slice(..bytes))
}

/// Opens the regular file at `path` for reading, and tells its size.
fn open_regular(path: &Path) -> Result<(File, u64), Error> {
    let failed = |source| Error::Io { path: path.to_owned(), source };
    let regular = |kind: FileType| {
        if kind.is_file() { Ok(()) } else { Err(Error::NotAFile { path: path.to_owned(), found: kind_name(kind) }) }
    };
    // Opening a device can have effects and opening a pipe can block, so look first; the flag covers a file that is
    // replaced in between.
    regular(std::fs::metadata(path).map_err(failed)?.file_type())?;
    let nonblocking = OFlags::NONBLOCK.bits() as i32;
    let file: File = OpenOptions::new().read(true).custom_flags(nonblocking).open(path).map_err(failed)?;
    let metadata = file.metadata().map_err(failed)?;
    regular(metadata.file_type())?;
    Ok((file, metadata.len()))
}

/// True when `path` leads to a regular file that begins with `magic`.
pub(crate) fn begins_with(path: &Path, magic: [u8; 4]) -> bool {
    let mut found = [0; 4];
    let read = |(mut file, _): (File, u64)| file.read_exact(&mut found).is_ok();
    open_regular(path).is_ok_and(read) && found == magic
}

/// A mapped file that is still open, so that another map of it shows the same bytes whatever happens to its path.
pub(crate) struct MappedFile {
    path: PathBuf,
    file: File,
    bytes: Bytes,
}

impl MappedFile {
    /// Maps the regular file at `path`, of at most `limit` bytes, for reading.
    pub fn open(path: &Path, limit: u64) -> Result<MappedFile, Error> {
        let (file, found) = open_regular(path)?;
        let path = path.to_owned();
        if found > limit {
            return Err(Error::FileTooLarge { path, limit, found });
        }
        if found == 0 {
            return Ok(MappedFile { path, file, bytes: Bytes::new() });
        }
        // SAFETY: the map is only read, and this process has the file open for reading only. That no other process changes or
        // truncates it in place is what the module docs ask of the user; nothing here can check it.
        let map = match unsafe { Mmap::map(&file) } {
            Ok(map) => map,
            Err(source) => return Err(Error::Io { path, source }),
        };
        Ok(MappedFile { path, file, bytes: Bytes::from_owner(Listed::new(map)) })
    }

    /// All bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Whether the path still leads to this file.
    pub fn is_current(&self) -> bool {
        let now = std::fs::metadata(&self.path).map(|found| identity(&found)).ok();
        now.is_some() && now == self.file.metadata().map(|found| identity(&found)).ok()
    }

    /// Which file it is.
    pub fn origin(&self) -> Option<Origin> {
        let identity = identity(&self.file.metadata().ok()?);
        Some(Origin { path: self.path.clone(), identity })
    }

    /// Waits while a process that is still publishing files that belong together holds this one locked, but no longer than
    /// [`PATIENCE`].
    pub fn wait_for_writer(&self) {
        let begun = Instant::now();
        while flock(&self.file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
            if begun.elapsed() >= PATIENCE {
                return;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        // Not every file system has locks.
        _ = flock(&self.file, FlockOperation::Unlock);
    }

    /// Maps `range` of the file, which lies inside it, for execution. Profilers name the file for addresses inside.
    pub fn executable(&self, range: Range<usize>) -> Result<Executable, Error> {
        if range.is_empty() {
            return Ok(Executable(None));
        }
        let mut options = MmapOptions::new();
        options.offset(range.start as u64).len(range.len());
        // SAFETY: the map is never written. That nobody changes the file in place is asked of the user, as for `Mmap::map` above and
        // as for every shared library: whoever may write the file decides what runs.
        let map = unsafe { options.map_exec(&self.file) };
        map.map(|map| Executable(Some(map))).map_err(|source| Error::Io { path: self.path.clone(), source })
    }
}

/// Device and number of a file: no other has them while it is mapped.
fn identity(found: &std::fs::Metadata) -> (u64, u64) {
    (found.dev(), found.ino())
}

/// Which file a map is of, for as long as there is the map.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) struct Origin {
    path: PathBuf,
    identity: (u64, u64),
}

impl Origin {
    /// Maps `range` of the file as memory of this process's own; none if its path leads to another file by now, or the system does not map it.
    pub fn private(&self, range: Range<usize>) -> Option<PrivateMap> {
        let (file, bytes) = open_regular(&self.path).ok()?;
        if range.is_empty() || range.end as u64 > bytes || identity(&file.metadata().ok()?) != self.identity {
            return None;
        }
        let mut options = MmapOptions::new();
        options.offset(range.start as u64).len(range.len());
        // SAFETY: what is written stays in this process. That nobody changes the file in place, whose pages are shared until they are
        // written, is asked of the user, as for `Mmap::map` above.
        unsafe { options.map_copy(&file) }.ok().map(PrivateMap)
    }
}

/// Part of a file as memory of this process's own: a page is copied when it is written. It is not listed in [`MAPS`], since giving back
/// its pages would lose what was written.
pub(crate) struct PrivateMap(MmapMut);

impl PrivateMap {
    /// All bytes.
    pub fn bytes(&self) -> &[u8] {
        &self.0
    }

    /// All bytes, to change.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        &mut self.0
    }
}

/// Part of a file, mapped for execution.
pub(crate) struct Executable(Option<Mmap>);

impl Executable {
    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |map| map.len())
    }

    /// The kernel whose code is at `range`, if that lies inside and is not empty. It can be called while `self` lives.
    pub fn kernel(&self, range: Range<usize>) -> Option<KernelFn> {
        let code = self.0.as_ref()?.get(range).filter(|code| !code.is_empty())?;
        // SAFETY: the address is that of mapped code, and so not null. Calling it is unsafe: who does so answers for the
        // code there and for `self` being alive.
        Some(unsafe { std::mem::transmute::<*const u8, KernelFn>(code.as_ptr()) })
    }
}

/// What a path that is not a regular file leads to.
fn kind_name(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a named pipe"
    } else if kind.is_socket() {
        "a socket"
    } else if kind.is_block_device() || kind.is_char_device() {
        "a device"
    } else {
        "something else"
    }
}

/// Lets the system take back the whole pages inside `bytes`; reading them again fetches them from the file.
///
/// Does nothing for memory that is not part of a file from [`map_file`].
pub fn release_pages(bytes: &[u8]) {
    let page = rustix::param::page_size();
    let Some(begin) = bytes.as_ptr().addr().checked_next_multiple_of(page) else { return };
    let end = (bytes.as_ptr().addr() + bytes.len()) / page * page;
    if begin >= end || !is_mapped(begin, end) {
        return;
    }
    let offset = begin - bytes.as_ptr().addr();
    // SAFETY: these pages belong to a live map of this module (`bytes` borrows from it), shared with its file and never written
    // through the map, so dropping them loses nothing: reading them again brings the same bytes from the file.
    let advised = unsafe {
        let first = bytes.as_ptr().add(offset).cast_mut();
        madvise(first.cast(), end - begin, Advice::LinuxDontNeed)
    };
    // It is a hint: a system that refuses it keeps the pages.
    let _ = advised;
}

/// [`release_pages`] from the beginning of `first` to the end of `last`, if one file holds both in this order; else does
/// nothing and returns false. The whole pages at both ends go too: all of them are read again when needed.
pub fn release_range(first: &[u8], last: &[u8]) -> bool {
    let page = rustix::param::page_size();
    let (begin, end) = (first.as_ptr().addr(), last.as_ptr().addr() + last.len());
    if begin >= end || !is_mapped(begin, end) {
        return false;
    }
    // A map begins on a page, and the rest of its last page belongs to nothing else.
    let skipped = begin % page;
    // SAFETY: the pages belong to a live map of this module: one map holds both slices, which keep it alive. It is shared with its
    // file and never written, so dropping the pages loses nothing, as above. The map begins on a page, at or before `first`, so
    // the address is inside it after skipping back.
    let advised = unsafe {
        let first = first.as_ptr().sub(skipped).cast_mut();
        madvise(first.cast(), end - begin + skipped, Advice::LinuxDontNeed)
    };
    // It is a hint, as above.
    let _ = advised;
    true
}

/// True when one live map holds `begin..end`.
fn is_mapped(begin: usize, end: usize) -> bool {
    let maps = Maps::own();
    maps.range(..=begin).next_back().is_some_and(|(&start, &len)| end - start <= len)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    unsafe extern "C" {
        fn fork() -> i32;
        fn waitpid(process: i32, status: *mut i32, options: i32) -> i32;
        fn alarm(seconds: u32) -> u32;
        fn _exit(code: i32) -> !;
    }

    #[test]
    fn a_forked_child_waits_for_no_lock_of_its_parent() {
        let file = file_of(&[7; 1 << 16]);
        let mapped = map_file(file.path(), 1 << 16).unwrap();
        let held = Maps::own();
        // SAFETY: the child calls what is async-signal-safe, this module, and the allocator, which glibc makes usable after a fork.
        let child = unsafe { fork() };
        if child == 0 {
            // SAFETY: ends the child if it hangs.
            unsafe { alarm(20) };
            let used = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
                release_pages(&mapped);
                let again = map_file(file.path(), 1 << 16).unwrap();
                let listed = release_range(&again, &again) && !release_range(&mapped, &mapped);
                let right = listed && again == mapped;
                drop((again, mapped));
                right && Maps::own().is_empty()
            }));
            // SAFETY: ends the child without the exit handlers of its parent.
            unsafe { _exit(if used.is_ok_and(|right| right) { 0 } else { 1 }) };
        }
        drop(held);
        let mut status = 0;
        // SAFETY: waits for the child just made and stores its status in a local.
        assert_eq!(unsafe { waitpid(child, &mut status, 0) }, child);
        assert_eq!(status, 0, "the child ended by itself");
        assert!(release_range(&mapped, &mapped), "the parent's list goes on");
    }

    #[test]
    fn what_is_written_into_a_private_map_stays_there() {
        let file = file_of(&[7; 3 << 12]);
        let mapped = MappedFile::open(file.path(), 1 << 16).unwrap();
        let origin = mapped.origin().unwrap();
        let mut own = origin.private(1 << 12..3 << 12).unwrap();
        own.bytes_mut()[5] = 9;
        assert_eq!((own.bytes().len(), own.bytes()[5], own.bytes()[6]), (2 << 12, 9, 7));
        assert!(std::fs::read(file.path()).unwrap() == [7; 3 << 12] && mapped.bytes()[..] == [7; 3 << 12]);
        release_pages(own.bytes());
        assert_eq!(own.bytes()[5], 9, "no page of it is given back");
        assert!(origin.private(0..4 << 12).is_none() && origin.private(7..7).is_none());
        // Another file of the same name is not taken for it.
        let other = file_of(&[8; 3 << 12]);
        std::fs::rename(other.path(), file.path()).unwrap();
        assert!(origin.private(0..64).is_none());
    }

    fn file_of(bytes: &[u8]) -> tempfile::NamedTempFile {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        file
    }

    #[test]
    fn maps_a_file() {
        let file = file_of(b"weights");
        assert_eq!(map_file(file.path(), 7).unwrap(), &b"weights"[..]);
        assert_eq!(map_file(file_of(b"").path(), 0).unwrap(), Bytes::new());
    }

    #[test]
    fn refuses_what_is_not_a_small_enough_file() {
        let file = file_of(b"weights");
        let too_large = map_file(file.path(), 6);
        assert!(matches!(too_large, Err(Error::FileTooLarge { limit: 6, found: 7, .. })));
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(map_file(dir.path(), 9), Err(Error::NotAFile { found: "a directory", .. })));
        let absent = dir.path().join("absent");
        assert!(matches!(map_file(&absent, 9), Err(Error::Io { path, .. }) if path == absent));
        let device = map_file(Path::new("/dev/zero"), 9);
        assert!(matches!(device, Err(Error::NotAFile { found: "a device", .. })));
        let socket = dir.path().join("socket");
        let _listener = std::os::unix::net::UnixListener::bind(&socket).unwrap();
        assert!(matches!(map_file(&socket, 9), Err(Error::NotAFile { found: "a socket", .. })));
    }

    #[test]
    fn refuses_a_pipe_without_waiting_for_a_writer() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        let mode = rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR;
        rustix::fs::mknodat(rustix::fs::CWD, &pipe, rustix::fs::FileType::Fifo, mode, 0).unwrap();
        assert!(matches!(map_file(&pipe, 9), Err(Error::NotAFile { found: "a named pipe", .. })));
    }

    #[test]
    fn released_pages_read_the_same() {
        let content: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let file = file_of(&content);
        let bytes = map_file(file.path(), u64::MAX).unwrap();
        assert_eq!(bytes, content);
        release_pages(&bytes[5000..90_000]);
        assert_eq!(bytes, content);
    }

    /// Bytes that the map around `address` has in memory.
    fn resident(address: usize) -> usize {
        let maps = std::fs::read_to_string("/proc/self/smaps").unwrap();
        let holds = |line: &&str| {
            let bounds = line.split(' ').next().and_then(|word| word.split_once('-'));
            let number = |digits| usize::from_str_radix(digits, 16);
            matches!(bounds.map(|(a, b)| (number(a), number(b))), Some((Ok(a), Ok(b))) if (a..b).contains(&address))
        };
        let own = maps.lines().skip_while(|line| !holds(line));
        let size = own.into_iter().find_map(|line| line.strip_prefix("Rss:")).unwrap();
        size.trim().trim_end_matches(" kB").parse::<usize>().unwrap() * 1024
    }

    #[test]
    fn whole_pages_inside_are_released() {
        let (page, count) = (rustix::param::page_size(), 24);
        let file = file_of(&vec![3; count * page]);
        let bytes = map_file(file.path(), u64::MAX).unwrap();
        assert!(bytes.iter().all(|b| *b == 3));
        assert_eq!(resident(bytes.as_ptr().addr()), count * page);
        release_pages(&bytes[page + 1..9 * page - 1]);
        assert_eq!(resident(bytes.as_ptr().addr()), (count - 6) * page);
        release_pages(&bytes[10 * page..12 * page]);
        assert_eq!(resident(bytes.as_ptr().addr()), (count - 8) * page);
    }

    #[test]
    fn released_spans_read_the_same() {
        let content: Vec<u8> = (0..100_000u32).map(|i| (i % 251) as u8).collect();
        let file = file_of(&content);
        let bytes = map_file(file.path(), u64::MAX).unwrap();
        assert_eq!(bytes, content);
        assert!(release_range(&bytes[5000..5001], &bytes[90_000..]));
        assert_eq!(bytes, content);
        let other = map_file(file.path(), u64::MAX).unwrap();
        assert!(!release_range(&bytes, &other) && !release_range(&other, &bytes));
        assert!(!release_range(&bytes[50_000..], &bytes[..10]));
    }

    #[test]
    fn release_spares_other_memory() {
        let owned = vec![7u8; 100_000];
        release_pages(&owned);
        assert!(!release_range(&owned[..10], &owned[50_000..]));
        release_pages(&[]);
        assert!(owned.iter().all(|&b| b == 7));
    }

    #[test]
    fn maps_are_listed_while_they_live() {
        let bytes = map_file(file_of(&[1; 10_000]).path(), u64::MAX).unwrap();
        let (begin, end) = (bytes.as_ptr().addr(), bytes.as_ptr().addr() + bytes.len());
        assert!(is_mapped(begin, end) && !is_mapped(begin, end + 1));
        let slice = bytes.slice(10..20);
        drop(bytes);
        assert!(is_mapped(begin, end));
        assert_eq!(slice[..], [1; 10]);
    }
}
