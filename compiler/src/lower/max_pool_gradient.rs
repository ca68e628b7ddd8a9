//! Lowering of `max_pool_gradient`: a nest over the elements of the result; of the windows that meet one, those whose maximum it was
//! are summed, taps ascending.

use super::Lower;
use super::context::Lowering;
use super::fallback::along;
use super::nests::{NestCall, View, expect_f32, float, index_table};
use crate::kernels::loops::nest::{Combine, Entry, Inst};
use fornax_ir::OpError;
use fornax_ir::ops::MaxPoolGradient;
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::DType;

impl Lower for MaxPoolGradient {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("dy", cx.ty.dtype)?;
        let (_, windows) = self.windows(cx.operand_type(0))?;
        let (spatial, order) = (windows.len(), cx.order(0));
        let (dy, indices) = (View::operand(cx, 0)?, View::operand(cx, 1)?);
        let out = cx.output(order);
        let out = View::of(cx, out);
        let extents: Vec<usize> = out.shape.iter().copied().chain(windows.iter().map(|w| w.kernel)).collect();
        let rank = extents.len();
        let write: Vec<(usize, i64)> = out.strides.iter().copied().enumerate().collect();
        let mut call = NestCall::new("max_pool_gradient", &extents, spatial, &out, along(rank, 0, &write));
        let at = |view: &View| along(rank, 0, &[(0, view.strides[0]), (1, view.strides[1])]);
        let (gradient, index) = (call.input("dy", &dy, at(&dy)), call.input("indices", &indices, at(&indices)));
        for (d, window) in windows.iter().enumerate() {
            // Entry (element, tap): the window whose tap meets the element.
            let meets = |element: usize, tap: usize| {
                let first = element as i64 + window.begin - (tap * window.dilation) as i64;
                let position = first.div_euclid(window.stride as i64);
                let inside =
                    first.rem_euclid(window.stride as i64) == 0 && (0..window.output as i64).contains(&position);
                if inside { position } else { -1 }
            };
            let pairs = (0..window.input).flat_map(|at| (0..window.kernel).map(move |tap| (at, tap)));
            let table = index_table(cx, &pairs.map(|(at, tap)| meets(at, tap)).collect::<Vec<_>>())?;
            let at = along(rank, 0, &[(2 + d, window.kernel as i64), (2 + spatial + d, 1)]);
            let table = call.table("source", &table, at, Entry::Skip);
            call.nest.inputs[gradient].lookups.push((table, dy.strides[2 + d]));
            call.nest.inputs[index].lookups.push((table, indices.strides[2 + d]));
        }
        // The element's own index: the sum of what its coordinate along each axis adds.
        let mut body = vec![Inst::Load(gradient), Inst::Load(index)];
        let mut own = None;
        for (axis, name) in (0..spatial + 2).zip(["n", "c", "i", "j", "k"]) {
            let step = out.shape[axis + 1..].iter().product::<usize>() as i64;
            let entries: Vec<i64> = (0..out.shape[axis] as i64).map(|i| i * step).collect();
            let table = index_table(cx, &entries)?;
            debug_assert_eq!(table.dtype, DType::I32);
            let load = call.input(name, &table, along(rank, 0, &[(axis, 1)]));
            body.push(Inst::Load(load));
            let last = body.len() - 1;
            if let Some(sum) = own {
                body.push(Inst::Binary(BinaryFn::Add, sum, last));
            }
            own = Some(body.len() - 1);
        }
        let own = own.unwrap_or(0);
        let next = body.len();
        body.extend([Inst::Binary(BinaryFn::Equal, 1, own), float(0.0), Inst::Select(next, 0, next + 1)]);
        call.compute(vec![float(0.0)], body, Combine::Sum, Vec::new());
        call.run(cx);
        Ok(())
    }
}
