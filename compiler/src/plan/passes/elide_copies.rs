//! Parts of channels are read and written where they lie in a larger map, without copies.
//!
//! In: a plan whose updates have no places yet. Out: fewer steps. Part `k` of a channel-last map that is split along its channels is the
//! map's own memory from `k`'s first channel on, with the other parts between its pixels; a map that is joined of parts likewise. Where
//! a step reads a part that is copied out of a map, it reads the map; where a step's result is only copied into a map, it is written
//! there: if the kernel can ([`Family::spread`]). The copies are left out, and so is the memory between.
//!
//! A read moves from the copy to a later step, so nothing may write the map from there on; a write moves to an earlier step, so
//! until the copy nothing may touch the map but copies into other channels.
//!
//! [`Family::spread`]: crate::kernels::Family::spread

use super::{remark, union};
use crate::kernels::loops::nest::RowCopy;
use crate::kernels::{Access, Argument, ChannelPart, Kernel, Spec};
use crate::plan::{
    BufferId, BufferView, ConstId, Contents, Generated, KernelCall, Operand, PackedConstant, Placement, Plan, ViewId,
};
use fornax_ir::graph::print::name;

/// Runs the pass: results into the maps they are copied to, then operands out of the maps they are copied from.
pub(super) fn run(plan: &mut Plan) {
    let mut elision = Elision::new(plan);
    for at in 0..elision.copies.len() {
        elision.write_in_place(at);
    }
    for at in 0..elision.copies.len() {
        elision.read_in_place(at);
    }
    let mut gone = elision.gone.into_iter();
    if gone.as_slice().contains(&true) {
        plan.steps.retain(|_| !gone.next().unwrap_or(false));
        drop_unused_constants(plan);
    }
}

/// The plan on its way, and what is known of its steps.
struct Elision<'a> {
    plan: &'a mut Plan,
    /// What a step copies, if it is a copy of rows.
    copies: Vec<Option<RowCopy>>,
    /// Copies into maps that nothing has touched before but copies into other columns of them.
    joins: Vec<bool>,
    /// Steps that are left out.
    gone: Vec<bool>,
    /// For each buffer, the steps that name it, once per operand, and the end of the run if a variable becomes it.
    users: Vec<Vec<usize>>,
}

/// What becomes of a step that takes in a copy.
struct Taken {
    step: usize,
    kernel: Kernel,
    /// The view of the part, and where that lies.
    part: ViewId,
    place: (BufferId, usize),
}

impl<'a> Elision<'a> {
    fn new(plan: &'a mut Plan) -> Self {
        let mut users: Vec<Vec<usize>> = vec![Vec::new(); plan.buffers.len()];
        for (at, step) in plan.steps.iter().enumerate() {
            let buffers = step.operands.iter().filter_map(|operand| plan.buffer(*operand));
            buffers.for_each(|BufferId(id)| users[id].push(at));
        }
        plan.updates.iter().for_each(|(_, value)| users[plan.views[value.0].buffer.0].push(usize::MAX));
        let copies = plan.steps.iter().map(|step| match &step.kernel.spec {
            Spec::Loops(loops) => loops.nest().row_copy(),
            #[allow(unreachable_patterns, reason = "with one family every spec matches")]
            _ => None,
        });
        let copies: Vec<Option<RowCopy>> = copies.collect();
        let none = vec![false; plan.steps.len()];
        let mut elision = Self { joins: none.clone(), gone: none, copies, users, plan };
        for map in 0..elision.users.len() {
            elision.join(BufferId(map));
        }
        elision
    }

    /// Finds the copies that a map is joined of.
    fn join(&mut self, map: BufferId) {
        let into = |step: usize| {
            let copy = (*self.copies.get(step)?)?;
            let [from, to] = self.plan.steps[step].operands[..] else { return None };
            let [from, into] = [from, to].map(|operand| self.plan.buffer(operand));
            (into == Some(map) && from != into && self.plan.offset(to) == 0).then_some((step, copy))
        };
        let parts: Vec<(usize, RowCopy)> = self.users[map.0].iter().map_while(|step| into(*step)).collect();
        let Some((_, first)) = parts.first() else { return };
        let shape = |copy: &RowCopy| (copy.rows, copy.to.pitch, copy.size);
        let mut columns: Vec<_> = parts.iter().map(|(_, copy)| (copy.to.first, copy.to.first + copy.columns)).collect();
        columns.sort_unstable();
        let apart = columns.windows(2).all(|pair| pair[0].1 <= pair[1].0);
        let inside = columns.iter().all(|(_, end)| *end <= first.to.pitch);
        if apart && inside && parts.iter().all(|(_, copy)| shape(copy) == shape(first)) {
            parts.iter().for_each(|(step, _)| self.joins[*step] = true);
        }
    }

