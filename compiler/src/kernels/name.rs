//! Names of kernels: what they are made of, how they print, and how they are read.
//!
//! ```text
//! f32_conv_n1c64h1w49m64_o1x49k1x1s1x1p0x0_rows_bias_add_relu        <element>_<family>_<shapes, attributes>_bias<epilogue>
//! f32_mul_add_1x64_h0123456789abcdef                                  <element>_<titles>_<extents>_h<hash of the nest>
//! ```
//!
//! Symbols, profiles, plans and the records of compiled libraries name kernels so; a text that reads as a name prints as the same
//! text. Equal specs have equal names, and different ones differ.

use std::fmt;
use std::str::FromStr;

use fornax_ir::types::DType;

use super::{LayerKind, WORDS};
use crate::codegen::epilogue::{Epilogue, EpilogueOp};

/// The family of loop nests, whose names begin with what they compute.
const NESTS: &str = "loops";

/// A part of a name.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub enum Section {
    /// Extents under a letter each: `n1c64h56w56`, `k3x3s1x1`.
    Shape(Vec<(char, Vec<usize>)>),
    /// Extents alone: `1x64`.
    Extents(Vec<usize>),
    /// An attribute, or a title of a nest.
    Word(String),
    /// `bias`, and what follows it.
    Bias(Epilogue),
    /// A hash of what the rest leaves out.
    Hash(u64),
}

/// The name of a kernel.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct KernelName {
    /// Type of the elements it computes.
    pub element: DType,
    /// What its name begins with: one of the words of a family.
    pub family: &'static str,
    /// The rest.
    pub sections: Vec<Section>,
}

impl KernelName {
    /// A name of nothing but its family, by one of its words.
    pub fn new(element: DType, family: &'static str) -> Self {
        Self { element, family, sections: Vec::new() }
    }

    /// The name of a nest, to which titles, extents and a hash are added.
    pub fn nest(element: DType) -> Self {
        Self::new(element, NESTS)
    }

    /// The same with one more part.
    pub fn with(mut self, section: Section) -> Self {
        self.sections.push(section);
        self
    }

    /// The same with extents under letters.
    pub fn shape(self, fields: &[(char, &[usize])]) -> Self {
        self.with(Section::Shape(fields.iter().map(|(letter, extents)| (*letter, extents.to_vec())).collect()))
    }

    /// The same with an attribute.
    pub fn word(self, word: impl Into<String>) -> Self {
        self.with(Section::Word(word.into()))
    }

    /// The same with an attribute, if it has it.
    pub fn word_if(self, has: bool, word: &str) -> Self {
        if has { self.word(word) } else { self }
    }

    /// The same with a bias and what follows it.
    pub fn bias(self, epilogue: &Epilogue) -> Self {
        self.with(Section::Bias(epilogue.clone()))
    }

    /// The extents under a letter, if it has them.
    pub fn field(&self, letter: char) -> Option<&[usize]> {
        let shapes = self.sections.iter().filter_map(|section| match section {
            Section::Shape(fields) => Some(fields),
            _ => None,
        });
        shapes.flatten().find(|(own, _)| *own == letter).map(|(_, extents)| &extents[..])
    }

    /// Whether it has an attribute.
    pub fn has(&self, word: &str) -> bool {
        self.sections.iter().any(|section| matches!(section, Section::Word(own) if own == word))
    }

    /// Whether a function is applied to its results.
    pub fn activated(&self) -> bool {
        let applied = |section: &Section| match section {
            Section::Bias(epilogue) => {
                epilogue.steps().iter().any(|step| matches!(step, EpilogueOp::Apply(_) | EpilogueOp::ApplyWithSlope(_)))
            }
            _ => false,
        };
        self.sections.iter().any(applied)
    }
}

impl fmt::Display for Section {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let joined = |extents: &[usize]| extents.iter().map(ToString::to_string).collect::<Vec<_>>().join("x");
        match self {
            Self::Shape(fields) => {
                fields.iter().try_for_each(|(letter, extents)| write!(f, "{letter}{}", joined(extents)))
            }
            Self::Extents(extents) => f.write_str(&joined(extents)),
            Self::Word(word) => f.write_str(word),
            Self::Bias(epilogue) => write!(f, "bias{}", epilogue.suffix()),
            Self::Hash(hash) => write!(f, "h{hash:016x}"),
        }
    }
}

impl fmt::Display for KernelName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.element)?;
        if self.family != NESTS {
            write!(f, "_{}", self.family)?;
        }
        self.sections.iter().try_for_each(|section| write!(f, "_{section}"))
    }
}

