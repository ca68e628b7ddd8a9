//! Parameters and states: what a program keeps from one run to the next, and where.
//!
//! In: variables, each at its offset in one block. Out: the same, proven to lie one after the other in the block.

use std::fmt;

use xxhash_rust::xxh64::xxh64;

use crate::abi::ALIGN;
use crate::error::Error;
use crate::port::Port;

/// What a variable is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum VariableKind {
    /// A parameter of the model.
    Parameter,
    /// What the program itself carries from run to run: an optimiser's moments, running statistics.
    State,
}

impl VariableKind {
    /// Every kind, by its number in files.
    pub const ALL: [VariableKind; 2] = [VariableKind::Parameter, VariableKind::State];
}

impl fmt::Display for VariableKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            VariableKind::Parameter => "parameter",
            VariableKind::State => "state",
        })
    }
}

/// A value with memory of its own that outlives a run.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Variable {
    /// What it is for.
    pub kind: VariableKind,
    /// Name and type. No two variables of a program share a name.
    pub port: Port,
    /// Byte offset in the block, a multiple of [`ALIGN`].
    pub offset: usize,
}

/// The variables of a program.
#[derive(Clone, PartialEq, Eq, Default, Debug)]
pub struct StateParts {
    /// In the order of their offsets.
    pub variables: Vec<Variable>,
    /// Size of the block, a multiple of [`ALIGN`].
    pub bytes: usize,
    /// Where in the constants lies what the block begins with.
    pub initial: usize,
    /// How much of the block lies there, a multiple of [`ALIGN`]; the rest begins with zeros.
    pub initial_bytes: usize,
}

impl StateParts {
    /// Hash of names, types and offsets: equal for programs that understand each other's states.
    pub fn layout(&self) -> u64 {
        let line = |variable: &Variable| {
            let Variable { kind, port, offset } = variable;
            format!("{kind} {:?} {}{} {offset}\n", port.name, port.dtype, port.shape)
        };
        xxh64(self.variables.iter().map(line).collect::<String>().as_bytes(), 0)
    }

    /// Holds these to be the variables of `expected`, in a block of the same size.
    ///
    /// # Errors
    /// [`Error::State`] if they are others.
    pub(crate) fn expect_same(&self, expected: &StateParts) -> Result<(), Error> {
        if self.variables == expected.variables && self.bytes == expected.bytes {
            return Ok(());
        }
        let (expected, found) = (expected.layout(), self.layout());
        Err(Error::State {
            field: "layout",
            expected: format!("{expected:016x}"),
            found: format!("{found:016x}, that of other variables"),
        })
    }

    /// The variable called `name`.
    pub fn find(&self, name: &str) -> Option<&Variable> {
        self.variables.iter().find(|variable| variable.port.name == name)
    }

    /// Checks that the variables lie in the block one after the other, and the block's first elements in `constants` bytes.
    ///
    /// # Errors
    /// [`Error::BadVariable`] with the first field that contradicts another.
    pub(crate) fn check(&self, constants: usize) -> Result<(), Error> {
        let bad = |name: &str, field, expected: String, found: &dyn fmt::Display| {
            Err(Error::BadVariable { name: name.to_owned(), field, expected, found: found.to_string() })
        };
        let inside = |begin: usize, bytes: usize, whole| begin.checked_add(bytes).filter(|end| *end <= whole);
        if !self.bytes.is_multiple_of(ALIGN) {
            return bad("all", "size of the state", format!("a multiple of {ALIGN}"), &self.bytes);
        }
        if !self.initial.is_multiple_of(ALIGN) || inside(self.initial, self.initial_bytes, constants).is_none() {
            let expected = format!("a multiple of {ALIGN} with {} bytes after it in {constants}", self.initial_bytes);
            return bad("all", "offset of the first elements", expected, &self.initial);
        }
        if !self.initial_bytes.is_multiple_of(ALIGN) || self.initial_bytes > self.bytes {
            let expected = format!("a multiple of {ALIGN} up to {}", self.bytes);
            return bad("all", "size of the first elements", expected, &self.initial_bytes);
        }
        let (mut end, mut names) = (0, std::collections::HashSet::new());
        for Variable { port, offset, .. } in &self.variables {
            if port.name.is_empty() || !names.insert(&port.name) {
                return bad(&port.name, "name", "a name of its own".to_owned(), &format_args!("{:?}", port.name));
            }
            let bytes = port.shape.checked_bytes(port.dtype);
            let fits = bytes.and_then(|bytes| inside(*offset, bytes, self.bytes));
            match fits.filter(|_| *offset >= end && offset.is_multiple_of(ALIGN)) {
                Some(after) => end = after,
                None => {
                    let expected = format!("a multiple of {ALIGN} from {end} on, its elements within {}", self.bytes);
                    return bad(&port.name, "offset", expected, offset);
                }
            }
        }
        Ok(())
    }