    /// Leaves out copy `at` of a result that nothing else reads.
    fn write_in_place(&mut self, at: usize) {
        let wanted = |copy: &RowCopy| copy.from.whole && !copy.to.whole;
        let Some(copy) = self.copies[at].filter(|copy| wanted(copy) && self.joins[at]) else { return };
        let Some([part, map]) = self.values(at) else { return };
        let [first, last] = self.users[part.0][..] else { return };
        if last != at || first >= at {
            return;
        }
        let place = (map, copy.to.first * copy.size);
        if let Some(taken) = self.take(first, part, Access::Write, &copy, (copy.to.pitch, place)) {
            let text = format!("writes its channels of %{} there", name(&self.plan.steps[at].node));
            self.rewrite(at, vec![taken], &text, &copy);
        }
    }

    /// Leaves out copy `at` of a part that only steps read that can read it in its map.
    fn read_in_place(&mut self, at: usize) {
        let wanted = |copy: &RowCopy| copy.to.whole && !copy.from.whole && !self.gone[at];
        let Some(copy) = self.copies[at].filter(wanted) else { return };
        let Some([map, part]) = self.values(at) else { return };
        let readers: Vec<usize> = self.users[part.0].iter().copied().filter(|step| *step != at).collect();
        let Some(last) = readers.iter().copied().max().filter(|last| *last < self.gone.len()) else { return };
        let changes = |step: &usize| (at..=last).contains(step) && self.writes(*step, map);
        if readers.iter().any(|reader| *reader < at) || self.users[map.0].iter().any(changes) {
            return;
        }
        let within = self.plan.offset(self.plan.steps[at].operands[0]);
        let place = (map, within + copy.from.first * copy.size);
        let taken = readers.iter().map(|step| self.take(*step, part, Access::Read, &copy, (copy.from.pitch, place)));
        if let Some(taken) = taken.collect::<Option<Vec<Taken>>>() {
            let text = format!("reads the channels of %{} where they are", name(&self.plan.steps[at].node));
            self.rewrite(at, taken, &text, &copy);
        }
    }

    /// The buffers that a copy reads and writes, if both are values without a place yet and the part is all of its own.
    fn values(&self, at: usize) -> Option<[BufferId; 2]> {
        let [from, to] = self.plan.steps[at].operands[..] else { return None };
        let value = |operand: Operand| {
            let buffer = self.plan.buffer(operand)?;
            (self.plan.buffers[buffer.0].placement == Placement::Unplaced).then_some(buffer)
        };
        let values = [value(from)?, value(to)?];
        (values[0] != values[1]).then_some(values)
    }

    /// Whether a step writes a buffer.
    fn writes(&self, step: usize, buffer: BufferId) -> bool {
        let step = &self.plan.steps[step];
        let mut arguments = step.kernel.arguments.iter().zip(&step.operands);
        arguments
            .any(|(argument, operand)| argument.access != Access::Read && self.plan.buffer(*operand) == Some(buffer))
    }

