//! Dense and grouped convolution, and with it the matrix product: tiles of pixels by strips of output channels, taps over
//! row pointers.
//!
//! In: a channel-last image (or a row-major one with few channels), weights in panels of output channels ([`Conv::weight_packing`]), a bias. Out: a
//! channel-last image. Nothing is copied or padded: taps above and below the image are skipped by the range of kernel rows, taps left
//! and right of it are skipped pixel by pixel when the code is written.
//!
//! Transposed ([`Conv::transposed`]), it is the derivative of such a convolution by its input: the axes say how positions of the input lie
//! in the output. With a stride, the outputs of each residue by it are a convolution by their own taps.
//!
//! Bits: every output starts from its bias and takes its taps by (row, column), then input channels ascending, one FMA each; taps in the
//! padding take no part. A transposed one takes them by row and column of the input, ascending, then input channels.
//!
//! Of `i16` elements ([`in_pairs`]), neighbouring channels are multiplied in pairs, bias and result are sums of `i32`, and nothing but a [`Finish`] follows
//! them. Such sums wrap, so they are exact in any order.
//!
//! A 1x1 convolution without stride and padding is one row of `N H W` pixels ([`Conv::pointwise`]).

mod emit;
mod matrix;
mod pack;
mod phase;
mod schedule;
mod strip;
#[cfg(test)]
mod tests;
mod tile;

use super::{Access, Argument, Family, Finish, KernelName, LayerKind, Loops, Parts, work_units};
use crate::codegen::Emitter;
use crate::codegen::elements::{in_pairs, sum_type};
use crate::codegen::epilogue::Epilogue;
use crate::target::{Cost, Machine, Target};
pub(super) use emit::{Range, image, overlap};
use fornax_ir::types::DType;
pub use matrix::applies as multiplies_by_tiles;
pub use pack::{PANEL, padded, width};
use phase::Phase;
pub use schedule::{Schedule, Split};

/// One spatial axis of a convolution.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Axis {
    /// Extent of the input.
    pub input: usize,
    /// Extent of the output.
    pub output: usize,
    /// Taps.
    pub kernel: usize,
    /// Distance of two outputs in the input.
    pub stride: usize,
    /// Distance of two taps.
    pub dilation: usize,
    /// Padding before the input; what is taken off the output, of a transposed convolution.
    pub begin: usize,
}

impl Axis {
    /// An axis of `extent` under a single tap.
    pub fn plain(extent: usize) -> Self {
        Self { input: extent, output: extent, kernel: 1, stride: 1, dilation: 1, begin: 0 }
    }

    /// Rows and columns, as the first two shapes of a kernel's name say them.
    pub(super) fn read(name: &Parts<'_>) -> Option<[Self; 2]> {
        let [output, kernel, stride, begin] = ['o', 'k', 's', 'p'].map(|letter| name.pair(1, letter));
        let (output, kernel, stride, begin) = (output?, kernel?, stride?, begin?);
        let dilation = name.pair(1, 'd').unwrap_or([1, 1]);
        let axis = |at: usize, input: usize| Self {
            input,
            output: output[at],
            kernel: kernel[at],
            stride: stride[at],
            dilation: dilation[at],
            begin: begin[at],
        };
        Some([axis(0, name.one(0, 'h')?), axis(1, name.one(0, 'w')?)])
    }
}

/// Order of the input's elements.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Input {
    /// Channels innermost.
    ChannelsLast,
    /// Channels outside the image, as network inputs are; for few channels.
    RowMajor,
}

