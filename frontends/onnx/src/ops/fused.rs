//! Operators of ONNX Runtime that stand for several of the standard's: convolutions and products with their activation, the GELU family,
//! normalisations of sums.
//!
//! Each is the chain of operators that it was fused from; the compiler fuses what it can by itself.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{MatMul, Softmax};
use fornax_ir::scalar::{BinaryFn, UnaryFn};

use crate::context::Context;
use crate::error::Result;

use super::normalization::{Norm, normalized};
use super::support::{self, axis, binary, extent, reshape, transpose, unary, with_scalar};
use super::{conv, linear};

/// The function that `name` stands for, with the parameters of the fused node: `Relu`, `Tanh`, `Sigmoid`, `LeakyRelu`, `Clip`, `HardSigmoid`, `Elu`, …
fn activation(cx: &Context<'_>, name: &str, parameters: &[f32]) -> Result<Option<UnaryFn>> {
    let parameter = |at: usize, default: f32| parameters.get(at).copied().unwrap_or(default);
    Ok(Some(match name {
        "" => return Ok(None),
        "Relu" => UnaryFn::Relu,
        "Tanh" => UnaryFn::Tanh,
        "Sigmoid" => UnaryFn::Sigmoid,
        "Softplus" => UnaryFn::Softplus,
        "Softsign" => UnaryFn::Softsign,
        "HardSwish" => UnaryFn::HardSwish,
        "LeakyRelu" => UnaryFn::LeakyRelu(parameter(0, 0.01)),
        "Elu" => UnaryFn::Elu(parameter(0, 1.0)),
        "ThresholdedRelu" => UnaryFn::ThresholdedRelu(parameter(0, 1.0)),
        "Clip" => UnaryFn::Clip(parameter(0, f32::MIN), parameter(1, f32::MAX)),
        "HardSigmoid" => UnaryFn::HardSigmoid(parameter(0, 0.2), parameter(1, 0.5)),
        other => return Err(cx.unsupported(format!("activation {}", crate::error::short(other)))),
    }))
}

/// The activation of products, whose parameters are attributes of their own.
fn activation_of_product(cx: &Context<'_>) -> Result<Option<UnaryFn>> {
    let mut parameters = Vec::new();
    for name in ["activation_alpha", "activation_beta", "activation_gamma"] {
        if cx.attrs().has(name) {
            parameters.push(cx.attrs().require_float(name)?);
        }
    }
    activation(cx, cx.attrs().string("activation", "")?, &parameters)
}

fn ended(cx: &mut Context<'_>, x: ValueId, function: Option<UnaryFn>) -> Result<Vec<ValueId>> {
    Ok(vec![function.map_or(Ok(x), |function| unary(cx, function, x))?])
}

/// `FusedConv`: a convolution, the sum with a fourth operand, an activation.
pub(crate) fn fused_conv(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let parameters = cx.attrs().floats("activation_params")?.unwrap_or_default();
    let function = activation(cx, cx.attrs().string("activation", "")?, &parameters)?;
    let (other, mut y) = (cx.optional(3), conv::conv(cx)?[0]);
    if let Some(other) = other {
        if cx.shape(other) != cx.shape(y) {
            return Err(cx.error("Z", cx.ty(y).to_string(), cx.ty(other).to_string()));
        }
        y = binary(cx, BinaryFn::Add, y, other)?;
    }
    ended(cx, y, function)
}

/// `FusedGemm`: a Gemm and an activation.
pub(crate) fn fused_gemm(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let function = activation_of_product(cx)?;
    let y = linear::gemm_of(cx, true)?;
    ended(cx, y, function)
}

/// `FusedMatMul`, `FusedMatMulActivation`, `TransposeMatMul`: a matrix product of transposed operands, times `alpha`.
pub(crate) fn fused_matmul(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let function = match cx.op_type() {
        "FusedMatMulActivation" => activation_of_product(cx)?,
        _ => None,
    };
    let (a, b) = (cx.input(0)?, cx.input(1)?);
    let a = turned(cx, a, "transA", "transBatchA")?;
    let b = turned(cx, b, "transB", "transBatchB")?;
    let mut y = cx.emit(MatMul {}, &[a, b])?;
    let alpha = cx.attrs().float("alpha", 1.0)?;
    if alpha != 1.0 {
        y = with_scalar(cx, BinaryFn::Mul, y, f64::from(alpha))?;
    }
    ended(cx, y, function)
}

/// An operand with its last axes exchanged, or its first axis moved before the last but one, where the attributes say so.
fn turned(cx: &mut Context<'_>, x: ValueId, last: &str, first: &str) -> Result<ValueId> {
    let rank = cx.shape(x).rank();
    let mut perm: Vec<usize> = (0..rank).collect();
    if cx.attrs().flag(first, false)? {
        if rank < 3 {
            return Err(cx.error(first, "an operand of rank 3 or more", cx.ty(x).to_string()));
        }
        perm[..rank - 1].rotate_left(1);
    }
    // Vectors are not turned.
    if cx.attrs().flag(last, false)? && rank >= 2 {
        perm.swap(rank - 2, rank - 1);
    }
    if perm.is_sorted() { Ok(x) } else { transpose(cx, x, perm) }
}

