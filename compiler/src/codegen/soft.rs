//! The vector machine as an interpreter, for tests: any lane count, every access checked against the arguments' extents.
//!
//! It shares no code with the back ends, so a kernel whose bits agree here and there for 4, 8 and 16 lanes keeps the bit firewall.

use super::{Body, Cmp, Count, Element, Emitter, IntOp, Mem, R, T, TILES, V, VOp};
use fornax_ir::types::DType;

/// Widest vector, lanes.
const WIDEST: usize = 16;
/// Distance of the synthetic addresses of two buffers.
const SPACING: i64 = 1 << 40;

/// The machine: registers, and one buffer per argument with the scratch memory last.
pub struct Soft<'a> {
    lanes: usize,
    range: (u32, u32),
    buffers: &'a mut [Vec<u8>],
    v: Vec<[u32; WIDEST]>,
    r: Vec<i64>,
    tiles: [Tile; TILES],
}

/// A tile register: bytes of a row, and its rows; none without a shape.
#[derive(Clone, Default)]
struct Tile {
    columns: usize,
    rows: Vec<Vec<u8>>,
}

impl Tile {
    fn float(&self, row: usize, column: usize) -> f32 {
        f32::from_le_bytes(self.rows[row][4 * column..][..4].try_into().unwrap())
    }

    /// A `bf16` number; a subnormal one counts as zero.
    fn half(&self, row: usize, at: usize) -> f32 {
        let bits = u16::from_le_bytes(self.rows[row][2 * at..][..2].try_into().unwrap());
        flushed(f32::from_bits(u32::from(bits) << 16))
    }
}

/// Zero of the same sign for a subnormal number.
fn flushed(x: f32) -> f32 {
    if x.is_subnormal() { 0f32.copysign(x) } else { x }
}

/// A fused multiply-add whose result is flushed, as x86 decides it: by its size once it is rounded to 24 bits, however small its exponent.
fn flushed_fma(a: f32, b: f32, c: f32) -> f32 {
    const UP: f32 = (1 << 24) as f32;
    let sum = a.mul_add(b, c);
    if sum.abs() != f32::MIN_POSITIVE {
        return flushed(sum);
    }
    // It may have been rounded up to the smallest normal number with fewer bits than that. Scaled, it has all of them.
    let [low, high] = if a.abs() < b.abs() { [a, b] } else { [b, a] };
    let scaled = (low * UP).mul_add(high, c * UP);
    if scaled.abs() < f32::MIN_POSITIVE * UP { 0f32.copysign(sum) } else { sum }
}

