//! Winograd convolution: dense 3x3, stride 1, with 4 or 2.25 times fewer products than the direct form.
//!
//! In: a channel-last map, filters transformed when they are packed ([`Winograd::weight_packing`]), a bias. Out: a channel-last map. The output is cut
//! into tiles of `m x m` pixels ([`Tile`]); a tile depends on `n x n` pixels of the input, `n = m + 2`, and every one of the `n * n`
//! transformed positions is a matrix product of its own (Lavin & Gray, "Fast Algorithms for Convolutional Neural Networks", 2016):
//!
//! ```text
//! Y = At [ (G g Gt) . (Bt d B) ] A        d: input tile, g: filter, Y: output tile, .: by position, summed over channels
//! ```
//!
//! A work unit is a block of tiles, whole from input to output, so nothing between the stages leaves the L2:
//! 1. `input`: the tiles of the block to `V[position][tile][channel]`; pixels outside the map read as zero;
//! 2. `product`: for one strip of output channels, `W[tile][position][filter]`, a register tile of tiles by filters;
//! 3. `output`: the strip's tiles back to pixels, with bias and epilogue, clipped at the edges of the map;
//!
//! and again from 2. for the next strip. With few tiles a block is also split by strips, and each part transforms its input if the
//! part before it ran elsewhere.
//!
//! Bits: positions are transformed by columns, then by rows, as `transform` writes them; each product starts from zero and takes
//! its channels ascending, one FMA each; the bias is added to the finished sum. Infinities, NaNs and rounding errors of one pixel
//! reach every output of its tile: the error is bounded by the sum of magnitudes of the tile, not of the single output.
//!
//! Error, in units of `2^-24` times the largest `Σ|x||w|` of a tile: measured up to 6.7 for 4x4 and 1.4 for 2x2 on uniform random
//! values of 16 to 512 channels; tests allow [`Tile::error`]. Filters with few taps that are not zero do worse in these units: the
//! products of the other taps cancel within the rounding of the whole.

mod choice;
mod emit;
mod input;
mod output;
mod product;
#[cfg(test)]
mod tests;
mod transform;

use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::Emitter;
use crate::codegen::elements::SINGLE;
use crate::codegen::epilogue::Epilogue;
use crate::target::{Backend, Cost, Machine, Target};
pub use choice::{Choice, choose};
use fornax_ir::types::DType;
pub use fornax_runtime::packing::winograd::Tile;
use fornax_runtime::packing::{Layout, Packing, Transform, winograd};

/// Output channels of a panel: one cache line of `f32`.
pub const PANEL: usize = 16;
/// The last panel is a multiple of so many wide.
const NARROW: usize = 8;

/// Output channels with the last panel's padding: how many the packed weights and the bias hold.
pub fn padded(filters: usize) -> usize {
    filters.next_multiple_of(NARROW)
}

/// A dense 3x3 convolution of stride 1 over a channel-last map.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Winograd {
    /// Type of the elements of both maps and the residual; the transformed filters are `f32`.
    pub element: DType,
    /// Images.
    pub batch: usize,
    /// Input channels.
    pub channels: usize,
    /// Output channels.
    pub filters: usize,
    /// Height and width of the input.
    pub input: [usize; 2],
    /// Height and width of the output.
    pub output: [usize; 2],
    /// Padding above and left.
    pub begin: [usize; 2],
    /// Outputs that are computed together; decides how results round.
    pub tile: Tile,
    /// What follows the bias.
    pub epilogue: Epilogue,
}

/// How it runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Most tiles of a register tile; all of them are split evenly into groups of at most so many.
    pub tiles: usize,
    /// Vectors of output channels of a register tile.
    pub vectors: usize,
    /// Input channels per turn of the inner loop.
    pub unroll: usize,
    /// Panels of a strip.
    pub panels: usize,
    /// Groups of tiles of a block.
    pub groups: usize,
    /// Strips of a work unit.
    pub strips: usize,
}

/// Work that pays for claiming a chunk, floating-point operations of the direct form.
const CHUNK_FLOPS: u64 = Machine::NOMINAL.flops_in(125_000);
/// Chunks that are enough: where blocks of tiles are fewer, they are split by strips.
const ENOUGH_CHUNKS: usize = 8;
/// Fewest output channels of a part of a block: their products take eight times as long as the input's transform.
const PART: usize = 64;

/// Tiles in groups that differ by one tile at most.
#[derive(Clone, Copy, Debug)]
struct Groups {
    /// Groups.
    count: usize,
    /// Tiles of a group.
    size: usize,
    /// Groups, the first ones, with one tile more.
    larger: usize,
}

impl Groups {
    fn new(tiles: usize, most: usize) -> Self {
        let count = tiles.div_ceil(most.max(1)).max(1);
        Self { count, size: tiles / count, larger: tiles % count }
    }

    /// Tiles of the largest group.
    fn largest(&self) -> usize {
        self.size + usize::from(self.larger > 0)
    }
}

impl Winograd {
    /// Rows and columns of tiles of an image.
    fn grid(&self) -> [usize; 2] {
        self.output.map(|extent| extent.div_ceil(self.tile.outputs()))
    }

    /// Tiles of all images.
    fn tiles(&self) -> usize {
        self.batch * self.grid().iter().product::<usize>()
    }

    /// Elements of the packed weights.
    pub fn weight_len(&self) -> usize {
        padded(self.filters) * self.channels * self.tile.positions()
    }

