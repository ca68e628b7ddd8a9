//! Windows sliding over a channel-last map, row by row: the loops that depthwise convolution and pooling share.
//!
//! In: extents, and a [`Cell`] that writes the outputs of one segment for one vector of channels. Out: a kernel whose work unit is one
//! output row of one block of channels. A row is cut into segments of `tile` outputs; segments that meet the same taps share their
//! code, so taps left and right of the map are left out at compile time. A window row above or below the map reads `outside`, a
//! row of elements that do not change the result.
//!
//! Transposed, an output meets the inputs whose windows cover it: with a stride of two, every other tap of a row and every other row. Rows
//! of each residue by the stride have code of their own, with the window rows that meet them.

use super::{ChannelPart, KernelName, Parts, advance, schedule_text, work_units};
use crate::codegen::elements::SINGLE;
use crate::codegen::{Count, Element, Emitter, R};
use crate::target::{Machine, Target, Vectors};
use fornax_ir::types::DType;

/// Widest window whose taps are spelled out.
const WIDEST: usize = 11;
/// Largest constant offset, bytes.
const LARGEST: usize = 1 << 28;
/// Largest stride of transposed windows: as many kinds of rows have code of their own.
const FARTHEST: usize = 4;
/// Most taps that a kernel may spell out for the different segments of a row.
const CODE: usize = 2048;

/// Extents `[height, width]` of windows over a map `[N, H, W, C]`.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Sliding {
    /// Type of the elements of the input, and of the output if the `Cell` does not say another.
    pub element: DType,
    /// Images.
    pub batch: usize,
    /// Channels.
    pub channels: usize,
    /// Elements of other values between the channels of one pixel and those of the next, in the input and in the output map.
    pub gaps: [usize; 2],
    /// Input map.
    pub input: [usize; 2],
    /// Output map.
    pub output: [usize; 2],
    /// Window.
    pub kernel: [usize; 2],
    /// Stride.
    pub strides: [usize; 2],
    /// Dilation.
    pub dilations: [usize; 2],
    /// Padding above and left.
    pub pads: [usize; 2],
    /// Whether the windows slide over the output, and `pads` are taken off it.
    pub transposed: bool,
}

/// How the loops are cut.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Schedule {
    /// Outputs of a row that stay in registers together.
    pub tile: usize,
    /// Channels of one work unit, a multiple of 16.
    pub block: usize,
}

/// Consecutive segments of a row that meet the same taps.
#[derive(Debug)]
pub struct Run {
    /// First output column.
    pub start: usize,
    /// Outputs of one segment.
    pub width: usize,
    /// Segments.
    pub count: usize,
}

/// A tap of a segment that is inside the map, in the order of loads: input column, output, window column.
pub type Tap = (usize, usize, usize);

/// Where a segment's operands are, for one vector of channels.
pub struct At<'a> {
    /// The input rows, from the top.
    pub rows: &'a [R],
    /// The window row that each of them meets.
    pub window: &'a [usize],
    /// The row of each map of the output's layout, the output first.
    pub outputs: &'a [R],
    /// What [`Cell::moving`] gave, advanced to the channels.
    pub moving: &'a [R],
    /// What [`Cell::fixed`] gave.
    pub fixed: &'a [R],
    /// Bytes from one pixel to the next of the input and of the output.
    pub pixels: [usize; 2],
}

/// The arithmetic of a family.
pub trait Cell {
    /// Pointers for output row `row` of `N * OH` that advance with the channels, and the size of their elements.
    fn moving(&self, e: &mut dyn Emitter, row: R) -> Vec<(R, usize)>;
    /// Registers for output row `row` that do not.
    fn fixed(&self, _e: &mut dyn Emitter, _row: R) -> Vec<R> {
        Vec::new()
    }
    /// Type of the output's elements where those of the input are `element`.
    fn result(&self, element: DType) -> DType {
        element
    }
    /// Writes a segment for one vector of channels, of which `lanes` exist.
    fn vector(&self, e: &mut dyn Emitter, run: &Run, at: &At<'_>, lanes: usize);
}

schedule_text!(Schedule, "Schedule" { "tile": tile, "block": block });

impl Sliding {
    /// Whether there is a kernel: offsets fit their fields and the code is of bounded size.
    pub fn applies(&self) -> bool {
        let pitch = self.channels.saturating_add(self.gaps[0].max(self.gaps[1]));
        let row = self.input[1].max(self.output[1]).saturating_mul(pitch).saturating_mul(SINGLE);
        let steps = self.strides.iter().chain(&self.dilations).max().is_some_and(|step| *step <= LARGEST);
        let window = self.kernel.iter().all(|k| *k <= WIDEST);
        let lattice = !self.transposed || self.strides.iter().all(|stride| *stride <= FARTHEST);
        window && steps && lattice && row <= LARGEST && self.output[1] <= LARGEST && {
            self.runs(self.grain(), true).len() * self.kernel[0] * self.kernel[1] <= CODE
        }
    }