/// A convolution.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct Conv {
    /// Type of the elements of input, weights, residual and output; of `i16` the output's is `i32`.
    pub element: DType,
    /// Images.
    pub batch: usize,
    /// Groups; each takes its own channels to its own filters.
    pub groups: usize,
    /// Input channels of one group.
    pub channels: usize,
    /// Output channels of one group.
    pub filters: usize,
    /// Whether every image has weights of its own, one packed set after the other.
    pub weights_per_image: bool,
    /// Whether the windows slide over the output: each input is spread over its window.
    pub transposed: bool,
    /// Vertical axis.
    pub rows: Axis,
    /// Horizontal axis.
    pub columns: Axis,
    /// Order of the input.
    pub input: Input,
    /// What follows the bias.
    pub epilogue: Epilogue,
    /// What becomes of sums of `i32`.
    pub finish: Option<Finish>,
    /// Of `bf16`: how many channels make a run, whose products are summed in pairs before the sum takes them on; see `runs`.
    pub run: Option<usize>,
    /// Type of the elements of the result and of the epilogue's maps, if another than that of the input's: `bf16` of `f32`, or `f32` of `bf16`.
    pub stored: Option<DType>,
}

/// Most tiles of a row that may be written out one by one.
const MOST_TILES: usize = 16;
/// Most taps of a kernel row that are.
const WIDEST: usize = 16;
/// Most residues of a row that may be.
const MOST_PHASES: usize = 4;
/// Most channels of a run: what a row of a tile register holds.
const MOST_RUN: usize = 32;
/// Fewest channels of a run that is worth its own sums.
const LEAST_RUN: usize = 8;

/// The run of a sum over `channels` of `bf16`: their largest even divisor that a tile register holds. `None` where it is so small that
/// matrix units would idle.
///
/// A sum begins with the bias. To it each run of channels adds, tap by tap, the sum of two chains of fused multiply-adds that both begin
/// with +0: one over the run's channels with even numbers, one over those with odd ones. Subnormal numbers count as zero.
pub fn runs(channels: usize) -> Option<usize> {
    let even = (LEAST_RUN..=MOST_RUN).rev().filter(|run| run.is_multiple_of(2));
    even.into_iter().find(|run| channels.is_multiple_of(*run))
}

impl Conv {
    /// The product of a row-major `[pixels, channels]` matrix and weights `[channels, filters]`, of `f32`.
    pub fn pointwise(pixels: usize, channels: usize, filters: usize, epilogue: Epilogue) -> Self {
        Self {
            element: DType::F32,
            batch: 1,
            groups: 1,
            channels,
            filters,
            weights_per_image: false,
            transposed: false,
            rows: Axis::plain(1),
            columns: Axis::plain(pixels),
            input: Input::ChannelsLast,
            epilogue,
            finish: None,
            run: None,
            stored: None,
        }
    }

    /// The same convolution as one row of pixels, if every output depends on its own pixel only.
    pub fn flattened(self) -> Self {
        let own = |axis: &Axis| *axis == Axis::plain(axis.input);
        let alike = self.batch == 1 || !self.weights_per_image;
        if own(&self.rows) && own(&self.columns) && self.input == Input::ChannelsLast && alike {
            let pixels = self.batch * self.rows.output * self.columns.output;
            let (rows, columns) = (Axis::plain(1), Axis::plain(pixels));
            return Self { batch: 1, rows, columns, weights_per_image: false, ..self };
        }
        self
    }

    /// The same single row of pixels as `batch` images, each with weights of its own.
    pub fn per_image(self, batch: usize) -> Self {
        let columns = Axis::plain(self.columns.output / batch.max(1));
        if batch == 1 { self } else { Self { batch, columns, weights_per_image: true, ..self } }
    }

    /// Whether the code stays small: rows with many tiles of their own (wide padding) would be written out tile by tile, and so is
    /// each residue of a transposed one.
    pub fn is_compact(&self) -> bool {
        let axes = [&self.rows, &self.columns];
        let apart = |axis: &&Axis| axis.stride == 1 || axis.dilation == 1;
        if self.transposed && !(axes.iter().all(apart) && self.columns.stride <= MOST_PHASES) {
            return false;
        }
        let runs = self.phases().into_iter().flat_map(|phase| phase.runs(1));
        let own = runs.filter(|run| run.clipped).map(|run| run.tiles).sum::<usize>();
        own <= MOST_TILES && (self.columns.kernel <= WIDEST || own == 0 && !self.transposed)
    }

    /// Pixels of the output.
    fn pixels(&self) -> usize {
        self.batch * self.rows.output * self.columns.output
    }

    /// Weights of one filter.
    fn depth(&self) -> usize {
        self.rows.kernel * self.columns.kernel * self.channels
    }

