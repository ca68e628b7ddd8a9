//! The largest network of a family within a budget.
//!
//! In: a spec, a budget, and a closure that measures what cannot be counted. Out: a [`Solution`]: the network of the largest phi
//! (in steps of 0.01) that fits, its side then raised while it still fits, and the next candidates with why they do not. Several
//! phi give the same network, since counts are rounded; it is called by the smallest of them. Every decision rests on networks after rounding; the closed form only says where measuring starts. Under a budget of
//! parameters alone, which do not depend on it, the side stays as it is.

use std::fmt;

use crate::architecture::Architecture;
use crate::count::count;
use crate::growth::grow;
use crate::spec::{MAX_SIDE, Multipliers, Scaling, Spec, SpecError};

/// Phi from -20 to 20 in steps of 0.01.
const GRID: std::ops::RangeInclusive<i32> = -2000..=2000;

/// Limits; at least one is needed.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Budget {
    /// Parameters.
    pub params: Option<u64>,
    /// Multiply-accumulates of one image.
    pub macs: Option<u64>,
    /// Peak bytes of activations.
    pub arena_bytes: Option<u64>,
    /// Latency in milliseconds.
    pub latency_ms: Option<f64>,
}

/// What is measured of a network; what the budget does not limit may be absent.
#[derive(Clone, Copy, PartialEq, Debug, Default)]
pub struct Measured {
    /// Peak bytes of activations.
    pub arena_bytes: Option<u64>,
    /// Latency in milliseconds.
    pub latency_ms: Option<f64>,
}

/// Cost of a network.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Cost {
    /// Parameters.
    pub params: u64,
    /// Multiply-accumulates of one image.
    pub macs: u64,
    /// What was measured; absent if nothing had to be, or if the counts already exceed the budget.
    pub measured: Option<Measured>,
}

/// A limit and what exceeds it.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Excess {
    /// Quantity.
    pub quantity: &'static str,
    /// Limit.
    pub limit: f64,
    /// Cost.
    pub found: f64,
}

impl fmt::Display for Excess {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let percent = (self.found / self.limit - 1.0) * 100.0;
        // Counts are whole; what is measured is not exact to more than this.
        let found = if self.found.fract() == 0.0 { self.found.to_string() } else { format!("{:.2}", self.found) };
        write!(f, "{} {found} of {}, {percent:.1} % over", self.quantity, self.limit)
    }
}

/// A network that was considered.
#[derive(Clone, Debug)]
pub struct Candidate {
    /// The smallest phi, in steps of 0.01, that gives the network; the raising of the side leaves it as it is.
    pub phi: f64,
    /// Final multipliers.
    pub multipliers: Multipliers,
    /// The network.
    pub architecture: Architecture,
    /// Its cost.
    pub cost: Cost,
    /// Limits that it exceeds.
    pub excess: Vec<Excess>,
}

/// The largest network within a budget.
#[derive(Clone, Debug)]
pub struct Solution {
    /// It, as a spec with final multipliers, named after the family, phi and side.
    pub spec: Spec,
    /// It.
    pub chosen: Candidate,
    /// The largest phi that fits, before the side was raised.
    pub unraised: Candidate,
    /// The network of the next side, which does not fit; absent if the side is fixed or at its bound.
    pub next_side: Option<Candidate>,
    /// The network of the next phi, which does not fit; absent at the end of the grid.
    pub next_phi: Option<Candidate>,
    /// Networks measured.
    pub measurements: usize,
}

impl Budget {
    /// Whether it limits what has to be measured.
    pub fn needs_measuring(&self) -> bool {
        self.arena_bytes.is_some() || self.latency_ms.is_some()
    }

    /// Whether only parameters are limited.
    fn params_alone(&self) -> bool {
        self.params.is_some() && self.macs.is_none() && !self.needs_measuring()
    }

    fn check(&self) -> Result<(), SpecError> {
        let limits = [self.params, self.macs, self.arena_bytes].map(|limit| limit.map(|limit| limit as f64));
        let mut limits = limits.into_iter().chain([self.latency_ms]).flatten().peekable();
        if limits.peek().is_none() {
            return Err(SpecError::Budget("a budget needs a limit: parameters, MACs, arena or latency".to_string()));
        }
        match limits.find(|limit| !(limit.is_finite() && *limit > 0.0)) {
            Some(limit) => Err(SpecError::Budget(format!("a limit must be above 0, found {limit}"))),
            None => Ok(()),
        }
    }

