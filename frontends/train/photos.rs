//! Photos in memory: decoded once, resized as the network's preprocessing asks.
//!
//! In: the photos of a [`super::dataset::Dataset`], and what the network expects of one. Out: [`Photos`], from which any thread takes inputs of the network: as
//! they are evaluated, or changed for training. All are decoded before the first is used, so that a broken one is found then; those
//! that do not fit into the bound on memory are read again when they are needed.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use fornax_runtime::Tensor;

use super::augment::{Augment, mirror_all};
use super::dataset::Photo;
use super::mix::Geometry;
use super::parallel;
use super::random::Draw;
use crate::error::{Error, Result};
use crate::images::{Crop, Image, Layout, Preprocess, Resampler, Resize};

/// What happens to photos that cannot be read.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum BadImages {
    /// They are listed, and nothing is done.
    #[default]
    Refuse,
    /// They are listed, and left out.
    Skip,
}

/// How many unreadable photos an error lists.
const LISTED: usize = 8;

/// Decoded photos.
#[derive(Debug)]
pub struct Photos {
    photos: Vec<Photo>,
    /// At the size that the preprocessing resizes to, before its crop; none for what is read again.
    images: Vec<Option<Image>>,
    preprocess: Preprocess,
    /// Photos that were left out, and why.
    pub skipped: Vec<(PathBuf, String)>,
}

impl Photos {
    /// Decodes `photos` on `threads` threads and keeps as many as fit into `memory` bytes.
    ///
    /// # Errors
    /// [`Error::Input`] that lists photos which cannot be read, unless `bad` skips them, or if the preprocessing contradicts itself.
    pub fn load(
        photos: Vec<Photo>,
        preprocess: &Preprocess,
        bad: BadImages,
        memory: u64,
        threads: usize,
    ) -> Result<Self> {
        preprocess.check()?;
        let left = AtomicU64::new(memory);
        let read = parallel::map(threads, photos.len(), |at| {
            let image = Image::open(&photos[at].path).and_then(|image| resized(&image, preprocess));
            image.map(|image| kept(image, &left)).map_err(|e| e.to_string())
        });
        let mut loaded =
            Self { photos: Vec::new(), images: Vec::new(), preprocess: preprocess.clone(), skipped: Vec::new() };
        for (photo, result) in photos.into_iter().zip(read) {
            match result {
                Ok(image) => {
                    loaded.images.push(image);
                    loaded.photos.push(photo);
                }
                Err(why) => loaded.skipped.push((photo.path, why)),
            }
        }
        match bad {
            BadImages::Refuse if !loaded.skipped.is_empty() => Err(unreadable(&loaded.skipped)),
            _ => Ok(loaded),
        }
    }

    /// The photos that were read, in order.
    pub fn photos(&self) -> &[Photo] {
        &self.photos
    }

    /// Number of photos.
    pub fn len(&self) -> usize {
        self.photos.len()
    }

    /// Bytes of photos that are kept decoded.
    pub fn kept_bytes(&self) -> u64 {
        self.images.iter().flatten().map(|image| image.pixels().len() as u64).sum()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.photos.is_empty()
    }

    /// What the network expects of a photo.
    pub fn preprocess(&self) -> &Preprocess {
        &self.preprocess
    }

    /// Photo `at` as the network evaluates it: what [`Preprocess::tensor`] makes of it, bit for bit.
    ///
    /// # Errors
    /// If the photo has to be read again and cannot.
    pub fn tensor(&self, at: usize) -> Result<Tensor> {
        match &self.images[at] {
            Some(image) if resizes_first(&self.preprocess) => {
                Preprocess { resize: Resize::None, ..self.preprocess.clone() }.tensor(std::slice::from_ref(image))
            }
            _ => self.preprocess.tensor(&[Image::open(&self.photos[at].path)?]),
        }
    }

