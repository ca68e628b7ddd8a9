//! Convolutions: Conv, ConvTranspose, Col2Im.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{Conv, ConvTranspose};

use crate::context::Context;
use crate::error::Result;

use super::support::{expect_len, expect_rank, extent, extents, int_constant, reshape};
use super::window::{AutoPad, Window, dilated, explicit_pads, kernel_shape, positive};

/// `Conv` over one or more spatial axes.
pub(crate) fn conv(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let bias = cx.optional(2);
    let op = attributes(cx, x, w, bias.is_some())?;
    let operands: Vec<ValueId> = [x, w].into_iter().chain(bias).collect();
    Ok(vec![cx.emit(op, &operands)?])
}

/// The convolution that the node's attributes describe, over operands `x` and `w`.
pub(crate) fn attributes(cx: &Context<'_>, x: ValueId, w: ValueId, bias: bool) -> Result<Conv> {
    let (spatial, kernel) = spatial_axes(cx, x, w)?;
    let window = Window::of(cx, &spatial, Some(&kernel))?;
    let group = group(cx)?;
    Ok(Conv { strides: window.strides, pads: window.pads, dilations: window.dilations, group, bias, ..Conv::default() })
}

/// Spatial extents of the data and of the weight, which must be as many.
fn spatial_axes(cx: &Context<'_>, x: ValueId, w: ValueId) -> Result<(Vec<usize>, Vec<usize>)> {
    expect_rank(cx, "X", x, 3)?;
    let (x_rank, w_rank) = (cx.shape(x).rank(), cx.shape(w).rank());
    if x_rank != w_rank {
        return Err(cx.error("W", format!("rank {x_rank}, as X"), cx.ty(w).to_string()));
    }
    Ok((cx.shape(x)[2..].to_vec(), cx.shape(w)[2..].to_vec()))
}

fn group(cx: &Context<'_>) -> Result<usize> {
    let group = extent(cx, "group", cx.attrs().int("group", 1)?)?;
    if group == 0 { Err(cx.error("group", "1 or more", "0")) } else { Ok(group) }
}

/// `ConvTranspose`, with explicit pads, `auto_pad` or `output_shape`.
pub(crate) fn conv_transpose(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, w) = (cx.input(0)?, cx.input(1)?);
    let bias = cx.optional(2);
    let (spatial, weight) = spatial_axes(cx, x, w)?;
    let rank = spatial.len();
    let kernel = kernel_shape(cx, rank, Some(&weight))?;
    let strides = positive(cx, "strides", rank)?;
    let dilations = positive(cx, "dilations", rank)?;
    let output_padding = match cx.attrs().ints("output_padding")? {
        Some(given) => {
            expect_len(cx, "output_padding", &given, rank)?;
            let padding = extents(cx, "output_padding", &given)?;
            for (i, more) in padding.iter().enumerate() {
                let step = strides[i].max(dilations[i]);
                if *more >= step {
                    let expected = format!("entries below stride or dilation, {step} on axis {}", i + 2);
                    return Err(cx.error("output_padding", expected, format!("{given:?}")));
                }
            }
            padding
        }
        None => vec![0; rank],
    };
    let auto_pad = AutoPad::of(cx)?;
    let wanted = wanted_extents(cx, &spatial, &strides, auto_pad)?;
    let explicit = explicit_pads(cx, rank)?;
    let pads = match wanted {
        None if auto_pad == AutoPad::Valid => vec![0; 2 * rank],
        None => explicit.into_iter().map(|p| p as i64).collect(),
        Some(wanted) => {
            let mut pads = vec![0; 2 * rank];
            for i in 0..rank {
                let span = dilated(cx, kernel[i], dilations[i])?;
                let natural = spatial[i]
                    .saturating_sub(1)
                    .checked_mul(strides[i])
                    .and_then(|n| n.checked_add(span)?.checked_add(output_padding[i]))
                    .and_then(|n| i64::try_from(n).ok())
                    .ok_or_else(|| cx.error("strides", "a result that fits in memory", format!("{strides:?}")))?;
                let total = natural - wanted[i];
                if total < 0 && !cx.attrs().has("output_shape") {
                    return Err(cx.unsupported("auto_pad=SAME with a kernel that spans less than the stride"));
                }
                (pads[i], pads[i + rank]) = trim(auto_pad, total);
            }
            pads
        }
    };
    let group = group(cx)?;
    let op = ConvTranspose { strides, pads, dilations, output_padding, group, bias: bias.is_some() };
    let operands: Vec<ValueId> = [x, w].into_iter().chain(bias).collect();
    Ok(vec![cx.emit(op, &operands)?])
}

