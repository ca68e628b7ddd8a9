//! A plan from its text.
//!
//! In: what a plan prints as; see [`super::print`]. Out: a plan that prints the same. Kernels are found by their names, nests by the
//! lines after the steps; schedules, arguments and chunks follow from specs and target and are held to what the text says. The elements
//! of constants are not in the text, so such a plan can be looked at, rewritten and printed, but not emitted.

use std::collections::HashMap;
use std::str::FromStr;

use super::print::FLUSHED;
use super::{
    AxisOrder, Buffer, BufferId, BufferView, ConstId, KernelCall, Operand, PackedConstant, Placement, Plan, Port,
    Variable, ViewId, verify,
};
use crate::error::{Error, Result};
use crate::kernels::text::{self, Words};
use crate::kernels::{Kernel, Spec};
use crate::target::Target;
use fornax_ir::types::{Constant, DType, Payload, TensorType};
use fornax_runtime::{FloatMode, VariableKind};

/// Largest number of a value that is read: each has a record.
const VALUES: usize = 1 << 20;

/// What was read; else what was expected and found, as one text.
type Read<T> = std::result::Result<T, String>;

/// Reads a plan. Empty lines, and lines that begin with `;`, are skipped.
///
/// # Errors
/// [`fornax_ir::Error::Parse`] with the line, what was expected and what was found; [`Error::Plan`] if the plan breaks an invariant.
pub fn parse(text: &str) -> Result<Plan> {
    let lines: Vec<(usize, &str)> =
        (1..).zip(text.lines()).filter(|(_, line)| !line.trim().is_empty() && !line.starts_with(';')).collect();
    let plan = Parser { lines: &lines, at: 0 }.plan()?;
    verify(&plan)?;
    Ok(plan)
}

impl FromStr for Plan {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        parse(text)
    }
}

/// A step as its line says it.
struct Call<'a> {
    line: usize,
    kernel: &'a str,
    /// Name of the argument and where it points.
    operands: Vec<(&'a str, &'a str)>,
    chunks: u32,
    schedule: &'a str,
    node: String,
}

struct Parser<'a> {
    lines: &'a [(usize, &'a str)],
    at: usize,
}

impl<'a> Parser<'a> {
    fn plan(&mut self) -> Result<Plan> {
        let (mut plan, flushed) = self.head()?;
        plan.variables = self.while_some(|_, line| variable(line))?;
        plan.constants = self.while_some(constant)?;
        let calls: Vec<Call<'a>> = self.while_some(call)?;
        if let Some(l2) = self.optional(|line| bytes_of(line.strip_prefix("l2 ")?))? {
            plan.target.l2 = l2;
        }
        plan.inputs = self.while_some(|_, line| port("in", line))?;
        plan.outputs = self.while_some(|_, line| port("out", line))?;
        let values: Vec<(usize, usize)> = self.while_some(|_, line| value(line))?;
        let updates: Vec<Update> = self.while_some(update)?;
        let origins: HashMap<usize, Vec<String>> = self.while_some(|_, line| origins(line))?.into_iter().collect();
        let mut specs = HashMap::new();
        while let Some((name, spec)) = self.nest()? {
            specs.insert(name, spec);
        }
        if let Some((line, found)) = self.peek() {
            return Err(fault(line, "a part of a plan", found));
        }
        let mut memory = Memory::new(&mut plan, &values);
        for (at, call) in calls.iter().enumerate() {
            let spec = specs.get(call.kernel).cloned().map(Ok).unwrap_or_else(|| {
                text::spec(call.kernel)
                    .ok_or_else(|| fault(call.line, "the name of a kernel, or lines with its nest", call.kernel))
            })?;
            let origins = origins.get(&at).cloned().unwrap_or_else(|| vec![call.node.clone()]);
            let step = memory.step(call, spec, origins).map_err(|expected| fault_of(call.line, expected))?;
            memory.plan.steps.push(step);
        }
        for update in updates {
            let line = update.line;
            memory.update(update).map_err(|expected| fault_of(line, expected))?;
        }
        // The mode follows from the kernels.
        let mode = if plan.float_mode() == FloatMode::Flush { "subnormals flushed" } else { "no subnormals flushed" };
        match flushed {
            (line, true) if plan.float_mode() == FloatMode::Ieee => Err(fault(line, mode, "subnormals flushed")),
            (line, false) if plan.float_mode() == FloatMode::Flush => Err(fault(line, mode, "no mode")),
            _ => Ok(plan),
        }
    }

