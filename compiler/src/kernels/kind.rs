//! Kinds of layers, as profiles sum them.

/// A kind of layer.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum LayerKind {
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
    /// A convolution by Winograd's method.
    Winograd,
    /// A convolution of each channel by itself.
    Depthwise,
    /// An expansion (1x1 convolution) and the depthwise convolution after it as a ring of rows.
    Ring,
    /// The gradient of a convolution's weights.
    WeightGradient,
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
    /// A kernel of another compiler's families.
    Other,
}

impl LayerKind {
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
            Self::WeightGradient => "weight gradient",
            Self::Gemv => "matrix-vector product",
            Self::Mean => "mean",
            Self::Gate => "gate",
            Self::Pool => "pooling",
            Self::Softmax => "softmax",
            Self::Loops => "loops and copies",
            Self::Other => "other",
        }
    }

    /// The kind of the kernel called `name`, of this compiler or of the one that wrote a library.
    pub fn of(name: &str) -> Self {
        name.parse::<super::KernelName>().map_or(Self::Other, |name| name.kind())
    }
}

#[cfg(test)]
mod tests {
    use super::LayerKind as Kind;

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
            ("f32_winograd4x4_n1c64h56w56m64_o56x56k3x3s1x1p1x1_bias_relu", Kind::Winograd),
            ("f32_depthwise_n1c32h112w112_h112w112_k3s1p1_bias_silu_sum", Kind::Depthwise),
            ("f32_weight_gradient_n1c64h1w49m64_o1x49k1x1s1x1p0x0_sum", Kind::WeightGradient),
            ("f32_channel_weight_gradient_n1c32h14w14_h7w7_k5s2p2", Kind::WeightGradient),
            ("f32_gemv_m1k1280n1000_bias", Kind::Gemv),
            ("f32_mean_n1h7w7c1280_over49", Kind::Mean),
            ("f32_gate_n1p49c1152", Kind::Gate),
            ("bf16_gate_n1p49c1152", Kind::Gate),
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
            ("x_conv", Kind::Other),
        ] {
            assert_eq!(Kind::of(name), kind, "{name}");
        }
    }
}
