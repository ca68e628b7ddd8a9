//! Loop nests as lines of text.
//!
//! In: a nest as an operator's lowering wrote it, with its titles. Out: lines that read back to the same nest.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use super::lexer::Words;
use crate::kernels::Loops;
use crate::kernels::loops::nest::{
    Affine, Combine, Entry, Guard, Id, IndexTable, Input, Inst, LoopNest, Output, Program,
};
use fornax_ir::graph::print::quoted;
use fornax_ir::scalar::{BinaryFn, UnaryFn};

/// Most axes, operands and instructions of a nest that is read: more than any operator has.
const MOST: usize = 1 << 12;
/// Longest name of an argument.
const NAME: usize = 32;

impl fmt::Display for Loops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let titles: Vec<String> = self.titles().iter().map(|title| quoted(title)).collect();
        write!(f, "nest {} {}", titles.join(" "), self.written())
    }
}

/// Every combination, to be found by its text.
const COMBINES: [Combine; 10] = [
    Combine::Last,
    Combine::Sum,
    Combine::SumProduct,
    Combine::Max,
    Combine::Min,
    Combine::Prod,
    Combine::Arg { min: false, last: false },
    Combine::Arg { min: false, last: true },
    Combine::Arg { min: true, last: false },
    Combine::Arg { min: true, last: true },
];

/// A nest from its lines, the first of which begins with `nest`; else what was expected, with the number of the line.
pub fn read(lines: &[&str]) -> Result<Loops, (usize, String)> {
    let (head, rest) = lines.split_first().ok_or((0, "a nest".to_string()))?;
    let (titles, mut nest) = self::head(&mut Words::new(head)).map_err(|e| (0, e))?;
    let mut combine = None;
    for (at, line) in rest.iter().enumerate() {
        let mut words = Words::new(line);
        part(&mut nest, &mut combine, &mut words).and_then(|()| words.end()).map_err(|e| (at + 1, e))?;
    }
    nest.combine = combine.ok_or((lines.len() - 1, "a line `combine`".to_string()))?;
    check(&nest).map_err(|e| (lines.len() - 1, e))?;
    Ok(Loops::titled(titles, nest))
}

type Read<T> = Result<T, String>;

fn head(words: &mut Words<'_>) -> Read<(Vec<String>, LoopNest)> {
    words.keyword("nest")?;
    let mut titles = Vec::new();
    while let Some(title) = words.quoted()? {
        titles.push(title);
    }
    words.keyword("over")?;
    let extents: Vec<usize> = words.list()?;
    words.keyword(",")?;
    words.keyword("reduced")?;
    let reduced = words.number()?;
    if reduced > extents.len() || titles.is_empty() || extents.len() > MOST {
        return Err(format!("a title, and at most {} reduced axes, found {reduced}", extents.len()));
    }
    let axes = extents.len();
    let none = Output { dtype: fornax_ir::types::DType::F32, elements: 0, at: Affine::new(0, vec![0; axes]) };
    let mut nest = LoopNest::map(&extents, none, Vec::new());
    nest.reduced = reduced;
    Ok((titles, nest))
}

/// One line of a nest.
fn part(nest: &mut LoopNest, combine: &mut Option<Combine>, words: &mut Words<'_>) -> Read<()> {
    let axes = nest.extents.len();
    match words.word()?.as_str() {
        "input" => {
            let name = interned(&words.word()?)?;
            words.keyword(":")?;
            let (dtype, elements, at) = operand(words, axes)?;
            let mut lookups = Vec::new();
            while words.eat("lookup") {
                let table = words.number()?;
                words.keyword("times")?;
                lookups.push((table, words.number()?));
            }
            nest.inputs.push(Input { name, dtype, elements, at, lookups });
        }
        "table" => {
            let name = interned(&words.word()?)?;
            words.keyword(":")?;
            let (dtype, elements, at) = operand(words, axes)?;
            let entry = match words.word()?.as_str() {
                "skip" => Entry::Skip,
                "wrap" => Entry::Wrap(words.number()?),
                other => return Err(format!("skip or wrap, found {other}")),
            };
            nest.tables.push(IndexTable { name, dtype, elements, at, entry });
        }
        "guard" => {
            let at = affine(words, axes)?;
            words.keyword("below")?;
            nest.guards.push(Guard { at, below: words.number()? });
        }
        "output" => {
            let (dtype, elements, at) = operand(words, axes)?;
            nest.output = Output { dtype, elements, at };
        }
        "position" => nest.position = affine(words, axes)?,
        "init" => inst(&mut nest.init, words)?,
        "body" => inst(&mut nest.body, words)?,
        "finish" => inst(&mut nest.finish, words)?,
        "combine" => {
            let text = words.word()?;
            let found = COMBINES.into_iter().find(|combine| combine.to_string() == text);
            *combine = Some(found.ok_or_else(|| format!("how terms are combined, found {text}"))?);
        }
        other => return Err(format!("a part of a nest, found {other}")),
    }
    Ok(())
}

