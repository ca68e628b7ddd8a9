//! Operators against what other implementations give: the cases of `values.txt`, which `tools/onnx_values.py` writes.

use fornax_ir::ops::literal::Literal;
use fornax_ir::types::{DType, TensorType};

use crate::node::Node;

/// A case: the node, its outputs, and its lines for messages.
struct Case {
    node: Node,
    outputs: Vec<Literal>,
    name: String,
}

/// `f32[2,3] 1 2 …`.
fn value(text: &str) -> Literal {
    let (ty, elements) = text.split_once(' ').unwrap_or((text, ""));
    let (dtype, shape) = ty.strip_suffix(']').and_then(|ty| ty.split_once('[')).expect("a type");
    let dtype: DType = dtype.parse().expect("an element type");
    let shape: Vec<usize> = shape.split(',').filter(|d| !d.is_empty()).map(|d| d.parse().expect("an extent")).collect();
    let ty = TensorType::new(dtype, shape);
    let elements = elements.split(' ').filter(|element| !element.is_empty());
    match dtype.is_float() {
        true => Literal::new_float(ty, elements.map(|e| f64::from(e.parse::<f32>().expect("a number"))).collect()),
        false => Literal::new_int(ty, elements.map(|e| e.parse().expect("a whole number")).collect()),
    }
}

fn attribute(node: Node, text: &str) -> Node {
    let mut words = text.splitn(3, ' ');
    let mut word = || words.next().unwrap_or_default();
    let (name, kind, value) = (word(), word(), word());
    let (number, float) =
        (|v: &str| v.parse::<i64>().expect("a number"), |v: &str| v.parse::<f32>().expect("a number"));
    match kind {
        "INT" => node.int(name, number(value)),
        "FLOAT" => node.float(name, float(value)),
        "STRING" => node.string(name, value),
        "INTS" => node.ints(name, &value.split(' ').map(number).collect::<Vec<_>>()),
        "FLOATS" => node.floats(name, &value.split(' ').map(float).collect::<Vec<_>>()),
        "STRINGS" => node.strings(name, &value.split(' ').collect::<Vec<_>>()),
        other => panic!("{other}: a kind of attribute"),
    }
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for line in include_str!("values.txt").lines().filter(|line| !line.starts_with('#')) {
        let (key, rest) = line.split_once(' ').unwrap_or((line, ""));
        if key == "case" {
            let words: Vec<&str> = rest.split(' ').collect();
            let node = Node::new(words[0], words[1].parse().expect("a version"));
            let node =
                words.get(2).map_or(Node::new(words[0], words[1].parse().unwrap()), |domain| node.domain(domain));
            cases.push(Case { node, outputs: Vec::new(), name: rest.to_string() });
            continue;
        }
        let case = cases.last_mut().expect("a case");
        let node = std::mem::replace(&mut case.node, Node::new("Identity", 17));
        case.node = match key {
            "attribute" => {
                case.name += &format!(", {rest}");
                attribute(node, rest)
            }
            "input" => node.input(value(rest)),
            "constant" => node.constant(value(rest)),
            "absent" => node.absent(),
            _ => {
                case.outputs.push(value(rest));
                node
            }
        };
    }
    cases
}

/// What is wrong with an output, beyond a few units in the last place; a quantised element may be the other one of a tie.
fn fault(found: &Literal, expected: &Literal) -> Option<String> {
    if found.ty != expected.ty {
        return Some(format!("{} for {}", found.ty, expected.ty));
    }
    let (found, expected_values) = (found.to_f64(), expected.to_f64());
    let largest = expected_values.iter().fold(0f64, |m, v| m.max(v.abs().min(1e3)));
    let near = |(a, b): (&f64, &f64)| match expected.ty.dtype.is_float() {
        true => a == b || (a.is_nan() && b.is_nan()) || (a - b).abs() <= 2e-6 * b.abs() + 1e-6 * largest,
        false => a == b,
    };
    let at = (0..found.len()).find(|i| !near((&found[*i], &expected_values[*i])))?;
    Some(format!("element {at} is {}, expected {}", found[at], expected_values[at]))
}

/// Operators whose cases are run in native code, too: those composed of indices that are computed.
const NATIVE: [&str; 7] = ["Adagrad", "Adam", "DeformConv", "MaxUnpool", "Momentum", "RoiAlign", "TfIdfVectorizer"];

#[test]
fn operators_give_what_others_give() {
    let (mut faults, mut count) = (Vec::new(), 0);
    for Case { node, outputs, name } in cases() {
        count += 1;
        let node = node.outputs(outputs.len());
        let native = NATIVE.iter().any(|op| name.split(' ').next() == Some(op));
        match if native { node.run_natively() } else { node.run() } {
            Err(message) => faults.push(format!("{name}: {message}")),
            Ok(found) => {
                for (i, (found, expected)) in found.iter().zip(&outputs).enumerate() {
                    faults.extend(fault(found, expected).map(|fault| format!("{name}: output {i}: {fault}")));
                }
            }
        }
    }
    assert!(count > 100, "{count} cases");
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
