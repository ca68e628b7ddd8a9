//! Python's pickle, protocols 2 to 5, as far as state dicts use it: a stack machine that builds [`Value`]s.
//!
//! In: a file and the offset of a pickle in it. Out: the value, and the offset after it. Invariant: every instruction takes a bounded step
//! and adds at most one value, classes and functions are those of [`super::globals`], and nothing is called. Written out because pickle
//! crates either build objects by name or refuse persistent identifiers, by which PyTorch stores tensors.
//!
//! Opcodes: `pickletools` of Python.

use std::collections::HashMap;

use super::error::{CheckpointError, Result};
use super::globals;
use super::object::{Global, Objects, Span, Value};

/// The state of the machine.
pub(super) struct Machine<'a> {
    objects: &'a mut Objects,
    at: usize,
    /// Offset of the instruction under way.
    op_at: usize,
    stack: Vec<Value>,
    /// Heights of the stack at the marks.
    marks: Vec<usize>,
    memo: HashMap<u64, Value>,
}

/// The value of the pickle at offset `start` of the file of `objects`, and the offset after it.
///
/// # Errors
/// [`CheckpointError`] with the offset of the instruction that does not fit, or the name that is not allowed.
pub(super) fn load(objects: &mut Objects, start: usize) -> Result<(Value, usize)> {
    let mut machine =
        Machine { objects, at: start, op_at: start, stack: Vec::new(), marks: Vec::new(), memo: HashMap::new() };
    for _ in 0..super::INSTRUCTIONS {
        machine.op_at = machine.at;
        let op = machine.byte()?;
        if op == b'.' {
            return Ok((machine.pop()?, machine.at));
        }
        machine.step(op)?;
    }
    Err(CheckpointError::Limit { what: "instructions of a pickle", limit: super::INSTRUCTIONS })
}

