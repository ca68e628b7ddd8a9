//! Rounding of scaled channel counts and repeats.
//!
//! In: a count of the family's table and a multiplier. Out: the count of the network. Everything is computed in `f64`: in `f32`
//! 1.2 lies a little above 1.2, and 5 blocks at depth 1.2 would become 7.

/// What happens to a channel count that rounding lowers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rounding {
    /// To the nearest multiple, and to the next one if that took away more than 10 % (EfficientNet V1, Lite, EdgeTPU, MobileNet).
    TenPercent,
    /// To the nearest multiple (EfficientNet V2).
    Nearest,
}

/// What happens to the fraction of a scaled number of repeats.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum RepeatRounding {
    /// Upwards (EfficientNet).
    Ceil,
    /// To the nearest whole number, half to even, at least 1 (TinyNet, MixNet).
    Nearest,
}

/// `filters` times `width`, as a multiple of `divisor` and at least `divisor`.
pub fn round_filters(filters: usize, width: f64, rule: Rounding, divisor: usize) -> usize {
    make_divisible(filters as f64 * width, rule, divisor)
}

/// The multiple of `divisor` nearest to `channels`, by `rule`; at least `divisor`. A divisor of 0 counts as 1.
pub fn make_divisible(channels: f64, rule: Rounding, divisor: usize) -> usize {
    let step = divisor.max(1) as f64;
    let mut rounded = (((channels + step / 2.0) / step).floor() * step).max(step);
    if rule == Rounding::TenPercent && rounded < 0.9 * channels {
        rounded += step;
    }
    rounded as usize
}

/// `repeats` times `depth`, rounded by `rule`.
pub fn round_repeats(repeats: usize, depth: f64, rule: RepeatRounding) -> usize {
    let scaled = repeats as f64 * depth;
    match rule {
        RepeatRounding::Ceil => scaled.ceil() as usize,
        RepeatRounding::Nearest => (scaled.round_ties_even() as usize).max(1),
    }
}

/// Scales a stage of several kinds of blocks: the sum is scaled and rounded, then shared out from the last kind to the first,
/// at least one block each.
pub fn round_stage(repeats: &[usize], depth: f64, rule: RepeatRounding) -> Vec<usize> {
    let mut left: usize = repeats.iter().sum();
    let mut scaled = round_repeats(left, depth, rule);
    let mut shares = vec![0; repeats.len()];
    for (share, &count) in shares.iter_mut().zip(repeats).rev() {
        let part = count as f64 / left.max(1) as f64 * scaled as f64;
        *share = (part.round_ties_even() as usize).max(1);
        left -= count;
        scaled = scaled.saturating_sub(*share);
    }
    shares
}

/// Sizes of `parts` groups of `channels`: equal, the remainder to the first.
pub fn split_channels(channels: usize, parts: usize) -> Vec<usize> {
    let parts = parts.max(1);
    let mut sizes = vec![channels / parts; parts];
    sizes[0] += channels % parts;
    sizes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn filters_follow_the_ten_percent_rule_or_not() {
        let rounded = |filters, width| {
            (
                round_filters(filters, width, Rounding::TenPercent, 8),
                round_filters(filters, width, Rounding::Nearest, 8),
            )
        };
        assert_eq!(rounded(40, 0.25), (16, 8));
        assert_eq!(rounded(16, 1.2), (24, 16));
        assert_eq!(rounded(32, 1.1), (32, 32));
        assert_eq!(rounded(8, 0.25), (8, 8));
        assert_eq!(rounded(1280, 4.3), (5504, 5504));
    }

    #[test]
    fn repeats_are_scaled_in_f64() {
        assert_eq!(round_repeats(5, 1.2, RepeatRounding::Ceil), 6);
        assert_eq!(round_repeats(1, 1.1, RepeatRounding::Ceil), 2);
        assert_eq!(round_repeats(1, 0.35, RepeatRounding::Nearest), 1);
        assert_eq!(round_stage(&[1, 3], 1.2, RepeatRounding::Nearest), [1, 4]);
        assert_eq!(round_stage(&[1, 1], 1.2, RepeatRounding::Nearest), [1, 1]);
    }

    #[test]
    fn the_first_group_takes_the_remainder() {
        assert_eq!(split_channels(240, 4), [60; 4]);
        assert_eq!(split_channels(144, 5), [32, 28, 28, 28, 28]);
    }
}
