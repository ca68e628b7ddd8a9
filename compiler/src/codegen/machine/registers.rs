//! The registers of one class: which value is where, and who makes room.
//!
//! A value lives in a register, in a slot of the frame, or in both while they agree (`saved`). Constants need no slot: they are read
//! from after the code. When a register is needed and none is free, the value whose next use is farthest away leaves.

use super::code::{Class, Id, Inst, Recording, Role};

/// No register, no slot.
pub const NONE: u32 = u32::MAX;
/// A next use that never comes.
const NEVER: u32 = u32::MAX;

/// What is known of a value before allocation, and where it is.
#[derive(Clone, Copy, Debug)]
struct Allocation {
    /// Bits of every two lanes, if it is a constant.
    constant: Option<u64>,
    /// Written more than once.
    mutable: bool,
    declared: u32,
    /// First and last position where it needs storage, loops around its mentions included.
    start: u32,
    end: u32,
    /// Its mentions: a range of [`File::mentions`], and the first of them that has not passed.
    mentions: (u32, u32),
    next: u32,
    register: u32,
    slot: u32,
    saved: bool,
}

/// An open loop.
#[derive(Clone, Copy, Debug)]
pub struct LoopRange {
    /// Index of the instruction that opens it.
    pub begin: u32,
    /// Index of the instruction that closes it.
    pub end: u32,
}

/// What moves a value between its places.
pub trait Mover {
    /// Register to slot.
    fn save(&mut self, class: Class, register: u32, slot: u32) -> Result<(), String>;
    /// Slot to register.
    fn restore(&mut self, class: Class, register: u32, slot: u32) -> Result<(), String>;
    /// Register to register.
    fn transfer(&mut self, class: Class, to: u32, from: u32) -> Result<(), String>;
    /// Bits to every two lanes of a vector register.
    fn materialise(&mut self, register: u32, bits: u64) -> Result<(), String>;
    /// A fresh slot of the frame for a register of the class.
    fn slot(&mut self, class: Class) -> u32;
}

/// Where every value of a class was at some point.
#[derive(Debug)]
pub struct Snapshot {
    /// Value, register, whether its slot agrees.
    held: Vec<(Id, u32, bool)>,
    /// Values in slots only.
    slotted: Vec<Id>,
}

/// The state of one class.
#[derive(Debug)]
pub struct File {
    class: Class,
    values: Vec<Allocation>,
    mentions: Vec<u32>,
    /// What each register holds; registers that may not be used are not listed in `usable`.
    holders: Vec<Option<Id>>,
    usable: Vec<u32>,
    /// Registers that the present instruction uses.
    pinned: u64,
    /// Live values at every position, constants left out.
    live: Vec<u32>,
    /// Values that left their register for a slot; some have come back or died since.
    slotted: Vec<Id>,
    free_slots: Vec<u32>,
    pub position: u32,
    pub loops: Vec<LoopRange>,
}

impl File {
    /// The state before the first instruction.
    pub fn new(code: &Recording, class: Class, usable: Vec<u32>, registers: usize) -> Self {
        let declared = if class == Class::General { &code.general } else { &code.vector };
        let blank = |at: u32| Allocation {
            constant: None,
            mutable: false,
            declared: at,
            start: NEVER,
            end: 0,
            mentions: (0, 0),
            next: 0,
            register: NONE,
            slot: NONE,
            saved: false,
        };
        let mut file = Self {
            class,
            values: declared.iter().map(|d| blank(d.at)).collect(),
            mentions: Vec::new(),
            holders: vec![None; registers],
            usable,
            pinned: 0,
            live: vec![0; code.insts.len() + 2],
            slotted: Vec::new(),
            free_slots: Vec::new(),
            position: 0,
            loops: Vec::new(),
        };
        file.gather(code);
        file
    }

