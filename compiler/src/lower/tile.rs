//! Lowering of `tile`.

use super::Lower;
use super::context::Lowering;
use super::nests::{View, copy};
use crate::kernels::loops::nest::Affine;
use fornax_ir::OpError;
use fornax_ir::ops::Tile;

impl Lower for Tile {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?;
        let order = cx.order(0);
        let out = cx.output(order);
        let out = View::of(cx, out);
        // Each axis of the result is two of the nest: the copy, and the element in it.
        let pairs = self.repeats.iter().zip(&x.shape);
        let extents: Vec<usize> = pairs.flat_map(|(repeats, extent)| [*repeats, *extent]).collect();
        let read: Vec<i64> = x.strides.iter().flat_map(|stride| [0, *stride]).collect();
        let steps = out.strides.iter().zip(&x.shape);
        let write: Vec<i64> = steps.flat_map(|(stride, extent)| [stride * *extent as i64, *stride]).collect();
        copy(cx, "tile", &extents, &x, Affine::new(0, read), &out, Affine::new(0, write));
        Ok(())
    }
}
