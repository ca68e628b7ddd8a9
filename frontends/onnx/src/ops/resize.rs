//! Resampling: Resize, Upsample.
//!
//! Sizes, scales and the region of interest must be known. The IR's operator gets the result's shape and one scale per
//! axis, which is the given scale, or the ratio of the extents where sizes are given.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::Resize;
use fornax_ir::ops::resize::{CoordinateMode, NearestMode, ResizeMode};

use crate::context::Context;
use crate::error::Result;

use super::support::{axes, expect_len, extents};

/// `Upsample`: of height and width in version 1; scales are an attribute in version 7, an input in version 9.
pub(crate) fn upsample(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let scales = if cx.version() < 7 {
        let sides = [cx.attrs().require_float("height_scale")?, cx.attrs().require_float("width_scale")?];
        vec![1.0, 1.0, f64::from(sides[0]), f64::from(sides[1])]
    } else if cx.version() < 9 {
        let scales = cx.attrs().floats("scales")?.ok_or_else(|| cx.error("scales", "a list", "none"))?;
        scales.into_iter().map(f64::from).collect()
    } else {
        cx.const_f64_list(cx.input(1)?, "scales")?
    };
    Ok(vec![before_11(cx, scales)?])
}

/// `Resize`.
pub(crate) fn resize(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    if cx.version() < 11 {
        let scales = cx.const_f64_list(cx.input(1)?, "scales")?;
        return Ok(vec![before_11(cx, scales)?]);
    }
    let x = cx.input(0)?;
    let rank = cx.shape(x).rank();
    let listed = match cx.attrs().ints("axes")?.filter(|_| cx.version() >= 18) {
        None => (0..rank).collect(),
        Some(given) => axes(cx, "axes", &given, rank)?,
    };
    let (shape, scales) = target(cx, x, &listed)?;
    let op = Resize {
        mode: mode(cx)?,
        coordinates: coordinates(cx)?,
        nearest: nearest(cx)?,
        shape,
        scales,
        roi: region(cx, &listed, rank)?,
        cubic_a: cx.attrs().float("cubic_coeff_a", -0.75)?,
        exclude_outside: cx.attrs().flag("exclude_outside", false)?,
        antialias: cx.attrs().flag("antialias", false)?,
        extrapolation: cx.attrs().float("extrapolation_value", 0.0)?,
    };
    if op.antialias && op.mode == ResizeMode::Nearest {
        return Err(cx.error("antialias", "0 with mode nearest", "1"));
    }
    Ok(vec![cx.emit(op, &[x])?])
}

/// Resampling as before version 11: coordinates `x / scale`; nearest takes the sample before it, and the one after it on
/// axes that shrink.
fn before_11(cx: &mut Context<'_>, scales: Vec<f64>) -> Result<ValueId> {
    let x = cx.input(0)?;
    let mode = match mode(cx)? {
        ResizeMode::Cubic => return Err(cx.error("mode", "nearest or linear", "cubic")),
        mode => mode,
    };
    let rank = cx.shape(x).rank();
    let all: Vec<usize> = (0..rank).collect();
    let (shape, scales) = scaled(cx, x, &all, &scales)?;
    let shrinks = scales.iter().any(|s| *s < 1.0);
    let resize = Resize { mode, coordinates: CoordinateMode::Asymmetric, shape, scales, ..Resize::default() };
    if mode == ResizeMode::Nearest && shrinks && resize.scales.iter().any(|s| *s > 1.0) {
        return grown_and_shrunk(cx, x, resize);
    }
    let nearest = if shrinks { NearestMode::Ceil } else { NearestMode::Floor };
    cx.emit(Resize { nearest, ..resize }, &[x])
}

/// Nearest samples where some axes shrink and others grow: the ones first, then the others, as each axis looks at its own coordinate only.
fn grown_and_shrunk(cx: &mut Context<'_>, x: ValueId, resize: Resize) -> Result<ValueId> {
    let mut smaller = Resize { nearest: NearestMode::Ceil, ..resize.clone() };
    let mut larger = Resize { nearest: NearestMode::Floor, ..resize };
    for axis in 0..smaller.shape.len() {
        if smaller.scales[axis] > 1.0 {
            (smaller.scales[axis], smaller.shape[axis]) = (1.0, cx.shape(x)[axis]);
        } else {
            larger.scales[axis] = 1.0;
        }
    }
    let shrunk = cx.emit(smaller, &[x])?;
    cx.emit(larger, &[shrunk])
}

fn mode(cx: &Context<'_>) -> Result<ResizeMode> {
    Ok(match cx.attrs().string("mode", "nearest")? {
        "nearest" => ResizeMode::Nearest,
        // Upsample 7 also spells it so.
        "linear" | "bilinear" => ResizeMode::Linear,
        "cubic" => ResizeMode::Cubic,
        other => return Err(cx.error("mode", "nearest, linear or cubic", other)),
    })
}

fn coordinates(cx: &Context<'_>) -> Result<CoordinateMode> {
    Ok(match cx.attrs().string("coordinate_transformation_mode", "half_pixel")? {
        "half_pixel" => CoordinateMode::HalfPixel,
        "half_pixel_symmetric" => CoordinateMode::HalfPixelSymmetric,
        "pytorch_half_pixel" => CoordinateMode::PytorchHalfPixel,
        "align_corners" => CoordinateMode::AlignCorners,
        "asymmetric" => CoordinateMode::Asymmetric,
        "tf_half_pixel_for_nn" => CoordinateMode::TfHalfPixelForNn,
        "tf_crop_and_resize" => CoordinateMode::TfCropAndResize,
        other => return Err(cx.error("coordinate_transformation_mode", "a mode of ONNX", other)),
    })
}