    /// Mentions, extents and constants of all values.
    fn gather(&mut self, code: &Recording) {
        let declared = if self.class == Class::General { &code.general } else { &code.vector };
        let mut counts = vec![0u32; self.values.len()];
        let mut writes = vec![0u32; self.values.len()];
        let class = self.class;
        for inst in &code.insts {
            inst.visit(|c, id, role| {
                if c == class {
                    counts[id as usize] += 1;
                    writes[id as usize] += u32::from(role == Role::Write);
                }
            });
        }
        let mut first = 0;
        for (value, count) in self.values.iter_mut().zip(&counts) {
            value.mentions = (first, first);
            value.next = first;
            first += count;
        }
        self.mentions = vec![0; first as usize];
        for (at, inst) in code.insts.iter().enumerate() {
            let region = code.region_of[at];
            inst.visit(|c, id, _| {
                if c != class {
                    return;
                }
                let value = &mut self.values[id as usize];
                self.mentions[value.mentions.1 as usize] = at as u32;
                value.mentions.1 += 1;
                let (mut start, mut end, mut inner) = (at as u32, at as u32, region);
                while inner != declared[id as usize].region {
                    let region = &code.regions[inner as usize];
                    if region.is_loop {
                        (start, end) = (region.begin, region.end);
                    }
                    inner = region.parent;
                }
                value.start = value.start.min(start);
                value.end = value.end.max(end);
            });
            if let (Inst::Splat(d, bits), Class::Vector) = (inst, class)
                && writes[*d as usize] == 1
            {
                self.values[*d as usize].constant = Some(*bits);
            }
        }
        for (value, writes) in self.values.iter_mut().zip(&writes) {
            value.mutable = *writes > 1;
        }
        self.count_live();
    }

    fn count_live(&mut self) {
        let mut change = vec![0i32; self.live.len()];
        for value in self.values.iter().filter(|v| v.constant.is_none() && v.start < v.end) {
            change[value.start as usize] += 1;
            change[value.end as usize] -= 1;
        }
        let mut live = 0;
        for (at, change) in change.into_iter().enumerate() {
            live += change;
            self.live[at] = live as u32;
        }
    }

    /// The constant behind a value, if it is one.
    pub fn constant(&self, id: Id) -> Option<u64> {
        self.values[id as usize].constant
    }

    /// The register of a value, if it is in one.
    pub fn register(&self, id: Id) -> Option<u32> {
        let register = self.values[id as usize].register;
        (register != NONE).then_some(register)
    }

    /// The slot of a value that is in memory only.
    pub fn slot_only(&self, id: Id) -> Option<u32> {
        let value = &self.values[id as usize];
        (value.register == NONE && value.saved).then_some(value.slot)
    }

    /// Whether the present instruction is the last that needs a value.
    pub fn dies(&self, id: Id) -> bool {
        self.values[id as usize].end <= self.position
    }

    /// Puts a value that the caller knows to be in `register` there.
    pub fn seed(&mut self, id: Id, register: u32) {
        self.values[id as usize].register = register;
        self.holders[register as usize] = Some(id);
    }

    /// Starts an instruction: nothing is pinned.
    pub fn begin(&mut self, position: u32) {
        self.position = position;
        self.pinned = 0;
    }

    /// The next mention of a value after the present instruction, back edges of open loops taken.
    fn next_use(&mut self, id: Id) -> u32 {
        let value = &mut self.values[id as usize];
        let end = value.mentions.1;
        while value.next < end && self.mentions[value.next as usize] <= self.position {
            value.next += 1;
        }
        let next = if value.next < end { self.mentions[value.next as usize] } else { NEVER };
        let value = self.values[id as usize];
        for span in self.loops.iter().rev() {
            if next < span.end {
                return next;
            }
            if value.declared <= span.begin {
                let first = self.first_mention(id, span.begin + 1);
                if first <= span.end {
                    return span.end + (first - span.begin);
                }
            }
        }
        next
    }

