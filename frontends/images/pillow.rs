//! Pillow's resize of 8-bit images, to the bit.
//!
//! Separable and antialiased: the filter's support grows with the reduction. Each pass accumulates in 22-bit fixed point and
//! rounds to 8 bits, so the order of the two decides bits: Pillow up to 12 resizes the rows first, Pillow from 13 on the columns
//! where the height loses more than twice the pixels that the width does. Written out because networks are trained on the output of
//! exactly this, and the resizing crates, with 16-bit coefficients, end two levels away.

use super::filter::{Interpolation, cubic};
use super::image::Image;

/// Fraction bits of the coefficients: 8 bits of pixel and 2 of overshoot leave this of 32.
const PRECISION: u32 = 32 - 8 - 2;

/// The source pixels of one output pixel along an axis, with their fixed-point weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The order of the two passes.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Passes {
    /// Along rows first: Pillow up to 12.
    RowsFirst,
    /// By the sizes: Pillow from 13 on.
    BySize,
}

/// The image at another size, interleaved RGB bytes. `interpolation` is any but nearest.
pub(crate) fn resize(
    image: &Image,
    height: usize,
    width: usize,
    interpolation: Interpolation,
    passes: Passes,
) -> Vec<u8> {
    let lost = |from: usize, to: usize| from as i64 - to as i64;
    let (rows, columns) = (lost(image.height(), height), lost(image.width(), width));
    if passes == Passes::BySize && rows > 0 && rows > 2 * columns {
        let fewer = along_columns(image.pixels(), image.width(), [image.height(), height], interpolation);
        return along_rows(&fewer, [image.width(), width], interpolation);
    }
    let resized = along_rows(image.pixels(), [image.width(), width], interpolation);
    along_columns(&resized, width, [image.height(), height], interpolation)
}

/// Every row of `pixels` from one width to another.
fn along_rows(pixels: &[u8], [from, to]: [usize; 2], interpolation: Interpolation) -> Vec<u8> {
    if from == to {
        return pixels.to_vec();
    }
    let windows = windows(from, to, interpolation);
    let lines = pixels.chunks_exact(from * 3);
    lines.flat_map(|line| windows.iter().flat_map(|window| weighted(window, |x| &line[x * 3..]))).collect()
}

/// Every column of `pixels`, of which a row has `width`, from one height to another.
fn along_columns(pixels: &[u8], width: usize, [from, to]: [usize; 2], interpolation: Interpolation) -> Vec<u8> {
    if from == to {
        return pixels.to_vec();
    }
    let stride = width * 3;
    let mut out = Vec::with_capacity(to * stride);
    for window in windows(from, to, interpolation) {
        out.extend((0..width).flat_map(|x| weighted(&window, |y| &pixels[y * stride + x * 3..])));
    }
    out
}

/// The nearest pixels, interleaved RGB bytes. The step is added up, as Pillow adds it: at ties that decides.
pub(crate) fn nearest(image: &Image, height: usize, width: usize) -> Vec<u8> {
    let sources = |from: usize, to: usize| -> Vec<usize> {
        let step = from as f64 / to as f64;
        let places = std::iter::successors(Some(step * 0.5), |at| Some(at + step));
        places.take(to).map(|at| (at as usize).min(from - 1)).collect()
    };
    let (rows, columns) = (sources(image.height(), height), sources(image.width(), width));
    let pixel = |row: usize, column: usize| &image.pixels()[(row * image.width() + column) * 3..][..3];
    rows.iter().flat_map(|row| columns.iter().flat_map(|column| pixel(*row, *column))).copied().collect()
}

/// The weighted sum of pixels, of which `at` gives the bytes from the one asked for on.
fn weighted<'a>(window: &Window, at: impl Fn(usize) -> &'a [u8]) -> [u8; 3] {
    let mut sums = [1i32 << (PRECISION - 1); 3];
    for (i, weight) in window.weights.iter().enumerate() {
        let pixel = at(window.first + i);
        for (sum, value) in sums.iter_mut().zip(pixel) {
            *sum += weight * i32::from(*value);
        }
    }
    sums.map(|sum| (sum >> PRECISION).clamp(0, 255) as u8)
}

fn windows(from: usize, to: usize, interpolation: Interpolation) -> Vec<Window> {
    let scale = from as f64 / to as f64;
    let stretch = scale.max(1.0);
    let reach = support(interpolation) * stretch;
    let window = |at: usize| {
        let center = (at as f64 + 0.5) * scale;
        let first = (center - reach + 0.5).max(0.0) as usize;
        let end = ((center + reach + 0.5) as usize).min(from);
        let weight = |x: usize| filter((x as f64 - center + 0.5) / stretch, interpolation);
        let weights: Vec<f64> = (first..end).map(weight).collect();
        let sum: f64 = weights.iter().sum();
        let fixed = |w: &f64| {
            let scaled = if sum == 0.0 { *w } else { w / sum } * f64::from(1u32 << PRECISION);
            (scaled + 0.5f64.copysign(scaled)) as i32
        };
        Window { first, weights: weights.iter().map(fixed).collect() }
    };
    (0..to).map(window).collect()
}

