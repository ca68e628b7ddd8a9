//! The parts of a kernel's name by what they are, from which families read their specs back.
//!
//! In: a name as it was parsed. Out: extents, words and epilogues in the order in which the name has them.

use super::KernelName;
use super::name::Section;
use crate::codegen::elements::{in_pairs, widens};
use crate::codegen::epilogue::{Epilogue, EpilogueOp};
use fornax_ir::scalar::UnaryFn;
use fornax_ir::types::DType;

/// The parts of a name.
pub struct Parts<'a> {
    name: &'a KernelName,
    shapes: Vec<&'a [(char, Vec<usize>)]>,
    /// Extents without letters.
    pub extents: Vec<&'a [usize]>,
    /// Attributes.
    pub words: Vec<&'a str>,
    /// Each bias and what follows it.
    pub epilogues: Vec<&'a Epilogue>,
}

impl<'a> Parts<'a> {
    /// Those of `name`.
    pub fn of(name: &'a KernelName) -> Self {
        let mut parts =
            Self { name, shapes: Vec::new(), extents: Vec::new(), words: Vec::new(), epilogues: Vec::new() };
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

    /// What the name begins with: one of the words of a family.
    pub fn family(&self) -> &'static str {
        self.name.family
    }

    /// The element type, if it is one that `f32` lanes are loaded from.
    pub fn element(&self) -> Option<DType> {
        Some(self.name.element).filter(|element| widens(*element))
    }

    /// The element type, whatever it is: of a family that takes others than `f32` lanes are loaded from.
    pub fn any_element(&self) -> DType {
        self.name.element
    }

    /// The element type, if it is one that kernels multiply: that of [`Self::element`], or pairs to a lane.
    pub fn factors(&self) -> Option<DType> {
        Some(self.name.element).filter(|element| widens(*element) || in_pairs(*element))
    }

    /// How many shapes there are.
    pub fn shapes(&self) -> usize {
        self.shapes.len()
    }

    /// Whether there is an attribute.
    pub fn has(&self, word: &str) -> bool {
        self.words.contains(&word)
    }

    /// The extents under a letter of a shape.
    pub fn field(&self, shape: usize, letter: char) -> Option<&'a [usize]> {
        self.shapes.get(shape)?.iter().find(|(own, _)| *own == letter).map(|(_, extents)| &extents[..])
    }

    /// The first extent under a letter of a shape.
    pub fn one(&self, shape: usize, letter: char) -> Option<usize> {
        self.field(shape, letter)?.first().copied()
    }

    /// Two extents; one stands for both.
    pub fn pair(&self, shape: usize, letter: char) -> Option<[usize; 2]> {
        let values = self.field(shape, letter)?;
        Some([*values.first()?, *values.last()?])
    }
}

/// The first function of an epilogue.
pub fn function(epilogue: &Epilogue) -> Option<UnaryFn> {
    epilogue.steps().iter().find_map(|step| match step {
        EpilogueOp::Apply(function) => Some(*function),
        _ => None,
    })
}
