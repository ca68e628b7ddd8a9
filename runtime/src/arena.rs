//! One aligned, zeroed block of memory: the arena of a session, the constants of a program, the data of a tensor.
//!
//! In: a size. Out: a block that begins on a multiple of [`ALIGN`] and may be read up to the next one after its end, so
//! a vector load that starts inside the block never leaves the allocation. Its pages are committed as they are touched. What is freed can
//! be given back to the system ([`return_free_memory`]).
#![allow(unsafe_code, reason = "owns raw memory whose alignment Vec<u8> cannot promise")]

use std::alloc::{Layout, alloc_zeroed, dealloc};
use std::ptr::NonNull;

use rustix::mm::{Advice, madvise};

use crate::abi::ALIGN;
use crate::error::Error;

/// Alignment asked of the allocator. The block is aligned by hand inside a larger one: up to this value the allocator
/// hands out fresh zero pages untouched, above it it would write the zeros.
const REQUEST_ALIGN: usize = 16;

/// Blocks of this size and more ask for huge pages: touching them first costs a fault per 2 MiB instead of per 4 KiB.
const HUGE: usize = 4 << 20;

/// An owned block of `len` bytes.
pub(crate) struct Block {
    /// What the allocator returned; unused when `layout` has size 0.
    base: NonNull<u8>,
    /// First byte, aligned to [`ALIGN`].
    start: NonNull<u8>,
    len: usize,
    layout: Layout,
}

// SAFETY: a block owns its bytes and gives them out under the usual borrowing rules.
unsafe impl Send for Block {}
// SAFETY: as above; nothing is mutated through `&Block`, except by raw pointers whose users answer for it.
unsafe impl Sync for Block {}

impl Block {
    /// A block of `len` zero bytes; `what` it is for goes into the error.
    pub fn zeroed(len: usize, what: &'static str) -> Result<Block, Error> {
        let failed = || Error::Allocation { what, bytes: len };
        if len == 0 {
            let start = NonNull::without_provenance(const { std::num::NonZero::new(ALIGN).unwrap() });
            return Ok(Block { base: start, start, len, layout: Layout::new::<()>() });
        }
        let size = len.checked_next_multiple_of(ALIGN).and_then(|n| n.checked_add(ALIGN - REQUEST_ALIGN));
        let layout = Layout::from_size_align(size.ok_or_else(failed)?, REQUEST_ALIGN).map_err(|_| failed())?;
        // SAFETY: the size of the layout is not zero.
        let base = NonNull::new(unsafe { alloc_zeroed(layout) }).ok_or_else(failed)?;
        let skip = base.addr().get().next_multiple_of(ALIGN) - base.addr().get();
        // SAFETY: `base` is a multiple of 16, so `skip` is at most 48, and the layout has that much room to spare.
        let start = unsafe { base.add(skip) };
        let block = Block { base, start, len, layout };
        if len >= HUGE {
            block.ask_for_huge_pages();
        }
        Ok(block)
    }

    /// The whole pages inside the block, if there are any.
    fn pages(&self) -> Option<(*mut core::ffi::c_void, usize)> {
        let page = rustix::param::page_size();
        let skip = self.start.addr().get().next_multiple_of(page) - self.start.addr().get();
        let bytes = self.len.checked_sub(skip)? / page * page;
        // SAFETY: `skip` is at most `len`.
        (bytes > 0).then(|| (unsafe { self.start.as_ptr().add(skip) }.cast(), bytes))
    }

    /// Advises the system about the whole pages inside the block.
    fn ask_for_huge_pages(&self) {
        let Some((begin, bytes)) = self.pages() else { return };
        // SAFETY: the pages lie inside the block. The advice changes no byte.
        let advised = unsafe { madvise(begin, bytes, Advice::LinuxHugepage) };
        // A system without huge pages refuses, and the block works as well.
        let _ = advised;
    }

    /// Gives the whole pages inside the block back to the system: their bytes are zero from then on.
    ///
    /// # Safety
    /// Nothing refers to the bytes or reads or writes them meanwhile, and nobody counts on what they were.
    pub unsafe fn release(&self) {
        #[cfg(target_os = "linux")]
        if let Some((begin, bytes)) = self.pages() {
            // SAFETY: the pages lie inside the block, and the caller answers for the bytes.
            let released = unsafe { madvise(begin, bytes, Advice::LinuxDontNeed) };
            // A system that refuses keeps the memory.
            let _ = released;
        }
    }

