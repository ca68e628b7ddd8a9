//! Whether photos may be mirrored: whether the mirror image of a photo still shows its class.
//!
//! In: features of photos as they are and mirrored, from one network. Out: [`Mirrored`]. The classifier of [`mod@super::probe`] is fitted to
//! photos as they are and tried on photos that were held out, as they are and mirrored. Those of which only one of the two is told right
//! are counted: where mirroring keeps classes, either is as likely as the other, which McNemar's exact test (1947) holds against what is
//! found. A test that could not have found anything says so: mirroring is then left alone.

use std::fmt::Write;

use super::logistic::Samples;
use super::parallel;
use super::probe::{FOLDS, folds};

/// The probability by chance below which a finding counts.
const SIGNIFICANT: f64 = 0.05;
/// The share of all photos, and of those of a class, of which more must be lost by mirroring than are won: less does not matter, even if it
/// is no chance.
const LEAST: [f64; 2] = [0.02, 0.1];

/// What mirroring does to photos.
#[derive(Clone, PartialEq, Debug)]
pub struct Mirrored {
    /// Photos that were held out.
    pub photos: usize,
    /// Share of them told right as they are.
    pub accuracy: f64,
    /// Share of their mirror images told right.
    pub mirrored: f64,
    /// What follows.
    pub verdict: Verdict,
}

/// Whether photos may be mirrored.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Verdict {
    /// Mirror images show the same classes.
    Keeps,
    /// They do not.
    Changes {
        /// The class of which that is known; none: of all together.
        class: Option<usize>,
        /// How likely as much is by chance.
        chance: f64,
    },
    /// Too few photos of this class are told right to know.
    Unknown {
        /// The class.
        class: usize,
    },
}

impl Mirrored {
    /// Whether photos are to be mirrored.
    pub fn flips(&self) -> bool {
        self.verdict == Verdict::Keeps
    }

    /// What was found, in words.
    pub fn line(&self, classes: &[String]) -> String {
        let [accuracy, mirrored] = [self.accuracy, self.mirrored].map(|share| 100.0 * share);
        let mut text = format!("flip {}", if self.flips() { "on" } else { "off" });
        _ = write!(text, ": of {} photos held out {accuracy:.1} % are told right, ", self.photos);
        _ = write!(text, "of their mirror images {mirrored:.1} %");
        let name = |class: usize| classes.get(class).map_or("", String::as_str);
        _ = match self.verdict {
            Verdict::Keeps => Ok(()),
            Verdict::Changes { class: None, chance } => write!(text, " (by chance {chance:.1e})"),
            Verdict::Changes { class: Some(class), chance } => {
                write!(text, "; class {} differs (by chance {chance:.1e})", name(class))
            }
            Verdict::Unknown { class } => {
                write!(text, "; too few of class {} to know what mirroring does", name(class))
            }
        };
        text
    }
}

/// Photos told right as they are only, mirrored only, and as they are.
#[derive(Clone, Copy, Default, Debug)]
struct Counts {
    photos: usize,
    right: usize,
    lost: usize,
    won: usize,
}

impl Counts {
    fn of(photos: impl Iterator<Item = [bool; 2]>) -> Self {
        photos.fold(Self::default(), |mut counts, [own, mirrored]| {
            counts.photos += 1;
            counts.right += usize::from(own);
            counts.lost += usize::from(own && !mirrored);
            counts.won += usize::from(mirrored && !own);
            counts
        })
    }

    /// How likely it is that as many are lost by chance, if that matters.
    fn changed(&self, least: f64, significant: f64) -> Option<f64> {
        let share = (self.lost as f64 - self.won as f64) / self.photos.max(1) as f64;
        let chance = at_least(self.lost, self.lost + self.won);
        (share >= least && chance < significant).then_some(chance)
    }
}

/// What mirroring does to `photos`, given the same photos mirrored and the penalty of the classifier, on `threads` threads, which change
/// nothing.
pub fn judge(photos: &Samples, mirrored: &Samples, l2: f64, threads: usize) -> Mirrored {
    let told = held_out(photos, mirrored, l2, threads);
    let all = Counts::of(told.iter().copied());
    let classes = photos.labels().iter().max().map_or(0, |most| most + 1);
    let of_class = |class: usize| {
        Counts::of(photos.labels().iter().zip(&told).filter(|(label, _)| **label == class).map(|(_, told)| *told))
    };
    let counts: Vec<Counts> = (0..classes).map(of_class).collect();
    let share = |count: usize| count as f64 / all.photos.max(1) as f64;
    Mirrored {
        photos: all.photos,
        accuracy: share(all.right),
        mirrored: share(all.right + all.won - all.lost),
        verdict: verdict(&all, &counts),
    }
}

fn verdict(all: &Counts, classes: &[Counts]) -> Verdict {
    if let Some(chance) = all.changed(LEAST[0], SIGNIFICANT) {
        return Verdict::Changes { class: None, chance };
    }
    // As many tests as classes, one of which finds something by chance the sooner (Bonferroni).
    let each = SIGNIFICANT / classes.len().max(1) as f64;
    let changed = |(class, counts): (usize, &Counts)| counts.changed(LEAST[1], each).map(|chance| (class, chance));
    if let Some((class, chance)) = classes.iter().enumerate().find_map(changed) {
        return Verdict::Changes { class: Some(class), chance };
    }
    // Two classes that are each other's mirror images show it only if the classifier tells them apart, and in as many photos as
    // make a finding.
    let mut present: Vec<usize> = (0..classes.len()).filter(|class| classes[*class].photos > 0).collect();
    present.sort_by_key(|class| classes[*class].right);
    let confused = present.iter().find(|class| 2 * classes[**class].right <= classes[**class].photos);
    let least: usize = present.iter().take(2).map(|class| classes[*class].right).sum();
    let few = present.first().filter(|_| at_least(least, least) >= SIGNIFICANT);
    match confused.or(few) {
        Some(class) => Verdict::Unknown { class: *class },
        None => Verdict::Keeps,
    }
}

