//! Decodes the steps of one plan.
//!
//! In: the tables, the kernels' memory. Out: steps whose kernels lie inside it and whose arguments name what the binding has.
//! Offsets into arena, state and constants are left to `Program::new`.

use super::damaged;
use super::tables::{Ports, Tables};
use crate::artifact::{self, BASE_ARENA, BASE_NULL, BASE_PORTS, BASE_SHIFT, BASE_WEIGHTS, Plan, WeightsHead};
use crate::error::Error;
use crate::map::Executable;
use crate::program::{Arg, Step};
use crate::state::StateParts;

impl Tables {
    /// The steps of a plan for a binding with these ports.
    pub fn steps(&self, plan: &Plan, ports: &Ports, code: &Executable) -> Result<Vec<Step>, Error> {
        let rows = self.steps.rows(&self.path, plan.first_step, plan.steps)?;
        let mut texts = self.texts(rows.len());
        let mut args_left = self.head.args;
        let mut steps = Vec::with_capacity(rows.len());
        for row in rows.filter_map(artifact::Step::read) {
            let (name, node) = (texts.read(row.name)?, texts.read(row.node)?);
            let wrong = |field: &str, expected: String, found: String| {
                damaged(&self.path, format!("step {} ({name}): {field}", steps.len()), expected, found)
            };
            args_left = args_left.checked_sub(row.args).ok_or_else(|| {
                wrong("arguments", format!("{} in all steps", self.head.args), format!("{} more", row.args))
            })?;
            let args = self.args.rows(&self.path, row.first_arg, row.args)?;
            let args = args.filter_map(|arg| arg.first_chunk()).map(|arg| u64::from_le_bytes(*arg));
            let args = args.map(|value| {
                let expected = || "a base of the binding with an offset that it can have".to_owned();
                argument(value, ports, &self.state).ok_or_else(|| wrong("argument", expected(), format!("{value:#x}")))
            });
            let args = args.collect::<Result<Vec<Arg>, Error>>()?;
            let (begin, code_bytes) = (row.kernel as usize, row.kernel_bytes as usize);
            // Instructions of aarch64 are aligned.
            let aligned = cfg!(target_arch = "x86_64") || begin.is_multiple_of(4);
            let kernel = code.kernel(begin..begin + code_bytes).filter(|_| aligned).ok_or_else(|| {
                let expected = format!("code inside the kernels of {} bytes", code.len());
                wrong("kernel", expected, format!("{code_bytes} bytes at {begin}"))
            })?;
            let artifact::Step { chunks, grain, flops, bytes, .. } = row;
            let (node, origins) = artifact::node_names(&node);
            let (node, origins) = (node.to_string(), origins.into_iter().map(String::from).collect());
            steps.push(Step { kernel, code_bytes, name, node, origins, args, chunks, grain, flops, bytes });
        }
        Ok(steps)
    }
}

/// What an argument means for a binding with these ports.
///
/// Whether the kernel reads it or writes it is in its code and nowhere else; a table that said so would be trusted as the code is. The
/// compiler makes no code of a plan that writes what is only read.
fn argument(value: u64, ports: &Ports, state: &StateParts) -> Option<Arg> {
    let offset = usize::try_from(value & ((1 << BASE_SHIFT) - 1)).ok()?;
    match value >> BASE_SHIFT {
        BASE_NULL if offset == 0 => Some(Arg::Null),
        BASE_ARENA => Some(Arg::Arena(offset)),
        BASE_WEIGHTS if offset >= WeightsHead::SIZE => Some(Arg::Constant(offset)),
        port if port >= BASE_PORTS => {
            let index = usize::try_from(port - BASE_PORTS).ok()?;
            let (inputs, outputs) = (ports.inputs.len(), ports.outputs.len());
            match index.checked_sub(inputs) {
                None => (offset == 0).then_some(Arg::Input(index)),
                Some(output) if output < outputs => (offset == 0).then_some(Arg::Output(output)),
                Some(after) => (after == outputs && !state.variables.is_empty()).then_some(Arg::State(offset)),
            }
        }
        _ => None,
    }
}
