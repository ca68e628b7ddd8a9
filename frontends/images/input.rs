//! The input of a network that takes images.

use fornax_ir::inputs::{Dim, InputDecl};
use fornax_runtime::DType;

use super::preprocess::Layout;
use crate::error::{Error, Result};

/// The image input of a network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImageInput {
    /// Its name.
    pub name: String,
    /// Its element type.
    pub dtype: DType,
    /// Images per run, if the model fixes it.
    pub batch: Option<usize>,
    /// Channels: 1 or 3.
    pub channels: usize,
    /// Height in pixels; 0 if the model leaves it open.
    pub height: usize,
    /// Width in pixels; 0 if the model leaves it open.
    pub width: usize,
    /// Order of its axes.
    pub layout: Layout,
}

impl ImageInput {
    /// The only one of a model's `inputs`, if images can be given to it.
    ///
    /// # Errors
    /// [`Error::Input`] if there is not exactly one input, or it is not `[n, C, H, W]` or `[n, H, W, C]` with 1 or 3
    /// channels.
    pub fn of(inputs: &[InputDecl]) -> Result<Self> {
        let [input] = inputs else {
            let names: Vec<&str> = inputs.iter().map(|i| i.name.as_str()).collect();
            let found = format!("{} ({})", names.len(), names.join(", "));
            return Err(Error::input("inputs", "exactly one, for images", found));
        };
        let wrong = || {
            let expected = "[n, C, H, W] or [n, H, W, C] with 1 or 3 channels, for images";
            Error::input(format!("input {}", input.name), expected, input.ty())
        };
        let extent = |axis: usize| match input.dims.get(axis) {
            Some(Dim::Known(n)) => Some(*n),
            _ => None,
        };
        let [_, _, _, _] = input.dims[..] else { return Err(wrong()) };
        let (layout, channels) = match (extent(1), extent(3)) {
            (Some(c @ (1 | 3)), _) => (Layout::Nchw, c),
            (_, Some(c @ (1 | 3))) => (Layout::Nhwc, c),
            (None, None) => (Layout::Nchw, 3),
            _ => return Err(wrong()),
        };
        let first = if layout == Layout::Nchw { 2 } else { 1 };
        let (height, width) = (extent(first).unwrap_or(0), extent(first + 1).unwrap_or(0));
        let batch = extent(0);
        Ok(Self { name: input.name.clone(), dtype: input.dtype, batch, channels, height, width, layout })
    }
}
