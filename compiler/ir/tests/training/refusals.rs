//! What cannot be trained is refused by name.

use fornax_ir::graph::{Graph, parse};
use fornax_ir::ops::literal::Literal;
use fornax_ir::training::Norm;

use crate::network::*;

fn refusal(graph: &Graph, choice: &Choice) -> String {
    training(graph, choice).map(|_| ()).unwrap_err().to_string()
}

fn small(body: &str) -> Graph {
    batch_of(2, body)
}

fn batch_of(images: usize, body: &str) -> Graph {
    let text = format!("graph @g(%x: f32[{images},2,1,1]) {{\n%w = constant f32[2,2,1,1] [1,2,3,4]\n{body}\n}}");
    parse(&text).unwrap_or_else(|e| panic!("{e}\n{text}"))
}

#[test]
fn something_is_trained() {
    let graph = network(&weights(), IMAGES, false, &Masks::default());
    let found = refusal(&graph, &Choice { trained: |_| false, ..PLAIN });
    assert_eq!(found, "net: graph: trained: expected a parameter that is trained, found none");
}

#[test]
fn scales_over_deviations_are_numbers() {
    let mut weights = weights();
    let variance = weights["bn2.running_var"].ty.clone();
    weights.insert("bn2.running_var".into(), Literal::new_float(variance, vec![1.0, -1.0, 1.0, 1.0]));
    let graph = network(&weights, IMAGES, false, &Masks::default());
    let found = refusal(&graph, &PLAIN);
    let expected = "bn2: batch_norm: variance: expected a finite scale over the deviation of every channel, found NaN in channel 1";
    assert_eq!(found, expected);
    assert!(training(&graph, &Choice { norm: Norm::Trained, ..PLAIN }).is_ok());
}

#[test]
fn statistics_have_elements() {
    let norm = "%k = constant f32[2] [1,1]\n%c = conv %x, %w\n%n = batch_norm %c, %k, %k, %k, %k\nreturn %n as \"y\"";
    let found = refusal(&batch_of(1, norm), &Choice { norm: Norm::Trained, ..PLAIN });
    assert!(found.starts_with("n: batch_norm: x: expected at least two elements in a channel"), "{found}");
}

#[test]
fn the_output_is_logits() {
    let found = refusal(&small("%y = conv %x, %w\nreturn %y as \"y\", %x as \"x\""), &PLAIN);
    assert_eq!(found, "g: graph: outputs: expected one, found 2");
    let found = refusal(&small("%c = conv %x, %w\n%y = reduce %c {axes=[0]}\nreturn %y as \"y\""), &PLAIN);
    assert_eq!(found, "g: graph: output: expected logits [images, classes], found f32[1,2,1,1]");
    assert!(training(&small("%y = conv %x, %w\nreturn %y as \"y\""), &PLAIN).is_ok());
}

#[test]
fn operators_without_a_rule_are_all_named() {
    let body = "%c = conv %x, %w\n%p = reduce %c {kind=prod,axes=[2]}\n%d = conv %p, %w\n%q = reduce %d {kind=prod,axes=[3]}\nreturn %q as \"y\"";
    let found = refusal(&small(body), &PLAIN);
    assert!(found.contains("p: reduce") && found.contains("q: reduce"), "{found}");
}

#[test]
fn dropout_wants_a_classifier() {
    let body = "%c = conv %x, %w\n%y = reduce %c {kind=max,axes=[2]}\nreturn %y as \"y\"";
    let found = refusal(&small(body), &Choice { masks: true, ..PLAIN });
    assert!(found.starts_with("y: classifier: dropout: expected a linear layer"), "{found}");
}

#[test]
fn parameters_below_a_step_are_named() {
    let body =
        "%v = constant f32[2,2,1,1] [1,2,3,4]\n%c = conv %x, %v\n%q = round %c\n%y = conv %q, %w\nreturn %y as \"y\"";
    let found = refusal(&small(body), &PLAIN);
    assert_eq!(found, "no gradient of: v: the loss changes with it in steps or not at all");
    assert!(training(&small(body), &Choice { trained: |name| name == "w", ..PLAIN }).is_ok());
}
