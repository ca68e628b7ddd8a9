//! Decodes the tables of a library.
//!
//! In: bytes whose hash is right, and which may state anything all the same. Out: values whose indices and offsets lie
//! inside the tables. What is allocated is bounded by a multiple of the tables' size.

use std::fmt::Display;
use std::path::{Path, PathBuf};
use std::slice::ChunksExact;

use bytes::Bytes;

use super::damaged;
use crate::artifact::{
    self, Binding, FORMAT_VERSION, FORMAT_WITH_STEP, Head, MAX_PORTS, Plan, STEP_BINDINGS, Sample, StateTable, Status,
    StepTable, TABLES_MAGIC, WeightsHead,
};
use crate::cpu::FloatMode;
use crate::dtype::DType;
use crate::error::Error;
use crate::levels::{Arch, Level};
use crate::port::Port;
use crate::state::{StateParts, Variable, VariableKind};
use crate::tensor::Shape;

/// The most axes of a port. Extents may be shared, so their number alone bounds nothing.
const MAX_RANK: u32 = 64;
/// The size up to which a text may be shared by any number of records.
const SHARED_TEXT: usize = 4096;

/// Records of one kind.
pub(super) struct Records {
    name: &'static str,
    /// Whole records only.
    bytes: Bytes,
    record: usize,
}

impl Records {
    /// The `count` records from `first`.
    pub fn rows(&self, path: &Path, first: u32, count: u32) -> Result<ChunksExact<'_, u8>, Error> {
        let len = self.bytes.len() / self.record;
        let (begin, end) = (first as usize, first as usize + count as usize);
        if end > len {
            let found = format_args!("{count} from {first}");
            return Err(damaged(path, self.name, format_args!("some of {len}"), found));
        }
        Ok(self.bytes[begin * self.record..end * self.record].chunks_exact(self.record))
    }
}

/// Reads texts, of a total size that bounds what records sharing a long one can allocate.
pub(super) struct Texts<'a> {
    path: &'a Path,
    text: &'a [u8],
    left: usize,
}

impl Texts<'_> {
    /// The text at `offset`.
    pub fn read(&mut self, offset: u32) -> Result<String, Error> {
        let rest = self.text.get(offset as usize..);
        let text = rest.and_then(<[u8]>::split_first_chunk).and_then(|(len, rest)| {
            let len = u32::from_le_bytes(*len) as usize;
            self.left = self.left.checked_sub(len)?;
            std::str::from_utf8(rest.get(..len)?).ok()
        });
        let expected = format_args!("UTF-8 inside the {} bytes of text", self.text.len());
        text.map(str::to_owned).ok_or_else(|| damaged(self.path, "name", expected, format_args!("offset {offset}")))
    }
}

/// The inputs and outputs of a binding.
pub(super) struct Ports {
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub float_mode: FloatMode,
}

/// The tables of one library.
pub(super) struct Tables {
    pub path: PathBuf,
    pub head: Head,
    /// Ascending, all known to this architecture.
    pub levels: Vec<&'static Level>,
    pub bindings: Vec<Ports>,
    pub manifest: String,
    /// Parameters and states; none in a library of the first version.
    pub state: StateParts,
    /// For each plan, how many of its first steps are its prologue; none where no step is held.
    prologues: Option<Records>,
    pub steps: Records,
    pub args: Records,
    plans: Records,
    text: Bytes,
}

