//! How a network is fine-tuned: everything that a caller chooses.
//!
//! In: numbers and names, from a command line or a program. Out: [`FinetuneOptions`]; [`FinetuneOptions::check`]
//! refuses what makes no sense by the name of its flag, before anything is computed. [`FinetuneOptions::identity`] is
//! what two runs must share to be one.

use std::fmt;
use std::str::FromStr;

use fornax_ir::training::Optimiser;
use serde_json::{Value, json};

use super::augment::{Augment, Kind};
use super::mix::Mix;
use super::schedule::Shape;
use super::scope::Scope;
use crate::error::{Error, Result};

/// How a network is fine-tuned.
#[derive(Clone, Debug)]
pub struct FinetuneOptions {
    /// How much of it is trained.
    pub scope: Scope,
    /// What becomes of its batch norms.
    pub norms: Norms,
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
    /// What turns gradients into steps.
    pub optimiser: Optimiser,
    /// Weight decay of what is no bias and no batch norm.
    pub weight_decay: f64,
    /// The rate of a stage over that of the one after it; the last layer's is the highest (Howard, Ruder 2018).
    pub layer_decay: f64,
    /// The norm of all gradients together to which longer ones are cut (Pascanu and others 2013); none: they are not.
    pub clip: Option<f64>,
    /// The largest share of the old in averages of the parameters, which are then what is validated and written; none:
    /// there are no averages.
    pub ema: Option<f64>,
    /// Share of the target that goes to all classes alike (Szegedy and others 2016).
    pub smoothing: f64,
    /// Share of the features that is dropped before the last layer.
    pub dropout: f64,
    /// Share of the images that skip the branch of the last residual block; of the blocks before it proportionally
    /// fewer (Huang and others 2016).
    pub drop_path: f64,
    /// What is done about classes of unequal size.
    pub balance: Balance,
    /// How photos are mixed with one another.
    pub mix: Mix,
    /// How photos are changed.
    pub augment: Kind,
    /// Least and largest part of a photo's area that a crop takes; none: that of `augment`.
    pub crop_scale: Option<(f64, f64)>,
    /// Whether half of them are mirrored.
    pub flip: bool,
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
            scope: Scope::All,
            norms: Norms::Fixed,
            epochs: 30,
            batch: 16,
            micro_batch: MicroBatch::Auto,
            lr: Some(1e-3),
            schedule: Shape::Cosine,
            warmup: 1.0,
            optimiser: Optimiser::AdamW { beta1: 0.9, beta2: 0.999, epsilon: 1e-8 },
            weight_decay: 0.02,
            layer_decay: 1.0,
            clip: None,
            ema: None,
            smoothing: 0.05,
            dropout: 0.2,
            drop_path: 0.0,
            balance: Balance::None,
            mix: Mix::default(),
            augment: Kind::Light,
            crop_scale: None,
            flip: false,
            patience: None,
            seed: 0,
            memory: None,
            threads: fornax_runtime::available_threads(),
        }
    }
}

/// What becomes of batch norms.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub enum Norms {
    /// They keep their statistics; scales and shifts are trained.
    #[default]
    Fixed,
    /// Where scales and shifts are trained, statistics are those of the batch, and running averages follow them.
    Trained,
    /// All statistics are taken anew over the photos for training, before anything is trained
    /// ([`mod@super::statistics`]); from then on they are fixed.
    Statistics,
}

impl FromStr for Norms {
    type Err = Error;