    fn excess(&self, cost: &Cost) -> Vec<Excess> {
        let measured = cost.measured.unwrap_or_default();
        let whole = |limit: Option<u64>| limit.map(|limit| limit as f64);
        [
            ("parameters", whole(self.params), Some(cost.params as f64)),
            ("MACs", whole(self.macs), Some(cost.macs as f64)),
            ("arena bytes", whole(self.arena_bytes), whole(measured.arena_bytes)),
            ("latency ms", self.latency_ms, measured.latency_ms),
        ]
        .into_iter()
        .filter_map(|(quantity, limit, found)| Some(Excess { quantity, limit: limit?, found: found? }))
        // A cost that is no number exceeds every limit.
        .filter(|Excess { limit, found, .. }| found > limit || found.is_nan())
        .collect()
    }

    fn complete(&self, measured: &Measured) -> bool {
        (self.arena_bytes.is_none() || measured.arena_bytes.is_some())
            && (self.latency_ms.is_none() || measured.latency_ms.is_some())
    }
}

/// Measures a network.
pub type Measure<'a, E> = dyn FnMut(&Architecture) -> Result<Measured, E> + 'a;

/// Searches one family.
struct Search<'a, 'm, E> {
    budget: &'a Budget,
    measure: &'a mut Measure<'m, E>,
    measurements: usize,
}

/// The largest network of `spec`'s family within `budget`. `measure` is called only for networks whose counts fit, and only if
/// the budget limits arena or latency.
pub fn solve<E: From<SpecError>>(spec: &Spec, budget: &Budget, measure: &mut Measure<'_, E>) -> Result<Solution, E> {
    budget.check()?;
    let mut family = grow(spec, 0.0);
    if let (true, Some(scaling)) = (budget.params_alone(), &mut family.scaling) {
        scaling.resolution_base = 1.0;
        scaling.side_multiple = 1;
    }
    let scaling = family.scaling.clone().unwrap_or_default();
    let growth = scaling.growth();
    if growth <= 1.0 + 1e-9 {
        let text = format!("depth x width^2 x resolution^2 is {growth:.4}: the family does not grow with phi");
        return Err(SpecError::Budget(text).into());
    }
    let mut candidates = candidates(&family, budget);
    let mut search = Search { budget, measure, measurements: 0 };
    let chosen = search.largest(&mut candidates, &scaling, &family)?;
    let unraised = candidates[chosen].clone();
    let next_phi = candidates.get(chosen + 1).cloned();
    let (mut chosen, next_side) = if budget.params_alone() {
        (unraised.clone(), None)
    } else {
        search.raise_side(unraised.clone(), scaling.side_multiple)?
    };
    chosen.architecture.name = format!("{}_phi{}_{}", family.name, chosen.phi, chosen.multipliers.side);
    let mut spec = family.with_multipliers(chosen.multipliers);
    spec.name.clone_from(&chosen.architecture.name);
    Ok(Solution { spec, chosen, unraised, next_side, next_phi, measurements: search.measurements })
}

/// The distinct networks of a family, each with the smallest phi that gives it, counted but not measured.
fn candidates(family: &Spec, budget: &Budget) -> Vec<Candidate> {
    let mut candidates: Vec<Candidate> = Vec::new();
    for step in GRID {
        let phi = f64::from(step) / 100.0;
        let Ok(resolved) = grow(family, phi).resolve() else { continue };
        let candidate = counted(resolved.architecture, phi, resolved.multipliers, budget);
        match candidates.last() {
            Some(last) if last.architecture == candidate.architecture => {}
            _ => candidates.push(candidate),
        }
    }
    candidates
}

fn counted(architecture: Architecture, phi: f64, multipliers: Multipliers, budget: &Budget) -> Candidate {
    let counts = count(&architecture, architecture.side);
    let cost = Cost { params: counts.params, macs: counts.macs.total(), measured: None };
    Candidate { phi, multipliers, architecture, cost, excess: budget.excess(&cost) }
}

impl<E: From<SpecError>> Search<'_, '_, E> {
    /// Measures a candidate unless its counts exceed the budget or it was measured before; tells whether it fits.
    fn fits(&mut self, candidate: &mut Candidate) -> Result<bool, E> {
        if self.budget.needs_measuring() && candidate.excess.is_empty() && candidate.cost.measured.is_none() {
            self.run(candidate)?;
        }
        Ok(candidate.excess.is_empty())
    }

