//! Compound scaling: a factor for each dimension, raised to phi.
//!
//! In: `[scaling]`, with the factors by name or in the Greek letters of one of two conventions. Out: factors by name. The cost
//! law is depth x width^2 x resolution^2 under every convention.

use super::document::ScalingTable;
use super::words::CONVENTIONS;
use super::{Source, SpecError};

/// What alpha and beta stand for; gamma is the resolution in both.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Convention {
    /// Alpha is depth, beta is width (arXiv 1905.11946).
    Paper,
    /// Alpha is width, beta is depth.
    Brief,
}

/// Compound scaling.
#[derive(Clone, PartialEq, Debug)]
pub struct Scaling {
    /// Exponent.
    pub phi: f64,
    /// Factor of the channels at phi 1.
    pub width_base: f64,
    /// Factor of the repeats at phi 1.
    pub depth_base: f64,
    /// Factor of the side at phi 1.
    pub resolution_base: f64,
    /// The side is rounded to a multiple of this.
    pub side_multiple: usize,
}

impl Default for Scaling {
    fn default() -> Self {
        Self { phi: 0.0, width_base: 1.1, depth_base: 1.2, resolution_base: 1.15, side_multiple: 8 }
    }
}

/// Smallest and largest factor.
const BASES: (f64, f64) = (0.1, 10.0);

impl Scaling {
    /// Growth of the cost at phi 1.
    pub fn growth(&self) -> f64 {
        cost(self.width_base, self.depth_base, self.resolution_base)
    }

    /// Reads `[scaling]` over these values.
    pub(super) fn apply(
        &mut self,
        table: &ScalingTable,
        source: &Source,
        warnings: &mut Vec<String>,
    ) -> Result<(), SpecError> {
        let numbers = [
            ("scaling.phi", &table.phi, &mut self.phi, (-50.0, 50.0)),
            ("scaling.width_base", &table.width_base, &mut self.width_base, BASES),
            ("scaling.depth_base", &table.depth_base, &mut self.depth_base, BASES),
            ("scaling.resolution_base", &table.resolution_base, &mut self.resolution_base, BASES),
        ];
        for (key, value, target, (least, most)) in numbers {
            if let Some(value) = value {
                *target = source.number(key, value, least, most)?;
            }
        }
        if let Some(value) = &table.side_multiple {
            self.side_multiple = source.whole("scaling.side_multiple", value, 1, 256)?;
        }
        self.apply_greek(table, source, warnings)?;
        for (name, base) in
            [("width", self.width_base), ("depth", self.depth_base), ("resolution", self.resolution_base)]
        {
            if base < 1.0 {
                warnings.push(format!("the factor of {name} is {base}: below 1, so {name} shrinks as phi grows"));
            }
        }
        Ok(())
    }

    fn apply_greek(
        &mut self,
        table: &ScalingTable,
        source: &Source,
        warnings: &mut Vec<String>,
    ) -> Result<(), SpecError> {
        let convention = table.convention.as_ref();
        let convention = convention.map(|word| source.word("scaling.convention", word, CONVENTIONS)).transpose()?;
        let constraint = table.constraint.as_ref();
        let constraint = constraint.map(|k| source.number("scaling.constraint", k, 0.01, 1000.0)).transpose()?;
        let named = [
            ("scaling.alpha", &table.alpha, [&table.depth_base, &table.width_base]),
            ("scaling.beta", &table.beta, [&table.width_base, &table.depth_base]),
            ("scaling.gamma", &table.gamma, [&table.resolution_base; 2]),
        ];
        let read_as = convention.unwrap_or(Convention::Paper);
        for (key, value, same) in &named {
            if let (Some(value), Some(_)) = (value, same[usize::from(read_as == Convention::Brief)]) {
                let expected = "either Greek letters or the factors by name, not both for one dimension";
                return Err(source.refuse(key, value, expected));
            }
        }
        let (mut alpha, mut beta) = match read_as {
            Convention::Paper => (self.depth_base, self.width_base),
            Convention::Brief => (self.width_base, self.depth_base),
        };
        for ((key, value, _), target) in named.iter().zip([&mut alpha, &mut beta, &mut self.resolution_base]) {
            if let Some(value) = value {
                *target = source.number(key, value, BASES.0, BASES.1)?;
            }
        }
        (self.depth_base, self.width_base) = match read_as {
            Convention::Paper => (alpha, beta),
            Convention::Brief => (beta, alpha),
        };
        if table.alpha.is_some() || table.beta.is_some() {
            self.compare_readings(alpha, beta, read_as, constraint, warnings);
        }
        if let Some(k) = constraint
            && !near(self.growth(), k)
        {
            let growth = self.growth();
            warnings.push(format!("depth x width^2 x resolution^2 is {growth:.4}, not the stated constraint {k}"));
        }
        Ok(())
    }

    /// Warns where the two conventions give different networks, and which of them the constraint speaks for.
    fn compare_readings(
        &self,
        alpha: f64,
        beta: f64,
        read_as: Convention,
        constraint: Option<f64>,
        warnings: &mut Vec<String>,
    ) {
        if alpha == beta {
            return;
        }
        let (used, other) = match read_as {
            Convention::Paper => ("paper", "brief"),
            Convention::Brief => ("brief", "paper"),
        };
        let (width, depth) = (self.width_base, self.depth_base);
        let (growth, swapped) = (self.growth(), cost(depth, width, self.resolution_base));
        warnings.push(format!(
            "alpha {alpha} and beta {beta} are read by convention \"{used}\": width {width}, depth {depth}, cost x {growth:.4} \
             per phi; \"{other}\" would read width {depth}, depth {width}, cost x {swapped:.4}"
        ));
        let k = constraint.unwrap_or(2.0);
        if near(swapped, k) && !near(growth, k) {
            warnings.push(format!(
                "depth x width^2 x resolution^2 is {growth:.4} as read by \"{used}\", and {swapped:.4}, close to {k}, by \
                 \"{other}\": alpha and beta look swapped; \"{used}\" is used"
            ));
        }
    }
}

fn cost(width: f64, depth: f64, resolution: f64) -> f64 {
    depth * width * width * resolution * resolution
}

/// Within 5 %, the tolerance of the published search.
fn near(value: f64, k: f64) -> bool {
    (value - k).abs() <= 0.05 * k + 1e-9
}