    /// Whether taps are met in loops: those of a wider window, of which none may lie outside of the map. Then a cell finds one row, the first.
    pub fn loops(&self) -> bool {
        let meets = |axis: usize| {
            let last = |count: usize, step: usize| count.saturating_sub(1).saturating_mul(step);
            let reach = last(self.output[axis], self.strides[axis])
                .saturating_add(last(self.kernel[axis], self.dilations[axis]));
            self.pads[axis] == 0 && reach < self.input[axis]
        };
        let row = self.input[1].max(self.output[1]).saturating_mul(self.channels).saturating_mul(SINGLE);
        let dense = !self.transposed && self.gaps == [0, 0] && row <= LARGEST;
        dense && self.kernel.iter().any(|k| *k > WIDEST) && meets(0) && meets(1)
    }

    /// Rows that a cell finds.
    fn rows(&self) -> usize {
        if self.loops() { 1 } else { self.kernel[0] }
    }

    /// Outputs after which a row meets the same taps again.
    fn grain(&self) -> usize {
        if self.transposed { self.strides[1] } else { 1 }
    }

    /// A kernel's name with the extents: `n2c96h112w112_h56w56_k3s2p1`; with gaps `n2c96h112w112g48_h56w56g48_k3s2p1`.
    pub fn label(&self, name: KernelName) -> KernelName {
        fn pair(v: &[usize; 2]) -> &[usize] {
            if v[0] == v[1] { &v[..1] } else { v }
        }
        let ([h, w], [oh, ow]) = (self.input.map(|extent| [extent]), self.output.map(|extent| [extent]));
        let mut window = vec![('k', pair(&self.kernel)), ('s', pair(&self.strides)), ('p', pair(&self.pads))];
        if self.dilations != [1, 1] {
            window.push(('d', pair(&self.dilations)));
        }
        let gaps = self.gaps.map(|gap| [gap]);
        let gap = |map: usize| (gaps[map] != [0]).then_some(('g', &gaps[map][..]));
        let (n, c) = ([self.batch], [self.channels]);
        let mut input: Vec<(char, &[usize])> = vec![('n', &n), ('c', &c), ('h', &h), ('w', &w)];
        let mut output: Vec<(char, &[usize])> = vec![('h', &oh), ('w', &ow)];
        input.extend(gap(0));
        output.extend(gap(1));
        name.shape(&input).shape(&output).shape(&window)
    }

    /// The extents that a name says, three shapes from `first` on; see [`Self::label`].
    pub fn read(name: &Parts<'_>, first: usize) -> Option<Self> {
        Some(Self {
            element: name.factors()?,
            batch: name.one(first, 'n')?,
            channels: name.one(first, 'c')?,
            gaps: [first, first + 1].map(|shape| name.one(shape, 'g').unwrap_or(0)),
            input: [name.one(first, 'h')?, name.one(first, 'w')?],
            output: [name.one(first + 1, 'h')?, name.one(first + 1, 'w')?],
            kernel: name.pair(first + 2, 'k')?,
            strides: name.pair(first + 2, 's')?,
            dilations: name.pair(first + 2, 'd').unwrap_or([1, 1]),
            pads: name.pair(first + 2, 'p')?,
            transposed: false,
        })
    }

    /// Elements from the first of the input map to its last, those of gaps between them too.
    pub fn input_len(&self) -> usize {
        self.len(0, self.batch * self.input[0] * self.input[1])
    }

    /// Elements from the first of the output map to its last, those of gaps between them too.
    pub fn output_len(&self) -> usize {
        self.len(1, self.batch * self.output[0] * self.output[1])
    }

    /// The last pixel has no gap after it.
    fn len(&self, map: usize, pixels: usize) -> usize {
        if pixels == 0 { 0 } else { (pixels - 1) * self.pitch(map) + self.channels }
    }

    /// Elements of both maps that are no gaps.
    pub fn moved(&self) -> usize {
        let [input, output] = [self.input, self.output].map(|[height, width]| height * width);
        self.batch * (input + output) * self.channels
    }

