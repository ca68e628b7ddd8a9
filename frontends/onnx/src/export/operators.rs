//! Every operator of the graph that ONNX has, as ONNX nodes.

use fornax_ir::graph::NodeId;
use fornax_ir::ops::pad::PadMode;
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::ops::reduce::ReduceKind;
use fornax_ir::ops::{Conv, Gemm, Op, Pad, Pool, Reduce, Slice};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

use super::attributes::{Refusal, float, int, ints, text, windows};
use super::{Writer, integers, rest};
use crate::ops::unary;
use crate::proto::AttributeProto;
use crate::tensors::type_code;

const FUSED: Refusal = "a fused operator; export the graph before the fusing passes";
const EXTENT: Refusal = "an operator of extents that depend on data, whose count ONNX keeps in the shape";
const GRADIENT: Refusal = "an operator of training graphs, which ONNX does not have";

/// Writes one node of the graph.
pub fn write(out: &mut Writer<'_>, id: NodeId, op: &Op) -> Result<(), Refusal> {
    let (name, operands) = (out.name(id), out.operands(id));
    let dtype = out.graph.operands(id).first().map_or(DType::F32, |operand| out.ty(*operand).dtype);
    let mut node = |op_type: &str, attributes: Vec<AttributeProto>| out.node(op_type, &operands, &name, attributes);
    match op {
        Op::Conv(conv) if dtype == DType::I16 => return integers::conv(out, id, conv_attributes(conv)?, conv),
        Op::Conv(conv) => node("Conv", conv_attributes(conv)?),
        Op::BatchNorm(norm) => node("BatchNormalization", vec![float("epsilon", norm.epsilon)]),
        Op::Unary(unary) => return unary_node(out, id, unary.function),
        Op::Binary(binary) => {
            let (op_type, attributes) = binary_node(binary.function, dtype);
            node(op_type, attributes);
        }
        Op::Where(_) => node("Where", Vec::new()),
        Op::Cast(cast) => node("Cast", vec![int("to", i64::from(type_code(cast.to)))]),
        Op::Reduce(reduce) => reduction(out, id, reduce),
        Op::Pool(pool) => pooling(out, id, pool),
        Op::MatMul(_) if dtype == DType::I16 => integers::matmul(out, id),
        Op::MatMul(_) => node("MatMul", Vec::new()),
        Op::Gemm(gemm) => node("Gemm", gemm_attributes(gemm)?),
        Op::Softmax(softmax) => {
            node(if softmax.log { "LogSoftmax" } else { "Softmax" }, vec![int("axis", softmax.axis as i64)]);
        }
        Op::Reshape(reshape) => reshaping(out, id, &reshape.shape),
        Op::Transpose(transpose) => node("Transpose", vec![ints("perm", &transpose.perm)]),
        Op::Concat(concat) => node("Concat", vec![int("axis", concat.axis as i64)]),
        Op::Slice(slice) => slicing(out, id, slice)?,
        Op::Pad(pad) => padding(out, id, pad),
        Op::Identity(_) => node("Identity", Vec::new()),
        Op::SqueezeExcite(_) | Op::MbConv(_) => return Err(FUSED),
        Op::Compact(_) | Op::NonMaxSuppression(_) => return Err(EXTENT),
        Op::ConvWeightGradient(_)
        | Op::ConvDataGradient(_)
        | Op::ConvWithSlope(_)
        | Op::UnaryWithSlope(_)
        | Op::UnaryGradient(_)
        | Op::MaxPoolGradient(_) => return Err(GRADIENT),
        Op::ConvTranspose(conv) => return rest::conv_transpose(out, id, conv),
        Op::BatchStatistics(_) => rest::batch_statistics(out, id),
        Op::ArgReduce(arg) => {
            let attributes = vec![
                int("axis", arg.axis as i64),
                int("keepdims", arg.keepdims.into()),
                int("select_last_index", arg.select_last.into()),
            ];
            node(if arg.min { "ArgMin" } else { "ArgMax" }, attributes);
        }
        Op::TopK(top_k) => rest::top_k(out, id, top_k),
        Op::MaxPool(pool) => rest::max_pool(out, id, pool),
        Op::Lrn(lrn) => {
            let (alpha, beta) = (float("alpha", lrn.alpha), float("beta", lrn.beta));
            node("LRN", vec![int("size", lrn.size as i64), alpha, beta, float("bias", lrn.bias)]);
        }
        Op::Resize(resize) => return rest::resize(out, id, resize),
        Op::Split(split) => rest::split(out, id, split),
        Op::Gather(gather) => node("Gather", vec![int("axis", gather.axis as i64)]),
        Op::GatherElements(gather) => node("GatherElements", vec![int("axis", gather.axis as i64)]),
        Op::Expand(expand) => rest::with_extents(out, id, "Expand", "shape", &expand.shape),
        Op::Tile(tile) => rest::with_extents(out, id, "Tile", "repeats", &tile.repeats),
    }
    Ok(())
}

