use fornax_ir::ops::literal::Literal;
use fornax_ir::types::DType;

use crate::node::{Node, f32s, of};

const STEPS: usize = 4;
const BATCH: usize = 2;
const SIZE: usize = 3;
const HIDDEN: usize = 2;

/// Values in `(-1, 1)` that differ from place to place.
fn values(seed: usize, count: usize) -> Vec<f64> {
    (0..count).map(|i| f64::from((((seed * 977 + i) * 7919 % 1000) as f32) / 500.0 - 1.0)).collect()
}

fn given(dims: &[usize], seed: usize) -> (Literal, Vec<f64>) {
    let values = values(seed, dims.iter().product());
    (f32s(dims, &values.iter().map(|v| *v as f32).collect::<Vec<_>>()), values)
}

fn sigmoid(x: f64) -> f64 {
    1.0 / (1.0 + (-x).exp())
}

/// The operands of one direction of a layer, as the definition reads them.
struct Cell {
    /// `[gates * HIDDEN][SIZE]`
    w: Vec<f64>,
    /// `[gates * HIDDEN][HIDDEN]`
    r: Vec<f64>,
    /// `[2 * gates * HIDDEN]`
    b: Vec<f64>,
    /// `[3 * HIDDEN]`
    p: Vec<f64>,
}

impl Cell {
    /// What gate `gate` takes from `x` and from the state, with their biases.
    fn sums(&self, gate: usize, unit: usize, x: &[f64], h: &[f64]) -> [f64; 2] {
        let (row, half) = (gate * HIDDEN + unit, self.b.len() / 2);
        let dot = |m: &[f64], v: &[f64]| (0..v.len()).map(|i| m[row * v.len() + i] * v[i]).sum::<f64>();
        [dot(&self.w, x) + self.b[row], dot(&self.r, h) + self.b[half + row]]
    }

    fn sum(&self, gate: usize, unit: usize, x: &[f64], h: &[f64]) -> f64 {
        self.sums(gate, unit, x, h).iter().sum()
    }
}

/// A step of a cell: the new `h` and `c`.
type Step<'s> = &'s dyn Fn(&Cell, &[f64], &[f64], &[f64]) -> (Vec<f64>, Vec<f64>);

fn rnn(cell: &Cell, x: &[f64], h: &[f64], _: &[f64]) -> (Vec<f64>, Vec<f64>) {
    ((0..HIDDEN).map(|u| cell.sum(0, u, x, h).tanh()).collect(), Vec::new())
}

fn gru(cell: &Cell, x: &[f64], h: &[f64], reset_after: bool) -> (Vec<f64>, Vec<f64>) {
    let gate = |g: usize| (0..HIDDEN).map(|u| sigmoid(cell.sum(g, u, x, h))).collect::<Vec<_>>();
    let (z, r) = (gate(0), gate(1));
    let reset: Vec<f64> = r.iter().zip(h).map(|(r, h)| r * h).collect();
    let new = |u: usize| match reset_after {
        true => {
            let [of_x, of_state] = cell.sums(2, u, x, h);
            (of_x + r[u] * of_state).tanh()
        }
        false => cell.sum(2, u, x, &reset).tanh(),
    };
    ((0..HIDDEN).map(|u| (1.0 - z[u]) * new(u) + z[u] * h[u]).collect(), Vec::new())
}

fn lstm(cell: &Cell, x: &[f64], h: &[f64], c: &[f64], clip: f64) -> (Vec<f64>, Vec<f64>) {
    let clipped = |v: f64| v.clamp(-clip, clip);
    let unit = |u: usize| {
        let peep = |which: usize, c: f64| cell.p[which * HIDDEN + u] * c;
        let i = sigmoid(clipped(cell.sum(0, u, x, h) + peep(0, c[u])));
        let f = sigmoid(clipped(cell.sum(2, u, x, h) + peep(2, c[u])));
        let new = f * c[u] + i * clipped(cell.sum(3, u, x, h)).tanh();
        let o = sigmoid(clipped(cell.sum(1, u, x, h) + peep(1, new)));
        (o * new.tanh(), new)
    };
    (0..HIDDEN).map(unit).unzip()
}

