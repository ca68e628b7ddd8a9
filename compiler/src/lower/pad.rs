//! Lowering of `pad`.

use super::Lower;
use super::context::Lowering;
use super::nests::{NestCall, View, index_table};
use crate::kernels::loops::nest::{Affine, Combine, Entry, Inst};
use fornax_ir::OpError;
use fornax_ir::ops::Pad;
use fornax_ir::ops::literal::Literal;
use fornax_ir::ops::pad::PadMode;
use fornax_ir::types::{DType, TensorType};

impl Lower for Pad {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        let x = View::operand(cx, 0)?;
        let order = cx.order(0);
        let out = cx.output(order);
        let out = View::of(cx, out);
        let shape = cx.ty.shape.to_vec();
        let padded = |axis: &usize| self.pads[*axis] != 0 || self.pads[*axis + shape.len()] != 0;
        let axes: Vec<usize> = (0..shape.len()).filter(padded).collect();
        let mut at = Affine::new(0, x.strides.clone());
        let constant = self.mode == PadMode::Constant;
        let mut tables = Vec::new();
        for axis in axes {
            if constant {
                at.base -= self.pads[axis] * x.strides[axis];
            } else {
                at.strides[axis] = 0;
                let source = |i| self.source(axis, x.shape[axis], i).map_or(-1, |at| at as i64);
                tables.push((axis, index_table(cx, &(0..shape[axis]).map(source).collect::<Vec<_>>())?));
            }
        }
        let (x, out) = (x.moved(), out.moved());
        let mut call = NestCall::new("pad", &shape, 0, &out, Affine::new(0, out.strides.clone()));
        let along = |axis: usize| (0..shape.len()).map(|other| i64::from(other == axis)).collect::<Vec<_>>();
        let input = call.input("x", &x, at);
        if constant {
            for axis in 0..shape.len() {
                call.guard(Affine::new(-self.pads[axis], along(axis)), x.shape[axis]);
            }
        }
        for (axis, table) in tables {
            let table = call.table("source", &table, Affine::new(0, along(axis)), Entry::Skip);
            call.nest.inputs[input].lookups.push((table, x.strides[axis]));
        }
        call.compute(vec![fill(self, cx.ty.dtype)], vec![Inst::Load(input)], Combine::Last, Vec::new());
        call.run(cx);
        Ok(())
    }
}

/// The constant as the bits that elements of `dtype` move in.
fn fill(op: &Pad, dtype: DType) -> Inst {
    let ty = TensorType::new(dtype, [1]);
    let element = match dtype.is_float() {
        true => Literal::new_float(ty, vec![op.value]),
        false => Literal::new_int(ty, vec![op.value as i64]),
    };
    let mut bits = [0; 8];
    bits[..dtype.size()].copy_from_slice(&element.to_bytes());
    let bits = u64::from_le_bytes(bits);
    match dtype {
        DType::F64 => Inst::Double(bits),
        DType::U64 => Inst::Unsigned(bits),
        _ if dtype.size() == 4 => Inst::Float(bits as u32),
        _ => Inst::Int(bits as i64),
    }
}