    /// Input channels that a lane of packed weights holds.
    pub fn together(&self) -> usize {
        if in_pairs(self.element) || self.run.is_some() { 2 } else { 1 }
    }

    /// Lanes of packed weights of one tap and filter.
    fn steps(&self) -> usize {
        self.channels.div_ceil(self.together())
    }

    /// Lanes of packed weights of one filter.
    fn depth_in_steps(&self) -> usize {
        self.rows.kernel * self.columns.kernel * self.steps()
    }

    /// Bytes of a lane of packed weights.
    fn lane(&self) -> usize {
        self.element.size() * self.together()
    }

    /// Type of the result's elements.
    pub fn result(&self) -> DType {
        let own = if in_pairs(self.element) { sum_type(self.element) } else { self.element };
        let sums = self.stored.unwrap_or(own);
        self.finish.as_ref().map_or(sums, Finish::result)
    }

    /// Which argument the result is.
    fn result_argument(&self) -> usize {
        3 + self.epilogue.maps().count()
    }

    /// Elements from one pixel of the result to the next.
    fn pitch(&self) -> usize {
        self.finish.as_ref().map_or(self.groups * self.filters, Finish::pitch)
    }

    /// Whether there is a kernel for these elements: products of pairs are taken of channels that are neighbours, and nothing follows.
    pub fn takes_elements(&self) -> bool {
        let plain = !self.transposed && self.input == Input::ChannelsLast;
        let in_runs = |run: usize| {
            let whole = run > 0 && run.is_multiple_of(2) && self.channels.is_multiple_of(run);
            self.element == DType::BF16 && self.groups == 1 && plain && whole && run <= MOST_RUN
        };
        let stored =
            |stored: DType| matches!((self.element, stored), (DType::F32, DType::BF16) | (DType::BF16, DType::F32));
        let alone = plain && self.epilogue == Epilogue::default();
        (!in_pairs(self.element) || alone) && self.run.is_none_or(in_runs) && self.stored.is_none_or(stored)
    }

    /// Elements of the input.
    fn input_len(&self) -> usize {
        self.batch * self.groups * self.channels * self.rows.input * self.columns.input
    }

    /// Elements of one set of packed weights.
    fn weight_len(&self) -> usize {
        padded(self.filters) * self.groups * self.depth_in_steps() * self.together()
    }

    /// Whether the output is one row of tiles that are all alike.
    fn is_flat(&self) -> bool {
        let covered = |axis: &Axis| Phase::of(axis).covered();
        let one = self.batch * self.rows.output == 1 && self.rows.kernel == 1 && !self.transposed;
        one && covered(&self.rows) && covered(&self.columns)
    }
}

impl Family for Conv {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["conv"];

    fn kind(name: &KernelName) -> LayerKind {
        let pointwise = name.field('k') == Some(&[1, 1]);
        match (name.field('g').is_some(), pointwise) {
            (true, _) => LayerKind::Grouped,
            (false, true) if name.activated() => LayerKind::PointwiseActivation,
            (false, true) => LayerKind::Pointwise,
            _ if name.has("rows") => LayerKind::Stem,
            _ => LayerKind::Dense,
        }
    }

