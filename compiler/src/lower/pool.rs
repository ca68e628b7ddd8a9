//! Lowering of `pool`.

use super::Lower;
use super::context::Lowering;
use crate::kernels::{self, pool, sliding::Sliding};
use crate::plan::{AxisOrder, Generated};
use fornax_ir::OpError;
use fornax_ir::ops::Pool;
use fornax_ir::ops::pool::PoolKind;
use fornax_ir::ops::window::Window;
use fornax_ir::types::{DType, TensorType};

impl Lower for Pool {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        match native(self, cx.operand_type(0))? {
            Some(mut spec) => {
                spec.sliding.element = cx.stored_type(0);
                lower_native(self, cx, spec)
            }
            None => super::fallback::pool(cx, self),
        }
    }
}

/// The kernel for `f32` windows over one or two axes, if there is one.
fn native(op: &Pool, x: &TensorType) -> Result<Option<kernels::Pool>, OpError> {
    let windows = op.windows(x)?;
    let kind = match op.kind {
        PoolKind::Max => pool::Kind::Max,
        PoolKind::Average if op.count_include_pad => {
            let padded = |w: &Window| w.input + w.begin.unsigned_abs() as usize + w.end.unsigned_abs() as usize;
            let [rows, columns] = plane(&windows).map_or([0; 2], |windows| windows.map(|w| padded(&w)));
            pool::Kind::AveragePadded([rows, columns])
        }
        PoolKind::Average => pool::Kind::Average,
    };
    let sliding = plane(&windows).and_then(|windows| sliding(x, windows));
    let fits = x.dtype == DType::F32 && x.shape.numel() > 0;
    Ok(sliding.filter(|sliding| fits && sliding.applies()).map(|sliding| kernels::Pool { sliding, kind }))
}

fn lower_native(_op: &Pool, cx: &mut Lowering<'_>, spec: kernels::Pool) -> Result<(), OpError> {
    let outside = match spec.kind {
        pool::Kind::Max => {
            let count = spec.sliding.row_len();
            let lowest = match spec.sliding.element {
                DType::F32 => Generated::fill(count, f32::NEG_INFINITY),
                // Two elements to a number.
                _ => Generated::Fill(count.div_ceil(2), 0xFF80_FF80),
            };
            cx.plan.constant(lowest).into()
        }
        _ => cx.zeros(spec.sliding.row_len() * spec.sliding.element.size()),
    };
    let element = spec.sliding.element;
    let x = cx.operand_stored(0, AxisOrder::ChannelsLast, element)?;
    let y = cx.output_stored(AxisOrder::ChannelsLast, element);
    let mut operands = vec![x.into(), outside, y.into()];
    if spec.kind != pool::Kind::Max {
        let counts: Vec<f32> = (0..spec.sliding.output[0]).map(|at| spec.count(0, at) as f32).collect();
        operands.push(cx.plan.constant(Generated::floats(&counts)).into());
    }
    cx.step(spec, &operands);
    Ok(())
}

/// Windows over the rows and columns of `x`; `None` where they leave out its first elements.
fn sliding(x: &TensorType, windows: [Window; 2]) -> Option<Sliding> {
    let pair = |f: fn(&Window) -> usize| [f(&windows[0]), f(&windows[1])];
    Some(Sliding {
        element: x.dtype,
        batch: x.shape[0],
        channels: x.shape[1],
        gaps: [0, 0],
        input: pair(|w| w.input),
        output: pair(|w| w.output),
        kernel: pair(|w| w.kernel),
        strides: pair(|w| w.stride),
        dilations: pair(|w| w.dilation),
        pads: [usize::try_from(windows[0].begin).ok()?, usize::try_from(windows[1].begin).ok()?],
        transposed: false,
    })
}

/// The windows over height and width; a single axis is the width.
fn plane(windows: &[Window]) -> Option<[Window; 2]> {
    let one = Window { input: 1, output: 1, kernel: 1, stride: 1, dilation: 1, begin: 0, end: 0 };
    match windows {
        [columns] => Some([one, *columns]),
        [rows, columns] => Some([*rows, *columns]),
        _ => None,
    }
}
