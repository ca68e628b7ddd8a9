//! Windows of convolutions and pools: `kernel_shape`, `strides`, `dilations`, `pads` and `auto_pad`.
//!
//! In: a node and the spatial extents it slides over. Out: one entry per spatial axis for each list, `auto_pad` resolved
//! into explicit pads.

use crate::context::Context;
use crate::error::Result;

use super::support::{expect_len, extents};

/// How `auto_pad` asks for padding.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum AutoPad {
    /// The `pads` attribute holds.
    NotSet,
    /// As much as the result extent `ceil(in / stride)` needs, the odd one at the end.
    SameUpper,
    /// The same, the odd one at the beginning.
    SameLower,
    /// None.
    Valid,
}

impl AutoPad {
    /// Reads the attribute.
    pub(crate) fn of(cx: &Context<'_>) -> Result<Self> {
        let text = cx.attrs().string("auto_pad", "NOTSET")?;
        Ok(match text {
            "NOTSET" | "" => Self::NotSet,
            "SAME_UPPER" => Self::SameUpper,
            "SAME_LOWER" => Self::SameLower,
            "VALID" => Self::Valid,
            other => return Err(cx.error("auto_pad", "NOTSET, SAME_UPPER, SAME_LOWER or VALID", other)),
        })
    }

    /// Splits a total padding into begin and end.
    pub(crate) fn split(self, total: usize) -> (usize, usize) {
        let half = total / 2;
        if self == Self::SameLower { (total - half, half) } else { (half, total - half) }
    }
}

/// A window over the spatial axes, padding explicit.
pub(crate) struct Window {
    /// Extents of the window.
    pub kernel: Vec<usize>,
    /// Stride of each axis, 1 or more.
    pub strides: Vec<usize>,
    /// Dilation of each axis, 1 or more.
    pub dilations: Vec<usize>,
    /// All begins, then all ends.
    pub pads: Vec<usize>,
}

impl Window {
    /// Reads the window of a node over the spatial extents `spatial`. `kernel` is what the weight says, where there is one.
    pub(crate) fn of(cx: &Context<'_>, spatial: &[usize], kernel: Option<&[usize]>) -> Result<Self> {
        let rank = spatial.len();
        let kernel = kernel_shape(cx, rank, kernel)?;
        let strides = positive(cx, "strides", rank)?;
        let dilations = positive(cx, "dilations", rank)?;
        let auto_pad = AutoPad::of(cx)?;
        let explicit = explicit_pads(cx, rank)?;
        let pads = match auto_pad {
            AutoPad::NotSet => explicit,
            AutoPad::Valid => vec![0; 2 * rank],
            _ => {
                let mut pads = vec![0; 2 * rank];
                for i in 0..rank {
                    let span = dilated(cx, kernel[i], dilations[i])?;
                    let last = (spatial[i].div_ceil(strides[i]).saturating_sub(1)).saturating_mul(strides[i]);
                    let total = last.saturating_add(span).saturating_sub(spatial[i]);
                    (pads[i], pads[i + rank]) = auto_pad.split(total);
                }
                pads
            }
        };
        Ok(Self { kernel, strides, dilations, pads })
    }
}

/// Extent that a dilated kernel spans: `dilation (kernel - 1) + 1`.
pub(crate) fn dilated(cx: &Context<'_>, kernel: usize, dilation: usize) -> Result<usize> {
    kernel
        .checked_sub(1)
        .and_then(|k| k.checked_mul(dilation)?.checked_add(1))
        .ok_or_else(|| cx.error("dilations", "a window that fits in memory", dilation.to_string()))
}

/// The window's extents: the attribute, the weight's, or both if they agree.
pub(crate) fn kernel_shape(cx: &Context<'_>, rank: usize, weight: Option<&[usize]>) -> Result<Vec<usize>> {
    let kernel = match (cx.attrs().ints("kernel_shape")?, weight) {
        (Some(given), _) => {
            expect_len(cx, "kernel_shape", &given, rank)?;
            extents(cx, "kernel_shape", &given)?
        }
        (None, Some(weight)) => weight.to_vec(),
        (None, None) => return Err(cx.error("kernel_shape", "the attribute", "none")),
    };
    if let Some(weight) = weight.filter(|w| **w != kernel[..]) {
        return Err(cx.error("kernel_shape", format!("{weight:?}, as the weight"), format!("{kernel:?}")));
    }
    if kernel.contains(&0) {
        return Err(cx.error("kernel_shape", "extents of 1 or more", format!("{kernel:?}")));
    }
    Ok(kernel)
}

/// A list of one positive entry per axis, all 1 where the attribute is absent.
pub(crate) fn positive(cx: &Context<'_>, field: &str, rank: usize) -> Result<Vec<usize>> {
    let Some(given) = cx.attrs().ints(field)? else { return Ok(vec![1; rank]) };
    expect_len(cx, field, &given, rank)?;
    let values = extents(cx, field, &given)?;
    if values.contains(&0) {
        return Err(cx.error(field, "entries of 1 or more", format!("{values:?}")));
    }
    Ok(values)
}

/// The `pads` attribute, all 0 where it is absent.
pub(crate) fn explicit_pads(cx: &Context<'_>, rank: usize) -> Result<Vec<usize>> {
    let Some(given) = cx.attrs().ints("pads")? else { return Ok(vec![0; 2 * rank]) };
    expect_len(cx, "pads", &given, 2 * rank)?;
    extents(cx, "pads", &given)
}
