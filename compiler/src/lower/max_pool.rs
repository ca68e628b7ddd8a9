//! Lowering of `max_pool`: the values as `pool` computes them, the indices by a nest of their own.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, expect_native, extremes};
use crate::kernels::loops::nest::{Affine, Combine, Inst};
use fornax_ir::OpError;
use fornax_ir::ops::MaxPool;
use fornax_ir::ops::window::Window;

impl Lower for MaxPool {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        if cx.results[0].used {
            self.values().lower(cx)?;
        }
        if cx.results[1].used {
            indices(self, cx)?;
        }
        Ok(())
    }
}

/// Keeps the index of the largest element of each window.
///
/// Taps are walked backwards and the last of equal elements wins: that is the first of the window, and any element, however small,
/// takes the place of the start.
fn indices(op: &MaxPool, cx: &mut Lowering<'_>) -> Result<(), OpError> {
    let x = View::operand(cx, 0)?;
    expect_native("x", x.dtype)?;
    let windows = op.values().windows(cx.operand_type(0))?;
    let (order, spatial) = (cx.order(0), windows.len());
    let out = cx.output_of(1, order);
    let out = View::of(cx, out);
    let extents: Vec<usize> = out.shape.iter().copied().chain(windows.iter().map(|w| w.kernel)).collect();
    let mut write = out.strides.clone();
    write.resize(extents.len(), 0);
    let mut call = NestCall::new("max_index", &extents, spatial, &out, Affine::new(0, write));
    let backwards: Vec<Backwards> = windows.iter().map(Backwards::of).collect();
    let steps: Vec<i64> = op.steps(&x.shape[2..]).iter().map(|step| *step as i64).collect();
    let plane: i64 = x.shape[2..].iter().product::<usize>() as i64;
    // The element that is read and its index move alike.
    let follow = |batch: i64, channel: i64, along: &[i64]| {
        let mut at = Affine::new(0, vec![0; extents.len()]);
        (at.strides[0], at.strides[1]) = (batch, channel);
        for (d, (window, step)) in backwards.iter().zip(along).enumerate() {
            at.base += window.first * step;
            at.strides[2 + d] = window.stride * step;
            at.strides[2 + spatial + d] = -window.dilation * step;
        }
        at
    };
    for (d, (window, backwards)) in windows.iter().zip(&backwards).enumerate() {
        let mut at = Affine::new(backwards.first, vec![0; extents.len()]);
        at.strides[2 + d] = backwards.stride;
        at.strides[2 + spatial + d] = -backwards.dilation;
        call.guard(at, window.input);
    }
    call.input("x", &x, follow(x.strides[0], x.strides[1], &x.strides[2..]));
    call.nest.position = follow(x.shape[1] as i64 * plane, plane, &steps);
    let combine = Combine::Arg { min: false, last: true };
    call.compute(vec![extremes(x.dtype)[0]], vec![Inst::Load(0)], combine, vec![Inst::Position]);
    call.run(cx);
    Ok(())
}

/// A window whose last tap comes first: coordinate `first + stride at - dilation tap`.
struct Backwards {
    first: i64,
    stride: i64,
    dilation: i64,
}

impl Backwards {
    fn of(window: &Window) -> Self {
        let (stride, dilation) = (window.stride as i64, window.dilation as i64);
        Self { first: window.coordinate(0, window.kernel.saturating_sub(1)), stride, dilation }
    }
}