    fn peek(&self) -> Option<(usize, &'a str)> {
        self.lines.get(self.at).copied()
    }

    fn next(&mut self) -> Result<(usize, &'a str)> {
        let end = self.lines.last().map_or(1, |(line, _)| *line);
        let line = self.peek().ok_or_else(|| fault(end, "more lines", "the end of the text"))?;
        self.at += 1;
        Ok(line)
    }

    /// The next line, if `read` takes it.
    fn optional<T>(&mut self, read: impl Fn(&'a str) -> Option<Read<T>>) -> Result<Option<T>> {
        let Some((line, text)) = self.peek() else { return Ok(None) };
        let Some(found) = read(text) else { return Ok(None) };
        self.at += 1;
        found.map(Some).map_err(|expected| fault_of(line, expected))
    }

    /// The next lines, as long as `read` takes them.
    fn while_some<T>(&mut self, read: impl Fn(usize, &'a str) -> Option<Read<T>>) -> Result<Vec<T>> {
        let mut found = Vec::new();
        while let Some((line, _)) = self.peek() {
            match self.optional(|text| read(line, text))? {
                Some(item) => found.push(item),
                None => break,
            }
        }
        Ok(found)
    }

    /// The first two lines; the number of the second, and whether it says that subnormals are flushed.
    fn head(&mut self) -> Result<(Plan, (usize, bool))> {
        let (line, text) = self.next()?;
        let head = text.strip_prefix("plan @").and_then(|rest| rest.rsplit_once(" for "));
        let (name, target) = head.ok_or_else(|| fault(line, "plan @name for target", text))?;
        let target: Target = target.parse().map_err(|e: String| fault_of(line, e))?;
        let (line, text) = self.next()?;
        let sizes: Option<Vec<usize>> = ["arena ", "scratch ", "constants "]
            .into_iter()
            .zip(text.split(", "))
            .map(|(name, part)| bytes_of(part.strip_prefix(name)?)?.ok())
            .collect();
        let Some([arena_bytes, scratch_bytes, ..]) = sizes.as_deref() else {
            return Err(fault(line, "arena 0 bytes, scratch 0 bytes, constants 0 bytes", text));
        };
        let prologue = text.split(", ").find_map(|part| part.strip_prefix("prologue ")?.strip_suffix(" steps"));
        let prologue = prologue.map_or(Ok(0), str::parse).map_err(|_| fault(line, "prologue 1 steps", text))?;
        let plan = Plan {
            name: unquoted(name).map_err(|e| fault_of(line, e))?,
            target,
            inputs: Vec::new(),
            outputs: Vec::new(),
            views: Vec::new(),
            buffers: Vec::new(),
            constants: Vec::new(),
            variables: Vec::new(),
            updates: Vec::new(),
            steps: Vec::new(),
            prologue,
            arena_bytes: *arena_bytes,
            scratch_bytes: *scratch_bytes,
            remarks: Vec::new(),
        };
        Ok((plan, (line, text.ends_with(FLUSHED))))
    }

    /// The lines of a nest: `kernel name`, then the nest.
    fn nest(&mut self) -> Result<Option<(&'a str, Spec)>> {
        let Some((line, Some(name))) = self.peek().map(|(line, text)| (line, text.strip_prefix("kernel "))) else {
            return Ok(None);
        };
        self.at += 1;
        let begin = self.at;
        while self
            .peek()
            .is_some_and(|(_, text)| text.starts_with("nest ") && self.at == begin || text.starts_with("  "))
        {
            self.at += 1;
        }
        let lines: Vec<&str> = self.lines[begin..self.at].iter().map(|(_, text)| *text).collect();
        let loops = text::nest(&lines)
            .map_err(|(at, expected)| fault_of(self.lines.get(begin + at).map_or(line, |(line, _)| *line), expected))?;
        let own = Spec::from(loops.clone()).name();
        match text::with_nest(name, loops) {
            Some(spec) => Ok(Some((name, spec))),
            None => Err(fault(line, &format!("kernel {own}, or one that ends in it"), name)),
        }
    }
}

/// The buffers of a plan as its operands name them.
struct Memory<'p> {
    plan: &'p mut Plan,
    views: HashMap<String, ViewId>,
    /// Sizes of the values without a place.
    values: HashMap<usize, usize>,
}

impl<'p> Memory<'p> {
    fn new(plan: &'p mut Plan, values: &[(usize, usize)]) -> Self {
        // Values keep their numbers.
        let count = values.iter().map(|(number, _)| number + 1).max().unwrap_or(0);
        plan.buffers = vec![Buffer { placement: Placement::Unplaced, bytes: 0 }; count];
        Self { plan, views: HashMap::new(), values: values.iter().copied().collect() }
    }

