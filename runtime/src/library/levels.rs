//! The levels of this architecture: what their numbers mean, and what a processor needs for them.

use crate::cpu::CpuFeatures;

/// The name of a level and what its code needs, or nothing if this architecture has no such level.
pub(super) fn level(number: u32) -> Option<(&'static str, CpuFeatures)> {
    #[cfg(target_arch = "x86_64")]
    {
        let (_, name) = crate::artifact::LEVELS.into_iter().find(|(known, _)| *known == number)?;
        Some((name, CpuFeatures::of_x86_64_level(number)))
    }
    #[cfg(target_arch = "aarch64")]
    {
        (number == 1).then(|| ("aarch64", CpuFeatures::default()))
    }
}
