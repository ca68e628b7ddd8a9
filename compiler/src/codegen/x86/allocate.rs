//! Walks recorded code once: gives values registers and encodes every instruction.
//!
//! In: [`Recording`] with loads folded. Out: bytes. At the ends of loops and conditions every value is where it was at their beginning.

use fornax_runtime::levels::Vectors;
use iced_x86::{Code as Op, Instruction, Register};

use super::assembler::{Encoded, Label};
use super::emit::{Machine, general};
use crate::codegen::machine::code::{Class, Id, Inst, Recording, Times};
use crate::codegen::machine::registers::{File, LoopRange, Snapshot};

/// General registers that values live in: all but the stack and the frame pointer.
const GENERAL: [u32; 14] = [0, 1, 2, 6, 7, 8, 9, 10, 11, 3, 12, 13, 14, 15];
/// Registers of the parameters, values 0 to 3: rdi, rsi, rdx, rcx.
const PARAMETERS: [u32; 4] = [7, 6, 2, 1];
/// Low bits of conditional jumps' opcodes.
const NOT_ZERO: u8 = 5;
const GREATER_OR_EQUAL: u8 = 13;
const LESS_OR_EQUAL: u8 = 14;
/// Alignment of the head of a loop without loops inside.
const LOOP_ALIGN: usize = 32;

/// An open loop or condition.
struct Open {
    general: Snapshot,
    vector: Snapshot,
    head: Label,
    exit: Label,
}

pub(super) struct Allocator<'a> {
    code: &'a Recording,
    pub(super) machine: Machine,
    pub(super) r: File,
    pub(super) v: File,
    open: Vec<Open>,
    /// Regions in the order they open.
    next_region: usize,
    /// Slots for what a division overwrites, once one is needed.
    pub(super) division: Option<[u32; 3]>,
}

/// Machine code for these vector registers.
pub fn compile(code: &Recording, vectors: Vectors) -> Result<Vec<u8>, String> {
    let mut allocator = Allocator {
        code,
        machine: Machine::new(vectors, &partial_lanes(code, vectors))?,
        r: File::new(code, Class::General, GENERAL.to_vec(), 16),
        v: File::new(code, Class::Vector, (0..vectors.registers as u32).collect(), vectors.registers),
        open: Vec::new(),
        next_region: 1,
        division: None,
    };
    for (id, register) in (0..).zip(PARAMETERS) {
        allocator.r.seed(id, register);
    }
    for at in 0..code.insts.len() {
        allocator.inst(at as u32)?;
    }
    allocator.machine.finish()
}

/// The lane counts that need a mask, in order of first use.
fn partial_lanes(code: &Recording, vectors: Vectors) -> Vec<u8> {
    let mut partial = Vec::new();
    for inst in &code.insts {
        if let Inst::Load(_, _, n) | Inst::Store(_, _, n) = inst
            && vectors.masks
            && !matches!(n, 4 | 8 | 16)
            && !partial.contains(n)
        {
            partial.push(*n);
        }
        if let Inst::LoadAs(.., n) | Inst::StoreAs(.., n) | Inst::Keep(.., n) = inst
            && vectors.masks
            && usize::from(*n) != vectors.lanes
            && !partial.contains(n)
        {
            partial.push(*n);
        }
    }
    partial
}

