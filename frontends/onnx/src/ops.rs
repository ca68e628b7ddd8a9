//! Import functions, by family: each turns one ONNX node into operators of the IR, or refuses it by name.
//!
//! An import function reads the node's attributes for the opset version at hand, checks what the IR's own shape rules do not
//! (arity, attribute forms, which inputs must be known at compile time), and emits. A variant that it does not handle is
//! [`Context::unsupported`](crate::context::Context::unsupported), never an approximation.

pub(crate) mod activation;
pub(crate) mod attention;
pub(crate) mod carry;
pub(crate) mod classical;
pub(crate) mod constant;
pub(crate) mod conv;
pub(crate) mod early;
pub(crate) mod einsum;
pub(crate) mod elementwise;
pub(crate) mod fused;
pub(crate) mod grams;
pub(crate) mod indexing;
pub(crate) mod linear;
pub(crate) mod losses;
pub(crate) mod movement;
pub(crate) mod narrow;
pub(crate) mod normalization;
pub(crate) mod optimizers;
pub(crate) mod pool;
pub(crate) mod power;
pub(crate) mod qlinear;
pub(crate) mod quantize;
pub(crate) mod recurrent;
pub(crate) mod reduce;
pub(crate) mod regions;
pub(crate) mod resize;
pub(crate) mod rotary;
pub(crate) mod sampling;
pub(crate) mod selection;
pub(crate) mod shape;
pub(crate) mod spectral;
pub(crate) mod support;
pub(crate) mod transformer;
pub(crate) mod trees;
pub(crate) mod trigonometry;
pub(crate) mod unary;
pub(crate) mod unique;
mod window;