/// Result extents that the node asks for: `output_shape`, or `in * stride` where `auto_pad` is one of the SAME.
fn wanted_extents(
    cx: &Context<'_>,
    spatial: &[usize],
    strides: &[usize],
    auto_pad: AutoPad,
) -> Result<Option<Vec<i64>>> {
    if let Some(given) = cx.attrs().ints("output_shape")? {
        // Some exporters write all axes; batch and channels follow from the operands.
        let given = if given.len() == spatial.len() + 2 { given[2..].to_vec() } else { given };
        expect_len(cx, "output_shape", &given, spatial.len())?;
        if given.iter().any(|extent| *extent < 1) {
            return Err(cx.error("output_shape", "extents of 1 or more", format!("{given:?}")));
        }
        return Ok(Some(given));
    }
    if !matches!(auto_pad, AutoPad::SameUpper | AutoPad::SameLower) {
        return Ok(None);
    }
    let products = spatial.iter().zip(strides).map(|(n, s)| n.checked_mul(*s).and_then(|n| i64::try_from(n).ok()));
    let wanted: Option<Vec<i64>> = products.collect();
    wanted.map(Some).ok_or_else(|| cx.error("strides", "a result that fits in memory", format!("{strides:?}")))
}

/// Rows to take off at the begin and end so that `total` go, half of them, rounded down, at one and the rest at the other, which is the
/// end only for SAME_UPPER. A negative total adds rows in the same way, as ONNX's reference does.
fn trim(auto_pad: AutoPad, total: i64) -> (i64, i64) {
    let half = total.div_euclid(2);
    if auto_pad == AutoPad::SameUpper { (half, total - half) } else { (total - half, half) }
}

/// `Col2Im`: the columns of an image added up where they came from, as a transposed convolution with a kernel of one 1 for each place of a block.
pub(crate) fn col2im(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let x = cx.input(0)?;
    let image = extents(cx, "image_shape", &cx.const_list(cx.input(1)?, "image_shape")?)?;
    let block = extents(cx, "block_shape", &cx.const_list(cx.input(2)?, "block_shape")?)?;
    let rank = image.len();
    let strides = positive(cx, "strides", rank)?;
    let dilations = positive(cx, "dilations", rank)?;
    let pads = explicit_pads(cx, rank)?;
    let places = block.iter().try_fold(1usize, |n, d| n.checked_mul(*d)).filter(|n| *n > 0 && block.len() == rank);
    let (Some(places), [batch, rows, columns]) = (places, &cx.shape(x)[..]) else {
        return Err(cx.error(
            "input",
            "[n, C * block, places], and a block of as many axes as the image",
            cx.ty(x).to_string(),
        ));
    };
    let (batch, rows, columns) = (*batch, *rows, *columns);
    let (mut grid, mut padding) = (Vec::with_capacity(rank), Vec::with_capacity(rank));
    for i in 0..rank {
        let span = dilated(cx, block[i], dilations[i])?;
        let room = image[i].saturating_add(pads[i]).saturating_add(pads[i + rank]).checked_sub(span);
        let room =
            room.ok_or_else(|| cx.error("block_shape", format!("a block within {image:?}"), format!("{block:?}")))?;
        grid.push(room / strides[i] + 1);
        padding.push(room % strides[i]);
    }
    let all = grid.iter().fold(1usize, |n, d| n.saturating_mul(*d));
    if !rows.is_multiple_of(places) || all != columns {
        let expected = format!("a multiple of {places} rows, and {all} places");
        return Err(cx.error("input", expected, cx.ty(x).to_string()));
    }
    let group = rows / places;
    cx.charge((rows as u64).saturating_mul(places as u64))?;
    let ones: Vec<i64> = (0..rows * places).map(|i| i64::from(i / places % places == i % places)).collect();
    let kernel = int_constant(cx, cx.ty(x).dtype, [&[rows, 1], &block[..]].concat(), &ones);
    let x = reshape(cx, x, [&[batch, rows], &grid[..]].concat())?;
    let pads = pads.into_iter().map(|p| p as i64).collect();
    let op = ConvTranspose { strides, pads, dilations, output_padding: padding, group, bias: false };
    Ok(vec![cx.emit(op, &[x, kernel])?])
}
