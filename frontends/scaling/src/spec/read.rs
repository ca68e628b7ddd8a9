//! A document laid over a spec: every value checked, its location noted.
//!
//! In: a [`Document`] and the spec it overrides. Out: the spec changed, or the first value that is refused.

use std::path::{Component, Path};

use toml::Spanned;

use super::document::{
    Document, HeadTable, KernelValue, PreprocessingTable, SqueezeExciteTable, StageTable, StemTable,
};
use super::words::{
    ACTIVATIONS, BLOCKS, CROP_MODES, GATES, INTERPOLATIONS, PADDINGS, POSITIONS, REPEAT_ROUNDINGS, ROUNDINGS,
    SQUEEZE_OF,
};
use super::{
    COLOURS, Interpolation, MAX_BLOCKS, MAX_CHANNELS, MAX_INPUT_CHANNELS, MAX_SIDE, MIN_SIDE, Preprocessing, Source,
    Spec, SpecError, StageSpec,
};
use crate::architecture::BlockKind;

/// Largest side of a kernel.
const MAX_KERNEL: usize = 31;
/// Largest stride.
const MAX_STRIDE: usize = 8;

/// Reads one document.
struct Reader<'a> {
    source: &'a Source,
    spec: &'a mut Spec,
}

impl Reader<'_> {
    fn note<T>(&mut self, key: &str, value: &Spanned<T>) {
        self.spec.locations.insert(key.to_string(), self.source.location(value.span()));
    }

    fn number(&mut self, key: &str, value: &Option<Spanned<f64>>, least: f64, most: f64) -> Read<f64> {
        let Some(value) = value else { return Ok(None) };
        self.note(key, value);
        self.source.number(key, value, least, most).map(Some)
    }

    fn whole(&mut self, key: &str, value: &Option<Spanned<i64>>, least: usize, most: usize) -> Read<usize> {
        let Some(value) = value else { return Ok(None) };
        self.note(key, value);
        self.source.whole(key, value, least, most).map(Some)
    }

    fn word<T: Copy + PartialEq>(
        &mut self,
        key: &str,
        value: &Option<Spanned<String>>,
        known: &[(&str, T)],
    ) -> Read<T> {
        let Some(value) = value else { return Ok(None) };
        self.note(key, value);
        self.source.word(key, value, known).map(Some)
    }

    fn odd(&mut self, key: &str, value: &Option<Spanned<i64>>) -> Read<usize> {
        match value {
            Some(value) => {
                kernel_side(*value.get_ref()).ok_or_else(|| self.source.refuse(key, value, KERNEL)).map(Some)
            }
            None => Ok(None),
        }
    }
}

type Read<T> = Result<Option<T>, SpecError>;

/// What may stand as the side of a kernel.
const KERNEL: &str = "an odd whole number from 1 to 31";

fn kernel_side(value: i64) -> Option<usize> {
    usize::try_from(value).ok().filter(|side| side % 2 == 1 && *side <= MAX_KERNEL)
}

/// Whether a text names a file and no folder.
fn is_file_name(text: &str) -> bool {
    let mut parts = Path::new(text).components();
    matches!((parts.next(), parts.next()), (Some(Component::Normal(name)), None) if name == text)
}

/// Sets a field if the document has a value.
fn set<T>(target: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *target = value;
    }
}

impl Spec {
    /// Lays a document over this spec.
    pub(super) fn apply(&mut self, document: &Document, source: &Source) -> Result<(), SpecError> {
        let mut reader = Reader { source, spec: self };
        reader.text(document)?;
        reader.coefficients(document)?;
        reader.network(document)?;
        if let Some(table) = &document.squeeze_excite {
            reader.squeeze_excite(table)?;
        }
        if let Some(table) = &document.stem {
            reader.stem(table)?;
        }
        if let Some(table) = &document.head {
            reader.head(table)?;
        }
        if let Some(table) = &document.preprocessing {
            reader.preprocessing(table)?;
        }
        if let Some(stages) = &document.stages {
            reader.stages(stages)?;
        }
        Ok(())
    }
}

