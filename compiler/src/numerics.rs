//! Choices that change bits: what a plan computes in, and whether by algorithms that round differently from the definition.

/// What convolutions compute in, and what is stored between them.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Default, Debug)]
pub enum Precision {
    /// `f32`.
    #[default]
    F32,
    /// `bf16`: maps and weights are rounded to it, sums are `f32`; what gains nothing by it stays `f32`.
    Bf16,
}

impl Precision {
    /// Every precision.
    pub const ALL: [Self; 2] = [Self::F32, Self::Bf16];

    /// Its name.
    pub fn name(self) -> &'static str {
        match self {
            Self::F32 => "f32",
            Self::Bf16 => "bf16",
        }
    }
}

impl std::fmt::Display for Precision {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

impl std::str::FromStr for Precision {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Self, String> {
        let found = Self::ALL.into_iter().find(|precision| precision.name() == text);
        found.ok_or_else(|| format!("precision: expected {}, found {text}", Self::ALL.map(Self::name).join(" or ")))
    }
}

/// Choices of a lowering that change bits.
#[derive(Clone, Copy, PartialEq, Eq, Default, Debug)]
pub struct Numerics {
    /// Whether every value is computed as it is defined, without algorithms that round differently.
    pub exact: bool,
    /// What convolutions compute in.
    pub precision: Precision,
}
