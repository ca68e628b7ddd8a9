//! Optimisers: from a parameter, its gradient and its states to the parameter and the states after a step.
//!
//! The formulas are those of torch's optimisers, of timm's `RMSpropTF` (s begins at 1, epsilon inside the root, the learning rate inside
//! the velocity) and of Lion (Chen et al. 2023). Weight decay is added to the gradient by SGD and RMSprop, and decoupled in AdamW and Lion.

use super::Setting;
use super::arithmetic::{Arithmetic, filled};
use super::model::Parameter;
use crate::error::Result;
use crate::graph::{GraphBuilder, ValueId};
use crate::scalar::UnaryFn;
use crate::types::TensorType;

/// What turns gradients into steps.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Optimiser {
    /// `v = momentum v + g; w -= lr v`, or `w -= lr (g + momentum v)`.
    Sgd {
        /// Share of the velocity that is kept; 0: there is none.
        momentum: f64,
        /// Whether the step looks ahead.
        nesterov: bool,
    },
    /// `w *= 1 - lr decay; w -= lr m / (sqrt(v) + epsilon)` with averages m of g and v of g squared, corrected for their zero start.
    AdamW {
        /// Share of m that is kept.
        beta1: f64,
        /// Share of v that is kept.
        beta2: f64,
        /// Added to the root.
        epsilon: f64,
    },
    /// `s += (1 - decay)(g^2 - s); u = momentum u + lr g / sqrt(s + epsilon); w -= u`.
    RmspropTf {
        /// Share of s that is kept.
        decay: f64,
        /// Share of u that is kept.
        momentum: f64,
        /// Added under the root.
        epsilon: f64,
    },
    /// `w *= 1 - lr decay; w -= lr sign(beta1 m + (1 - beta1) g); m = beta2 m + (1 - beta2) g`.
    Lion {
        /// Share of m in the step.
        beta1: f64,
        /// Share of m that is kept.
        beta2: f64,
    },
}

impl Optimiser {
    /// Names of the inputs of one element that a step takes besides `lr`. AdamW: `correction1` is [`correction`] of `beta1`, `correction2`
    /// that of `beta2`.
    pub fn inputs(&self) -> &'static [&'static str] {
        match self {
            Self::AdamW { .. } => &["correction1", "correction2"],
            Self::Sgd { .. } | Self::RmspropTf { .. } | Self::Lion { .. } => &[],
        }
    }

    /// The states of a parameter: the first part of their names, before that of the parameter, and what they begin with.
    pub fn states(&self) -> &'static [(&'static str, f64)] {
        match self {
            Self::Sgd { momentum: 0.0, .. } => &[],
            Self::Sgd { .. } => &[("velocity", 0.0)],
            Self::AdamW { .. } => &[("moment1", 0.0), ("moment2", 0.0)],
            Self::RmspropTf { .. } => &[("square", 1.0), ("velocity", 0.0)],
            Self::Lion { .. } => &[("moment", 0.0)],
        }
    }
}

/// `1 / (1 - beta^step)` for a step from 1 on. The power is made of squares, the lowest bit of `step` first, so that code which is written
/// elsewhere has the same bits.
pub fn correction(beta: f64, step: u64) -> f64 {
    let (mut power, mut square, mut left) = (1.0, beta, step);
    while left > 0 {
        if left & 1 == 1 {
            power *= square;
        }
        square *= square;
        left >>= 1;
    }
    1.0 / (1.0 - power)
}

/// The name of a state of a parameter or a running average: `velocity.w`, `ema.w`.
pub fn state_name(state: &str, of: &str) -> String {
    format!("{state}.{of}")
}

/// Declares the states of an optimiser.
pub fn states(b: &mut GraphBuilder, parameters: &[Parameter], optimiser: Optimiser) {
    for parameter in parameters {
        for (state, value) in optimiser.states() {
            let (name, ty) = (state_name(state, &parameter.name), parameter.initial.ty.clone());
            b.state(&name, &name, filled(&ty, *value));
        }
    }
}

/// Declares the averages of parameters and of running averages, which begin as these do.
pub fn averages(b: &mut GraphBuilder, parameters: &[Parameter], running: &[String]) {
    for id in b.graph().variables().to_vec() {
        let Some(variable) = b.graph().node(id).variable().cloned() else { continue };
        if running.contains(&variable.name) || parameters.iter().any(|p| p.name == variable.name) {
            let name = state_name("ema", &variable.name);
            b.state(&name, &name, variable.initial);
        }
    }
}

/// What all parameters of a step share, values without axes.
pub struct Rates {
    /// The learning rate.
    pub lr: ValueId,
    /// The optimiser's own inputs.
    pub own: Vec<ValueId>,
}

