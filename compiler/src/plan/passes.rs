//! Rewrites of the plan, one pass per file, and the list that says in which order they run.
//!
//! In: a plan as lowering leaves it: outputs in their places, every other value in memory of its own. Out: the plan that is emitted.
//! A pass changes a plan and leaves a remark for each choice; what its steps compute stays the same to the bit.

mod elide_copies;
mod fuse_chains;
mod fuse_finish;
mod hoist_invariant;
mod live_ranges;
mod place;
mod place_updates;
mod reuse_in_place;

use super::Plan;
use fornax_ir::{Remark, Verdict};

/// A pass over the plan.
#[derive(Clone, Copy, Debug)]
pub struct Pass {
    /// Its name: the file, the argument of `--after`, the folder of its tests.
    pub name: &'static str,
    /// What it does, in a line.
    pub about: &'static str,
    pub run: fn(&mut Plan),
}

/// Every pass, in the order in which they run.
pub const PASSES: &[Pass] = &[
    // First: a value that is computed where it is read needs no memory.
    Pass { name: "fuse_chains", about: "compute element-wise values where they are read", run: fuse_chains::run },
    // After fuse_chains, which makes one nest of what follows a sum.
    Pass {
        name: "fuse_finish",
        about: "compute what follows integer sums where they are summed",
        run: fuse_finish::run,
    },
    // After fuse_chains, which leaves only copies that no other loop nest computes.
    Pass {
        name: "elide_copies",
        about: "read and write parts of channels where they lie, without copies",
        run: elide_copies::run,
    },
    // After fuse_chains, which moves what reads a variable to later steps.
    Pass {
        name: "place_updates",
        about: "write what replaces parameters and states after a run into their memory",
        run: place_updates::run,
    },
    // After place_updates, which says what the steps write.
    Pass { name: "hoist_invariant", about: "compute once what depends on parameters alone", run: hoist_invariant::run },
    // Before place, which sees values only by the memory behind them.
    Pass {
        name: "reuse_in_place",
        about: "write results over operands that are read for the last time",
        run: reuse_in_place::run,
    },
    // Last: the offsets depend on everything before.
    Pass { name: "place", about: "give every value in the arena its offset", run: place::run },
];

/// A remark of `stage` about step `at`.
fn remark(plan: &Plan, stage: &'static str, at: usize, text: String, figures: &[(&'static str, f64)]) -> Remark {
    let step = &plan.steps[at];
    let (node, origins) = (step.node.clone(), step.origins.clone());
    Remark { stage, node, origins, verdict: Verdict::Made, text, figures: figures.to_vec() }
}

/// Names of both lists, each once.
fn union(mut names: Vec<String>, more: Vec<String>) -> Vec<String> {
    for name in more {
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::lower;
    use fornax_ir::graph::parse;

    /// A chain of `steps` kernels that may work in place.
    fn chain(steps: usize) -> Plan {
        let mut text = "graph @chain(%v0: f32[4,16]) {\n".to_string();
        (0..steps).for_each(|at| text.push_str(&format!("%v{} = softmax %v{at}\n", at + 1)));
        text.push_str(&format!("return %v{steps} as \"y\"\n}}"));
        lower(&parse(&text).unwrap(), &"x86-64-v3".parse().unwrap(), crate::numerics::Numerics::default()).unwrap()
    }

    /// Nanoseconds that this thread has computed, up to some milliseconds ago.
    fn computed() -> u64 {
        let stat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
        stat.split(' ').next().unwrap().parse().unwrap()
    }

    #[test]
    fn passes_take_time_in_proportion_to_the_steps() {
        let mut plan = chain(16_000);
        let begun = computed();
        PASSES.iter().for_each(|pass| (pass.run)(&mut plan));
        let time = computed() - begun;
        assert!(plan.arena_bytes <= 2 * 256, "{}", plan.arena_bytes);
        // Some 20 ms; what is quadratic takes seconds.
        assert!(time < 1_000_000_000, "16000 steps take {time} ns");
    }
}
