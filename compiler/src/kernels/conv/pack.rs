//! Weights in the order the tiles read them: `[group][panel][row][column][channel][width]`, the same for every target.
//!
//! All panels of a convolution have one [`width`], so that the weights of one input channel for neighbouring output channels
//! are a constant apart whichever panels they are in. What the last panel has beyond the filters is zero.

use crate::kernels::transpose::lines;

/// Output channels of a panel: one cache line of `f32`.
pub const PANEL: usize = 16;
/// Width of the only panel of a group with that many filters at most.
const NARROW: usize = 8;

/// Output channels that each panel of a group of `filters` stores.
pub fn width(filters: usize) -> usize {
    if filters <= NARROW { NARROW } else { PANEL }
}

/// Output channels with the last panel's padding: how many a group's packed weights and bias hold.
pub fn padded(filters: usize) -> usize {
    filters.next_multiple_of(width(filters))
}

/// Packs weights `[groups * filters, channels, taps]`, row-major, into `packed`, which holds zeros.
pub fn pack<T: Copy + Default>(
    groups: usize,
    filters: usize,
    channels: usize,
    taps: usize,
    elements: &[T],
    packed: &mut [T],
) {
    let (depth, width) = (channels * taps, width(filters));
    for group in 0..groups {
        let from = &elements[group * filters * depth..];
        let to = &mut packed[group * padded(filters) * depth..];
        for first in (0..filters).step_by(width) {
            let (end, panel) = (filters.min(first + width), &mut to[first * depth..][..width * depth]);
            lines::<T, PANEL>(&from[first * depth..end * depth], [channels, taps], width, panel);
        }
    }
}

/// Packs a matrix whose element for input `k` and output `n` is `at(k, n)` into `packed`, which holds zeros.
pub fn pack_matrix<T>(filters: usize, channels: usize, at: impl Fn(usize, usize) -> T, packed: &mut [T]) {
    let width = width(filters);
    for filter in 0..filters {
        for channel in 0..channels {
            let row = filter / width * channels + channel;
            packed[row * width + filter % width] = at(channel, filter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_a_convolution_of_one_tap() {
        for filters in [5, 18] {
            let weights: Vec<i32> = (0..filters as i32 * 3).collect();
            let (mut packed, mut transposed) = (vec![0; padded(filters) * 3], vec![0; padded(filters) * 3]);
            pack(1, filters, 3, 1, &weights, &mut packed);
            pack_matrix(filters, 3, |k, n| weights[n * 3 + k], &mut transposed);
            assert_eq!(packed, transposed);
        }
    }

    #[test]
    fn panels_have_one_width() {
        // 18 filters of 1 channel and 2 taps: two panels of 16.
        let mut packed = vec![0; padded(18) * 2];
        pack(1, 18, 1, 2, &(0..36).collect::<Vec<i32>>(), &mut packed);
        assert_eq!(packed[..16], (0..16).map(|m| 2 * m).collect::<Vec<_>>());
        assert_eq!(packed[16..32], (0..16).map(|m| 2 * m + 1).collect::<Vec<_>>());
        let row = |first: [i32; 2]| first.into_iter().chain([0; 14]).collect::<Vec<_>>();
        assert_eq!(packed[32..48], row([32, 34]));
        assert_eq!(packed[48..], row([33, 35]));
    }

    #[test]
    fn few_filters_make_a_narrow_panel() {
        // Two groups of 2 filters of 1 channel and 1 tap.
        let mut packed = vec![0; 2 * padded(2)];
        pack(2, 2, 1, 1, &[1, 2, 3, 4], &mut packed);
        assert_eq!(packed, [1, 2, 0, 0, 0, 0, 0, 0, 3, 4, 0, 0, 0, 0, 0, 0]);
        assert_eq!([0, 1, 8, 9, 16, 24].map(padded), [0, 8, 8, 16, 16, 32]);
    }
}
