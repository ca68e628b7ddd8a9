//! Photos mixed with one another: mixup (Zhang and others 2018) and cutmix (Yun and others 2019), each image with its
//! own share, as timm's `Mixup` in its mode `elem`.
//!
//! In: the images of a batch, each with its photo. Out: the same images, each with a part of its partner's in it, and
//! how much is its own. The partner is the image at the same place from the end of the batch. What is drawn for an
//! image is a function of seed, epoch and photo.

use super::random::Draw;

/// How photos are mixed. Where both are asked for, half of the images have the one, half the other.
#[derive(Clone, Copy, PartialEq, Default, Debug)]
pub struct Mix {
    /// Both parameters of the beta distribution of the share in a weighted mean of two images; 0: there is none.
    pub mixup: f64,
    /// Both parameters of the beta distribution of the share that is left when a box of another image is put in; 0:
    /// there is none.
    pub cutmix: f64,
}

/// Where pixels are: `values[y * row + x * column + c * channel]`.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Geometry {
    /// Height and width.
    pub size: (usize, usize),
    /// Number of channels.
    pub channels: usize,
    /// Whether channels are planes.
    pub planes: bool,
}

impl Geometry {
    /// Calls `at` with the place of every value of a box.
    pub fn each(&self, rows: std::ops::Range<usize>, columns: std::ops::Range<usize>, mut at: impl FnMut(usize)) {
        let (height, width) = self.size;
        let (column, channel) = if self.planes { (1, height * width) } else { (self.channels, 1) };
        for y in rows {
            for x in columns.clone() {
                (0..self.channels).for_each(|c| at((y * width + x) * column + c * channel));
            }
        }
    }
}

/// How an image is made of two.
#[derive(Clone, Copy, PartialEq, Debug)]
enum Part {
    /// A weighted mean: this share is its own.
    Mean(f64),
    /// A box of the other: rows and columns, each from and to.
    Box([usize; 2], [usize; 2]),
}

impl Mix {
    /// Whether nothing is mixed.
    pub fn is_none(&self) -> bool {
        self.mixup == 0.0 && self.cutmix == 0.0
    }

    /// Mixes `images`, for each of which there is a draw; the share of each that is its own.
    pub(crate) fn apply(
        &self,
        images: &mut [Vec<f32>],
        geometry: Geometry,
        draws: impl Iterator<Item = Draw>,
    ) -> Vec<f64> {
        let before = images.to_vec();
        let count = images.len();
        let mut shares = Vec::with_capacity(count);
        for (at, (image, mut draw)) in images.iter_mut().zip(draws).enumerate() {
            let other = &before[count - 1 - at];
            match self.part(geometry.size, &mut draw) {
                Part::Mean(own) => {
                    let (kept, taken) = (own as f32, (1.0 - own) as f32);
                    image.iter_mut().zip(other).for_each(|(a, b)| *a = *a * kept + b * taken);
                    shares.push(own);
                }
                Part::Box([top, bottom], [left, right]) => {
                    geometry.each(top..bottom, left..right, |at| image[at] = other[at]);
                    let area = (geometry.size.0 * geometry.size.1) as f64;
                    shares.push(1.0 - ((bottom - top) * (right - left)) as f64 / area);
                }
            }
        }
        shares
    }

    fn part(&self, (height, width): (usize, usize), draw: &mut Draw) -> Part {
        let cut = match (self.mixup > 0.0, self.cutmix > 0.0) {
            (true, true) => draw.unit() < 0.5,
            (_, cut) => cut,
        };
        if !cut {
            return Part::Mean(draw.beta(self.mixup));
        }
        let ratio = (1.0 - draw.beta(self.cutmix)).sqrt();
        let mut side = |extent: usize| {
            let (length, centre) = ((extent as f64 * ratio) as usize, draw.below(extent));
            [centre.saturating_sub(length / 2), (centre + length.div_ceil(2)).min(extent)]
        };
        let rows = side(height);
        Part::Box(rows, side(width))
    }
}

#[cfg(test)]
mod tests {
    use super::super::random::Purpose;
    use super::*;

    fn draws(count: u64) -> impl Iterator<Item = Draw> {
        (0..count).map(|photo| Draw::new(5, Purpose::Mix, 2, photo))
    }

    /// Images whose values are their number everywhere.
    fn flat(count: usize, length: usize) -> Vec<Vec<f32>> {
        (0..count).map(|at| vec![at as f32; length]).collect()
    }

    #[test]
    fn a_mean_has_the_share_of_each() {
        let (mix, geometry) = (Mix { mixup: 0.4, cutmix: 0.0 }, Geometry { size: (2, 3), channels: 3, planes: true });
        let mut images = flat(4, 18);
        let shares = mix.apply(&mut images, geometry, draws(4));
        for (at, (image, own)) in images.iter().zip(&shares).enumerate() {
            assert!((0.0..=1.0).contains(own));
            let expected = at as f64 * own + (3 - at) as f64 * (1.0 - own);
            assert!(image.iter().all(|value| (f64::from(*value) - expected).abs() < 1e-6), "{at}: {image:?} {own}");
        }
        assert!(shares.windows(2).all(|pair| pair[0] != pair[1]), "each image has its own: {shares:?}");
    }

    #[test]
    fn a_box_is_as_large_as_its_share_in_every_channel() {
        let mix = Mix { mixup: 0.0, cutmix: 1.0 };
        let (height, width) = (11, 8);
        let mut sizes = Vec::new();
        for planes in [true, false] {
            let geometry = Geometry { size: (height, width), channels: 3, planes };
            let mut images = flat(40, height * width * 3);
            let shares = mix.apply(&mut images, geometry, draws(40));
            for (at, (image, own)) in images.iter().zip(&shares).enumerate() {
                let channel = |c: usize| -> Vec<bool> {
                    let place = |p: usize| if planes { c * height * width + p } else { p * 3 + c };
                    (0..height * width).map(|p| image[place(p)] == (39 - at) as f32).collect()
                };
                let taken = channel(0).iter().filter(|taken| **taken).count();
                assert!((own - 1.0 + taken as f64 / (height * width) as f64).abs() < 1e-12, "{at}: {own} {taken}");
                assert!(channel(0) == channel(1) && channel(0) == channel(2));
                sizes.push(taken);
            }
        }
        assert_eq!(sizes[..40], sizes[40..], "the layout of the input changes nothing");
        assert!(sizes.iter().any(|size| *size < 20) && sizes.iter().any(|size| *size > 60), "{sizes:?}");
    }

    #[test]
    fn both_take_turns() {
        let mix = Mix { mixup: 1.0, cutmix: 1.0 };
        let boxes = draws(200).filter(|draw| matches!(mix.part((9, 9), &mut draw.clone()), Part::Box(..))).count();
        assert!((70..130).contains(&boxes), "{boxes}");
        assert!(!mix.is_none() && Mix::default().is_none());
    }
}