    /// The first mention at or after `from`.
    fn first_mention(&self, id: Id, from: u32) -> u32 {
        let (first, end) = self.values[id as usize].mentions;
        let mentions = &self.mentions[first as usize..end as usize];
        let at = mentions.partition_point(|m| *m < from);
        mentions.get(at).copied().unwrap_or(NEVER)
    }

    /// A register for `id`, made free if need be. It is pinned.
    fn take(&mut self, mover: &mut dyn Mover) -> Result<u32, String> {
        let free =
            self.usable.iter().copied().find(|r| self.holders[*r as usize].is_none() && self.pinned >> r & 1 == 0);
        let register = match free {
            Some(register) => register,
            None => self.evict_farthest(mover)?,
        };
        self.pinned |= 1 << register;
        Ok(register)
    }

    fn evict_farthest(&mut self, mover: &mut dyn Mover) -> Result<u32, String> {
        let mut farthest = None;
        for i in 0..self.usable.len() {
            let register = self.usable[i];
            let Some(id) = self.holders[register as usize] else { continue };
            if self.pinned >> register & 1 == 1 {
                continue;
            }
            // Of two that are equally far, the one that costs no store.
            let value = &self.values[id as usize];
            let cheap = value.saved || value.constant.is_some();
            let key = (self.next_use(id), cheap);
            if farthest.is_none_or(|(best, _, _)| key > best) {
                farthest = Some((key, register, id));
            }
        }
        let (_, register, id) = farthest.ok_or("an instruction needs more registers than there are")?;
        self.evict(id, mover)?;
        Ok(register)
    }

    /// Takes a value out of its register, to its slot unless it is there already or a constant.
    fn evict(&mut self, id: Id, mover: &mut dyn Mover) -> Result<(), String> {
        self.save(id, mover)?;
        let value = &mut self.values[id as usize];
        self.holders[value.register as usize] = None;
        value.register = NONE;
        if value.constant.is_none() {
            self.slotted.push(id);
        }
        Ok(())
    }

    /// Makes a value's slot agree with its register.
    fn save(&mut self, id: Id, mover: &mut dyn Mover) -> Result<(), String> {
        let class = self.class;
        let value = &mut self.values[id as usize];
        if value.saved || value.constant.is_some() {
            return Ok(());
        }
        if value.slot == NONE {
            value.slot = self.free_slots.pop().unwrap_or_else(|| mover.slot(class));
        }
        value.saved = true;
        mover.save(self.class, value.register, value.slot)
    }

    /// The register of a value that is read, fetched if it is elsewhere. It is pinned.
    pub fn read(&mut self, id: Id, mover: &mut dyn Mover) -> Result<u32, String> {
        if let Some(register) = self.register(id) {
            self.pinned |= 1 << register;
            return Ok(register);
        }
        let register = self.take(mover)?;
        let value = &mut self.values[id as usize];
        match value.constant {
            Some(bits) => mover.materialise(register, bits)?,
            None if value.saved => mover.restore(self.class, register, value.slot)?,
            // A value that no path has written yet: undefined bytes is as good as any.
            None => {}
        }
        value.register = register;
        self.holders[register as usize] = Some(id);
        Ok(register)
    }

    /// The register that a value is written to, its old content lost. It is pinned.
    pub fn write(&mut self, id: Id, mover: &mut dyn Mover) -> Result<u32, String> {
        let register = match self.register(id) {
            Some(register) => register,
            None => self.take(mover)?,
        };
        self.pinned |= 1 << register;
        let value = &mut self.values[id as usize];
        (value.register, value.saved) = (register, false);
        self.holders[register as usize] = Some(id);
        Ok(register)
    }

    /// Gives `to` the register of `from`, which dies.
    pub fn rename(&mut self, from: Id, to: Id) {
        let register = self.values[from as usize].register;
        if self.values[to as usize].register != NONE {
            return;
        }
        self.release(from);
        let value = &mut self.values[to as usize];
        (value.register, value.saved) = (register, false);
        self.holders[register as usize] = Some(to);
        self.pinned |= 1 << register;
    }

