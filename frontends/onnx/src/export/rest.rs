//! Operators of the graph that take more than a line to write as ONNX nodes: those of several results, of operands that are
//! attributes here, and those that ONNX says otherwise.

use fornax_ir::graph::NodeId;
use fornax_ir::ops::resize::CoordinateMode;
use fornax_ir::ops::{ConvTranspose, MaxPool, Resize, Split, TopK};

use super::Writer;
use super::attributes::{Refusal, float, int, ints, text, windows};

/// An operator whose list of extents is an operand in ONNX.
pub fn with_extents(out: &mut Writer<'_>, id: NodeId, op_type: &str, what: &str, extents: &[usize]) {
    let (name, mut operands) = (out.name(id), out.operands(id));
    let extents: Vec<i64> = extents.iter().map(|extent| *extent as i64).collect();
    operands.push(out.integers(id, what, &extents));
    out.node(op_type, &operands, &name, Vec::new());
}

pub fn conv_transpose(out: &mut Writer<'_>, id: NodeId, conv: &ConvTranspose) -> Result<(), Refusal> {
    let pads: Option<Vec<usize>> = conv.pads.iter().map(|pad| usize::try_from(*pad).ok()).collect();
    let pads = pads.ok_or("negative padding")?;
    let attributes = vec![
        ints("strides", &conv.strides),
        ints("pads", &pads),
        ints("dilations", &conv.dilations),
        ints("output_padding", &conv.output_padding),
        int("group", conv.group as i64),
    ];
    let (name, operands) = (out.name(id), out.operands(id));
    out.node("ConvTranspose", &operands, &name, attributes);
    Ok(())
}

pub fn top_k(out: &mut Writer<'_>, id: NodeId, op: &TopK) {
    let mut operands = out.operands(id);
    operands.push(out.integers(id, "k", &[op.k as i64]));
    out.node_of(id, "TopK", &operands, vec![int("axis", op.axis as i64), int("largest", (!op.smallest).into())]);
}

pub fn max_pool(out: &mut Writer<'_>, id: NodeId, pool: &MaxPool) {
    let mut attributes = windows(&pool.values());
    attributes.push(int("storage_order", pool.column_major.into()));
    let operands = out.operands(id);
    out.node_of(id, "MaxPool", &operands, attributes);
}

pub fn split(out: &mut Writer<'_>, id: NodeId, split: &Split) {
    let mut operands = out.operands(id);
    let sizes: Vec<i64> = split.sizes.iter().map(|size| *size as i64).collect();
    operands.push(out.integers(id, "split", &sizes));
    out.node_of(id, "Split", &operands, vec![int("axis", split.axis as i64)]);
}

/// Means of the elements and of their squared distances from them.
pub fn batch_statistics(out: &mut Writer<'_>, id: NodeId) {
    let x = out.operands(id);
    let rank = out.ty(out.graph.operands(id)[0]).shape.rank();
    let axes: Vec<i64> = (0..rank as i64).filter(|axis| *axis != 1).collect();
    let axes = out.integers(id, "axes", &axes);
    let results: Vec<String> = out.graph.values(id).map(|value| out.name(value)).collect();
    let [kept, distance, square] = ["kept", "distance", "square"].map(|what| out.inner_name(id, what));
    let keepdims = |keep: i64| vec![int("keepdims", keep)];
    out.node("ReduceMean", &[x[0].clone(), axes.clone()], &results[0], keepdims(0));
    out.node("ReduceMean", &[x[0].clone(), axes.clone()], &kept, keepdims(1));
    out.node("Sub", &[x[0].clone(), kept], &distance, Vec::new());
    out.node("Mul", &[distance.clone(), distance], &square, Vec::new());
    out.node("ReduceMean", &[square, axes], &results[1], keepdims(0));
}

/// Scales where they give the extents, else extents where these give the scales.
pub fn resize(out: &mut Writer<'_>, id: NodeId, op: &Resize) -> Result<(), Refusal> {
    if op.coordinates == CoordinateMode::TfHalfPixelForNn {
        return Err("opset 18 has no such coordinate rule");
    }
    let from = out.ty(out.graph.operands(id)[0]).shape.to_vec();
    let axes = || from.iter().zip(&op.shape).zip(&op.scales);
    let by_scales = axes().all(|((from, to), scale)| {
        f64::from(*scale as f32) == *scale && (*from as f32 * *scale as f32).floor() == *to as f32
    });
    let by_extents = axes().all(|((from, to), scale)| *to as f64 / *from as f64 == *scale);
    let (name, mut operands) = (out.name(id), out.operands(id));
    operands.push(if op.roi.is_empty() { String::new() } else { out.floats(id, "roi", &op.roi) });
    if by_scales {
        let scales: Vec<f32> = op.scales.iter().map(|scale| *scale as f32).collect();
        operands.push(out.floats(id, "scales", &scales));
    } else if by_extents {
        let extents: Vec<i64> = op.shape.iter().map(|extent| *extent as i64).collect();
        operands.push(String::new());
        operands.push(out.integers(id, "sizes", &extents));
    } else {
        return Err("neither scales nor extents give the other");
    }
    let attributes = vec![
        text("mode", op.mode.word()),
        text("coordinate_transformation_mode", op.coordinates.word()),
        text("nearest_mode", op.nearest.word()),
        float("cubic_coeff_a", op.cubic_a),
        int("exclude_outside", op.exclude_outside.into()),
        int("antialias", op.antialias.into()),
        float("extrapolation_value", op.extrapolation),
    ];
    out.node("Resize", &operands, &name, attributes);
    Ok(())
}
