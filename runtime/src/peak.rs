//! The most that one core can do: the rate of f32 fused multiply-adds between registers.
//!
//! Measured, not looked up: clock rates vary, and some processors run a wide instruction as two halves. A time means
//! something only next to the peak of the same process.
#![allow(unsafe_code, reason = "measures with instructions in a fixed order")]

use std::arch::asm;
use std::time::{Duration, Instant};

#[cfg(target_arch = "x86_64")]
use crate::features::CpuFeatures;

/// Length of one measurement.
const SLICE: Duration = Duration::from_millis(4);
/// Measurements per width; the best counts, as everything else on the machine can only slow one down.
const SLICES: usize = 5;
/// Loop rounds between two looks at the clock: some ten microseconds.
const ROUNDS: u64 = 2000;

/// The multiply-add rate of one core at one register width.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Peak {
    /// Register width: 128, 256 or 512.
    pub width_bits: u32,
    /// 10^9 f32 operations per second, two per multiply-add.
    pub gflops: f64,
}

/// One register width of this machine.
struct Width {
    bits: u32,
    /// f32 operations per round of `kernel`.
    flops: u64,
    kernel: fn(u64),
}

/// Measures each register width that this machine has, narrowest first; about 20 ms each.
pub fn measure_fma_peak() -> Vec<Peak> {
    widths().iter().map(|width| Peak { width_bits: width.bits, gflops: measure(width) }).collect()
}

/// The best rate over all widths, in 10^9 operations per second.
pub fn peak_gflops() -> f64 {
    measure_fma_peak().iter().map(|peak| peak.gflops).fold(0.0, f64::max)
}

/// The rate of bf16 products by tile registers, in 10^9 operations per second, where this process may use them; it asks for that.
pub fn measure_tile_peak() -> Option<f64> {
    #[cfg(target_arch = "x86_64")]
    if CpuFeatures::detect().amx_bf16 && crate::tiles::may_use_tiles() {
        // Four products a round, of 16 by 16 sums of 32 products each.
        return Some(measure(&Width { bits: 0, flops: 4 * 16 * 16 * 32 * 2, kernel: tile_products }));
    }
    None
}

fn measure(width: &Width) -> f64 {
    let mut best = 0f64;
    for _ in 0..SLICES {
        let slice = Instant::now();
        while slice.elapsed() < SLICE {
            let begun = Instant::now();
            (width.kernel)(ROUNDS);
            let seconds = begun.elapsed().as_secs_f64();
            best = best.max((width.flops * ROUNDS) as f64 / seconds / 1e9);
        }
    }
    best
}

/// The 12 accumulators of a round, an instruction each: more than latency times rate (4 x 2) of any core
/// so far.
#[cfg(target_arch = "x86_64")]
const ACCUMULATORS: u64 = 12;

/// A function that runs `rounds` times 12 independent multiply-adds on zeros.
#[cfg(target_arch = "x86_64")]
macro_rules! fma_rounds {
    ($name:ident, $register:literal, $feature:literal) => {
        fn $name(rounds: u64) {
            #[target_feature(enable = $feature)]
            unsafe fn rounds_of(rounds: u64) {
                // SAFETY: changes registers only, all declared; `vzeroupper` changes the upper halves of all 16.
                unsafe {
                    asm!(
                        ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15",
                        "vxorps xmm\\r, xmm\\r, xmm\\r",
                        ".endr",
                        "2:",
                        ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11",
                        concat!("vfmadd231ps ", $register, "\\r, ", $register, "14, ", $register, "15"),
                        ".endr",
                        "dec {rounds}",
                        "jnz 2b",
                        "vzeroupper",
                        rounds = inout(reg) rounds.max(1) => _,
                        out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
                        out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
                        out("xmm12") _, out("xmm13") _, out("xmm14") _, out("xmm15") _,
                        options(nomem, nostack),
                    );
                }
            }
            // SAFETY: `widths` lists this function only where the feature is present.
            unsafe { rounds_of(rounds) }
        }
    };
}

#[cfg(target_arch = "x86_64")]
fma_rounds!(fma_128, "xmm", "fma");
#[cfg(target_arch = "x86_64")]
fma_rounds!(fma_256, "ymm", "fma");
#[cfg(target_arch = "x86_64")]
fma_rounds!(fma_512, "zmm", "avx512f");