/// Half the width of a filter, in pixels.
fn support(interpolation: Interpolation) -> f64 {
    match interpolation {
        Interpolation::Nearest | Interpolation::Box => 0.5,
        Interpolation::Bilinear | Interpolation::Hamming => 1.0,
        Interpolation::Bicubic => 2.0,
        Interpolation::Lanczos => 3.0,
    }
}

fn filter(x: f64, interpolation: Interpolation) -> f64 {
    let sinc = |x: f64| if x == 0.0 { 1.0 } else { (x * std::f64::consts::PI).sin() / (x * std::f64::consts::PI) };
    match interpolation {
        Interpolation::Nearest | Interpolation::Box => f64::from(x > -0.5 && x <= 0.5),
        Interpolation::Bilinear => (1.0 - x.abs()).max(0.0),
        Interpolation::Hamming if x.abs() >= 1.0 => 0.0,
        Interpolation::Hamming => sinc(x) * (0.54 + 0.46 * (x * std::f64::consts::PI).cos()),
        Interpolation::Bicubic => cubic(x, -0.5),
        Interpolation::Lanczos if !(-3.0..3.0).contains(&x) => 0.0,
        Interpolation::Lanczos => sinc(x) * sinc(x / 3.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_sum_to_one_and_stay_inside() {
        for (_, interpolation) in &Interpolation::NAMES[1..] {
            for (from, to) in [(1, 4), (7, 3), (100, 7), (3, 17), (4000, 1)] {
                for window in windows(from, to, *interpolation) {
                    let sum: i64 = window.weights.iter().map(|w| i64::from(*w)).sum();
                    assert!((sum - (1 << PRECISION)).abs() <= window.weights.len() as i64, "{interpolation} {sum}");
                    assert!(window.first + window.weights.len() <= from && !window.weights.is_empty());
                }
            }
        }
    }

    #[test]
    fn a_flat_image_stays_flat() {
        let image = Image::from_rgb(5, 9, [200, 1, 255].repeat(45)).unwrap();
        for (_, interpolation) in &Interpolation::NAMES[1..] {
            for passes in [Passes::RowsFirst, Passes::BySize] {
                assert_eq!(resize(&image, 3, 20, *interpolation, passes), [200, 1, 255].repeat(60));
            }
        }
    }

    /// What Pillow 13.0 gives of a ramp, and 12.2 for the order of passes.
    #[test]
    fn nearest_pixels_at_ties() {
        let width = 256;
        let pixels: Vec<u8> = (0..width).flat_map(|x| [x as u8, 0, 255]).collect();
        let image = Image::from_rgb(1, width, pixels).unwrap();
        let columns: Vec<u8> = nearest(&image, 1, 224).chunks_exact(3).map(|pixel| pixel[0]).collect();
        assert_eq!(columns[..12], [0, 1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 13]);
        let sum: u32 = columns.iter().map(|column| u32::from(*column)).sum();
        assert_eq!(sum, 28551);
    }

    #[test]
    fn the_order_of_passes_decides_bits() {
        // 12 x 3 pixels to 4 x 2: the height loses 8, the width 1.
        let pixels: Vec<u8> = (0..12 * 3 * 3u32).map(|i| (i * i * 31 % 251) as u8).collect();
        let image = Image::from_rgb(12, 3, pixels).unwrap();
        let resized = |passes| resize(&image, 4, 2, Interpolation::Bicubic, passes);
        assert_eq!(
            resized(Passes::BySize),
            [
                39, 148, 124, 124, 138, 119, 56, 126, 155, 136, 157, 130, 94, 125, 129, 121, 121, 138, 112, 93, 158,
                135, 93, 78
            ]
        );
        assert_eq!(
            resized(Passes::RowsFirst),
            [
                40, 148, 124, 124, 138, 119, 56, 126, 155, 136, 157, 130, 94, 125, 128, 120, 121, 138, 112, 93, 158,
                135, 93, 78
            ]
        );
        // Where the height loses less than twice what the width does, rows come first in both.
        let wide = |passes| resize(&image, 11, 2, Interpolation::Bicubic, passes);
        assert_eq!(wide(Passes::BySize), wide(Passes::RowsFirst));
    }
}