impl FromStr for KernelName {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fail = || format!("kernel {text}: expected <type>_<family>_<shape>_<attributes>_<epilogue>");
        let (element, rest) = text.split_once('_').ok_or_else(fail)?;
        let element = element.parse().map_err(|_| fail())?;
        let (before, last) = rest.rsplit_once('_').unwrap_or(("", rest));
        if let Some(hash) = hash(last) {
            let sections = before.split('_').map(plain).chain([hash]).collect();
            return Ok(Self { element, family: NESTS, sections });
        }
        let family = WORDS.iter().flat_map(|words| words.iter()).find_map(|word| {
            let rest = rest.strip_prefix(word)?.strip_prefix('_')?;
            Some((*word, rest))
        });
        let (family, rest) = family.ok_or_else(fail)?;
        let words: Vec<&str> = rest.split('_').collect();
        let (mut at, mut sections) = (0, Vec::new());
        while at < words.len() {
            if words[at] == "bias" {
                let (epilogue, used) = Epilogue::read(&words[at + 1..]);
                sections.push(Section::Bias(epilogue));
                at += used;
            } else {
                sections.push(plain(words[at]));
            }
            at += 1;
        }
        let name = Self { element, family, sections };
        if name.to_string() == text { Ok(name) } else { Err(fail()) }
    }
}

/// A word of 16 hexadecimal digits after an `h`.
fn hash(word: &str) -> Option<Section> {
    let digits = word.strip_prefix('h').filter(|digits| digits.len() == 16)?;
    let lower = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    lower.then(|| u64::from_str_radix(digits, 16).ok()).flatten().map(Section::Hash)
}

/// A shape or extents where a word prints back so, else an attribute.
fn plain(word: &str) -> Section {
    let read = || {
        let first = word.chars().next()?;
        if first.is_ascii_digit() {
            return extents(word).map(Section::Extents);
        }
        let letters = word.char_indices().filter(|(_, c)| c.is_ascii_lowercase() && *c != 'x');
        let starts: Vec<usize> = letters.map(|(at, _)| at).collect();
        let ends = starts.iter().skip(1).copied().chain([word.len()]);
        let fields = starts.iter().zip(ends).map(|(start, end)| {
            let field = &word[*start..end];
            let letter = field.chars().next()?;
            Some((letter, extents(&field[letter.len_utf8()..])?))
        });
        fields.collect::<Option<Vec<_>>>().map(Section::Shape)
    };
    let section: Option<Section> = read();
    section.filter(|section| section.to_string() == word).unwrap_or_else(|| Section::Word(word.into()))
}

fn extents(text: &str) -> Option<Vec<usize>> {
    text.split('x').map(|extent| extent.parse().ok()).collect()
}

impl KernelName {
    /// The kind of layer.
    pub fn kind(&self) -> LayerKind {
        super::kind_of(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_print_as_they_were_read() {
        for text in [
            "f32_conv_n1c3h224w224m32_o112x112k3x3s2x2p1x1d2x2g4_each_rows_bias_add_silu",
            "f32_conv_n1c64h1w49m64_o1x49k1x1s1x1p0x0_bias_clip_0_6_add",
            "f32_conv_n1c64h1w49m64_o1x49k1x1s1x1p0x0_bias_leaky_relu_0.01",
            "f32_depthwise_n1c32h112w112_h112w112_k3s1p1_bias_hard_swish_sum",
            "f32_ring_i16_bias_silu_n1c96h112w112_h56w56_k3s2p1_bias_silu_sum",
            "f32_winograd4x4_n1c64h56w56m64_o56x56k3x3s1x1p1x1_bias_relu",
            "f32_pool_n1c64h112w112_h56w56_k3s2p1_average_padded_3x3",
            "f32_mean_n1h7w7c1280_over49",
            "f32_log_softmax_m1n1000",
            "bf16_conv_n1c64h1w49m64_o1x49k1x1s1x1p0x0_bias_add",
            "f16_mean_n1h7w1c1280_over49_sums",
            "u8_scale_weights_and_3_7_hfedcba9876543210",
            "f32_copy_1x3_h0123456789012345",
        ] {
            let name: KernelName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
            assert_eq!(name.to_string().parse(), Ok(name));
        }
        for text in ["", "conv", "f32", "f32_conv", "f33_conv_n1", "f32_spiral_n1", "f32_conv_n1_bias_"] {
            let read = text.parse::<KernelName>();
            assert!(read.is_err() || read.is_ok_and(|name| name.to_string() == text), "{text}");
        }
    }

    #[test]
    fn parts_of_a_name() {
        let name: KernelName = "f32_conv_n1c4h56w56m8_o56x28k3x5s1x2p1x1g32_rows_bias_add_clip_0_6".parse().unwrap();
        assert_eq!((name.element, name.family), (DType::F32, "conv"));
        assert_eq!((name.field('k'), name.field('g'), name.field('d')), (Some(&[3, 5][..]), Some(&[32][..]), None));
        assert!(name.has("rows") && !name.has("each") && name.activated());
        let Some(Section::Bias(epilogue)) = name.sections.last() else { panic!("{name:?}") };
        assert_eq!(epilogue.suffix(), "_add_clip_0_6");
    }
}