fn conv_attributes(conv: &Conv) -> Result<Vec<AttributeProto>, Refusal> {
    if conv.residual || conv.activation.is_some() {
        return Err(FUSED);
    }
    let (strides, dilations) = (ints("strides", &conv.strides), ints("dilations", &conv.dilations));
    Ok(vec![strides, ints("pads", &conv.pads), dilations, int("group", conv.group as i64)])
}

fn gemm_attributes(gemm: &Gemm) -> Result<Vec<AttributeProto>, Refusal> {
    if gemm.activation.is_some() {
        return Err(FUSED);
    }
    let (trans_a, trans_b) = (int("transA", gemm.trans_a.into()), int("transB", gemm.trans_b.into()));
    Ok(vec![float("alpha", gemm.alpha), float("beta", gemm.beta), trans_a, trans_b])
}

fn unary_node(out: &mut Writer<'_>, id: NodeId, function: UnaryFn) -> Result<(), Refusal> {
    let (name, mut operands) = (out.name(id), out.operands(id));
    if let Some((row, parameters)) = unary::of_function(function, out.opset.0) {
        let attributes = row.parameters.iter().zip(parameters).map(|((name, _), value)| float(name, value));
        out.node(row.name, &operands, &name, attributes.collect());
        return Ok(());
    }
    match function {
        UnaryFn::Clip(low, high) => {
            let dtype = out.ty(out.graph.operands(id)[0]).dtype;
            let bounds = [(low, "min"), (high, "max")].map(|(value, what)| match value.is_finite() {
                true => out.scalar(id, what, dtype, value.into()),
                false => String::new(),
            });
            operands.extend(bounds);
            out.node("Clip", &operands, &name, Vec::new());
        }
        UnaryFn::Silu => {
            let sigmoid = out.inner_name(id, "sigmoid");
            out.node("Sigmoid", &operands, &sigmoid, Vec::new());
            operands.push(sigmoid);
            out.node("Mul", &operands, &name, Vec::new());
        }
        _ => return Err("opset 18 has no such activation"),
    }
    Ok(())
}

/// Name and attributes of a function over elements of type `dtype`; what is logical on booleans is bitwise on integers.
fn binary_node(function: BinaryFn, dtype: DType) -> (&'static str, Vec<AttributeProto>) {
    let plain = |name| (name, Vec::new());
    match function {
        BinaryFn::Add => plain("Add"),
        BinaryFn::Sub => plain("Sub"),
        BinaryFn::Mul => plain("Mul"),
        BinaryFn::Div => plain("Div"),
        BinaryFn::Pow => plain("Pow"),
        BinaryFn::Min => plain("Min"),
        BinaryFn::Max => plain("Max"),
        BinaryFn::Mod => plain("Mod"),
        BinaryFn::Fmod => ("Mod", vec![int("fmod", 1)]),
        BinaryFn::Prelu => plain("PRelu"),
        BinaryFn::Equal => plain("Equal"),
        BinaryFn::Less => plain("Less"),
        BinaryFn::LessOrEqual => plain("LessOrEqual"),
        BinaryFn::Greater => plain("Greater"),
        BinaryFn::GreaterOrEqual => plain("GreaterOrEqual"),
        BinaryFn::And if dtype != DType::Bool => plain("BitwiseAnd"),
        BinaryFn::Or if dtype != DType::Bool => plain("BitwiseOr"),
        BinaryFn::Xor if dtype != DType::Bool => plain("BitwiseXor"),
        BinaryFn::And => plain("And"),
        BinaryFn::Or => plain("Or"),
        BinaryFn::Xor => plain("Xor"),
    }
}

