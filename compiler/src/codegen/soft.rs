//! The vector machine as an interpreter, for tests: any lane count, every access checked against the arguments' extents.
//!
//! It shares no code with the back ends, so a kernel whose bits agree here and there for 4, 8 and 16 lanes keeps the bit firewall.

use super::{Body, Cmp, Count, Emitter, Lane, Mem, R, V, VOp};

/// Widest vector, lanes.
const WIDEST: usize = 16;
/// Distance of the made-up addresses of two buffers.
const SPACING: i64 = 1 << 40;

/// The machine: registers, and one buffer per argument with the scratch memory last.
pub struct Soft<'a> {
    lanes: usize,
    range: (u32, u32),
    buffers: &'a mut [Vec<u8>],
    v: Vec<[u32; WIDEST]>,
    r: Vec<i64>,
}

/// Runs `body` on a machine of `lanes` lanes for chunks `range`; `buffers` are the arguments, then scratch.
pub fn run(lanes: usize, range: (u32, u32), buffers: &mut [Vec<u8>], body: impl FnOnce(&mut dyn Emitter)) {
    body(&mut Soft { lanes, range, buffers, v: Vec::new(), r: Vec::new() });
}

/// Applies `body` to vectors of `xs`, in place.
pub fn map(xs: &mut [f32], body: impl Fn(&mut dyn Emitter, V)) {
    let mut buffers = vec![xs.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>()];
    run(4, (0, xs.len().div_ceil(4) as u32), &mut buffers, |e| {
        for i in 0..xs.len().div_ceil(4) {
            let (p, x) = (e.pointer(0), e.v());
            let lanes = (xs.len() - 4 * i).min(4);
            e.load(x, p.at(16 * i as i32), lanes);
            body(e, x);
            e.store(x, p.at(16 * i as i32), lanes);
            e.free_v(x);
            e.free_r(p);
        }
    });
    for (x, bytes) in xs.iter_mut().zip(buffers[0].as_chunks().0) {
        *x = f32::from_le_bytes(*bytes);
    }
}

impl Soft<'_> {
    fn place(&self, at: Mem, bytes: usize) -> (usize, usize) {
        let address = self.r[at.base.0 as usize] + i64::from(at.offset);
        let (buffer, offset) = (address.div_euclid(SPACING) - 1, address.rem_euclid(SPACING) as usize);
        let extent = usize::try_from(buffer).ok().and_then(|b| self.buffers.get(b)).map(Vec::len);
        assert!(
            extent.is_some_and(|extent| offset + bytes <= extent),
            "{bytes} bytes at {offset} of buffer {buffer} with {extent:?} bytes"
        );
        (buffer as usize, offset)
    }

    fn element(&self, at: Mem) -> u32 {
        let (buffer, offset) = self.place(at, 4);
        u32::from_le_bytes(self.buffers[buffer][offset..offset + 4].try_into().unwrap())
    }

    fn lanewise(&mut self, d: V, f: impl Fn(&Self, usize) -> u32) {
        for lane in 0..self.lanes {
            let value = f(self, lane);
            // Operands may be `d`; only this lane of it changes, after it was read.
            self.v[d.0 as usize][lane] = value;
        }
    }

    fn bits(&self, v: V, lane: usize) -> u32 {
        self.v[v.0 as usize][lane]
    }

    fn float(&self, v: V, lane: usize) -> f32 {
        f32::from_bits(self.bits(v, lane))
    }
}

fn float_op(op: VOp, a: f32, b: f32) -> f32 {
    match op {
        VOp::Add => a + b,
        VOp::Sub => a - b,
        VOp::Mul => a * b,
        VOp::Div => a / b,
        VOp::Min => {
            if a < b {
                a
            } else {
                b
            }
        }
        VOp::Max => {
            if a > b {
                a
            } else {
                b
            }
        }
        VOp::And => f32::from_bits(a.to_bits() & b.to_bits()),
        VOp::Or => f32::from_bits(a.to_bits() | b.to_bits()),
        VOp::Xor => f32::from_bits(a.to_bits() ^ b.to_bits()),
    }
}

fn int_op(op: VOp, a: u32, b: u32) -> u32 {
    match op {
        VOp::Add => a.wrapping_add(b),
        VOp::Sub => a.wrapping_sub(b),
        VOp::Mul => a.wrapping_mul(b),
        VOp::Div => panic!("vectors of integers have no division"),
        VOp::Min => (a as i32).min(b as i32) as u32,
        VOp::Max => (a as i32).max(b as i32) as u32,
        VOp::And => a & b,
        VOp::Or => a | b,
        VOp::Xor => a ^ b,
    }
}

