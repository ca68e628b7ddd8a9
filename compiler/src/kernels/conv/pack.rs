//! Weights in the order the tiles read them: `[group][panel][row][column][channel][PANEL]`, the same for every target.
//!
//! The last panel of a group is stored at its own width, rounded up to [`NARROW`]; what a panel has beyond the filters is zero.

/// Output channels of a panel: one cache line of `f32`.
pub const PANEL: usize = 16;
/// Step of the width of a group's last panel.
const NARROW: usize = 8;

/// Output channels with the last panel's padding: how many a group's packed weights and bias hold.
pub fn padded(filters: usize) -> usize {
    filters.next_multiple_of(NARROW)
}

/// Packs weights `[groups * filters, channels, taps]`, row-major, into `packed`, which holds zeros.
pub fn pack<T: Copy>(groups: usize, filters: usize, channels: usize, taps: usize, elements: &[T], packed: &mut [T]) {
    let depth = channels * taps;
    for group in 0..groups {
        let from = &elements[group * filters * depth..];
        let to = &mut packed[group * padded(filters) * depth..];
        for filter in 0..filters {
            let first = filter / PANEL * PANEL;
            let width = (padded(filters) - first).min(PANEL);
            for tap in 0..taps {
                for channel in 0..channels {
                    let row = tap * channels + channel;
                    to[first * depth + row * width + filter - first] = from[(filter * channels + channel) * taps + tap];
                }
            }
        }
    }
}

/// Packs a matrix whose element for input `k` and output `n` is `at(k, n)` into `packed`, which holds zeros.
pub fn pack_matrix<T>(filters: usize, channels: usize, at: impl Fn(usize, usize) -> T, packed: &mut [T]) {
    for filter in 0..filters {
        let first = filter / PANEL * PANEL;
        let width = (padded(filters) - first).min(PANEL);
        for channel in 0..channels {
            packed[first * channels + channel * width + filter - first] = at(channel, filter);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_matrix_is_a_convolution_of_one_tap() {
        let weights: Vec<i32> = (0..18 * 3).collect();
        let (mut packed, mut transposed) = (vec![0; padded(18) * 3], vec![0; padded(18) * 3]);
        pack(1, 18, 3, 1, &weights, &mut packed);
        pack_matrix(18, 3, |k, n| weights[n * 3 + k], &mut transposed);
        assert_eq!(packed, transposed);
    }

    #[test]
    fn the_last_panel_has_its_own_width() {
        // 18 filters of 1 channel and 2 taps: a panel of 16 and one of 8.
        let mut packed = vec![0; padded(18) * 2];
        pack(1, 18, 1, 2, &(0..36).collect::<Vec<i32>>(), &mut packed);
        assert_eq!(packed[..16], (0..16).map(|m| 2 * m).collect::<Vec<_>>());
        assert_eq!(packed[16..32], (0..16).map(|m| 2 * m + 1).collect::<Vec<_>>());
        assert_eq!(packed[32..], [32, 34, 0, 0, 0, 0, 0, 0, 33, 35, 0, 0, 0, 0, 0, 0]);
    }
}
