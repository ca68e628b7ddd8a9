//! A training step as a library: what its plans are, besides plans.
//!
//! In: plans whose bindings are `predict`, `gradients` and `update` of one network ([`STEP_BINDINGS`]), and a [`StepSpec`]. Out: the records that
//! entry functions and loader need of them: a [`StepTable`], how long each plan's prologue is, what the file of trained parameters begins
//! with. That file is one of safetensors: a length of 8 bytes, JSON, and the elements of each tensor.

use fornax_runtime::artifact::{STEP_BINDINGS, STEP_GRADIENTS, StepTable};

use crate::error::{Error, Result};
use crate::plan::{Plan, Variable};

/// What a step computes a rate of its update from.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Rate {
    /// It is the learning rate.
    Learning,
    /// It is [`fornax_ir::training::correction`] of this number, for the number of the step.
    Correction(f64),
    /// It is the norm to which gradients are clipped; theirs is the update's output.
    Clip(f32),
    /// It is the share of the old in averages of the parameters: this number, in step `n` at most `(1 + n) / (10 + n)`.
    Average(f64),
}

/// Factors for what is dropped of an image, drawn from a sequence of its own: each is 0 at a rate, else 1 over the share that is kept.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Mask {
    /// Of which sequence they are drawn.
    pub purpose: u64,
    /// How many numbers of the sequence come before them.
    pub first: u64,
    /// How many they are.
    pub count: usize,
    /// Share of those that are dropped, from 0 to below 1.
    pub rate: f64,
}

impl Mask {
    /// The number of 53 bits below which a random one drops.
    pub(super) fn threshold(&self) -> u64 {
        (self.rate * (1u64 << 53) as f64).ceil() as u64
    }

    /// The factor of what is kept.
    pub(super) fn kept(&self) -> f32 {
        (1.0 / (1.0 - self.rate)) as f32
    }
}

/// What makes a training step of three bindings.
#[derive(Clone, PartialEq, Debug)]
pub struct StepSpec {
    /// Images that a run of `predict` and of `gradients` takes.
    pub images: usize,
    /// Inputs of `gradients` after images and targets, in order; those of a purpose stand side by side.
    pub masks: Vec<Mask>,
    /// Inputs of `update`, in order.
    pub rates: Vec<Rate>,
    /// How many of the first variables begin with elements of their own; the others begin with zeros.
    pub initialised: usize,
    /// Variables that are exported, by name, and the names that they have there.
    pub exported: Vec<(String, String)>,
    /// What updates the parameters, in words, for the header.
    pub about: String,
}

impl StepSpec {
    /// How much of the state block of `plan` holds first elements that may differ from zero, a multiple of 64.
    pub(super) fn initial_bytes(&self, plan: &Plan) -> usize {
        plan.variables.get(self.initialised).map_or(plan.state_bytes(), |variable| variable.offset)
    }

    /// Whether gradients are clipped.
    pub(super) fn clips(&self) -> bool {
        self.rates.iter().any(|rate| matches!(rate, Rate::Clip(_)))
    }

    /// Bytes of the factors of a run of `gradients`, a multiple of 64.
    pub(super) fn mask_bytes(&self) -> usize {
        self.masks.iter().map(|mask| 4 * mask.count * self.images).sum::<usize>().next_multiple_of(64)
    }

    /// Holds the bindings to be those of a step.
    ///
    /// # Errors
    /// [`Error::Plan`] naming what is not.
    pub(super) fn check(&self, plans: &[Vec<Plan>]) -> Result<()> {
        let wrong = |what: &str, expected: String, found: String| {
            Err(Error::Plan(vec![format!("a training step: {what}: expected {expected}, found {found}")]))
        };
        if plans.len() != STEP_BINDINGS.len() {
            return wrong("bindings", STEP_BINDINGS.join(", "), plans.len().to_string());
        }
        let expected = [[1, 1], [2 + self.masks.len(), 2], [self.rates.len(), usize::from(self.clips())]];
        for ((name, ports), levels) in STEP_BINDINGS.iter().zip(expected).zip(plans) {
            let own = |plan: &Plan| [plan.inputs.len(), plan.outputs.len()];
            if let Some(found) = levels.iter().map(own).find(|found| *found != ports) {
                return wrong(&format!("inputs and outputs of {name}"), format!("{ports:?}"), format!("{found:?}"));
            }
        }
        for plan in plans.get(STEP_GRADIENTS).into_iter().flatten() {
            for (port, mask) in plan.inputs.iter().skip(2).zip(&self.masks) {
                let (expected, found) = (4 * mask.count * self.images, port.ty.bytes());
                if found != expected {
                    return wrong(&format!("bytes of {}", port.name), expected.to_string(), found.to_string());
                }
            }
        }
        let zeros = plans.iter().flatten().flat_map(|plan| plan.variables.iter().skip(self.initialised));
        let begins =
            |variable: &&Variable| variable.initial.bytes().is_none_or(|all| all.iter().any(|byte| *byte != 0));
        if let Some(variable) = zeros.into_iter().find(begins) {
            return wrong("variables", "zeros at first".into(), format!("others in {}", variable.name));
        }
        let names = |plan: &Plan| plan.variables.iter().map(|variable| variable.name.clone()).collect::<Vec<_>>();
        let known = plans.first().and_then(|levels| levels.first()).map(names).unwrap_or_default();
        match self.exported.iter().find(|(name, _)| !known.contains(name)) {
            Some((name, _)) => wrong("exported variables", "variables of the network".into(), name.clone()),
            None => Ok(()),
        }
    }