    fn step(&mut self, call: &Call<'_>, spec: Spec, origins: Vec<String>) -> Read<KernelCall> {
        let kernel = Kernel::new(spec, &self.plan.target);
        let names: Vec<&str> = call.operands.iter().map(|(name, _)| *name).collect();
        let expected: Vec<&str> = kernel.arguments.iter().map(|argument| argument.name).collect();
        if names != expected {
            return Err(format!("the operands {}, found {}", expected.join(", "), names.join(", ")));
        }
        let schedule = format!("chunks={} {}", kernel.chunks, kernel.schedule);
        let found = format!("chunks={} {}", call.chunks, call.schedule);
        if schedule != found {
            return Err(format!("{schedule}, found {found}"));
        }
        let operands = call.operands.iter().zip(&kernel.arguments);
        let operands = operands.map(|((_, at), argument)| self.operand(at, argument.bytes)).collect::<Read<_>>()?;
        Ok(KernelCall { kernel, operands, node: call.node.clone(), origins })
    }

    /// The operand that `text` names, at least `bytes` large if that follows from its uses.
    fn operand(&mut self, text: &str, bytes: usize) -> Read<Operand> {
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("a number, found {text}"));
        let missing = |what: &str| format!("{what} of the plan, found {text}");
        if let Some(id) = text.strip_prefix('@') {
            let id = number(id)?;
            let known = id < self.plan.constants.len();
            return if known { Ok(ConstId(id).into()) } else { Err(missing("a constant")) };
        }
        if let Some(view) = self.views.get(text) {
            let BufferView { buffer, offset, .. } = self.plan.views[view.0];
            let buffer = &mut self.plan.buffers[buffer.0];
            if matches!(buffer.placement, Placement::Arena(_)) {
                buffer.bytes = buffer.bytes.max(offset.saturating_add(bytes));
            }
            return Ok((*view).into());
        }
        let port = |ports: &[Port], index: usize, what: &str| {
            ports.get(index).map(|port| port.ty.bytes()).ok_or_else(|| missing(what))
        };
        if let Some((base, within)) = within(text) {
            let within = number(within)?;
            if within == 0 {
                return Err(format!("{base}, found {text}"));
            }
            let base = self.operand(base, within.saturating_add(bytes))?;
            let Some(buffer) = self.plan.buffer(base) else { return Err(missing("a value")) };
            let view = self.view(text, buffer, bytes);
            self.plan.views[view.0].offset = within;
            return Ok(view.into());
        }
        let buffer = if let Some(offset) = text.strip_prefix("arena+") {
            Buffer { placement: Placement::Arena(number(offset)?), bytes }
        } else if let Some(index) = text.strip_prefix("in") {
            let index = number(index)?;
            Buffer { placement: Placement::Input(index), bytes: port(&self.plan.inputs, index, "an input")? }
        } else if let Some(index) = text.strip_prefix("out") {
            let index = number(index)?;
            Buffer { placement: Placement::Output(index), bytes: port(&self.plan.outputs, index, "an output")? }
        } else if let Some(offset) = text.strip_prefix("state+") {
            let offset = number(offset)?;
            let variable = self.plan.variables.iter().find(|variable| variable.offset == offset);
            let bytes = variable.ok_or_else(|| missing("a variable"))?.initial.ty.bytes();
            Buffer { placement: Placement::State(offset), bytes }
        } else if let Some(value) = text.strip_prefix('%') {
            let value = number(value)?;
            let bytes = *self.values.get(&value).ok_or_else(|| missing("a value"))?;
            self.plan.buffers[value].bytes = bytes;
            return Ok(self.view(text, BufferId(value), bytes).into());
        } else {
            return Err(format!("arena+0, in0, out0, @0 or %0, found {text}"));
        };
        let bytes = buffer.bytes;
        self.plan.buffers.push(buffer);
        let buffer = BufferId(self.plan.buffers.len() - 1);
        Ok(self.view(text, buffer, bytes).into())
    }