    fn from_str(name: &str) -> Result<Self> {
        match name {
            "fixed" => Ok(Self::Fixed),
            "train" => Ok(Self::Trained),
            "stats" => Ok(Self::Statistics),
            _ => Err(Error::usage("--bn", "fixed, train or stats", name)),
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
        let mut augment = Augment::of(self.augment, self.flip);
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

    /// Refuses what makes no sense.
    ///
    /// # Errors
    /// [`Error::Usage`] naming the flag.
    pub fn check(&self) -> Result<()> {
        let positive = |value: f64| value > 0.0 && value.is_finite();
        let from_zero = |value: f64| value >= 0.0 && value.is_finite();
        let share = |value: f64| (0.0..1.0).contains(&value);
        let expect = |ok: bool, flag: &str, expected: &str, found: &dyn fmt::Display| match ok {
            true => Ok(()),
            false => Err(Error::usage(flag, expected, found.to_string())),
        };
        expect(self.epochs > 0, "--epochs", "at least 1", &self.epochs)?;
        expect(self.batch > 0, "--batch", "at least 1", &self.batch)?;
        expect(self.lr.is_none_or(positive), "--lr", "a number above 0", &self.lr.unwrap_or_default())?;
        expect(from_zero(self.warmup), "--warmup", "a number of epochs from 0", &self.warmup)?;
        expect(from_zero(self.weight_decay), "--weight-decay", "a number from 0", &self.weight_decay)?;
        let decay = self.layer_decay > 0.0 && self.layer_decay <= 1.0;
        expect(decay, "--layer-decay", "a factor above 0, at most 1", &self.layer_decay)?;
        expect(self.clip.is_none_or(positive), "--clip", "a norm above 0", &self.clip.unwrap_or_default())?;
        expect(self.ema.is_none_or(share), "--ema", "a share from 0 to below 1", &self.ema.unwrap_or_default())?;
        expect(share(self.smoothing), "--smoothing", "a share from 0 to below 1", &self.smoothing)?;
        expect(share(self.dropout), "--dropout", "a share from 0 to below 1", &self.dropout)?;
        expect(share(self.drop_path), "--drop-path", "a share from 0 to below 1", &self.drop_path)?;
        let Mix { mixup, cutmix } = self.mix;
        expect(from_zero(mixup), "--mixup", "a number from 0", &mixup)?;
        expect(from_zero(cutmix), "--cutmix", "a number from 0", &cutmix)?;
        if self.norms != Norms::Fixed {
            expect(self.batch > 1, "--batch", "at least 2 photos to take statistics of, with --bn", &self.batch)?;
        }
        let idle = self.norms == Norms::Trained && self.scope == Scope::Head;
        expect(!idle, "--bn", "fixed or stats with --train head, which trains no batch norm", &"train")?;
        if let (Norms::Trained, MicroBatch::Of(images)) = (self.norms, self.micro_batch)
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
        vec![
            ("train", json!(format!("{:?}", self.scope))),
            ("bn", json!(format!("{:?}", self.norms))),
            ("epochs", json!(self.epochs)),
            ("batch", json!(self.batch)),
            ("lr", lr),
            ("schedule", json!(format!("{:?}", self.schedule))),
            ("warmup", json!(self.warmup)),
            ("optimizer", json!(format!("{:?}", self.optimiser))),
            ("weight-decay", json!(self.weight_decay)),
            ("layer-decay", json!(self.layer_decay)),
            ("clip", json!(self.clip)),
            ("ema", json!(self.ema)),
            ("smoothing", json!(self.smoothing)),
            ("dropout", json!(self.dropout)),
            ("drop-path", json!(self.drop_path)),
            ("balance", json!(format!("{:?}", self.balance))),
            ("mixup", json!(self.mix.mixup)),
            ("cutmix", json!(self.mix.cutmix)),
            ("augment", json!(format!("{:?}", self.augment))),
            ("crop-scale", json!(self.crop_scale)),
            ("flip", json!(self.flip)),
            ("patience", json!(self.patience)),
            ("seed", json!(self.seed)),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
            FinetuneOptions { scope: Scope::Head, ..own.clone() },
            FinetuneOptions { norms: Norms::Trained, ..own.clone() },
            FinetuneOptions { epochs: 31, ..own.clone() },
            FinetuneOptions { batch: 17, ..own.clone() },
            FinetuneOptions { lr: None, ..own.clone() },
            FinetuneOptions { schedule: Shape::Constant, ..own.clone() },
            FinetuneOptions { warmup: 2.0, ..own.clone() },
            FinetuneOptions { optimiser: Optimiser::Lion { beta1: 0.9, beta2: 0.99 }, ..own.clone() },
            FinetuneOptions { weight_decay: 0.0, ..own.clone() },
            FinetuneOptions { layer_decay: 0.5, ..own.clone() },
            FinetuneOptions { clip: Some(1.0), ..own.clone() },
            FinetuneOptions { ema: Some(0.9), ..own.clone() },
            FinetuneOptions { smoothing: 0.0, ..own.clone() },
            FinetuneOptions { dropout: 0.0, ..own.clone() },
            FinetuneOptions { drop_path: 0.1, ..own.clone() },
            FinetuneOptions { balance: Balance::Sampler, ..own.clone() },
            FinetuneOptions { mix: Mix { mixup: 0.2, cutmix: 0.0 }, ..own.clone() },
            FinetuneOptions { mix: Mix { mixup: 0.0, cutmix: 1.0 }, ..own.clone() },
            FinetuneOptions { augment: Kind::Rand, ..own.clone() },
            FinetuneOptions { crop_scale: Some((0.5, 1.0)), ..own.clone() },
            FinetuneOptions { flip: true, ..own.clone() },
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
        let trained = FinetuneOptions { norms: Norms::Trained, ..own.clone() };
        for (flag, wrong) in [
            ("--epochs", FinetuneOptions { epochs: 0, ..own.clone() }),
            ("--batch", FinetuneOptions { batch: 0, ..own.clone() }),
            ("--batch", FinetuneOptions { batch: 1, ..trained.clone() }),
            ("--micro-batch", FinetuneOptions { micro_batch: MicroBatch::Of(1), ..trained.clone() }),
            ("--bn", FinetuneOptions { scope: Scope::Head, ..trained.clone() }),
            ("--lr", FinetuneOptions { lr: Some(f64::NAN), ..own.clone() }),
            ("--warmup", FinetuneOptions { warmup: -1.0, ..own.clone() }),
            ("--weight-decay", FinetuneOptions { weight_decay: f64::INFINITY, ..own.clone() }),
            ("--layer-decay", FinetuneOptions { layer_decay: 0.0, ..own.clone() }),
            ("--layer-decay", FinetuneOptions { layer_decay: 1.5, ..own.clone() }),
            ("--clip", FinetuneOptions { clip: Some(0.0), ..own.clone() }),
            ("--ema", FinetuneOptions { ema: Some(1.0), ..own.clone() }),
            ("--smoothing", FinetuneOptions { smoothing: 1.0, ..own.clone() }),
            ("--dropout", FinetuneOptions { dropout: -0.1, ..own.clone() }),
            ("--drop-path", FinetuneOptions { drop_path: 1.0, ..own.clone() }),
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