    /// The values of [`Photos::tensor`].
    ///
    /// # Errors
    /// As there; [`Error::Input`] if they are bytes.
    pub fn evaluated(&self, at: usize) -> Result<Vec<f32>> {
        let tensor = self.tensor(at)?;
        let values = tensor.as_f32();
        values.map(<[f32]>::to_vec).ok_or_else(|| Error::input("input", "a network of f32", tensor.dtype().to_string()))
    }

    /// [`Photos::tensor`], mirrored.
    ///
    /// # Errors
    /// As [`Photos::evaluated`].
    pub fn mirrored(&self, at: usize) -> Result<Tensor> {
        let (shape, mut values) = (self.tensor(at)?.shape().clone(), self.evaluated(at)?);
        let extents = if self.preprocess.layout == Layout::Nchw { &shape[2..] } else { &shape[1..3] };
        mirror_all(&mut values, self.geometry((extents[0], extents[1])));
        Ok(Tensor::from_f32(shape, &values)?)
    }

    /// Where the pixels of an input of height and width `size` are.
    pub(crate) fn geometry(&self, size: (usize, usize)) -> Geometry {
        let Preprocess { layout, .. } = self.preprocess;
        Geometry { size, channels: self.preprocess.channels(), planes: layout == Layout::Nchw }
    }

    /// The values of photo `at` as training sees it, for an input of height and width `size`.
    ///
    /// # Errors
    /// As [`Photos::evaluated`].
    pub fn augmented(&self, at: usize, augment: &Augment, size: (usize, usize), draw: &mut Draw) -> Result<Vec<f32>> {
        if augment.is_still() {
            return Ok(augment.still(self.evaluated(at)?, self.geometry(size), draw));
        }
        match &self.images[at] {
            Some(image) => augment.values(image, &self.preprocess, size, draw),
            None => {
                let image = resized(&Image::open(&self.photos[at].path)?, &self.preprocess)?;
                augment.values(&image, &self.preprocess, size, draw)
            }
        }
    }
}

/// The photo, if it fits into what is `left` of the memory: at once, so that no more is ever held. Which photos are read again changes
/// nothing else.
fn kept(image: Image, left: &AtomicU64) -> Option<Image> {
    let bytes = image.pixels().len() as u64;
    let taken = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(bytes));
    taken.is_ok().then_some(image)
}

/// Whether what is evaluated is a crop of the resized photo, in whole numbers.
fn resizes_first(preprocess: &Preprocess) -> bool {
    matches!(preprocess.resampler, Resampler::Pillow | Resampler::Pillow12)
        && matches!(preprocess.crop, Crop::None | Crop::Center(..))
}

/// A photo at the size that its preprocessing resizes to, without the crop.
fn resized(image: &Image, preprocess: &Preprocess) -> Result<Image> {
    let whole = match preprocess.crop {
        // The crop comes first: what is left of the photo at the side is wider by the margin.
        Crop::TfV1 { padding } | Crop::TfV2 { padding } => {
            let Resize::Exact(side, _) = preprocess.resize else { return Ok(image.clone()) };
            Preprocess { crop: Crop::None, resize: Resize::ShortEdge(side + padding), ..preprocess.clone() }
        }
        _ => Preprocess { crop: Crop::None, ..preprocess.clone() },
    };
    whole.resized(image)
}

fn unreadable(skipped: &[(PathBuf, String)]) -> Error {
    let lines: Vec<String> = skipped.iter().take(LISTED).map(|(_, why)| why.clone()).collect();
    let more = skipped.len().saturating_sub(LISTED);
    let more = if more > 0 { format!("; and {more} more") } else { String::new() };
    let found =
        format!("{} that cannot (--bad-images skip goes on without them): {}{more}", skipped.len(), lines.join("; "));
    Error::input("photos", "photos that can be read", found)
}

#[cfg(test)]
mod tests {
    use super::super::augment::Kind;
    use super::super::random::Purpose;
    use super::super::testing::plain;
    use super::*;

