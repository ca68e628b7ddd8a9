//! Squares of 32-bit elements, transposed in registers.
//!
//! In: as many vectors as they have lanes. Out: as many, lane `i` of vector `j` where lane `j` of vector `i` was.

use crate::codegen::{Element, Emitter, V, VOp};

/// The transposed square of as many vectors as they have 32-bit lanes.
pub fn transpose(e: &mut dyn Emitter, lines: Vec<V>) -> Vec<V> {
    let side = lines.len();
    // In groups of four lines every block of four lanes is transposed: vector `k` of a group holds lane `4 j + k` of its lines in
    // block `j`.
    let groups: Vec<[V; 4]> = lines
        .chunks_exact(4)
        .map(|group| {
            let unpack = |e: &mut dyn Emitter, op, element, a: V, b: V| loaded(e, |e, v| e.op(op, element, v, a, b));
            let [low, high] = [VOp::UnpackLow, VOp::UnpackHigh];
            let pairs = [(low, 0), (high, 0), (low, 2), (high, 2)]
                .map(|(op, at)| unpack(e, op, Element::F32, group[at], group[at + 1]));
            [(low, 0), (high, 0), (low, 1), (high, 1)]
                .map(|(op, at)| unpack(e, op, Element::F64, pairs[at], pairs[at + 2]))
        })
        .collect();
    let mut columns = vec![lines[0]; side];
    for k in 0..4 {
        let blocks = transpose_blocks(e, groups.iter().map(|group| group[k]).collect());
        for (j, block) in blocks.into_iter().enumerate() {
            columns[4 * j + k] = block;
        }
    }
    columns
}

/// The transposed square of as many vectors as they have 128-bit blocks.
fn transpose_blocks(e: &mut dyn Emitter, lines: Vec<V>) -> Vec<V> {
    if lines.len() == 1 {
        return lines;
    }
    // Lines in pairs: the even blocks of both, and the odd ones, which are the transposed squares of half as many blocks.
    let mut halves = [Vec::new(), Vec::new()];
    for pair in lines.chunks_exact(2) {
        for (half, op) in halves.iter_mut().zip([VOp::EvenBlocks, VOp::OddBlocks]) {
            half.push(loaded(e, |e, v| e.op(op, Element::F32, v, pair[0], pair[1])));
        }
    }
    let [even, odd] = halves.map(|half| if half.len() > 1 { join(e, &half) } else { half });
    even.into_iter().zip(odd).flat_map(|(a, b)| [a, b]).collect()
}

/// The even blocks of two vectors, then their odd ones.
fn join(e: &mut dyn Emitter, half: &[V]) -> Vec<V> {
    [VOp::EvenBlocks, VOp::OddBlocks].map(|op| loaded(e, |e, v| e.op(op, Element::F32, v, half[0], half[1]))).to_vec()
}

/// A fresh vector with what `load` gives it.
fn loaded(e: &mut dyn Emitter, load: impl FnOnce(&mut dyn Emitter, V)) -> V {
    let v = e.v();
    load(e, v);
    v
}
