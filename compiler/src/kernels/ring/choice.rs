//! How a ring runs on a target: block of channels and bands of rows, the cheapest by [`Ring::slots`].
//!
//! More blocks read `x` again, more bands expand rows twice; both make rings that fit the L2, and units for threads.

use super::{PANEL, Ring, Schedule};
use crate::kernels::Family;
use crate::kernels::conv::{self, Axis, Conv};
use crate::kernels::depthwise::Depthwise;
use crate::target::{Machine, Target};

/// Work of a unit, floating-point operations, from which on there are [`MOST`] units rather than [`FEWEST`].
const UNIT_FLOPS: u64 = Machine::NOMINAL.flops_in(250_000);
/// Units that there are at least, if there is enough to divide.
const FEWEST: usize = 4;
/// Units that are enough.
const MOST: usize = 8;
/// Most bands of an image.
const MOST_BANDS: usize = 16;
/// A last block of so few channels would have panels of another width than the whole.
const NARROW: usize = 8;

impl Ring {
    /// The schedule for a target.
    pub(super) fn choose(&self, target: &Target) -> Schedule {
        let d = &self.depthwise;
        let wanted = ((self.flops() / UNIT_FLOPS) as usize).clamp(FEWEST, MOST).next_multiple_of(FEWEST);
        let mut best: Option<((usize, u64), Schedule)> = None;
        let machine = target.machine();
        for block in self.blocks(target) {
            let expand = self.all_rows(block).schedule(target);
            for bands in 1..=d.output[0].clamp(1, MOST_BANDS) {
                let missing = wanted.saturating_sub(d.batch * bands * d.channels.div_ceil(block));
                let key = (missing, self.slots(&machine, [block, bands], &expand));
                if best.as_ref().is_none_or(|(least, _)| key < *least) {
                    let rows = Depthwise { channels: block, ..d.clone() }.schedule(target);
                    best = Some((key, Schedule { block, bands, expand: expand.clone(), rows }));
                }
            }
        }
        let narrow = || {
            let block = PANEL.min(d.channels.max(1));
            Schedule { block, bands: 1, expand: self.all_rows(block).schedule(target), rows: d.schedule(target) }
        };
        best.map_or_else(narrow, |(_, schedule)| schedule)
    }

    /// The expansion of a block of channels for all rows of an image, row by row: its code stays in the L1 from
    /// one row to the next.
    fn all_rows(&self, block: usize) -> Conv {
        Conv { rows: Axis::plain(self.depthwise.input[0]), ..self.expansion(block) }
    }

    /// Blocks whose ring and weights stay in a quarter of the L2, widest first; the narrowest if there are none.
    fn blocks(&self, target: &Target) -> Vec<usize> {
        let all = self.depthwise.channels;
        let even = |count: usize| all.div_ceil(count).next_multiple_of(PANEL).min(all);
        let whole = |block: &usize| *block == all || !(1..=NARROW).contains(&(all % block));
        let mut blocks: Vec<usize> = (1..=all.div_ceil(PANEL)).map(even).filter(whole).collect();
        blocks.dedup();
        let bytes = |block: usize| self.depthwise.kernel[0] * self.pitch(block) + self.size() * block * self.inputs;
        let fitting = blocks.iter().position(|block| bytes(*block) <= target.l2 / 4);
        blocks.split_off(fitting.unwrap_or(blocks.len().saturating_sub(1)))
    }

    /// Rows of an image that its bands expand, one by one.
    pub(super) fn rows(&self, bands: usize) -> usize {
        let d = &self.depthwise;
        d.output[0] * d.strides[0] + bands * (d.kernel[0].saturating_sub(d.strides[0]))
    }

    /// Multiply-adds that could begin while an image is expanded: with the rows that bands share, and `x` from beyond the L2.
    pub(super) fn expansion_slots(
        &self,
        machine: &Machine,
        [block, bands]: [usize; 2],
        expand: &conv::Schedule,
    ) -> u64 {
        let d = &self.depthwise;
        let blocks = d.channels.div_ceil(block);
        let map = self.all_rows(block).slots(machine, expand.pixels, expand.vectors);
        let x = d.input[0] * d.input[1] * self.inputs * self.size();
        let bandwidth = machine.l3_rate as usize / machine.fma_per_cycle;
        let reads = if x > machine.l2 / 2 { blocks * x / bandwidth } else { 0 };
        map * (self.rows(bands) * blocks) as u64 / d.input[0].max(1) as u64 + reads as u64
    }

    /// Multiply-adds that could begin while it runs: the expansion, and multiply-adds of the depthwise convolution; the last round of
    /// four threads counts in full.
    pub(super) fn slots(&self, machine: &Machine, [block, bands]: [usize; 2], expand: &conv::Schedule) -> u64 {
        let d = &self.depthwise;
        let blocks = d.channels.div_ceil(block);
        let taps = d.output[0] * d.output[1] * d.kernel[0] * d.kernel[1] * d.channels / machine.lanes;
        let image = self.expansion_slots(machine, [block, bands], expand) + taps as u64;
        let units = d.batch * bands * blocks;
        (d.batch as u64 * image) * units.next_multiple_of(FEWEST) as u64 / units.max(1) as u64
    }
}
