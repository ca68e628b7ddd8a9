//! Parts of the compiler that only the tests and benches of its workspace reach for: single kernels, plans built by hand, lowering alone.
//!
//! Semantic versioning does not cover this module: anything here may change or go in any version.

mod plain;

pub use crate::codegen::epilogue::{Epilogue, EpilogueOp};
pub use crate::codegen::math::error_bound;
pub use crate::codegen::math::wide::error_bound as error_bound_f64;
pub use crate::emit::{MachineCode, compile as compile_kernels};
pub use crate::kernels::conv::{Axis as ConvAxis, Input as ConvInput, Schedule as ConvSchedule};
pub use crate::kernels::pool::Kind as PoolKind;
pub use crate::kernels::sliding::Sliding;
pub use crate::kernels::{
    Access, ChannelWeightGradient, Conv, Depthwise, Family, Gate, Gemv, KernelName, Mean, Pack, Pool, Ring, Schedule,
    Softmax, Spec, WeightGradient,
};
pub use crate::lower::lower;
pub use crate::plan::builder::PlanBuilder;
pub use crate::plan::{AxisOrder, Operand};
pub use plain::plain;