impl Tables {
    /// Decodes all but the steps, of tables of version `version`.
    pub fn decode(path: &Path, bytes: &Bytes, version: u32) -> Result<Tables, Error> {
        let sections = Sections { path, bytes, version };
        let head = sections.head()?;
        let levels = sections.levels(&head)?;
        let bindings = sections.records("bindings", head.bindings_at, head.bindings as usize, Binding::SIZE)?;
        let plans = levels.len() * head.bindings as usize;
        let mut tables = Tables {
            path: path.to_owned(),
            manifest: sections.manifest(&head)?,
            levels,
            bindings: Vec::new(),
            state: StateParts::default(),
            prologues: None,
            steps: sections.records("steps", head.steps_at, head.steps as usize, artifact::Step::SIZE)?,
            args: sections.records("arguments", head.args_at, head.args as usize, size_of::<u64>())?,
            plans: sections.records("plans", head.plans_at, plans, Plan::SIZE)?,
            text: sections.section("text", head.text_at, head.text_bytes as usize)?,
            head,
        };
        // Read by the entry functions only, but tables that lack them are not the compiler's.
        sections.records("samples", head.samples, head.samples_len as usize, Sample::SIZE)?;
        sections.records("messages", head.messages_at, Status::of_format(version).len(), size_of::<u32>())?;
        let ports = sections.records("ports", head.ports_at, head.ports as usize, artifact::Port::SIZE)?;
        let dims = sections.records("extents", head.dims_at, head.dims as usize, size_of::<u64>())?;
        tables.bindings = tables.decode_bindings(&bindings, &ports, &dims)?;
        if version == FORMAT_WITH_STEP {
            let step = tables.decode_step(&sections)?;
            tables.prologues = Some(sections.records("prologues", step.prologues_at, plans, size_of::<u32>())?);
            tables.state = tables.decode_state(&sections, &dims, Some(step.initial_bytes))?;
        } else if version != FORMAT_VERSION {
            tables.state = tables.decode_state(&sections, &dims, None)?;
        }
        Ok(tables)
    }

    /// Whether the bindings are the parts of a training step.
    pub fn is_step(&self) -> bool {
        self.prologues.is_some()
    }

