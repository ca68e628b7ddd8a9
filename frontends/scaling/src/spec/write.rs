//! A spec as TOML, complete: it is based on no preset and parses back to the same network.

use std::fmt::Write;

use super::words::{
    ACTIVATIONS, BLOCKS, CROP_MODES, GATES, INTERPOLATIONS, PADDINGS, POSITIONS, REPEAT_ROUNDINGS, ROUNDINGS,
    SQUEEZE_OF, spelling,
};
use super::{COLOURS, Preprocessing, Spec, StageSpec};
use crate::architecture::Activation;

/// Lines of `key = value`.
#[derive(Default)]
struct Lines(String);

impl Lines {
    fn table(&mut self, name: &str) {
        let _ = write!(self.0, "\n[{name}]\n");
    }

    fn value(&mut self, key: &str, value: impl std::fmt::Debug) {
        let _ = writeln!(self.0, "{key} = {value:?}");
    }

    fn text(&mut self, key: &str, value: &str) {
        let _ = writeln!(self.0, "{key} = {}", toml::Value::from(value));
    }

    fn activation(&mut self, value: Option<Activation>) {
        if let Some(value) = value {
            self.text("activation", spelling(ACTIVATIONS, &value));
        }
    }
}

impl Spec {
    /// This spec as TOML.
    pub fn to_toml(&self) -> String {
        let mut lines = Lines::default();
        self.write_network(&mut lines);
        lines.0.push_str("stages = [\n");
        for stage in &self.stages {
            let _ = writeln!(lines.0, "  {{ {} }},", row(stage).join(", "));
        }
        lines.0.push_str("]\n");
        self.write_tables(&mut lines);
        if let Some(preprocessing) = &self.preprocessing {
            write_preprocessing(preprocessing, &mut lines);
        }
        if !self.metadata.is_empty() {
            lines.table("metadata");
            // Texts by texts are always TOML.
            lines.0.push_str(&toml::to_string(&self.metadata).unwrap_or_default());
        }
        lines.0
    }

    fn write_network(&self, lines: &mut Lines) {
        lines.text("name", &self.name);
        lines.text("family", &self.family);
        if let Some(width) = self.width {
            lines.value("width", width);
        }
        lines.value("depth", self.depth);
        lines.value("resolution", self.resolution);
        lines.text("rounding", spelling(ROUNDINGS, &self.rounding));
        lines.value("divisor", self.divisor);
        lines.text("repeat_rounding", spelling(REPEAT_ROUNDINGS, &self.repeat_rounding));
        lines.text("activation", spelling(ACTIVATIONS, &self.activation));
        lines.value("classes", self.classes);
        if let Some(labels) = &self.labels {
            lines.0.push_str(&format!("labels = {}\n", toml::Value::from(labels.clone())));
        }
        if let Some(weights) = &self.weights {
            lines.text("weights", weights);
        }
        if self.channels != COLOURS {
            lines.value("channels", self.channels);
        }
        lines.text("padding", spelling(PADDINGS, &self.padding));
        lines.value("eps", self.eps);
        lines.value("dropout", self.dropout);
    }

    fn write_tables(&self, lines: &mut Lines) {
        if let Some(scaling) = &self.scaling {
            lines.table("scaling");
            lines.value("phi", scaling.phi);
            lines.value("width_base", scaling.width_base);
            lines.value("depth_base", scaling.depth_base);
            lines.value("resolution_base", scaling.resolution_base);
            lines.value("side_multiple", scaling.side_multiple);
        }
        lines.table("squeeze_excite");
        lines.value("ratio", self.squeeze_excite.ratio);
        lines.text("of", spelling(SQUEEZE_OF, &self.squeeze_excite.of));
        lines.value("divisor", self.squeeze_excite.divisor);
        lines.text("gate", spelling(GATES, &self.squeeze_excite.gate));
        lines.activation(self.squeeze_excite.activation);
        lines.table("stem");
        lines.value("kernel", self.stem.kernel);
        lines.value("stride", self.stem.stride);
        lines.value("filters", self.stem.filters);
        lines.value("scale", self.stem.scale);
        lines.activation(self.stem.activation);
        lines.table("head");
        lines.value("filters", self.head.filters);
        lines.text("position", spelling(POSITIONS, &self.head.after_pool));
        lines.value("bias", self.head.bias);
        lines.value("scale", self.head.scale);
        lines.value("shrink", self.head.shrink);
        lines.activation(self.head.activation);
    }
}

fn write_preprocessing(preprocessing: &Preprocessing, lines: &mut Lines) {
    lines.table("preprocessing");
    lines.value("crop", preprocessing.crop);
    lines.text("crop_mode", spelling(CROP_MODES, &preprocessing.squash));
    lines.text("interpolation", spelling(INTERPOLATIONS, &preprocessing.interpolation));
    lines.value("mean", &preprocessing.mean);
    lines.value("std", &preprocessing.std);
}

/// `key = value` of a row; what equals the schema's default is left out.
fn row(stage: &StageSpec) -> Vec<String> {
    let mut row = vec![
        format!("block = \"{}\"", spelling(BLOCKS, &stage.block)),
        format!("repeats = {}", stage.repeats),
        match stage.kernels.as_slice() {
            [side] => format!("kernel = {side}"),
            sides => format!("kernel = {sides:?}"),
        },
        format!("stride = {}", stage.stride),
        format!("expansion = {:?}", stage.expansion),
        format!("filters = {}", stage.filters),
    ];
    let mut add = |present: bool, text: String| {
        if present {
            row.push(text);
        }
    };
    add(stage.se.is_some(), format!("se = {:?}", stage.se.unwrap_or_default()));
    let activation = stage.activation.map_or("", |activation| spelling(ACTIVATIONS, &activation));
    add(stage.activation.is_some(), format!("activation = \"{activation}\""));
    add(!stage.skip, "skip = false".to_string());
    add(!stage.scale_repeats, "scale_repeats = false".to_string());
    add(stage.expand_from.is_some(), format!("expand_from = {}", stage.expand_from.unwrap_or_default()));
    add(stage.expand_split > 1, format!("expand_split = {}", stage.expand_split));
    add(stage.project_split > 1, format!("project_split = {}", stage.project_split));
    add(stage.continues, "continues = true".to_string());
    row
}
