//! Recorded instructions over values: what allocation works on.
//!
//! A value is a virtual register that is written once in the region it was declared in; only regions inside it (loops, conditions)
//! may write it again. Registers of both classes are numbered from 0.

use crate::codegen::{Cmp, Element, IntOp, VOp};
use fornax_ir::types::DType;

/// A virtual register: a class by context, a number.
pub type Id = u32;

/// Memory at a general register plus a displacement.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Address {
    pub base: Id,
    pub offset: i32,
}

/// The last source of a vector operation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Source {
    Value(Id),
    /// A whole vector in memory.
    Memory(Address),
    /// One element for every lane.
    Element(Address),
}

/// How often a loop runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Times {
    Constant(u32),
    Register(Id),
}

/// One instruction. Destinations come first.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Inst {
    /// Nothing; what a folded load leaves.
    Nop,
    Set(Id, i64),
    Move(Id, Id),
    /// The low 32 bits, zero-extended.
    Low(Id, Id),
    Add(Id, Id, Id),
    Sub(Id, Id, Id),
    AddImm(Id, Id, i64),
    MulImm(Id, Id, i64),
    DivImm(Id, Id, u32),
    Min(Id, Id, Id),
    Max(Id, Id, Id),
    Prefetch(Address),
    LoadR(Id, Address),
    StoreR(Id, Address),
    IntOp(IntOp, Id, Id, Id),
    /// The low bits as an element of a type, extended.
    Extend(Id, Id, DType),
    LoadInt(Id, Address, DType),
    StoreInt(Id, Address, DType),
    /// Destination, comparison, its operands, yes, no.
    Choose(Id, Cmp, [Id; 4]),
    /// Destination, index, bound, inside, outside.
    SelectBelow(Id, Id, u32, Id, Id),
    /// Counter and count; the loop ends at the matching [`Inst::EndLoop`].
    Loop(Id, Times),
    EndLoop(Id),
    /// Runs up to the matching [`Inst::EndIf`] if the first is less.
    IfLess(Id, Id),
    EndIf,
    /// The same 64 bits in every two lanes.
    Splat(Id, u64),
    /// A general register in every lane of a size.
    SplatInt(Element, Id, Id),
    /// A general register as the first `f32`.
    FirstFromInt(Id, Id),
    /// The bits of the first lane of a size to a general register.
    FirstBits(Element, Id, Id),
    /// The first lane, truncated and saturated, to a general register.
    FirstToInt(Id, Id),
    CopyV(Id, Id),
    Load(Id, Address, u8),
    Store(Id, Address, u8),
    LoadAs(Id, Address, DType, u8),
    StoreAs(Id, Address, DType, u8),
    /// Destination, source, lanes that stay.
    Keep(Id, Id, u8),
    /// Destination, source, by how many lanes.
    Upper(Id, Id, u8),
    Broadcast(Id, Address),
    Op(VOp, Element, Id, Id, Source),
    /// `d = c + a b`, or `c - a b` if negated.
    Fma {
        negate: bool,
        d: Id,
        c: Id,
        a: Id,
        b: Source,
    },
    Sqrt(Element, Id, Id),
    Round(Id, Id),
    ShiftLeft(Element, Id, Id, u8),
    ShiftRight(Element, Id, Id, u8),
    /// Destination, comparison, its operands, yes, no.
    Select(Element, Id, Cmp, [Id; 4]),
    /// Destination, source, whether its upper half.
    Promote(Id, Id, bool),
    Demote(Id, Id, Id),
    IntToFloat(Id, Id),
    FloatToInt(Id, Id),
    /// `f32` lanes as `bf16` in the lower half of a vector.
    NarrowBf16(Id, Id),
    TileShapes(Address),
    TileRelease,
    TileZero(u8),
    /// Tile, first row, register with the distance of two rows.
    TileLoad(u8, Address, Id),
    TileStore(u8, Address, Id),
    /// Sums, left and right factors.
    TileDot(u8, u8, u8),
}

/// What an instruction does with a register.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Role {
    Read,
    Write,
}

/// Register class.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Class {
    General,
    Vector,
}