/// `f32 x 64 at 0 + [64, 1]`
fn operand(words: &mut Words<'_>, axes: usize) -> Read<(fornax_ir::types::DType, usize, Affine)> {
    let dtype = words.number()?;
    words.keyword("x")?;
    let elements = words.number()?;
    words.keyword("at")?;
    Ok((dtype, elements, affine(words, axes)?))
}

fn affine(words: &mut Words<'_>, axes: usize) -> Read<Affine> {
    let base = words.number()?;
    words.keyword("+")?;
    let strides: Vec<i64> = words.list()?;
    if strides.len() == axes {
        Ok(Affine::new(base, strides))
    } else {
        Err(format!("{axes} strides, found {}", strides.len()))
    }
}

/// `%3 = fma %0 %1 %2`: the next instruction of a program.
fn inst(program: &mut Program, words: &mut Words<'_>) -> Read<()> {
    let next = program.len();
    words.keyword(&format!("%{next}"))?;
    words.keyword("=")?;
    let id = |words: &mut Words<'_>| -> Read<Id> {
        let text = words.word()?;
        let id = text.strip_prefix('%').and_then(|id| id.parse::<Id>().ok());
        id.filter(|id| *id < next).ok_or_else(|| format!("an earlier value, found {text}"))
    };
    let inst = match words.word()?.as_str() {
        "load" => Inst::Load(words.number()?),
        "float" => Inst::Float(words.bits()?),
        "double" => Inst::Double(words.wide_bits()?),
        "int" => Inst::Int(words.number()?),
        "unsigned" => Inst::Unsigned(words.number()?),
        "accumulated" => Inst::Accumulated,
        "position" => Inst::Position,
        "unary" => {
            let (name, mut parameters) = (words.word()?, Vec::new());
            while words.peek().is_some_and(|word| word.starts_with("0x")) {
                parameters.push(f32::from_bits(words.bits()?));
            }
            let function = UnaryFn::from_spelling(&name, &parameters);
            Inst::Unary(function.ok_or_else(|| format!("a function of one value, found {name}"))?, id(words)?)
        }
        "binary" => {
            let name = words.word()?;
            let function = BinaryFn::from_name(&name);
            Inst::Binary(
                function.ok_or_else(|| format!("a function of two values, found {name}"))?,
                id(words)?,
                id(words)?,
            )
        }
        "fma" => Inst::Fma(id(words)?, id(words)?, id(words)?),
        "select" => Inst::Select(id(words)?, id(words)?, id(words)?),
        "to_float" => Inst::ToFloat(id(words)?),
        "to_double" => Inst::ToDouble(id(words)?),
        "to_int" => Inst::ToInt(words.number()?, id(words)?),
        "wrap" => Inst::Wrap(words.number()?, id(words)?),
        other => return Err(format!("an instruction, found {other}")),
    };
    if next >= MOST {
        return Err(format!("at most {MOST} instructions"));
    }
    program.push(inst);
    Ok(())
}

/// What a nest must keep to be compiled: references to operands that are there, and programs where they are needed.
fn check(nest: &LoopNest) -> Read<()> {
    let programs = || [&nest.init, &nest.body, &nest.finish].into_iter().flatten();
    let loads = programs().all(|inst| !matches!(inst, Inst::Load(input) if *input >= nest.inputs.len()));
    let lookups = nest.inputs.iter().flat_map(|x| &x.lookups).all(|(table, _)| *table < nest.tables.len());
    if !loads || !lookups {
        return Err("operands and tables that are there".into());
    }
    let needed = if nest.combine == Combine::SumProduct { 2 } else { 1 };
    if nest.body.len() < needed {
        return Err(format!("a body of at least {needed} instructions"));
    }
    let early = nest.init.iter().chain(&nest.body).any(|inst| matches!(inst, Inst::Accumulated | Inst::Position));
    if early { Err("`accumulated` and `position` in `finish` only".into()) } else { Ok(()) }
}

