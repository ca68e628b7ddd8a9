//! `FlexAttention` of `ai.onnx.preview`: attention whose scores and probabilities pass through graphs of the node.
//!
//! In: queries, keys and values by heads, and the node's graphs `score_mod` and `prob_mod`, of one input and one output each. Out: the products of
//! probabilities and values. The graphs are inlined, and see the names around the node.

use fornax_ir::graph::ValueId;
use fornax_ir::ops::{MatMul, Softmax};
use fornax_ir::scalar::BinaryFn;
use fornax_ir::types::DType;

use super::{Importer, NamedValue, Scope};
use crate::attributes::Attributes;
use crate::context::Context;
use crate::error::{Error, Result};
use crate::ops::attention::repeated;
use crate::ops::support::{cast, dtype, transpose, with_scalar};
use crate::proto::NodeProto;
use crate::schema;

/// Domain and name of the operator.
pub(crate) const OPERATOR: (&str, &str) = ("ai.onnx.preview", "FlexAttention");

impl Importer<'_> {
    /// The result of a `FlexAttention`; refused where what it asks for is not there.
    pub fn flex_attention(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        operands: &[NamedValue],
        version: i64,
    ) -> Result<Vec<NamedValue>> {
        let refused = vec![NamedValue::Refused; node.output.len()];
        if operands.contains(&NamedValue::Refused) {
            return Ok(refused);
        }
        if operands.iter().any(|operand| !matches!(operand, NamedValue::Known(_))) {
            self.refusals.variants(node, vec!["an operand that is no tensor of numbers".into()]);
            return Ok(refused);
        }
        schema::check(&self.context(node, operands, version))?;
        let scores = match scores(&mut self.context(node, operands, version)) {
            Err(Error::Unsupported(why)) => {
                self.refusals.variants(node, why);
                return Ok(refused);
            }
            other => other?,
        };
        let Some(scores) = self.modified(scope, node, ("score_mod", 0), scores)? else { return Ok(refused) };
        let probabilities = self.context(node, operands, version).emit(Softmax { axis: 3, log: false }, &[scores])?;
        let Some(probabilities) = self.modified(scope, node, ("prob_mod", 1), probabilities)? else {
            return Ok(refused);
        };
        let cx = &mut self.context(node, operands, version);
        let (q, v) = (cx.input(0)?, cx.input(2)?);
        let given = cx.ty(v).dtype;
        let values = repeated(cx, v, cx.shape(q)[1] / cx.shape(v)[1])?;
        let values = cast(cx, values, cx.ty(probabilities).dtype)?;
        let y = cx.emit(MatMul {}, &[probabilities, values])?;
        Ok(vec![NamedValue::Known(cast(cx, y, given)?)])
    }

    /// A value after the graph of an attribute, if there is one, inlined as number `trip` of the node; nothing if it is refused.
    fn modified(
        &mut self,
        scope: &Scope<'_>,
        node: &NodeProto,
        (name, trip): (&str, usize),
        x: ValueId,
    ) -> Result<Option<ValueId>> {
        let attributes = Attributes { node, loader: &self.file.loader };
        let Some(graph) = attributes.graph(name)? else { return Ok(Some(x)) };
        let results = self.nested(scope, node, graph, (&trip.to_string(), &[NamedValue::Known(x)]))?;
        let graph = self.assembly.graph();
        match results[..] {
            [NamedValue::Known(y)] if graph.ty(y) == graph.ty(x) => Ok(Some(y)),
            [NamedValue::Refused] => Ok(None),
            [NamedValue::Known(y)] => {
                Err(attributes.error(name, format!("a result of {}", graph.ty(x)), graph.ty(y).to_string()))
            }
            _ => Err(attributes.error(name, "one tensor", format!("{} results", results.len()))),
        }
    }
}

/// The scaled products of queries and keys, in the type of the softmax.
fn scores(cx: &mut Context<'_>) -> Result<ValueId> {
    let (q, k, v) = (cx.input(0)?, cx.input(1)?, cx.input(2)?);
    let ([_, heads, _, size], [_, kv_heads, length, key_size], [_, v_heads, v_length, _]) =
        (axes(cx, "Q", q)?, axes(cx, "K", k)?, axes(cx, "V", v)?);
    if kv_heads == 0 || !heads.is_multiple_of(kv_heads) || key_size != size {
        let expected = format!("a divisor of {heads} heads, of size {size}");
        return Err(cx.error("K", expected, cx.ty(k).to_string()));
    }
    if [v_heads, v_length] != [kv_heads, length] {
        return Err(cx.error("V", format!("{kv_heads} heads of length {length}"), cx.ty(v).to_string()));
    }
    let scale = match cx.attrs().has("scale") {
        true => f64::from(cx.attrs().require_float("scale")?),
        false => 1.0 / (size as f64).sqrt(),
    };
    let wide = match cx.attrs().int("softmax_precision", 0)? {
        0 if cx.ty(q).dtype == DType::F64 => DType::F64,
        0 => DType::F32,
        code => dtype(cx, "softmax_precision", code)?,
    };
    let k = repeated(cx, k, heads / kv_heads)?;
    let q = with_scalar(cx, BinaryFn::Mul, q, scale.sqrt())?;
    let k = with_scalar(cx, BinaryFn::Mul, k, scale.sqrt())?;
    let k = transpose(cx, k, vec![0, 1, 3, 2])?;
    let scores = cx.emit(MatMul {}, &[q, k])?;
    cast(cx, scores, wide)
}

/// The extents of an operand of four axes.
fn axes(cx: &Context<'_>, field: &str, x: ValueId) -> Result<[usize; 4]> {
    cx.shape(x)[..].try_into().map_err(|_| cx.error(field, "rank 4", cx.ty(x).to_string()))
}
