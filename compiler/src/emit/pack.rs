//! Packed constants, written straight into the memory or file they are for.
//!
//! In: constants that lie one after the other. Out: every constant in its place, packed by however many threads take part. The
//! constants go in the order of the model's file, and what has been read is given back to the system on the way, so that
//! no more than a part of the file is resident at a time.

use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use fornax_runtime::ALIGN;

use crate::plan::PackedConstant;

/// Bytes of the model's file that a thread reads before it gives them back.
const WINDOW: usize = 1 << 20;

/// The offset of each constant, and the size of all.
pub fn offsets<'a>(constants: impl IntoIterator<Item = &'a PackedConstant>) -> (Vec<usize>, usize) {
    let mut total = 0usize;
    let offsets = constants.into_iter().map(|constant| {
        let offset = total;
        total += constant.bytes.next_multiple_of(ALIGN);
        offset
    });
    (offsets.collect(), total)
}

/// One constant on its way.
struct Job<'a> {
    constant: &'a PackedConstant,
    to: &'a mut [u8],
}

/// The constants that are still to be packed.
pub struct Queue<'a>(Mutex<std::vec::IntoIter<Job<'a>>>);

impl<'a> Queue<'a> {
    /// All `constants`, into zeroed memory of the size that [`offsets`] gives.
    pub fn new(constants: impl IntoIterator<Item = &'a PackedConstant>, mut memory: &'a mut [u8]) -> Self {
        let mut jobs = Vec::new();
        for constant in constants {
            let (to, rest) = memory.split_at_mut(constant.bytes.next_multiple_of(ALIGN));
            memory = rest;
            let to = &mut to[..constant.bytes];
            jobs.push(Job { constant, to });
        }
        jobs.sort_by_key(|job| job.constant.source_bytes().map_or(0, |bytes| bytes.as_ptr().addr()));
        Self(Mutex::new(jobs.into_iter()))
    }

    /// Packs constants until none are left.
    pub fn work(&self) {
        let mut read: Vec<&Bytes> = Vec::new();
        let mut bytes = 0;
        while let Some(job) = self.next() {
            job.constant.write(job.to);
            if let Some(source) = job.constant.source_bytes() {
                read.push(source);
                bytes += source.len();
            }
            if bytes >= WINDOW {
                release(&read);
                read.clear();
                bytes = 0;
            }
        }
        release(&read);
    }

    fn next(&self) -> Option<Job<'a>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).next()
    }
}

/// Gives back the pages of `read`, in ascending order, and of what lies between.
fn release(read: &[&Bytes]) {
    if let [first, .., last] = read
        && fornax_runtime::release_range(first, last)
    {
        return;
    }
    read.iter().for_each(|bytes| fornax_runtime::release_pages(bytes));
}
