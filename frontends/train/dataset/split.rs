//! A validation half that is drawn.
//!
//! In: photos by class, a share, a seed. Out: the two halves, each in the order that the photos had. Of a class of `n` photos `share n`, rounded,
//! are for validation, but at least one and not all: those whose paths have the smallest hashes, so that a photo more or less hardly moves others.

use std::path::Path;

use xxhash_rust::xxh3::xxh3_64_with_seed;

use super::Photo;

/// The photos for training and those for validation. Paths count from `root`, so that it may be moved.
pub(super) fn drawn(photos: &[Photo], root: &Path, share: f64, seed: u64) -> (Vec<Photo>, Vec<Photo>) {
    let (mut training, mut validation) = (Vec::new(), Vec::new());
    for class in photos.chunk_by(|a, b| a.class == b.class) {
        let hash = |photo: &Photo| {
            let path = photo.path.strip_prefix(root).unwrap_or(&photo.path);
            xxh3_64_with_seed(path.as_os_str().as_encoded_bytes(), seed)
        };
        let mut hashes: Vec<u64> = class.iter().map(hash).collect();
        hashes.sort_unstable();
        let wanted = ((class.len() as f64 * share).round() as usize).clamp(1, class.len().max(2) - 1);
        let bound = hashes[wanted - 1];
        for photo in class {
            let half = if hash(photo) <= bound { &mut validation } else { &mut training };
            half.push(photo.clone());
        }
    }
    (training, validation)
}
