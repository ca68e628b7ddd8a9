//! Every operator family, one node at a time: attribute and input forms by version, and what is refused.
//!
//! Plain values are covered by ONNX's own cases (`tests/conformance`), which know the newest version of an operator only.

mod activation;
mod constant;
mod conv;
mod elementwise;
mod linear;
mod movement;
mod node;
mod normalization;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod rules;
mod selection;
mod shape;
mod values;
