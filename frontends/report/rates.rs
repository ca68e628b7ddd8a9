//! Rates of work, against the machine's peak.

/// The scale that figures are given on.
#[derive(Clone, Copy, Debug)]
pub struct Scale {
    /// Length of the median run, nanoseconds.
    pub wall_ns: f64,
    /// Peak of all threads, in 10^9 operations per second.
    pub peak: f64,
}

/// Rates of some work.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// 10^9 operations per second.
    pub gflops: f64,
    /// The same as a percentage of the peak.
    pub peak_percent: f64,
    /// 10^9 bytes per second.
    pub gb_per_s: f64,
}

impl Scale {
    /// Rates of `flops` and `bytes` in `ns`; 0 where no time was measured.
    pub fn rates(&self, ns: f64, flops: u64, bytes: u64) -> Rates {
        let per_ns = |n: u64| if ns > 0.0 { n as f64 / ns } else { 0.0 };
        Rates { gflops: per_ns(flops), peak_percent: 100.0 * per_ns(flops) / self.peak, gb_per_s: per_ns(bytes) }
    }

    /// Share of the median run, in percent.
    pub fn percent(&self, ns: f64) -> f64 {
        100.0 * ns / self.wall_ns.max(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_of_nothing_are_zero() {
        let scale = Scale { wall_ns: 0.0, peak: 50.0 };
        assert_eq!(scale.rates(0.0, 5, 5).gflops, 0.0);
        assert_eq!(scale.percent(0.0), 0.0);
        assert_eq!(scale.rates(2.0, 50, 6).peak_percent, 50.0);
        assert_eq!(scale.rates(2.0, 50, 6).gb_per_s, 3.0);
    }
}