/// What a layer gives by definition: `Y`, `Y_h`, `Y_c`, for every direction and each image's own length.
fn layer(
    x: &[f64],
    cells: &[(Cell, bool)],
    [h0, c0]: [&[f64]; 2],
    lengths: [usize; BATCH],
    step: Step<'_>,
) -> [Vec<f64>; 3] {
    let directions = cells.len();
    let mut y = vec![0.0; STEPS * directions * BATCH * HIDDEN];
    let (mut last_h, mut last_c) = (Vec::new(), Vec::new());
    for (d, (cell, reverse)) in cells.iter().enumerate() {
        for (n, length) in lengths.into_iter().enumerate() {
            let first = (d * BATCH + n) * HIDDEN;
            let (mut h, mut c) = (h0[first..first + HIDDEN].to_vec(), c0[first..first + HIDDEN].to_vec());
            for number in 0..length {
                let t = if *reverse { length - 1 - number } else { number };
                let from = (t * BATCH + n) * SIZE;
                (h, c) = step(cell, &x[from..from + SIZE], &h, &c);
                let to = ((t * directions + d) * BATCH + n) * HIDDEN;
                y[to..to + HIDDEN].copy_from_slice(&h);
            }
            last_h.extend(h);
            last_c.extend(c);
        }
    }
    [y, last_h, last_c]
}

/// Compares a node with the definition: constant or computed weights, each direction, lengths known, computed or absent.
fn check(op: &str, gates: usize, attributes: &dyn Fn(Node) -> Node, step: Step<'_>) {
    let lstm = op == "LSTM";
    for (number, direction) in ["forward", "reverse", "bidirectional"].into_iter().enumerate() {
        let directions = 1 + number / 2;
        for (case, lengths) in [[STEPS; 2], [2, 4], [1, 3]].into_iter().enumerate() {
            let rows = gates * HIDDEN;
            let (x, xs) = given(&[STEPS, BATCH, SIZE], 1);
            let (w, ws) = given(&[directions, rows, SIZE], 2);
            let (r, rs) = given(&[directions, rows, HIDDEN], 3);
            let (b, bs) = given(&[directions, 2 * rows], 4);
            let (h, hs) = given(&[directions, BATCH, HIDDEN], 5);
            let (c, cs) = given(&[directions, BATCH, HIDDEN], 6);
            let (p, ps) = given(&[directions, 3 * HIDDEN], 7);
            let mut node = Node::new(op, 14).input(x).string("direction", direction).int("hidden_size", HIDDEN as i64);
            node = if case == 1 { node.input(w).input(r).input(b) } else { node.constant(w).constant(r).constant(b) };
            let counts = of(DType::I32, &[BATCH], &lengths.map(|length| length as i64));
            node = match case {
                0 => node.absent(),
                1 => node.input(counts),
                _ => node.constant(counts),
            };
            node = node.input(h);
            if lstm {
                node = node.input(c).constant(p);
            }
            let own = |values: &[f64], d: usize| values.chunks(values.len() / directions).nth(d).unwrap().to_vec();
            let cells = (0..directions).map(|d| {
                let cell = Cell { w: own(&ws, d), r: own(&rs, d), b: own(&bs, d), p: own(&ps, d) };
                (cell, number == 1 || d == 1)
            });
            let expected = layer(&xs, &cells.collect::<Vec<_>>(), [&hs, &cs], lengths, step);
            let outputs = attributes(node).outputs(if lstm { 3 } else { 2 }).run().unwrap();
            assert_eq!(outputs[0].ty.shape[..], [STEPS, directions, BATCH, HIDDEN]);
            for (found, expected) in outputs.iter().zip(&expected) {
                let found = found.to_f64();
                assert_eq!(found.len(), expected.len());
                let apart = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max);
                assert!(apart < 1e-6, "{op} {direction} {lengths:?}: {apart:e}");
            }
        }
    }
}

