//! From a spec to one network.
//!
//! In: a [`Spec`]. Out: an [`Architecture`], the multipliers it was made with, and warnings. Only the first block of a row has
//! the row's stride and reads the row before it; expanded channels are computed from the rounded input.

use super::{MAX_SIDE, MIN_SIDE, Spec, SpecError, SqueezeOf, StageSpec};
use crate::architecture::{Activation, Architecture, Block, BlockKind, ConvNorm, Head, SqueezeExcite};
use crate::rounding::{make_divisible, round_filters, round_repeats, round_stage};

/// Most blocks of a network.
pub const MAX_BLOCKS: usize = 2000;
/// Most channels of a layer.
pub const MAX_CHANNELS: usize = 65536;

/// Final multipliers.
#[derive(Clone, Copy, PartialEq, Debug)]
pub struct Multipliers {
    /// Of channels.
    pub width: f64,
    /// Of repeats.
    pub depth: f64,
    /// Side of the input, pixels.
    pub side: usize,
}

/// A resolved spec.
#[derive(Clone, PartialEq, Debug)]
pub struct Resolved {
    /// The network.
    pub architecture: Architecture,
    /// What a designer should know about how the spec was read.
    pub warnings: Vec<String>,
    /// What the spec was scaled by.
    pub multipliers: Multipliers,
}

impl Spec {
    /// The final multipliers.
    pub fn multipliers(&self) -> Result<Multipliers, SpecError> {
        let (mut width, mut depth, mut side) = (self.width.unwrap_or(1.0), self.depth, self.resolution);
        if let Some(scaling) = &self.scaling {
            width *= scaling.width_base.powf(scaling.phi);
            depth *= scaling.depth_base.powf(scaling.phi);
            // The member at phi 0 is the network itself, whatever its side.
            let step = if scaling.phi == 0.0 { 1.0 } else { scaling.side_multiple.max(1) as f64 };
            let scaled = side as f64 * scaling.resolution_base.powf(scaling.phi);
            side = ((scaled / step).round() * step) as usize;
            if !(MIN_SIDE..=MAX_SIDE).contains(&side) {
                let expected = format!("a phi that gives a side from {MIN_SIDE} to {MAX_SIDE}");
                let keys = ["scaling.phi", "resolution"];
                return Err(self.refuse_any(&keys, expected, format!("phi {}, side {side}", scaling.phi)));
            }
        }
        Ok(Multipliers { width, depth, side })
    }

    /// The network.
    pub fn resolve(&self) -> Result<Resolved, SpecError> {
        let multipliers = self.multipliers()?;
        let rows = self.rows(multipliers.depth)?;
        let stem_output =
            if self.stem.scale { self.filters(self.stem.filters, &multipliers) } else { self.stem.filters };
        let stem = ConvNorm {
            kernel: self.stem.kernel,
            stride: self.stem.stride,
            output: self.channels("stem.filters", stem_output)?,
            activation: self.stem.activation.unwrap_or(self.activation),
        };
        let mut stages: Vec<Vec<Block>> = Vec::new();
        let mut input = stem.output;
        for (index, (stage, repeats)) in self.stages.iter().zip(rows).enumerate() {
            if !stage.continues {
                stages.push(Vec::new());
            }
            for first in (0..repeats).map(|i| i == 0) {
                let block = self.block(index, stage, input, first, &multipliers)?;
                input = block.output;
                if let Some(blocks) = stages.last_mut() {
                    blocks.push(block);
                }
            }
        }
        let architecture = Architecture {
            name: self.name.clone(),
            family: self.family.clone(),
            side: multipliers.side,
            channels: self.channels,
            stem,
            stages,
            head: self.resolve_head(&multipliers)?,
            classes: self.classes,
            padding: self.padding,
            eps: self.eps,
            dropout: self.dropout,
        };
        Ok(Resolved { architecture, warnings: self.warnings.clone(), multipliers })
    }

    /// Scaled channels; as they stand if the spec scales no width.
    fn filters(&self, filters: usize, multipliers: &Multipliers) -> usize {
        if self.width.is_none() && self.scaling.is_none() {
            return filters;
        }
        round_filters(filters, multipliers.width, self.rounding, self.divisor)
    }

    fn channels(&self, key: &str, channels: usize) -> Result<usize, SpecError> {
        if channels <= MAX_CHANNELS {
            return Ok(channels);
        }
        Err(self.refuse_any(
            &[key, "scaling.phi", "width"],
            format!("at most {MAX_CHANNELS} channels after scaling"),
            channels.to_string(),
        ))
    }

