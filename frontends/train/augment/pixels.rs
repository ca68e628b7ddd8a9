//! Operations on the pixels of a photo, each equal to Pillow's of the same name, bit for bit (`ImageEnhance`,
//! `ImageOps`, `Image.transform` and `Image.rotate` without a filter).
//!
//! In: interleaved RGB bytes and a height and width. Out: as many bytes.

/// A photo of 8 bits for each channel, as operations see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Pixels {
    /// Height and width.
    pub size: (usize, usize),
    /// Interleaved RGB.
    pub values: Vec<u8>,
}

impl Pixels {
    /// Each pixel from where `matrix` says, to the nearest: column `m[0] x + m[1] y + m[2]` and row `m[3] x + m[4] y +
    /// m[5]`, from pixel centres, in 16 bits after the point; black from outside.
    pub fn affine(&self, matrix: [f64; 6]) -> Self {
        let (height, width) = self.size;
        let fixed = |v: f64| (v * 65536.0 + 0.5).floor() as i64;
        let [a, b, c, d, e, f] = matrix;
        let (along, down) = ([fixed(a), fixed(d)], [fixed(b), fixed(e)]);
        let mut row = [fixed(c + a * 0.5 + b * 0.5), fixed(f + d * 0.5 + e * 0.5)];
        let mut values = Vec::with_capacity(self.values.len());
        for _ in 0..height {
            let mut at = row;
            for _ in 0..width {
                let (x, y) = (at[0] >> 16, at[1] >> 16);
                let inside = (0..width as i64).contains(&x) && (0..height as i64).contains(&y);
                values.extend_from_slice(match inside {
                    true => &self.values[(y as usize * width + x as usize) * 3..][..3],
                    false => &[0; 3],
                });
                at = [at[0] + along[0], at[1] + along[1]];
            }
            row = [row[0] + down[0], row[1] + down[1]];
        }
        Self { size: self.size, values }
    }

    /// Turned against the clock by an angle in degrees, about its middle.
    pub fn rotate(&self, degrees: f64) -> Self {
        let (height, width) = (self.size.0 as f64, self.size.1 as f64);
        let angle = -degrees.to_radians();
        let (cos, sin) = (libm::cos(angle), libm::sin(angle));
        let (x, y) = (width / 2.0, height / 2.0);
        self.affine([cos, sin, x - cos * x - sin * y, -sin, cos, y + sin * x - cos * y])
    }

    /// `degenerate + factor (own - degenerate)`, rounded down, within 0 to 255.
    fn blend(&self, degenerate: &[u8], factor: f32) -> Self {
        let blend = |(own, other): (&u8, &u8)| {
            let (own, other) = (i32::from(*own), i32::from(*other));
            (other as f32 + factor * (own - other) as f32) as u8
        };
        Self { size: self.size, values: self.values.iter().zip(degenerate).map(blend).collect() }
    }

    /// Lighter for a factor above 1, darker below.
    pub fn brightness(&self, factor: f32) -> Self {
        self.blend(&vec![0; self.values.len()], factor)
    }

    /// More colour for a factor above 1, greyer below.
    pub fn color(&self, factor: f32) -> Self {
        let gray = self.luma().flat_map(|luma| [luma; 3]).collect::<Vec<u8>>();
        self.blend(&gray, factor)
    }

    /// Farther from the mean luma for a factor above 1, nearer to it below.
    pub fn contrast(&self, factor: f32) -> Self {
        let count = (self.values.len() / 3).max(1) as f64;
        let mean = (self.luma().map(u64::from).sum::<u64>() as f64 / count + 0.5) as u8;
        self.blend(&vec![mean; self.values.len()], factor)
    }

    /// Sharper for a factor above 1, blurred below.
    pub fn sharpness(&self, factor: f32) -> Self {
        self.blend(&self.smooth(), factor)
    }

    /// Luma of ITU-R 601, in Pillow's fixed point.
    fn luma(&self) -> impl Iterator<Item = u8> {
        let luma = |p: &[u8; 3]| {
            let [r, g, b] = p.map(u32::from);
            ((r * 19595 + g * 38470 + b * 7471 + 0x8000) >> 16) as u8
        };
        self.values.as_chunks::<3>().0.iter().map(luma)
    }

    /// The mean of 3x3 pixels, the middle one counting five times; the outermost pixels stay.
    fn smooth(&self) -> Vec<u8> {
        let (height, width) = self.size;
        let mut values = self.values.clone();
        for y in 1..height.saturating_sub(1) {
            for x in 1..width.saturating_sub(1) {
                for channel in 0..3 {
                    let at = |y: usize, x: usize| u32::from(self.values[(y * width + x) * 3 + channel]);
                    let all: u32 =
                        (y - 1..=y + 1).flat_map(|y| (x - 1..=x + 1).map(move |x| (y, x))).map(|(y, x)| at(y, x)).sum();
                    // Over 13, rounded.
                    values[(y * width + x) * 3 + channel] = ((2 * (all + 4 * at(y, x)) + 13) / 26) as u8;
                }
            }
        }
        values
    }

    fn mapped(&self, map: impl Fn(u8) -> u8) -> Self {
        Self { size: self.size, values: self.values.iter().map(|value| map(*value)).collect() }
    }

    /// The highest `bits` of each value.
    pub fn posterize(&self, bits: u32) -> Self {
        let mask = u8::MAX.checked_shl(8 - bits.min(8)).unwrap_or(0);
        self.mapped(|value| value & mask)
    }

    /// Values from `threshold` on as in a negative.
    pub fn solarize(&self, threshold: f64) -> Self {
        self.mapped(|value| if f64::from(value) < threshold { value } else { 255 - value })
    }

    /// Each channel stretched so that it reaches 0 and 255.
    pub fn autocontrast(&self) -> Self {
        self.by_channel(|counts| {
            let low = counts.iter().position(|count| *count > 0).unwrap_or(0);
            let high = counts.iter().rposition(|count| *count > 0).unwrap_or(0);
            if high <= low {
                return std::array::from_fn(|value| value as u8);
            }
            let scale = 255.0 / (high - low) as f64;
            let offset = -(low as f64) * scale;
            std::array::from_fn(|value| (value as f64 * scale + offset) as u8)
        })
    }

    /// Each channel mapped so that all values are equally frequent, as far as a map can do that.
    pub fn equalize(&self) -> Self {
        self.by_channel(|counts| {
            let last = counts.iter().rfind(|count| **count > 0).copied().unwrap_or(0);
            let step = (counts.iter().sum::<usize>() - last) / 255;
            if step == 0 {
                return std::array::from_fn(|value| value as u8);
            }
            let mut below = step / 2;
            std::array::from_fn(|value| {
                let mapped = (below / step).min(255) as u8;
                below += counts[value];
                mapped
            })
        })
    }

    /// Every channel through a table of its own, made from how often it has each value.
    fn by_channel(&self, table: impl Fn(&[usize; 256]) -> [u8; 256]) -> Self {
        let mut counts = [[0; 256]; 3];
        for pixel in self.values.as_chunks::<3>().0 {
            pixel.iter().zip(&mut counts).for_each(|(value, counts)| counts[usize::from(*value)] += 1);
        }
        let tables = counts.each_ref().map(table);
        let mapped = self.values.as_chunks::<3>().0.iter();
        let mapped = mapped.flat_map(|pixel| [0, 1, 2].map(|channel| tables[channel][usize::from(pixel[channel])]));
        Self { size: self.size, values: mapped.collect() }
    }
}

#[cfg(test)]
mod tests;
