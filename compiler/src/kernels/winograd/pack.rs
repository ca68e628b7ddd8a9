//! Filters in the order the products read them, transformed: `[panel][position][channel][PANEL]`, the same for every target.
//!
//! Each filter's 3x3 taps become `G g Gt`, computed in `f64` and rounded once. The last panel is stored at its own width, rounded up
//! to [`NARROW`]; what a panel has beyond the filters is zero.

use super::{Tile, Winograd, transform};

/// Output channels of a panel: one cache line of `f32`.
pub const PANEL: usize = 16;
/// Step of the width of the last panel.
const NARROW: usize = 8;

/// Output channels with the last panel's padding: how many the packed weights and the bias hold.
pub fn padded(filters: usize) -> usize {
    filters.next_multiple_of(NARROW)
}

impl Winograd {
    /// Packs row-major weights `[filters, channels, 3, 3]` into `packed`, which holds zeros; both are little-endian `f32`.
    pub fn pack(&self, elements: &[[u8; 4]], packed: &mut [[u8; 4]]) {
        let (positions, channels) = (self.tile.positions(), self.channels);
        let matrix = transform::filter(self.tile);
        for first in (0..self.filters).step_by(PANEL) {
            let width = (padded(self.filters) - first).min(PANEL);
            let panel = &mut packed[first * positions * channels..][..width * positions * channels];
            for channel in 0..channels {
                for filter in first..self.filters.min(first + PANEL) {
                    let taps = &elements[(filter * channels + channel) * 9..][..9];
                    let taps: [f64; 9] = std::array::from_fn(|i| f64::from(f32::from_le_bytes(taps[i])));
                    for (position, value) in transformed(self.tile, &matrix, &taps).enumerate() {
                        let at = (position * channels + channel) * width + filter - first;
                        panel[at] = (value as f32).to_le_bytes();
                    }
                }
            }
        }
    }
}

/// `G g Gt`, row-major.
fn transformed(tile: Tile, matrix: &[[f64; 3]], taps: &[f64; 9]) -> impl Iterator<Item = f64> {
    let dot = |row: &[f64; 3], v: [f64; 3]| row[0] * v[0] + row[1] * v[1] + row[2] * v[2];
    let mut rows = [[0.0; 3]; 6];
    for (row, matrix) in rows.iter_mut().zip(matrix) {
        *row = [0, 1, 2].map(|column| dot(matrix, [0, 3, 6].map(|at| taps[at + column])));
    }
    (0..tile.positions()).map(move |at| dot(&matrix[at % tile.inputs()], rows[at / tile.inputs()]))
}