/// The mean over all pixels has a name of its own, for the element types that the pool has.
fn reduction(out: &mut Writer<'_>, id: NodeId, reduce: &Reduce) {
    let (name, mut operands) = (out.name(id), out.operands(id));
    let x = out.ty(out.graph.operands(id)[0]);
    let (rank, pooled) = (x.shape.len(), matches!(x.dtype, DType::F16 | DType::F32 | DType::F64));
    if pooled
        && reduce.kind == ReduceKind::Mean
        && reduce.keepdims
        && rank > 2
        && reduce.axes.iter().copied().eq(2..rank)
    {
        out.node("GlobalAveragePool", &operands, &name, Vec::new());
        return;
    }
    let op_type = match reduce.kind {
        ReduceKind::Sum => "ReduceSum",
        ReduceKind::Mean => "ReduceMean",
        ReduceKind::Max => "ReduceMax",
        ReduceKind::Min => "ReduceMin",
        ReduceKind::Prod => "ReduceProd",
        ReduceKind::L1 => "ReduceL1",
        ReduceKind::L2 => "ReduceL2",
        ReduceKind::SumSquare => "ReduceSumSquare",
        ReduceKind::LogSum => "ReduceLogSum",
        ReduceKind::LogSumExp => "ReduceLogSumExp",
    };
    let axes: Vec<i64> = reduce.axes.iter().map(|axis| *axis as i64).collect();
    operands.push(out.integers(id, "axes", &axes));
    // No axes reduce nothing here, and everything in ONNX.
    let attributes = vec![int("keepdims", reduce.keepdims.into()), int("noop_with_empty_axes", 1)];
    out.node(op_type, &operands, &name, attributes);
}

fn pooling(out: &mut Writer<'_>, id: NodeId, pool: &Pool) {
    let mut attributes = windows(pool);
    let op_type = match pool.kind {
        PoolKind::Max => "MaxPool",
        PoolKind::Average => {
            attributes.push(int("count_include_pad", pool.count_include_pad.into()));
            "AveragePool"
        }
    };
    let (name, operands) = (out.name(id), out.operands(id));
    out.node(op_type, &operands, &name, attributes);
}

/// Where the first extent stays, it is copied from the input, so that another batch keeps it too. A shape with empty axes is
/// taken as it stands.
fn reshaping(out: &mut Writer<'_>, id: NodeId, shape: &[usize]) {
    let (name, mut operands) = (out.name(id), out.operands(id));
    let from = &out.ty(out.graph.operands(id)[0]).shape;
    let mut extents: Vec<i64> = shape.iter().map(|extent| *extent as i64).collect();
    let empty = extents.contains(&0);
    if let (Some(first), Some(same)) = (extents.first_mut(), from.first())
        && *first == *same as i64
        && !empty
    {
        *first = 0;
    }
    operands.push(out.integers(id, "shape", &extents));
    let attributes = if empty { vec![int("allowzero", 1)] } else { Vec::new() };
    out.node("Reshape", &operands, &name, attributes);
}

fn slicing(out: &mut Writer<'_>, id: NodeId, slice: &Slice) -> Result<(), Refusal> {
    if slice.sizes.contains(&0) {
        return Err("an empty slice");
    }
    let (name, mut operands) = (out.name(id), out.operands(id));
    let from = &out.ty(out.graph.operands(id)[0]).shape;
    let whole = |axis: &usize| slice.starts[*axis] == 0 && slice.step(*axis) == 1 && slice.sizes[*axis] == from[*axis];
    let axes: Vec<usize> = (0..slice.starts.len()).filter(|axis| !whole(axis)).collect();
    let end = |axis: usize| {
        let (start, step, size) = (slice.starts[axis] as i64, slice.step(axis), slice.sizes[axis] as i64);
        // One beyond the last; before the first element there is none to name.
        match start + (size - 1) * step + step.signum() {
            end if end < 0 => i64::MIN,
            end => end,
        }
    };
    let lists: [(&str, Vec<i64>); 4] = [
        ("starts", axes.iter().map(|axis| slice.starts[*axis] as i64).collect()),
        ("ends", axes.iter().map(|axis| end(*axis)).collect()),
        ("axes", axes.iter().map(|axis| *axis as i64).collect()),
        ("steps", axes.iter().map(|axis| slice.step(*axis)).collect()),
    ];
    for (what, values) in lists {
        operands.push(out.integers(id, what, &values));
    }
    out.node("Slice", &operands, &name, Vec::new());
    Ok(())
}

fn padding(out: &mut Writer<'_>, id: NodeId, pad: &Pad) {
    let (name, mut operands) = (out.name(id), out.operands(id));
    operands.push(out.integers(id, "pads", &pad.pads));
    let mode = match pad.mode {
        PadMode::Constant => "constant",
        PadMode::Edge => "edge",
        PadMode::Reflect => "reflect",
        PadMode::Wrap => "wrap",
    };
    if pad.mode == PadMode::Constant && pad.value != 0.0 {
        let dtype = out.ty(out.graph.operands(id)[0]).dtype;
        operands.push(out.scalar(id, "value", dtype, pad.value));
    }
    out.node("Pad", &operands, &name, vec![text("mode", mode)]);
}
