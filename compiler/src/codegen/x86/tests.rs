//! Code for both widths: what is encoded, and what allocation adds.

use super::*;
use crate::codegen::{Count, Element, V, VOp};
use crate::codegen::{T, soft};
use crate::emit::jit;
use crate::target::Level;
use fornax_runtime::FloatMode;
use fornax_runtime::levels::{X86_64_AMX, X86_64_V3, X86_64_V4};

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

/// Pseudo-random numbers.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 32) as u32
    }

    /// The upper half of a number: any, or one whose exponent is one of `count` from `least` on.
    fn half(&mut self, exponents: Option<(u32, u32)>) -> u16 {
        let bits = self.next();
        let exponent = |(least, count): (u32, u32)| ((bits >> 8) % count + least) << 7 | bits >> 16 & 0x807f;
        exponents.map_or(bits >> 16, exponent) as u16
    }
}

/// For each chunk of 1024 bytes, adds the products of a tile of 16 rows by one of 16 columns to one of sums.
fn tile_products(e: &mut dyn Emitter) {
    let [x, weights, sums] = [0, 1, 2].map(|argument| e.pointer(argument));
    let (word, shapes) = (e.r(), e.r());
    e.scratch(shapes);
    // One palette; 16 rows of 64 bytes in each of eight tiles.
    for (at, value) in
        [1, 0, 0x0040_0040_0040_0040, 0x0040_0040_0040_0040, 0, 0, 0x1010_1010_1010_1010, 0].iter().enumerate()
    {
        e.set(word, *value);
        e.store_r(word, shapes.at(8 * at as i32));
    }
    e.tile_shapes(shapes.at(0));
    let (first, end, row) = (e.r(), e.r(), e.integer(64));
    e.begin(first);
    e.end(end);
    e.sub(end, end, first);
    e.mul_imm(first, first, 1024);
    [x, weights, sums].into_iter().for_each(|p| e.add(p, p, first));
    e.repeat(Count::Register(end), &mut |e| {
        let (left, right, sum) = (T(4), T(6), T(0));
        e.tile_load(left, x.at(0), row);
        e.tile_load(right, weights.at(0), row);
        e.tile_load(sum, sums.at(0), row);
        e.tile_dot(sum, left, right);
        e.tile_store(sum, sums.at(0), row);
        [x, weights, sums].into_iter().for_each(|p| e.add_imm(p, p, 1024));
    });
    e.tile_release();
}

/// Over a million sums of any numbers, of ordinary ones, and of products and sums around the smallest normal one.
#[test]
fn tile_products_are_those_of_the_interpreter() {
    const CHUNKS: u32 = 6000;
    let target = Target::new(&X86_64_AMX);
    if !target.level.usable_here() {
        return eprintln!("NOT RUN: {target}: this machine cannot");
    }
    let mut random = Random(7);
    let mut buffers = vec![Vec::new(); 3];
    for chunk in 0..CHUNKS {
        // Exponents of the factors, and of the upper halves of the sums.
        let (factors, sums) = match chunk % 6 {
            0 => (None, None),
            1 => (Some((120, 14)), Some((120, 14))),
            2 => (Some((60, 8)), Some((1, 8))),
            3 => (Some((62, 3)), Some((0, 2))),
            4 => (Some((55, 8)), None),
            _ => (Some((0, 255)), Some((0, 255))),
        };
        for buffer in &mut buffers[..2] {
            buffer.extend((0..512).flat_map(|_| random.half(factors).to_le_bytes()));
        }
        buffers[2].extend((0..256).flat_map(|_| {
            let low = random.next() as u16;
            [low.to_le_bytes(), random.half(sums).to_le_bytes()].concat()
        }));
    }
    let mut expected = buffers.clone();
    expected.push(vec![0; 64]);
    soft::run(16, (0, CHUNKS), &mut expected, tile_products);
    // The control register changes nothing.
    for mode in [FloatMode::Ieee, FloatMode::Flush] {
        let mut found = buffers.clone();
        jit::run_body(&target, &mut found, 64, (mode, CHUNKS), tile_products).unwrap();
        let words = |bytes: &[u8]| -> Vec<f32> { bytes.as_chunks().0.iter().map(|b| f32::from_le_bytes(*b)).collect() };
        let (found, expected) = (words(&found[2]), words(&expected[2]));
        let same = |a: f32, b: f32| a.to_bits() == b.to_bits() || a.is_nan() && b.is_nan();
        let other = (0..found.len()).filter(|i| !same(found[*i], expected[*i])).collect::<Vec<_>>();
        let first = other.first().map(|i| (i / 256 % 6, expected[*i].to_bits(), found[*i].to_bits()));
        assert!(
            other.is_empty(),
            "{} of {}: kind, expected and found of the first {first:x?}",
            other.len(),
            found.len()
        );
        assert!(found.len() > 1 << 20 && found.iter().filter(|x| x.is_finite() && **x != 0.0).count() > 1 << 19);
    }
}