fn nearest(cx: &Context<'_>) -> Result<NearestMode> {
    Ok(match cx.attrs().string("nearest_mode", "round_prefer_floor")? {
        "round_prefer_floor" => NearestMode::RoundPreferFloor,
        "round_prefer_ceil" => NearestMode::RoundPreferCeil,
        "floor" => NearestMode::Floor,
        "ceil" => NearestMode::Ceil,
        other => return Err(cx.error("nearest_mode", "a mode of ONNX", other)),
    })
}

/// Shape of the result and scale of each axis, from the inputs `scales` and `sizes`, of which one is given and not empty.
fn target(cx: &Context<'_>, x: ValueId, listed: &[usize]) -> Result<(Vec<usize>, Vec<f64>)> {
    let given = |slot: usize| cx.optional(slot).filter(|id| cx.shape(*id).numel() > 0);
    match (given(2), given(3)) {
        (Some(scales), None) => scaled(cx, x, listed, &cx.const_f64_list(scales, "scales")?),
        (None, Some(sizes)) => {
            let mut sizes = extents(cx, "sizes", &cx.const_list(sizes, "sizes")?)?;
            expect_len(cx, "sizes", &sizes, listed.len())?;
            if let (Some(batch), Some(at)) = (cx.reopened_batch(x), listed.iter().position(|axis| *axis == 0)) {
                sizes[at] = if sizes[at] == 1 { batch } else { sizes[at] };
            }
            sized(cx, x, listed, &sizes)
        }
        (None, None) => Err(cx.error("sizes", "scales or sizes", "neither")),
        (Some(_), Some(_)) => Err(cx.error("sizes", "scales or sizes", "both")),
    }
}

/// The target of given scales: extents are rounded down, in `f32` as ONNX's own shape inference does.
fn scaled(cx: &Context<'_>, x: ValueId, listed: &[usize], given: &[f64]) -> Result<(Vec<usize>, Vec<f64>)> {
    expect_len(cx, "scales", given, listed.len())?;
    let mut shape = cx.shape(x).to_vec();
    let mut scales = vec![1.0; shape.len()];
    for (axis, scale) in listed.iter().zip(given) {
        if *scale <= 0.0 || !scale.is_finite() {
            return Err(cx.error("scales", "finite scales above 0", scale.to_string()));
        }
        shape[*axis] = (shape[*axis] as f32 * *scale as f32).floor() as usize;
        scales[*axis] = *scale;
    }
    Ok((shape, scales))
}

/// The target of given extents, stretched or in the operand's proportions. Where proportions are kept, axes that are counted from the back stay as they
/// are: so do the standard's reference and onnxruntime, though their shape inference says otherwise.
fn sized(cx: &Context<'_>, x: ValueId, listed: &[usize], sizes: &[usize]) -> Result<(Vec<usize>, Vec<f64>)> {
    let mut shape = cx.shape(x).to_vec();
    let mut scales = vec![1.0; shape.len()];
    if let Some(empty) = listed.iter().find(|axis| shape[**axis] == 0) {
        return Err(cx.error("sizes", "axes that are not empty", format!("axis {empty} of {}", cx.shape(x))));
    }
    let ratio = |(axis, size): (&usize, &usize)| *size as f64 / cx.shape(x)[*axis] as f64;
    let ratios = listed.iter().zip(sizes).map(ratio);
    let common = match cx.attrs().string("keep_aspect_ratio_policy", "stretch")? {
        "stretch" => None,
        "not_larger" => ratios.clone().reduce(f64::min),
        "not_smaller" => ratios.clone().reduce(f64::max),
        other => {
            return Err(cx.error("keep_aspect_ratio_policy", "stretch, not_larger or not_smaller", other));
        }
    };
    let given = cx.attrs().ints("axes")?.unwrap_or_default();
    let from_back = |at: usize| given.get(at).is_some_and(|axis| *axis < 0) && common.is_some();
    for (at, ((axis, size), ratio)) in listed.iter().zip(sizes).zip(ratios).enumerate() {
        if from_back(at) {
            continue;
        }
        scales[*axis] = common.unwrap_or(ratio);
        shape[*axis] = match common {
            None => *size,
            Some(scale) => (scale * shape[*axis] as f64 + 0.5).floor() as usize,
        };
    }
    Ok((shape, scales))
}

/// The region of interest over all axes, or nothing where the coordinate mode does not look at it.
fn region(cx: &Context<'_>, listed: &[usize], rank: usize) -> Result<Vec<f32>> {
    if coordinates(cx)? != CoordinateMode::TfCropAndResize {
        return Ok(Vec::new());
    }
    let given = cx.const_f64_list(cx.input(1)?, "roi")?;
    expect_len(cx, "roi", &given, 2 * listed.len())?;
    let mut roi = vec![0.0; 2 * rank];
    roi[rank..].fill(1.0);
    for (i, axis) in listed.iter().enumerate() {
        roi[*axis] = given[i] as f32;
        roi[axis + rank] = given[i + listed.len()] as f32;
    }
    Ok(roi)
}
