//! A stem for other channels than those of the weights, as timm's `adapt_input_conv` makes it.
//!
//! In: filters over three channels, red, green and blue. Out: filters over any number. One channel gets the sum over the three, so that grey
//! photos give what they gave as colours; several get the three in turn, times `3 / channels`.

/// Channels of the weights that are adapted.
pub(super) const COLOURS: usize = 3;

/// The elements `[outer, 3, inner]` as `[outer, channels, inner]`.
pub(super) fn adapted(values: &[f32], inner: usize, channels: usize) -> Vec<f32> {
    let scale = (COLOURS as f64 / channels as f64) as f32;
    let mut out = Vec::with_capacity(values.len() / COLOURS * channels);
    for filter in values.chunks_exact(COLOURS * inner) {
        let colour = |c: usize| &filter[c * inner..][..inner];
        if channels == 1 {
            out.extend((0..inner).map(|i| colour(0)[i] + colour(1)[i] + colour(2)[i]));
        } else {
            out.extend((0..channels).flat_map(|c| colour(c % COLOURS).iter().map(|value| value * scale)));
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two filters of 1x2, by timm 1.0.
    #[test]
    fn as_timm_adapts_them() {
        let values: Vec<f32> = (1..=12).map(|i| i as f32).collect();
        assert_eq!(adapted(&values, 2, 1), [9.0, 12.0, 27.0, 30.0]);
        let four = adapted(&values, 2, 4);
        assert_eq!(four, [0.75, 1.5, 2.25, 3.0, 3.75, 4.5, 0.75, 1.5, 5.25, 6.0, 6.75, 7.5, 8.25, 9.0, 5.25, 6.0]);
        assert_eq!(adapted(&values, 2, 2), [1.5, 3.0, 4.5, 6.0, 10.5, 12.0, 13.5, 15.0]);
    }
}
