//! The FMA peak of this machine, measured along with a model.

use fornax_runtime::{Peak, measure_fma_peak};
use serde_json::{Value, json};

/// The peak of one thread at every register width, narrowest first.
#[derive(Debug)]
pub struct Peaks(Vec<Peak>);

impl Peaks {
    /// Measures them; about 20 ms each.
    pub fn measure() -> Self {
        Self(measure_fma_peak())
    }

    /// Measures them once more; the better of both counts, as everything else on the machine can only slow one down.
    pub fn again(mut self) -> Self {
        for (peak, later) in self.0.iter_mut().zip(measure_fma_peak()) {
            peak.gflops = peak.gflops.max(later.gflops);
        }
        self
    }

    /// The best over all widths, in 10^9 operations per second.
    pub fn best(&self) -> f64 {
        self.0.iter().map(|peak| peak.gflops).fold(0.0, f64::max)
    }

    /// The list of widths and rates.
    pub fn json(&self) -> Value {
        self.0.iter().map(|peak| json!({"bits": peak.width_bits, "gflops": peak.gflops})).collect()
    }
}

impl std::fmt::Display for Peaks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let one = |peak: &Peak| format!("{:.1} at {} bits", peak.gflops, peak.width_bits);
        write!(f, "{} GFLOP/s per thread", self.0.iter().map(one).collect::<Vec<_>>().join(", "))
    }
}