    /// A view of the variable and one of its next value, both of its type.
    fn update(&mut self, Update { name, to, from, ty, .. }: Update) -> Read<()> {
        let bytes = ty.bytes();
        let mut typed = |text: &str| {
            let operand = self.operand(text, bytes)?;
            if self.plan.offset(operand) != 0 {
                return Err(format!("a place that a value begins at, found {text}"));
            }
            let buffer = match (operand, self.plan.buffer(operand)) {
                (_, Some(buffer)) => buffer,
                (Operand::Constant(id), None) => {
                    self.plan.buffers.push(Buffer { placement: Placement::Constant(id), bytes });
                    BufferId(self.plan.buffers.len() - 1)
                }
                (Operand::View(_), None) => return Err(format!("a place, found {text}")),
            };
            if self.plan.buffers[buffer.0].bytes < bytes {
                return Err(format!("{bytes} bytes, found {text}"));
            }
            let (name, ty, order) = (name.clone(), ty.clone(), AxisOrder::RowMajor);
            self.plan.views.push(BufferView { name, ty, order, buffer, offset: 0 });
            Ok(ViewId(self.plan.views.len() - 1))
        };
        let update = (typed(&to)?, typed(&from)?);
        self.plan.updates.push(update);
        Ok(())
    }

    fn view(&mut self, text: &str, buffer: BufferId, bytes: usize) -> ViewId {
        let id = ViewId(self.plan.views.len());
        let ty = TensorType::new(DType::U8, [bytes]);
        self.plan.views.push(BufferView { name: text.into(), ty, order: AxisOrder::RowMajor, buffer, offset: 0 });
        self.views.insert(text.into(), id);
        id
    }
}

/// A place within a value, as the value's and the bytes from there: `%7+192`, `arena+4096+192`, `state+64+192`.
fn within(text: &str) -> Option<(&str, &str)> {
    let (base, within) = text.rsplit_once('+')?;
    let own = if text.starts_with('%') { 0 } else { 1 };
    (base.matches('+').count() == own).then_some((base, within))
}

/// What a variable becomes, as its line says it.
struct Update {
    line: usize,
    name: String,
    to: String,
    from: String,
    ty: TensorType,
}

/// `update "w" state+0 from %7 : f32[4]`
fn update(line: usize, text: &str) -> Option<Read<Update>> {
    let mut words = Words::new(text.strip_prefix("update ")?);
    let mut read = || {
        let name = words.quoted()?.ok_or_else(|| format!("a name in quotes, found {text}"))?;
        let to = words.word()?;
        words.keyword("from")?;
        let from = words.word()?;
        words.keyword(":")?;
        Ok(Update { line, name, to, from, ty: tensor_type(words.rest())? })
    };
    Some(read())
}

