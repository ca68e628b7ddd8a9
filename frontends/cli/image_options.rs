//! The options for image preprocessing.
//!
//! Single options come before a convention, a convention before the model's metadata, and that before the default, `imagenet`.

use clap::Args;
use fornax::{
    ChannelOrder, Crop, Error, ImageConvention, ImageInput, Interpolation, Layout, Model, Preprocess, Resampler,
    Resize, Result,
};

/// Image preprocessing; what is not given comes from the model's metadata.
#[derive(Args)]
#[command(next_help_heading = "Images")]
pub struct ImageArgs {
    /// Prepare images as the source of the weights does: imagenet, inception, timm, torchvision, torchvision-v2-l,
    /// torchvision-b1-v2, efficientnet-pytorch, transformers, tf, tf-advprop, tf-lite, tf-v2, keras or none.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| named(ImageConvention::NAMES, text))]
    preprocess: Option<ImageConvention>,
    /// Length of the short edge, or height and width, or `none`.
    #[arg(long, value_name = "N|HxW", value_parser = resize)]
    resize: Option<Resize>,
    /// Side or height and width of the part used, from the centre, or `none`.
    #[arg(long, value_name = "N|HxW", value_parser = crop)]
    crop: Option<Crop>,
    /// Filter: nearest, box, bilinear, hamming, bicubic or lanczos.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| named(Interpolation::NAMES, text))]
    interpolation: Option<Interpolation>,
    /// Arithmetic of the resize: pillow (antialiased, as from Pillow 13 on), pillow-12, tf or tf-legacy.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| named(Resampler::NAMES, text))]
    resampler: Option<Resampler>,
    /// Factor on pixels of 0 to 255, such as 1/255.
    #[arg(long, value_name = "X", value_parser = number)]
    scale: Option<f64>,
    /// Subtracted after scaling: one number, or one per channel.
    #[arg(long, value_name = "X,…", value_delimiter = ',', value_parser = number, allow_hyphen_values = true)]
    mean: Vec<f64>,
    /// Divisor after that: one number, or one per channel.
    #[arg(long, value_name = "X,…", value_delimiter = ',', value_parser = number)]
    std: Vec<f64>,
    /// Order of the axes: nchw or nhwc.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| named(LAYOUTS, text))]
    layout: Option<Layout>,
    /// Order of the channels: rgb, bgr or gray.
    #[arg(long, value_name = "NAME", value_parser = |text: &str| named(ORDERS, text))]
    channel_order: Option<ChannelOrder>,
}

const LAYOUTS: &[(&str, Layout)] = &[("nchw", Layout::Nchw), ("nhwc", Layout::Nhwc)];
const ORDERS: &[(&str, ChannelOrder)] =
    &[("rgb", ChannelOrder::Rgb), ("bgr", ChannelOrder::Bgr), ("gray", ChannelOrder::Gray)];

impl ImageArgs {
    /// The preprocessing for `model`, and where it comes from.
    pub fn resolve(&self, model: &Model, input: &ImageInput) -> Result<(Preprocess, &'static str)> {
        let (mut result, source) = match (self.preprocess, model.preprocess()?) {
            (Some(convention), _) => {
                let convention = model.architecture().map_or(convention, |network| convention.of_architecture(network));
                (convention.preprocess(&self.sized(input)?), "as asked for")
            }
            (None, Some(preprocess)) => (preprocess, "from the model's metadata"),
            (None, None) => self.by_convention(ImageConvention::Imagenet, input),
        };
        if let Some(order) = self.channel_order {
            let channels = |order| if order == ChannelOrder::Gray { 1 } else { 3 };
            if channels(order) != result.channels() {
                (result.mean, result.std) = (vec![0.0; channels(order)], vec![1.0; channels(order)]);
            }
            result.channel_order = order;
        }
        if self.resize.is_some() && matches!(result.crop, Crop::TfV1 { .. } | Crop::TfV2 { .. }) {
            result.crop = Crop::None;
        }
        result.resize = self.resize.unwrap_or(result.resize);
        result.crop = self.crop.unwrap_or(result.crop);
        result.interpolation = self.interpolation.unwrap_or(result.interpolation);
        result.resampler = self.resampler.unwrap_or(result.resampler);
        result.scale = self.scale.unwrap_or(result.scale);
        result.layout = self.layout.unwrap_or(result.layout);
        for (given, field) in [(&self.mean, &mut result.mean), (&self.std, &mut result.std)] {
            match given[..] {
                [] => {}
                [value] => field.fill(value),
                _ => *field = given.clone(),
            }
        }
        result.check()?;
        Ok((result, source))
    }

    /// What is done where the model does not say; images keep their size where it leaves that open, too.
    fn by_convention(&self, convention: ImageConvention, input: &ImageInput) -> (Preprocess, &'static str) {
        if let Ok(sized) = self.sized(input) {
            return (convention.preprocess(&sized), "by default; the model does not say");
        }
        let mut own = convention.preprocess(&ImageInput { height: 1, width: 1, ..input.clone() });
        (own.resize, own.crop) = (Resize::None, Crop::None);
        (own, "by default, at the image's own size; the model does not say")
    }

    /// The input with the height and width that the options give where the model leaves them open.
    fn sized(&self, input: &ImageInput) -> Result<ImageInput> {
        let given = match (self.crop, self.resize) {
            (Some(Crop::Center(h, w)), _) | (_, Some(Resize::Exact(h, w))) => Some((h, w)),
            _ => None,
        };
        let mut sized = input.clone();
        if let Some((height, width)) = given.filter(|_| input.height == 0 || input.width == 0) {
            (sized.height, sized.width) = (height, width);
        }
        if sized.height == 0 || sized.width == 0 {
            let expected = "a side, as the model leaves it open";
            return Err(Error::usage("--crop", expected, "none"));
        }
        Ok(sized)
    }
}

fn named<T: Copy>(names: &[(&str, T)], text: &str) -> Result<T, String> {
    let found = names.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
    found.ok_or_else(|| {
        format!("expected one of {}", names.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", "))
    })
}

fn sides(text: &str) -> Result<(usize, Option<usize>), String> {
    let side = |text: &str| text.parse::<usize>().ok().filter(|n| *n > 0);
    let parsed = match text.split_once('x') {
        Some((h, w)) => side(h).zip(side(w)).map(|(h, w)| (h, Some(w))),
        None => side(text).map(|n| (n, None)),
    };
    parsed.ok_or_else(|| "expected N or HxW, of at least 1, or none".to_string())
}

fn resize(text: &str) -> Result<Resize, String> {
    if text == "none" {
        return Ok(Resize::None);
    }
    sides(text).map(|(h, w)| w.map_or(Resize::ShortEdge(h), |w| Resize::Exact(h, w)))
}

fn crop(text: &str) -> Result<Crop, String> {
    if text == "none" {
        return Ok(Crop::None);
    }
    sides(text).map(|(h, w)| Crop::Center(h, w.unwrap_or(h)))
}

/// A number, or a quotient of two.
fn number(text: &str) -> Result<f64, String> {
    let value = match text.split_once('/') {
        Some((a, b)) => a.trim().parse::<f64>().ok().zip(b.trim().parse::<f64>().ok()).map(|(a, b)| a / b),
        None => text.trim().parse().ok(),
    };
    value.filter(|v| v.is_finite()).ok_or_else(|| "expected a number such as 0.5 or 1/255".to_string())
}
