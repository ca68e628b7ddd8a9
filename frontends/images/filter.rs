//! The filters of a resize, by name, and the cubic kernel that two resamplers share.

use std::fmt;

/// Filter of a resize.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Interpolation {
    /// Nearest pixel.
    Nearest,
    /// Mean of the pixels covered.
    Box,
    /// Linear.
    Bilinear,
    /// Hamming window.
    Hamming,
    /// Cubic.
    Bicubic,
    /// Lanczos window of three lobes.
    Lanczos,
}

impl Interpolation {
    /// Every filter with its name.
    pub const NAMES: &[(&str, Self)] = &[
        ("nearest", Self::Nearest),
        ("box", Self::Box),
        ("bilinear", Self::Bilinear),
        ("hamming", Self::Hamming),
        ("bicubic", Self::Bicubic),
        ("lanczos", Self::Lanczos),
    ];
}

impl fmt::Display for Interpolation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(Self::NAMES.iter().find(|(_, value)| value == self).map_or("", |(name, _)| name))
    }
}

/// Keys' cubic kernel.
pub(crate) fn cubic(x: f64, a: f64) -> f64 {
    let x = x.abs();
    match x {
        _ if x <= 1.0 => ((a + 2.0) * x - (a + 3.0)) * x * x + 1.0,
        _ if x < 2.0 => ((a * x - 5.0 * a) * x + 8.0 * a) * x - 4.0 * a,
        _ => 0.0,
    }
}
