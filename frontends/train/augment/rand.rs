//! RandAugment (Cubuk and others 2020) as torchvision's `RandAugment` with its defaults, two operations of magnitude 9
//! out of 30; and random erasing (Zhong and others 2020) as timm's with a probability of 0.25 and a constant.
//!
//! In: pixels and a draw. Out: other pixels of the same number.

use std::ops::Range;

use super::pixels::Pixels;
use crate::train::random::Draw;

/// Operations on a photo.
const OPERATIONS: usize = 2;
/// Their magnitude, a share of the largest.
const MAGNITUDE: f64 = 9.0 / 30.0;
/// Least and largest part of the area that is erased, and the logarithm of its most oblong aspect, 1 to 0.3.
const AREA: (f64, f64) = (0.02, 1.0 / 3.0);
const ASPECT: f64 = 1.203_972_804_325_936;
/// The share of photos of which something is erased.
const ERASED: f64 = 0.25;
/// How often a box is drawn before nothing is erased.
const TRIES: usize = 10;

/// Names the operations once: the type, its values, and all of them in this order.
macro_rules! operations {
    ($($name:ident)*) => {
        /// What may be done to a photo.
        #[derive(Clone, Copy, PartialEq, Debug)]
        enum Operation { $($name,)* }

        use Operation::{$($name,)*};

        /// All of them, in torchvision's order.
        const ALL: &[Operation] = &[$($name,)*];
    };
}

operations! {
    Identity ShearX ShearY TranslateX TranslateY Rotate
    Brightness Color Contrast Sharpness
    Posterize Solarize AutoContrast Equalize
}

impl Operation {
    /// Whether it has two directions.
    fn is_signed(self) -> bool {
        !matches!(self, Identity | Posterize | Solarize | AutoContrast | Equalize)
    }

    /// The photo after it; `sign` is 1 or -1.
    fn of(self, photo: Pixels, sign: f64) -> Pixels {
        let (height, width) = (photo.size.0 as f64, photo.size.1 as f64);
        let far = sign * MAGNITUDE;
        let shift = |extent: f64| (150.0 / 331.0 * extent * far).trunc();
        let factor = (1.0 + 0.9 * far) as f32;
        match self {
            Identity => photo,
            ShearX => photo.affine([1.0, 0.3 * far, 0.0, 0.0, 1.0, 0.0]),
            ShearY => photo.affine([1.0, 0.0, 0.0, 0.3 * far, 1.0, 0.0]),
            TranslateX => photo.affine([1.0, 0.0, -shift(width), 0.0, 1.0, 0.0]),
            TranslateY => photo.affine([1.0, 0.0, 0.0, 0.0, 1.0, -shift(height)]),
            Rotate => photo.rotate(30.0 * far),
            Brightness => photo.brightness(factor),
            Color => photo.color(factor),
            Contrast => photo.contrast(factor),
            Sharpness => photo.sharpness(factor),
            Posterize => photo.posterize(8 - (4.0 * MAGNITUDE).round() as u32),
            Solarize => photo.solarize(255.0 * (1.0 - MAGNITUDE)),
            AutoContrast => photo.autocontrast(),
            Equalize => photo.equalize(),
        }
    }
}

/// A photo after operations that are drawn.
pub(super) fn rand_augment(mut photo: Pixels, draw: &mut Draw) -> Pixels {
    for _ in 0..OPERATIONS {
        let operation = ALL[draw.below(ALL.len())];
        let sign = if operation.is_signed() && draw.unit() < 0.5 { -1.0 } else { 1.0 };
        photo = operation.of(photo, sign);
    }
    photo
}

/// Rows and columns that are erased of an image of this height and width, if any are.
pub(super) fn erased((height, width): (usize, usize), draw: &mut Draw) -> Option<(Range<usize>, Range<usize>)> {
    if draw.unit() >= ERASED {
        return None;
    }
    (0..TRIES).find_map(|_| {
        let area = draw.between(AREA.0, AREA.1) * (height * width) as f64;
        let aspect = libm::exp(draw.between(-ASPECT, ASPECT));
        let (rows, columns) = ((area * aspect).sqrt().round() as usize, (area / aspect).sqrt().round() as usize);
        (rows < height && columns < width).then(|| {
            let (top, left) = (draw.below(height - rows + 1), draw.below(width - columns + 1));
            (top..top + rows, left..left + columns)
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::train::random::Purpose;

    fn photo() -> Pixels {
        let values = (0..32 * 40 * 3).map(|i| (i * 37 % 251) as u8).collect();
        Pixels { size: (32, 40), values }
    }

    #[test]
    fn every_operation_but_one_changes_a_photo_in_each_direction() {
        let before = photo();
        for operation in ALL.iter().copied() {
            let [there, back] = [1.0, -1.0].map(|sign| operation.of(before.clone(), sign));
            assert_eq!(there.values == before.values, operation == Identity, "{operation:?}");
            assert_eq!(there.values != back.values, operation.is_signed(), "{operation:?}");
        }
    }

    #[test]
    fn photos_differ_by_their_draws() {
        let all: Vec<Pixels> =
            (0..20).map(|item| rand_augment(photo(), &mut Draw::new(2, Purpose::Augment, 0, item))).collect();
        let again = rand_augment(photo(), &mut Draw::new(2, Purpose::Augment, 0, 7));
        assert_eq!(all[7], again);
        let mut distinct: Vec<&[u8]> = all.iter().map(|photo| &photo.values[..]).collect();
        distinct.sort_unstable();
        distinct.dedup();
        assert!(distinct.len() > 15, "{}", distinct.len());
    }

    #[test]
    fn a_quarter_of_the_photos_lose_a_part_of_the_size_asked_for() {
        let boxes: Vec<_> =
            (0..4000).filter_map(|item| erased((60, 80), &mut Draw::new(2, Purpose::Augment, 0, item))).collect();
        assert!((900..1100).contains(&boxes.len()), "{}", boxes.len());
        for (rows, columns) in boxes {
            let share = (rows.len() * columns.len()) as f64 / 4800.0;
            assert!(rows.end <= 60 && columns.end <= 80 && (0.015..0.35).contains(&share), "{rows:?} {columns:?}");
        }
        // There is nothing smaller than one pixel.
        assert!((0..100).all(|item| {
            erased((1, 1), &mut Draw::new(2, Purpose::Augment, 0, item)).is_none_or(|(rows, _)| rows.is_empty())
        }));
    }
}
