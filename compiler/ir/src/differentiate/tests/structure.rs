//! What a backward half looks like: where it ends, in which order it sums, what it names and what it refuses.

use crate::differentiate;
use crate::error::{Error, Result};
use crate::graph::{Graph, GraphBuilder, ValueId, evaluate, parse, verify};
use crate::ops::literal::Literal;

/// The value of a name.
fn value(graph: &Graph, name: &str) -> ValueId {
    let named = graph.ids().flat_map(|id| graph.values(id)).find(|value| graph.name_of(*value) == name);
    named.unwrap_or_else(|| panic!("no value {name}"))
}

/// A graph with the gradients of its first output with respect to `wrt` as its outputs.
fn backward(text: &str, wrt: &[&str]) -> Result<Graph> {
    let mut b = GraphBuilder::of(parse(text)?);
    let loss = b.graph().outputs()[0].1;
    let values: Vec<ValueId> = wrt.iter().map(|name| value(b.graph(), name)).collect();
    let gradients = differentiate(&mut b, loss, &values)?;
    b.graph_mut().set_outputs(Vec::new());
    for (name, gradient) in wrt.iter().zip(gradients) {
        if let Some(gradient) = gradient {
            b.output(*name, gradient);
        }
    }
    let graph = b.finish();
    verify(&graph)?;
    Ok(graph)
}

#[test]
fn it_ends_at_the_lowest_value_asked_for() -> Result<()> {
    let text = r#"graph @g(%x: f32[1,2,3,3]) {
      %v = parameter "v" f32[2,2,1,1] [1,2,3,4]
      %w = parameter "w" f32[2,2,1,1] [1,2,3,4]
      %a = conv %x, %v {activation=silu}
      %b = conv %a, %w
      return %b as "y"
    }"#;
    let expected = r#"graph @g(%x: f32[1,2,3,3]) {
      %v = parameter "v" f32[2,2,1,1] [1,2,3,4]
      %w = parameter "w" f32[2,2,1,1] [1,2,3,4]
      %a = conv %x, %v {activation=silu}
      %grad.b = constant f32[1,2,3,3] [1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]
      %grad.w = conv_weight_gradient %a, %grad.b
      return %grad.w as "w"
    }"#;
    let found = backward(text, &["w"])?;
    assert!(found.same_as(&parse(expected)?), "{found}");
    Ok(())
}

#[test]
fn what_is_fused_is_taken_apart_where_it_must_be() -> Result<()> {
    let text = r#"graph @g(%x: f32[1,2,1,1]) {
      %v = parameter "v" f32[2,2,1,1] [1,2,3,4]
      %a = conv %x, %v {activation=silu}
      %b = conv %a, %v {activation=relu}
      return %b as "y"
    }"#;
    let expected = r#"graph @g(%x: f32[1,2,1,1]) {
      %v = parameter "v" f32[2,2,1,1] [1,2,3,4]
      %a.conv = conv %x, %v
      %a = silu %a.conv
      %b = conv %a, %v {activation=relu}
      %grad.b = constant f32[1,2,1,1] [1,1]
      %grad.b.unary_gradient = unary_gradient %grad.b, %b {function=relu}
      %grad.a = conv_transpose %grad.b.unary_gradient, %v
      %grad.a.conv = unary_gradient %grad.a, %a.conv {function=silu}
      %grad.b.conv_weight_gradient = conv_weight_gradient %a, %grad.b.unary_gradient
      %grad.a.conv.conv_weight_gradient = conv_weight_gradient %x, %grad.a.conv
      %grad.v = add %grad.b.conv_weight_gradient, %grad.a.conv.conv_weight_gradient
      return %grad.v as "v"
    }"#;
    let found = backward(text, &["v"])?;
    assert!(found.same_as(&parse(expected)?), "{found}");
    Ok(())
}

#[test]
fn users_of_a_value_are_summed() -> Result<()> {
    let text = r#"graph @g(%x: f32[2]) {
      %a = mul %x, %x
      %b = exp %x
      %c = add %a, %b
      %d = add %c, %x
      return %d as "y"
    }"#;
    let graph = backward(text, &["x", "a"])?;
    let found = evaluate(&graph, &[Literal::from_f32([2], &[0.0, 3.0])])?;
    assert_eq!((found[0].to_f64()[0], found[1].to_f64()), (2.0, vec![1.0, 1.0]));
    assert_eq!(graph.name_of(graph.outputs()[0].1), "grad.x");
    Ok(())
}

#[test]
fn steps_and_integers_end_a_gradient() -> Result<()> {
    let text = r#"graph @g(%x: f32[2], %z: f32[2]) {
      %f = floor %x
      %i = cast %x {to=i32}
      %k = cast %i {to=f32}
      %a = mul %f, %k
      %b = mul %a, %z
      %h = cast %b {to=f16}
      return %h as "y"
    }"#;
    let graph = backward(text, &["x", "z"])?;
    let outputs: Vec<&str> = graph.outputs().iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(outputs, ["z"]);
    let found = evaluate(&graph, &[Literal::from_f32([2], &[1.5, 3.25]), Literal::from_f32([2], &[1.0, 2.0])])?;
    assert_eq!((found[0].ty.to_string(), found[0].to_f64()), ("f32[2]".into(), vec![1.0, 9.0]));
    Ok(())
}

#[test]
fn the_loss_itself_may_be_asked_for() -> Result<()> {
    let text = "graph @g(%x: f32[]) { %y = neg %x return %y as \"y\" }";
    let graph = backward(text, &["y", "x"])?;
    let found = evaluate(&graph, &[Literal::from_f32([], &[3.0])])?;
    assert_eq!((found[0].to_f64(), found[1].to_f64()), (vec![1.0], vec![-1.0]));
    Ok(())
}

#[test]
fn operators_without_a_rule_are_named_at_once() {
    let text = r#"graph @g(%x: f32[2,3], %z: f32[2,3]) {
      %p = reduce %x {kind=prod,axes=[1]}
      %i = constant i64[2,3] [0,0,0,0,0,0]
      %a = gather_elements %p, %i {axis=1}
      %v, %k = top_k %a {axis=1,k=3}
      %u = reduce %z {kind=prod,axes=[1]}
      %b = mul %v, %u
      return %b as "y"
    }"#;
    let error = backward(text, &["x"]).unwrap_err();
    let Error::NotDifferentiable(list) = &error else { panic!("{error}") };
    let named: Vec<&str> = list.iter().filter_map(|line| line.split(':').next()).collect();
    assert_eq!(named, ["p", "a", "v"]);
    assert!(error.to_string().contains("p: reduce: gradient: expected an operator with a gradient rule"), "{error}");
}
