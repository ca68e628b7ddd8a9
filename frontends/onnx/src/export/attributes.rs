//! Attributes of ONNX nodes.

use bytes::Bytes;

use crate::proto::{AttributeProto, attribute_type};

fn named(name: &str, r#type: i32) -> AttributeProto {
    AttributeProto { name: name.to_string(), r#type, ..AttributeProto::default() }
}

/// An integer.
pub fn int(name: &str, value: i64) -> AttributeProto {
    AttributeProto { i: Some(value), ..named(name, attribute_type::INT) }
}

/// A list of integers.
pub fn ints<'v>(name: &str, values: impl IntoIterator<Item = &'v usize>) -> AttributeProto {
    let ints = values.into_iter().map(|value| *value as i64).collect();
    AttributeProto { ints, ..named(name, attribute_type::INTS) }
}

/// A number.
pub fn float(name: &str, value: f32) -> AttributeProto {
    AttributeProto { f: Some(value), ..named(name, attribute_type::FLOAT) }
}

/// A text.
pub fn text(name: &str, value: &'static str) -> AttributeProto {
    AttributeProto { s: Some(Bytes::from_static(value.as_bytes())), ..named(name, attribute_type::STRING) }
}
