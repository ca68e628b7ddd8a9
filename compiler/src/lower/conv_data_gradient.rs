//! Lowering of `conv_data_gradient`: the kernels of transposed convolutions, and what follows as their epilogue; its parts where none
//! applies.

use super::Lower;
use super::context::Lowering;
use super::conv_transpose::{native, run};
use super::decompose;
use super::nests::expect_f32;
use crate::codegen::epilogue::{Epilogue, EpilogueOp};
use fornax_ir::OpError;
use fornax_ir::ops::{ConvDataGradient, Op};

impl Lower for ConvDataGradient {
    fn lower(&self, cx: &mut Lowering<'_>) -> Result<(), OpError> {
        expect_f32("dy", cx.ty.dtype)?;
        let conv = self.conv();
        let windows = conv.windows(cx.operand_type(0), cx.operand_type(1))?;
        let mut epilogue = Epilogue::new(None, self.residual, false);
        if self.factor {
            epilogue = epilogue.then(EpilogueOp::Factor);
        }
        if let Some(function) = self.function {
            epilogue = epilogue.then(EpilogueOp::Derivative(function));
        }
        let maps: Vec<usize> = (2..cx.count()).collect();
        // The derivatives of other functions are no chains of choices.
        let cheap = self.function.is_none_or(|function| function.derivative_is_of_value());
        match native(&conv, cx, &windows, &epilogue).filter(|_| cheap) {
            Some(kernel) => run(cx, kernel, None, &maps),
            None => decompose::lower(&Op::from(self.clone()), cx),
        }
    }
}