    /// A step with its only operand in buffer `part` in rows of a map at `place`; `None` if it has another use for the part, or no such kernel.
    fn take(
        &self,
        step: usize,
        part: BufferId,
        access: Access,
        copy: &RowCopy,
        (pitch, place): (usize, (BufferId, usize)),
    ) -> Option<Taken> {
        let KernelCall { kernel, operands, .. } = self.plan.steps.get(step)?;
        let mut uses = (0..operands.len()).filter(|k| self.plan.buffer(operands[*k]) == Some(part));
        let (index, None) = (uses.next()?, uses.next()) else { return None };
        let (argument, Operand::View(view)) = (&kernel.arguments[index], operands[index]) else { return None };
        let fits = argument.access == access && argument.element.size() == copy.size;
        if !fits || self.plan.offset(view.into()) != 0 {
            return None;
        }
        let channels = ChannelPart { pixels: copy.rows, channels: copy.columns, gap: pitch - copy.columns };
        let kernel = Kernel::new(kernel.spec.spread(index, &channels)?, &self.plan.target);
        let large = |(k, (argument, operand)): (usize, (&Argument, &Operand))| match k == index {
            true => place.1 + argument.bytes <= self.plan.buffers[place.0.0].bytes,
            false => argument.bytes <= self.plan.extent(*operand) || self.zeros(*operand),
        };
        let whole = kernel.arguments.iter().zip(operands).enumerate().all(large);
        whole.then_some(Taken { step, kernel, part: view, place })
    }

    /// Whether an operand is a constant of zeros, which may be longer.
    fn zeros(&self, operand: Operand) -> bool {
        let Operand::Constant(ConstId(id)) = operand else { return false };
        matches!(self.plan.constants[id].contents, Contents::Generated(Generated::Zeros(_)))
    }

    /// Leaves out copy `at`, which the given steps take in.
    fn rewrite(&mut self, at: usize, taken: Vec<Taken>, text: &str, copy: &RowCopy) {
        for Taken { step, kernel, part, place: (buffer, offset) } in taken {
            let view = self.plan.views[part.0].clone();
            self.plan.views.push(BufferView { buffer, offset, ..view });
            let moved = ViewId(self.plan.views.len() - 1);
            for k in 0..kernel.arguments.len() {
                let operand = self.plan.steps[step].operands[k];
                self.plan.steps[step].operands[k] = if operand == part.into() {
                    moved.into()
                } else if kernel.arguments[k].bytes > self.plan.extent(operand) {
                    self.more_zeros(kernel.arguments[k].bytes).into()
                } else {
                    operand
                };
            }
            let origins = self.plan.steps[at].origins.clone();
            let changed = &mut self.plan.steps[step];
            let own = std::mem::take(&mut changed.origins);
            changed.origins = if step < at { union(own, origins) } else { union(origins, own) };
            changed.kernel = kernel;
            self.users[buffer.0].push(step);
            let bytes = (copy.rows * copy.columns * copy.size) as f64;
            let remark = remark(self.plan, "elide_copies", step, text.into(), &[("bytes", bytes)]);
            self.plan.remarks.push(remark);
        }
        self.gone[at] = true;
    }

    /// The constant of so many zero bytes.
    fn more_zeros(&mut self, bytes: usize) -> ConstId {
        let zeros = PackedConstant::from(Generated::Zeros(bytes));
        let found = self.plan.constants.iter().position(|constant| *constant == zeros);
        ConstId(found.unwrap_or_else(|| {
            self.plan.constants.push(zeros);
            self.plan.constants.len() - 1
        }))
    }
}

/// Takes constants away that no step reads any more.
fn drop_unused_constants(plan: &mut Plan) {
    let mut used = vec![false; plan.constants.len()];
    let placed = plan.buffers.iter().filter_map(|buffer| match buffer.placement {
        Placement::Constant(id) => Some(id),
        _ => None,
    });
    let named = plan.steps.iter().flat_map(|step| &step.operands).filter_map(|operand| match operand {
        Operand::Constant(id) => Some(*id),
        Operand::View(_) => None,
    });
    placed.chain(named).for_each(|ConstId(id)| used[id] = true);
    let before: Vec<usize> =
        used.iter().scan(0, |count, used| Some(std::mem::replace(count, *count + usize::from(*used)))).collect();
    let number = |ConstId(id): ConstId| ConstId(before[id]);
    for buffer in &mut plan.buffers {
        if let Placement::Constant(id) = &mut buffer.placement {
            *id = number(*id);
        }
    }
    for operand in plan.steps.iter_mut().flat_map(|step| &mut step.operands) {
        if let Operand::Constant(id) = operand {
            *id = number(*id);
        }
    }
    let mut used = used.into_iter();
    plan.constants.retain(|_| used.next().unwrap_or(true));
}
