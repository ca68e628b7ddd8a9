//! How a network is fine-tuned: everything that a caller chooses.
//!
//! In: numbers and names, from a command line or a program. Out: [`FinetuneOptions`]; [`FinetuneOptions::check`]
//! refuses what makes no sense by the name of its flag, before anything is computed. [`FinetuneOptions::identity`] is
//! what two runs must share to be one.

use std::str::FromStr;

use serde_json::{Value, json};

use super::augment::{Augment, Kind};
use super::mix::Mix;
pub use super::recipe::Norms;
use super::recipe::{Recipe, expect};
use super::schedule::Shape;
use super::scope::Scope;
use crate::error::{Error, Result};

/// How a network is fine-tuned.
#[derive(Clone, Debug)]
pub struct FinetuneOptions {
    /// What of it is trained, and by what.
    pub recipe: Recipe,
    /// How often each photo is seen.
    pub epochs: usize,
    /// Photos of a step of the optimiser.
    pub batch: usize,
    /// Photos of a run of the gradients program, which change no bit.
    pub micro_batch: MicroBatch,
    /// The highest learning rate; none: what a range test finds ([`mod@super::range`]).
    pub lr: Option<f64>,
    /// How the rate changes.
    pub schedule: Shape,
    /// Epochs in which it rises.
    pub warmup: f64,
    /// Share of the target that goes to all classes alike (Szegedy and others 2016).
    pub smoothing: f64,
    /// What is done about classes of unequal size.
    pub balance: Balance,
    /// How photos are mixed with one another.
    pub mix: Mix,
    /// How photos are changed.
    pub augment: Kind,
    /// Least and largest part of a photo's area that a crop takes; none: that of `augment`.
    pub crop_scale: Option<(f64, f64)>,
    /// Whether half of them are mirrored.
    pub flip: Flip,
    /// Stop after so many epochs without a lower loss on the validation.
    pub patience: Option<usize>,
    /// What everything random is drawn from.
    pub seed: u64,
    /// The most memory that the process may take, bytes, without photos that are kept: fewer photos are computed at once, and values are
    /// computed again instead of kept, which changes no bit. None: what makes it fast, within bounds.
    pub memory: Option<u64>,
    /// Threads, which change no bit.
    pub threads: usize,
}

impl Default for FinetuneOptions {
    fn default() -> Self {
        Self {
            recipe: Recipe { weight_decay: 0.02, dropout: 0.2, ..Recipe::default() },
            epochs: 30,
            batch: 16,
            micro_batch: MicroBatch::Auto,
            lr: Some(1e-3),
            schedule: Shape::Cosine,
            warmup: 1.0,
            smoothing: 0.05,
            balance: Balance::None,
            mix: Mix::default(),
            augment: Kind::Light,
            crop_scale: None,
            flip: Flip::Auto,
            patience: None,
            seed: 0,
            memory: None,
            threads: fornax_runtime::available_threads(),
        }
    }
}

/// Photos of a run of the gradients program.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum MicroBatch {
    /// As many as there are threads and memory allows.
    #[default]
    Auto,
    /// So many.
    Of(usize),
}

impl FromStr for MicroBatch {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        match (text, text.parse()) {
            ("auto", _) => Ok(Self::Auto),
            (_, Ok(images @ 1..=65_536)) => Ok(Self::Of(images)),
            _ => Err(Error::usage("--micro-batch", "auto, or a number from 1 to 65536", text)),
        }
    }
}

/// Whether half of the photos are mirrored.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Flip {
    /// Where their mirror images show the same classes ([`mod@super::mirrored`]).
    #[default]
    Auto,
    /// They are.
    On,
    /// They are not.
    Off,
}

impl FromStr for Flip {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "auto" => Ok(Self::Auto),
            "on" => Ok(Self::On),
            "off" => Ok(Self::Off),
            _ => Err(Error::usage("--flip", "auto, on or off", name)),
        }
    }
}

/// What is done about classes of unequal size.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Balance {
    /// Nothing.
    #[default]
    None,
    /// The loss counts a class the more, the rarer it is: photos over classes times photos of the class.
    Weights,
    /// An epoch has as many photos of every class: of rare ones repeatedly, of frequent ones a part.
    Sampler,
}

impl FromStr for Balance {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "none" => Ok(Self::None),
            "weights" => Ok(Self::Weights),
            "sampler" => Ok(Self::Sampler),
            _ => Err(Error::usage("--balance", "none, weights or sampler", name)),
        }
    }
}

/// A learning rate as it is written on a command line: a number, or `auto`.
///
/// # Errors
/// [`Error::Usage`] if it is neither.
pub fn lr(text: &str) -> Result<Option<f64>> {
    match (text, text.parse()) {
        ("auto", _) => Ok(None),
        (_, Ok(lr)) => Ok(Some(lr)),
        _ => Err(Error::usage("--lr", "a number above 0, or auto", text)),
    }
}