/// `state+0 = parameter "w" f32[4] 0123456789abcdef`
fn variable(line: &str) -> Option<Read<Variable>> {
    let (offset, rest) = line.strip_prefix("state+")?.split_once(" = ")?;
    let read = || {
        let wrong = || format!("a kind, name, type and hash of a variable, found {rest}");
        let mut words = Words::new(rest);
        let word = words.word()?;
        let kinds = [VariableKind::Parameter, VariableKind::State];
        let kind = kinds.into_iter().find(|kind| kind.to_string() == word).ok_or_else(wrong)?;
        let name = words.quoted()?.ok_or_else(wrong)?;
        let (ty, hash) = words.rest().rsplit_once(' ').ok_or_else(wrong)?;
        let hash = u64::from_str_radix(hash, 16).map_err(|_| wrong())?;
        let initial = Constant::new(tensor_type(ty)?, Payload::Hash(hash));
        Ok(Variable { kind, name, offset: offset.parse().map_err(|_| wrong())?, initial })
    };
    Some(read())
}

/// `@0 = source packing : 128 bytes  ; origins`
fn constant(_: usize, line: &str) -> Option<Read<PackedConstant>> {
    let (_, rest) = line.strip_prefix('@')?.split_once(" = ")?;
    let (what, origins) = rest.split_once("  ; ").unwrap_or((rest, ""));
    let read = || {
        let (key, bytes) = what.rsplit_once(" : ").ok_or(format!("source : 0 bytes, found {what}"))?;
        let bytes = bytes_of(bytes).unwrap_or_else(|| Err(format!("0 bytes, found {bytes}")))?;
        let origins = match origins {
            "" => Vec::new(),
            origins => origins.split(", ").map(unquoted).collect::<Read<_>>()?,
        };
        let constant = PackedConstant::read(key, origins)?;
        if constant.bytes == bytes { Ok(constant) } else { Err(format!("{} bytes, found {bytes}", constant.bytes)) }
    };
    Some(read())
}

/// `kernel(x=in0, y=arena+0) chunks=1 Schedule { … }  ; node`
fn call(line: usize, text: &str) -> Option<Read<Call<'_>>> {
    let (kernel, rest) = text.split_once('(').filter(|(name, _)| !name.contains([' ', '"']))?;
    let read = || {
        let expected = || format!("operands) chunks=1 schedule  ; node, found {rest}");
        let (operands, rest) = rest.split_once(") chunks=").ok_or_else(expected)?;
        let (chunks, rest) = rest.split_once(' ').ok_or_else(expected)?;
        let (schedule, node) = rest.split_once("  ; ").ok_or_else(expected)?;
        let operands = operands.split(", ").map(|o| o.split_once('=').ok_or_else(|| format!("name=place, found {o}")));
        let operands = operands.collect::<Read<_>>()?;
        let chunks = chunks.parse().map_err(|_| format!("a number of chunks, found {chunks}"))?;
        Ok(Call { line, kernel, operands, chunks, schedule, node: unquoted(node)? })
    };
    Some(read())
}

/// `in0 = "name" : f32[1,3,224,224]`
fn port(kind: &str, line: &str) -> Option<Read<Port>> {
    let rest = line.strip_prefix(kind)?.trim_start_matches(|c: char| c.is_ascii_digit()).strip_prefix(" = ")?;
    let read = || {
        let mut words = Words::new(rest);
        let name = words.quoted()?.ok_or_else(|| format!("a name in quotes, found {rest}"))?;
        words.keyword(":")?;
        Ok(Port { name, ty: tensor_type(words.rest())? })
    };
    Some(read())
}

