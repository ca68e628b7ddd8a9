//! Kernels from text: the spec that a kernel's name says, and the nest that a name leaves out.
//!
//! In: a name as it stands in plans and profiles. Out: its spec, held to print as the same name. The name of a loop nest ends in a
//! hash, so the nest itself is read from the lines that `Loops` prints as.
//!
//! ```text
//! nest "add" "silu" over [1, 64], reduced 0
//!   input x : f32 x 64 at 0 + [64, 1]
//!   output f32 x 64 at 0 + [64, 1]
//!   body %0 = load 0
//!   body %1 = unary silu %0
//!   combine last
//! ```

mod lexer;
mod nest;

pub use lexer::Words;
pub use nest::read as nest;

use super::conv::{Axis, Input};
use super::name::Section;
use super::pool::Kind;
use super::sliding::Sliding;
use super::winograd::Tile;
use super::{Conv, Depthwise, Gate, Gemv, KernelName, Mean, Pack, Pool, Ring, ScaleWeights, Softmax, Spec, Winograd};
use crate::codegen::epilogue::{Epilogue, EpilogueOp};
use fornax_ir::scalar::UnaryFn;
use fornax_runtime::packing::{Layout, Packing, Transform};

/// The spec of a name, but for nests; `None` if no spec has this name.
pub fn spec(text: &str) -> Option<Spec> {
    let name: KernelName = text.parse().ok()?;
    let parts = Parts::of(&name);
    let spec: Spec = match name.family {
        "conv" => parts.conv()?.into(),
        "winograd2x2" => parts.winograd(Tile::Two)?.into(),
        "winograd4x4" => parts.winograd(Tile::Four)?.into(),
        "depthwise" => parts.depthwise(parts.epilogues.first()?)?.into(),
        "ring" => parts.ring()?.into(),
        "gate" => Gate { batch: parts.one(0, 'n')?, pixels: parts.one(0, 'p')?, channels: parts.one(0, 'c')? }.into(),
        "gemv" => {
            let activation = function(parts.epilogues.first()?);
            Gemv { rows: parts.one(0, 'm')?, inputs: parts.one(0, 'k')?, outputs: parts.one(0, 'n')?, activation }
                .into()
        }
        "mean" => {
            let count = parts.words.first()?.strip_prefix("over")?.parse().ok()?;
            let (batch, channels) = (parts.one(0, 'n')?, parts.one(0, 'c')?);
            Mean { batch, rows: parts.one(0, 'h')?, columns: parts.one(0, 'w')?, channels, count }.into()
        }
        "pack" => parts.pack()?.into(),
        "pool" => Pool { sliding: parts.sliding(0)?, kind: parts.pool()? }.into(),
        "softmax" | "log_softmax" => {
            let log = name.family == "log_softmax";
            Softmax { rows: parts.one(0, 'm')?, length: parts.one(0, 'n')?, log }.into()
        }
        "scale_weights" => {
            let (batch, filters) = (parts.one(0, 'n')?, parts.one(0, 'm')?);
            ScaleWeights { batch, filters, channels: parts.one(0, 'c')? }.into()
        }
        _ => return None,
    };
    (spec.name() == text).then_some(spec)
}

/// The parts of a name, by what they are.
struct Parts<'a> {
    shapes: Vec<&'a [(char, Vec<usize>)]>,
    extents: Vec<&'a [usize]>,
    words: Vec<&'a str>,
    epilogues: Vec<&'a Epilogue>,
}

impl<'a> Parts<'a> {
    fn of(name: &'a KernelName) -> Self {
        let mut parts = Self { shapes: Vec::new(), extents: Vec::new(), words: Vec::new(), epilogues: Vec::new() };
        for section in &name.sections {
            match section {
                Section::Shape(fields) => parts.shapes.push(fields),
                Section::Extents(extents) => parts.extents.push(extents),
                Section::Word(word) => parts.words.push(word),
                Section::Bias(epilogue) => parts.epilogues.push(epilogue),
                Section::Hash(_) => {}
            }
        }
        parts
    }

