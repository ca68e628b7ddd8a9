//! The operator table: one line per operator.
//!
//! An operator is its attributes plus four things, in this order in its own file: the shape rule ([`Operation::infer`]), the
//! reference evaluation ([`Operation::evaluate`]), the gradient rule ([`Operation::gradient`]), if it has one, and its tests. Most operators have one result and implement [`OneResult`]; the
//! others implement [`Operation`] itself. Logical axis order is ONNX's. Operators see operand types, never the graph.

pub(crate) mod arithmetic;
pub(crate) mod attributes;
pub(crate) mod decomposition;
pub(crate) mod error_bound;
pub mod gradient;
pub mod literal;
#[cfg(test)]
mod properties;
pub(crate) mod shapes;
pub mod window;

use crate::error::OpError;
use crate::scalar::{BinaryFn, UnaryFn};
use crate::types::TensorType;
use attributes::{Attr, AttrReader};
pub use decomposition::Decomposition;
pub use gradient::GradientContext;
use literal::Literal;
pub use shapes::around_axis;

/// What every operator of the table provides.
pub trait Operation {
    /// The mnemonic of the text form.
    fn name(&self) -> &'static str;
    /// The attributes that differ from their defaults, in order.
    fn attributes(&self) -> Vec<(&'static str, Attr)>;
    /// The types of the results, at least one, for operands of types `inputs`; checks their number, types and shapes.
    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError>;
    /// The results by plain loops: f64 accumulation, rounded once to the result's type. `inputs` have passed [`Self::infer`].
    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError>;
    /// Multiply-accumulates of convolutions and linear layers, of whose first result `output` is the type; 0 for everything else.
    fn macs(&self, _inputs: &[&TensorType], _output: &TensorType) -> u64 {
        0
    }
    /// For a linear operator, the sum of the magnitudes of the terms of each element of its result: the error of any order
    /// of summation is bounded by it.
    fn magnitude(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(error_bound::not_linear(self.name()))
    }
    /// For a linear operator, the number of terms that an element of its result sums, bias and residual included.
    fn terms(&self, _inputs: &[&TensorType]) -> Result<usize, OpError> {
        Err(error_bound::not_linear(self.name()))
    }
    /// The operator in terms of others, for operands of types `inputs`, which have passed [`Self::infer`]: how it is lowered if it has no
    /// lowering of its own.
    fn decompose(&self, _inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        Ok(None)
    }
    /// The operator in terms of operators that have gradient rules, for operands of types `inputs`, if it has none itself because it
    /// stands for several: what is differentiated in its place.
    fn unfused(&self, _inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        Ok(None)
    }
    /// The gradients of its operands from those of its results, of which there is at least one: sets every one that is wanted and not zero.
    fn gradient(&self, _cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        Err(gradient::no_rule(self.name()))
    }
}

/// An operator of one result; its functions are those of [`Operation`], which follows from it.
pub trait OneResult {
    /// The mnemonic of the text form.
    fn name(&self) -> &'static str;
    /// The attributes that differ from their defaults, in order.
    fn attributes(&self) -> Vec<(&'static str, Attr)>;
    /// The type of the result for operands of types `inputs`; checks their number, types and shapes.
    fn infer(&self, inputs: &[&TensorType]) -> Result<TensorType, OpError>;
    /// The result by plain loops: f64 accumulation, rounded once to the result's type. `inputs` have passed [`Self::infer`].
    fn evaluate(&self, inputs: &[&Literal]) -> Result<Literal, OpError>;
    /// Multiply-accumulates of convolutions and linear layers; 0 for everything else.
    fn macs(&self, _inputs: &[&TensorType], _output: &TensorType) -> u64 {
        0
    }
    /// For a linear operator, the sum of the magnitudes of the terms of each element of its result: the error of any order
    /// of summation is bounded by it.
    fn magnitude(&self, _inputs: &[&Literal]) -> Result<Literal, OpError> {
        Err(error_bound::not_linear(self.name()))
    }
    /// For a linear operator, the number of terms that an element of its result sums, bias and residual included.
    fn terms(&self, _inputs: &[&TensorType]) -> Result<usize, OpError> {
        Err(error_bound::not_linear(self.name()))
    }
    /// The operator in terms of others, for operands of types `inputs`, which have passed [`Self::infer`]: how it is lowered if it has no
    /// lowering of its own.
    fn decompose(&self, _inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        Ok(None)
    }
    /// The operator in terms of operators that have gradient rules, for operands of types `inputs`, if it has none itself because it
    /// stands for several: what is differentiated in its place.
    fn unfused(&self, _inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        Ok(None)
    }
    /// The gradients of its operands from those of its results, of which there is at least one: sets every one that is wanted and not zero.
    fn gradient(&self, _cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        Err(gradient::no_rule(self.name()))
    }
}

/// The result of an operator that has one.
pub fn only<T>(results: Vec<T>) -> Result<T, OpError> {
    let count = results.len().to_string();
    let mut results = results.into_iter();
    match (results.next(), results.next()) {
        (Some(result), None) => Ok(result),
        _ => Err(OpError::new("results", "one", count)),
    }
}

impl<T: OneResult> Operation for T {
    fn name(&self) -> &'static str {
        OneResult::name(self)
    }

    fn attributes(&self) -> Vec<(&'static str, Attr)> {
        OneResult::attributes(self)
    }

    fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
        Ok(vec![OneResult::infer(self, inputs)?])
    }

    fn evaluate(&self, inputs: &[&Literal]) -> Result<Vec<Literal>, OpError> {
        Ok(vec![OneResult::evaluate(self, inputs)?])
    }