#[test]
fn cells_by_their_definition() {
    check("RNN", 1, &|node| node, &rnn);
    check("GRU", 3, &|node| node, &|cell, x, h, _| gru(cell, x, h, false));
    check("GRU", 3, &|node| node.int("linear_before_reset", 1), &|cell, x, h, _| gru(cell, x, h, true));
    check("LSTM", 4, &|node| node, &|cell, x, h, c| lstm(cell, x, h, c, f64::INFINITY));
    check("LSTM", 4, &|node| node.float("clip", 0.5), &|cell, x, h, c| lstm(cell, x, h, c, 0.5));
}

#[test]
fn functions_take_their_parameters_in_turn() {
    let node = |names: &[&str]| {
        let node = Node::new("RNN", 14).input(f32s(&[1, 1, 1], &[0.5])).constant(f32s(&[1, 1, 1], &[1.0]));
        node.constant(f32s(&[1, 1, 1], &[0.0])).strings("activations", names)
    };
    let y = |value: f32| f32s(&[1, 1, 1, 1], &[value]);
    node(&["Affine"]).floats("activation_alpha", &[2.0]).floats("activation_beta", &[0.25]).gives(y(1.25));
    node(&["relu"]).gives(y(0.5));
    node(&["HardSigmoid"]).gives(y(0.6));
    node(&["ThresholdedRelu"]).floats("activation_alpha", &[0.75]).gives(y(0.0));
    node(&["Swish"]).refused("activations: expected functions that ONNX names");
    node(&["Relu", "Relu"]).refused("activations: expected 1 names");
}

#[test]
fn batches_may_come_first() {
    let (x, w, r) =
        (f32s(&[2, 3, 1], &[1.0, 2.0, 3.0, -1.0, -2.0, -3.0]), f32s(&[1, 1, 1], &[1.0]), f32s(&[1, 1, 1], &[1.0]));
    let node =
        |x| Node::new("RNN", 14).input(x).constant(w.clone()).constant(r.clone()).strings("activations", &["Relu"]);
    // Sums of what came before, while they are positive.
    let y = f32s(&[2, 3, 1, 1], &[1.0, 3.0, 6.0, 0.0, 0.0, 0.0]);
    let last = f32s(&[2, 1, 1], &[6.0, 0.0]);
    node(x).int("layout", 1).outputs(2).gives_all(&[y, last]);
}

#[test]
fn operands_that_do_not_fit_are_named() {
    let node = |op: &str| Node::new(op, 14).input(f32s(&[2, 1, 3], &[0.0; 6]));
    let w = |gates: usize| f32s(&[1, gates * 2, 3], &vec![0.0; gates * 6]);
    let r = |gates: usize| f32s(&[1, gates * 2, 2], &vec![0.0; gates * 4]);
    node("GRU").constant(w(3)).constant(r(4)).refused("R: expected shape [1, 6, 2]");
    node("LSTM").constant(w(3)).constant(r(4)).refused("W: expected shape [1, 8, 3]");
    node("RNN").constant(w(1)).constant(r(1)).constant(f32s(&[1, 3], &[0.0; 3])).refused("B: expected shape [1, 4]");
    node("RNN").constant(w(1)).constant(r(1)).string("direction", "up").refused("direction: expected forward");
    let lengths = of(DType::I32, &[1], &[3]);
    node("RNN")
        .constant(w(1))
        .constant(r(1))
        .absent()
        .constant(lengths)
        .refused("sequence_lens: expected lengths up to 2");
    let long = Node::new("RNN", 14).input(f32s(&[20_000, 1, 3], &vec![0.0; 60_000]));
    long.constant(w(1)).constant(r(1)).refused("20000 steps, of at most 16384");
}