    fn field(&self, shape: usize, letter: char) -> Option<&'a [usize]> {
        self.shapes.get(shape)?.iter().find(|(own, _)| *own == letter).map(|(_, extents)| &extents[..])
    }

    fn one(&self, shape: usize, letter: char) -> Option<usize> {
        self.field(shape, letter)?.first().copied()
    }

    /// Two numbers; one stands for both.
    fn pair(&self, shape: usize, letter: char) -> Option<[usize; 2]> {
        let values = self.field(shape, letter)?;
        Some([*values.first()?, *values.last()?])
    }

    fn conv(&self) -> Option<Conv> {
        let [output, kernel, stride, begin] = ['o', 'k', 's', 'p'].map(|letter| self.pair(1, letter));
        let (output, kernel, stride, begin) = (output?, kernel?, stride?, begin?);
        let dilation = self.pair(1, 'd').unwrap_or([1, 1]);
        let axis = |at: usize, input: usize| Axis {
            input,
            output: output[at],
            kernel: kernel[at],
            stride: stride[at],
            dilation: dilation[at],
            begin: begin[at],
        };
        Some(Conv {
            batch: self.one(0, 'n')?,
            groups: self.one(1, 'g').unwrap_or(1),
            channels: self.one(0, 'c')?,
            filters: self.one(0, 'm')?,
            weights_per_image: self.words.contains(&"each"),
            rows: axis(0, self.one(0, 'h')?),
            columns: axis(1, self.one(0, 'w')?),
            input: if self.words.contains(&"rows") { Input::RowMajor } else { Input::ChannelsLast },
            epilogue: (*self.epilogues.first()?).clone(),
        })
    }

    fn winograd(&self, tile: Tile) -> Option<Winograd> {
        Some(Winograd {
            batch: self.one(0, 'n')?,
            channels: self.one(0, 'c')?,
            filters: self.one(0, 'm')?,
            input: [self.one(0, 'h')?, self.one(0, 'w')?],
            output: self.pair(1, 'o')?,
            begin: self.pair(1, 'p')?,
            tile,
            epilogue: (*self.epilogues.first()?).clone(),
        })
    }

    /// The extents of a sliding window: three shapes from `first` on.
    fn sliding(&self, first: usize) -> Option<Sliding> {
        Some(Sliding {
            batch: self.one(first, 'n')?,
            channels: self.one(first, 'c')?,
            input: [self.one(first, 'h')?, self.one(first, 'w')?],
            output: [self.one(first + 1, 'h')?, self.one(first + 1, 'w')?],
            kernel: self.pair(first + 2, 'k')?,
            strides: self.pair(first + 2, 's')?,
            dilations: self.pair(first + 2, 'd').unwrap_or([1, 1]),
            pads: self.pair(first + 2, 'p')?,
        })
    }

    fn depthwise(&self, epilogue: &Epilogue) -> Option<Depthwise> {
        let first = self.shapes.len().checked_sub(3)?;
        let Sliding { batch, channels, input, output, kernel, strides, dilations, pads } = self.sliding(first)?;
        let (activation, squeeze) = (function(epilogue), epilogue.sum());
        Some(Depthwise { batch, channels, input, output, kernel, strides, dilations, pads, activation, squeeze })
    }

    fn ring(&self) -> Option<Ring> {
        let [expand, depthwise] = self.epilogues[..] else { return None };
        Some(Ring { inputs: self.one(0, 'i')?, expand: function(expand), depthwise: self.depthwise(depthwise)? })
    }

    /// Names are in lower case: the axes that have blocks are those after a number.
    fn pack(&self) -> Option<Pack> {
        let word = self.words.first()?;
        let end = word.find(|c: char| c.is_ascii_digit()).unwrap_or(word.len());
        let (axes, blocks) = word.split_at(end);
        let axis = |c: char| if blocks.contains(c) { c.to_ascii_uppercase() } else { c };
        let layout: Layout = format!("{}{blocks}", axes.chars().map(axis).collect::<String>()).parse().ok()?;
        let transform = match self.words.get(1) {
            Some(bits) => Transform::Scale(u32::from_str_radix(bits.strip_prefix("by")?, 16).ok()?),
            None => Transform::None,
        };
        let extents = self.extents.first().filter(|extents| extents.len() == layout.rank())?.to_vec();
        Pack::new(Packing::new(extents, transform, layout), self.field(0, 's')?.to_vec())
    }

    fn pool(&self) -> Option<Kind> {
        match (self.words.first()?, self.extents.first()) {
            (&"max", None) => Some(Kind::Max),
            (&"average", None) => Some(Kind::Average),
            (&"average", Some([height, width])) => Some(Kind::AveragePadded([*height, *width])),
            _ => None,
        }
    }
}

/// The first function of an epilogue.
fn function(epilogue: &Epilogue) -> Option<UnaryFn> {
    epilogue.steps().iter().find_map(|step| match step {
        EpilogueOp::Apply(function) => Some(*function),
        EpilogueOp::Residual | EpilogueOp::Sum => None,
    })
}
