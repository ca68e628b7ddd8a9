//! Photos as training sees them: another part, another light in every epoch.
//!
//! In: a photo, what the network expects of one, and a [`Draw`]. Out: the values of one image of its input. The same
//! draw gives the same values, whatever thread asks. What the kinds do is that of torchvision's transforms of the same
//! names, with their parameters in units of the photo.

mod pixels;
mod rand;

use std::str::FromStr;

use self::pixels::Pixels;
use super::mix::Geometry;
use super::random::Draw;
use crate::error::{Error, Result};
use crate::images::{Image, Interpolation, Layout, Preprocess, Resampler, resize};

/// How much a photo is changed.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Augment {
    /// Least and largest part of the photo's area that a crop takes; (1, 1) for the part that the network is given
    /// otherwise.
    pub scale: (f64, f64),
    /// Whether half of the photos are mirrored.
    pub flip: bool,
    /// Standard deviation of the logarithm of brightness, and half of it of that of each colour's share.
    pub light: f64,
    /// Whether RandAugment and random erasing follow.
    pub rand: bool,
}

/// The kinds that have a name.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Kind {
    /// Photos as they are.
    None,
    /// Another crop, another light.
    #[default]
    Light,
    /// Another crop, RandAugment, random erasing.
    Rand,
}

impl FromStr for Kind {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "light" => Ok(Self::Light),
            "rand" => Ok(Self::Rand),
            _ => Err(Error::usage("--augment", "none, light or rand", name)),
        }
    }
}

impl Augment {
    /// A kind; whether photos may be mirrored is known only to who knows the classes.
    pub fn of(kind: Kind, flip: bool) -> Self {
        match kind {
            Kind::None => Self { scale: (1.0, 1.0), flip, light: 0.0, rand: false },
            Kind::Light => Self { scale: (0.6, 1.0), flip, light: 0.12, rand: false },
            Kind::Rand => Self { scale: (0.6, 1.0), flip, light: 0.0, rand: true },
        }
    }

    /// Whether a photo is what the network is given otherwise, but for mirroring.
    pub(crate) fn is_still(&self) -> bool {
        Self { flip: false, ..*self } == Self::of(Kind::None, false)
    }

    /// What the network is given otherwise, mirrored if that is drawn.
    pub(crate) fn still(&self, mut values: Vec<f32>, geometry: Geometry, draw: &mut Draw) -> Vec<f32> {
        if self.flip && draw.unit() < 0.5 {
            mirror_all(&mut values, geometry);
        }
        values
    }

    /// The values of an image in the order of the network's input, of height and width `size`.
    ///
    /// # Errors
    /// As [`Preprocess::tensor`].
    pub(crate) fn values(
        &self,
        image: &Image,
        preprocess: &Preprocess,
        size: (usize, usize),
        draw: &mut Draw,
    ) -> Result<Vec<f32>> {
        let (height, width) = size;
        let Part { top, left, rows, columns } = self.part((image.height(), image.width()), size, draw);
        let part = image.crop(top, left, rows, columns)?;
        let mut values = resize(&part, height, width, Interpolation::Bilinear, Resampler::Pillow)?;
        if self.flip && draw.unit() < 0.5 {
            values.chunks_exact_mut(3 * width).for_each(|row| mirror(row, 3));
        }
        if self.light > 0.0 {
            self.relight(&mut values, draw);
        }
        if !self.rand {
            return Ok(preprocess.normalise(size, values));
        }
        let bytes = values.into_iter().map(|value| value as u8).collect();
        let pixels = rand::rand_augment(Pixels { size, values: bytes }, draw).values;
        let mut values = preprocess.normalise(size, pixels.into_iter().map(f32::from).collect());
        if let Some((rows, columns)) = rand::erased(size, draw) {
            let planes = preprocess.layout == Layout::Nchw;
            let geometry = Geometry { size, channels: preprocess.channels(), planes };
            geometry.each(rows, columns, |at| values[at] = 0.0);
        }
        Ok(values)
    }