    /// Size in bytes.
    pub fn len(&self) -> usize {
        self.len
    }

    /// What was asked of the allocator.
    pub fn layout(&self) -> Layout {
        self.layout
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        // SAFETY: `start` leads to `len` initialised bytes owned by `self` (dangling but aligned when `len` is 0).
        unsafe { std::slice::from_raw_parts(self.start.as_ptr(), self.len) }
    }

    /// The bytes, to write.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        // SAFETY: as in `bytes`, and the borrow is unique.
        unsafe { std::slice::from_raw_parts_mut(self.start.as_ptr(), self.len) }
    }

    /// Address of the first byte; writing through it is allowed while no reference to the bytes lives.
    pub fn as_ptr(&self) -> *mut u8 {
        self.start.as_ptr()
    }
}

/// Copies `from` into zeroed memory of the same size, and leaves alone what is zero there: pages that nobody writes take no memory.
pub(crate) fn copy_to_zeroed(from: &[u8], to: &mut [u8]) {
    const PART: usize = 4096;
    for (from, to) in from.chunks(PART).zip(to.chunks_mut(PART)) {
        if !is_zero(from) {
            to.copy_from_slice(from);
        }
    }
}

/// Whether all bytes are zero.
pub fn is_zero(bytes: &[u8]) -> bool {
    let (words, rest) = bytes.as_chunks::<16>();
    words.iter().all(|word| u128::from_ne_bytes(*word) == 0) && rest.iter().all(|byte| *byte == 0)
}

/// Gives memory that has been freed back to the system, where the allocator would keep it for later: to be called before a long run
/// that needs little of what its preparation took.
pub fn return_free_memory() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function takes no pointer, and changes no memory that is in use.
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Keeps large pieces of memory apart from small ones from now on, so that each is given back to the system when it is freed: for processes
/// that take much memory for a while and run for long. It costs a fault for each page of what is taken anew.
pub fn keep_large_memory_apart() {
    #[cfg(all(target_os = "linux", target_env = "gnu"))]
    // SAFETY: the function takes no pointer, and changes where later allocations come from alone.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE);
    }
}

/// Size of large pieces of memory: what the allocator begins with before it learns from what is freed.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
const LARGE: libc::c_int = 128 << 10;

impl Drop for Block {
    fn drop(&mut self) {
        if self.layout.size() != 0 {
            // SAFETY: `base` came from the allocator with this very layout.
            unsafe { dealloc(self.base.as_ptr(), self.layout) }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_whole() {
        for len in [0_usize, 1, 16, 17, 4096, 4097, 3 * 4096 + 5] {
            for at in [0, len / 2, len.saturating_sub(1)] {
                let mut from = vec![0; len];
                from.get_mut(at).into_iter().for_each(|byte| *byte = 1);
                assert_eq!(is_zero(&from), len == 0, "{len} {at}");
                let mut block = Block::zeroed(len, "test").unwrap();
                copy_to_zeroed(&from, block.bytes_mut());
                assert_eq!(block.bytes(), from);
            }
        }
    }

    #[test]
    fn blocks_are_aligned_and_zero() {
        for len in [0, 1, 63, 64, 65, 4096, HUGE, 3 * HUGE + 5] {
            let mut block = Block::zeroed(len, "test").unwrap();
            assert_eq!(block.as_ptr().addr() % ALIGN, 0);
            assert_eq!(block.len(), len);
            assert!(block.bytes().iter().all(|&b| b == 0));
            block.bytes_mut().fill(7);
            assert!(block.bytes().iter().all(|&b| b == 7));
        }
    }

    #[test]
    fn impossible_sizes_are_errors() {
        for len in [usize::MAX, usize::MAX - 64, isize::MAX as usize, 1 << 60] {
            assert!(
                matches!(Block::zeroed(len, "test"), Err(Error::Allocation { what: "test", bytes }) if bytes == len)
            );
        }
    }
}
