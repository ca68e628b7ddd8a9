//! Where the time of a compilation goes.
//!
//! In: stages as they run. Out: the name and the wall time of each, in the order they ended. Stages that run at the same
//! time on several threads each count the whole time they took.

use std::time::{Duration, Instant};

/// Stages and their wall times.
#[derive(Clone, Default, Debug)]
pub struct Times(Vec<(&'static str, Duration)>);

impl Times {
    /// Runs `work` as a stage.
    pub fn stage<T>(&mut self, name: &'static str, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.add(name, begun.elapsed());
        result
    }

    /// Adds a stage that took `time`.
    pub fn add(&mut self, name: &'static str, time: Duration) {
        self.0.push((name, time));
    }

    /// The stages so far.
    pub fn iter(&self) -> impl Iterator<Item = (&'static str, Duration)> + '_ {
        self.0.iter().copied()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_kept_in_order() {
        let mut times = Times::default();
        assert_eq!(times.stage("first", || 7), 7);
        times.add("second", Duration::from_millis(3));
        let stages: Vec<_> = times.iter().collect();
        assert_eq!(stages.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["first", "second"]);
        assert_eq!(stages[1].1, Duration::from_millis(3));
    }
}
