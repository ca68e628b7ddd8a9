//! Pillow's resize of 8-bit images, to the bit.
//!
//! Separable and antialiased: the filter's support grows with the reduction. The pass along rows comes first; each pass
//! accumulates in 22-bit fixed point and rounds to 8 bits. Written out because networks are trained on the output of exactly
//! this, and the resizing crates, with 16-bit coefficients, end two levels away.

use super::filter::{Interpolation, cubic};
use super::image::Image;

/// Fraction bits of the coefficients: 8 bits of pixel and 2 of overshoot leave this of 32.
const PRECISION: u32 = 32 - 8 - 2;

/// The source pixels of one output pixel along an axis, with their fixed-point weights.
struct Window {
    first: usize,
    weights: Vec<i32>,
}

/// The image at another size, interleaved RGB bytes. `interpolation` is any but nearest.
pub(crate) fn resize(image: &Image, height: usize, width: usize, interpolation: Interpolation) -> Vec<u8> {
    let rows = if width == image.width() {
        image.pixels().to_vec()
    } else {
        let windows = windows(image.width(), width, interpolation);
        let lines = image.pixels().chunks_exact(image.width() * 3);
        lines.flat_map(|line| windows.iter().flat_map(|window| weighted(window, |x| &line[x * 3..]))).collect()
    };
    if height == image.height() {
        return rows;
    }
    let stride = width * 3;
    let mut out = Vec::with_capacity(height * stride);
    for window in windows(image.height(), height, interpolation) {
        out.extend((0..width).flat_map(|x| weighted(&window, |y| &rows[y * stride + x * 3..])));
    }
    out
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
            assert_eq!(resize(&image, 3, 20, *interpolation), [200, 1, 255].repeat(60));
        }
    }
}