    /// Elements from one pixel to the next of the input map (0) or the output map (1).
    fn pitch(&self, map: usize) -> usize {
        self.channels + self.gaps[map]
    }

    /// Elements from one input row to the next.
    pub fn row_len(&self) -> usize {
        self.input[1] * self.pitch(0)
    }

    /// The same windows over a map (0 input, 1 output) whose pixels have other values between them, if it is dense and of that shape,
    /// and there is a kernel: none where the windows are transposed.
    pub fn spread(&self, map: usize, part: &ChannelPart) -> Option<Self> {
        let extents = [self.input, self.output][map];
        let same =
            !self.transposed && (part.pixels, part.channels) == (self.batch * extents[0] * extents[1], self.channels);
        let mut spread = self.clone();
        spread.gaps[map] = part.gap;
        (same && self.gaps[map] == 0 && spread.applies()).then_some(spread)
    }

    /// A schedule for windows that need `registers` besides one accumulator per output: a tile of 7, or the widest, that divides
    /// the row, or one that divides it most evenly if only narrow ones do; blocks whose `bytes` per channel stay in the L1.
    pub fn schedule(&self, target: &Target, registers: usize, bytes: usize) -> Schedule {
        // Two outputs of 512 bits end per cycle, four cycles after they began, and weights are loaded anew for every tile.
        let Vectors { lanes, registers: all, .. } = target.vectors();
        let few = self.kernel[1] <= 5 || self.loops();
        let limit = if lanes > 4 && all >= 32 && few { 14 } else { 8 };
        let most = all.saturating_sub(registers).clamp(1, limit).min(self.output[1].max(1));
        let narrower = (most.div_ceil(2)..=most).rev();
        let grain = self.grain();
        let fits = |t: &usize| *t <= most && t.is_multiple_of(grain) && self.output[1].is_multiple_of(*t);
        let even = [14, 7].into_iter().chain(narrower).find(fits);
        let tiles = self.output[1].div_ceil(most).max(1);
        let work = self.output[1].max(1) * self.kernel[0] * self.kernel[1];
        let near = near(bytes);
        let blocks = self.channels.div_ceil((WORK / work.max(1)).clamp(64, near.max(64))).max(1);
        Schedule {
            tile: even.unwrap_or_else(|| (self.output[1].div_ceil(tiles) / grain * grain).max(grain)),
            block: self.channels.div_ceil(blocks).next_multiple_of(16).max(16),
        }
    }

    /// Work units.
    pub fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.channels == 0 || self.output[1] == 0 {
            return 0;
        }
        work_units(self.batch * self.output[0] * self.channels.div_ceil(schedule.block))
    }

    /// The input column that output `start + output` reads through window column `column`, outside of the map too; `None` if it lies
    /// between two.
    fn meets(&self, start: usize, output: usize, column: usize) -> Option<i64> {
        let [output, column, stride, dilation, pad] =
            [start + output, column, self.strides[1], self.dilations[1], self.pads[1]].map(|extent| extent as i64);
        if !self.transposed {
            return Some(output * stride + column * dilation - pad);
        }
        let at = output + pad - column * dilation;
        (at.rem_euclid(stride) == 0).then(|| at.div_euclid(stride))
    }

    /// The same, if it is inside the map.
    fn reach(&self, start: usize, output: usize, column: usize) -> Option<usize> {
        usize::try_from(self.meets(start, output, column)?).ok().filter(|at| *at < self.input[1])
    }

    /// The taps of one window row over a segment, by input column.
    pub fn taps(&self, run: &Run) -> Vec<Tap> {
        let reach = |t: usize, j: usize| self.reach(run.start, t, j).map(|column| (column, t, j));
        let mut taps: Vec<Tap> =
            (0..run.width).flat_map(|t| (0..self.kernel[1]).filter_map(move |j| reach(t, j))).collect();
        taps.sort_unstable();
        taps
    }

    /// Which taps of a segment are inside the map, output by output; `None` for those that meet none of its columns.
    fn mask(&self, start: usize, width: usize) -> Vec<Option<bool>> {
        let inside = |t, k| self.meets(start, t, k).map(|_| self.reach(start, t, k).is_some());
        (0..width).flat_map(|t| (0..self.kernel[1]).map(move |k| (t, k))).map(|(t, k)| inside(t, k)).collect()
    }

