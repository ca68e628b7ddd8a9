//! How a convolution runs on a target: tile, unrolling, chunks.
//!
//! Vectors of 4 lanes are Cranelift's and take measured tiles. For wider ones, whose instructions are our own, the tile is the
//! cheapest by [`Conv::slots`] of those that fit the registers.

use super::super::{CHUNK, write_fields};
use std::fmt;

use super::{Conv, matrix};
use crate::codegen::REACH;
use crate::kernels::Family;
use crate::target::{Arch, Machine, Target};

/// What one chunk takes from the whole.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Split {
    /// Tiles of a single row of pixels.
    Tiles,
    /// Output rows.
    Rows,
    /// Units of strips of output channels.
    Strips,
}

/// How a convolution runs.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Most pixels of a tile; rows are split evenly.
    pub pixels: usize,
    /// Most vectors of output channels of a strip; the filters of a group are split evenly.
    pub vectors: usize,
    /// Input channels, or pairs of them, per turn of the inner loop.
    pub unroll: usize,
    /// What chunks split.
    pub split: Split,
    /// Number of chunks; the units of the split axis are divided evenly.
    pub chunks: usize,
    /// Tile registers' rows, where they multiply: `pixels` are then those of a band, `vectors` panels of a strip. 0 where vectors do.
    pub tiles: usize,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tiles => "Tiles",
            Self::Rows => "Rows",
            Self::Strips => "Strips",
        })
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { pixels, vectors, unroll, split, chunks, tiles } = self;
        let all: [(&str, &dyn fmt::Display); 6] = [
            ("pixels", pixels),
            ("vectors", vectors),
            ("unroll", unroll),
            ("split", split),
            ("chunks", chunks),
            ("tiles", tiles),
        ];
        write_fields(f, "Schedule", &all[..if *tiles > 0 { 6 } else { 5 }])
    }
}

/// Most chunks of a kernel.
const MOST_CHUNKS: u64 = 64;
/// Fewest pixels that are split between chunks; below, output channels are.
const MANY_PIXELS: usize = 256;
/// Strips that share weights well enough between threads, however much work there is.
const ENOUGH_STRIPS: u64 = 8;
/// Fewest pixels of a full tile: with fewer, loads of weights outnumber the multiply-adds they serve too much.
const FEW_PIXELS: usize = 4;
/// Input channels whose loop is written out for wide vectors.
const UNROLLED: usize = 16;

/// Cycles that a tile takes besides its products: bias, pointers, the first and last turn of the loop.
const TILE: usize = 12;
/// Cycles to begin a run of tiles.
const RUN: usize = 20;
/// Cycles that the first pass through a tile's code takes: it is not in the L1.
const CODE: usize = 300;

impl Conv {
    /// The schedule for a target.
    pub(super) fn plan(&self, target: &Target) -> Schedule {
        if target.vectors().tiles && matrix::applies(self) {
            return matrix::schedule(self, target);
        }
        if target.lanes() > 4 {
            return self.plan_wide(target.lanes(), target.vector_registers());
        }
        // Measured for Cranelift's 128-bit code on x86-64: 5x2 by 8 channels reaches 95 % of the FMA peak. With 10 sums its
        // register allocator may spill one per turn; over 8 channels the latency of that hides behind the arithmetic.
        let (pixels, vectors, unroll) = match (target.arch(), self.filters) {
            (_, 0..=4) => (8, 1, 4),
            _ if self.run.is_some() => (3, 1, 1),
            (Arch::X86_64, _) if target.fma() => (5, 2, 8),
            (Arch::X86_64, _) => (4, 2, 4),
            (Arch::Aarch64, _) => (8, 2, 4),
        };
        let (pixels, unroll) = (pixels.min(self.reach()), unroll.min(self.channel_reach()));
        let split = if self.few_pixels() { Split::Strips } else { self.by_pixels() };
        self.cut((pixels, vectors), unroll, split, target.lanes())
    }

    /// The schedule for vectors of `lanes` in `registers`.
    pub(super) fn plan_wide(&self, lanes: usize, registers: usize) -> Schedule {
        let (pixels, vectors) = self.tile_shape(lanes, registers);
        // Few channels are written out; of many, four turns share the cost of the loop.
        let unroll = if self.steps() <= UNROLLED { self.steps().max(1) } else { 4 };
        let unroll = unroll.min(self.channel_reach());
        let enough =
            self.units(Split::Strips, pixels, (lanes, vectors)) as u64 >= self.wanted(lanes).min(ENOUGH_STRIPS);
        let split = if self.few_pixels() && enough { Split::Strips } else { self.by_pixels() };
        self.cut((pixels, vectors), unroll, split, lanes)
    }