    fn kernel_name(&self) -> KernelName {
        let (r, c) = (&self.rows, &self.columns);
        let (dilations, groups, run) = ([r.dilation, c.dilation], [self.groups], [self.run.unwrap_or_default()]);
        let (o, k, s) = ([r.output, c.output], [r.kernel, c.kernel], [r.stride, c.stride]);
        let p = [r.begin, c.begin];
        let mut geometry: Vec<(char, &[usize])> = vec![('o', &o), ('k', &k), ('s', &s), ('p', &p)];
        if dilations != [1, 1] {
            geometry.push(('d', &dilations));
        }
        if self.groups != 1 {
            geometry.push(('g', &groups));
        }
        if self.run.is_some() {
            geometry.push(('r', &run));
        }
        let stored = |name: KernelName| match self.stored {
            Some(stored) => name.word(format!("to{stored}")),
            None => name,
        };
        let name = KernelName::new(self.element, "conv")
            .shape(&[
                ('n', &[self.batch]),
                ('c', &[self.channels]),
                ('h', &[r.input]),
                ('w', &[c.input]),
                ('m', &[self.filters]),
            ])
            .shape(&geometry)
            .word_if(self.weights_per_image, "each")
            .word_if(self.transposed, "transposed")
            .word_if(self.input == Input::RowMajor, "rows");
        let name = stored(name).bias(&self.epilogue);
        self.finish.iter().fold(name, |name, finish| name.word(finish.word()))
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let [rows, columns] = Axis::read(name)?;
        let read = Self {
            element: name.factors()?,
            batch: name.one(0, 'n')?,
            groups: name.one(1, 'g').unwrap_or(1),
            channels: name.one(0, 'c')?,
            filters: name.one(0, 'm')?,
            weights_per_image: name.has("each"),
            transposed: name.has("transposed"),
            rows,
            columns,
            input: if name.has("rows") { Input::RowMajor } else { Input::ChannelsLast },
            epilogue: (*name.epilogues.first()?).clone(),
            finish: None,
            run: name.one(1, 'r'),
            stored: [DType::F32, DType::BF16].into_iter().find(|stored| name.has(&format!("to{stored}"))),
        };
        Some(read).filter(Self::takes_elements)
    }

    fn arguments(&self) -> Vec<Argument> {
        let element = self.element;
        let output = self.pixels() * self.groups * self.filters;
        let sets = if self.weights_per_image { self.batch } else { 1 };
        let mut arguments = vec![
            Argument::read("x", element, self.input_len()),
            Argument::read("weights", element, sets * self.weight_len()),
            Argument::read("bias", sum_type(element), padded(self.filters) * self.groups),
        ];
        let maps = self.stored.unwrap_or(element);
        arguments.extend(self.epilogue.maps().map(|map| map.argument(maps, output)));
        let y = Argument::write("y", self.result(), output);
        let reads = arguments.get(3).is_some_and(|map| map.access == Access::Read);
        let y = if reads { y.in_place_of(3) } else { y };
        arguments.push(self.finish.as_ref().map_or(y, |finish| finish.written(output)));
        arguments.extend(self.finish.iter().flat_map(Finish::arguments));
        arguments
    }

    fn unspelled(&self) -> Option<&Loops> {
        self.finish.as_ref().map(Finish::loops)
    }

    fn finished(&self, finish: impl FnOnce([usize; 2]) -> Option<Finish>) -> Option<Self> {
        let sums = in_pairs(self.element) && self.finish.is_none();
        let finish = sums.then(|| finish([self.pixels(), self.groups * self.filters]))??;
        Some(Self { finish: Some(finish), ..self.clone() })
    }

    fn schedule(&self, target: &Target) -> Schedule {
        self.plan(target)
    }

    fn scratch(&self, schedule: &Schedule) -> usize {
        matrix::scratch(schedule)
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.pixels() * self.filters * self.groups == 0 { 0 } else { work_units(schedule.chunks) }
    }

    fn flops(&self) -> u64 {
        let met = self.batch * self.rows.input * self.columns.input;
        let pixels = if self.transposed { met } else { self.pixels() };
        2 * (pixels * self.groups * self.filters) as u64 * self.depth() as u64
    }

    /// That of its tiles and of what follows them.
    fn cost(&self, schedule: &Schedule, machine: &Machine) -> Cost {
        if schedule.tiles > 0 {
            return Cost::near(matrix::cycles(self, schedule, machine), self.bytes());
        }
        let tiles = self.slots(machine, schedule.pixels, schedule.vectors);
        let outputs = (self.pixels() * self.groups * self.filters) as u64;
        let finish = self.finish.as_ref().map_or(0.0, |finish| finish.slots(outputs, machine));
        Cost::near(machine.issued(tiles as f64 + self.epilogue.slots(outputs, machine) + finish), self.bytes())
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        match schedule.tiles {
            0 => emit::emit(self, schedule, e),
            _ => matrix::emit(self, schedule, e),
        }
    }
}