impl FinetuneOptions {
    /// How photos are changed.
    ///
    /// # Errors
    /// [`Error::Usage`] for parts that are none, or of photos that stay as they are.
    pub fn augment(&self) -> Result<Augment> {
        let mut augment = Augment::of(self.augment, self.flip == Flip::On);
        if let Some((least, most)) = self.crop_scale {
            let found = || format!("{least}:{most}");
            if self.augment == Kind::None {
                return Err(Error::usage("--crop-scale", "--augment light or rand, which crop", found()));
            }
            if !(least > 0.0 && least <= most && most <= 1.0) {
                return Err(Error::usage("--crop-scale", "A:B with 0 < A <= B <= 1", found()));
            }
            augment.scale = (least, most);
        }
        Ok(augment)
    }

    /// Whether the photos have to say if they may be mirrored: not where they stay as they are, or only a layer over features of theirs
    /// is fitted.
    pub(super) fn judges_flips(&self) -> bool {
        self.flip == Flip::Auto && self.augment != Kind::None && self.recipe.scope != Scope::Head
    }

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let from_zero = |value: f64| value >= 0.0 && value.is_finite();
        let share = |value: f64| (0.0..1.0).contains(&value);
        self.recipe.check()?;
        expect(self.epochs > 0, "--epochs", "at least 1", &self.epochs)?;
        expect(self.batch > 0, "--batch", "at least 1", &self.batch)?;
        expect(self.lr.is_none_or(positive), "--lr", "a number above 0", &self.lr.unwrap_or_default())?;
        expect(from_zero(self.warmup), "--warmup", "a number of epochs from 0", &self.warmup)?;
        expect(share(self.smoothing), "--smoothing", "a share from 0 to below 1", &self.smoothing)?;
        let Mix { mixup, cutmix } = self.mix;
        expect(from_zero(mixup), "--mixup", "a number from 0", &mixup)?;
        expect(from_zero(cutmix), "--cutmix", "a number from 0", &cutmix)?;
        if self.recipe.norms != Norms::Fixed {
            expect(self.batch > 1, "--batch", "at least 2 photos to take statistics of, with --bn", &self.batch)?;
        }
        if let (Norms::Trained, MicroBatch::Of(images)) = (self.recipe.norms, self.micro_batch)
            && images != self.batch
        {
            let expected =
                format!("no part of a batch of {} with --bn train, as statistics are of a whole batch", self.batch);
            return Err(Error::usage("--micro-batch", expected, images.to_string()));
        }
        self.augment().map(|_| ())
    }

    /// What a run that is resumed must have in common with the one it goes on from: all that can change a bit of the
    /// result, by the names of the flags.
    pub fn identity(&self) -> Vec<(&'static str, Value)> {
        let lr = self.lr.map_or_else(|| json!("auto"), |lr| json!(lr));
        let mut identity = self.recipe.identity();
        identity.extend([
            ("epochs", json!(self.epochs)),
            ("batch", json!(self.batch)),
            ("lr", lr),
            ("schedule", json!(format!("{:?}", self.schedule))),
            ("warmup", json!(self.warmup)),
            ("smoothing", json!(self.smoothing)),
            ("balance", json!(format!("{:?}", self.balance))),
            ("mixup", json!(self.mix.mixup)),
            ("cutmix", json!(self.mix.cutmix)),
            ("augment", json!(format!("{:?}", self.augment))),
            ("crop-scale", json!(self.crop_scale)),
            ("flip", json!(format!("{:?}", self.flip))),
            ("patience", json!(self.patience)),
            ("seed", json!(self.seed)),
        ]);
        identity
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fornax_ir::training::Optimiser;

    fn with(recipe: Recipe) -> FinetuneOptions {
        FinetuneOptions { recipe, ..FinetuneOptions::default() }
    }

    #[test]
    fn names_and_numbers_are_read() {
        assert_eq!(["fixed", "train", "stats"].map(|name| name.parse::<Norms>().unwrap()), {
            [Norms::Fixed, Norms::Trained, Norms::Statistics]
        });
        assert_eq!("16".parse::<MicroBatch>().unwrap(), MicroBatch::Of(16));
        assert_eq!("auto".parse::<MicroBatch>().unwrap(), MicroBatch::Auto);
        assert!(["0", "-1", "x", "65537"].into_iter().all(|text| text.parse::<MicroBatch>().is_err()));
        assert_eq!((lr("auto").unwrap(), lr("1e-4").unwrap()), (None, Some(1e-4)));
        assert!(lr("fast").is_err() && "even".parse::<Balance>().is_err());
    }

    #[test]
    fn every_option_that_changes_bits_is_part_of_a_runs_identity() {
        let own = FinetuneOptions::default();
        let others = [
            with(Recipe { scope: Scope::Head, ..own.recipe }),
            with(Recipe { norms: Norms::Trained, ..own.recipe }),
            FinetuneOptions { epochs: 31, ..own.clone() },
            FinetuneOptions { batch: 17, ..own.clone() },
            FinetuneOptions { lr: None, ..own.clone() },
            FinetuneOptions { schedule: Shape::Constant, ..own.clone() },
            FinetuneOptions { warmup: 2.0, ..own.clone() },
            with(Recipe { optimiser: Optimiser::Lion { beta1: 0.9, beta2: 0.99 }, ..own.recipe }),
            with(Recipe { weight_decay: 0.0, ..own.recipe }),
            with(Recipe { layer_decay: 0.5, ..own.recipe }),
            with(Recipe { clip: Some(1.0), ..own.recipe }),
            with(Recipe { ema: Some(0.9), ..own.recipe }),
            FinetuneOptions { smoothing: 0.0, ..own.clone() },
            with(Recipe { dropout: 0.0, ..own.recipe }),
            with(Recipe { drop_path: 0.1, ..own.recipe }),
            FinetuneOptions { balance: Balance::Sampler, ..own.clone() },
            FinetuneOptions { mix: Mix { mixup: 0.2, cutmix: 0.0 }, ..own.clone() },
            FinetuneOptions { mix: Mix { mixup: 0.0, cutmix: 1.0 }, ..own.clone() },
            FinetuneOptions { augment: Kind::Rand, ..own.clone() },
            FinetuneOptions { crop_scale: Some((0.5, 1.0)), ..own.clone() },
            FinetuneOptions { flip: Flip::On, ..own.clone() },
            FinetuneOptions { patience: Some(3), ..own.clone() },
            FinetuneOptions { seed: 1, ..own.clone() },
        ];
        assert_eq!(others.len(), own.identity().len());
        for (at, other) in others.iter().enumerate() {
            let differ = own.identity().into_iter().zip(other.identity()).filter(|(a, b)| a != b).count();
            assert_eq!(differ, 1, "{at}");
        }
        let free = FinetuneOptions { micro_batch: MicroBatch::Of(3), threads: 7, memory: Some(1), ..own.clone() };
        assert_eq!(own.identity(), free.identity());
    }

    #[test]
    fn what_makes_no_sense_is_refused_by_its_flag() {
        let own = FinetuneOptions::default();
        own.check().unwrap();
        let trained = with(Recipe { norms: Norms::Trained, ..own.recipe });
        for (flag, wrong) in [
            ("--epochs", FinetuneOptions { epochs: 0, ..own.clone() }),
            ("--batch", FinetuneOptions { batch: 0, ..own.clone() }),
            ("--batch", FinetuneOptions { batch: 1, ..trained.clone() }),
            ("--micro-batch", FinetuneOptions { micro_batch: MicroBatch::Of(1), ..trained.clone() }),
            ("--bn", with(Recipe { scope: Scope::Head, ..trained.recipe })),
            ("--lr", FinetuneOptions { lr: Some(f64::NAN), ..own.clone() }),
            ("--warmup", FinetuneOptions { warmup: -1.0, ..own.clone() }),
            ("--weight-decay", with(Recipe { weight_decay: f64::INFINITY, ..own.recipe })),
            ("--layer-decay", with(Recipe { layer_decay: 0.0, ..own.recipe })),
            ("--layer-decay", with(Recipe { layer_decay: 1.5, ..own.recipe })),
            ("--clip", with(Recipe { clip: Some(0.0), ..own.recipe })),
            ("--ema", with(Recipe { ema: Some(1.0), ..own.recipe })),
            ("--smoothing", FinetuneOptions { smoothing: 1.0, ..own.clone() }),
            ("--dropout", with(Recipe { dropout: -0.1, ..own.recipe })),
            ("--drop-path", with(Recipe { drop_path: 1.0, ..own.recipe })),
            ("--mixup", FinetuneOptions { mix: Mix { mixup: -1.0, cutmix: 0.0 }, ..own.clone() }),
            ("--cutmix", FinetuneOptions { mix: Mix { mixup: 0.0, cutmix: f64::NAN }, ..own.clone() }),
            ("--crop-scale", FinetuneOptions { crop_scale: Some((0.5, 0.2)), ..own.clone() }),
            ("--crop-scale", FinetuneOptions { crop_scale: Some((0.5, 1.0)), augment: Kind::None, ..own.clone() }),
        ] {
            let error = wrong.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{flag}: expected")), "{flag}: {error}");
        }
        let whole = FinetuneOptions { micro_batch: MicroBatch::Of(16), ..trained };
        whole.check().unwrap();
    }
}