/// `BiasGelu`: GELU of a sum.
pub(crate) fn bias_gelu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    let sum = binary(cx, BinaryFn::Add, x, bias)?;
    Ok(vec![unary(cx, UnaryFn::Gelu, sum)?])
}

/// `FastGelu`: GELU through tanh, of a sum where there is a bias.
pub(crate) fn fast_gelu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (mut x, bias) = (cx.input(0)?, cx.optional(1));
    if let Some(bias) = bias {
        x = binary(cx, BinaryFn::Add, x, bias)?;
    }
    Ok(vec![unary(cx, UnaryFn::GeluTanh, x)?])
}

/// `QuickGelu`: `x sigmoid(alpha x)`.
pub(crate) fn quick_gelu(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, alpha) = (cx.input(0)?, cx.attrs().float("alpha", 1.702)?);
    let function = if alpha == 1.0 { UnaryFn::Silu } else { UnaryFn::Swish(alpha) };
    Ok(vec![unary(cx, function, x)?])
}

/// `BiasAdd`: the sum of three operands.
pub(crate) fn bias_add(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, bias, skip) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let sum = binary(cx, BinaryFn::Add, x, bias)?;
    Ok(vec![binary(cx, BinaryFn::Add, sum, skip)?])
}

/// `BiasSoftmax`: softmax of a sum over all axes from `axis` on.
pub(crate) fn bias_softmax(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, bias) = (cx.input(0)?, cx.input(1)?);
    let shape = cx.shape(x).to_vec();
    let axis = axis(cx, "axis", cx.attrs().int("axis", 1)?, shape.len())?;
    if cx.attrs().require_int("is_inner_broadcast")? == 0 && cx.shape(bias).rank() != shape.len() {
        return Err(cx.unsupported("a bias that is repeated along outer axes"));
    }
    let sum = binary(cx, BinaryFn::Add, x, bias)?;
    let rows = shape[..axis].iter().product();
    let columns = shape[axis..].iter().product();
    let matrix = reshape(cx, sum, vec![rows, columns])?;
    let y = cx.emit(Softmax { axis: 1, log: false }, &[matrix])?;
    Ok(vec![reshape(cx, y, shape)?])
}

/// `SkipLayerNormalization` and `SkipSimplifiedLayerNormalization`: a normalisation of a sum, over the last axis; the statistics and the sum are results, too.
pub(crate) fn skip_layer_normalization(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let simplified = cx.op_type() == "SkipSimplifiedLayerNormalization";
    let (x, skip, scale) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let (shift, bias) = match simplified {
        true => (None, cx.optional(3)),
        false => (cx.optional(3), cx.optional(4)),
    };
    let mut sum = binary(cx, BinaryFn::Add, x, skip)?;
    if let Some(bias) = bias {
        sum = binary(cx, BinaryFn::Add, sum, bias)?;
    }
    if cx.shape(sum) != cx.shape(x) {
        return Err(cx.error("skip", format!("a shape that broadcasts to {}", cx.shape(x)), cx.ty(skip).to_string()));
    }
    let rank = cx.shape(sum).rank();
    let epsilon = cx.attrs().float("epsilon", 1e-12)?;
    let norm = Norm { axes: vec![axis(cx, "input", -1, rank)?], epsilon, centred: !simplified };
    let y = normalized(cx, sum, norm, scale, shift)?;
    let mut results = vec![y.value];
    if cx.output_count() > 1 {
        if simplified && cx.output_count() < 4 {
            return Err(cx.unsupported("statistics as outputs"));
        }
        results.extend([y.mean, y.inverse, sum]);
    }
    Ok(results)
}

/// `GroupNorm` of `[n, h, w, C]`, or of `[n, C, h, w]`, and SiLU after it where `activation` says so.
pub(crate) fn group_norm(cx: &mut Context<'_>) -> Result<Vec<ValueId>> {
    let (x, gamma, beta) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    support::expect_rank(cx, "X", x, 3)?;
    let (shape, rank) = (cx.shape(x).to_vec(), cx.shape(x).rank());
    let last = cx.attrs().flag("channels_last", true)?;
    let channel = if last { rank - 1 } else { 1 };
    let channels = shape[channel];
    let groups = extent(cx, "groups", cx.attrs().require_int("groups")?)?;
    if groups == 0 || !channels.is_multiple_of(groups) {
        return Err(cx.error("groups", format!("a divisor of {channels} channels"), groups.to_string()));
    }
    let mut apart = shape.clone();
    apart.splice(channel..=channel, [groups, channels / groups]);
    let mut axes: Vec<usize> = (1..apart.len()).collect();
    axes.retain(|axis| *axis != channel);
    let grouped = reshape(cx, x, apart)?;
    let norm = Norm { axes, epsilon: cx.attrs().float("epsilon", 1e-5)?, centred: true };
    let y = super::normalization::standardized(cx, grouped, norm)?.value;
    let y = reshape(cx, y, shape)?;
    let gamma = support::per_channel(cx, "gamma", gamma, [channels, channel, rank])?;
    let beta = support::per_channel(cx, "beta", beta, [channels, channel, rank])?;
    let y = binary(cx, BinaryFn::Mul, y, gamma)?;
    let y = binary(cx, BinaryFn::Add, y, beta)?;
    let function = cx.attrs().flag("activation", false)?.then_some(UnaryFn::Silu);
    ended(cx, y, function)
}
