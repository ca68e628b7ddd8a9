//! What the photos of a dataset are: broken files, duplicates, and photos of one half that are in the other too.
//!
//! In: a dataset; every photo is read and decoded once, on several threads. Out: [`Findings`]. Equal are files of the
//! same bytes (a hash of 128 bits), near duplicates those whose perceptual hashes differ in at most [`NEAR`] of 64
//! bits. Invariant: findings do not depend on the threads.

use std::collections::{BTreeMap, HashMap};

use xxhash_rust::xxh3::xxh3_128;

use super::super::parallel;
use super::{Dataset, Photo};
use crate::images::Image;

/// The most bits between the perceptual hashes of near duplicates. A photo scaled by 2/3 and compressed again moves up
/// to 2; different photos of the road signs are 12 apart or more.
pub const NEAR: u32 = 4;

/// Parts of a hash: of hashes that are within [`NEAR`] bits at least one part is equal.
const PARTS: u32 = NEAR + 1;

/// A photo that cannot be read.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Broken {
    /// Which one, counted as in [`Dataset::photos`].
    pub photo: usize,
    /// What is wrong with it.
    pub message: String,
}

/// Photos that are one another's duplicates, counted as in [`Dataset::photos`], ascending.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Group {
    /// The photos.
    pub photos: Vec<usize>,
    /// Whether some are for training and some for validation.
    pub leak: bool,
    /// Whether they are of several classes.
    pub conflict: bool,
}

/// What is wrong with the photos.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Findings {
    /// Photos that cannot be read.
    pub broken: Vec<Broken>,
    /// Files of equal bytes.
    pub equal: Vec<Group>,
    /// Photos that look alike and are not all equal.
    pub near: Vec<Group>,
}

/// The most bytes of a photo.
const MOST_BYTES: u64 = 512 << 20;

/// What is known of a photo.
type Looked = Result<(u128, u64), String>;

impl Dataset {
    /// Reads and decodes every photo on `threads` threads; `progress` is called after each.
    pub fn check(&self, threads: usize, progress: impl Fn() + Sync) -> Findings {
        let photos: Vec<&Photo> = self.photos().collect();
        let (mut broken, mut hashes) = (Vec::new(), Vec::new());
        let one = |at: usize| {
            let found = look(photos[at]);
            progress();
            found
        };
        for (photo, looked) in parallel::map(threads, photos.len(), one).into_iter().enumerate() {
            match looked {
                Ok((bytes, picture)) => hashes.push((photo, bytes, picture)),
                Err(message) => broken.push(Broken { photo, message }),
            }
        }
        let equal = equal(hashes.iter().map(|(photo, bytes, _)| (*photo, *bytes)));
        // Groups of which every member has the same bytes are said already.
        let bytes: HashMap<usize, u128> = hashes.iter().map(|(photo, bytes, _)| (*photo, *bytes)).collect();
        let mut near = alike(&hashes.iter().map(|(photo, _, picture)| (*photo, *picture)).collect::<Vec<_>>());
        near.retain(|members| members.iter().any(|photo| bytes[photo] != bytes[&members[0]]));
        Findings { broken, equal: self.groups(equal), near: self.groups(near) }
    }

    /// Files of equal bytes, read on `threads` threads and not decoded; those that cannot be read are passed over.
    pub fn equal(&self, threads: usize) -> Vec<Group> {
        let photos: Vec<&Photo> = self.photos().collect();
        let hash =
            |at: usize| fornax_runtime::map_file(&photos[at].path, MOST_BYTES).ok().map(|bytes| xxh3_128(&bytes));
        let hashes = parallel::map(threads, photos.len(), hash);
        self.groups(equal(hashes.into_iter().enumerate().filter_map(|(photo, hash)| Some((photo, hash?)))))
    }

    /// Those of `groups` that have several members, in order.
    fn groups(&self, groups: Vec<Vec<usize>>) -> Vec<Group> {
        let photos: Vec<&Photo> = self.photos().collect();
        let group = |members: Vec<usize>| Group {
            leak: members.iter().any(|at| *at < self.training.len())
                && members.iter().any(|at| *at >= self.training.len()),
            conflict: members.iter().any(|at| photos[*at].class != photos[members[0]].class),
            photos: members,
        };
        let mut groups: Vec<Group> = groups.into_iter().filter(|members| members.len() > 1).map(group).collect();
        groups.sort_by(|a, b| a.photos.cmp(&b.photos));
        groups
    }
}

/// Photos by their hashes.
fn equal(hashes: impl Iterator<Item = (usize, u128)>) -> Vec<Vec<usize>> {
    let mut equal: BTreeMap<u128, Vec<usize>> = BTreeMap::new();
    hashes.for_each(|(photo, bytes)| equal.entry(bytes).or_default().push(photo));
    equal.into_values().collect()
}

/// The hash of a photo's bytes, and of what it shows.
fn look(photo: &Photo) -> Looked {
    let bytes = fornax_runtime::map_file(&photo.path, MOST_BYTES).map_err(|e| e.to_string())?;
    let image = Image::decode(&bytes).map_err(|found| format!("expected an image, found {found}"))?;
    Ok((xxh3_128(&bytes), image.fingerprint()))
}

/// Groups of photos that are tied by hashes within [`NEAR`] bits of one another.
fn alike(hashes: &[(usize, u64)]) -> Vec<Vec<usize>> {
    let mut same: BTreeMap<u64, Vec<usize>> = BTreeMap::new();
    hashes.iter().for_each(|(photo, hash)| same.entry(*hash).or_default().push(*photo));
    let distinct: Vec<u64> = same.keys().copied().collect();
    let mut groups = Groups { parent: (0..distinct.len()).collect() };
    for part in 0..PARTS {
        let (from, to) = (64 * part / PARTS, 64 * (part + 1) / PARTS);
        let mut buckets: HashMap<u64, Vec<usize>> = HashMap::new();
        for (at, hash) in distinct.iter().enumerate() {
            buckets.entry(hash >> from & ((1 << (to - from)) - 1)).or_default().push(at);
        }
        for bucket in buckets.values() {
            for (i, a) in bucket.iter().enumerate() {
                for b in &bucket[i + 1..] {
                    if (distinct[*a] ^ distinct[*b]).count_ones() <= NEAR {
                        groups.join(*a, *b);
                    }
                }
            }
        }
    }
    let mut members: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for (at, photos) in same.into_values().enumerate() {
        members.entry(groups.find(at)).or_default().extend(photos);
    }
    members.values_mut().for_each(|photos| photos.sort_unstable());
    members.into_values().collect()
}

/// Disjoint sets.
struct Groups {
    parent: Vec<usize>,
}

impl Groups {
    fn find(&mut self, mut at: usize) -> usize {
        while self.parent[at] != at {
            self.parent[at] = self.parent[self.parent[at]];
            at = self.parent[at];
        }
        at
    }

    fn join(&mut self, a: usize, b: usize) {
        let (a, b) = (self.find(a), self.find(b));
        self.parent[a.max(b)] = a.min(b);
    }
}
