//! What a model file says about its inputs and outputs: the keys `preprocess`, `labels` and `output` of its metadata.
//!
//! `preprocess` is a JSON object. Its keys: `channel_order` (RGB, BGR, gray), `resize_short_edge` (pixels) or `resize`
//! ([h, w]), `interpolation`, `antialias` (true: Pillow's way, false: TensorFlow's) or `resampler` (pillow, tf,
//! tf-legacy), `crop` ([h, w]), `crop_mode` (center; tf-v1 or tf-v2 with `crop_padding`), `scale`, `mean`, `std`,
//! `layout` (NCHW, NHWC), `dtype` (float32, uint8). A key that is not known is an error: to ignore it could mean to
//! compute something else. `labels` is a JSON list; `output` is `logits` or `probabilities`.

use std::collections::BTreeMap;

use fornax_runtime::DType;
use serde::Deserialize;
#[cfg(feature = "train")]
use serde_json::{Value, json};

use crate::classify::Scores;
use crate::error::{Error, Result};
use crate::images::{ChannelOrder, Crop, Interpolation, Layout, Preprocess, Resampler, Resize};

/// The JSON object as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wire {
    channel_order: Option<String>,
    resize_short_edge: Option<usize>,
    resize: Option<[usize; 2]>,
    interpolation: Option<String>,
    antialias: Option<bool>,
    resampler: Option<String>,
    crop: Option<[usize; 2]>,
    crop_mode: Option<String>,
    crop_padding: Option<usize>,
    scale: Option<f64>,
    mean: Option<Vec<f64>>,
    std: Option<Vec<f64>>,
    layout: Option<String>,
    dtype: Option<String>,
}

/// The preprocessing that the metadata describes, if it does.
pub(crate) fn preprocess(metadata: &BTreeMap<String, String>) -> Result<Option<Preprocess>> {
    let Some(text) = metadata.get("preprocess") else { return Ok(None) };
    let wire: Wire = serde_json::from_str(text)
        .map_err(|e| Error::input("metadata `preprocess`", "a JSON object of known keys", e.to_string()))?;
    let resize = match (wire.resize_short_edge, wire.resize) {
        (Some(edge), None) => Resize::ShortEdge(edge),
        (None, Some([h, w])) => Resize::Exact(h, w),
        (None, None) => Resize::None,
        (Some(_), Some(_)) => return Err(wrong("resize", "one of resize and resize_short_edge", "both")),
    };
    let crop = crop(&wire)?;
    let channel_order = match wire.channel_order.as_deref() {
        None | Some("RGB") => ChannelOrder::Rgb,
        Some("BGR") => ChannelOrder::Bgr,
        Some("gray") => ChannelOrder::Gray,
        Some(other) => return Err(wrong("channel_order", "RGB, BGR or gray", other)),
    };
    let resampler = match (&wire.resampler, wire.antialias) {
        (Some(name), _) => named("resampler", Resampler::NAMES, name)?,
        (None, None | Some(true)) => Resampler::Pillow,
        (None, Some(false)) => Resampler::Tf,
    };
    let interpolation = match &wire.interpolation {
        Some(name) => named("interpolation", Interpolation::NAMES, name)?,
        None => Interpolation::Bicubic,
    };
    let layout = match wire.layout.as_deref() {
        None | Some("NCHW") => Layout::Nchw,
        Some("NHWC") => Layout::Nhwc,
        Some(other) => return Err(wrong("layout", "NCHW or NHWC", other)),
    };
    let dtype = match wire.dtype.as_deref() {
        None | Some("float32" | "f32") => DType::F32,
        Some("uint8" | "u8") => DType::U8,
        Some(other) => return Err(wrong("dtype", "float32 or uint8", other)),
    };
    let channels = if channel_order == ChannelOrder::Gray { 1 } else { 3 };
    let result = Preprocess {
        channel_order,
        resize,
        interpolation,
        resampler,
        crop,
        scale: wire.scale.unwrap_or(1.0),
        mean: wire.mean.unwrap_or_else(|| vec![0.0; channels]),
        std: wire.std.unwrap_or_else(|| vec![1.0; channels]),
        layout,
        dtype,
    };
    result.check().map_err(|e| wrong("contents", "settings that agree", &e.to_string()))?;
    Ok(Some(result))
}

/// The entry `preprocess` that describes a preprocessing.
#[cfg(feature = "train")]
pub(crate) fn described(preprocess: &Preprocess) -> String {
    let order = match preprocess.channel_order {
        ChannelOrder::Rgb => "RGB",
        ChannelOrder::Bgr => "BGR",
        ChannelOrder::Gray => "gray",
    };
    let layout = if preprocess.layout == Layout::Nchw { "NCHW" } else { "NHWC" };
    let Preprocess { interpolation, resampler, scale, mean, std, dtype, .. } = preprocess;
    let mut value = json!({
        "channel_order": order, "interpolation": interpolation.to_string(), "scale": scale, "mean": mean, "std": std,
        "layout": layout, "dtype": if *dtype == DType::U8 { "uint8" } else { "float32" },
    });
    match resampler {
        Resampler::Pillow => value["antialias"] = true.into(),
        other => value["resampler"] = name_of(Resampler::NAMES, other).into(),
    }
    match preprocess.resize {
        Resize::None => {}
        Resize::ShortEdge(edge) => value["resize_short_edge"] = edge.into(),
        Resize::Exact(height, width) => value["resize"] = json!([height, width]),
    }
    match preprocess.crop {
        Crop::None => {}
        Crop::Center(height, width) => value["crop"] = json!([height, width]),
        Crop::TfV1 { padding } => value["crop_padding"] = padding.into(),
        Crop::TfV2 { padding } => value["crop_padding"] = padding.into(),
    }
    value["crop_mode"] = match preprocess.crop {
        Crop::None => Value::Null,
        Crop::Center(..) => "center".into(),
        Crop::TfV1 { .. } => "tf-v1".into(),
        Crop::TfV2 { .. } => "tf-v2".into(),
    };
    value.to_string()
}