    /// Reads names for `records` records.
    pub fn texts(&self, records: usize) -> Texts<'_> {
        let left = records.saturating_mul(SHARED_TEXT).saturating_add(self.text.len());
        Texts { path: &self.path, text: &self.text, left }
    }

    /// The plan of a binding, which exists, on the level at `position` of the levels.
    pub fn plan(&self, binding: usize, position: usize) -> Result<Plan, Error> {
        let index = u32::try_from(binding * self.levels.len() + position).unwrap_or(u32::MAX);
        let plan = self.plans.rows(&self.path, index, 1)?.next().and_then(Plan::read);
        plan.ok_or_else(|| damaged(&self.path, "plans", "one per binding and level", index))
    }

    /// How many of the first steps of that plan depend on variables alone.
    pub fn prologue(&self, binding: usize, position: usize) -> Result<usize, Error> {
        let Some(prologues) = &self.prologues else { return Ok(0) };
        let index = u32::try_from(binding * self.levels.len() + position).unwrap_or(u32::MAX);
        let row = prologues.rows(&self.path, index, 1)?.next().and_then(|row| row.first_chunk());
        let count = row.map(|row| u32::from_le_bytes(*row) as usize);
        count.ok_or_else(|| damaged(&self.path, "prologues", "one per binding and level", index))
    }

    fn decode_bindings(&self, bindings: &Records, ports: &Records, dims: &Records) -> Result<Vec<Ports>, Error> {
        let mut texts = self.texts(self.head.ports as usize);
        let mut left = u64::from(self.head.ports);
        let mut decoded = Vec::with_capacity(self.head.bindings as usize);
        for binding in bindings.rows(&self.path, 0, self.head.bindings)?.filter_map(Binding::read) {
            let count = u64::from(binding.inputs) + u64::from(binding.outputs);
            left = left.checked_sub(count).ok_or_else(|| {
                let expected = format_args!("{} in all bindings", self.head.ports);
                damaged(&self.path, "ports", expected, format_args!("{count} more than {left} left"))
            })?;
            let bases = count + u64::from(self.head.version != FORMAT_VERSION);
            if bases > MAX_PORTS {
                let expected = format_args!("at most {MAX_PORTS} with a base of their own in a binding");
                return Err(damaged(&self.path, "ports", expected, bases));
            }
            // Both counts are at most the number of ports, which is a u32.
            let mut rows = ports.rows(&self.path, binding.first_port, count as u32)?.filter_map(artifact::Port::read);
            let port = |port| self.decode_port(&port, dims, &mut texts);
            let mut all = rows.by_ref().map(port).collect::<Result<Vec<Port>, Error>>()?;
            let outputs = all.split_off(binding.inputs as usize);
            let float_mode = match binding.flush {
                0 => FloatMode::Ieee,
                1 => FloatMode::Flush,
                other => return Err(damaged(&self.path, "mode of subnormals", "0 or 1", other)),
            };
            decoded.push(Ports { inputs: all, outputs, float_mode });
        }
        Ok(decoded)
    }

    /// What is said of a training step: which file `export` writes, how much of the state the weights hold.
    fn decode_step(&self, sections: &Sections<'_>) -> Result<StepTable, Error> {
        let table = sections.bytes.get(Head::SIZE + StateTable::SIZE..).and_then(StepTable::read);
        let table =
            table.ok_or_else(|| damaged(&self.path, "table of the step", "one after that of the state", "less"))?;
        sections.section("export", table.export_head_at, table.export_head_bytes as usize)?;
        sections.records("exported variables", table.exported_at, table.exported as usize, size_of::<u32>())?;
        let expected = STEP_BINDINGS.len();
        if self.head.bindings as usize != expected {
            return Err(damaged(&self.path, "bindings of a step", expected, self.head.bindings));
        }
        Ok(table)
    }

    /// Parameters and states: at least one, one after the other, and their first elements among the constants: of the first
    /// `initial_bytes`, or of all of them.
    fn decode_state(
        &self,
        sections: &Sections<'_>,
        dims: &Records,
        initial_bytes: Option<u64>,
    ) -> Result<StateParts, Error> {
        let wrong =
            |field: &str, expected: &dyn Display, found: &dyn Display| Err(damaged(&self.path, field, expected, found));
        let table = sections.bytes.get(Head::SIZE..).and_then(StateTable::read);
        let Some(table) = table else { return wrong("table of the state", &"one after the head", &"less") };
        let count = table.variables;
        let rows = sections.records("variables", table.variables_at, count as usize, artifact::Variable::SIZE)?;
        let mut texts = self.texts(count as usize);
        let (bytes, initial) = (table.bytes as usize, table.initial as usize);
        let initial_bytes = initial_bytes.map_or(bytes, |bytes| bytes as usize);
        let mut state = StateParts { bytes, initial, initial_bytes, ..Default::default() };
        for row in rows.rows(&self.path, 0, count)?.filter_map(artifact::Variable::read) {
            let artifact::Variable { bytes, offset, name, dtype, rank, first_dim, kind, .. } = row;
            let port = artifact::Port { bytes, name, dtype, rank, first_dim, ..artifact::Port::default() };
            let port = self.decode_port(&port, dims, &mut texts)?;
            let Some(&kind) = VariableKind::ALL.get(kind as usize) else {
                return wrong(&format!("variable {}: kind", port.name), &"below 2", &kind);
            };
            state.variables.push(Variable { kind, port, offset: offset as usize });
        }
        if state.variables.is_empty() || state.initial < WeightsHead::SIZE {
            let found = format_args!("{count}, first elements at {}", table.initial);
            return wrong("variables", &"at least one, first elements after the header of the weights", &found);
        }
        match state.check(self.head.weights_bytes as usize) {
            Err(Error::BadVariable { name, field, expected, found }) => {
                return wrong(&format!("variable {name}: {field}"), &expected, &found);
            }
            checked => checked?,
        }
        if state.layout() != table.layout {
            let (expected, found) = (format_args!("{:016x}", state.layout()), format_args!("{:016x}", table.layout));
            return wrong("layout of the state", &expected, &found);
        }
        Ok(state)
    }

    fn decode_port(&self, port: &artifact::Port, dims: &Records, texts: &mut Texts<'_>) -> Result<Port, Error> {
        let name = texts.read(port.name)?;
        let wrong = |field: &str, expected: &str, found: u64| {
            Err(damaged(&self.path, format!("port {name}: {field}"), expected, found))
        };
        let Some(&dtype) = DType::ALL.get(port.dtype as usize) else {
            return wrong("element type", "below 13", port.dtype.into());
        };
        if port.rank > MAX_RANK {
            return wrong("rank", "at most 64", port.rank.into());
        }
        let extents = dims.rows(&self.path, port.first_dim, port.rank)?;
        let extents =
            extents.filter_map(|extent| extent.first_chunk()).map(|extent| u64::from_le_bytes(*extent) as usize);
        let shape = Shape::from(extents.collect::<Vec<usize>>());
        let bytes = shape.checked_bytes(dtype);
        if bytes.is_none_or(|bytes| bytes as u64 != port.bytes) {
            return wrong("size", &format!("that of {dtype}{shape}"), port.bytes);
        }
        Ok(Port { name, dtype, shape })
    }
}