impl Inst {
    /// Calls `f` for every register, reads before writes.
    pub fn visit(&self, mut f: impl FnMut(Class, Id, Role)) {
        use Class::{General, Vector};
        use Inst::*;
        use Role::{Read, Write};
        let source = |f: &mut dyn FnMut(Class, Id, Role), s: Source| match s {
            Source::Value(v) => f(Vector, v, Read),
            Source::Memory(at) | Source::Element(at) => f(General, at.base, Read),
        };
        match *self {
            Nop | EndIf | TileRelease | TileZero(_) | TileDot(..) => {}
            Set(d, _) => f(General, d, Write),
            Move(d, a) | Low(d, a) | Extend(d, a, _) | AddImm(d, a, _) | MulImm(d, a, _) | DivImm(d, a, _) => {
                f(General, a, Read);
                f(General, d, Write);
            }
            IntOp(_, d, a, b) | Add(d, a, b) | Sub(d, a, b) | Min(d, a, b) | Max(d, a, b) => {
                f(General, a, Read);
                f(General, b, Read);
                f(General, d, Write);
            }
            Prefetch(at) | TileShapes(at) => f(General, at.base, Read),
            TileLoad(_, at, stride) | TileStore(_, at, stride) => {
                f(General, at.base, Read);
                f(General, stride, Read);
            }
            LoadR(d, at) | LoadInt(d, at, _) => {
                f(General, at.base, Read);
                f(General, d, Write);
            }
            StoreR(s, at) | StoreInt(s, at, _) => {
                f(General, s, Read);
                f(General, at.base, Read);
            }
            SelectBelow(d, index, _, inside, outside) => {
                [index, inside, outside].into_iter().for_each(|r| f(General, r, Read));
                f(General, d, Write);
            }
            Choose(d, _, operands) => {
                operands.into_iter().for_each(|r| f(General, r, Read));
                f(General, d, Write);
            }
            SplatInt(_, d, a) | FirstFromInt(d, a) => {
                f(General, a, Read);
                f(Vector, d, Write);
            }
            FirstBits(_, d, a) | FirstToInt(d, a) => {
                f(Vector, a, Read);
                f(General, d, Write);
            }
            Loop(counter, times) => {
                if let Times::Register(r) = times {
                    f(General, r, Read);
                }
                f(General, counter, Write);
            }
            EndLoop(counter) => {
                f(General, counter, Read);
                f(General, counter, Write);
            }
            IfLess(a, b) => {
                f(General, a, Read);
                f(General, b, Read);
            }
            Splat(d, _) => f(Vector, d, Write),
            CopyV(d, a)
            | Sqrt(_, d, a)
            | Round(d, a)
            | ShiftLeft(_, d, a, _)
            | ShiftRight(_, d, a, _)
            | Keep(d, a, _)
            | Upper(d, a, _)
            | Promote(d, a, _)
            | IntToFloat(d, a)
            | NarrowBf16(d, a)
            | FloatToInt(d, a) => {
                f(Vector, a, Read);
                f(Vector, d, Write);
            }
            Demote(d, low, high) => {
                f(Vector, low, Read);
                f(Vector, high, Read);
                f(Vector, d, Write);
            }
            Load(d, at, _) | LoadAs(d, at, ..) | Broadcast(d, at) => {
                f(General, at.base, Read);
                f(Vector, d, Write);
            }
            Store(s, at, _) | StoreAs(s, at, ..) => {
                f(Vector, s, Read);
                f(General, at.base, Read);
            }
            Op(_, _, d, a, b) => {
                f(Vector, a, Read);
                source(&mut f, b);
                f(Vector, d, Write);
            }
            Fma { d, c, a, b, .. } => {
                f(Vector, c, Read);
                f(Vector, a, Read);
                source(&mut f, b);
                f(Vector, d, Write);
            }
            Select(_, d, _, operands) => {
                operands.into_iter().for_each(|v| f(Vector, v, Read));
                f(Vector, d, Write);
            }
        }
    }
}

/// A stretch of code: the whole kernel, a loop or a condition.
#[derive(Clone, Copy, Debug)]
pub struct Region {
    pub parent: u32,
    pub is_loop: bool,
    /// Index of the instruction that opens it, and of the one that closes it.
    pub begin: u32,
    pub end: u32,
}

/// Where a value was declared.
#[derive(Clone, Copy, Debug)]
pub struct Declared {
    pub at: u32,
    pub region: u32,
}

/// A recorded kernel. General registers 0 to 3 hold the kernel's parameters.
#[derive(Debug, Default)]
pub struct Recording {
    pub insts: Vec<Inst>,
    /// The region that each instruction stands in.
    pub region_of: Vec<u32>,
    pub regions: Vec<Region>,
    pub general: Vec<Declared>,
    pub vector: Vec<Declared>,
}