/// Of each photo, whether it and its mirror image are told right by a classifier that has seen neither.
fn held_out(photos: &Samples, mirrored: &Samples, l2: f64, threads: usize) -> Vec<[bool; 2]> {
    let folds = folds(photos.labels());
    let of_fold = |fold: usize| {
        let layer = photos.filtered(|at| folds[at] != fold).map(|others| others.fit(l2, None));
        let right = |samples: &Samples| {
            let held = samples.filtered(|at| folds[at] == fold);
            held.zip(layer.as_ref()).map_or(Vec::new(), |(held, layer)| held.right(layer))
        };
        right(photos).into_iter().zip(right(mirrored)).collect::<Vec<_>>()
    };
    let mut told = vec![[false; 2]; photos.len()];
    for (fold, found) in parallel::map(threads, FOLDS, of_fold).into_iter().enumerate() {
        let places = (0..photos.len()).filter(|at| folds[*at] == fold);
        places.zip(found).for_each(|(at, (own, mirrored))| told[at] = [own, mirrored]);
    }
    told
}

/// The probability that at least `count` of `of` tosses of a coin show the same side.
fn at_least(count: usize, of: usize) -> f64 {
    let (k, n) = (count as f64, of as f64);
    let log = libm::lgamma(n + 1.0) - libm::lgamma(k + 1.0) - libm::lgamma(n - k + 1.0) - n * std::f64::consts::LN_2;
    let mut term = libm::exp(log);
    let mut sum = 0.0;
    for next in count..=of {
        sum += term;
        term *= (of - next) as f64 / (next + 1) as f64;
    }
    sum.min(1.0)
}

#[cfg(test)]
mod tests {
    use super::super::random::{Draw, Purpose};
    use super::*;

    /// Photos of `classes` classes: features of their own for each, of which `turned` pairs are exchanged by mirroring.
    fn samples(per_class: usize, classes: usize, turned: usize, noise: f64) -> [Samples; 2] {
        let labels: Vec<usize> = (0..per_class * classes).map(|at| at % classes).collect();
        let seen = |label: usize| if label < 2 * turned { label ^ 1 } else { label };
        let mut draw = Draw::new(3, Purpose::Order, 0, 0);
        [false, true].map(|mirrored| {
            let mut feature = |label: usize, at: usize| {
                let shown = if mirrored { seen(label) } else { label };
                (f64::from(u8::from(at == shown)) + noise * draw.normal()) as f32
            };
            let features = labels.iter().flat_map(|label| (0..classes).map(|at| (*label, at)).collect::<Vec<_>>());
            let features = features.map(|(label, at)| feature(label, at)).collect();
            Samples::new(features, classes, labels.clone(), classes).unwrap()
        })
    }

    fn judged(per_class: usize, classes: usize, turned: usize, noise: f64) -> Mirrored {
        let [photos, mirrored] = samples(per_class, classes, turned, noise);
        let found = judge(&photos, &mirrored, 1e-3, 1);
        assert_eq!(found, judge(&photos, &mirrored, 1e-3, 3), "threads change nothing");
        found
    }

    #[test]
    fn what_keeps_its_class_is_mirrored() {
        for (per_class, classes) in [(40, 5), (12, 3), (6, 2)] {
            let found = judged(per_class, classes, 0, 0.2);
            assert!(found.flips(), "{found:?}");
        }
        let names = ["a", "b", "c"].map(String::from);
        let line = judged(12, 3, 0, 0.1).line(&names);
        assert_eq!(line, "flip on: of 36 photos held out 100.0 % are told right, of their mirror images 100.0 %");
    }

    #[test]
    fn classes_that_are_mirror_images_are_found() {
        for (per_class, classes, turned) in [(12, 2, 1), (20, 4, 1), (30, 8, 2)] {
            let found = judged(per_class, classes, turned, 0.2);
            assert!(matches!(found.verdict, Verdict::Changes { class: None, chance } if chance < 0.01), "{found:?}");
            assert!(found.line(&[]).starts_with("flip off: ") && found.mirrored < found.accuracy);
        }
        // A pair of a hundred classes, which does not show in the share of all photos.
        let found = judged(20, 110, 1, 0.1);
        assert!(matches!(found.verdict, Verdict::Changes { class: Some(0 | 1), .. }), "{found:?}");
    }

    #[test]
    fn what_a_test_cannot_know_is_left_alone() {
        // Classes that the classifier mixes up may be mirror images or not.
        for turned in [0, 1] {
            let found = judged(30, 3, turned, 20.0);
            assert!(!found.flips(), "{found:?}");
        }
        // Four photos that change are not enough to say that it was no chance.
        for turned in [0, 1] {
            let found = judged(2, 2, turned, 0.01);
            assert!(matches!(found.verdict, Verdict::Unknown { .. }), "{found:?}");
        }
    }

    #[test]
    fn chances_are_those_of_tosses() {
        for (count, of, expected) in [(0, 0, 1.0), (0, 7, 1.0), (1, 1, 0.5), (5, 5, 1.0 / 32.0), (4, 6, 22.0 / 64.0)] {
            assert!((at_least(count, of) - expected).abs() < 1e-12, "{count} of {of}: {}", at_least(count, of));
        }
        assert!((at_least(500, 1000) - 0.512_612_509).abs() < 1e-8 && at_least(3000, 3000) >= 0.0);
    }
}
