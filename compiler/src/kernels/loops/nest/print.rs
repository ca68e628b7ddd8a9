//! The text of a nest, without a title: what reads back, and what the names of nests are hashes of.
//!
//! In: a nest. Out: lines, the same for equal nests, others for different ones.

use std::fmt;

use super::{Affine, Combine, Entry, Inst, LoopNest, Output};

impl fmt::Display for LoopNest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "over {:?}, reduced {}", self.extents, self.reduced)?;
        for x in &self.inputs {
            write!(f, "  input {} : {} x {} at {}", x.name, x.dtype, x.elements, x.at)?;
            x.lookups.iter().try_for_each(|(table, factor)| write!(f, " lookup {table} times {factor}"))?;
            writeln!(f)?;
        }
        for t in &self.tables {
            write!(f, "  table {} : {} x {} at {}", t.name, t.dtype, t.elements, t.at)?;
            match t.entry {
                Entry::Skip => writeln!(f, " skip")?,
                Entry::Wrap(extent) => writeln!(f, " wrap {extent}")?,
            }
        }
        for guard in &self.guards {
            writeln!(f, "  guard {} below {}", guard.at, guard.below)?;
        }
        let Output { dtype, elements, at } = &self.output;
        writeln!(f, "  output {dtype} x {elements} at {at}")?;
        if self.position.base != 0 || self.position.strides.iter().any(|stride| *stride != 0) {
            writeln!(f, "  position {}", self.position)?;
        }
        for (name, program) in [("init", &self.init), ("body", &self.body), ("finish", &self.finish)] {
            for (id, inst) in program.iter().enumerate() {
                writeln!(f, "  {name} %{id} = {inst}")?;
            }
        }
        writeln!(f, "  combine {}", self.combine)
    }
}

impl fmt::Display for Affine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} + {:?}", self.base, self.strides)
    }
}

impl fmt::Display for Combine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Combine::Last => "last",
            Combine::Sum => "sum",
            Combine::SumProduct => "sum_product",
            Combine::Max => "max",
            Combine::Min => "min",
            Combine::Prod => "prod",
            Combine::Arg { min: false, last: false } => "arg_max",
            Combine::Arg { min: false, last: true } => "arg_max_last",
            Combine::Arg { min: true, last: false } => "arg_min",
            Combine::Arg { min: true, last: true } => "arg_min_last",
        })
    }
}

impl fmt::Display for Inst {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Inst::Load(input) => write!(f, "load {input}"),
            Inst::Float(bits) => write!(f, "float {bits:#010x}"),
            Inst::Double(bits) => write!(f, "double {bits:#018x}"),
            Inst::Int(value) => write!(f, "int {value}"),
            Inst::Unsigned(value) => write!(f, "unsigned {value}"),
            Inst::Accumulated => f.write_str("accumulated"),
            Inst::Position => f.write_str("position"),
            Inst::Unary(function, a) => {
                let (name, parameters) = function.spelling();
                write!(f, "unary {name}")?;
                parameters.iter().try_for_each(|p| write!(f, " {:#010x}", p.to_bits()))?;
                write!(f, " %{a}")
            }
            Inst::Binary(function, a, b) => write!(f, "binary {} %{a} %{b}", function.name()),
            Inst::Fma(a, b, c) => write!(f, "fma %{a} %{b} %{c}"),
            Inst::Select(a, b, c) => write!(f, "select %{a} %{b} %{c}"),
            Inst::ToFloat(a) => write!(f, "to_float %{a}"),
            Inst::ToDouble(a) => write!(f, "to_double %{a}"),
            Inst::ToInt(dtype, a) => write!(f, "to_int {dtype} %{a}"),
            Inst::Wrap(dtype, a) => write!(f, "wrap {dtype} %{a}"),
        }
    }
}