    fn preprocess(resize: Resize, crop: Crop) -> Preprocess {
        let scale = 1.0 / 255.0;
        let (mean, std) = (vec![0.5; 3], vec![0.25; 3]);
        Preprocess { resize, crop, scale, mean, std, layout: Layout::Nchw, ..plain() }
    }

    /// The demo's photos, and a file that is none.
    fn photos(broken: bool) -> (tempfile::TempDir, Vec<Photo>) {
        let folder = tempfile::tempdir().unwrap();
        let demo = ["stop", "yield"].map(|name| PathBuf::from(format!("examples/photos/{name}.jpg")));
        let mut photos: Vec<Photo> = demo.into_iter().enumerate().map(|(class, path)| Photo { path, class }).collect();
        if broken {
            let path = folder.path().join("broken.jpg");
            std::fs::write(&path, b"\xff\xd8\xff").unwrap();
            photos.insert(1, Photo { path, class: 0 });
        }
        (folder, photos)
    }

    #[test]
    fn photos_from_memory_and_from_files_are_the_same() {
        for (resize, crop) in [
            (Resize::ShortEdge(40), Crop::Center(32, 32)),
            (Resize::Exact(32, 32), Crop::None),
            (Resize::Exact(32, 32), Crop::TfV1 { padding: 8 }),
        ] {
            let preprocess = preprocess(resize, crop);
            let load = |memory, threads| {
                Photos::load(photos(false).1, &preprocess, BadImages::Refuse, memory, threads).unwrap()
            };
            let (kept, read_again) = (load(1 << 30, 2), load(0, 1));
            for at in 0..2 {
                let image = Image::open(&kept.photos()[at].path).unwrap();
                let expected = preprocess.tensor(&[image]).unwrap();
                assert_eq!(kept.evaluated(at).unwrap(), expected.as_f32().unwrap());
                assert_eq!(read_again.evaluated(at).unwrap(), expected.as_f32().unwrap());
                let augmented = |photos: &Photos, kind| {
                    let mut draw = Draw::new(1, Purpose::Augment, 0, at as u64);
                    photos.augmented(at, &Augment::of(kind, true), (32, 32), &mut draw).unwrap()
                };
                assert_eq!(augmented(&kept, Kind::Light), augmented(&read_again, Kind::Light));
                let still = augmented(&kept, Kind::None);
                let geometry = Geometry { size: (32, 32), channels: 3, planes: true };
                let mut draw = Draw::new(1, Purpose::Augment, 0, at as u64);
                let values = expected.as_f32().unwrap().to_vec();
                assert_eq!(still, Augment::of(Kind::None, true).still(values, geometry, &mut draw));
            }
        }
    }

    #[test]
    fn no_more_than_the_memory_is_kept() {
        let preprocess = preprocess(Resize::Exact(32, 32), Crop::None);
        let kept = |memory| {
            let loaded = Photos::load(photos(false).1, &preprocess, BadImages::Refuse, memory, 2).unwrap();
            loaded.images.iter().flatten().count()
        };
        assert_eq!([0, 3071, 3072, 6143, 6144].map(kept), [0, 0, 1, 1, 2]);
    }

    #[test]
    fn broken_photos_are_listed_and_may_be_left_out() {
        let preprocess = preprocess(Resize::Exact(8, 8), Crop::None);
        let (folder, photos) = photos(true);
        let error = Photos::load(photos.clone(), &preprocess, BadImages::Refuse, 0, 1).unwrap_err().to_string();
        assert!(error.contains("found 1 that cannot") && error.contains("broken.jpg"), "{error}");
        let loaded = Photos::load(photos, &preprocess, BadImages::Skip, 1 << 20, 2).unwrap();
        assert_eq!((loaded.len(), loaded.skipped.len()), (2, 1));
        assert_eq!(loaded.skipped[0].0, folder.path().join("broken.jpg"));
    }
}