/// `f32[1,3]`
fn tensor_type(text: &str) -> Read<TensorType> {
    let expected = || format!("a type, found {text}");
    let (dtype, shape) = text.strip_suffix(']').and_then(|text| text.split_once('[')).ok_or_else(expected)?;
    let dtype: DType = dtype.parse().map_err(|_| expected())?;
    let extents = shape.split(',').filter(|extent| !extent.is_empty());
    let shape = extents.map(|extent| extent.trim().parse().map_err(|_| expected())).collect::<Read<Vec<usize>>>()?;
    let ty = TensorType::new(dtype, shape);
    ty.shape.checked_bytes(dtype).ok_or_else(expected)?;
    Ok(ty)
}

/// `%7 = 4096 bytes`
fn value(line: &str) -> Option<Read<(usize, usize)>> {
    let (number, bytes) = line.strip_prefix('%')?.split_once(" = ")?;
    let read = || {
        let number = number.parse().ok().filter(|number| *number < VALUES);
        let number = number.ok_or_else(|| format!("the number of a value, found {line}"))?;
        Ok((number, bytes_of(bytes).unwrap_or_else(|| Err(format!("0 bytes, found {bytes}")))?))
    };
    Some(read())
}

/// `#0 from "a", "b"`
fn origins(line: &str) -> Option<Read<(usize, Vec<String>)>> {
    let (step, names) = line.strip_prefix('#')?.split_once(" from")?;
    let read = || {
        let (mut words, mut origins) = (Words::new(names), Vec::new());
        while let Some(name) = words.quoted()? {
            origins.push(name);
            words.eat(",");
        }
        words.end()?;
        Ok((step.parse().map_err(|_| format!("the number of a step, found {step}"))?, origins))
    };
    Some(read())
}

/// `128 bytes`
fn bytes_of(text: &str) -> Option<Read<usize>> {
    let number = text.strip_suffix(" bytes")?;
    Some(number.parse().map_err(|_| format!("a number of bytes, found {number}")))
}

/// A name as it stands, or in quotes.
fn unquoted(text: &str) -> Read<String> {
    let mut words = Words::new(text);
    match words.quoted()? {
        Some(name) => words.end().map(|()| name),
        None => Ok(text.into()),
    }
}

fn fault(line: usize, expected: &str, found: &str) -> Error {
    fornax_ir::Error::Parse { line, expected: expected.into(), found: found.into() }.into()
}