    fn macs(&self, inputs: &[&TensorType], output: &TensorType) -> u64 {
        OneResult::macs(self, inputs, output)
    }

    fn magnitude(&self, inputs: &[&Literal]) -> Result<Literal, OpError> {
        OneResult::magnitude(self, inputs)
    }

    fn terms(&self, inputs: &[&TensorType]) -> Result<usize, OpError> {
        OneResult::terms(self, inputs)
    }

    fn decompose(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        OneResult::decompose(self, inputs)
    }

    fn unfused(&self, inputs: &[&TensorType]) -> Result<Option<Decomposition>, OpError> {
        OneResult::unfused(self, inputs)
    }

    fn gradient(&self, cx: &mut GradientContext<'_>) -> Result<(), OpError> {
        OneResult::gradient(self, cx)
    }
}

/// Declares the operator table: module, type, and the mnemonic that parses to it, or a list of them.
macro_rules! table {
    (@list $mnemonic:literal) => { [$mnemonic] };
    (@list ..$mnemonics:expr) => { $mnemonics };
    ($($module:ident :: $op:ident $about:literal [$($mnemonics:tt)+];)*) => {
        $(pub mod $module;)*
        $(pub use $module::$op;)*

        /// An operator with its attributes.
        #[derive(Clone, PartialEq, Debug)]
        pub enum Op { $(#[doc = $about] $op($op)),* }

        impl Op {
            fn inner(&self) -> &(dyn Operation + 'static) {
                match self { $(Self::$op(op) => op),* }
            }

            /// [`Operation::infer`] of operands of addressable sizes, so that no shape rule multiplies extents that overflow.
            ///
            /// # Errors
            /// An operand of no addressable size, and what the operator's shape rule says.
            pub fn infer(&self, inputs: &[&TensorType]) -> Result<Vec<TensorType>, OpError> {
                inputs.iter().try_for_each(|ty| shapes::expect_addressable("operands", ty))?;
                self.inner().infer(inputs)
            }

            /// Every mnemonic of every operator, in table order.
            pub fn mnemonics() -> Vec<&'static str> {
                [$(&table!(@list $($mnemonics)+)[..]),*].concat()
            }

            /// Reads an operator from its mnemonic and attributes; `None` if no operator has that mnemonic.
            pub fn parse(mnemonic: &str, reader: AttrReader) -> Option<Result<Self, OpError>> {
                $(if table!(@list $($mnemonics)+).contains(&mnemonic) {
                    return Some($op::read(mnemonic, reader).map(Self::$op));
                })*
                None
            }
        }
        $(impl From<$op> for Op { fn from(op: $op) -> Self { Self::$op(op) } })*
    };
}

impl std::ops::Deref for Op {
    type Target = dyn Operation;
    fn deref(&self) -> &Self::Target {
        self.inner()
    }
}

table! {
    conv::Conv "convolution with bias, residual and activation" ["conv"];
    conv_with_slope::ConvWithSlope "convolution with the slope of its activation" ["conv_with_slope"];
    conv_transpose::ConvTranspose "transposed convolution" ["conv_transpose"];
    conv_data_gradient::ConvDataGradient "gradient of a convolution's operand, and what follows it" ["conv_data_gradient"];
    conv_weight_gradient::ConvWeightGradient "gradient of a convolution's weights" ["conv_weight_gradient"];
    batch_norm::BatchNorm "batch normalisation" ["batch_norm"];
    batch_statistics::BatchStatistics "mean and variance of each channel" ["batch_statistics"];
    unary::Unary "element-wise function" [..UnaryFn::MNEMONICS];
    unary_with_slope::UnaryWithSlope "element-wise function with its derivative" ["unary_with_slope"];
    unary_gradient::UnaryGradient "gradient of an element-wise function" ["unary_gradient"];
    binary::Binary "element-wise function of two operands" [..BinaryFn::MNEMONICS];
    select::Where "element-wise choice" ["where"];
    cast::Cast "conversion of the element type" ["cast"];
    reduce::Reduce "reduction over axes" ["reduce"];
    arg_reduce::ArgReduce "index of the largest or smallest element" ["arg_reduce"];
    top_k::TopK "the largest or smallest elements and their indices" ["top_k"];
    compact::Compact "the positions of true elements, and their number" ["compact"];
    non_max_suppression::NonMaxSuppression "greedy choice of boxes that do not overlap" ["non_max_suppression"];
    pool::Pool "windowed maximum or average" ["pool"];
    max_pool::MaxPool "windowed maximum and its indices" ["max_pool"];
    max_pool_gradient::MaxPoolGradient "gradient of a windowed maximum" ["max_pool_gradient"];
    matmul::MatMul "matrix product" ["matmul"];
    gemm::Gemm "general matrix product" ["gemm"];
    softmax::Softmax "softmax and its logarithm" ["softmax"];
    lrn::Lrn "local response normalisation" ["lrn"];
    resize::Resize "resampling" ["resize"];
    reshape::Reshape "another shape" ["reshape"];
    transpose::Transpose "permutation of axes" ["transpose"];
    concat::Concat "concatenation" ["concat"];
    slice::Slice "strided box" ["slice"];
    split::Split "consecutive parts along an axis" ["split"];
    pad::Pad "padding" ["pad"];
    gather::Gather "selection by index" ["gather"];
    gather_elements::GatherElements "selection by index, element by element" ["gather_elements"];
    expand::Expand "broadcast to a shape" ["expand"];
    tile::Tile "repetition" ["tile"];
    identity::Identity "the operand itself" ["identity"];
    squeeze_excite::SqueezeExcite "squeeze-and-excite" ["squeeze_excite"];
    mbconv::MbConv "inverted residual block" ["mbconv"];
}
