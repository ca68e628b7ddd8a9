//! The text of a plan: target, memory, parameters and states, constants, then one line per kernel call.

use std::fmt;

use super::{Home, Operand, Plan, Variable};

impl fmt::Display for Plan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "plan @{} for {}", self.name, self.target)?;
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
        writeln!(f)?;
        for Variable { kind, name, offset, initial } in &self.variables {
            writeln!(f, "state+{offset} = {kind} {name:?} {} {:016x}", initial.ty, initial.hash())?;
        }
        for (i, constant) in self.constants.iter().enumerate() {
            write!(f, "@{i} = {constant} : {} bytes", constant.bytes)?;
            if !constant.origins().is_empty() {
                write!(f, "  ; {}", constant.origins().join(", "))?;
            }
            writeln!(f)?;
        }
        for step in &self.steps {
            write!(f, "{}(", step.kernel.name)?;
            for (i, (operand, argument)) in step.operands.iter().zip(&step.kernel.arguments).enumerate() {
                write!(f, "{}{}=", if i > 0 { ", " } else { "" }, argument.name)?;
                match operand {
                    Operand::Constant(id) => write!(f, "@{}", id.0)?,
                    Operand::Slot(slot) => match self.storages[self.slots[slot.0].storage.0].home {
                        Home::Arena(offset) => write!(f, "arena+{offset}")?,
                        Home::Input(index) => write!(f, "in{index}")?,
                        Home::Output(index) => write!(f, "out{index}")?,
                        Home::Constant(id) => write!(f, "@{}", id.0)?,
                        Home::State(offset) => write!(f, "state+{offset}")?,
                    },
                }
            }
            writeln!(f, ") chunks={} {}  ; {}", step.kernel.chunks, step.kernel.schedule, step.node)?;
        }
        Ok(())
    }
}
