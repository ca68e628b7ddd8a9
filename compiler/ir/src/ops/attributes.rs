//! Operator attributes: one declaration gives the struct, its text and its parser.
//!
//! In: a struct of fields with defaults. Out: an ordered list of `(name, Attr)` without the defaults, and the struct back
//! from such a list. The invariant: `from_attrs(attrs(x)) == x`.

use crate::error::OpError;
use crate::types::DType;

/// An attribute value of the text form.
#[derive(Clone, PartialEq, Debug)]
pub enum Attr {
    /// Integer.
    Int(i64),
    /// Number; printed with the shortest digits that read back to the same value.
    Float(f64),
    /// `true` or `false`.
    Bool(bool),
    /// A bare word with optional numeric parameters: `silu`, `clip(0, 6)`.
    Word(String, Vec<f64>),
    /// `[a, b]`.
    List(Vec<Attr>),
}

/// Conversion between a field and its text value.
pub trait AttrValue: Sized + PartialEq {
    /// What a reader expects, for error messages.
    fn expected() -> String;
    /// The value as an attribute.
    fn to_attr(&self) -> Attr;
    /// The value of an attribute, or `None` if it has another form.
    fn from_attr(attr: &Attr) -> Option<Self>;
}

macro_rules! integer_attr {
    ($($t:ty),*) => {$(
        impl AttrValue for $t {
            fn expected() -> String { "an integer".into() }
            fn to_attr(&self) -> Attr { Attr::Int(*self as i64) }
            fn from_attr(attr: &Attr) -> Option<Self> {
                match attr { Attr::Int(v) => <$t>::try_from(*v).ok(), _ => None }
            }
        }
    )*};
}
integer_attr!(i64, usize);

impl AttrValue for bool {
    fn expected() -> String {
        "true or false".into()
    }
    fn to_attr(&self) -> Attr {
        Attr::Bool(*self)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Bool(v) => Some(*v),
            _ => None,
        }
    }
}

macro_rules! float_attr {
    ($t:ty, $wide:expr) => {
        impl AttrValue for $t {
            fn expected() -> String {
                "a number".into()
            }
            fn to_attr(&self) -> Attr {
                Attr::Float($wide(*self))
            }
            fn from_attr(attr: &Attr) -> Option<Self> {
                match attr {
                    Attr::Float(v) => Some(*v as $t),
                    Attr::Int(v) => Some(*v as $t),
                    _ => None,
                }
            }
        }
    };
}
float_attr!(f32, shortest);
float_attr!(f64, std::convert::identity);

/// The `f64` with the shortest digits that still rounds to `v`: 0.1 for `0.1f32`, so that attributes print as written.
pub fn shortest(v: f32) -> f64 {
    match format!("{v:?}").parse::<f64>() {
        Ok(wide) if (wide as f32).to_bits() == v.to_bits() => wide,
        _ => f64::from(v),
    }
}

impl AttrValue for DType {
    fn expected() -> String {
        "an element type".into()
    }
    fn to_attr(&self) -> Attr {
        Attr::Word(self.name().into(), Vec::new())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Word(word, args) if args.is_empty() => word.parse().ok(),
            _ => None,
        }
    }
}

impl<T: AttrValue> AttrValue for Vec<T> {
    fn expected() -> String {
        format!("a list of {}", T::expected())
    }
    fn to_attr(&self) -> Attr {
        Attr::List(self.iter().map(T::to_attr).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::List(items) => items.iter().map(T::from_attr).collect(),
            _ => None,
        }
    }
}

impl<T: AttrValue> AttrValue for Option<T> {
    fn expected() -> String {
        format!("{} or none", T::expected())
    }
    fn to_attr(&self) -> Attr {
        self.as_ref().map_or(Attr::Word("none".into(), Vec::new()), T::to_attr)
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Word(word, args) if word == "none" && args.is_empty() => Some(None),
            other => T::from_attr(other).map(Some),
        }
    }
}

