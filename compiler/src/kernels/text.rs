//! Kernels from text: the spec that a kernel's name says, and the nest that a name leaves out.
//!
//! In: a name as it stands in plans and profiles. Out: its spec, held to print as the same name. The name of a loop nest ends in a
//! hash, so the nest itself is read from the lines that `Loops` prints as.
//!
//! ```text
//! nest "add" "silu" over [1, 64], reduced 0
//!   input x : f32 x 64 at 0 + [64, 1]
//!   output f32 x 64 at 0 + [64, 1]
//!   body %0 = load 0
//!   body %1 = unary silu %0
//!   combine last
//! ```

mod lexer;
mod nest;

pub use lexer::Words;
pub use nest::read as nest;

use super::{Finish, KernelName, Loops, Parts, Spec};

/// The spec of a name, but for nests; `None` if no spec has this name.
pub fn spec(text: &str) -> Option<Spec> {
    let name: KernelName = text.parse().ok()?;
    Spec::read(&Parts::of(&name)).filter(|spec| spec.name() == text)
}

/// The spec of a name that leaves a nest out: the nest itself, or what becomes of a kernel's sums.
pub fn with_nest(text: &str, loops: Loops) -> Option<Spec> {
    let spec = match Finish::without(text) {
        Some(kernel) => spec(kernel)?.finished(|map| Finish::named(&loops, text, map))?,
        None => loops.into(),
    };
    Some(spec).filter(|spec| spec.name() == text)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::emit;
    use crate::kernels::{Kernel, WORDS};
    use crate::target::Target;

    /// Names of every family that has them, the element type left out.
    const NAMES: &[&str] = &[
        "conv_n2c3h9w7m18_o5x4k3x3s2x2p1x1d2x1g4_rows_bias_add_silu",
        "conv_n2c17h1w9m40_o1x9k1x1s1x1p0x0_each_bias",
        "conv_n2c5h9w7m18_o18x13k3x3s2x2p1x1_transposed_bias",
        "depthwise_transposed_n1c32h7w7_h14w14_k5s2p2_bias",
        "winograd2x2_n1c16h7w7m24_o7x7k3x3s1x1p1x1_bias_relu",
        "winograd4x4_n1c16h8w9m24_o8x9k3x3s1x1p1x1_bias_add_clip_0_6",
        "depthwise_n1c32h14w14_h14w14_k5s1p2_bias_silu_sum",
        "weight_gradient_n2c5h9w7m18_o5x4k3x3s2x2p1x1_rows",
        "weight_gradient_n1c17h1w9m40_o1x9k1x1s1x1p0x0_sum",
        "channel_weight_gradient_n1c32h14w14_h7w7_k5s2p2_sum",
        "depthwise_n1c48h14w14g96_h7w7_k5s2p2_bias_silu",
        "depthwise_n2c20h14w14g8_h14w14g3_k3s1p1_bias_sum",
        "ring_i8_bias_relu_n1c48h9w12_h5w6_k5s2p2_bias_silu_sum",
        "gate_n1p49c1152",
        "gemv_m1k96n4_bias_sigmoid",
        "mean_n1h7w7c1280_over49",
        "pool_n1c64h16w16_h8w8_k3s2p1_max",
        "pool_n1c3h9w11_h2w3_k3x5s1x2p1x2d2x1_average",
        "pool_n1c3h3w3_h5w5_k1s1p1_average_padded_5x5",
        "softmax_m3n17",
        "log_softmax_m1n1000",
        "pack_1x32x3x9_abdc16b_s864x27x9x1",
        "scale_weights_n1c672m112",
    ];

    /// Names of families that have element types of their own: all of them, and one that they have not.
    const TYPED: &[(&str, &[&str], &str)] = &[
        ("compact_n100", &["bool"], "u8"),
        ("sort_m3n17k5_smallest", &["f32", "i32", "i16", "i8", "u16", "u8"], "i64"),
        ("suppress_n2c3b100k10", &["f32"], "f16"),
    ];

    #[test]
    fn every_family_reads_its_names_with_every_element() {
        let typed = TYPED.iter().map(|(name, ..)| name);
        let all: Vec<&str> = NAMES.iter().chain(typed).copied().collect();
        let named = |word: &&str| all.iter().any(|name| name.starts_with(&format!("{word}_")));
        let unnamed: Vec<&str> = WORDS.iter().flat_map(|words| words.iter()).copied().filter(|w| !named(w)).collect();
        assert_eq!(unnamed, ["loops"]);
        for name in NAMES {
            for element in ["f32", "f16", "bf16"] {
                let text = format!("{element}_{name}");
                assert_eq!(spec(&text).map(|spec| spec.name()), Some(text));
            }
            for other in ["f64", "u8", "f33"] {
                assert_eq!(spec(&format!("{other}_{name}")), None, "{name}");
            }
        }
        for (name, elements, other) in TYPED {
            for element in *elements {
                let text = format!("{element}_{name}");
                assert_eq!(spec(&text).map(|spec| spec.name()), Some(text));
            }
            assert_eq!(spec(&format!("{other}_{name}")), None, "{name}");
        }
        for (name, read) in [
            ("i16_conv_n2c3h9w7m18_o5x4k3x3s2x2p1x1d2x1g4_bias", true),
            ("i16_conv_n2c3h9w7m18_o5x4k3x3s2x2p1x1_rows_bias", false),
            ("i16_conv_n2c3h9w7m18_o5x4k3x3s2x2p1x1_transposed_bias", false),
            ("i16_conv_n2c3h9w7m18_o5x4k3x3s2x2p1x1_bias_relu", false),
            ("i16_gemv_m1k96n4_bias", false),
            ("bf16_conv_n1c32h1w49m24_o1x49k1x1s1x1p0x0r32_bias_silu", true),
            ("bf16_conv_n1c32h1w49m24_o1x49k1x1s1x1p0x0r32_tof32_bias_silu", true),
            ("bf16_conv_n1c32h1w49m24_o1x49k1x1s1x1p0x0r12_bias", false),
            ("bf16_conv_n1c32h1w49m24_o1x49k1x1s1x1p0x0g2r32_bias", false),
            ("f32_conv_n1c32h1w49m24_o1x49k1x1s1x1p0x0r32_bias", false),
            ("f32_conv_n1c3h9w7m18_o5x4k3x3s2x2p1x1_rows_tobf16_bias_silu", true),
            ("f32_conv_n1c3h9w7m18_o5x4k3x3s2x2p1x1_rows_tof32_bias_silu", false),
            ("f32_gemv_m1k96n4_narrow_bias", true),
            ("f32_mean_n1h7w7c1280_over49_ofbf16", true),
            ("i16_depthwise_n1c48h14w14g96_h7w7_k5s2p2_bias", true),
            ("i16_depthwise_n1c48h14w14_h7w7_k5s2p2_bias_sum", false),
            ("i16_depthwise_transposed_n1c32h7w7_h14w14_k5s2p2_bias", false),
            ("i16_pool_n1c64h16w16_h8w8_k3s2p1_max", false),
            ("i16_channel_weight_gradient_n1c32h14w14_h7w7_k5s2p2", false),
        ] {
            assert_eq!(spec(name).map(|spec| spec.name()), read.then(|| name.to_string()), "{name}");
        }
        // For levels that this machine lacks, too.
        let narrow = NAMES.iter().flat_map(|name| ["f16", "bf16"].map(|element| format!("{element}_{name}")));
        let specs: Vec<Spec> = narrow.filter_map(|text| spec(&text)).collect();
        for target in Target::all() {
            let kernels: Vec<Kernel> = specs.iter().map(|spec| Kernel::new(spec.clone(), &target)).collect();
            let code = emit::compile(&kernels.iter().collect::<Vec<_>>(), &target).expect("code");
            assert_eq!(code.len(), 2 * NAMES.len(), "{target}");
        }
        let sums = |element| spec(&format!("{element}_mean_n1h7w1c1280_over49_sums"));
        assert!(sums("bf16").is_some() && sums("f32").is_none());
    }
}
