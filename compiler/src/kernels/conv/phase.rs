//! Outputs along an axis that meet the same taps: all of them, or those of one residue by the stride of a transposed convolution.
//!
//! In: an axis. Out: for each residue, which taps its outputs meet, where in the input, and how its outputs lie in the row; and a row of
//! them cut into tiles, where tiles with the same code follow one another.

use super::{Axis, Conv};

/// Outputs along an axis that meet the same taps.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Phase {
    /// The first of them.
    pub first: usize,
    /// How many there are.
    pub outputs: usize,
    /// Distance of two of them in the output.
    pub pitch: usize,
    /// Distance of two of them in the input.
    pub stride: usize,
    /// The taps, in the order in which inputs ascend.
    pub taps: Vec<usize>,
    /// Coordinate in the input of the first of them, for the first output; negative in the padding.
    pub origin: i64,
    /// Distance of two taps in the input.
    pub step: usize,
    /// Extent of the input.
    pub input: usize,
}

/// Consecutive tiles of a row that need the same code.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Run {
    /// First tile.
    pub first: usize,
    /// Number of tiles.
    pub tiles: usize,
    /// First pixel.
    pub pixel: usize,
    /// Pixels of each tile.
    pub size: usize,
    /// Whether some taps of some pixels lie in the padding; then there is one tile.
    pub clipped: bool,
}

impl Phase {
    /// All outputs of a convolution.
    pub fn of(axis: &Axis) -> Self {
        let Axis { input, output, kernel, stride, dilation, begin } = *axis;
        let (taps, origin) = ((0..kernel).collect(), -(begin as i64));
        Self { first: 0, outputs: output, pitch: 1, stride, taps, origin, step: dilation, input }
    }

    /// The outputs of a transposed convolution whose distance to the first position is `residue` by the stride, of which one at least is
    /// there. Stride or dilation is 1.
    fn transposed(axis: &Axis, residue: usize) -> Option<Self> {
        let Axis { input, output, kernel, stride, dilation, begin } = *axis;
        let first = (residue + begin * (stride - 1)) % stride;
        let taps: Vec<usize> = (0..kernel).rev().filter(|tap| tap * dilation % stride == residue).collect();
        let last = taps.first().map_or(0, |tap| tap * dilation - residue);
        let origin = (first + begin - residue) as i64 / stride as i64 - (last / stride) as i64;
        let outputs = output.saturating_sub(first).div_ceil(stride);
        (outputs > 0).then_some(Self { first, outputs, pitch: stride, stride: 1, taps, origin, step: dilation, input })
    }

    /// Whether a tap meets the input, by its place among the taps.
    pub fn inside(&self, at: usize, tap: usize) -> bool {
        (0..self.input as i64).contains(&(self.origin + (at * self.stride + tap * self.step) as i64))
    }

    /// Whether every tap of every output meets the input.
    pub fn covered(&self) -> bool {
        let Some(last) = self.taps.len().checked_sub(1) else { return true };
        self.origin >= 0 && (self.outputs == 0 || self.inside(self.outputs - 1, last))
    }

    /// The tiles of a row, at most `pixels` each and as even as they get.
    pub fn runs(&self, pixels: usize) -> Vec<Run> {
        let extent = self.outputs;
        let tiles = extent.div_ceil(pixels);
        let (mut runs, mut pixel): (Vec<Run>, usize) = (Vec::new(), 0);
        if self.covered() && tiles > 0 {
            // Without padding the tiles differ in size only.
            let (small, large) = (extent / tiles, extent % tiles);
            let run = |first, tiles, pixel, size| Run { first, tiles, pixel, size, clipped: false };
            runs.push(run(0, large, 0, small + 1));
            runs.push(run(large, tiles - large, large * (small + 1), small));
            runs.retain(|run| run.tiles > 0);
            return runs;
        }
        for tile in 0..tiles {
            let size = extent / tiles + usize::from(tile < extent % tiles);
            let clipped = (pixel..pixel + size).any(|at| (0..self.taps.len()).any(|tap| !self.inside(at, tap)));
            match runs.last_mut() {
                Some(run) if !clipped && !run.clipped && run.size == size => run.tiles += 1,
                _ => runs.push(Run { first: tile, tiles: 1, pixel, size, clipped }),
            }
            pixel += size;
        }
        runs
    }
}

impl Conv {
    /// The phases of an output row.
    pub fn phases(&self) -> Vec<Phase> {
        match self.transposed {
            false => vec![Phase::of(&self.columns)],
            true => (0..self.columns.stride).filter_map(|own| Phase::transposed(&self.columns, own)).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every output of a transposed axis meets the inputs that the definition says, in ascending order.
    #[test]
    fn phases_meet_what_a_window_covers() {
        for (input, kernel, stride, dilation, begin, extra) in [
            (5, 3, 1, 1, 1, 0),
            (5, 3, 2, 1, 0, 1),
            (4, 3, 2, 1, 2, 0),
            (6, 5, 2, 1, 2, 1),
            (3, 1, 2, 1, 0, 1),
            (4, 3, 1, 2, 1, 0),
            (3, 2, 3, 1, 0, 2),
            (2, 4, 3, 1, 3, 1),
        ] {
            let output = stride * (input - 1) + dilation * (kernel - 1) + 1 + extra - begin;
            let axis = Axis { input, output, kernel, stride, dilation, begin };
            let mut met = vec![Vec::new(); output];
            for phase in (0..stride).filter_map(|own| Phase::transposed(&axis, own)) {
                for at in 0..phase.outputs {
                    let taps = phase.taps.iter().enumerate().filter(|(place, _)| phase.inside(at, *place));
                    let own =
                        taps.map(|(place, tap)| ((phase.origin + (at + place * phase.step) as i64) as usize, *tap));
                    met[phase.first + at * stride] = own.collect();
                }
            }
            let expected: Vec<Vec<(usize, usize)>> = (0..output)
                .map(|at| {
                    let pairs = (0..input).flat_map(|x| (0..kernel).map(move |tap| (x, tap)));
                    pairs.filter(|(x, tap)| x * stride + tap * dilation == at + begin).collect()
                })
                .collect();
            assert_eq!(met, expected, "{axis:?}");
        }
    }
}
