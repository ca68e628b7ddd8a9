//! Code for both widths: what is encoded, and what allocation adds.

use super::*;
use crate::codegen::{Count, Element, V, VOp};
use crate::target::Level;
use fornax_runtime::levels::{X86_64_V3, X86_64_V4};

const WIDE: [&Level; 2] = [&X86_64_V3, &X86_64_V4];

fn listing(level: &'static Level, emit: impl FnOnce(&mut dyn Emitter)) -> String {
    disassemble(&compile(&Target::new(level), "test", emit).unwrap())
}

fn count(text: &str, needle: &str) -> usize {
    text.matches(needle).count()
}

/// `n` accumulators over a loop of `times`, each added the same product.
fn accumulate(e: &mut dyn Emitter, n: usize) {
    let (p, q) = (e.pointer(0), e.pointer(1));
    let sums: Vec<V> = (0..n).map(|_| e.constant(0.0)).collect();
    e.repeat(Count::Times(10), &mut |e| {
        let (a, b) = (e.v(), e.v());
        e.load(a, p.at(0), e.lanes(Element::F32));
        e.broadcast(b, p.at(256));
        sums.iter().for_each(|sum| e.fma(*sum, a, b));
        e.add_imm(p, p, 64);
    });
    for (i, sum) in sums.iter().enumerate() {
        e.store(*sum, q.at(64 * i as i32), e.lanes(Element::F32));
    }
}

#[test]
fn a_loop_that_fits_has_no_spills() {
    for (level, n) in [(&X86_64_V3, 13), (&X86_64_V4, 29)] {
        let text = listing(level, |e| accumulate(e, n));
        assert_eq!((count(&text, "vfmadd231ps"), count(&text, "[rsp")), (n, 0), "{text}");
    }
}

#[test]
fn a_loop_that_does_not_fit_still_has_its_instructions() {
    for level in WIDE {
        let text = listing(level, |e| accumulate(e, 40));
        assert_eq!(count(&text, "vfmadd231ps"), 40, "{text}");
        assert!(count(&text, "[rsp") > 0);
    }
}

/// What a loop does not use leaves before it, once, and comes back after it.
#[test]
fn values_that_wait_make_room_before_a_loop() {
    let text = listing(&X86_64_V4, |e| {
        let (p, q) = (e.pointer(0), e.pointer(1));
        let waiting: Vec<V> = (0..10).map(|_| e.v()).collect();
        waiting.iter().enumerate().for_each(|(i, v)| e.load(*v, p.at(64 * i as i32), 16));
        accumulate(e, 28);
        waiting.iter().enumerate().for_each(|(i, v)| e.store(*v, q.at(64 * i as i32), 16));
    });
    let (head, tail) = text.split_once("vfmadd231ps").unwrap();
    let body = tail.rsplit_once("vfmadd231ps").unwrap().0;
    assert_eq!(count(body, "[rsp"), 0, "{text}");
    assert!(count(head, "[rsp") >= 8);
}

#[test]
fn single_uses_of_memory_become_operands() {
    let text = listing(&X86_64_V4, |e| {
        let (p, a, b, c) = (e.pointer(0), e.v(), e.v(), e.v());
        e.load(a, p.at(0), 16);
        e.load(c, p.at(64), 16);
        e.broadcast(b, p.at(128));
        e.fma(c, a, b);
        e.store(c, p.at(0), 16);
    });
    assert!(text.contains("{1to16}") || text.contains("1to16"), "{text}");
    assert_eq!(count(&text, "vbroadcastss"), 0, "{text}");
}

/// A polynomial by Horner's rule takes one instruction per coefficient: its constants are operands.
#[test]
fn constants_are_operands() {
    let text = listing(&X86_64_V4, |e| {
        let (p, x, sum, next) = (e.pointer(0), e.v(), e.v(), e.v());
        e.load(x, p.at(0), 16);
        e.splat(sum, 1.5f32.to_bits());
        for k in 0..4 {
            let c = e.constant(k as f32 + 0.25);
            e.copy_v(next, c);
            e.fma(next, sum, x);
            e.copy_v(sum, next);
        }
        e.store(sum, p.at(0), 16);
    });
    assert_eq!(count(&text, "vfmadd"), 4, "{text}");
    assert!(count(&text, "vmov") <= 3, "{text}");
}

#[test]
fn partial_vectors_touch_only_their_elements() {
    for level in WIDE {
        let lanes = Target::new(level).lanes();
        let text = listing(level, |e| {
            let (p, a) = (e.pointer(0), e.v());
            for n in 0..=lanes {
                e.load(a, p.at(0), n);
                e.op(VOp::Add, Element::F32, a, a, a);
                e.store(a, p.at(64), n);
            }
        });
        assert!(text.contains(if lanes == 16 { "{k2}{z}" } else { "vmaskmovps" }), "{text}");
    }
}

/// With more kinds of tails than mask registers, no use of the register that they share relies on an earlier load of it.
#[test]
fn masks_that_share_a_register_are_loaded_for_each_use() {
    let text = listing(&X86_64_V4, |e| {
        let (p, a) = (e.pointer(0), e.v());
        e.repeat(Count::Times(3), &mut |e| {
            for n in [1, 2, 3, 5, 6, 7, 9] {
                e.load(a, p.at(0), n);
                e.store(a, p.at(64), n);
            }
        });
    });
    let (loads, uses) = (count(&text, "kmovw       k7"), count(&text, "{k7}"));
    assert_eq!((loads, uses), (4, 4), "{text}");
}

#[test]
fn rounding_is_a_single_instruction() {
    for (level, expected) in [(&X86_64_V3, "vroundps    ymm0,ymm0,8"), (&X86_64_V4, "vrndscaleps zmm0,zmm0,8")] {
        let text = listing(level, |e| {
            let (p, a) = (e.pointer(0), e.v());
            e.load(a, p.at(0), e.lanes(Element::F32));
            e.round(a, a);
            e.store(a, p.at(0), e.lanes(Element::F32));
        });
        assert!(text.contains(expected), "{text}");
    }
}

/// A dot product is a product of pairs and an addition; it reads a whole vector from memory, and never one element for every lane.
#[test]
fn products_of_pairs_are_added_in_two_instructions() {
    for level in WIDE {
        let lanes = Target::new(level).lanes();
        let text = listing(level, |e| {
            let (p, q) = (e.pointer(0), e.pointer(1));
            let (sum, a, b, one, ones) = (e.constant(0.0), e.v(), e.v(), e.v(), e.v());
            e.repeat(Count::Times(10), &mut |e| {
                e.load(a, p.at(0), lanes);
                e.load(b, q.at(0), lanes);
                e.dot(sum, a, b);
                e.broadcast(one, p.at(4));
                e.dot(sum, a, one);
                e.splat(ones, 0x0001_0001);
                e.dot(sum, a, ones);
            });
            e.store(sum, q.at(0), lanes);
        });
        assert_eq!((count(&text, "vpmaddwd"), count(&text, "vpaddd")), (3, 3), "{text}");
        let operand = |line: &&str| line.contains("vpmaddwd") && line.contains('[');
        assert!(text.lines().any(|line| operand(&line)) && !text.contains("1to16"), "{text}");
    }
}
