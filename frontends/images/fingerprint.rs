//! A perceptual hash: 64 bits that hardly change when a photo is scaled, compressed again, or made a little brighter.
//!
//! In: an image. Out: a bit for each of the 8 x 8 lowest frequencies of the cosine transform of its grey version at 32 x 32, whether it exceeds
//! the median of all; the `phash` of the imagehash package. Two photos with few bits between them are near duplicates.

use std::f64::consts::PI;

use super::filter::Interpolation;
use super::image::Image;
use super::pillow::{self, Passes};

/// Side of the image that is transformed.
const SIDE: usize = 32;
/// Frequencies along each axis.
const LOW: usize = 8;

impl Image {
    /// The perceptual hash.
    pub fn fingerprint(&self) -> u64 {
        let small = pillow::resize(&self.to_gray(), SIDE, SIDE, Interpolation::Lanczos, Passes::BySize);
        let grey = |y: usize, x: usize| f64::from(small[(y * SIDE + x) * 3]);
        let wave = |frequency: usize, at: usize| (((2 * at + 1) * frequency) as f64 * PI / (2 * SIDE) as f64).cos();
        let waves: [[f64; SIDE]; LOW] = std::array::from_fn(|u| std::array::from_fn(|at| wave(u, at)));
        let rows: [[f64; LOW]; SIDE] =
            std::array::from_fn(|y| std::array::from_fn(|v| (0..SIDE).map(|x| grey(y, x) * waves[v][x]).sum()));
        // Whole numbers: what a flat image has beside its mean is 0, not a rounding error.
        let low: [i64; LOW * LOW] = std::array::from_fn(|at| {
            let (u, v) = (at / LOW, at % LOW);
            (0..SIDE).map(|y| rows[y][v] * waves[u][y]).sum::<f64>().round() as i64
        });
        let mut sorted = low;
        sorted.sort_unstable();
        // Twice the median, as sums of two.
        let middle = sorted[LOW * LOW / 2 - 1] + sorted[LOW * LOW / 2];
        low.iter().fold(0, |bits, value| bits << 1 | u64::from(2 * value > middle))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Waves of the given lengths.
    fn waves(height: usize, width: usize, across: f64, down: f64, light: u8) -> Image {
        let value = |y: usize, x: usize| {
            let (y, x) = (y as f64 / height as f64, x as f64 / width as f64);
            (60.0 + 50.0 * (x * across).sin() * (y * down + x).cos()) as u8 + light
        };
        let pixels = (0..height).flat_map(|y| (0..width).flat_map(move |x| [value(y, x); 3])).collect();
        Image::from_rgb(height, width, pixels).unwrap()
    }

    fn distance(a: &Image, b: &Image) -> u32 {
        (a.fingerprint() ^ b.fingerprint()).count_ones()
    }

    #[test]
    fn scaled_and_lighter_versions_are_near_and_others_are_not() {
        let image = waves(90, 120, 9.0, 7.0, 0);
        assert!(distance(&image, &waves(61, 83, 9.0, 7.0, 0)) <= 4);
        assert!(distance(&image, &waves(90, 120, 9.0, 7.0, 40)) <= 2);
        assert!(distance(&image, &waves(90, 120, 4.0, 15.0, 0)) > 12);
    }

    /// Of a flat image only the mean is above the median.
    #[test]
    fn flat_images_are_alike() {
        let flat = |value: u8| Image::from_rgb(3, 5, vec![value; 45]).unwrap().fingerprint();
        assert_eq!([flat(1), flat(200)], [1 << 63; 2]);
        assert_eq!(flat(0), 0);
    }

    /// A ramp of 8 x 8, `imagehash.phash` of version 4.3.
    #[test]
    fn as_imagehash_has_it() {
        let pixels = (0..64u32).flat_map(|i| [((i * 37 + i * i / 3) % 256) as u8; 3]).collect();
        assert_eq!(format!("{:016x}", Image::from_rgb(8, 8, pixels).unwrap().fingerprint()), EXPECTED);
    }

    const EXPECTED: &str = "9d10179f072631fd";
}
