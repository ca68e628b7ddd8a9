//! The program of a nest without the instructions that change nothing.
//!
//! In: an element-wise nest. Out: a program of the same value, bit by bit: what is saturated to a type is not clipped to more than its range
//! before, what lies in the range of a type is not wrapped to it, and what nothing reads is left out.

use crate::kernels::loops::nest::{Id, Inst, LoopNest, Program};
use fornax_ir::scalar::{BinaryFn, UnaryFn};
use fornax_ir::types::DType;

/// The smallest and the largest integer of a type that lanes of 32 bits hold.
fn range(dtype: DType) -> Option<(i64, i64)> {
    Some(match dtype {
        DType::Bool => (0, 1),
        DType::I8 => (i8::MIN.into(), i8::MAX.into()),
        DType::U8 => (0, u8::MAX.into()),
        DType::I16 => (i16::MIN.into(), i16::MAX.into()),
        DType::U16 => (0, u16::MAX.into()),
        DType::I32 => (i32::MIN.into(), i32::MAX.into()),
        _ => return None,
    })
}

/// Where the integers of a value lie, if that is known.
fn extent(nest: &LoopNest, inst: &Inst, of: impl Fn(Id) -> Option<(i64, i64)>) -> Option<(i64, i64)> {
    let found = match *inst {
        Inst::Load(input) if nest.inputs[input].dtype != DType::F32 => range(nest.inputs[input].dtype)?,
        Inst::Int(value) => (value, value),
        Inst::ToInt(dtype, _) | Inst::Wrap(dtype, _) => range(dtype)?,
        Inst::Binary(BinaryFn::Add, a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            (a.0 + b.0, a.1 + b.1)
        }
        Inst::Binary(BinaryFn::Sub, a, b) => {
            let (a, b) = (of(a)?, of(b)?);
            (a.0 - b.1, a.1 - b.0)
        }
        _ => return None,
    };
    let (least, most) = range(DType::I32)?;
    (least <= found.0 && found.1 <= most).then_some(found)
}

/// A shorter program of the value of a nest's body.
pub fn compact(nest: &LoopNest) -> Program {
    let body = &nest.body;
    // For each value the earlier one that it equals, itself at first, and where its integers lie.
    let (mut same, mut extents): (Vec<Id>, Vec<Option<(i64, i64)>>) = (Vec::new(), Vec::new());
    let mut program: Program = Vec::with_capacity(body.len());
    for (id, inst) in body.iter().enumerate() {
        let inst = inst.renumbered(|load| load, |id| same[id]);
        let inst = match inst {
            Inst::ToInt(dtype, a) => Inst::ToInt(dtype, unclipped(&program, dtype, a)),
            inst => inst,
        };
        let inside = |(least, most): (i64, i64), dtype| range(dtype).is_some_and(|r| r.0 <= least && most <= r.1);
        let equal = match inst {
            Inst::Wrap(dtype, a) if extents[a].is_some_and(|extent| inside(extent, dtype)) => a,
            _ => id,
        };
        extents.push(if equal == id { extent(nest, &inst, |id| extents[id]) } else { extents[equal] });
        same.push(equal);
        program.push(inst);
    }
    live(&program, same.last().copied().unwrap_or(0))
}

/// What a value clipped to the range of a type, or to more, was before.
fn unclipped(program: &Program, dtype: DType, id: Id) -> Id {
    match (program[id], range(dtype)) {
        (Inst::Unary(UnaryFn::Clip(low, high), a), Some((least, most)))
            if dtype != DType::Bool && f64::from(low) <= least as f64 && f64::from(high) >= most as f64 =>
        {
            a
        }
        _ => id,
    }
}

/// The instructions that `result` takes.
fn live(program: &Program, result: Id) -> Program {
    let mut used = vec![false; program.len()];
    if let Some(last) = used.get_mut(result) {
        *last = true;
    }
    for id in (0..program.len()).rev().filter(|id| *id <= result) {
        if used[id] {
            let _ = program[id].renumbered(
                |load| load,
                |operand| {
                    used[operand] = true;
                    operand
                },
            );
        }
    }
    let mut numbers = vec![0; program.len()];
    let mut live = Program::new();
    for (id, inst) in program.iter().enumerate().filter(|(id, _)| used[*id]) {
        numbers[id] = live.len();
        live.push(inst.renumbered(|load| load, |operand| numbers[operand]));
    }
    live
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::loops::nest::{Affine, Output};

    fn compacted(body: &[Inst]) -> Program {
        let at = || Affine::new(0, [1]);
        let mut nest = LoopNest::map(&[8], Output { dtype: DType::I16, elements: 8, at: at() }, body.to_vec());
        nest.input("x", DType::F32, 8, at());
        nest.input("z", DType::I16, 8, at());
        compact(&nest)
    }

    #[test]
    fn what_changes_nothing_is_left_out() {
        use Inst::{Binary, Load, ToInt, Unary, Wrap};
        let sub = |a, b| Binary(BinaryFn::Sub, a, b);
        let clip = |low, high, a| Unary(UnaryFn::Clip(low, high), a);
        let whole = [Load(0), clip(0.0, 255.0, 0), ToInt(DType::U8, 1), Wrap(DType::I16, 2), Load(1), sub(3, 4)];
        assert_eq!(compacted(&whole), [Load(0), ToInt(DType::U8, 0), Load(1), sub(1, 2)]);
        // A tighter clip stays, and so does a wrap that cuts: of a difference that leaves the type, or of a wider one.
        for kept in [
            vec![Load(0), clip(1.0, 255.0, 0), ToInt(DType::U8, 1)],
            vec![Load(0), clip(-128.0, 127.0, 0), ToInt(DType::U8, 1)],
            vec![Load(0), clip(0.0, 1.0, 0), ToInt(DType::Bool, 1)],
            vec![Load(0), ToInt(DType::I32, 0), Wrap(DType::I16, 1)],
            vec![Load(1), Load(1), sub(0, 1), Wrap(DType::I16, 2)],
            vec![Load(1), Wrap(DType::U8, 0)],
        ] {
            assert_eq!(compacted(&kept), kept);
        }
        assert_eq!(compacted(&[Load(1), Load(0), Wrap(DType::I32, 0)]), [Load(1)]);
    }
}
