//! The peaks of this machine, measured along with a model.

use fornax_runtime::{Peak, measure_fma_peak, measure_tile_peak};
use serde_json::{Value, json};

use crate::Precision;

/// The FMA peak of one thread at every register width, narrowest first, and that of bf16 by tile registers where it counts.
#[derive(Debug)]
pub struct Peaks {
    widths: Vec<Peak>,
    tiles: Option<f64>,
}

impl Peaks {
    /// Measures them; about 20 ms each.
    pub fn measure() -> Self {
        Self { widths: measure_fma_peak(), tiles: None }
    }

    /// The same, and those of the units that a model in `precision` computes with.
    pub fn of(precision: Precision) -> Self {
        let tiles = if precision == Precision::Bf16 { measure_tile_peak() } else { None };
        Self { tiles, ..Self::measure() }
    }

    /// Measures them once more; the better of both counts, as everything else on the machine can only slow one down.
    pub fn again(mut self) -> Self {
        for (peak, later) in self.widths.iter_mut().zip(measure_fma_peak()) {
            peak.gflops = peak.gflops.max(later.gflops);
        }
        self.tiles = self.tiles.map(|peak| measure_tile_peak().map_or(peak, |later| peak.max(later)));
        self
    }

    /// The best FMA peak over all widths, in 10^9 operations per second.
    pub fn best(&self) -> f64 {
        self.widths.iter().map(|peak| peak.gflops).fold(0.0, f64::max)
    }

    /// The list of widths and rates.
    pub fn json(&self) -> Value {
        let widths = self.widths.iter().map(|peak| json!({"bits": peak.width_bits, "gflops": peak.gflops}));
        widths.chain(self.tiles.map(|gflops| json!({"unit": "bf16 tiles", "gflops": gflops}))).collect()
    }
}

impl std::fmt::Display for Peaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = |peak: &Peak| format!("{:.1} at {} bits", peak.gflops, peak.width_bits);
        let tiles = self.tiles.map(|gflops| format!("{gflops:.0} in bf16 by tiles"));
        let all: Vec<String> = self.widths.iter().map(one).chain(tiles).collect();
        write!(f, "{} GFLOP/s per thread", all.join(", "))
    }
}