    /// A register that holds nothing, for the present instruction alone.
    pub fn scratch(&mut self, mover: &mut dyn Mover) -> Result<u32, String> {
        self.take(mover)
    }

    /// Forgets a value.
    fn release(&mut self, id: Id) {
        let value = &mut self.values[id as usize];
        if value.register != NONE {
            self.holders[value.register as usize] = None;
            // The register may be taken by the result of the instruction that read it last.
            self.pinned &= !(1 << value.register);
            value.register = NONE;
        }
        if value.slot != NONE {
            self.free_slots.push(value.slot);
            value.slot = NONE;
        }
        value.saved = false;
    }

    /// Forgets a value if the present instruction was the last that needs it.
    pub fn release_if_dead(&mut self, id: Id) {
        if self.dies(id) {
            self.release(id);
        }
    }

    /// Forgets everything that ends at the present position or before.
    fn release_dead(&mut self) {
        for register in 0..self.holders.len() {
            if let Some(id) = self.holders[register] {
                self.release_if_dead(id);
            }
        }
        let position = self.position;
        for i in 0..self.slotted.len() {
            let id = self.slotted[i];
            if self.values[id as usize].end <= position {
                self.release(id);
            }
        }
        self.forget_stale();
    }

    /// Keeps in `slotted` what is in slots only, once each.
    fn forget_stale(&mut self) {
        self.slotted.sort_unstable();
        self.slotted.dedup();
        let values = &self.values;
        self.slotted.retain(|id| values[*id as usize].register == NONE && values[*id as usize].saved);
    }

    /// Takes constants out of registers: they need not be carried around a loop.
    fn drop_constants(&mut self) {
        for register in 0..self.holders.len() {
            if let Some(id) = self.holders[register]
                && self.values[id as usize].constant.is_some()
            {
                self.values[id as usize].register = NONE;
                self.holders[register] = None;
            }
        }
    }

    /// Prepares for a loop: what it needs most is in registers, what it does not need makes room.
    pub fn enter_loop(&mut self, code: &Recording, span: LoopRange, mover: &mut dyn Mover) -> Result<(), String> {
        self.drop_constants();
        self.forget_stale();
        let outer = |value: &Allocation| value.end >= span.end;
        let mentioned = |file: &Self, id: Id| file.first_mention(id, span.begin + 1) <= span.end;
        let held: Vec<Id> = self.usable.iter().filter_map(|r| self.holders[*r as usize]).collect();
        let held: Vec<Id> = held.into_iter().filter(|id| outer(&self.values[*id as usize])).collect();
        let stored: Vec<Id> = self.slotted.iter().copied().filter(|id| outer(&self.values[*id as usize])).collect();
        let (needed, mut idle): (Vec<Id>, Vec<Id>) = held.iter().partition(|id| mentioned(self, **id));
        let away: Vec<Id> = stored.iter().copied().filter(|id| mentioned(self, *id)).collect();
        let most = self.live[span.begin as usize + 1..=span.end as usize].iter().max().copied().unwrap_or(0) as usize;
        // Values of the loop itself: what is live beyond those from outside.
        let own = most.saturating_sub(held.len() + stored.len());
        let room = self.usable.len().saturating_sub(own);
        let wanted = needed.len() + away.len();
        if idle.len() + wanted > room {
            let leave = (idle.len() + wanted - room).min(idle.len());
            idle.sort_by_cached_key(|id| std::cmp::Reverse(self.next_use(*id)));
            for id in &idle[..leave] {
                self.evict(*id, mover)?;
            }
        }
        let mut ranked: Vec<(u64, Id)> =
            needed.iter().chain(&away).map(|id| (self.weight(code, *id, span), *id)).collect();
        ranked.sort_unstable_by(|a, b| b.cmp(a));
        for (_, id) in ranked.iter().skip(room) {
            if self.register(*id).is_some_and(|r| self.pinned >> r & 1 == 0) {
                self.evict(*id, mover)?;
            }
        }
        for (_, id) in ranked.iter().take(room) {
            let free = self.usable.iter().any(|r| self.holders[*r as usize].is_none());
            if self.register(*id).is_none() && free {
                self.read(*id, mover)?;
            }
        }
        Ok(())
    }