    /// The row as runs of equal segments; with `first_apart` its first segment is a run of its own.
    pub fn runs(&self, tile: usize, first_apart: bool) -> Vec<Run> {
        let mut runs: Vec<Run> = Vec::new();
        let (mut start, mut last) = (0, Vec::new());
        while start < self.output[1] {
            let width = tile.min(self.output[1] - start);
            let mask = self.mask(start, width);
            let whole = mask.iter().all(|inside| *inside != Some(false)) && width.is_multiple_of(self.grain());
            let joins = !(first_apart && start == width) && whole && mask == last;
            match runs.last_mut() {
                Some(run) if joins => run.count += 1,
                _ => runs.push(Run { start, width, count: 1 }),
            }
            last = mask;
            start += width;
        }
        runs
    }

    /// Writes the loops over work units, segments and vectors of channels. `inputs` are the input map and a row of elements that
    /// stand for rows outside of it; `outputs` are the output map and others of its layout.
    pub fn emit(
        &self,
        e: &mut dyn Emitter,
        schedule: &Schedule,
        first_apart: bool,
        inputs: [R; 2],
        outputs: &[R],
        cell: &dyn Cell,
    ) {
        let ([x, outside], sizes) = (inputs, [self.element, cell.result(self.element)].map(DType::size));
        let mut writer = Rows::new(self, schedule, first_apart, [0, 1].map(|map| self.pitch(map) * sizes[map]), cell);
        writer.outputs = outputs.len();
        let blocks = self.channels.div_ceil(schedule.block);
        let (chunk, units) = (e.r(), e.r());
        e.begin(chunk);
        e.end(units);
        e.sub(units, units, chunk);
        e.repeat(Count::Register(units), &mut |e| {
            let (row, block) = (e.r(), e.r());
            let outs: Vec<R> = outputs.iter().map(|_| e.r()).collect();
            e.div_imm(row, chunk, blocks as u32);
            e.mul_imm(block, row, blocks as i64);
            e.sub(block, chunk, block);
            let rows = if self.transposed { Vec::new() } else { self.row_pointers(e, row, x, outside) };
            e.mul_imm(outs[0], row, (self.output[1] * self.pitch(1) * sizes[1]) as i64);
            outs[1..].iter().for_each(|out| e.copy(*out, outs[0]));
            outs.iter().zip(outputs).for_each(|(out, map)| e.add(*out, *out, *map));
            if self.transposed {
                self.residues(e, &mut writer, (row, block), [x, outside], &outs);
                [row, block].into_iter().chain(outs).for_each(|r| e.free_r(r));
            } else {
                self.output_row(e, &writer, (row, block), (rows, outs));
            }
            e.add_imm(chunk, chunk, 1);
        });
    }

    /// One block of an output row that reads `rows`; `row`, `block` and the pointers are lost.
    fn output_row(&self, e: &mut dyn Emitter, writer: &Rows<'_>, (row, block): (R, R), (rows, outs): (Vec<R>, Vec<R>)) {
        let cell = writer.cell;
        let [input, output] = [self.element, cell.result(self.element)].map(DType::size);
        let (moving, fixed) = (cell.moving(e, row), cell.fixed(e, row));
        let maps = rows.into_iter().map(|r| (r, input)).chain(outs.into_iter().map(|r| (r, output)));
        let bases: Vec<(R, usize)> = maps.chain(moving).collect();
        advance(e, row, (block, writer.schedule.block), &bases);
        writer.block(e, block, &bases, &fixed);
        let bases = bases.into_iter().map(|(base, _)| base);
        [row, block].into_iter().chain(bases).chain(fixed).for_each(|r| e.free_r(r));
    }