impl Reader<'_> {
    fn text(&mut self, document: &Document) -> Result<(), SpecError> {
        for (key, value, target) in
            [("name", &document.name, &mut self.spec.name), ("family", &document.family, &mut self.spec.family)]
        {
            if let Some(value) = value {
                let text = value.get_ref();
                if text.is_empty() || text.len() > 100 || text.chars().any(char::is_control) {
                    return Err(self.source.refuse(key, value, "1 to 100 printable characters"));
                }
                *target = text.clone();
            }
        }
        Ok(())
    }

    /// Names of the classes, and the file with the weights.
    fn labels(&mut self, document: &Document) -> Result<(), SpecError> {
        if let Some(labels) = &document.labels {
            self.note("labels", labels);
            let (classes, found) = (self.spec.classes, labels.get_ref().len());
            if found != classes {
                let expected = format!("{classes} names, one for each class");
                return Err(self.spec.refuse("labels", expected, found.to_string()));
            }
            self.spec.labels = Some(labels.get_ref().clone());
        }
        if let Some(weights) = &document.weights {
            self.note("weights", weights);
            // No spec makes anyone read what lies elsewhere.
            if !is_file_name(weights.get_ref()) {
                return Err(self.source.refuse("weights", weights, "the name of a file in the spec's own folder"));
            }
            self.spec.weights = Some(weights.get_ref().clone());
        }
        if let Some(metadata) = &document.metadata {
            self.spec.metadata.extend(metadata.clone());
        }
        Ok(())
    }

    fn coefficients(&mut self, document: &Document) -> Result<(), SpecError> {
        if let Some(width) = self.number("width", &document.width, 0.01, 64.0)? {
            self.spec.width = Some(width);
        }
        let depth = self.number("depth", &document.depth, 0.01, 100.0)?;
        set(&mut self.spec.depth, depth);
        let side = self.whole("resolution", &document.resolution, MIN_SIDE, MAX_SIDE)?;
        set(&mut self.spec.resolution, side);
        if let Some(table) = &document.scaling {
            let mut scaling = self.spec.scaling.take().unwrap_or_default();
            scaling.apply(table, self.source, &mut self.spec.warnings)?;
            self.spec.scaling = Some(scaling);
            if let Some(phi) = &table.phi {
                self.note("scaling.phi", phi);
            }
        }
        Ok(())
    }

    fn network(&mut self, document: &Document) -> Result<(), SpecError> {
        let classes = self.whole("classes", &document.classes, 1, MAX_CHANNELS)?;
        if classes.is_some_and(|classes| classes != self.spec.classes) {
            // Names and weights of the base are those of its classes.
            (self.spec.labels, self.spec.weights) = (None, None);
        }
        set(&mut self.spec.classes, classes);
        self.labels(document)?;
        let channels = self.whole("channels", &document.channels, 1, MAX_INPUT_CHANNELS)?;
        if let (Some(channels), Some(images)) = (channels, &mut self.spec.preprocessing)
            && channels != images.mean.len()
        {
            // Means of colours say nothing of grey, which is only scaled.
            (images.mean, images.std) = (vec![0.0; channels], vec![1.0; channels]);
        }
        set(&mut self.spec.channels, channels);
        let eps = self.number("eps", &document.eps, 1e-12, 1.0)?;
        set(&mut self.spec.eps, eps);
        let dropout = self.number("dropout", &document.dropout, 0.0, 0.99)?;
        set(&mut self.spec.dropout, dropout);
        let divisor = self.whole("divisor", &document.divisor, 1, 256)?;
        set(&mut self.spec.divisor, divisor);
        let activation = self.word("activation", &document.activation, ACTIVATIONS)?;
        set(&mut self.spec.activation, activation);
        let padding = self.word("padding", &document.padding, PADDINGS)?;
        set(&mut self.spec.padding, padding);
        let rounding = self.word("rounding", &document.rounding, ROUNDINGS)?;
        set(&mut self.spec.rounding, rounding);
        let repeats = self.word("repeat_rounding", &document.repeat_rounding, REPEAT_ROUNDINGS)?;
        set(&mut self.spec.repeat_rounding, repeats);
        Ok(())
    }

    fn squeeze_excite(&mut self, table: &SqueezeExciteTable) -> Result<(), SpecError> {
        let ratio = self.number("squeeze_excite.ratio", &table.ratio, 0.0, 4.0)?;
        let divisor = self.whole("squeeze_excite.divisor", &table.divisor, 1, 256)?;
        let activation = self.word("squeeze_excite.activation", &table.activation, ACTIVATIONS)?;
        let gate = self.word("squeeze_excite.gate", &table.gate, GATES)?;
        let of = self.word("squeeze_excite.of", &table.of, SQUEEZE_OF)?;
        let target = &mut self.spec.squeeze_excite;
        set(&mut target.ratio, ratio);
        set(&mut target.divisor, divisor);
        set(&mut target.gate, gate);
        set(&mut target.of, of);
        target.activation = activation.or(target.activation);
        Ok(())
    }

    fn stem(&mut self, table: &StemTable) -> Result<(), SpecError> {
        let kernel = self.odd("stem.kernel", &table.kernel)?;
        let stride = self.whole("stem.stride", &table.stride, 1, MAX_STRIDE)?;
        let filters = self.whole("stem.filters", &table.filters, 1, MAX_CHANNELS)?;
        let activation = self.word("stem.activation", &table.activation, ACTIVATIONS)?;
        let target = &mut self.spec.stem;
        set(&mut target.kernel, kernel);
        set(&mut target.stride, stride);
        set(&mut target.filters, filters);
        set(&mut target.scale, table.scale);
        target.activation = activation.or(target.activation);
        Ok(())
    }

    fn head(&mut self, table: &HeadTable) -> Result<(), SpecError> {
        let filters = self.whole("head.filters", &table.filters, 1, MAX_CHANNELS)?;
        let after_pool = self.word("head.position", &table.position, POSITIONS)?;
        let activation = self.word("head.activation", &table.activation, ACTIVATIONS)?;
        let target = &mut self.spec.head;
        set(&mut target.filters, filters);
        set(&mut target.after_pool, after_pool);
        set(&mut target.bias, table.bias);
        set(&mut target.scale, table.scale);
        set(&mut target.shrink, table.shrink);
        target.activation = activation.or(target.activation);
        Ok(())
    }

    fn preprocessing(&mut self, table: &PreprocessingTable) -> Result<(), SpecError> {
        let crop = self.number("preprocessing.crop", &table.crop, 0.1, 1.0)?;
        let squash = self.word("preprocessing.crop_mode", &table.crop_mode, CROP_MODES)?;
        let interpolation = self.word("preprocessing.interpolation", &table.interpolation, INTERPOLATIONS)?;
        let mean = self.per_channel("preprocessing.mean", &table.mean, 0.0)?;
        let std = self.per_channel("preprocessing.std", &table.std, 1e-6)?;
        let (default_mean, default_std) = match self.spec.channels {
            COLOURS => (vec![0.485, 0.456, 0.406], vec![0.229, 0.224, 0.225]),
            channels => (vec![0.0; channels], vec![1.0; channels]),
        };
        let target = self.spec.preprocessing.get_or_insert(Preprocessing {
            crop: 0.875,
            squash: false,
            interpolation: Interpolation::Bicubic,
            mean: default_mean,
            std: default_std,
        });
        set(&mut target.crop, crop);
        set(&mut target.squash, squash);
        set(&mut target.interpolation, interpolation);
        set(&mut target.mean, mean);
        set(&mut target.std, std);
        Ok(())
    }

    /// A number for each channel of the input, which must be one of a photo: three, or one of grey.
    fn per_channel(&self, key: &str, value: &Option<Spanned<Vec<f64>>>, least: f64) -> Read<Vec<f64>> {
        let Some(value) = value else { return Ok(None) };
        let count = match self.spec.channels {
            1 => "one number",
            COLOURS => "three numbers",
            other => {
                let expected = format!("no preprocessing of photos for {other} channels");
                return Err(self.source.refuse(key, value, expected));
            }
        };
        let numbers = value.get_ref();
        if numbers.len() != self.spec.channels || numbers.iter().any(|n| !(least..=255.0).contains(n)) {
            return Err(self.source.refuse(key, value, format!("{count} from {least} to 255")));
        }
        Ok(Some(numbers.clone()))
    }

    fn stages(&mut self, rows: &Spanned<Vec<Spanned<StageTable>>>) -> Result<(), SpecError> {
        self.spec.locations.retain(|key, _| !key.starts_with("stages"));
        self.note("stages", rows);
        self.spec.stages.clear();
        let count = rows.get_ref().len();
        if count > MAX_BLOCKS {
            return Err(self.spec.refuse("stages", format!("at most {MAX_BLOCKS} rows"), count.to_string()));
        }
        for (index, row) in rows.get_ref().iter().enumerate() {
            let path = format!("stages[{index}]");
            self.note(&path, row);
            let stage = self.stage(&path, row)?;
            self.spec.stages.push(stage);
        }
        Ok(())
    }

    fn stage(&mut self, path: &str, row: &Spanned<StageTable>) -> Result<StageSpec, SpecError> {
        let table = row.get_ref();
        let key = |name: &str| format!("{path}.{name}");
        let missing = |spec: &Spec, name: &str, expected: &str| spec.refuse(&key(name), expected, "nothing");
        let block = self.word(&key("block"), &table.block, BLOCKS)?.unwrap_or(BlockKind::MbConv);
        let filters = self.whole(&key("filters"), &table.filters, 1, MAX_CHANNELS)?;
        let filters = filters.ok_or_else(|| missing(self.spec, "filters", "the output channels"))?;
        let continues = table.continues.unwrap_or(false);
        if continues && path == "stages[0]" {
            return Err(self.spec.refuse(&key("continues"), "false in the first row", "true"));
        }
        let stage = StageSpec {
            block,
            repeats: self.whole(&key("repeats"), &table.repeats, 1, MAX_BLOCKS)?.unwrap_or(1),
            kernels: self.kernels(&key("kernel"), table.kernel.as_ref())?,
            stride: self.whole(&key("stride"), &table.stride, 1, MAX_STRIDE)?.unwrap_or(1),
            expansion: self.number(&key("expansion"), &table.expansion, 0.01, 64.0)?.unwrap_or(1.0),
            filters,
            se: self.number(&key("se"), &table.se, 0.0, 4.0)?,
            activation: self.word(&key("activation"), &table.activation, ACTIVATIONS)?,
            skip: table.skip.unwrap_or(true),
            scale_repeats: table.scale_repeats.unwrap_or(true),
            expand_from: self.whole(&key("expand_from"), &table.expand_from, 1, MAX_CHANNELS)?,
            expand_split: self.whole(&key("expand_split"), &table.expand_split, 1, 64)?.unwrap_or(1),
            project_split: self.whole(&key("project_split"), &table.project_split, 1, 64)?.unwrap_or(1),
            continues,
        };
        self.consistent(path, &stage)?;
        Ok(stage)
    }

    /// What one key forbids another.
    fn consistent(&self, path: &str, stage: &StageSpec) -> Result<(), SpecError> {
        let dense = matches!(stage.block, BlockKind::FusedMbConv | BlockKind::ConvBnAct);
        let single = matches!(stage.block, BlockKind::DepthwiseSeparable | BlockKind::ConvBnAct);
        let plain = stage.block == BlockKind::ConvBnAct || (dense && stage.expansion == 1.0);
        let refuse = |name: &str, expected: &str, found: String| {
            Err(self.spec.refuse(&format!("{path}.{name}"), expected, found))
        };
        if single && stage.expansion != 1.0 {
            return refuse("expansion", "1 for a block without an expansion", stage.expansion.to_string());
        }
        if dense && stage.kernels.len() > 1 {
            return refuse("kernel", "one side for a dense convolution", format!("{:?}", stage.kernels));
        }
        if plain && stage.se.is_some_and(|ratio| ratio > 0.0) {
            let found = stage.se.unwrap_or_default().to_string();
            return refuse("se", "no squeeze-and-excite in a single convolution", found);
        }
        if (dense || stage.expansion == 1.0) && stage.expand_split > 1 {
            return refuse("expand_split", "1 for a block without a 1x1 expansion", stage.expand_split.to_string());
        }
        if dense && stage.project_split > 1 {
            return refuse("project_split", "1 for a dense block", stage.project_split.to_string());
        }
        if let Some(filters) = stage.expand_from.filter(|_| single || stage.expansion == 1.0) {
            return refuse("expand_from", "an expansion to compute", filters.to_string());
        }
        Ok(())
    }

    fn kernels(&mut self, key: &str, value: Option<&Spanned<KernelValue>>) -> Result<Vec<usize>, SpecError> {
        let Some(value) = value else { return Ok(vec![3]) };
        self.note(key, value);
        let sides: Option<Vec<usize>> = match value.get_ref() {
            KernelValue::One(side) => kernel_side(*side).map(|side| vec![side]),
            KernelValue::Many(sides) => sides.iter().map(|side| kernel_side(*side)).collect(),
        };
        let expected = || self.source.refuse(key, value, format!("{KERNEL}, or 1 to 16 of them in a list"));
        sides.filter(|sides| (1..=16).contains(&sides.len())).ok_or_else(expected)
    }
}
