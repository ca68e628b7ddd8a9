//! What was measured, and how it is shown: profiles, traces, latencies, charts, pages.

pub mod chart;
mod latency;
pub mod page;
mod peaks;
pub mod plot;
pub mod profile;
mod rates;
pub mod trace;

pub use fornax_compiler::LayerKind as Kind;
pub use latency::{LatencyProbe, Measurement};
pub use peaks::Peaks;
pub use rates::{Rates, Scale};
