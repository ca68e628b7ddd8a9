//! Loop nests: the family of everything that has no family of its own.
//!
//! The spec is the nest itself ([`LoopNest`]), simplified; every operator's lowering writes its own. The schedule is the cut of the
//! output axes into chunks. Arguments: the inputs, the index tables, then the output.

use super::name::Section;
use super::{Access, Argument, Family, KernelName, LayerKind, Parts};
use std::hash::{Hash, Hasher};
mod doubles;
mod emit;
pub mod nest;
mod point;
mod registers;
mod rows;
mod squares;
#[cfg(test)]
mod sweep;
#[cfg(test)]
mod tests;
mod unsigned;
mod values;
pub(super) use point::evaluate;
pub(super) use values::PointValue;

use crate::codegen::Emitter;
use crate::target::Target;
use fornax_ir::types::DType;
use nest::{Affine, Combine, Inst, LoopNest, Output, Split};

/// A loop nest.
///
/// Nests are the same if they have the same name and are the same when simplified, however they were written.
#[derive(Clone, Debug)]
pub struct Loops {
    /// What it computes, for its name.
    titles: Vec<String>,
    /// The nest as it was written: one axis per axis of the operands.
    written: Box<LoopNest>,
    nest: Box<LoopNest>,
}

impl PartialEq for Loops {
    fn eq(&self, other: &Self) -> bool {
        self.identity() == other.identity()
    }
}

impl Eq for Loops {}

impl Hash for Loops {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.identity().hash(state);
    }
}

schedule_text!(Split, "Split" { "outer": outer, "block": block });

/// Titles of a chain that its name spells out.
const SPELLED: usize = 5;

impl Loops {
    /// The kernel of a nest. `title` says what it computes; the name ends in a hash of the nest.
    pub fn new(title: impl Into<String>, nest: LoopNest) -> Self {
        Self { titles: vec![title.into()], nest: Box::new(nest.clone().simplify()), written: Box::new(nest) }
    }

    /// This kernel with input `k` computed by `producer`, which writes it, where it is read; see [`LoopNest::inline`]. `inputs` and
    /// `tables` become the operands of the new kernel from those of both.
    pub fn fuse<T: PartialEq + Copy>(
        &self,
        k: usize,
        operands: &[T],
        producer: &Self,
        of_producer: &[T],
    ) -> Option<(Self, Vec<T>)> {
        let mut written = self.written.inline(k, &producer.written)?;
        let (inputs, rest) = operands.split_at(self.written.inputs.len());
        let (from, more) = of_producer.split_at(producer.written.inputs.len());
        let mut inputs: Vec<T> = inputs.iter().enumerate().filter(|(i, _)| *i != k).map(|(_, x)| *x).collect();
        inputs.extend(from);
        written.share_inputs(&mut inputs);
        let (tables, output) = rest.split_at(self.written.tables.len());
        inputs.extend(tables.iter().chain(&more[..producer.written.tables.len()]).chain(output));
        let titles = producer.titles.iter().chain(&self.titles).cloned().collect();
        Some((Self { titles, nest: Box::new(written.clone().simplify()), written: Box::new(written) }, inputs))
    }

    /// Copies elements of `shape` between two strided layouts (element strides per logical axis).
    pub fn copy(dtype: DType, shape: &[usize], from: &[usize], to: &[usize]) -> Self {
        Self::moved("copy", [movement(dtype); 2], shape, [from, to])
    }

    /// As [`Self::copy`], of floating-point elements that are widened, or rounded to nearest even, from one type to the other.
    pub fn convert(types: [DType; 2], shape: &[usize], from: &[usize], to: &[usize]) -> Self {
        Self::moved("convert", types, shape, [from, to])
    }

    fn moved(title: &str, types: [DType; 2], shape: &[usize], [from, to]: [&[usize]; 2]) -> Self {
        let signed = |strides: &[usize]| Affine::new(0, strides.iter().map(|s| *s as i64).collect::<Vec<_>>());
        let elements = shape.iter().product();
        let output = Output { dtype: types[1], elements, at: signed(to) };
        let mut nest = LoopNest::map(shape, output, vec![Inst::Load(0)]);
        nest.input("x", types[0], elements, signed(from));
        Self::new(title, nest)
    }

    /// The kernel of a nest as it was written, under the titles of what it computes, at least one.
    pub(super) fn titled(titles: Vec<String>, nest: LoopNest) -> Self {
        Self { titles, nest: Box::new(nest.clone().simplify()), written: Box::new(nest) }
    }

    /// What it computes, in order.
    pub(super) fn titles(&self) -> &[String] {
        &self.titles
    }