/// A parameter after a step, and its states.
pub struct Stepped {
    /// The parameter.
    pub parameter: ValueId,
    /// The states, in the order of [`Optimiser::states`].
    pub states: Vec<ValueId>,
}

/// The step of the parameter `w` with gradient `g`.
pub fn step(
    a: &mut Arithmetic<'_>,
    optimiser: Optimiser,
    setting: Setting,
    rates: &Rates,
    w: ValueId,
    g: ValueId,
    states: &[ValueId],
) -> Result<Stepped> {
    let lr = a.times(rates.lr, setting.rate)?;
    match optimiser {
        Optimiser::Sgd { momentum, nesterov } => {
            let g = decayed(a, setting, w, g)?;
            let [velocity] = states else {
                return Ok(Stepped { parameter: descend(a, w, lr, g)?, states: Vec::new() });
            };
            let kept = a.times(*velocity, momentum)?;
            let velocity = a.add(kept, g)?;
            let mut along = velocity;
            if nesterov {
                let ahead = a.times(velocity, momentum)?;
                along = a.add(g, ahead)?;
            }
            Ok(Stepped { parameter: descend(a, w, lr, along)?, states: vec![velocity] })
        }
        Optimiser::AdamW { beta1, beta2, epsilon } => {
            let square = a.mul(g, g)?;
            let first = a.towards(states[0], g, 1.0 - beta1)?;
            let second = a.towards(states[1], square, 1.0 - beta2)?;
            let (mean, spread) = (a.mul(first, rates.own[0])?, a.mul(second, rates.own[1])?);
            let root = a.unary(UnaryFn::Sqrt, spread)?;
            let root = a.plus(root, epsilon)?;
            let along = a.div(mean, root)?;
            let w = shrunk(a, setting, lr, w)?;
            Ok(Stepped { parameter: descend(a, w, lr, along)?, states: vec![first, second] })
        }
        Optimiser::RmspropTf { decay, momentum, epsilon } => {
            let g = decayed(a, setting, w, g)?;
            let square = a.mul(g, g)?;
            let square = a.towards(states[0], square, 1.0 - decay)?;
            let shifted = a.plus(square, epsilon)?;
            let root = a.unary(UnaryFn::Sqrt, shifted)?;
            let along = a.div(g, root)?;
            let step = a.mul(lr, along)?;
            let kept = a.times(states[1], momentum)?;
            let velocity = a.add(kept, step)?;
            Ok(Stepped { parameter: a.sub(w, velocity)?, states: vec![square, velocity] })
        }
        Optimiser::Lion { beta1, beta2 } => {
            let mixed = a.towards(states[0], g, 1.0 - beta1)?;
            let along = a.unary(UnaryFn::Sign, mixed)?;
            let moment = a.towards(states[0], g, 1.0 - beta2)?;
            let w = shrunk(a, setting, lr, w)?;
            Ok(Stepped { parameter: descend(a, w, lr, along)?, states: vec![moment] })
        }
    }
}

/// `w - lr along`
fn descend(a: &mut Arithmetic<'_>, w: ValueId, lr: ValueId, along: ValueId) -> Result<ValueId> {
    let step = a.mul(lr, along)?;
    a.sub(w, step)
}

/// `g + decay w`
fn decayed(a: &mut Arithmetic<'_>, setting: Setting, w: ValueId, g: ValueId) -> Result<ValueId> {
    if setting.decay == 0.0 {
        return Ok(g);
    }
    let decay = a.times(w, setting.decay)?;
    a.add(g, decay)
}

/// `(1 - lr decay) w`
fn shrunk(a: &mut Arithmetic<'_>, setting: Setting, lr: ValueId, w: ValueId) -> Result<ValueId> {
    if setting.decay == 0.0 {
        return Ok(w);
    }
    let share = a.times(lr, setting.decay)?;
    let one = a.number(lr, 1.0);
    let rest = a.sub(one, share)?;
    a.mul(w, rest)
}

/// The type of an input of one element.
pub fn one(like: &TensorType) -> TensorType {
    TensorType::new(like.dtype, [1])
}

#[cfg(test)]
mod tests {
    use super::correction;

    #[test]
    fn corrections_are_powers() {
        for (beta, step) in [(0.9, 1), (0.9, 2), (0.999, 7), (0.999, 1000), (0.5, 31)] {
            let expected = 1.0 / (1.0 - f64::powi(beta, step));
            assert!((correction(beta, step as u64) - expected).abs() <= 1e-12 * expected, "{beta}^{step}");
        }
        assert_eq!((correction(0.999, u64::MAX), correction(0.0, 1)), (1.0, 1.0));
    }
}