/// Runs `body` on a machine of `lanes` lanes for chunks `range`; `buffers` are the arguments, then scratch.
pub fn run(lanes: usize, range: (u32, u32), buffers: &mut [Vec<u8>], body: impl FnOnce(&mut dyn Emitter)) {
    body(&mut Soft { lanes, range, buffers, v: Vec::new(), r: Vec::new(), tiles: Default::default() });
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
        let address = self.r[at.base.0 as usize] + at.offset;
        let (buffer, offset) = (address.div_euclid(SPACING) - 1, address.rem_euclid(SPACING) as usize);
        let extent = usize::try_from(buffer).ok().and_then(|b| self.buffers.get(b)).map(Vec::len);
        assert!(
            extent.is_some_and(|extent| offset + bytes <= extent),
            "{bytes} bytes at {offset} of buffer {buffer} with {extent:?} bytes"
        );
        (buffer as usize, offset)
    }

    fn element(&self, at: Mem) -> u32 {
        self.integer_at(at, DType::U32) as u32
    }

    /// An element of an integer type, extended.
    fn integer_at(&self, at: Mem, dtype: DType) -> i64 {
        let (buffer, offset) = self.place(at, dtype.size());
        let mut bytes = [0; 8];
        bytes[..dtype.size()].copy_from_slice(&self.buffers[buffer][offset..offset + dtype.size()]);
        extended(i64::from_le_bytes(bytes), dtype)
    }

    fn write(&mut self, at: Mem, bytes: &[u8]) {
        let (buffer, offset) = self.place(at, bytes.len());
        self.buffers[buffer][offset..offset + bytes.len()].copy_from_slice(bytes);
    }

    /// Element `lane` of 64-bit lanes.
    fn wide(&self, v: V, lane: usize) -> u64 {
        u64::from(self.bits(v, 2 * lane)) | u64::from(self.bits(v, 2 * lane + 1)) << 32
    }

    fn double(&self, v: V, lane: usize) -> f64 {
        f64::from_bits(self.wide(v, lane))
    }

    /// As [`Self::lanewise`], over 64-bit lanes.
    fn lanewise_64(&mut self, d: V, f: impl Fn(&Self, usize) -> u64) {
        for lane in 0..self.lanes / 2 {
            let value = f(self, lane);
            (self.v[d.0 as usize][2 * lane], self.v[d.0 as usize][2 * lane + 1]) = (value as u32, (value >> 32) as u32);
        }
    }

    /// Assigns whole vectors, where lanes cross.
    fn assign(&mut self, d: V, f: impl Fn(&Self, usize) -> u32) {
        let lanes: Vec<u32> = (0..self.lanes).map(|lane| f(self, lane)).collect();
        self.v[d.0 as usize][..self.lanes].copy_from_slice(&lanes);
    }

    /// Whether a shuffle takes a 32-bit lane from its second operand, and the lane there.
    fn shuffled(&self, op: VOp, element: Element, lane: usize) -> (bool, usize) {
        let (block, within, unit) = (lane / 4 * 4, lane % 4, element.size() / 4);
        let (turn, part) = (within / unit, within % unit);
        let half = if op == VOp::UnpackHigh { 2 } else { 0 };
        match op {
            VOp::UnpackLow | VOp::UnpackHigh => (turn % 2 == 1, block + half + turn / 2 * unit + part),
            _ => {
                let at = lane / 4 * 2 + usize::from(op == VOp::OddBlocks);
                let blocks = self.lanes / 4;
                (at >= blocks, at % blocks * 4 + within)
            }
        }
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

fn extended(v: i64, dtype: DType) -> i64 {
    match dtype {
        DType::I8 => i64::from(v as i8),
        DType::U8 | DType::Bool => i64::from(v as u8),
        DType::I16 => i64::from(v as i16),
        DType::U16 | DType::F16 | DType::BF16 => i64::from(v as u16),
        DType::I32 => i64::from(v as i32),
        DType::U32 | DType::F32 => i64::from(v as u32),
        DType::I64 | DType::U64 | DType::F64 => v,
    }
}

fn holds<T: PartialOrd>(cmp: Cmp, a: &T, b: &T) -> bool {
    match cmp {
        Cmp::Less => a < b,
        Cmp::LessOrEqual => a <= b,
        Cmp::Equal => a == b,
        Cmp::Unordered => a.partial_cmp(b).is_none(),
    }
}

fn double_op(op: VOp, a: f64, b: f64) -> f64 {
    match op {
        VOp::Add => a + b,
        VOp::Sub => a - b,
        VOp::Mul => a * b,
        VOp::Div => a / b,
        VOp::Min if a < b => a,
        VOp::Max if a > b => a,
        VOp::Min | VOp::Max => b,
        _ => f64::from_bits(wide_op(op, a.to_bits(), b.to_bits())),
    }
}

fn wide_op(op: VOp, a: u64, b: u64) -> u64 {
    match op {
        VOp::Add => a.wrapping_add(b),
        VOp::Sub => a.wrapping_sub(b),
        VOp::And => a & b,
        VOp::Or => a | b,
        VOp::Xor => a ^ b,
        _ => panic!("vectors of 64-bit integers have no {op:?}"),
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
        _ => unreachable!("{op:?} is no lane-wise operation"),
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
        VOp::Dot => {
            let product = |at: u32| i32::from((a >> at) as i16) * i32::from((b >> at) as i16);
            product(0).wrapping_add(product(16)) as u32
        }
        _ => unreachable!("{op:?} is no lane-wise operation"),
    }
}

impl Emitter for Soft<'_> {
    fn lanes(&self, element: Element) -> usize {
        self.lanes * 4 / element.size()
    }
    fn budget(&self) -> usize {
        14
    }
    fn v(&mut self) -> V {
        // A fresh register holds undefined bytes.
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
    fn int_op(&mut self, op: IntOp, d: R, a: R, b: R) {
        let (a, b) = (self.r[a.0 as usize], self.r[b.0 as usize]);
        let value = match op {
            IntOp::Mul => a.wrapping_mul(b),
            IntOp::And => a & b,
            IntOp::Or => a | b,
            IntOp::Xor => a ^ b,
            IntOp::Div => {
                assert!(!matches!(b, 0 | -1), "a machine may trap on a divisor of {b}");
                a / b
            }
            IntOp::DivUnsigned => {
                assert!(b != 0, "a machine may trap on a divisor of 0");
                (a as u64 / b as u64) as i64
            }
        };
        self.set(d, value);
    }
    fn extend(&mut self, d: R, a: R, dtype: DType) {
        self.set(d, extended(self.r[a.0 as usize], dtype));
    }
    fn load_int(&mut self, d: R, at: Mem, dtype: DType) {
        let value = self.integer_at(at, dtype);
        self.set(d, value);
    }
    fn store_int(&mut self, s: R, at: Mem, dtype: DType) {
        let bytes = self.r[s.0 as usize].to_le_bytes();
        self.write(at, &bytes[..dtype.size()]);
    }
    fn choose(&mut self, d: R, cmp: Cmp, a: R, b: R, yes: R, no: R) {
        assert!(cmp != Cmp::Unordered, "integers are ordered");
        let holds = holds(cmp, &self.r[a.0 as usize], &self.r[b.0 as usize]);
        self.copy(d, if holds { yes } else { no });
    }
    fn first_bits(&mut self, element: Element, d: R, s: V) {
        let bits = if element.size() == 4 { i64::from(self.bits(s, 0)) } else { self.wide(s, 0) as i64 };
        self.set(d, bits);
    }
    fn splat_int(&mut self, element: Element, d: V, s: R) {
        let bits = self.r[s.0 as usize];
        if element.size() == 4 { self.splat(d, bits as u32) } else { self.splat_64(d, bits as u64) }
    }
    fn first_from_int(&mut self, d: V, s: R) {
        let value = self.r[s.0 as usize] as f32;
        self.lanewise(d, |_, lane| if lane == 0 { value.to_bits() } else { 0x7FC0_DEAD });
    }
    fn first_to_int(&mut self, d: R, s: V) {
        self.set(d, self.float(s, 0) as i64);
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
    fn splat_64(&mut self, d: V, bits: u64) {
        self.lanewise_64(d, |_, _| bits);
    }
    fn copy_v(&mut self, d: V, s: V) {
        self.v[d.0 as usize] = self.v[s.0 as usize];
    }
    fn load(&mut self, d: V, at: Mem, lanes: usize) {
        self.lanewise(d, |m, lane| if lane < lanes { m.element(at.base.at(at.offset + 4 * lane as i64)) } else { 0 });
    }
    fn store(&mut self, s: V, at: Mem, lanes: usize) {
        self.store_as(s, at, DType::U32, lanes);
    }
    fn load_as(&mut self, d: V, at: Mem, from: DType, lanes: usize) {
        assert!(from.size() <= 4 && !matches!(from, DType::F16 | DType::BF16), "{from} does not widen to 32 bits");
        self.lanewise(d, |m, lane| {
            let at = at.base.at(at.offset + (from.size() * lane) as i64);
            if lane < lanes { m.integer_at(at, from) as u32 } else { 0 }
        });
    }
    fn store_as(&mut self, s: V, at: Mem, to: DType, lanes: usize) {
        for lane in 0..lanes.min(self.lanes) {
            let bytes = self.bits(s, lane).to_le_bytes();
            self.write(at.base.at(at.offset + (to.size() * lane) as i64), &bytes[..to.size()]);
        }
    }
    fn broadcast(&mut self, d: V, at: Mem) {
        self.lanewise(d, |m, _| m.element(at));
    }
    fn keep(&mut self, d: V, a: V, lanes: usize) {
        self.lanewise(d, |m, lane| if lane < lanes { m.bits(a, lane) } else { 0 });
    }
    fn op(&mut self, op: VOp, element: Element, d: V, a: V, b: V) {
        if matches!(op, VOp::UnpackLow | VOp::UnpackHigh | VOp::EvenBlocks | VOp::OddBlocks) {
            return self.assign(d, |m, lane| {
                let (second, from) = m.shuffled(op, element, lane);
                m.bits(if second { b } else { a }, from)
            });
        }
        match element {
            Element::F32 => self.lanewise(d, |m, i| float_op(op, m.float(a, i), m.float(b, i)).to_bits()),
            Element::I32 => self.lanewise(d, |m, i| int_op(op, m.bits(a, i), m.bits(b, i))),
            Element::F64 => self.lanewise_64(d, |m, i| double_op(op, m.double(a, i), m.double(b, i)).to_bits()),
            Element::I64 => self.lanewise_64(d, |m, i| wide_op(op, m.wide(a, i), m.wide(b, i))),
        }
    }
    fn upper(&mut self, d: V, a: V, by: usize) {
        assert!(by.is_power_of_two() && 2 * by <= self.lanes, "{by} of {} lanes", self.lanes);
        self.assign(d, |m, lane| if lane < by { m.bits(a, lane + by) } else { 0x7FC0_DEAD });
    }
    fn fma(&mut self, d: V, a: V, b: V) {
        self.lanewise(d, |m, i| m.float(a, i).mul_add(m.float(b, i), m.float(d, i)).to_bits());
    }
    fn fnma(&mut self, d: V, a: V, b: V) {
        self.lanewise(d, |m, i| (-m.float(a, i)).mul_add(m.float(b, i), m.float(d, i)).to_bits());
    }
    fn dot(&mut self, d: V, a: V, b: V) {
        self.lanewise(d, |m, i| m.bits(d, i).wrapping_add(int_op(VOp::Dot, m.bits(a, i), m.bits(b, i))));
    }
    fn sqrt(&mut self, element: Element, d: V, a: V) {
        match element.size() {
            4 => self.lanewise(d, |m, i| m.float(a, i).sqrt().to_bits()),
            _ => self.lanewise_64(d, |m, i| m.double(a, i).sqrt().to_bits()),
        }
    }
    fn round(&mut self, d: V, a: V) {
        self.lanewise(d, |m, i| m.float(a, i).round_ties_even().to_bits());
    }
    fn shift_left(&mut self, element: Element, d: V, a: V, bits: u32) {
        match element.size() {
            4 => self.lanewise(d, |m, i| m.bits(a, i) << bits),
            _ => self.lanewise_64(d, |m, i| m.wide(a, i) << bits),
        }
    }
    fn shift_right(&mut self, element: Element, d: V, a: V, bits: u32) {
        match element.size() {
            4 => self.lanewise(d, |m, i| m.bits(a, i) >> bits),
            _ => self.lanewise_64(d, |m, i| m.wide(a, i) >> bits),
        }
    }
    fn select(&mut self, element: Element, d: V, cmp: Cmp, [a, b]: [V; 2], yes: V, no: V) {
        let pick = |holds: bool| if holds { yes } else { no };
        match element {
            Element::F32 => self.lanewise(d, |m, i| m.bits(pick(holds(cmp, &m.float(a, i), &m.float(b, i))), i)),
            Element::I32 => {
                assert!(cmp != Cmp::Unordered, "integers are ordered");
                self.lanewise(d, |m, i| m.bits(pick(holds(cmp, &(m.bits(a, i) as i32), &(m.bits(b, i) as i32))), i));
            }
            Element::F64 => self.lanewise_64(d, |m, i| m.wide(pick(holds(cmp, &m.double(a, i), &m.double(b, i))), i)),
            Element::I64 => panic!("no machine compares vectors of 64-bit integers"),
        }
    }
    fn promote(&mut self, d: V, a: V, upper: bool) {
        let first = if upper { self.lanes / 2 } else { 0 };
        let values: Vec<u64> = (0..self.lanes / 2).map(|i| f64::from(self.float(a, first + i)).to_bits()).collect();
        self.lanewise_64(d, |_, i| values[i]);
    }
    fn demote(&mut self, d: V, low: V, high: V) {
        let half = self.lanes / 2;
        self.assign(d, |m, i| (m.double(if i < half { low } else { high }, i % half) as f32).to_bits());
    }
    fn int_to_float(&mut self, d: V, a: V) {
        self.lanewise(d, |m, i| (m.bits(a, i) as i32 as f32).to_bits());
    }
    fn float_to_int(&mut self, d: V, a: V) {
        self.lanewise(d, |m, i| m.float(a, i) as i32 as u32);
    }
    fn tiles(&self) -> bool {
        self.lanes == WIDEST
    }
    fn tile_shapes(&mut self, at: Mem) {
        let (buffer, offset) = self.place(at, 64);
        let bytes = self.buffers[buffer][offset..offset + 64].to_vec();
        assert_eq!(bytes[0], 1, "the only palette");
        for (i, tile) in self.tiles.iter_mut().enumerate() {
            let columns = usize::from(u16::from_le_bytes([bytes[16 + 2 * i], bytes[17 + 2 * i]]));
            let rows = usize::from(bytes[48 + i]);
            assert!(
                columns <= 64 && columns.is_multiple_of(4) && rows <= 16,
                "tile {i} of {rows} rows of {columns} bytes"
            );
            *tile = Tile { columns, rows: vec![vec![0; columns]; rows] };
        }
    }
    fn tile_release(&mut self) {
        self.tiles = Default::default();
    }
    fn tile_zero(&mut self, d: T) {
        self.tiles[usize::from(d.0)].rows.iter_mut().for_each(|row| row.fill(0));
    }
    fn tile_load(&mut self, d: T, at: Mem, stride: R) {
        let Tile { columns, rows } = self.tiles[usize::from(d.0)].clone();
        assert!(!rows.is_empty(), "a tile without shape");
        let row = |i: usize| {
            let (buffer, offset) = self.place(at.base.at(at.offset + i as i64 * self.r[stride.0 as usize]), columns);
            self.buffers[buffer][offset..offset + columns].to_vec()
        };
        self.tiles[usize::from(d.0)].rows = (0..rows.len()).map(row).collect();
    }
    fn tile_store(&mut self, s: T, at: Mem, stride: R) {
        let rows = self.tiles[usize::from(s.0)].rows.clone();
        assert!(!rows.is_empty(), "a tile without shape");
        for (i, row) in rows.iter().enumerate() {
            self.write(at.base.at(at.offset + i as i64 * self.r[stride.0 as usize]), row);
        }
    }
    fn tile_dot(&mut self, d: T, a: T, b: T) {
        let [sums, a, b] = [d, a, b].map(|t| self.tiles[usize::from(t.0)].clone());
        assert!(a.rows.len() == sums.rows.len() && b.columns == sums.columns && a.columns == 4 * b.rows.len());
        for (m, n) in (0..sums.rows.len()).flat_map(|m| (0..sums.columns / 4).map(move |n| (m, n))) {
            let chain = |half: usize| {
                let product = |sum: f32, k: usize| flushed_fma(a.half(m, 2 * k + half), b.half(k, 2 * n + half), sum);
                (0..b.rows.len()).fold(0f32, product)
            };
            let sum = flushed(flushed(sums.float(m, n)) + flushed(chain(0) + chain(1)));
            self.tiles[usize::from(d.0)].rows[m][4 * n..][..4].copy_from_slice(&sum.to_le_bytes());
        }
    }
}