    /// One block of output row `row` of a transposed map: by the residue of the row, the window rows that meet input rows.
    fn residues(
        &self,
        e: &mut dyn Emitter,
        writer: &mut Rows<'_>,
        (row, block): (R, R),
        [x, outside]: [R; 2],
        outs: &[R],
    ) {
        let (stride, row_bytes) = (self.strides[0], (self.row_len() * self.element.size()) as i64);
        let (image, at, residue) = (e.r(), e.r(), e.r());
        e.div_imm(image, row, self.output[0] as u32);
        e.mul_imm(at, image, self.output[0] as i64);
        e.sub(at, row, at);
        e.add_imm(at, at, self.pads[0] as i64);
        e.mul_imm(image, image, self.input[0] as i64);
        e.copy(residue, at);
        e.div_imm(at, at, stride as u32);
        let whole = e.r();
        e.mul_imm(whole, at, stride as i64);
        e.sub(residue, residue, whole);
        e.free_r(whole);
        for own in 0..stride {
            // From the last window row on, so that input rows ascend.
            writer.window = (0..self.kernel[0]).rev().filter(|k| (k * self.dilations[0]) % stride == own).collect();
            let body = &mut |e: &mut dyn Emitter| {
                let pointer = |e: &mut dyn Emitter, k: &usize| {
                    let (pointer, index) = (e.r(), e.r());
                    e.add_imm(index, at, -((k * self.dilations[0] / stride) as i64));
                    e.add(pointer, index, image);
                    e.mul_imm(pointer, pointer, row_bytes);
                    e.add(pointer, pointer, x);
                    e.select_below(pointer, index, self.input[0] as u32, pointer, outside);
                    e.free_r(index);
                    pointer
                };
                let rows = writer.window.iter().map(|k| pointer(e, k)).collect();
                let [row, block] = [row, block].map(|r| copy(e, r));
                let outs = outs.iter().map(|r| copy(e, *r)).collect();
                self.output_row(e, writer, (row, block), (rows, outs));
            };
            if stride == 1 {
                body(e);
                continue;
            }
            let (below, above) = (e.integer(own as i64 - 1), e.integer(own as i64 + 1));
            e.if_less(below, residue, &mut |e| e.if_less(residue, above, body));
            [below, above].into_iter().for_each(|r| e.free_r(r));
        }
        [image, at, residue].into_iter().for_each(|r| e.free_r(r));
    }

    /// Pointers to the input rows that output row `row` reads, one per window row.
    fn row_pointers(&self, e: &mut dyn Emitter, row: R, x: R, outside: R) -> Vec<R> {
        let (image, first, at, inside) = (e.r(), e.r(), e.r(), e.r());
        e.div_imm(image, row, self.output[0] as u32);
        e.mul_imm(at, image, self.output[0] as i64);
        e.sub(first, row, at);
        e.mul_imm(first, first, self.strides[0] as i64);
        e.add_imm(first, first, -(self.pads[0] as i64));
        e.mul_imm(image, image, self.input[0] as i64);
        let pointer = |e: &mut dyn Emitter, k: usize| {
            let pointer = e.r();
            e.add_imm(at, first, (k * self.dilations[0]) as i64);
            e.add(inside, at, image);
            e.mul_imm(inside, inside, (self.row_len() * self.element.size()) as i64);
            e.add(inside, inside, x);
            e.select_below(pointer, at, self.input[0] as u32, inside, outside);
            pointer
        };
        let rows = (0..self.rows()).map(|k| pointer(e, k)).collect();
        [image, first, at, inside].into_iter().for_each(|r| e.free_r(r));
        rows
    }
}

/// Writes output rows, for a given distance of pixels.
pub struct Rows<'a> {
    sliding: &'a Sliding,
    schedule: &'a Schedule,
    runs: Vec<Run>,
    pixels: [usize; 2],
    /// The window row that each input row meets.
    window: Vec<usize>,
    /// Maps of the output's layout.
    outputs: usize,
    cell: &'a dyn Cell,
}

impl<'a> Rows<'a> {
    /// A writer for maps with `pixels` bytes from one pixel to the next of the input and of the output; see [`Sliding::runs`].
    pub fn new(
        sliding: &'a Sliding,
        schedule: &'a Schedule,
        first_apart: bool,
        pixels: [usize; 2],
        cell: &'a dyn Cell,
    ) -> Self {
        let (runs, window) = (sliding.runs(schedule.tile, first_apart), (0..sliding.rows()).collect());
        Self { sliding, schedule, runs, pixels, window, outputs: 1, cell }
    }

    /// All channels of one output row. `bases` are the input rows of the window from the top, the rows of the outputs, and what
    /// [`Cell::moving`] gave, each with the size of its elements; `fixed` is what [`Cell::fixed`] gave.
    pub fn row(&self, e: &mut dyn Emitter, bases: &[(R, usize)], fixed: &[R]) {
        let block = e.r();
        e.set(block, 0);
        let walk = copies(e, bases);
        e.repeat(Count::Times(self.sliding.channels.div_ceil(self.schedule.block) as u32), &mut |e| {
            self.block(e, block, &walk, fixed);
            step(e, &walk, self.schedule.block);
            e.add_imm(block, block, 1);
        });
        free(e, walk);
        e.free_r(block);
    }

