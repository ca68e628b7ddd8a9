//! The text of a graph: one line per node, in topological order.
//!
//! ```text
//! graph @gate(%x: f32[1,96,56,56]) {
//!   %w = constant f32[24,96,1,1] random(7)  ; from "features.conv.weight"
//!   %k = constant i64[2] [1, -1]
//!   %n = state "runs" f32[] [0]
//!   %c = conv %x, %w {then=silu} : f32[1,24,56,56]  ; from "/features/conv"
//!   %v, %i = top_k %c {k=3} : f32[1,24,56,3], i64[1,24,56,3]
//!   return %c as "logits"
//!   update %n <- %m
//! }
//! ```
//!
//! Constants of up to 16 elements print their values, larger ones `hash(…)`; random ones always
//! `random(seed)`. Numbers print with the shortest digits that read back to the same bits. [`super::parse()`] is the
//! inverse.

use std::fmt::{self, Write};

use super::nodes::{Graph, Kind, NodeId, Variable};
use crate::ops::Op;
use crate::ops::attributes::Attr;
use crate::types::{Constant, DType, Payload};

/// Largest number of elements of a constant that prints as values.
pub(crate) const INLINE: usize = 16;

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "graph @{}(", name(&self.name))?;
        for (i, id) in self.inputs().iter().enumerate() {
            let node = self.node(*id);
            write!(f, "{}%{}: {}", if i > 0 { ", " } else { "" }, name(&node.name), node.ty)?;
        }
        f.write_str(") {\n")?;
        let order = self.topological().unwrap_or_else(|_| self.ids().collect());
        for id in order.into_iter().filter(|id| !self.inputs().contains(id)) {
            writeln!(f, "  {}", line(self, id))?;
        }
        f.write_str("  return")?;
        for (i, (output, value)) in self.outputs().iter().enumerate() {
            let value = if self.contains(value.node) { name(self.name_of(*value)) } else { "?".into() };
            write!(f, "{} %{value} as {}", if i > 0 { "," } else { "" }, quoted(output))?;
        }
        f.write_str("\n")?;
        for (variable, value) in self.updates() {
            let value = if self.contains(value.node) { name(self.name_of(*value)) } else { "?".into() };
            writeln!(f, "  update %{} <- %{value}", name(&self.node(*variable).name))?;
        }
        f.write_str("}\n")
    }
}

/// The line of one node, without indentation.
pub(crate) fn line(graph: &Graph, id: NodeId) -> String {
    let node = graph.node(id);
    let names: Vec<String> = node.results().map(|(result, _)| format!("%{}", name(result))).collect();
    let mut out = format!("{} = ", names.join(", "));
    let origins = match &node.kind {
        Kind::Input => {
            _ = write!(out, "input : {}", node.ty);
            &node.origins
        }
        Kind::Constant(c) => {
            _ = write!(out, "constant {} {}", c.ty, elements(c));
            &c.origins
        }
        Kind::Parameter(variable) | Kind::State(variable) => {
            let Variable { name, initial } = variable;
            _ = write!(out, "{} {} {} {}", node.mnemonic(), quoted(name), initial.ty, elements(initial));
            &initial.origins
        }
        Kind::Op(op) => {
            let operands: Vec<String> =
                graph.operands(id).into_iter().map(|o| format!("%{}", name(graph.name_of(o)))).collect();
            let types: Vec<String> = node.results().map(|(_, ty)| ty.to_string()).collect();
            _ = write!(out, "{} {}{} : {}", op.name(), operands.join(", "), attributes(op), types.join(", "));
            &node.origins
        }
    };
    if !origins.is_empty() {
        _ = write!(out, "  ; from {}", list(origins));
        for (part, origins) in &node.parts {
            _ = write!(out, "; {part} {}", list(origins));
        }
    }
    out
}

/// Names in quotes.
fn list(names: &[String]) -> String {
    names.iter().map(|name| quoted(name)).collect::<Vec<_>>().join(", ")
}

