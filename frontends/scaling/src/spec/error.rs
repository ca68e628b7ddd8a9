//! Why a spec is refused, with the location in its file.

use std::fmt;
use std::sync::Arc;

/// Location in a spec.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Location {
    /// File, or the preset file that the value comes from.
    pub file: Arc<str>,
    /// Line, from 1; 0 if the value stands in no file.
    pub line: usize,
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.line {
            0 => f.write_str(&self.file),
            line => write!(f, "{}:{line}", self.file),
        }
    }
}

/// Why a spec is refused.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SpecError {
    /// A value of the wrong type, out of range, or missing.
    #[error("{location}: `{key}`: expected {expected}, found {found}{}", did_you_mean(suggestion))]
    Value {
        /// Where.
        location: Location,
        /// Path of the key, for example `stages[2].kernel`.
        key: String,
        /// What may stand there.
        expected: Box<str>,
        /// What stands there.
        found: Box<str>,
        /// The nearest word that may stand there.
        suggestion: Option<Box<str>>,
    },
    /// A key that the schema does not have.
    #[error("{location}: unknown key `{key}`{}; known here: {known}", did_you_mean(suggestion))]
    UnknownKey {
        /// Where.
        location: Location,
        /// The key.
        key: String,
        /// Keys of that table.
        known: Box<str>,
        /// The nearest of them.
        suggestion: Option<Box<str>>,
    },
    /// Not TOML.
    #[error("{location}: {message}")]
    Syntax {
        /// Where.
        location: Location,
        /// What the TOML parser says.
        message: Box<str>,
    },
    /// A name that no preset has.
    #[error("no preset is called `{name}`{}", nearest_names(suggestions))]
    UnknownPreset {
        /// The name.
        name: String,
        /// The nearest names.
        suggestions: Vec<String>,
    },
    /// A budget that no network of the family meets, or one without a limit.
    #[error("{0}")]
    Budget(String),
}

fn did_you_mean(suggestion: &Option<Box<str>>) -> String {
    suggestion.as_ref().map_or_else(String::new, |word| format!("; did you mean `{word}`?"))
}

fn nearest_names(names: &[String]) -> String {
    if names.is_empty() {
        return String::new();
    }
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    format!("; did you mean {}?", quoted.join(" or "))
}