    /// The part that a crop takes: of a random area and an aspect within 3/4 to 4/3 of the input's (Szegedy and others
    /// 2015), else the largest of the input's aspect, in the middle.
    fn part(&self, (height, width): (usize, usize), size: (usize, usize), draw: &mut Draw) -> Part {
        let (h, w) = (height as f64, width as f64);
        let aspect = size.1 as f64 / size.0 as f64;
        for _ in 0..if self.scale == (1.0, 1.0) { 0 } else { TRIES } {
            let area = h * w * draw.between(self.scale.0, self.scale.1);
            let ratio = aspect * libm::exp(draw.between(-ASPECT, ASPECT));
            let (rows, columns) = ((area / ratio).sqrt().round() as usize, (area * ratio).sqrt().round() as usize);
            if (1..=height).contains(&rows) && (1..=width).contains(&columns) {
                let (top, left) = (draw.below(height - rows + 1), draw.below(width - columns + 1));
                return Part { top, left, rows, columns };
            }
        }
        let (rows, columns) = if w / h > aspect { (h, h * aspect) } else { (w / aspect, w) };
        let (rows, columns) = (rows.round().clamp(1.0, h) as usize, columns.round().clamp(1.0, w) as usize);
        Part { top: (height - rows) / 2, left: (width - columns) / 2, rows, columns }
    }

    /// Another brightness, offset and share of each colour; values stay within 0 to 255.
    fn relight(&self, values: &mut [f32], draw: &mut Draw) {
        let gain = draw.normal() * self.light;
        let gains = [0; 3].map(|_| libm::exp(gain + draw.normal() * self.light / 3.0) as f32);
        let offset = (255.0 * draw.normal() * self.light / 3.0) as f32;
        for pixel in values.as_chunks_mut::<3>().0 {
            for (value, gain) in pixel.iter_mut().zip(gains) {
                *value = (*value * gain + offset).clamp(0.0, 255.0);
            }
        }
    }
}

/// A box of a photo.
struct Part {
    top: usize,
    left: usize,
    rows: usize,
    columns: usize,
}

/// How often a crop is drawn before the middle is taken.
const TRIES: usize = 10;
/// The logarithm of 4/3.
const ASPECT: f64 = 0.287_682_072_451_780_9;

/// Mirrors the values of an input.
pub(crate) fn mirror_all(values: &mut [f32], geometry: Geometry) {
    let channels = if geometry.planes { 1 } else { geometry.channels };
    values.chunks_exact_mut(channels * geometry.size.1).for_each(|row| mirror(row, channels));
}