/// The attributes of an operator with a leading space, ` {strides=[2, 2], then=silu}`; empty if all are defaults.
pub(crate) fn attributes(op: &Op) -> String {
    let attrs: Vec<String> = op.attributes().iter().map(|(name, attr)| format!("{name}={attr}")).collect();
    if attrs.is_empty() { String::new() } else { format!(" {{{}}}", attrs.join(", ")) }
}

/// The elements of a constant: `[1, -1]`, `random(7)` or `hash(0x0123456789abcdef)`.
pub(crate) fn elements(constant: &Constant) -> String {
    if let Payload::Random(seed) = constant.payload {
        return format!("random({seed})");
    }
    match constant.bytes() {
        Some(bytes) if constant.ty.shape.numel() <= INLINE => {
            let size = constant.ty.dtype.size();
            let items: Vec<String> = bytes.chunks_exact(size).map(|c| element(constant.ty.dtype, c)).collect();
            format!("[{}]", items.join(", "))
        }
        _ => format!("hash({:#018x})", constant.hash()),
    }
}

/// One element from its little-endian bytes.
fn element(dtype: DType, bytes: &[u8]) -> String {
    let mut wide = [0u8; 8];
    wide[..bytes.len()].copy_from_slice(bytes);
    let bits = u64::from_le_bytes(wide);
    let signed = |size: u32| (bits << (64 - size)) as i64 >> (64 - size);
    let narrow = |v: f32, canonical: u64| if v.is_nan() { nan(bits, canonical) } else { number32(v) };
    match dtype {
        DType::F64 => {
            let v = f64::from_bits(bits);
            if v.is_nan() { nan(bits, 0x7ff8_0000_0000_0000) } else { number(v) }
        }
        DType::F32 => narrow(f32::from_bits(bits as u32), 0x7fc0_0000),
        DType::F16 => narrow(half::f16::from_bits(bits as u16).to_f32(), 0x7e00),
        DType::BF16 => narrow(half::bf16::from_bits(bits as u16).to_f32(), 0x7fc0),
        DType::I8 => signed(8).to_string(),
        DType::I16 => signed(16).to_string(),
        DType::I32 => signed(32).to_string(),
        DType::I64 => signed(64).to_string(),
        DType::Bool if bits < 2 => (bits == 1).to_string(),
        _ => bits.to_string(),
    }
}

/// A NaN; its bits where they are not the canonical ones.
fn nan(bits: u64, canonical: u64) -> String {
    if bits == canonical { "nan".into() } else { format!("nan({bits:#x})") }
}

/// Shortest digits of an `f64`; integers without a point.
pub(crate) fn number(v: f64) -> String {
    if v.is_nan() {
        "nan".into()
    } else if v.fract() == 0.0 && v.abs() < 1e9 && (v != 0.0 || v.is_sign_positive()) {
        format!("{}", v as i64)
    } else {
        format!("{v:?}")
    }
}

/// Shortest digits of an `f32`; integers without a point.
pub(crate) fn number32(v: f32) -> String {
    if v.fract() == 0.0 && v.abs() < 1e6 { number(f64::from(v)) } else { format!("{v:?}") }
}

impl fmt::Display for Attr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Int(v) => write!(f, "{v}"),
            Self::Float(v) => f.write_str(&number(*v)),
            Self::Bool(v) => write!(f, "{v}"),
            Self::Word(word, args) if args.is_empty() => f.write_str(word),
            Self::Word(word, args) => {
                let args: Vec<String> = args.iter().map(|v| number(*v)).collect();
                write!(f, "{word}({})", args.join(", "))
            }
            Self::List(items) => {
                let items: Vec<String> = items.iter().map(Self::to_string).collect();
                write!(f, "[{}]", items.join(", "))
            }
        }
    }
}

/// Whether a name may stand without quotes.
fn is_plain(c: char) -> bool {
    c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '/' | '-')
}

/// A name as it follows `%` or `@`: a plain word, or quoted.
pub fn name(text: &str) -> String {
    if !text.is_empty() && text.chars().all(is_plain) { text.into() } else { quoted(text) }
}

/// A string in quotes, on one line.
pub fn quoted(text: &str) -> String {
    let mut out = String::from('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            c if c.is_control() => _ = write!(out, "\\u{{{:x}}}", c as u32),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
