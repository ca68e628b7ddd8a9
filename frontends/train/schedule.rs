//! The learning rate of every step.
//!
//! In: a shape, the highest rate, and how many steps there are. Out: the rate of step `t`, from 0. A schedule is a function: nothing
//! is kept between steps.

use std::str::FromStr;

use crate::error::Error;

/// How the rate changes over a run.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Shape {
    /// Linear warm-up, then half a cosine down to 0 (Loshchilov, Hutter 2017).
    #[default]
    Cosine,
    /// Half a cosine up to the highest rate over a fifth of the steps, another one down to almost nothing (Smith, Topin 2018), as in PyTorch's
    /// `OneCycleLR` with its defaults but for that fifth.
    OneCycle,
    /// Linear warm-up, then always the same.
    Constant,
}

impl Shape {
    /// Every shape with its name.
    pub const NAMES: &[(&str, Self)] =
        &[("cosine", Self::Cosine), ("onecycle", Self::OneCycle), ("constant", Self::Constant)];
}

impl FromStr for Shape {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self, Error> {
        let found = Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, shape)| *shape);
        found.ok_or_else(|| Error::usage("--schedule", "cosine, onecycle or constant", name))
    }
}

/// The part of the steps in which [`Shape::OneCycle`] rises.
const RISE: f64 = 0.2;
/// The highest rate over the first one of [`Shape::OneCycle`].
const FIRST: f64 = 25.0;
/// The first rate over the last one of [`Shape::OneCycle`].
const LAST: f64 = 1e4;

/// The learning rates of a run.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Schedule {
    /// How they change.
    pub shape: Shape,
    /// The highest of them.
    pub peak: f64,
    /// Steps of warm-up.
    pub warmup: usize,
    /// All steps.
    pub steps: usize,
}

impl Schedule {
    /// The rate of step `t`, from 0.
    pub fn rate(&self, t: usize) -> f64 {
        let warm = self.warmup.min(self.steps);
        match self.shape {
            Shape::OneCycle => self.peak * self.one_cycle(t),
            _ if t < warm => self.peak * (t + 1) as f64 / warm as f64,
            Shape::Constant => self.peak,
            Shape::Cosine => self.peak * cosine(1.0, 0.0, (t - warm) as f64 / (self.steps - warm).max(1) as f64),
        }
    }

    fn one_cycle(&self, t: usize) -> f64 {
        let (first, last) = (1.0 / FIRST, 1.0 / FIRST / LAST);
        let top = RISE * self.steps as f64 - 1.0;
        let end = self.steps as f64 - 1.0;
        let t = t as f64;
        if t <= top {
            cosine(first, 1.0, if top > 0.0 { t / top } else { 1.0 })
        } else {
            cosine(1.0, last, ((t - top) / (end - top).max(f64::MIN_POSITIVE)).min(1.0))
        }
    }
}

/// From `begin` to `end` along half a cosine; `part` is from 0 to 1.
fn cosine(begin: f64, end: f64, part: f64) -> f64 {
    end + (begin - end) * (1.0 + libm::cos(std::f64::consts::PI * part)) / 2.0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(shape: Shape, warmup: usize, steps: usize) -> Vec<f64> {
        let schedule = Schedule { shape, peak: 1.0, warmup, steps };
        (0..steps).map(|t| schedule.rate(t)).collect()
    }

    fn close(found: &[f64], expected: &[f64]) {
        let near = found.len() == expected.len() && found.iter().zip(expected).all(|(a, b)| (a - b).abs() < 1e-9);
        assert!(near, "{found:?} for {expected:?}");
    }

    #[test]
    fn cosine_warms_up_and_falls() {
        // lr (t + 1) / 2 for t < 2, then lr (1 + cos(pi (t - 2) / 6)) / 2.
        let half = 3f64.sqrt() / 2.0;
        let expected = [0.5, 1.0, 1.0, (1.0 + half) / 2.0, 0.75, 0.5, 0.25, (1.0 - half) / 2.0];
        close(&rates(Shape::Cosine, 2, 8), &expected);
        close(&rates(Shape::Constant, 2, 4), &[0.5, 1.0, 1.0, 1.0]);
        close(&rates(Shape::Cosine, 9, 3), &[1.0 / 3.0, 2.0 / 3.0, 1.0]);
    }

    #[test]
    fn one_cycle_is_torchs() {
        // torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.0, total_steps=10, pct_start=0.2)
        let expected = [
            0.04,
            1.0,
            0.961_939_918_5,
            0.853_553_979_8,
            0.691_342_950_8,
            0.500_002,
            0.308_661_049_2,
            0.146_450_023_6,
            0.038_064_081_5,
            4e-6,
        ];
        let found = rates(Shape::OneCycle, 0, 10);
        let near = found.iter().zip(expected).all(|(a, b): (&f64, f64)| (a - b).abs() < 1e-6);
        assert!(near, "{found:?}");
    }

    #[test]
    fn names_are_read() {
        assert_eq!("onecycle".parse::<Shape>().unwrap(), Shape::OneCycle);
        let error = "linear".parse::<Shape>().unwrap_err().to_string();
        assert!(error.contains("cosine, onecycle or constant") && error.contains("linear"), "{error}");
    }
}