    /// Blocks of each row.
    fn rows(&self, depth: f64) -> Result<Vec<usize>, SpecError> {
        let mut rows = Vec::with_capacity(self.stages.len());
        let mut start = 0;
        while start < self.stages.len() {
            let more = self.stages[start + 1..].iter().take_while(|stage| stage.continues).count();
            let stage = &self.stages[start..=start + more];
            let repeats: Vec<usize> = stage.iter().map(|row| row.repeats).collect();
            if stage[0].scale_repeats && repeats.len() == 1 {
                rows.push(round_repeats(repeats[0], depth, self.repeat_rounding));
            } else if stage[0].scale_repeats {
                rows.extend(round_stage(&repeats, depth, self.repeat_rounding));
            } else {
                rows.extend(repeats);
            }
            start += more + 1;
        }
        let blocks = rows.iter().fold(0, |sum: usize, row| sum.saturating_add(*row));
        if blocks <= MAX_BLOCKS {
            return Ok(rows);
        }
        let keys = ["scaling.phi", "depth", "stages"];
        Err(self.refuse_any(&keys, format!("at most {MAX_BLOCKS} blocks after scaling"), format!("{blocks} blocks")))
    }

    fn block(
        &self,
        index: usize,
        stage: &StageSpec,
        input: usize,
        first: bool,
        multipliers: &Multipliers,
    ) -> Result<Block, SpecError> {
        let key = |name: &str| format!("stages[{index}].{name}");
        let output = self.channels(&key("filters"), self.filters(stage.filters, multipliers))?;
        let kind = match stage.block {
            BlockKind::MbConv if stage.expansion == 1.0 => BlockKind::DepthwiseSeparable,
            BlockKind::FusedMbConv if stage.expansion == 1.0 => BlockKind::ConvBnAct,
            kind => kind,
        };
        let declared = stage.expand_from.filter(|_| first).map(|filters| self.filters(filters, multipliers));
        let expanded = match kind {
            BlockKind::DepthwiseSeparable => input,
            BlockKind::ConvBnAct => output,
            BlockKind::MbConv | BlockKind::FusedMbConv => self.expanded(declared.unwrap_or(input), stage.expansion),
        };
        let expanded = self.channels(&key("expansion"), expanded)?;
        let activation = stage.activation.unwrap_or(self.activation);
        let stride = if first { stage.stride } else { 1 };
        let expand_groups = if kind == BlockKind::MbConv { stage.expand_split } else { 1 };
        for (name, groups, channels) in [
            ("kernel", stage.kernels.len(), expanded),
            ("expand_split", expand_groups, input.min(expanded)),
            ("project_split", stage.project_split, expanded.min(output)),
        ] {
            if groups > channels {
                return Err(self.refuse(
                    &key(name),
                    format!("at most {channels} groups of channels"),
                    groups.to_string(),
                ));
            }
        }
        Ok(Block {
            kind,
            input,
            output,
            expanded,
            squeeze_excite: self.squeezed(stage, kind, input, expanded, activation),
            kernels: stage.kernels.clone(),
            stride,
            skip: stage.skip && stride == 1 && input == output,
            activation,
            expand_split: expand_groups,
            project_split: stage.project_split,
        })
    }

    /// A whole expansion is exact; a fractional one is rounded like filters (MobileNetV3).
    fn expanded(&self, input: usize, expansion: f64) -> usize {
        let expanded = input as f64 * expansion;
        if expansion.fract() == 0.0 { expanded as usize } else { make_divisible(expanded, self.rounding, self.divisor) }
    }

    fn squeezed(
        &self,
        stage: &StageSpec,
        kind: BlockKind,
        input: usize,
        expanded: usize,
        activation: Activation,
    ) -> Option<SqueezeExcite> {
        let network = &self.squeeze_excite;
        let default = match kind {
            BlockKind::MbConv | BlockKind::DepthwiseSeparable => network.ratio,
            BlockKind::FusedMbConv | BlockKind::ConvBnAct => 0.0,
        };
        let ratio = stage.se.unwrap_or(default);
        if ratio == 0.0 {
            return None;
        }
        let of = if network.of == SqueezeOf::Input { input } else { expanded };
        let reduced = match network.divisor {
            1 => ((of as f64 * ratio).floor() as usize).max(1),
            divisor => make_divisible(of as f64 * ratio, self.rounding, divisor),
        };
        Some(SqueezeExcite { reduced, activation: network.activation.unwrap_or(activation), gate: network.gate })
    }

    fn resolve_head(&self, multipliers: &Multipliers) -> Result<Head, SpecError> {
        let filters = self.head.filters;
        let scaled = if self.head.scale { self.filters(filters, multipliers) } else { filters };
        let output = if self.head.shrink { scaled } else { scaled.max(filters) };
        let output = self.channels("head.filters", output)?;
        let activation = self.head.activation.unwrap_or(self.activation);
        if self.head.after_pool {
            return Ok(Head::AfterPool { output, bias: self.head.bias, activation });
        }
        Ok(Head::BeforePool { output, activation })
    }
}
