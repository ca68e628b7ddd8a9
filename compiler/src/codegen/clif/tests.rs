//! Machine code of single operations.

use super::*;
use crate::codegen::{Cmp, Count, Element, V, VOp};

/// Machine code listing of what `emit` writes; fails if the code needs a relocation.
fn listing(target: &str, emit: impl FnOnce(&mut dyn Emitter)) -> String {
    let isa = isa(&target.parse().unwrap()).unwrap();
    let code = compile(&*isa, build(&*isa, "test", emit).unwrap()).unwrap();
    assert!(code.buffer.relocs().is_empty(), "{target}: code with relocations");
    code.vcode.clone().unwrap()
}

/// Loads two vectors, applies `body` to them, stores the first.
fn with_two(body: impl FnOnce(&mut dyn Emitter, V, V)) -> impl FnOnce(&mut dyn Emitter) {
    |e| {
        let (p, a, b) = (e.pointer(0), e.v(), e.v());
        e.load(a, p.at(0), 4);
        e.load(b, p.at(16), 4);
        body(e, a, b);
        e.store(a, p.at(0), 4);
    }
}

#[test]
fn minimum_and_maximum_are_single_instructions() {
    for (op, expected) in [(VOp::Min, "minps"), (VOp::Max, "maxps")] {
        let text = listing("x86-64-fma", with_two(|e, a, b| e.op(op, Element::F32, a, a, b)));
        assert!(text.contains(expected), "{text}");
        assert!(!text.contains("cmpps"), "{text}");
    }
}

#[test]
fn multiply_add_is_fused_where_the_target_can() {
    let fused = |target| listing(target, with_two(|e, a, b| e.fma(a, b, b)));
    assert!(fused("x86-64-fma").contains("vfmadd"));
    assert!(fused("x86-64").contains("mulps"));
    assert!(fused("aarch64").contains("fmla"));
    let negated = |target| listing(target, with_two(|e, a, b| e.fnma(a, b, b)));
    assert!(negated("x86-64-fma").contains("vfnmadd"));
}

#[test]
fn rounding_is_a_single_instruction() {
    for (target, expected) in [("x86-64", "roundps"), ("x86-64-fma", "vroundps"), ("aarch64", "frintn")] {
        let text = listing(target, with_two(|e, a, b| e.round(a, b)));
        assert_eq!(text.matches(expected).count(), 1, "{target}: {text}");
    }
}

#[test]
fn products_of_pairs_are_added_in_few_instructions() {
    let dot = |target| listing(target, with_two(|e, a, b| e.dot(a, a, b)));
    for (target, instructions) in [
        ("x86-64", &["pmaddwd", "paddd"][..]),
        ("x86-64-fma", &["vpmaddwd", "vpaddd"]),
        ("aarch64", &["smull ", "smull2", "addp"]),
    ] {
        let text = dot(target);
        let counts = instructions.iter().map(|instruction| text.matches(instruction).count());
        assert!(counts.clone().all(|count| count == 1), "{target}: {:?}\n{text}", counts.collect::<Vec<_>>());
    }
}

#[test]
fn a_broadcast_reads_its_element_directly() {
    let text = listing("x86-64-fma", |e| {
        let (p, a) = (e.pointer(0), e.v());
        e.broadcast(a, p.at(4));
        for i in 0..3 {
            e.op(VOp::Add, Element::F32, a, a, a);
            e.store(a, p.at(16 * i), 4);
        }
    });
    assert!(text.contains("vbroadcastss 4(%"), "{text}");
}

#[test]
fn every_operation_compiles_for_every_target() {
    for target in Target::all().filter(|target| target.level.backend == crate::target::Backend::Cranelift) {
        listing(&target.to_string(), |e| {
            let (p, q, n) = (e.pointer(0), e.pointer(1), e.r());
            let (a, b) = (e.v(), e.constant(1.5));
            e.end(n);
            e.repeat(Count::Register(n), &mut |e| {
                for lanes in 0..=4 {
                    e.load(a, p.at(0), lanes);
                    e.store(a, q.at(0), lanes);
                }
                for op in [VOp::Add, VOp::Sub, VOp::Mul, VOp::Min, VOp::Max, VOp::And, VOp::Or, VOp::Xor] {
                    e.op(op, Element::F32, a, a, b);
                    e.op(op, Element::I32, a, a, b);
                }
                e.dot(a, a, b);
                e.op(VOp::Div, Element::F32, a, a, b);
                for cmp in [Cmp::Less, Cmp::LessOrEqual, Cmp::Equal, Cmp::Unordered] {
                    e.select(Element::F32, a, cmp, [a, b], b, a);
                }
                e.sqrt(Element::F32, a, a);
                e.shift_left(Element::I32, a, a, 23);
                e.shift_right(Element::I32, a, a, 1);
                e.float_to_int(a, a);
                e.int_to_float(a, a);
                e.store(a, q.at(16), 4);
                e.add_imm(p, p, 16);
            });
            e.div_imm(n, n, 3);
            e.mul_imm(n, n, 12);
            e.select_below(p, n, 5, p, q);
            e.load_r(n, p.at(0));
            e.if_less(n, q, &mut |e| e.store_r(n, q.at(0)));
        });
    }
}