#[cfg(feature = "train")]
fn name_of<T: PartialEq>(names: &[(&'static str, T)], value: &T) -> &'static str {
    names.iter().find(|(_, known)| known == value).map_or("", |(name, _)| name)
}

fn crop(wire: &Wire) -> Result<Crop> {
    let padding = wire.crop_padding.unwrap_or(32);
    match (wire.crop_mode.as_deref(), wire.crop) {
        (None | Some("center"), Some([h, w])) => Ok(Crop::Center(h, w)),
        (None, None) => Ok(Crop::None),
        (Some("tf-v1"), None) => Ok(Crop::TfV1 { padding }),
        (Some("tf-v2"), None) => Ok(Crop::TfV2 { padding }),
        (Some(mode), crop) => {
            let found = format!("{mode} {}", if crop.is_some() { "with a crop" } else { "without a crop" });
            Err(wrong("crop_mode", "center with a crop, or tf-v1 or tf-v2 without one", &found))
        }
    }
}

fn named<T: Copy>(key: &str, names: &[(&str, T)], found: &str) -> Result<T> {
    let known: Vec<&str> = names.iter().map(|(name, _)| *name).collect();
    let value = names.iter().find(|(name, _)| *name == found).map(|(_, value)| *value);
    value.ok_or_else(|| wrong(key, &format!("one of {}", known.join(", ")), found))
}

fn wrong(key: &str, expected: &str, found: &str) -> Error {
    Error::input(format!("metadata `preprocess`: {key}"), expected, found)
}

/// The labels, if the metadata has them.
pub(crate) fn labels(metadata: &BTreeMap<String, String>) -> Result<Option<Vec<String>>> {
    let parse = |text: &String| {
        serde_json::from_str(text)
            .map_err(|e| Error::input("metadata `labels`", "a JSON list of strings", e.to_string()))
    };
    metadata.get("labels").map(parse).transpose()
}

/// What the outputs are, if the metadata says so.
pub(crate) fn scores(metadata: &BTreeMap<String, String>) -> Result<Option<Scores>> {
    match metadata.get("output").map(String::as_str) {
        None => Ok(None),
        Some("logits") => Ok(Some(Scores::Logits)),
        Some("probabilities") => Ok(Some(Scores::Probabilities)),
        Some(other) => Err(Error::input("metadata `output`", "logits or probabilities", other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Option<Preprocess>> {
        preprocess(&BTreeMap::from([("preprocess".to_string(), json.to_string())]))
    }

    #[test]
    fn reads_every_key() {
        let p = parse(
            r#"{"channel_order": "BGR", "resize": [64, 64], "interpolation": "bilinear", "resampler": "tf-legacy",
                "crop_mode": "tf-v2", "crop_padding": 9, "scale": 2, "mean": [1, 2, 3], "std": [4, 5, 6],
                "layout": "NHWC", "dtype": "uint8"}"#,
        );
        let p = p.unwrap().unwrap();
        assert_eq!((p.channel_order, p.resize), (ChannelOrder::Bgr, Resize::Exact(64, 64)));
        assert_eq!((p.interpolation, p.resampler), (Interpolation::Bilinear, Resampler::TfLegacy));
        assert_eq!(
            (p.crop, p.scale, p.mean, p.std),
            (Crop::TfV2 { padding: 9 }, 2.0, vec![1.0, 2.0, 3.0], vec![4.0, 5.0, 6.0])
        );
        assert_eq!((p.layout, p.dtype), (Layout::Nhwc, DType::U8));
        assert!(preprocess(&BTreeMap::new()).unwrap().is_none());
    }

    #[cfg(feature = "train")]
    #[test]
    fn what_is_described_reads_back() {
        for json in [
            r#"{"channel_order": "BGR", "resize": [64, 60], "resampler": "tf-legacy", "crop_mode": "tf-v2", "crop_padding": 9}"#,
            r#"{"channel_order": "gray", "resize_short_edge": 73, "interpolation": "box", "crop": [64, 60], "scale": 0.1}"#,
            r#"{"mean": [0.1, 0.25, 3], "std": [4, 5, 6.5], "layout": "NHWC", "dtype": "uint8", "resampler": "pillow-12"}"#,
            r#"{"resize": [9, 9], "crop_mode": "tf-v1"}"#,
        ] {
            let read = parse(json).unwrap().unwrap();
            assert_eq!(parse(&described(&read)).unwrap(), Some(read));
        }
    }

    #[test]
    fn refuses_what_it_does_not_know() {
        for (json, at) in [
            ("{\"gamma\": 2}", "gamma"),
            ("{\"interpolation\": \"cubic\"}", "bicubic"),
            ("{\"resize\": [1, 1], \"resize_short_edge\": 1}", "both"),
            ("{\"crop_mode\": \"center\"}", "without a crop"),
            ("{\"mean\": [1]}", "3 finite numbers"),
            ("{\"std\": [1, 0, 1]}", "other than 0"),
            ("[]", "JSON object"),
        ] {
            let message = parse(json).unwrap_err().to_string();
            assert!(message.contains(at), "{json}: {message}");
        }
    }
}
