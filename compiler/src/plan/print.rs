//! The text of a plan: target, memory, constants, one line per kernel call; then what these lines leave out.
//!
//! ```text
//! plan @net for x86-64-v3
//! arena 4096 bytes, scratch 0 bytes, constants 128 bytes              then the state's, how many steps the prologue has, and "subnormals flushed"
//! @0 = f32[32] 5f3c…  padded to 32 : 128 bytes  ; stem.bias           what a constant is made of, the parameters it stands for
//! f32_mul_1024_h…(x=in0, y=arena+0) chunks=1 Split { … }  ; node      a step: kernel, operands, schedule, the node it belongs to
//! in0 = "image" : f32[1,3,224,224]                                    the ports
//! %7 = 4096 bytes                                                     a value that has no place yet
//! f32_depthwise_n1c48h56w56g96_h28w28_k3s2p1_bias(x=arena+0+192, …     an operand that begins 192 bytes within its value
//! update "w" state+0 from %7 : f32[4]                                 a variable of the graph and what it holds after a run, until that has a place
//! #0 from "node", "act"                                               the model's nodes that step 0 computes, if not the node alone
//! nest "mul" over [1024], reduced 0                                   the nest of a kernel whose name ends in a hash, with its name
//! ```
//!
//! [`super::parse`] reads it back. Elements of constants are not part of it.

use std::collections::BTreeSet;
use std::fmt;

use super::{Operand, Placement, Plan, Variable};
use fornax_ir::graph::print::quoted;
use fornax_runtime::FloatMode;

/// What ends the second line of a plan of [`FloatMode::Flush`].
pub(super) const FLUSHED: &str = ", subnormals flushed";

/// A name as it is; in quotes if it would not stay on its line.
pub(super) fn inline(name: &str) -> String {
    if name.starts_with('"') || name.chars().any(char::is_control) { quoted(name) } else { name.into() }
}

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan @{} for {}", inline(&self.name), self.target)?;
        write!(
            f,
            "arena {} bytes, scratch {} bytes, constants {} bytes",
            self.arena_bytes,
            self.scratch_bytes,
            self.constant_bytes()
        )?;
        if !self.variables.is_empty() {
            write!(f, ", state {} bytes", self.state_bytes())?;
        }
        if self.prologue > 0 {
            write!(f, ", prologue {} steps", self.prologue)?;
        }
        if self.float_mode() == FloatMode::Flush {
            write!(f, "{FLUSHED}")?;
        }
        writeln!(f)?;
        for Variable { kind, name, offset, initial } in &self.variables {
            writeln!(f, "state+{offset} = {kind} {} {} {:016x}", quoted(name), initial.ty, initial.hash())?;
        }
        for (i, constant) in self.constants.iter().enumerate() {
            write!(f, "@{i} = {constant} : {} bytes", constant.bytes)?;
            if !constant.origins().is_empty() {
                let origins: Vec<String> = constant.origins().iter().map(|origin| inline(origin)).collect();
                write!(f, "  ; {}", origins.join(", "))?;
            }
            writeln!(f)?;
        }
        for step in &self.steps {
            write!(f, "{}(", step.kernel.name)?;
            for (i, (operand, argument)) in step.operands.iter().zip(&step.kernel.arguments).enumerate() {
                write!(f, "{}{}={}", if i > 0 { ", " } else { "" }, argument.name, self.place(*operand))?;
            }
            writeln!(f, ") chunks={} {}  ; {}", step.kernel.chunks, step.kernel.schedule, inline(&step.node))?;
        }
        self.appendix(f)
    }
}

impl Plan {
    /// Where an operand lies, as text.
    fn place(&self, operand: Operand) -> String {
        let place = match self.placement(operand) {
            Placement::Unplaced => format!("%{}", self.buffer(operand).map_or(0, |buffer| buffer.0)),
            Placement::Arena(offset) => format!("arena+{offset}"),
            Placement::Input(index) => format!("in{index}"),
            Placement::Output(index) => format!("out{index}"),
            Placement::Constant(id) => format!("@{}", id.0),
            Placement::State(offset) => format!("state+{offset}"),
        };
        match self.offset(operand) {
            0 => place,
            within => format!("{place}+{within}"),
        }
    }

    /// What the lines of constants and steps leave out.
    fn appendix(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.target.l2 != super::Target::new(self.target.level).l2 {
            writeln!(f, "l2 {} bytes", self.target.l2)?;
        }
        for (kind, ports) in [("in", &self.inputs), ("out", &self.outputs)] {
            for (index, port) in ports.iter().enumerate() {
                writeln!(f, "{kind}{index} = {} : {}", quoted(&port.name), port.ty)?;
            }
        }
        let unplaced = |operand: &Operand| {
            let buffer = self.buffer(*operand)?;
            (self.buffers[buffer.0].placement == Placement::Unplaced).then_some(buffer)
        };
        let values: BTreeSet<_> =
            self.steps.iter().flat_map(|step| step.operands.iter().filter_map(unplaced)).collect();
        for buffer in values {
            writeln!(f, "%{} = {} bytes", buffer.0, self.buffers[buffer.0].bytes)?;
        }
        for (variable, value) in &self.updates {
            let (to, from) = (self.place((*variable).into()), self.place((*value).into()));
            let variable = &self.views[variable.0];
            writeln!(f, "update {} {to} from {from} : {}", quoted(&variable.name), variable.ty)?;
        }
        for (at, step) in self.steps.iter().enumerate() {
            if step.origins.len() != 1 || step.origins[0] != step.node {
                let names: Vec<String> = step.origins.iter().map(|origin| quoted(origin)).collect();
                writeln!(f, "#{at} from{}{}", if names.is_empty() { "" } else { " " }, names.join(", "))?;
            }
        }
        let mut printed = BTreeSet::new();
        for step in &self.steps {
            if let Some(loops) = step.kernel.spec.nest()
                && printed.insert(&step.kernel.name)
            {
                writeln!(f, "kernel {}", step.kernel.name)?;
                write!(f, "{loops}")?;
            }
        }
        Ok(())
    }
}
