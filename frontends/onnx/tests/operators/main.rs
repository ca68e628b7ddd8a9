//! Every operator family, one node at a time: attribute and input forms by version, and what is refused.
//!
//! Plain values are covered by ONNX's own cases (`tests/conformance`), which know the newest version of an operator only.

mod activation;
mod constant;
mod conv;
mod elementwise;
mod grams;
mod linear;
mod movement;
mod narrow;
mod node;
mod normalization;
mod optimizers;
mod pool;
mod quantize;
mod recurrent;
mod reduce;
mod regions;
mod resize;
mod rules;
mod selection;
mod shape;
mod trees;
mod values;
