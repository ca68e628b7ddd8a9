//! An expansion and the depthwise convolution after it as one step, where the expanded map is too large to stay near.
//!
//! In: both convolutions of a block. Out: the ring kernel and its step, or nothing where separate kernels do. Both ways give the
//! same bits.

use super::context::Lowering;
use super::convolve::{ConvCall, ConvKernel};
use super::{depthwise as depthwise_step, weights};
use crate::kernels::Ring;
use crate::plan::{AxisOrder, Operand, ViewId};
use fornax_ir::{OpError, Verdict};

/// Least predicted gain that is worth a ring. It also saves the memory of the map, so it may be a little slower than predicted of two
/// kernels. With many inputs the arithmetic takes so long that the map's way to memory and back hides behind it, and rows are short
/// for the tiles that do it; bands expand rows of high windows twice. `cargo bench --bench rings` measures it.
const LEAST_GAIN: f64 = 0.96;

/// The kernel of `expand` and then `depthwise`, if both have kernels of their own and the expanded map of one image takes more
/// than the L2, where it would be written to the next cache or memory and read again, and the cost model says that it pays.
pub fn choose(cx: &mut Lowering<'_>, expand: &ConvCall<'_>, depthwise: &ConvCall<'_>) -> Result<Option<Ring>, OpError> {
    if cx.narrow {
        cx.remark(Verdict::Declined, "a ring of rows: none of bf16", &[]);
        return Ok(None);
    }
    let natives = (expand.native(cx, AxisOrder::ChannelsLast)?, depthwise.native(cx, AxisOrder::ChannelsLast)?);
    let (Some(ConvKernel::Dense(dense)), Some(ConvKernel::Depthwise(depthwise))) = natives else { return Ok(None) };
    let ring = Ring { inputs: dense.channels, expand: expand.op.activation, depthwise };
    let plain = expand.op.group == 1 && !expand.op.residual && dense == ring.expansion_of_all();
    if !plain || !ring.applies() {
        cx.remark(Verdict::Declined, "a ring of rows: none for such windows", &[]);
        return Ok(None);
    }
    let (map, l2) = (ring.expanded_bytes(), cx.target().l2);
    let gain = ring.gain(cx.target());
    let pays = map > l2 && gain >= LEAST_GAIN;
    let kib = |bytes: usize| bytes.div_ceil(1024) as f64;
    let figures = [("expanded map KiB", kib(map)), ("L2 KiB", kib(l2)), ("times as fast", gain)];
    if pays {
        cx.remark(Verdict::Made, "expansion and depthwise convolution as a ring of rows", &figures);
    } else {
        let why = if map > l2 { "by the cost of its shapes" } else { "the expanded map fits into L2" };
        cx.remark(Verdict::Declined, format!("a ring of rows: {why}"), &figures);
    }
    Ok(pays.then_some(ring))
}

/// Adds the step from `x` to `y`, both channel-last. Returns the view of the sums over the rows of `y`, if the spec asks for them.
///
/// # Errors
/// If weights or bias are not known.
pub fn ring(
    cx: &mut Lowering<'_>,
    spec: Ring,
    [expand, depthwise]: [&ConvCall<'_>; 2],
    [x, y]: [ViewId; 2],
) -> Result<Option<ViewId>, OpError> {
    let channels = spec.depthwise.channels;
    let mut operands: Vec<Operand> = vec![x.into()];
    let expansion = spec.expansion(channels);
    operands.push(weights::pack(cx, expand.weights, expansion.weight_packing())?);
    operands.push(weights::bias(cx, expand.bias, expansion.bias_packing())?);
    let of_depthwise = depthwise_step::constants(cx, &spec.depthwise, (depthwise.weights, depthwise.bias))?;
    operands.extend(of_depthwise);
    operands.push(y.into());
    let sums = depthwise_step::sums(cx, &spec.depthwise);
    operands.extend(sums.map(Operand::from));
    cx.step(spec, &operands);
    Ok(sums)
}