    /// How much a loop uses a value: its mentions, eight times for every loop around them.
    fn weight(&self, code: &Recording, id: Id, span: LoopRange) -> u64 {
        let (first, end) = self.values[id as usize].mentions;
        let mentions = &self.mentions[first as usize..end as usize];
        let from = mentions.partition_point(|m| *m <= span.begin);
        let depth = |at: u32| {
            let (mut depth, mut region) = (0, code.region_of[at as usize]);
            while region != 0 {
                depth += u32::from(code.regions[region as usize].is_loop);
                region = code.regions[region as usize].parent;
            }
            depth.min(16)
        };
        mentions[from..].iter().take_while(|m| **m <= span.end).map(|m| 1u64 << (3 * depth(*m))).sum()
    }

    /// The state that every way into a region's end has to agree on: called where the region begins.
    pub fn snapshot(&mut self, end: u32) -> Snapshot {
        self.drop_constants();
        self.forget_stale();
        let mut held = Vec::new();
        for register in 0..self.holders.len() {
            let Some(id) = self.holders[register] else { continue };
            let value = &mut self.values[id as usize];
            // The region may write it.
            value.saved &= !value.mutable;
            if value.end >= end {
                held.push((id, register as u32, value.saved));
            }
        }
        let values = &self.values;
        let slotted = self.slotted.iter().copied().filter(|id| values[*id as usize].end >= end).collect();
        Snapshot { held, slotted }
    }

    /// Brings the state back to a snapshot, at the end of its region.
    pub fn agree(&mut self, snapshot: &Snapshot, mover: &mut dyn Mover) -> Result<(), String> {
        self.drop_constants();
        for id in &snapshot.slotted {
            if self.register(*id).is_some() {
                self.evict(*id, mover)?;
            }
        }
        // What stands in a register that another value needs, and what is no part of the snapshot.
        let home = |id: Id| snapshot.held.iter().find(|(held, _, _)| *held == id).map(|(_, register, _)| *register);
        for register in 0..self.holders.len() {
            if let Some(id) = self.holders[register]
                && home(id).is_none()
            {
                self.values[id as usize].register = NONE;
                self.holders[register] = None;
            }
        }
        let mut away: Vec<(Id, u32)> = snapshot
            .held
            .iter()
            .filter(|(id, register, _)| self.register(*id) != Some(*register))
            .map(|(id, register, _)| (*id, *register))
            .collect();
        while !away.is_empty() {
            let free = away.iter().position(|(_, register)| self.holders[*register as usize].is_none());
            let Some(at) = free else {
                // A cycle: one of its values goes through memory.
                let holder = self.holders[away[0].1 as usize].ok_or("a register is taken by nothing")?;
                self.evict(holder, mover)?;
                continue;
            };
            let (id, register) = away.swap_remove(at);
            match self.register(id) {
                Some(from) => {
                    mover.transfer(self.class, register, from)?;
                    self.holders[from as usize] = None;
                }
                None if self.values[id as usize].saved => {
                    mover.restore(self.class, register, self.values[id as usize].slot)?;
                }
                None => {}
            }
            self.values[id as usize].register = register;
            self.holders[register as usize] = Some(id);
        }
        for (id, _, saved) in &snapshot.held {
            self.values[*id as usize].saved &= *saved;
        }
        Ok(())
    }

    /// Behind the end of a region: what ended with it is forgotten.
    pub fn leave(&mut self) {
        self.release_dead();
    }
}
