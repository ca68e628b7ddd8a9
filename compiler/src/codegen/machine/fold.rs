//! A load with a single use becomes an operand of the instruction that uses it.
//!
//! The load moves down to its use: no store, no change of its address and no border of a region may lie between.

use fornax_runtime::levels::Vectors;

use super::code::{Class, Id, Inst, Recording, Role, Source};
use crate::codegen::VOp;

/// Folds whole vectors, and single elements where instructions can broadcast.
pub fn loads(code: &mut Recording, vectors: Vectors) {
    let mut reads = vec![0u32; code.vector.len()];
    let mut writes = vec![0u32; code.vector.len()];
    for inst in &code.insts {
        inst.visit(|class, id, role| {
            if class == Class::Vector {
                let counts = if role == Role::Read { &mut reads } else { &mut writes };
                counts[id as usize] += 1;
            }
        });
    }
    // Loads that may still move: value and index.
    let mut pending: Vec<(Id, usize)> = Vec::new();
    for at in 0..code.insts.len() {
        match code.insts[at] {
            Inst::Load(d, _, n)
                if usize::from(n) == vectors.lanes && reads[d as usize] == 1 && writes[d as usize] == 1 =>
            {
                pending.push((d, at));
            }
            Inst::Broadcast(d, _)
                if vectors.embedded_broadcast && reads[d as usize] == 1 && writes[d as usize] == 1 =>
            {
                pending.push((d, at));
            }
            Inst::Store(..)
            | Inst::StoreAs(..)
            | Inst::StoreR(..)
            | Inst::StoreInt(..)
            | Inst::TileStore(..)
            | Inst::Loop(..)
            | Inst::EndLoop(_)
            | Inst::IfLess(..)
            | Inst::EndIf => {
                pending.clear();
            }
            inst => {
                if let Some((inst, load)) = folded(code, inst, &pending) {
                    code.insts[at] = inst;
                    code.insts[load] = Inst::Nop;
                }
                let mut moved = false;
                inst.visit(|class, _, role| moved |= class == Class::General && role == Role::Write);
                if moved {
                    pending.clear();
                }
            }
        }
    }
}

/// The instruction with one of its operands read from memory, and the load that this replaces.
fn folded(code: &Recording, inst: Inst, pending: &[(Id, usize)]) -> Option<(Inst, usize)> {
    if pending.is_empty() {
        return None;
    }
    // A single element for every lane fits operations on lanes of its own size.
    let narrow = !matches!(inst, Inst::Op(op, element, ..) if element.size() != 4 || op == VOp::Dot);
    let load = |id: Id| {
        let (_, at) = pending.iter().rev().find(|(value, _)| *value == id)?;
        let source = match code.insts[*at] {
            Inst::Load(_, address, _) => Source::Memory(address),
            Inst::Broadcast(_, address) if narrow => Source::Element(address),
            _ => return None,
        };
        Some((source, *at))
    };
    match inst {
        Inst::Fma { negate, d, c, a, b: Source::Value(b) } if a != b && c != a && c != b => {
            if let Some((source, at)) = load(b) {
                return Some((Inst::Fma { negate, d, c, a, b: source }, at));
            }
            load(a).map(|(source, at)| (Inst::Fma { negate, d, c, a: b, b: source }, at))
        }
        Inst::Op(op, lane, d, a, Source::Value(b)) if a != b => {
            if let Some((source, at)) = load(b) {
                return Some((Inst::Op(op, lane, d, a, source), at));
            }
            load(a).filter(|_| op.commutes()).map(|(source, at)| (Inst::Op(op, lane, d, b, source), at))
        }
        _ => None,
    }
}