    fn run(&mut self, candidate: &mut Candidate) -> Result<Measured, E> {
        let measured = (self.measure)(&candidate.architecture)?;
        self.measurements += 1;
        if !self.budget.complete(&measured) {
            return Err(SpecError::Budget("the budget limits what was not measured".to_string()).into());
        }
        candidate.cost.measured = Some(measured);
        candidate.excess = self.budget.excess(&candidate.cost);
        Ok(measured)
    }

    /// Index of the largest candidate that fits; the one after it does not.
    fn largest(&mut self, candidates: &mut [Candidate], scaling: &Scaling, family: &Spec) -> Result<usize, E> {
        let Some(top) = candidates.iter().rposition(|candidate| candidate.excess.is_empty()) else {
            return Err(nothing_fits(family, candidates.first()).into());
        };
        if !self.budget.needs_measuring() {
            return Ok(top);
        }
        let mut at = self.start(candidates, top, scaling)?;
        // Strides double until the boundary lies between two of them, then halve.
        let mut stride = 1;
        let (mut low, mut high);
        if self.fits(&mut candidates[at])? {
            while at + stride <= top && self.fits(&mut candidates[at + stride])? {
                at += stride;
                stride *= 2;
            }
            (low, high) = (at, (at + stride).min(top + 1));
        } else {
            while at > 0 && !self.fits(&mut candidates[at.saturating_sub(stride)])? {
                at = at.saturating_sub(stride);
                stride *= 2;
            }
            if at == 0 {
                return Err(nothing_fits(family, candidates.first()).into());
            }
            (low, high) = (at.saturating_sub(stride), at);
        }
        while high - low > 1 {
            let middle = low.midpoint(high);
            if self.fits(&mut candidates[middle])? {
                low = middle;
            } else {
                high = middle;
            }
        }
        Ok(low)
    }

    /// The candidate that the closed form names, from a measurement of the one at phi 0 or the nearest below whose counts fit.
    fn start(&mut self, candidates: &mut [Candidate], top: usize, scaling: &Scaling) -> Result<usize, E> {
        let origin = candidates.partition_point(|candidate| candidate.phi < 0.0).min(top);
        let measured = match candidates[origin].cost.measured {
            Some(measured) => measured,
            None => self.run(&mut candidates[origin])?,
        };
        let area = scaling.width_base * scaling.resolution_base.powi(2);
        let arena = self.budget.arena_bytes.zip(measured.arena_bytes).map(|(limit, cost)| limit as f64 / cost as f64);
        let latency = self.budget.latency_ms.zip(measured.latency_ms).map(|(limit, cost)| limit / cost);
        let steps = [(arena, area), (latency, scaling.growth())];
        let steps = steps.into_iter().filter_map(|(ratio, growth)| Some(ratio?.ln() / growth.ln()));
        let step = steps.filter(|step| step.is_finite()).fold(f64::INFINITY, f64::min);
        if !step.is_finite() {
            return Ok(origin);
        }
        let phi = candidates[origin].phi + step;
        Ok(candidates.partition_point(|candidate| candidate.phi < phi).min(top))
    }

    /// Raises the side in steps while it fits; gives the last that fits and the first that does not.
    fn raise_side(&mut self, mut chosen: Candidate, step: usize) -> Result<(Candidate, Option<Candidate>), E> {
        loop {
            let side = (chosen.multipliers.side / step + 1) * step;
            if side > MAX_SIDE {
                return Ok((chosen, None));
            }
            let multipliers = Multipliers { side, ..chosen.multipliers };
            let architecture = Architecture { side, ..chosen.architecture.clone() };
            let mut next = counted(architecture, chosen.phi, multipliers, self.budget);
            if !self.fits(&mut next)? {
                return Ok((chosen, Some(next)));
            }
            chosen = next;
        }
    }
}

fn nothing_fits(family: &Spec, smallest: Option<&Candidate>) -> SpecError {
    let why = smallest.map_or_else(String::new, |smallest| {
        let excess: Vec<String> = smallest.excess.iter().map(Excess::to_string).collect();
        format!(": the smallest, phi {}, has {}", smallest.phi, excess.join(", "))
    });
    SpecError::Budget(format!("no network of {} fits the budget{why}", family.name))
}