impl Machine<'_> {
    fn step(&mut self, op: u8) -> Result<()> {
        match op {
            // What frames a pickle: a protocol, a length.
            0x80 => self.protocol(),
            0x95 => self.take(8).map(drop),
            b'J' | b'K' | b'M' | 0x8a | 0x8b => self.integer(op),
            b'U' | b'C' | 0x8c => self.text(1),
            b'T' | b'B' | b'X' => self.text(4),
            0x8d | 0x8e | 0x96 => self.text(8),
            b'N' | b'G' | 0x88 | 0x89 | b']' | b')' | b'}' | 0x8f => self.constant(op),
            0x85..=0x87 | b't' | b'l' | b'd' | 0x91 => self.collect(op),
            b'a' | b'e' | b's' | b'u' | 0x90 => self.add(op),
            b'(' => {
                self.marks.push(self.stack.len());
                Ok(())
            }
            b'0' => self.pop().map(drop),
            b'1' => self.pop_mark().map(drop),
            b'2' => {
                let top = self.top()?;
                self.push(top)
            }
            b'h' | b'j' | b'q' | b'r' | 0x94 => self.remember(op),
            b'c' => {
                let (module, name) = (self.line()?, self.line()?);
                self.global(module, name)
            }
            0x93 => match self.pop_many(2)?[..] {
                [Value::Text(module), Value::Text(name)] => self.global(module, name),
                _ => Err(self.wrong("the names of a module and of one of its classes", "other values")),
            },
            b'Q' => {
                let id = self.pop()?;
                let storage = globals::storage(self.objects, id)?;
                self.push(storage)
            }
            b'R' | 0x81 => self.call(),
            // With named arguments.
            0x92 => self.pop().and_then(|_| self.call()),
            // Attributes: of a state dict the versions of its modules, of tensors what is not stored in them.
            b'b' => self.pop().and_then(|_| self.top()).map(drop),
            other => Err(self.wrong("an instruction of protocol 2 to 5", format!("{other:#04x}"))),
        }
    }

    /// Truth values, empty containers, and what is not read: None, floats, sets.
    fn constant(&mut self, op: u8) -> Result<()> {
        match op {
            0x88 | 0x89 => self.push(Value::Bool(op == 0x88)),
            b']' | b')' => self.make_sequence(Vec::new()),
            b'}' => self.make_dict(Vec::new()),
            b'G' => {
                self.take(8)?;
                self.push(Value::Inert)
            }
            _ => self.push(Value::Inert),
        }
    }

    /// Tuples, lists, dictionaries and sets of what is on the stack.
    fn collect(&mut self, op: u8) -> Result<()> {
        let items = match op {
            0x85..=0x87 => self.pop_many(usize::from(op - 0x84))?,
            _ => self.pop_mark()?,
        };
        match op {
            b'd' => {
                self.make_dict(Vec::new())?;
                self.set_items(items)
            }
            0x91 => self.push(Value::Inert),
            _ => self.make_sequence(items),
        }
    }

    /// Adds what is on the stack to the container below it.
    fn add(&mut self, op: u8) -> Result<()> {
        let items = match op {
            b'a' => self.pop_many(1)?,
            b's' => self.pop_many(2)?,
            _ => self.pop_mark()?,
        };
        match op {
            b's' | b'u' => self.set_items(items),
            b'a' | b'e' => self.append(items),
            _ => self.top().map(drop),
        }
    }

    fn protocol(&mut self) -> Result<()> {
        match self.byte()? {
            2..=5 => Ok(()),
            other => Err(self.wrong("protocol 2 to 5", other.to_string())),
        }
    }

    fn integer(&mut self, op: u8) -> Result<()> {
        let value = match op {
            b'K' => i64::from(self.byte()?),
            b'M' => i64::from(u16::from_le_bytes(self.array()?)),
            b'J' => i64::from(i32::from_le_bytes(self.array()?)),
            _ => {
                let len = if op == 0x8a { self.byte()? as usize } else { self.length(4)? };
                let span = self.take(len)?;
                if len > 8 {
                    return self.push(Value::Long(span));
                }
                let bytes = &self.objects.file[span.range()];
                // Two's complement of any width.
                let negative = bytes.last().is_some_and(|byte| byte & 0x80 != 0);
                let mut wide = [if negative { 0xff } else { 0 }; 8];
                wide[..len].copy_from_slice(bytes);
                i64::from_le_bytes(wide)
            }
        };
        self.push(Value::Int(value))
    }

    /// Text or bytes after a length of `width` bytes.
    fn text(&mut self, width: usize) -> Result<()> {
        let len = self.length(width)?;
        let span = self.take(len)?;
        self.push(Value::Text(span))
    }

    fn make_sequence(&mut self, items: Vec<Value>) -> Result<()> {
        let made = self.objects.sequence(items);
        self.push(made)
    }

    fn make_dict(&mut self, entries: Vec<(Value, Value)>) -> Result<()> {
        let made = self.objects.dict(entries);
        self.push(made)
    }

    /// Adds to the list at the top.
    fn append(&mut self, items: Vec<Value>) -> Result<()> {
        match self.top()? {
            Value::Sequence(at) => {
                self.objects.sequences[at].extend(items);
                Ok(())
            }
            Value::Inert => Ok(()),
            other => Err(self.wrong("a list to add to", self.objects.describe(other))),
        }
    }

    /// Adds keys and values, in turn, to the dictionary at the top.
    fn set_items(&mut self, items: Vec<Value>) -> Result<()> {
        let (pairs, []) = items.as_chunks::<2>() else {
            return Err(self.wrong("a value for every key", format!("{} keys and values", items.len())));
        };
        match self.top()? {
            Value::Dict(at) => {
                self.objects.dicts[at].extend(pairs.iter().map(|[key, value]| (*key, *value)));
                Ok(())
            }
            Value::Inert => Ok(()),
            other => Err(self.wrong("a dictionary to add to", self.objects.describe(other))),
        }
    }

    /// Keeps the top, or brings back what was kept.
    fn remember(&mut self, op: u8) -> Result<()> {
        let key = match op {
            b'h' | b'q' => u64::from(self.byte()?),
            b'j' | b'r' => u64::from(u32::from_le_bytes(self.array()?)),
            _ => self.memo.len() as u64,
        };
        if matches!(op, b'h' | b'j') {
            let kept = self.memo.get(&key).copied();
            let kept = kept.ok_or_else(|| self.wrong("a value that was kept before", format!("number {key}")))?;
            return self.push(kept);
        }
        let top = self.top()?;
        self.memo.insert(key, top);
        Ok(())
    }

    fn global(&mut self, module: Span, name: Span) -> Result<()> {
        let text = |span: Span| String::from_utf8_lossy(&self.objects.file[span.range()]);
        let found = Global::named(&text(module), &text(name))?;
        self.push(Value::Global(found))
    }

    /// A class or function and its arguments, from the stack.
    fn call(&mut self) -> Result<()> {
        let operands = self.pop_many(2)?;
        let made = match operands[..] {
            [Value::Global(global), arguments] => global.call(self.objects, arguments)?,
            // What is allowed but not read may make others.
            [Value::Inert, _] => Value::Inert,
            _ => return Err(self.wrong("a class or function to call", "another value")),
        };
        self.push(made)
    }

    fn push(&mut self, value: Value) -> Result<()> {
        self.stack.push(value);
        Ok(())
    }

    /// The least height that the stack may sink to.
    fn floor(&self) -> usize {
        self.marks.last().copied().unwrap_or(0)
    }

    fn top(&self) -> Result<Value> {
        let above = self.stack.len() > self.floor();
        self.stack.last().copied().filter(|_| above).ok_or_else(|| self.empty())
    }

    fn pop(&mut self) -> Result<Value> {
        let top = self.top()?;
        self.stack.pop();
        Ok(top)
    }

    fn pop_many(&mut self, count: usize) -> Result<Vec<Value>> {
        let from = self.stack.len().checked_sub(count).filter(|from| *from >= self.floor());
        from.map(|from| self.stack.split_off(from)).ok_or_else(|| self.empty())
    }

    /// What lies above the last mark.
    fn pop_mark(&mut self) -> Result<Vec<Value>> {
        let mark = self.marks.pop().ok_or_else(|| self.wrong("a mark on the stack", "none"))?;
        Ok(self.stack.split_off(mark))
    }

    fn byte(&mut self) -> Result<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let span = self.take(N)?;
        let bytes = self.objects.file[span.range()].first_chunk().copied();
        bytes.ok_or_else(|| self.cut())
    }

    /// A length of `width` bytes.
    fn length(&mut self, width: usize) -> Result<usize> {
        let span = self.take(width)?;
        let bytes = &self.objects.file[span.range()];
        let value = bytes.iter().rev().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        usize::try_from(value).map_err(|_| self.cut())
    }

    fn take(&mut self, len: usize) -> Result<Span> {
        let end = self.at.checked_add(len).filter(|end| *end <= self.objects.file.len());
        let span = Span { start: self.at, len };
        self.at = end.ok_or_else(|| self.cut())?;
        Ok(span)
    }

    /// The bytes up to the end of a line.
    fn line(&mut self) -> Result<Span> {
        let rest = self.objects.file.get(self.at..).unwrap_or_default();
        let len = rest.iter().take(LONGEST_NAME).position(|byte| *byte == b'\n').ok_or_else(|| self.cut())?;
        let span = self.take(len)?;
        self.take(1)?;
        Ok(span)
    }

    fn cut(&self) -> CheckpointError {
        self.wrong("more bytes", "the end of the file")
    }

    fn empty(&self) -> CheckpointError {
        self.wrong("a value on the stack", "none")
    }

    fn wrong(&self, expected: &'static str, found: impl Into<String>) -> CheckpointError {
        CheckpointError::Pickle { at: self.op_at, expected, found: found.into() }
    }
}

/// The most bytes of the name of a module or class.
const LONGEST_NAME: usize = 1 << 12;