/// The tables as bytes.
struct Sections<'a> {
    path: &'a Path,
    bytes: &'a Bytes,
    /// What the note says of them.
    version: u32,
}

impl Sections<'_> {
    fn head(&self) -> Result<Head, Error> {
        let wrong = |field, expected: String, found: String| Err(damaged(self.path, field, expected, found));
        let len = self.bytes.len();
        let Some(head) = Head::read(self.bytes) else {
            return wrong("size of the tables", format!("at least {}", Head::SIZE), len.to_string());
        };
        if head.magic != TABLES_MAGIC {
            return wrong("magic of the tables", format!("{TABLES_MAGIC:016x}"), format!("{:016x}", head.magic));
        }
        if head.version != self.version {
            return wrong("version of the tables", self.version.to_string(), head.version.to_string());
        }
        if head.arch != Arch::HOST.number() {
            return wrong("architecture", Arch::HOST.number().to_string(), head.arch.to_string());
        }
        Ok(head)
    }

    /// The `len` bytes at `at`.
    fn section(&self, name: &'static str, at: u32, len: usize) -> Result<Bytes, Error> {
        match (at as usize).checked_add(len) {
            Some(end) if end <= self.bytes.len() => Ok(self.bytes.slice(at as usize..end)),
            _ => {
                let expected = format_args!("inside the tables of {} bytes", self.bytes.len());
                Err(damaged(self.path, name, expected, format_args!("{len} bytes at {at}")))
            }
        }
    }

    /// The `count` records of `record` bytes at `at`.
    fn records(&self, name: &'static str, at: u32, count: usize, record: usize) -> Result<Records, Error> {
        let bytes = self.section(name, at, count.saturating_mul(record))?;
        Ok(Records { name, bytes, record })
    }

    fn levels(&self, head: &Head) -> Result<Vec<&'static Level>, Error> {
        let table = self.records("levels", head.levels_at, head.levels as usize, size_of::<u32>())?;
        let rows = table.rows(self.path, 0, head.levels)?;
        let mut levels: Vec<&Level> = Vec::new();
        for number in rows.filter_map(|row| row.first_chunk()).map(|row| u32::from_le_bytes(*row)) {
            let level = Level::numbered(Arch::HOST, number);
            match level.filter(|_| levels.last().is_none_or(|last| last.number < number)) {
                Some(level) => levels.push(level),
                None => return Err(damaged(self.path, "levels", "known ones, ascending", number)),
            }
        }
        if levels.is_empty() {
            return Err(damaged(self.path, "levels", "at least one", 0));
        }
        Ok(levels)
    }

    fn manifest(&self, head: &Head) -> Result<String, Error> {
        let bytes = self.section("manifest", head.signature_at, (head.signature_bytes as usize).saturating_add(1))?;
        let text = bytes.strip_suffix(&[0]).and_then(|text| std::str::from_utf8(text).ok());
        let found = format_args!("{} other bytes", bytes.len());
        text.map(str::to_owned).ok_or_else(|| damaged(self.path, "manifest", "UTF-8 and a zero", found))
    }
}