    /// Block `block` of channels of one output row, whose operands begin at `bases`.
    fn block(&self, e: &mut dyn Emitter, block: R, bases: &[(R, usize)], fixed: &[R]) {
        let (lanes, channels, size) = (e.lanes(Element::F32), self.sliding.channels, self.schedule.block);
        let (full, tail) = (channels / lanes, channels % lanes);
        let (vectors, most) = (e.r(), e.r());
        let per_block = size / lanes;
        let count = if channels <= size {
            Count::Times(full as u32)
        } else {
            e.mul_imm(vectors, block, -(per_block as i64));
            e.add_imm(vectors, vectors, full as i64);
            e.set(most, per_block as i64);
            e.min(vectors, vectors, most);
            Count::Register(vectors)
        };
        if full > 0 {
            self.runs.iter().for_each(|run| self.run(e, run, (bases, fixed), (count, lanes)));
        }
        if tail > 0 {
            let blocks = channels.div_ceil(size);
            e.set(most, blocks as i64 - 2);
            e.if_less(most, block, &mut |e| {
                let left = full - (blocks - 1) * per_block;
                let bases = copies(e, bases);
                step(e, &bases, left * lanes);
                for run in &self.runs {
                    self.run(e, run, (&bases, fixed), (Count::Times(1), tail));
                }
                free(e, bases);
            });
        }
        [vectors, most].into_iter().for_each(|r| e.free_r(r));
    }

    /// The segments of one run, one after the other, each for `count` vectors of channels.
    fn run(
        &self,
        e: &mut dyn Emitter,
        run: &Run,
        (bases, fixed): (&[(R, usize)], &[R]),
        (count, lanes): (Count, usize),
    ) {
        let (window, [input, output], stride) = (self.window.len(), self.pixels, self.sliding.strides[1]);
        let maps = window + self.outputs;
        let segment = |e: &mut dyn Emitter, bases: &[(R, usize)]| {
            let walk = copies(e, bases);
            let at: Vec<R> = walk.iter().map(|(r, _)| *r).collect();
            e.repeat(count, &mut |e| {
                let (rows, outputs, moving) = (&at[..window], &at[window..maps], &at[maps..]);
                let at = At { rows, window: &self.window, outputs, moving, fixed, pixels: self.pixels };
                self.cell.vector(e, run, &at, lanes);
                step(e, &walk, lanes);
            });
            free(e, walk);
        };
        if run.count == 1 {
            return segment(e, bases);
        }
        let walk = copies(e, bases);
        e.repeat(Count::Times(run.count as u32), &mut |e| {
            segment(e, &walk);
            let columns = if self.sliding.transposed { run.width / stride } else { run.width * stride };
            for (row, _) in &walk[..window] {
                e.add_imm(*row, *row, (columns * input) as i64);
            }
            for (map, _) in &walk[window..maps] {
                e.add_imm(*map, *map, (run.width * output) as i64);
            }
        });
        free(e, walk);
    }
}

/// Channels of which `bytes` each stay in the L1.
fn near(bytes: usize) -> usize {
    (Machine::NOMINAL.l1 / 8 * 5 / bytes.max(1)).max(16)
}

/// The largest even block of channels of which `bytes` each stay in the L1, a multiple of 16.
pub fn widest(channels: usize, bytes: usize) -> usize {
    let blocks = channels.div_ceil(near(bytes).max(64)).max(1);
    channels.div_ceil(blocks).next_multiple_of(16).max(16)
}

/// Fresh registers with the values of pointers, and the sizes that stand with them.
fn copies(e: &mut dyn Emitter, pointers: &[(R, usize)]) -> Vec<(R, usize)> {
    pointers.iter().map(|(pointer, size)| (copy(e, *pointer), *size)).collect()
}

/// Moves pointers on by `count` elements of the sizes that stand with them.
fn step(e: &mut dyn Emitter, pointers: &[(R, usize)], count: usize) {
    pointers.iter().for_each(|(pointer, size)| e.add_imm(*pointer, *pointer, (count * size) as i64));
}

fn free(e: &mut dyn Emitter, pointers: Vec<(R, usize)>) {
    pointers.into_iter().for_each(|(pointer, _)| e.free_r(pointer));
}

/// Taps and outputs that one work unit should cover, channel by channel.
const WORK: usize = (Machine::NOMINAL.flops_in(2_048) / 2) as usize;

/// A fresh register with the value of another.
pub fn copy(e: &mut dyn Emitter, from: R) -> R {
    let r = e.r();
    e.copy(r, from);
    r
}