/// Implements [`AttrValue`] for a field-less enum through its words.
macro_rules! word_attr {
    ($ty:ty { $($variant:ident = $word:literal),* $(,)? }) => {
        impl $ty {
            /// The word of the text form.
            pub fn word(self) -> &'static str {
                match self { $(Self::$variant => $word),* }
            }
        }
        impl $crate::ops::attributes::AttrValue for $ty {
            fn expected() -> String { concat!("one of", $(" ", $word),*).into() }
            fn to_attr(&self) -> $crate::ops::attributes::Attr {
                $crate::ops::attributes::Attr::Word(self.word().into(), Vec::new())
            }
            fn from_attr(attr: &$crate::ops::attributes::Attr) -> Option<Self> {
                match attr {
                    $crate::ops::attributes::Attr::Word(word, args) if args.is_empty() => match word.as_str() {
                        $($word => Some(Self::$variant),)*
                        _ => None,
                    },
                    _ => None,
                }
            }
        }
    };
}
pub(crate) use word_attr;

/// Takes named attributes out of a list; what is left over at the end is an error.
pub struct AttrReader {
    attrs: Vec<(String, Attr)>,
}

impl AttrReader {
    /// A reader over parsed attributes.
    pub fn new(attrs: Vec<(String, Attr)>) -> Self {
        Self { attrs }
    }

    /// Takes attribute `name`, or `default` where it is absent.
    pub fn take<T: AttrValue>(&mut self, name: &str, default: T) -> Result<T, OpError> {
        let Some(at) = self.attrs.iter().position(|(n, _)| n == name) else { return Ok(default) };
        let (_, attr) = self.attrs.remove(at);
        T::from_attr(&attr).ok_or_else(|| OpError::new(name, T::expected(), format!("{attr:?}")))
    }

    /// Fails if any attribute was not taken.
    pub fn finish(self) -> Result<(), OpError> {
        match self.attrs.first() {
            None => Ok(()),
            Some((name, _)) => Err(OpError::new(name, "a known attribute", "an unknown one")),
        }
    }
}

/// Declares the attributes of an operator: a struct, `Default`, and the two directions of its text.
macro_rules! attributes {
    ($(#[$doc:meta])* pub struct $name:ident { $( $(#[$fdoc:meta])* pub $field:ident : $ty:ty = $default:expr ),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Debug)]
        pub struct $name { $( $(#[$fdoc])* pub $field: $ty ),* }
        impl Default for $name {
            fn default() -> Self { Self { $($field: $default),* } }
        }
        impl $name {
            /// The attributes that differ from their defaults, in declaration order.
            pub fn attrs(&self) -> Vec<(&'static str, $crate::ops::attributes::Attr)> {
                #[allow(unused_mut)]
                let mut out = Vec::new();
                $(
                    let default: $ty = $default;
                    if self.$field != default {
                        out.push((stringify!($field), $crate::ops::attributes::AttrValue::to_attr(&self.$field)));
                    }
                )*
                out
            }
            /// Reads the attributes back.
            #[allow(unused_mut, unused_variables)]
            pub fn from_attrs(mut reader: $crate::ops::attributes::AttrReader) -> Result<Self, $crate::error::OpError> {
                let out = Self { $($field: reader.take(stringify!($field), $default)?),* };
                reader.finish()?;
                Ok(out)
            }
        }
    };
}
pub(crate) use attributes;

impl AttrValue for crate::scalar::UnaryFn {
    fn expected() -> String {
        "a function such as silu or clip(0, 6)".into()
    }
    fn to_attr(&self) -> Attr {
        let (name, parameters) = self.spelling();
        Attr::Word(name.into(), parameters.iter().map(|v| shortest(*v)).collect())
    }
    fn from_attr(attr: &Attr) -> Option<Self> {
        match attr {
            Attr::Word(word, args) => Self::from_spelling(word, &args.iter().map(|v| *v as f32).collect::<Vec<_>>()),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::graph::parse;

    #[test]
    fn an_attribute_of_another_kind_says_what_it_should_be() {
        for (node, field, expected) in [
            ("softmax %x {log=1}", "log", "true or false"),
            ("softmax %x {axis=half}", "axis", "an integer"),
            ("transpose %x {perm=1}", "perm", "a list of an integer"),
            ("cast %x {to=f33}", "to", "an element type"),
            ("batch_norm %x, %x, %x, %x, %x {epsilon=[1]}", "epsilon", "a number"),
            ("reduce %x {kind=median}", "kind", "one of sum "),
            ("conv %x, %x {activation=clip(0)}", "activation", "a function such as silu or clip(0, 6)"),
        ] {
            let error = parse(&format!("graph @g(%x: f32[4]) {{\n%y = {node}\nreturn %y as \"y\"\n}}")).unwrap_err();
            let (message, says) = (error.to_string(), format!("expected {field}: {expected}"));
            assert!(message.contains(&says), "{node}: {message}");
        }
    }
}
