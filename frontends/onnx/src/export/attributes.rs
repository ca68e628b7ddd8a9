//! Attributes of ONNX nodes.

use bytes::Bytes;
use fornax_ir::ops::Pool;

use crate::proto::{AttributeProto, attribute_type};

/// Why a node cannot be written.
pub type Refusal = &'static str;

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

/// The attributes of a window.
pub fn windows(pool: &Pool) -> Vec<AttributeProto> {
    let mut attributes = vec![
        ints("kernel_shape", &pool.kernel),
        ints("strides", &pool.strides),
        ints("pads", &pool.pads),
        int("ceil_mode", pool.ceil_mode.into()),
    ];
    // Average pooling has them from opset 19 on, which the file has then.
    if pool.dilations.iter().any(|dilation| *dilation != 1) {
        attributes.push(ints("dilations", &pool.dilations));
    }
    attributes
}