/// A fault from a text `expected, found found`.
fn fault_of(line: usize, text: String) -> Error {
    let (expected, found) = text.split_once(", found ").unwrap_or((&text, "something else"));
    fault(line, expected, found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lower::lower;
    use crate::plan::passes::PASSES;

    const BLOCK: &str = r#"graph @block(%x: f32[1, 16, 12, 12]) {
      %w0 = constant f32[32, 16, 1, 1] random(1)  ; from "expand.weight"
      %b0 = constant f32[32] random(2)
      %w1 = constant f32[32, 1, 3, 3] random(3)
      %b1 = constant f32[32] random(4)
      %s1 = constant f32[8, 32, 1, 1] random(5)
      %c1 = constant f32[8] random(6)
      %s2 = constant f32[32, 8, 1, 1] random(7)
      %c2 = constant f32[32] random(8)
      %w2 = constant f32[16, 32, 1, 1] random(9)
      %b2 = constant f32[16] random(10)
      %y = mbconv %x, %w0, %b0, %w1, %b1, %s1, %c1, %s2, %c2, %w2, %b2 {expand=true, expand_activation=silu, activation=hard_swish, pads=[1, 1, 1, 1], se=[relu, sigmoid], residual=true}  ; from "a", "b"; expand "a"
      return %y as "y"
    }"#;

    const REST: &str = r#"graph @rest(%x: f32[2, 4, 9, 9], %i: i64[3], %m: f32[5, 6], %n: f32[6, 7]) {
      %w = constant f32[64, 4, 3, 3] random(1)
      %c = conv %x, %w {strides=[2, 2], pads=[1, 1, 1, 1], activation=clip(-0.5, 6)}
      %k = neg %c
      %s = exp %k
      %sum = reduce %s {kind=sum, axes=[2, 3], keepdims=true}
      %soft = softmax %sum {axis=1}
      %g = gather %x, %i {axis=2}
      %t = transpose %g {perm=[0, 2, 3, 1]}
      %p = matmul %m, %n
      return %soft as "soft", %t as "a \"t\"", %p as "p", %sum as "sum"
    }"#;

    const PARTS: &str = r#"graph @parts(%x: f32[1, 20, 6, 5]) {
      %w = constant f32[10, 1, 3, 3] random(1)
      %m = constant f32[20, 20, 1, 1] random(2)
      %e = conv %x, %m
      %p, %q = split %e {axis=1, sizes=[10, 10]}
      %c = conv %p, %w {group=10, pads=[1, 1, 1, 1]}
      %d = conv %q, %w {group=10, pads=[1, 1, 1, 1], activation=relu}
      %j = concat %c, %d {axis=1}
      %y = conv %j, %m
      return %y as "y"
    }"#;

    fn targets() -> impl Iterator<Item = Target> {
        ["x86-64", "x86-64-v3", "x86-64-v4", "aarch64"].into_iter().map(|name| name.parse().unwrap())
    }

    #[test]
    fn a_plan_reads_back_at_every_stage() {
        for text in [BLOCK, REST, PARTS] {
            let graph = fornax_ir::graph::parse(text).unwrap();
            for target in targets() {
                let mut plan = lower(&graph, &target, crate::numerics::Numerics::default()).unwrap();
                let mut read = parse(&plan.to_string()).unwrap_or_else(|e| panic!("{e}\n{plan}"));
                assert_eq!(read.to_string(), plan.to_string());
                for pass in PASSES {
                    (pass.run)(&mut plan);
                    (pass.run)(&mut read);
                    assert_eq!(read.to_string(), plan.to_string(), "{}", pass.name);
                    let again = parse(&plan.to_string()).unwrap_or_else(|e| panic!("{e}\n{plan}"));
                    assert_eq!(again.to_string(), plan.to_string(), "{}", pass.name);
                }
            }
        }
    }

    #[test]
    fn what_is_no_plan_is_refused_with_its_line() {
        let graph = fornax_ir::graph::parse(BLOCK).unwrap();
        let text = crate::pipeline::plan_of(&graph, &"x86-64-v3".parse().unwrap()).unwrap().to_string();
        for (from, to, expected) in [
            ("plan @", "graph @", "line 1: expected plan @name for target"),
            ("x86-64-v3", "x86-64-v9", "line 1: expected"),
            ("arena ", "area ", "line 2: expected arena"),
            ("in0 = \"x\" : f32[1,16,12,12]", "in0 = \"x\" : f33[1]", "expected a type, found f33[1]"),
            ("chunks=", "chunks=9", "expected chunks="),
            ("(x=in0", "(z=in0", "expected the operands x"),
            ("(x=in0", "(x=in7", "expected an input of the plan, found in7"),
            ("(x=in0", "(x=in0+64", "expected a number, found 0+64"),
            ("=arena+0,", "=arena+0+0,", "expected arena+0, found arena+0+0"),
            ("=arena+0,", "=arena+0+64+64,", "expected a number, found 0+64+64"),
            ("=arena+0,", "=arena+0+99999996,", "bytes at 0+99999996 of an arena"),
            ("@0, ", "@99, ", "expected a constant of the plan, found @99"),
            ("f32_gemv", "f32_gem", "expected the name of a kernel"),
        ] {
            assert!(text.contains(from), "{from}\n{text}");
            let error = parse(&text.replacen(from, to, 1)).map(drop).unwrap_err().to_string();
            assert!(error.contains(expected), "{from} as {to}: {error}");
        }
    }
}
