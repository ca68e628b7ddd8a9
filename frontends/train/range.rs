//! A learning rate from a short test (Smith 2017): the rate rises from step to step until the loss does.
//!
//! In: a run before its first step. Out: a rate; parameters and states are afterwards what they were, byte for byte.

use super::run::Run;
use crate::error::Result;

/// The first and the last rate.
const RATES: (f64, f64) = (1e-6, 1.0);
/// Steps between them.
const STEPS: usize = 60;
/// Share of the old in the running mean of the loss.
const SMOOTHING: f64 = 0.9;
/// Times the least loss at which the test ends.
const TOO_HIGH: f64 = 4.0;
/// Times the least loss up to which a loss counts as near it.
const NEAR: f64 = 1.5;
/// Steps before the running mean is of enough batches to say what is least.
const SETTLED: usize = 10;
/// The rate up to which the loss stays near its least over the rate that is taken.
const MARGIN: f64 = 10.0;

/// The rate a factor below the highest one after which the loss is still near its least: a head that begins at its best
/// leaves the loss little to fall, so that where it is least is chance.
///
/// # Errors
/// As [`Run::at_rates`].
pub(crate) fn rate(run: &mut Run<'_>) -> Result<f64> {
    let saved = run.step.save_state();
    let rates: Vec<f64> = (0..STEPS).map(|at| at_step(at as f64)).collect();
    let mut found = Smoothed::default();
    run.at_rates(&rates, |loss| found.goes_on(loss))?;
    run.step.restore_state(&saved)?;
    Ok(at_step(found.last as f64) / MARGIN)
}

/// The rate of a step.
fn at_step(at: f64) -> f64 {
    let part = at / (STEPS - 1) as f64;
    libm::exp(libm::log(RATES.0) + (libm::log(RATES.1) - libm::log(RATES.0)) * part)
}

/// The running mean of a loss, and where it was least.
#[derive(Default)]
struct Smoothed {
    mean: f64,
    steps: usize,
    /// The least.
    least: f64,
    /// The last step after which it was near that.
    last: usize,
}

impl Smoothed {
    /// Takes the next loss; whether more are wanted.
    fn goes_on(&mut self, loss: f64) -> bool {
        if !loss.is_finite() {
            return false;
        }
        self.mean = SMOOTHING * self.mean + (1.0 - SMOOTHING) * loss;
        self.steps += 1;
        // Corrected for the start from zero.
        let mean = self.mean / (1.0 - libm::pow(SMOOTHING, self.steps as f64));
        if self.steps <= SETTLED || mean < self.least {
            self.least = mean;
        }
        if mean <= NEAR * self.least {
            // A loss is that before the step of its number.
            self.last = self.steps.saturating_sub(2);
        }
        mean < TOO_HIGH * self.least
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_rise_by_a_factor() {
        assert!((at_step(0.0) - 1e-6).abs() < 1e-12 && (at_step((STEPS - 1) as f64) - 1.0).abs() < 1e-9);
        assert!((at_step(9.0) / at_step(8.0) - at_step(40.0) / at_step(39.0)).abs() < 1e-9);
    }

    #[test]
    fn the_highest_rate_without_harm_is_found_and_a_blow_up_ends_the_test() {
        let mut found = Smoothed::default();
        let mut taken = 0;
        for at in 0..60 {
            let loss = if at < 40 { 2.0 - f64::from(at) * 0.04 } else { 0.4 * f64::exp(f64::from(at - 40)) };
            taken += 1;
            if !found.goes_on(loss) {
                break;
            }
        }
        assert!((38..44).contains(&found.last) && taken < 50, "{} {taken}", found.last);
        // A loss that only wavers says nothing against a rate.
        let mut flat = Smoothed::default();
        (0..60).for_each(|at| assert!(flat.goes_on(0.5 + 0.1 * f64::sin(f64::from(at) * 1.7))));
        assert_eq!(flat.last, 58);
        assert!(!found.goes_on(f64::NAN) && !found.goes_on(f64::INFINITY));
    }
}