impl Emitter for Soft<'_> {
    fn lanes(&self) -> usize {
        self.lanes
    }
    fn budget(&self) -> usize {
        14
    }
    fn v(&mut self) -> V {
        // A fresh register holds rubbish.
        self.v.push([0x7FC0_DEAD; WIDEST]);
        V(self.v.len() as u32 - 1)
    }
    fn free_v(&mut self, _v: V) {}
    fn r(&mut self) -> R {
        self.r.push(-1);
        R(self.r.len() as u32 - 1)
    }
    fn free_r(&mut self, _r: R) {}
    fn arg(&mut self, d: R, index: usize) {
        assert!(index + 1 < self.buffers.len() || self.buffers.len() == 1, "argument {index}");
        self.set(d, (index as i64 + 1) * SPACING);
    }
    fn begin(&mut self, d: R) {
        self.set(d, i64::from(self.range.0));
    }
    fn end(&mut self, d: R) {
        self.set(d, i64::from(self.range.1));
    }
    fn scratch(&mut self, d: R) {
        self.set(d, self.buffers.len() as i64 * SPACING);
    }
    fn set(&mut self, d: R, value: i64) {
        self.r[d.0 as usize] = value;
    }
    fn copy(&mut self, d: R, s: R) {
        self.set(d, self.r[s.0 as usize]);
    }
    fn add(&mut self, d: R, a: R, b: R) {
        self.set(d, self.r[a.0 as usize].wrapping_add(self.r[b.0 as usize]));
    }
    fn sub(&mut self, d: R, a: R, b: R) {
        self.set(d, self.r[a.0 as usize].wrapping_sub(self.r[b.0 as usize]));
    }
    fn add_imm(&mut self, d: R, a: R, value: i64) {
        self.set(d, self.r[a.0 as usize].wrapping_add(value));
    }
    fn mul_imm(&mut self, d: R, a: R, value: i64) {
        self.set(d, self.r[a.0 as usize].wrapping_mul(value));
    }
    fn div_imm(&mut self, d: R, a: R, value: u32) {
        self.set(d, (self.r[a.0 as usize] as u64 / u64::from(value)) as i64);
    }
    fn min(&mut self, d: R, a: R, b: R) {
        self.set(d, self.r[a.0 as usize].min(self.r[b.0 as usize]));
    }
    fn max(&mut self, d: R, a: R, b: R) {
        self.set(d, self.r[a.0 as usize].max(self.r[b.0 as usize]));
    }
    fn load_r(&mut self, d: R, at: Mem) {
        let (buffer, offset) = self.place(at, 8);
        let bytes = self.buffers[buffer][offset..offset + 8].try_into().unwrap();
        self.set(d, i64::from_le_bytes(bytes));
    }
    fn store_r(&mut self, s: R, at: Mem) {
        let (buffer, offset) = self.place(at, 8);
        self.buffers[buffer][offset..offset + 8].copy_from_slice(&self.r[s.0 as usize].to_le_bytes());
    }
    fn select_below(&mut self, d: R, index: R, bound: u32, inside: R, outside: R) {
        let below = (self.r[index.0 as usize] as u64) < u64::from(bound);
        self.copy(d, if below { inside } else { outside });
    }
    fn repeat(&mut self, count: Count, body: Body<'_>) {
        let times = match count {
            Count::Times(times) => i64::from(times),
            Count::Register(r) => self.r[r.0 as usize],
        };
        for _ in 0..times {
            body(self);
        }
    }
    fn if_less(&mut self, a: R, b: R, body: Body<'_>) {
        if self.r[a.0 as usize] < self.r[b.0 as usize] {
            body(self);
        }
    }
    fn zero(&mut self, d: V) {
        self.splat(d, 0);
    }
    fn splat(&mut self, d: V, bits: u32) {
        self.lanewise(d, |_, _| bits);
    }
    fn copy_v(&mut self, d: V, s: V) {
        self.v[d.0 as usize] = self.v[s.0 as usize];
    }
    fn load(&mut self, d: V, at: Mem, lanes: usize) {
        self.lanewise(d, |m, lane| if lane < lanes { m.element(at.base.at(at.offset + 4 * lane as i32)) } else { 0 });
    }
    fn store(&mut self, s: V, at: Mem, lanes: usize) {
        for lane in 0..lanes.min(self.lanes) {
            let (buffer, offset) = self.place(at.base.at(at.offset + 4 * lane as i32), 4);
            let bits = self.bits(s, lane);
            self.buffers[buffer][offset..offset + 4].copy_from_slice(&bits.to_le_bytes());
        }
    }
    fn broadcast(&mut self, d: V, at: Mem) {
        self.lanewise(d, |m, _| m.element(at));
    }
    fn op(&mut self, op: VOp, lane: Lane, d: V, a: V, b: V) {
        self.lanewise(d, |m, i| match lane {
            Lane::F32 => float_op(op, m.float(a, i), m.float(b, i)).to_bits(),
            Lane::I32 => int_op(op, m.bits(a, i), m.bits(b, i)),
        });
    }
    fn fma(&mut self, d: V, a: V, b: V) {
        self.lanewise(d, |m, i| m.float(a, i).mul_add(m.float(b, i), m.float(d, i)).to_bits());
    }
    fn fnma(&mut self, d: V, a: V, b: V) {
        self.lanewise(d, |m, i| (-m.float(a, i)).mul_add(m.float(b, i), m.float(d, i)).to_bits());
    }
    fn sqrt(&mut self, d: V, a: V) {
        self.lanewise(d, |m, i| m.float(a, i).sqrt().to_bits());
    }
    fn shift_left(&mut self, d: V, a: V, bits: u32) {
        self.lanewise(d, |m, i| m.bits(a, i) << bits);
    }
    fn shift_right(&mut self, d: V, a: V, bits: u32) {
        self.lanewise(d, |m, i| m.bits(a, i) >> bits);
    }
    fn select(&mut self, d: V, cmp: Cmp, a: V, b: V, yes: V, no: V) {
        self.lanewise(d, |m, i| {
            let (x, y) = (m.float(a, i), m.float(b, i));
            let holds = match cmp {
                Cmp::Less => x < y,
                Cmp::LessOrEqual => x <= y,
                Cmp::Equal => x == y,
                Cmp::Unordered => x.is_nan() || y.is_nan(),
            };
            m.bits(if holds { yes } else { no }, i)
        });
    }
    fn int_to_float(&mut self, d: V, a: V) {
        self.lanewise(d, |m, i| (m.bits(a, i) as i32 as f32).to_bits());
    }
    fn float_to_int(&mut self, d: V, a: V) {
        self.lanewise(d, |m, i| m.float(a, i) as i32 as u32);
    }
    fn loops(&mut self, nest: &super::loops::LoopNest, _split: super::loops::Split) {
        unimplemented!("loop nests are tested on the machine: {nest:?}");
    }
}