/// `rounds` times 4 independent products of tiles of zeros.
#[cfg(target_arch = "x86_64")]
fn tile_products(rounds: u64) {
    /// The shapes of all eight tiles: 16 rows of 64 bytes.
    #[repr(align(64))]
    struct Shapes([u8; 64]);
    let mut shapes = Shapes([0; 64]);
    shapes.0[0] = 1;
    for tile in 0..8 {
        (shapes.0[16 + 2 * tile], shapes.0[48 + tile]) = (64, 16);
    }
    // SAFETY: called where the processor has these instructions and the system lets the process use them; reads the 64 bytes of a local, and
    // changes no register that other code holds values in, as tiles are released.
    unsafe {
        asm!(
            "ldtilecfg [{shapes}]",
            "tilezero tmm4",
            "tilezero tmm6",
            "2:",
            "tdpbf16ps tmm0, tmm4, tmm6",
            "tdpbf16ps tmm1, tmm4, tmm6",
            "tdpbf16ps tmm2, tmm4, tmm6",
            "tdpbf16ps tmm3, tmm4, tmm6",
            "dec {rounds}",
            "jnz 2b",
            "tilerelease",
            shapes = in(reg) shapes.0.as_ptr(),
            rounds = inout(reg) rounds.max(1) => _,
            options(nostack),
        );
    }
}

/// `rounds` times 6 independent multiplications and 6 additions, for processors without multiply-add.
#[cfg(target_arch = "x86_64")]
fn multiply_add_128(rounds: u64) {
    // SAFETY: SSE2 is part of x86-64; changes registers only, all declared.
    unsafe {
        asm!(
            ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 15",
            "xorps xmm\\r, xmm\\r",
            ".endr",
            "2:",
            ".irp r, 0, 1, 2, 3, 4, 5",
            "mulps xmm\\r, xmm14",
            ".endr",
            ".irp r, 6, 7, 8, 9, 10, 11",
            "addps xmm\\r, xmm15",
            ".endr",
            "dec {rounds}",
            "jnz 2b",
            rounds = inout(reg) rounds.max(1) => _,
            out("xmm0") _, out("xmm1") _, out("xmm2") _, out("xmm3") _, out("xmm4") _, out("xmm5") _,
            out("xmm6") _, out("xmm7") _, out("xmm8") _, out("xmm9") _, out("xmm10") _, out("xmm11") _,
            out("xmm14") _, out("xmm15") _,
            options(nomem, nostack),
        );
    }
}

#[cfg(target_arch = "x86_64")]
fn widths() -> Vec<Width> {
    let host = CpuFeatures::detect();
    let mut widths = Vec::new();
    if host.fma {
        widths.push(Width { bits: 128, flops: ACCUMULATORS * 4 * 2, kernel: fma_128 });
        widths.push(Width { bits: 256, flops: ACCUMULATORS * 8 * 2, kernel: fma_256 });
    } else {
        widths.push(Width { bits: 128, flops: ACCUMULATORS * 4, kernel: multiply_add_128 });
    }
    if host.avx512 {
        widths.push(Width { bits: 512, flops: ACCUMULATORS * 16 * 2, kernel: fma_512 });
    }
    widths
}

/// `rounds` times 24 independent multiply-adds on zeros: more than latency times rate of any core so far (4 x 4).
#[cfg(target_arch = "aarch64")]
fn fma_128(rounds: u64) {
    // SAFETY: NEON is part of aarch64; changes registers only, all declared.
    unsafe {
        asm!(
            ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29, 30, 31",
            "movi v\\r\\().4s, #0",
            ".endr",
            "2:",
            ".irp r, 0, 1, 2, 3, 4, 5, 6, 7, 16, 17, 18, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 29",
            "fmla v\\r\\().4s, v30.4s, v31.4s",
            ".endr",
            "subs {rounds}, {rounds}, #1",
            "b.ne 2b",
            rounds = inout(reg) rounds.max(1) => _,
            out("v0") _, out("v1") _, out("v2") _, out("v3") _, out("v4") _, out("v5") _, out("v6") _, out("v7") _,
            out("v16") _, out("v17") _, out("v18") _, out("v19") _, out("v20") _, out("v21") _, out("v22") _,
            out("v23") _, out("v24") _, out("v25") _, out("v26") _, out("v27") _, out("v28") _, out("v29") _,
            out("v30") _, out("v31") _,
            options(nomem, nostack),
        );
    }
}

#[cfg(target_arch = "aarch64")]
fn widths() -> Vec<Width> {
    vec![Width { bits: 128, flops: 22 * 4 * 2, kernel: fma_128 }]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_width_has_a_plausible_rate() {
        let peaks = measure_fma_peak();
        assert_eq!(peaks.len(), widths().len());
        for peak in &peaks {
            assert!(peak.gflops > 0.1 && peak.gflops < 10_000.0, "{peak:?}");
        }
        assert!(peaks.is_sorted_by_key(|peak| peak.width_bits));
    }
}
