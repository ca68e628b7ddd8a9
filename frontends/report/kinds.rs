//! The kind of layer that a kernel computes, from its name.

/// A kind of layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Kind {
    /// A convolution that reads the network's input in the order it comes in.
    Stem,
    /// A 1x1 convolution or a matrix product, which ends in no activation.
    Pointwise,
    /// The same, ending in an activation.
    PointwiseActivation,
    /// A convolution with more than one tap that sums over all channels.
    Dense,
    /// A convolution in groups of several channels.
    Grouped,
    /// A convolution by Winograd's method, or a part of it.
    Winograd,
    /// A convolution of each channel by itself.
    Depthwise,
    /// An expansion (1x1 convolution) and the depthwise convolution behind it as a ring of rows.
    Ring,
    /// A product of a matrix and a vector: squeezes, gates, classifiers.
    Gemv,
    /// A mean over pixels.
    Mean,
    /// Channels times their gate, or weights times it.
    Gate,
    /// A windowed maximum or average.
    Pool,
    /// Softmax or its logarithm.
    Softmax,
    /// Loop nests: element-wise chains, reductions, copies.
    Loops,
    /// A kernel of none of these.
    Other,
}

impl Kind {
    /// Its name in tables and JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stem => "stem convolution",
            Self::Pointwise => "1x1 convolution",
            Self::PointwiseActivation => "1x1 convolution with activation",
            Self::Dense => "kxk convolution",
            Self::Grouped => "grouped convolution",
            Self::Winograd => "Winograd convolution",
            Self::Depthwise => "depthwise convolution",
            Self::Ring => "expansion and depthwise ring",
            Self::Gemv => "matrix-vector product",
            Self::Mean => "mean",
            Self::Gate => "gate",
            Self::Pool => "pooling",
            Self::Softmax => "softmax",
            Self::Loops => "loops and copies",
            Self::Other => "other",
        }
    }

    /// The kind of the kernel called `name`, which is `<type>_<family>_<shape>_<attributes>_<epilogue>`; loop nests are
    /// called `<type>_<operations>_<shape>_h<hash>`, where an operation may have the name of a family.
    pub fn of(name: &str) -> Self {
        let mut words = name.split('_').skip(1);
        let family = words.next().unwrap_or_default();
        let hash = name.rsplit('_').next().and_then(|word| word.strip_prefix('h'));
        match family {
            _ if hash.is_some_and(|h| h.len() == 16 && h.bytes().all(|b| b.is_ascii_hexdigit())) => Self::Loops,
            "conv" => Self::of_convolution(&words.collect::<Vec<_>>()),
            "depthwise" => Self::Depthwise,
            "ring" => Self::Ring,
            "gemv" => Self::Gemv,
            "mean" => Self::Mean,
            "gate" => Self::Gate,
            "scale" if words.next() == Some("weights") => Self::Gate,
            "pool" => Self::Pool,
            "softmax" => Self::Softmax,
            "log" if words.next() == Some("softmax") => Self::Softmax,
            _ if family.starts_with("winograd") => Self::Winograd,
            _ => Self::Other,
        }
    }

    /// `<input>_<output, taps, groups>[_each][_rows]_bias[_add][_<activation>]`, in any order of the last two.
    fn of_convolution(words: &[&str]) -> Self {
        let geometry = words.get(1).copied().unwrap_or_default();
        let taps = geometry.split_once('k').and_then(|(_, rest)| rest.split_once('s')).map_or("", |(taps, _)| taps);
        let bias = words.iter().position(|word| *word == "bias").unwrap_or(words.len());
        let activated = words.iter().skip(bias + 1).any(|word| !matches!(*word, "add" | "sum"));
        match (geometry.contains('g'), taps) {
            (true, _) => Self::Grouped,
            (false, "1x1") if activated => Self::PointwiseActivation,
            (false, "1x1") => Self::Pointwise,
            _ if words[..bias].contains(&"rows") => Self::Stem,
            _ => Self::Dense,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_of_names() {
        for (name, kind) in [
            ("f32_conv_n1c3h224w224m32_o112x112k3x3s2x2p1x1_rows_bias_silu", Kind::Stem),
            ("f32_conv_n1c3h224w224m32_o112x112k3x3s2x2p1x1_bias_silu", Kind::Dense),
            ("f32_conv_n1c24h1w36864m24_o192x192k3x3s1x1p1x1d2x2_bias", Kind::Dense),
            ("f32_conv_n1c144h1w3136m24_o1x3136k1x1s1x1p0x0_bias_add", Kind::Pointwise),
            ("f32_conv_n1c32h1w12544m16_o1x12544k1x1s1x1p0x0_each_bias", Kind::Pointwise),
            ("f32_conv_n1c3h1w12544m16_o1x12544k1x1s1x1p0x0_rows_bias", Kind::Pointwise),
            ("f32_conv_n1c320h1w49m1280_o1x49k1x1s1x1p0x0_bias_silu", Kind::PointwiseActivation),
            ("f32_conv_n1c64h1w49m64_o1x49k1x1s1x1p0x0_bias_add_relu", Kind::PointwiseActivation),
            ("f32_conv_n1c64h1w49m64_o1x49k1x1s1x1p0x0_bias_clip_0_6", Kind::PointwiseActivation),
            ("f32_conv_n1c4h56w56m128_o56x56k3x3s1x1p1x1g32_bias_relu", Kind::Grouped),
            ("f32_winograd4x4_n1c64h56w56m64_bias_relu", Kind::Winograd),
            ("f32_winograd_input_n1c64h56w56", Kind::Winograd),
            ("f32_depthwise_n1c32h112w112_h112w112_k3s1p1_bias_silu_sum", Kind::Depthwise),
            ("f32_gemv_m1k1280n1000_bias", Kind::Gemv),
            ("f32_mean_n1h7w7c1280_over49", Kind::Mean),
            ("f32_gate_n1p49c1152", Kind::Gate),
            ("f32_scale_weights_n1c672m112", Kind::Gate),
            ("f32_pool_n1c64h112w112_h56w56_k3s2p1_max", Kind::Pool),
            ("f32_softmax_m1n1000", Kind::Softmax),
            ("f32_log_softmax_m1n1000", Kind::Softmax),
            ("f32_transpose_1x3x4_h0123456789abcdef", Kind::Loops),
            ("f32_mean_1x3_h0123456789abcdef", Kind::Loops),
            ("u8_scale_and_3_7_hfedcba9876543210", Kind::Loops),
            ("f32_scale_1", Kind::Other),
            ("f32_ring_i16_bias_silu_n1c96h112w112_h56w56_k3s2p1_bias_silu_sum", Kind::Ring),
            ("f32_spiral_n1c32", Kind::Other),
            ("", Kind::Other),
            ("x_conv", Kind::Dense),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }
}