    fn cut(&self, (pixels, vectors): (usize, usize), unroll: usize, split: Split, lanes: usize) -> Schedule {
        let units = self.units(split, pixels, (lanes, vectors));
        let chunks = (self.wanted(lanes) as usize).min(units).max(1);
        Schedule { pixels, vectors, unroll, split, chunks, tiles: 0 }
    }

    /// Outputs of a row that have their code in common, up to one.
    fn row_of_phase(&self) -> usize {
        let residues = if self.transposed { self.columns.stride } else { 1 };
        self.columns.output.div_ceil(residues)
    }

    /// How many chunks the work is worth. Three or a few more would leave one of two or four threads idle at the end.
    pub(super) fn wanted(&self, lanes: usize) -> u64 {
        let worth = (self.flops() / Machine::of(lanes).flops_in(CHUNK)).clamp(1, MOST_CHUNKS);
        if worth > 2 { worth.next_multiple_of(4) } else { worth }
    }

    /// Whether chunks should share the pixels rather than the weights: what they share, each of them reads.
    pub(super) fn few_pixels(&self) -> bool {
        self.groups == 1 && (self.pixels() < MANY_PIXELS || self.weight_len() > 2 * self.input_len())
    }

    /// How pixels are split.
    fn by_pixels(&self) -> Split {
        if self.is_flat() { Split::Tiles } else { Split::Rows }
    }

    /// Units of an axis, for tiles of `pixels` and strips of at most `vectors` of `lanes`.
    pub(super) fn units(&self, split: Split, pixels: usize, (lanes, vectors): (usize, usize)) -> usize {
        match split {
            Split::Tiles => self.columns.output.div_ceil(pixels),
            Split::Rows => self.batch * self.rows.output,
            Split::Strips => self.spans(lanes, vectors).iter().map(|span| span.units).sum(),
        }
    }

    /// Most pixels of a tile whose displacements fit their field, next to those of the channels.
    fn reach(&self) -> usize {
        let output = self.result().size() * self.pitch();
        let [from, to] = if self.transposed { [1, self.columns.stride] } else { [self.columns.stride, 1] };
        let pixel = (output * to).max(from * self.strides().pixel).max(1);
        (REACH / 2 / pixel).max(1)
    }

    /// Most input channels of a turn whose displacements fit their field, next to those of the pixels.
    fn channel_reach(&self) -> usize {
        (REACH / 2 / self.strides().channel.max(1)).max(1)
    }

    /// Pixels and vectors of the cheapest tile.
    ///
    /// Its sums, one vector of weights for each and a broadcast element fit the registers; a few more are left where a strip
    /// is a single vector, for the epilogue.
    fn tile_shape(&self, lanes: usize, registers: usize) -> (usize, usize) {
        if self.pixels() * self.filters == 0 {
            return (1, 1);
        }
        let (reach, extent) = (self.reach(), self.row_of_phase());
        // Products of pairs are added by an instruction of their own.
        let registers = registers - usize::from(self.together() > 1);
        // A run has two sums of its own for each, and halves of pairs stand apart.
        let most = |vectors: usize| match self.run {
            None => (registers - 4).min(registers - 1 - vectors) / vectors,
            Some(_) => (registers - 2 - 2 * vectors) / (3 * vectors),
        };
        let few = if self.run.is_some() { 2 } else { FEW_PIXELS };
        let strips = (1..=self.filters.div_ceil(lanes)).take_while(|vectors| most(*vectors) >= few);
        strips
            .flat_map(|v| (1..=most(v).min(extent).min(reach)).map(move |pixels| (pixels, v)))
            .min_by_key(|(pixels, vectors)| self.slots(&Machine::of(lanes), *pixels, *vectors))
            .unwrap_or((1, 1))
    }