    /// The [`StepTable`] and what it leads to, which lie at `at` in the tables: of `plans`, whose variables are those of `plan` and whose weights
    /// hold the first `initial_bytes` of a state.
    pub(super) fn records(&self, plan: &Plan, plans: &[Vec<Plan>], initial_bytes: usize, at: usize) -> Vec<u8> {
        let (export_head, export_bytes) = self.export(plan);
        let words = |numbers: &mut dyn Iterator<Item = usize>| -> Vec<u8> {
            numbers.flat_map(|number| (number as u32).to_le_bytes()).collect()
        };
        let exported = words(&mut self.numbers(plan).into_iter());
        let prologues = words(&mut plans.iter().flatten().map(|plan| plan.prologue));
        let mut rest = Vec::new();
        let mut place = |bytes: &[u8]| {
            let offset = at + StepTable::SIZE + rest.len();
            rest.extend_from_slice(bytes);
            rest.resize(rest.len().next_multiple_of(8), 0);
            offset as u32
        };
        let table = StepTable {
            initial_bytes: initial_bytes as u64,
            export_bytes: export_bytes as u64,
            export_head_at: place(&export_head),
            export_head_bytes: export_head.len() as u32,
            exported_at: place(&exported),
            exported: self.exported.len() as u32,
            prologues_at: place(&prologues),
            images: self.images as u32,
        };
        let mut bytes = Vec::with_capacity(StepTable::SIZE + rest.len());
        table.write(&mut bytes);
        bytes.extend(rest);
        bytes
    }

    /// The exported variables, by their number, in the order of the file.
    fn numbers(&self, plan: &Plan) -> Vec<usize> {
        let number = |name: &String| plan.variables.iter().position(|variable| variable.name == *name);
        self.exported.iter().filter_map(|(name, _)| number(name)).collect()
    }

    /// What the exported file begins with, and its size.
    pub(super) fn export(&self, plan: &Plan) -> (Vec<u8>, usize) {
        let (mut entries, mut at) = (Vec::new(), 0);
        for (number, (_, name)) in self.numbers(plan).into_iter().zip(&self.exported) {
            let ty = &plan.variables[number].initial.ty;
            let end = at + ty.bytes();
            let shape: Vec<String> = ty.shape.iter().map(usize::to_string).collect();
            let (dtype, shape) = (ty.dtype.to_string().to_uppercase(), shape.join(","));
            entries.push(format!(
                "{}:{{\"dtype\":\"{dtype}\",\"shape\":[{shape}],\"data_offsets\":[{at},{end}]}}",
                quoted(name)
            ));
            at = end;
        }
        let mut text = format!("{{{}}}", entries.join(","));
        // The elements begin at a multiple of 8.
        text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
        let mut head = (text.len() as u64).to_le_bytes().to_vec();
        head.extend(text.as_bytes());
        let total = head.len() + at;
        (head, total)
    }
}

/// A text as JSON has it.
fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for letter in text.chars() {
        match letter {
            '"' | '\\' => out.extend(['\\', letter]),
            control if control < ' ' => out.push_str(&format!("\\u{:04x}", u32::from(control))),
            other => out.push(other),
        }
    }
    out.push('"');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_json() {
        assert_eq!(quoted("a.b"), "\"a.b\"");
        assert_eq!(quoted("a\"\\\n\u{e9}"), "\"a\\\"\\\\\\u000a\u{e9}\"");
    }
}
