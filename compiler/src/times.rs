//! Where the time of a compilation goes.
//!
//! In: stages as they run. Out: the name and the wall time of each, in the order they ended. Stages that run at the same
//! time on several threads each count the whole time they took.

use std::borrow::Cow;
use std::time::{Duration, Instant};

/// Stages and their wall times.
#[derive(Clone, Default, Debug)]
pub struct Times(Vec<(Cow<'static, str>, Duration)>);

impl Times {
    /// Runs `work` as a stage.
    pub fn stage<T>(&mut self, name: impl Into<Cow<'static, str>>, work: impl FnOnce() -> T) -> T {
        let begun = Instant::now();
        let result = work();
        self.add(name, begun.elapsed());
        result
    }

    /// Adds a stage that took `time`.
    pub fn add(&mut self, name: impl Into<Cow<'static, str>>, time: Duration) {
        self.0.push((name.into(), time));
    }

    /// Adds the stages of another compilation.
    pub fn extend(&mut self, other: &Times) {
        self.0.extend_from_slice(&other.0);
    }

    /// The stages so far.
    pub fn iter(&self) -> impl Iterator<Item = (&str, Duration)> {
        self.0.iter().map(|(name, time)| (&**name, *time))
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