    /// Multiply-adds that could begin while a convolution runs in tiles of at most `pixels` by `vectors`.
    ///
    /// For each input channel a tile of `p` by `v` issues `p v` multiply-adds and loads `p + v` operands, as many of either per
    /// cycle, and no sum takes the next product before the last one is in. So wide strips of few pixels save loads, and small
    /// tiles, above all the last of an uneven row or strip, wait. Tiles, runs of equal tiles and code of its own for each kind of
    /// strip and run cost a little each: that is what makes an even division win.
    pub(in crate::kernels) fn slots(&self, machine: &Machine, pixels: usize, vectors: usize) -> u64 {
        let [tile, run, code, latency] =
            [TILE, RUN, CODE, machine.latency].map(|cycles| cycles * machine.fma_per_cycle);
        let (extent, mut rows) = (self.row_of_phase(), self.groups * self.batch * self.rows.output);
        let mut depth = self.depth_in_steps();
        if self.transposed {
            rows *= self.columns.stride;
            depth = depth.div_ceil(self.rows.stride * self.columns.stride);
        }
        let tiles = extent.div_ceil(pixels);
        let (size, larger) = (extent / tiles, extent % tiles);
        let runs = [(size + 1, larger), (size, tiles - larger)];
        let mut cost = 0;
        for span in self.spans(machine.lanes, vectors) {
            let (v, bodies) = (span.vectors, if span.alike() { 1 } else { span.strips });
            for (p, tiles) in runs.into_iter().filter(|(_, tiles)| *tiles > 0) {
                let products = match self.together() {
                    1 => (p * v).max(p + v),
                    // Products, additions and loads share the slots of the front end.
                    _ => 2 * p * v + p + v,
                };
                let products = products.max(latency) * depth;
                let row = run + tiles * (tile + products);
                cost += (rows * span.units * span.strips * row + bodies * code) as u64;
            }
        }
        cost
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::epilogue::Epilogue;

    /// Tile of a 1x1 convolution of `pixels`, `channels` and `filters`.
    fn tile([pixels, channels, filters]: [usize; 3], lanes: usize, registers: usize) -> (usize, usize) {
        let schedule = Conv::pointwise(pixels, channels, filters, Epilogue::default()).plan_wide(lanes, registers);
        (schedule.pixels, schedule.vectors)
    }

    #[test]
    fn tiles_divide_the_layers_of_efficientnet() {
        let layers = [
            [12544, 32, 16],
            [12544, 16, 96],
            [3136, 96, 24],
            [3136, 24, 144],
            [784, 144, 40],
            [784, 40, 240],
            [196, 240, 80],
            [196, 80, 480],
            [196, 480, 112],
            [196, 112, 672],
            [49, 672, 192],
            [49, 192, 1152],
            [49, 1152, 320],
            [49, 320, 1280],
        ];
        let tiles = |lanes, registers| layers.map(|layer| tile(layer, lanes, registers));
        let narrow = [2, 3, 3, 3, 3, 3, 2, 3, 2, 3, 2, 3, 2, 2].map(|v| (if v == 2 { 6 } else { 4 }, v));
        assert_eq!(tiles(8, 16), narrow);
        assert_eq!(tiles(16, 32)[..7], [(28, 1), (14, 2), (14, 2), (9, 3), (8, 3), (9, 3), (4, 5)]);
        assert_eq!(tiles(16, 32)[7..], [(14, 2), (7, 3), (14, 2), (7, 3), (7, 3), (5, 5), (5, 5)]);
    }

    #[test]
    fn tiles_fit_the_registers() {
        for (lanes, registers) in [(8, 16), (16, 32)] {
            for filters in 1..200 {
                let (pixels, vectors) = tile([97, 9, filters], lanes, registers);
                assert!(pixels * vectors + vectors < registers, "{pixels}x{vectors} for {filters} filters");
            }
        }
    }

    #[test]
    fn few_pixels_share_their_weights_among_chunks() {
        let split = |[pixels, channels, filters]: [usize; 3]| {
            let schedule = Conv::pointwise(pixels, channels, filters, Epilogue::default()).plan_wide(16, 32);
            (schedule.split, schedule.chunks)
        };
        assert_eq!(split([49, 192, 1152]), (Split::Strips, 12));
        // Two strips would be too few for the work.
        assert_eq!(split([196, 672, 112]), (Split::Tiles, 16));
        assert_eq!(split([12544, 16, 96]).0, Split::Tiles);
    }

    #[test]
    fn displacements_fit_for_the_widest_pixels_of_narrow_vectors() {
        for target in ["x86-64", "x86-64-fma", "aarch64"] {
            let target: Target = target.parse().unwrap();
            for [channels, filters] in [[1, 134_300_000], [134_300_000, 1], [1, 80_000_000], [80_000_000, 4], [64, 64]]
            {
                let conv = Conv::pointwise(5, channels, filters, Epilogue::default());
                let pixels = conv.plan(&target).pixels;
                let far = (pixels - 1) * channels.max(filters) * size_of::<f32>();
                assert!(far <= REACH && (pixels > 1 || channels.max(filters) > 64), "{pixels} pixels for {target}");
            }
        }
    }

    #[test]
    fn displacements_fit_for_the_widest_pixels() {
        let (pixels, _) = tile([64, 1 << 27, 1], 16, 32);
        assert!((pixels * 4) << 27 <= i32::MAX as usize, "{pixels}");
    }
}