    /// The nest as it was written.
    pub(super) fn written(&self) -> &LoopNest {
        &self.written
    }

    fn identity(&self) -> (&[String], &[usize], &LoopNest) {
        (&self.titles, &self.written.extents[..self.written.outputs()], &self.nest)
    }

    /// The simplified nest.
    pub fn nest(&self) -> &LoopNest {
        &self.nest
    }
}

/// The type that moves elements of `dtype` unchanged: for sizes of 1, 2 and 4 bytes one whose copies run in vectors. Integers of 16 bits stay
/// what they are, so that what computes them can be fused into their copies.
pub fn movement(dtype: DType) -> DType {
    match dtype.size() {
        1 => DType::U8,
        2 if dtype.is_float() => DType::U16,
        4 => DType::F32,
        _ => dtype,
    }
}

impl Family for Loops {
    type Schedule = Split;

    const WORDS: &'static [&'static str] = &["loops"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Loops
    }

    fn kernel_name(&self) -> KernelName {
        let extents = &self.written.extents[..self.written.outputs()];
        let extents = if extents.is_empty() { vec![1] } else { extents.to_vec() };
        let titles = self.titles.iter().take(SPELLED).fold(KernelName::nest(self.nest.output.dtype), KernelName::word);
        let more = self.titles.len().saturating_sub(SPELLED);
        let titles = if more > 0 { titles.word(format!("and_{more}")) } else { titles };
        let hash = xxhash_rust::xxh3::xxh3_64(self.nest.to_string().as_bytes());
        titles.with(Section::Extents(extents)).with(Section::Hash(hash))
    }

    /// A name leaves the nest out: a plan's text says it in lines of its own.
    fn read(_name: &Parts<'_>) -> Option<Self> {
        None
    }

    fn arguments(&self) -> Vec<Argument> {
        let nest = &self.nest;
        let reads = nest.inputs.iter().map(|x| Argument::read(x.name, x.dtype, x.elements));
        let tables = nest.tables.iter().map(|t| Argument::indices(t.name, t.dtype, t.elements));
        let mut output = Argument::write("y", nest.output.dtype, nest.output.elements);
        let written: usize = nest.extents[..nest.outputs()].iter().product();
        if written < nest.output.elements {
            output.access = Access::Update;
        }
        // Element by element at the same place: the operand may be overwritten as it is read.
        output.in_place = nest.inputs.iter().position(|x| {
            nest.reduced == 0
                && x.lookups.is_empty()
                && x.at == nest.output.at
                && (x.dtype.size(), x.elements) == (nest.output.dtype.size(), nest.output.elements)
        });
        reads.chain(tables).chain([output]).collect()
    }

    fn schedule(&self, _target: &Target) -> Split {
        self.nest.split()
    }

    fn chunks(&self, schedule: &Split) -> u32 {
        self.nest.chunks(*schedule)
    }

    fn flops(&self) -> u64 {
        let nest = &self.nest;
        let arithmetic = |program: &[Inst]| {
            program.iter().filter(|i| matches!(i, Inst::Unary(..) | Inst::Binary(..) | Inst::Fma(..))).count()
        };
        let combine = match nest.combine {
            Combine::Last | Combine::Arg { .. } => 0,
            Combine::SumProduct => 2,
            _ => 1,
        };
        let written: usize = nest.extents[..nest.outputs()].iter().product();
        let per_point = (arithmetic(&nest.body) + combine) as u64;
        nest.points() as u64 * per_point + (written * arithmetic(&nest.finish)) as u64
    }

    /// Elements that the nest comes to, each once: of a part of an operand, not of all of it.
    fn bytes(&self) -> u64 {
        let nest = &self.nest;
        let met = |at: &Affine, elements: usize| {
            let moved = nest.extents.iter().zip(&at.strides).filter(|(_, stride)| **stride != 0);
            moved.fold(1usize, |met, (extent, _)| met.saturating_mul(*extent)).min(elements)
        };
        let looked_up = |x: &nest::Input| if x.lookups.is_empty() { met(&x.at, x.elements) } else { x.elements };
        let reads = nest.inputs.iter().map(|x| (looked_up(x), x.dtype));
        let tables = nest.tables.iter().map(|t| (met(&t.at, t.elements), t.dtype));
        let output = (met(&nest.output.at, nest.output.elements), nest.output.dtype);
        reads.chain(tables).chain([output]).map(|(count, dtype)| (count * dtype.size()) as u64).sum()
    }

    fn unspelled(&self) -> Option<&Loops> {
        Some(self)
    }

    fn emit(&self, schedule: &Split, e: &mut dyn Emitter) {
        emit::emit(e, &self.nest, *schedule);
    }
}