    /// How weights `[filters, channels, 3, 3]` are packed: `[panel][position][channel][PANEL]`, the same for every target. The last panel is stored
    /// at its own width.
    pub fn weight_packing(&self) -> Packing {
        let layout = Layout::new([0, 2, 1]).ragged(0, PANEL, NARROW);
        Packing::new([self.filters, self.channels, winograd::TAPS], Transform::Winograd(self.tile), layout)
    }

    /// Floats from the channels of a tile to those of the next, in `V`: whole cache lines, an odd number of them if the channels
    /// are a power of two, so that the tiles of a group do not compete for the same sets of a cache.
    fn row(&self) -> usize {
        self.channels.next_multiple_of(16) + 16
    }

    fn blocks(&self, schedule: &Schedule) -> usize {
        Groups::new(self.tiles(), schedule.tiles).count.div_ceil(schedule.groups)
    }

    /// Parts of a block.
    fn parts(&self, schedule: &Schedule) -> usize {
        self.filters.div_ceil(schedule.panels * PANEL).div_ceil(schedule.strips).max(1)
    }
}

schedule_text!(Schedule, "Schedule" { "tiles": tiles, "vectors": vectors, "unroll": unroll, "panels": panels, "groups": groups, "strips": strips });

impl Family for Winograd {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["winograd2x2", "winograd4x4"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::Winograd
    }

    fn kernel_name(&self) -> KernelName {
        let [h, w] = self.input;
        KernelName::new(self.element, Self::WORDS[(self.tile == Tile::Four) as usize])
            .shape(&[('n', &[self.batch]), ('c', &[self.channels]), ('h', &[h]), ('w', &[w]), ('m', &[self.filters])])
            .shape(&[('o', &self.output), ('k', &[3, 3]), ('s', &[1, 1]), ('p', &self.begin)])
            .bias(&self.epilogue)
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        Some(Self {
            element: name.element()?,
            batch: name.one(0, 'n')?,
            channels: name.one(0, 'c')?,
            filters: name.one(0, 'm')?,
            input: [name.one(0, 'h')?, name.one(0, 'w')?],
            output: name.pair(1, 'o')?,
            begin: name.pair(1, 'p')?,
            tile: if name.family() == Self::WORDS[1] { Tile::Four } else { Tile::Two },
            epilogue: (*name.epilogues.first()?).clone(),
        })
    }

    fn arguments(&self) -> Vec<Argument> {
        let element = self.element;
        let map = |[h, w]: [usize; 2], channels: usize| self.batch * h * w * channels;
        let output = map(self.output, self.filters);
        let mut arguments = vec![
            Argument::read("x", element, map(self.input, self.channels)),
            Argument::read("weights", DType::F32, self.weight_len()),
            Argument::read("bias", DType::F32, padded(self.filters)),
        ];
        if self.epilogue.residual() {
            arguments.push(Argument::read("residual", element, output));
        }
        let y = Argument::write("y", element, output);
        arguments.push(if self.epilogue.residual() { y.in_place_of(3) } else { y });
        arguments
    }

    /// Register tiles as large as the registers allow. A block is one group of tiles if the weights stay in the L2
    /// from block to block, else as many as fit there next to the weights that pass through.
    fn schedule(&self, target: &Target) -> Schedule {
        // Two vectors of sums for a tile, besides two of weights, an element and one to spare; measured where Cranelift allocates.
        let (tiles, unroll) = match (target.level.backend, target.vector_registers()) {
            (Backend::X86, registers) => ((registers - 4) / 2, 4),
            (Backend::Cranelift, 32..) => (8, 4),
            (Backend::Cranelift, _) => (5, 8),
        };
        let panels = if target.lanes() >= PANEL { 2 } else { 1 };
        let strip = panels * PANEL;
        let near = SINGLE * self.weight_len() <= target.l2 / 2;
        let room = if near { target.l2 / 4 } else { target.l2 / 4 * 3 };
        let most = (room / (SINGLE * self.tile.positions() * (self.row() + strip))).max(4);
        let tiles = tiles.min(most);
        let all = Groups::new(self.tiles(), tiles);
        let blocks = all.count.div_ceil((most / all.largest().max(1)).max(1));
        let strips = self.filters.div_ceil(strip);
        let wanted = ((self.flops() / CHUNK_FLOPS) as usize).clamp(1, ENOUGH_CHUNKS);
        let parts = wanted.div_ceil(blocks).min(self.filters / PART).max(1);
        Schedule {
            tiles,
            vectors: 2,
            unroll,
            panels,
            groups: all.count.div_ceil(blocks),
            strips: strips.div_ceil(parts).max(1),
        }
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.tiles() * self.filters == 0 { 0 } else { work_units(self.blocks(schedule) * self.parts(schedule)) }
    }

    fn scratch(&self, schedule: &Schedule) -> usize {
        emit::Scratch::new(self, schedule).bytes
    }

    /// Those of the direct form.
    fn flops(&self) -> u64 {
        2 * 9 * (self.batch * self.output[0] * self.output[1] * self.filters) as u64 * self.channels as u64
    }

    /// By what decides for or against it, traffic included.
    fn cost(&self, _schedule: &Schedule, machine: &Machine) -> Cost {
        let outputs = (self.batch * self.output[0] * self.output[1] * self.filters) as u64;
        let cycles = self.batch as f64 * machine.attained(self.operations());
        Cost::near(cycles + machine.issued(self.epilogue.slots(outputs, machine)), 0)
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        emit::emit(self, schedule, e);
    }
}