impl Allocator<'_> {
    fn inst(&mut self, at: u32) -> Encoded {
        let inst = self.code.insts[at as usize];
        self.r.begin(at);
        self.v.begin(at);
        self.emit(inst)?;
        inst.visit(|class, id, _| match class {
            Class::General => self.r.release_if_dead(id),
            Class::Vector => self.v.release_if_dead(id),
        });
        Ok(())
    }

    fn emit(&mut self, inst: Inst) -> Encoded {
        match inst {
            Inst::Nop => Ok(()),
            Inst::Loop(counter, times) => self.begin_loop(counter, times),
            Inst::EndLoop(counter) => self.end_loop(counter),
            Inst::IfLess(a, b) => self.begin_if(a, b),
            Inst::EndIf => self.end_if(),
            Inst::Set(..)
            | Inst::Move(..)
            | Inst::Low(..)
            | Inst::Add(..)
            | Inst::Sub(..)
            | Inst::AddImm(..)
            | Inst::MulImm(..)
            | Inst::DivImm(..)
            | Inst::Min(..)
            | Inst::Max(..)
            | Inst::Prefetch(..)
            | Inst::LoadR(..)
            | Inst::StoreR(..)
            | Inst::IntOp(..)
            | Inst::Extend(..)
            | Inst::LoadInt(..)
            | Inst::StoreInt(..)
            | Inst::Choose(..)
            | Inst::SelectBelow(..)
            | Inst::TileShapes(..)
            | Inst::TileRelease
            | Inst::TileZero(..)
            | Inst::TileLoad(..)
            | Inst::TileStore(..)
            | Inst::TileDot(..) => self.general(inst),
            Inst::SplatInt(..)
            | Inst::FirstFromInt(..)
            | Inst::FirstBits(..)
            | Inst::FirstToInt(..)
            | Inst::LoadAs(..)
            | Inst::StoreAs(..)
            | Inst::Keep(..)
            | Inst::Upper(..)
            | Inst::Promote(..)
            | Inst::NarrowBf16(..)
            | Inst::Demote(..) => self.elements(inst),
            _ => self.vector(inst),
        }
    }

    fn region(&mut self) -> (LoopRange, bool) {
        let index = self.next_region;
        self.next_region += 1;
        let region = self.code.regions[index];
        // Regions are numbered as they open, so one inside is the next.
        let inner = self.code.regions[index + 1..].iter().take_while(|r| r.begin < region.end).any(|r| r.is_loop);
        (LoopRange { begin: region.begin, end: region.end }, !inner)
    }

    fn begin_loop(&mut self, counter: Id, times: Times) -> Encoded {
        let (span, innermost) = self.region();
        for file in [&mut self.r, &mut self.v] {
            file.enter_loop(self.code, span, &mut self.machine)?;
        }
        let (head, exit) = (self.machine.asm.label(), self.machine.asm.label());
        match times {
            Times::Constant(times) => {
                let d = self.r.write(counter, &mut self.machine)?;
                self.machine.asm.put(Instruction::with2(Op::Mov_r32_imm32, Register::EAX + d, times))?;
            }
            Times::Register(r) => {
                let from = self.r.read(r, &mut self.machine)?;
                let d = self.r.write(counter, &mut self.machine)?;
                self.machine.registers(Op::Mov_r64_rm64, general(d), general(from))?;
                self.r.release_if_dead(r);
            }
        }
        let snapshots = [self.r.snapshot(span.end), self.v.snapshot(span.end)];
        if let Times::Register(_) = times {
            let d = general(self.r.register(counter).ok_or("a loop lost its counter")?);
            self.machine.registers(Op::Test_rm64_r64, d, d)?;
            self.machine.asm.jump_if(LESS_OR_EQUAL, exit);
        }
        if innermost {
            self.machine.asm.align(LOOP_ALIGN);
        }
        self.machine.asm.place(head);
        let [general, vector] = snapshots;
        self.open.push(Open { general, vector, head, exit });
        self.r.loops.push(span);
        self.v.loops.push(span);
        Ok(())
    }

    fn end_loop(&mut self, counter: Id) -> Encoded {
        let open = self.open.pop().ok_or("a loop ends that did not begin")?;
        self.r.agree(&open.general, &mut self.machine)?;
        self.v.agree(&open.vector, &mut self.machine)?;
        match self.r.register(counter) {
            Some(d) => self.machine.asm.put(Instruction::with1(Op::Dec_rm64, general(d)))?,
            None => {
                let slot = self.r.slot_only(counter).ok_or("a loop lost its counter")?;
                let place = self.machine.general_slot(slot);
                self.machine.asm.with_place(place, |m| Instruction::with1(Op::Dec_rm64, m))?;
            }
        }
        self.machine.asm.jump_if(NOT_ZERO, open.head);
        self.machine.asm.place(open.exit);
        for file in [&mut self.r, &mut self.v] {
            file.loops.pop();
            file.leave();
        }
        Ok(())
    }

    fn begin_if(&mut self, a: Id, b: Id) -> Encoded {
        let (span, _) = self.region();
        let (ra, rb) = (self.r.read(a, &mut self.machine)?, self.r.read(b, &mut self.machine)?);
        [a, b].into_iter().for_each(|id| self.r.release_if_dead(id));
        let (general_state, vector) = (self.r.snapshot(span.end), self.v.snapshot(span.end));
        self.machine.registers(Op::Cmp_r64_rm64, general(ra), general(rb))?;
        let (head, exit) = (self.machine.asm.label(), self.machine.asm.label());
        self.machine.asm.jump_if(GREATER_OR_EQUAL, exit);
        self.open.push(Open { general: general_state, vector, head, exit });
        Ok(())
    }

    fn end_if(&mut self) -> Encoded {
        let open = self.open.pop().ok_or("a condition ends that did not begin")?;
        self.r.agree(&open.general, &mut self.machine)?;
        self.v.agree(&open.vector, &mut self.machine)?;
        self.machine.asm.place(open.exit);
        self.r.leave();
        self.v.leave();
        Ok(())
    }
}