/// The name of an argument that lives as long as the process: arguments have a few dozen names.
fn interned(name: &str) -> Read<&'static str> {
    static NAMES: Mutex<BTreeSet<&'static str>> = Mutex::new(BTreeSet::new());
    let mut names = NAMES.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    if let Some(known) = names.get(name) {
        return Ok(known);
    }
    let plain = name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    if name.len() > NAME || !plain || names.len() >= MOST {
        return Err(format!("a name of at most {NAME} letters, digits and _, found {name}"));
    }
    let name: &'static str = Box::leak(name.to_string().into_boxed_str());
    names.insert(name);
    Ok(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use fornax_ir::types::DType;

    fn full() -> LoopNest {
        let output = Output { dtype: DType::I64, elements: 12, at: Affine::new(3, [4, 1, 0]) };
        let mut nest = LoopNest::map(&[3, 4, 5], output, Vec::new());
        nest.reduced = 1;
        nest.position = Affine::new(0, [0, 0, 1]);
        nest.input("x", DType::F32, 60, Affine::new(-2, [20, 5, 1]));
        nest.inputs[0].lookups = vec![(0, 20), (1, -5)];
        for entry in [Entry::Skip, Entry::Wrap(7)] {
            nest.tables.push(IndexTable {
                name: "rows",
                dtype: DType::I32,
                elements: 3,
                at: Affine::new(0, [1, 0, 0]),
                entry,
            });
        }
        nest.guards.push(Guard { at: Affine::new(-1, [0, 1, 0]), below: 4 });
        nest.init = vec![Inst::Float(f32::NEG_INFINITY.to_bits())];
        nest.body = vec![
            Inst::Load(0),
            Inst::Float(f32::NAN.to_bits()),
            Inst::Unary(UnaryFn::Clip(-0.5, 6.25), 0),
            Inst::Binary(BinaryFn::Prelu, 2, 1),
            Inst::Fma(0, 1, 2),
            Inst::Int(-9),
            Inst::Select(5, 3, 4),
            Inst::ToInt(DType::U8, 6),
            Inst::Wrap(DType::I8, 7),
            Inst::ToFloat(8),
            Inst::Double(f64::NAN.to_bits()),
            Inst::Unsigned(u64::MAX),
            Inst::ToDouble(11),
        ];
        nest.combine = Combine::Arg { min: true, last: true };
        nest.finish = vec![Inst::Accumulated, Inst::Position];
        nest
    }

    #[test]
    fn every_part_of_a_nest_reads_back() {
        let loops = Loops::titled(vec!["one".into(), "two \"three\"".into()], full());
        let text = loops.to_string();
        let lines: Vec<&str> = text.lines().collect();
        let again = read(&lines).unwrap();
        assert_eq!((again.written(), again.titles()), (loops.written(), loops.titles()));
        assert_eq!(again.to_string(), text);
        for combine in COMBINES {
            let loops = Loops::titled(vec!["one".into()], LoopNest { combine, ..full() });
            let text = loops.to_string();
            assert_eq!(read(&text.lines().collect::<Vec<_>>()).unwrap().written(), loops.written());
        }
    }

    #[test]
    fn what_is_no_nest_is_refused_with_its_line() {
        let text = Loops::titled(vec!["one".into()], full()).to_string();
        for (from, to, line, expected) in [
            ("reduced 1", "reduced 4", 0, "at most 3 reduced axes"),
            ("[20, 5, 1]", "[20, 5]", 1, "3 strides, found 2"),
            ("input x", "input x-y", 1, "letters, digits"),
            ("wrap 7", "clamp 7", 3, "skip or wrap, found clamp"),
            ("body %1 =", "body %2 =", 9, "%1, found %2"),
            ("fma %0 %1 %2", "fma %0 %1 %4", 12, "an earlier value, found %4"),
            ("unary clip", "unary clap", 10, "a function of one value, found clap"),
            ("load 0", "load 1", 23, "operands and tables that are there"),
            ("combine arg_min_last", "combine all", 23, "how terms are combined"),
            ("  combine arg_min_last\n", "", 22, "a line `combine`"),
        ] {
            let text = text.replacen(from, to, 1);
            let (found, message) = read(&text.lines().collect::<Vec<_>>()).unwrap_err();
            assert!(message.contains(expected), "{from} as {to}: {message}");
            assert_eq!(found, line, "{from} as {to}: {message}");
        }
    }
}