/// Reverses the pixels of a row.
fn mirror(row: &mut [f32], channels: usize) {
    row.reverse();
    row.chunks_exact_mut(channels).for_each(<[f32]>::reverse);
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::super::testing::plain;
    use super::*;

    fn photo(height: usize, width: usize) -> Image {
        Image::from_rgb(height, width, (0..height * width * 3).map(|i| (i * 37 % 251) as u8).collect()).unwrap()
    }

    fn values(augment: Augment, photo: &Image, size: (usize, usize), item: u64) -> Vec<f32> {
        augment.values(photo, &plain(), size, &mut Draw::new(3, Purpose::Augment, 1, item)).unwrap()
    }

    #[test]
    fn a_photo_of_the_right_size_stays_as_it_is_without_augmentation() {
        let image = photo(8, 6);
        let expected: Vec<f32> = image.pixels().iter().map(|p| f32::from(*p)).collect();
        assert_eq!(values(Augment::of(Kind::None, false), &image, (8, 6), 0), expected);
    }

    #[test]
    fn the_middle_has_the_aspect_of_the_input() {
        let none = Augment::of(Kind::None, false);
        let part = |photo, size| {
            let Part { top, left, rows, columns } = none.part(photo, size, &mut Draw::new(0, Purpose::Augment, 0, 0));
            [top, left, rows, columns]
        };
        assert_eq!(part((10, 20), (4, 4)), [0, 5, 10, 10]);
        assert_eq!(part((20, 10), (4, 4)), [5, 0, 10, 10]);
        assert_eq!(part((20, 10), (4, 8)), [7, 0, 5, 10]);
        assert_eq!(part((1, 1), (9, 2)), [0, 0, 1, 1]);
    }

    #[test]
    fn every_photo_is_changed_in_its_own_way_and_always_the_same() {
        let (light, image) = (Augment::of(Kind::Light, true), photo(40, 30));
        let all: Vec<Vec<f32>> = (0..4).map(|item| values(light, &image, (16, 16), item)).collect();
        for (item, one) in all.iter().enumerate() {
            assert!(one.iter().all(|value| (0.0..=255.0).contains(value)));
            assert_eq!(*one, values(light, &image, (16, 16), item as u64));
            assert!(all[..item].iter().all(|other| other != one));
        }
    }

    #[test]
    fn the_smallest_photos_have_parts() {
        for (height, width) in [(1, 1), (1, 9), (2, 3)] {
            for item in 0..20 {
                assert_eq!(values(Augment::of(Kind::Light, true), &photo(height, width), (5, 4), item).len(), 60);
            }
        }
    }

    #[test]
    fn a_mirrored_row_begins_with_its_last_pixel() {
        let mut row = [1.0, 2.0, 3.0, 4.0, 5.0, 6.0];
        mirror(&mut row, 3);
        assert_eq!(row, [4.0, 5.0, 6.0, 1.0, 2.0, 3.0]);
        mirror(&mut row, 1);
        assert_eq!(row, [3.0, 2.0, 1.0, 6.0, 5.0, 4.0]);
    }

    #[test]
    fn half_of_the_photos_are_mirrored_in_either_layout() {
        let still = Augment::of(Kind::None, true);
        assert!(still.is_still() && !Augment::of(Kind::Light, false).is_still());
        let values: Vec<f32> = (0..2 * 3 * 2).map(|i| i as f32).collect();
        let mut mirrored = 0;
        for item in 0..100 {
            let of = |channels, planes| {
                let geometry = Geometry { size: (2, 3), channels, planes };
                still.still(values.clone(), geometry, &mut Draw::new(1, Purpose::Augment, 0, item))
            };
            let (planes, interleaved) = (of(2, true), of(2, false));
            if planes != values {
                mirrored += 1;
                assert_eq!(planes, [2.0, 1.0, 0.0, 5.0, 4.0, 3.0, 8.0, 7.0, 6.0, 11.0, 10.0, 9.0]);
                assert_eq!(interleaved, [4.0, 5.0, 2.0, 3.0, 0.0, 1.0, 10.0, 11.0, 8.0, 9.0, 6.0, 7.0]);
            }
        }
        assert!((35..65).contains(&mirrored), "{mirrored}");
    }

    #[test]
    fn erased_values_are_those_of_the_mean() {
        let mean = Preprocess { mean: vec![100.0; 3], layout: Layout::Nchw, ..plain() };
        let image = Image::from_rgb(20, 20, vec![90; 20 * 20 * 3]).unwrap();
        let rand = Augment::of(Kind::Rand, false);
        let of = |item| rand.values(&image, &mean, (16, 16), &mut Draw::new(3, Purpose::Augment, 1, item)).unwrap();
        let zeros = |values: &[f32]| -> Vec<usize> {
            values.chunks_exact(256).map(|plane| plane.iter().filter(|value| **value == 0.0).count()).collect()
        };
        let erased: Vec<Vec<usize>> = (0..60).map(|item| zeros(&of(item))).filter(|found| found[0] > 0).collect();
        assert!((5..30).contains(&erased.len()), "{}", erased.len());
        assert!(
            erased.iter().all(|found| found[0] == found[1] && found[1] == found[2] && found[0] < 100),
            "{erased:?}"
        );
    }
}
