//! Convolution: `y = then(conv(x, w) + bias + residual)`.
//!
//! Operands: `x [N, C, spatial…]`, `w [M, C / group, kernel…]`, then `bias [M]` if `bias`, then `residual` (the type of the
//! result) if `residual`. Result `[N, M, spatial…]`, each extent `(in + pads - dilation (k - 1) - 1) / stride + 1`.
//! Epilogue order: bias, residual, `then`; with `then_first` the activation comes before the residual (Fused-MBConv, expansion 1).

use super::Operation;
use super::attributes::attributes;
use super::attributes::{Attr, AttrReader};
use super::literal::Literal;
use super::shapes::{
    check, checked, expect_activation, expect_dtype, expect_float, expect_operands, expect_rank, expect_type,
};
use super::window::{Window, WindowAttrs};
use crate::error::OpError;
use crate::plan::lowering::Lowering;
use crate::scalar::UnaryFn;
use crate::types::{Shape, TensorType};

attributes! {
    /// Attributes of a convolution with any number of spatial axes.
    pub struct Conv {
        /// Stride of each spatial axis.
        pub strides: Vec<usize> = vec![1, 1],
        /// Padding: all begins, then all ends.
        pub pads: Vec<usize> = vec![0, 0, 0, 0],
        /// Dilation of each spatial axis.
        pub dilations: Vec<usize> = vec![1, 1],
        /// Number of groups.
        pub group: usize = 1,
        /// Whether a bias operand follows the weight.
        pub bias: bool = false,
        /// Whether the last operand is added to the result.
        pub residual: bool = false,
        /// Whether the activation applies before the residual is added.
        pub then_first: bool = false,
        /// Activation of the result.
        pub then: Option<UnaryFn> = None,
    }
}

impl Conv {
    /// Reads the operator from its text form.
    pub fn read(_mnemonic: &str, reader: AttrReader) -> Result<Self, OpError> {
        Self::from_attrs(reader)
    }

    /// The window of each spatial axis, for operands of types `x` and `w`. Checks ranks, channels and groups.
    pub fn windows(&self, x: &TensorType, w: &TensorType) -> Result<Vec<Window>, OpError> {
        expect_rank("x", 3, x)?;
        let rank = x.shape.rank();
        check(w.shape.rank() == rank, "w", || format!("rank {rank}"), || w.to_string())?;
        let (channels, filters, group) = (x.shape[1], w.shape[0], self.group);
        check(group > 0, "group", || "at least 1".into(), || group.to_string())?;
        check(channels % group == 0, "group", || format!("a divisor of {channels} channels"), || group.to_string())?;
        check(filters % group == 0, "group", || format!("a divisor of {filters} filters"), || group.to_string())?;
        check(w.shape[1] == channels / group, "w", || format!("{} channels", channels / group), || w.to_string())?;
        WindowAttrs {
            kernel: &w.shape[2..],
            strides: &self.strides,
            pads: &self.pads,
            dilations: &self.dilations,
            ceil_mode: false,
        }
        .windows(&x.shape[2..])
    }
}

impl Operation for Conv {
    fn name(&self) -> &'static str {
        "conv"
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        self.attrs()
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError> {
        expect_operands(inputs, 2 + usize::from(self.bias) + usize::from(self.residual))?;
        let (x, w) = (inputs[0], inputs[1]);
        expect_float("x", x)?;
        expect_dtype("w", x.dtype, w)?;
        expect_activation("then", self.then, x.dtype)?;
        let windows = self.windows(x, w)?;
        let result: Shape =
            [x.shape[0], w.shape[0]].into_iter().chain(windows.iter().map(|window| window.output)).collect();
        let result = checked(x.dtype, result)?;
        if self.bias {
            expect_type("bias", x.dtype, &w.shape[..1], inputs[2])?;
        }
        if self.residual {
            expect_type("residual", x.dtype, &result.shape, inputs[inputs.len() - 1])?;
        }
        Ok(result)
    }

    fn evaluate(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(OpError::new("operator", "an evaluator", "none"))
    }

    fn lower(&self, _cx: &mut Lowering<'_>) -> Result<(), OpError> {
        Err(OpError::new("operator", "a native kernel", "none"))
    }
}