    /// Where the elements of a variable lie in the block.
    pub(crate) fn range(variable: &Variable) -> std::ops::Range<usize> {
        let bytes = variable.port.shape.numel() * variable.port.dtype.size();
        variable.offset..variable.offset + bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dtype::DType;

    fn variable(name: &str, elements: usize, offset: usize) -> Variable {
        let port = Port { name: name.to_owned(), dtype: DType::F32, shape: [elements].into() };
        Variable { kind: VariableKind::Parameter, port, offset }
    }

    #[test]
    fn contradictions_are_named() {
        let variables = vec![variable("w", 20, 0), variable("m", 1, 128)];
        let good = StateParts { variables, bytes: 192, initial: 64, initial_bytes: 192 };
        good.check(256).unwrap();
        let field = |change: &dyn Fn(&mut StateParts)| {
            let mut parts = good.clone();
            change(&mut parts);
            match parts.check(256) {
                Err(Error::BadVariable { name, field, .. }) => (name, field),
                other => panic!("{parts:?}: {other:?}"),
            }
        };
        assert_eq!(field(&|parts| parts.bytes = 191), ("all".into(), "size of the state"));
        assert_eq!(field(&|parts| parts.bytes = 128), ("all".into(), "size of the first elements"));
        assert_eq!(field(&|parts| parts.initial_bytes = 32), ("all".into(), "size of the first elements"));
        assert_eq!(field(&|parts| parts.initial_bytes = 256), ("all".into(), "offset of the first elements"));
        assert_eq!(field(&|parts| parts.initial = 63), ("all".into(), "offset of the first elements"));
        assert_eq!(field(&|parts| parts.initial = usize::MAX - 63), ("all".into(), "offset of the first elements"));
        assert_eq!(field(&|parts| parts.variables[1].offset = 64), ("m".into(), "offset"));
        assert_eq!(field(&|parts| parts.variables[1].offset = 132), ("m".into(), "offset"));
        assert_eq!(field(&|parts| parts.variables[1].offset = 192), ("m".into(), "offset"));
        assert_eq!(field(&|parts| parts.variables[1].offset = usize::MAX - 63), ("m".into(), "offset"));
        assert_eq!(field(&|parts| parts.variables[1].port.shape = [usize::MAX, 2].into()), ("m".into(), "offset"));
        assert_eq!(field(&|parts| parts.variables[1].port.name = "w".into()), ("w".into(), "name"));
        assert_eq!(field(&|parts| parts.variables[0].port.name.clear()), (String::new(), "name"));
    }

    #[test]
    fn the_layout_is_of_names_types_and_places() {
        let parts = |name, elements, offset, kind| {
            let mut variable = variable(name, elements, offset);
            variable.kind = kind;
            StateParts { variables: vec![variable], bytes: 128, initial: 0, initial_bytes: 128 }.layout()
        };
        let layout = parts("w", 4, 0, VariableKind::Parameter);
        assert_eq!(layout, parts("w", 4, 0, VariableKind::Parameter));
        for other in [
            parts("v", 4, 0, VariableKind::Parameter),
            parts("w", 5, 0, VariableKind::Parameter),
            parts("w", 4, 64, VariableKind::Parameter),
            parts("w", 4, 0, VariableKind::State),
        ] {
            assert_ne!(layout, other);
        }
    }
}
