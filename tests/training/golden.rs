//! Golden files, and how far results are from them.
//!
//! The files hold a summary of most tensors: sum, L2 norm, the product with a stream of random numbers, three elements. A result is
//! therefore held to the golden values in two steps: the evaluator's, in `f64`, agrees with every summary to [`EXACT`], and the native
//! one agrees with the evaluator's tensor, whole, within what the case accepts.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use fornax::ir::types::random_values;
use fornax::tensors;
use serde_json::Value;

use crate::runs::{Array, Values};
use crate::{say, support};

/// How far a summary of the evaluator's tensor may be from the golden one, over the tensor's norm: it computes in `f64`, but attributes
/// (epsilon, the 1/6 of a hard sigmoid) and masks are of `f32`.
pub const EXACT: f64 = 1e-5;
/// The same for losses and logits.
pub const EXACT_LOSS: f64 = 1e-6;
/// Norms below this share of the mean norm count as this share of it.
const FLOOR: f64 = 1e-3;

/// The folder of golden files, if it is there.
pub fn folder() -> Option<PathBuf> {
    support::shared("reference/golden_small").or_else(|| {
        say("SKIPPED: golden values of training are not there; set FORNAX_SHARED to the shared test data");
        None
    })
}

pub fn json(folder: &Path, file: &str) -> Value {
    let bytes = std::fs::read(folder.join(file)).expect("a golden file");
    serde_json::from_slice(&bytes).expect("a golden file")
}

/// The tensors of a file by name; the one of an `.npy` is called `input`.
pub fn arrays(folder: &Path, file: &str) -> BTreeMap<String, Array> {
    let found = tensors::load(folder.join(file)).expect("tensors");
    let array = |tensor: fornax::Tensor| Array::new(tensor.shape().to_vec(), tensor.to_f64_vec());
    found.into_iter().map(|one| (one.name.unwrap_or_else(|| "input".into()), array(one.tensor))).collect()
}

pub fn number(value: &Value) -> f64 {
    value.as_f64().unwrap_or_else(|| panic!("a number, found {value}"))
}

/// All numbers of nested lists.
pub fn numbers(value: &Value) -> Vec<f64> {
    match value {
        Value::Array(list) => list.iter().flat_map(numbers).collect(),
        one => vec![number(one)],
    }
}

pub fn strings(value: &Value) -> BTreeSet<String> {
    let list = value.as_array().into_iter().flatten();
    list.map(|text| text.as_str().expect("a name").to_owned()).collect()
}

/// What `accept` rounds to: five times what was reached, up to 1, 2 or 5, at least 1e-6.
pub fn accepted(reached: f64) -> f64 {
    let bound = (5.0 * reached).max(1e-6);
    let power = 10f64.powf(bound.log10().floor());
    [1.0, 2.0, 5.0, 10.0].into_iter().map(|step| step * power).find(|step| *step >= bound * (1.0 - 1e-9)).expect("one")
}

pub fn norm(values: &[f64]) -> f64 {
    values.iter().map(|value| value * value).sum::<f64>().sqrt()
}

/// The norm of the difference.
pub fn apart(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b) * (a - b)).sum::<f64>().sqrt()
}

/// The largest difference.
pub fn farthest(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    a.iter().zip(b).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
}

/// The largest absolute value.
pub fn largest(values: &[f64]) -> f64 {
    values.iter().fold(0.0, |most, value| most.max(value.abs()))
}

/// How far tensors are from their golden summary, in units of the norm, or of `least` if that is larger.
fn off(summary: &Value, values: &[f64], least: f64) -> f64 {
    let mut far = vec![
        (norm(values) - number(&summary["l2"])).abs(),
        (values.iter().sum::<f64>() - number(&summary["sum"])).abs(),
    ];
    if let Some(dot) = summary["dot"].as_f64() {
        let stream = random_values(99, values.len());
        far.push((values.iter().zip(stream).map(|(value, k)| value * f64::from(k)).sum::<f64>() - dot).abs());
    }
    far.extend(numbers(&summary["first"]).iter().zip(values).map(|(gold, value)| (gold - value).abs()));
    far.into_iter().fold(0.0, f64::max) / number(&summary["l2"]).max(least)
}

/// The worst errors of a case, over what is accepted.
pub struct Figures {
    case: String,
    worst: BTreeMap<&'static str, (f64, f64, String)>,
}

impl Figures {
    pub fn of(case: impl Into<String>) -> Self {
        Self { case: case.into(), worst: BTreeMap::new() }
    }

    /// An error of `name`, and what is accepted.
    pub fn add(&mut self, what: &'static str, error: f64, accept: f64, name: &str) {
        let ratio = if error.is_finite() { error / accept } else { f64::INFINITY };
        let worst = self.worst.entry(what).or_insert((-1.0, 0.0, String::new()));
        if ratio > worst.0 {
            *worst = (ratio, error, name.into());
        }
    }

    /// Says the figures; those above 1 as text.
    pub fn end(self) -> Vec<String> {
        let (mut line, mut wrong) = (format!("{}:", self.case), Vec::new());
        for (what, (ratio, error, name)) in &self.worst {
            _ = write!(line, " {what} {ratio:.3}");
            if *ratio > 1.0 {
                wrong.push(format!(
                    "{}: {what} of {name} is {error:.2e} off, {ratio:.2} of what is accepted",
                    self.case
                ));
            }
        }
        say(&line);
        wrong
    }

    /// [`Self::end`] for a test of one case.
    pub fn check(self) {
        let wrong = self.end();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    /// Tensors of the evaluator against their summaries; those of `zero` have a norm that is 0.
    pub fn exact(&mut self, gold: &Value, found: &Values, zero: &BTreeSet<String>) {
        let gold = gold.as_object().expect("summaries");
        let names = |a: Vec<&String>| a.into_iter().cloned().collect::<BTreeSet<String>>();
        assert_eq!(names(gold.keys().collect()), names(found.keys().collect()), "{}", self.case);
        let total = norm(&found.values().map(|values| norm(values)).collect::<Vec<_>>());
        let least = FLOOR * total / found.len() as f64;
        for (name, values) in found {
            let far = if zero.contains(name) { norm(values) / total } else { off(&gold[name], values, least) };
            self.add("exact", far, EXACT, name);
        }
    }

    /// Native gradients against exact ones, as `case` accepts.
    pub fn gradients(&mut self, case: &Value, exact: &Values, native: &Values) {
        let (accept, zero) = (&case["accept"], strings(&case["zero_gradients"]));
        let (total, mean) = (number(&case["grad_l2"]), number(&case["mean_tensor_l2"]));
        assert!(exact.keys().eq(native.keys()), "{}", self.case);
        for (name, gold) in exact {
            let far = apart(gold, &native[name]);
            if zero.contains(name) {
                self.add("zero", far / total, number(&accept["zero_over_grad_l2"]), name);
            } else {
                let bound = number(&accept["gradient_bounded"]) * norm(gold).max(FLOOR * mean);
                self.add("gradient", far, bound, name);
            }
        }
    }

    /// Native tensors against exact ones, relative to their norms.
    pub fn relative(&mut self, what: &'static str, exact: &Values, native: &Values, accept: f64) {
        for (name, gold) in exact {
            self.add(what, apart(gold, &native[name]) / norm(gold), accept, name);
        }
    }
}
