//! The gradient of a dense convolution's weights: products of the operand and the gradient of the result, summed over pixels.
//!
//! In: `x`, channel-last or a row-major image; `dy`, channel-last; perhaps factors of each image's channels, `[N, C]`; perhaps a sum of
//! earlier images. Out: `[M, KH, KW, C]`, which is row-major
//! `[M, C, 1, 1]` for a single tap.
//!
//! Bits: the pixels of `dy` are cut into blocks, images ascending, whole rows of at most [`BLOCK`] pixels or pieces of one row. A block's sum
//! starts from zero and takes its pixels in ascending order, one FMA each; those that a tap leads into the padding take no part. It is
//! multiplied by the factor of its channel, if there are such, and added to what the blocks before it gave, the first to the earlier sum. So images in one run or in several give the same bits.
//!
//! A tile of weights stays in registers for a block: a vector of channels or of filters by some elements of the other, broadcast. Chunks
//! are parts of the weights, never of the pixels.

mod emit;
mod schedule;
#[cfg(test)]
mod tests;

use super::conv::{Axis, Input};
use super::{Argument, Family, KernelName, LayerKind, Parts, work_units};
use crate::codegen::Emitter;
use crate::target::{Cost, Machine, Target};
use fornax_ir::types::DType;
pub use schedule::Schedule;

/// Most pixels of a block.
pub const BLOCK: usize = 512;

/// The gradient of a convolution's weights.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct WeightGradient {
    /// Type of the elements of `x` and `dy`; sums are `f32`.
    pub element: DType,
    /// Images.
    pub batch: usize,
    /// Channels of `x`.
    pub channels: usize,
    /// Channels of `dy`.
    pub filters: usize,
    /// Vertical axis of the convolution.
    pub rows: Axis,
    /// Horizontal axis.
    pub columns: Axis,
    /// Order of `x`.
    pub input: Input,
    /// Whether channels have factors.
    pub gate: bool,
    /// Whether there is an earlier sum.
    pub sum: bool,
}

impl WeightGradient {
    /// The same with the pixels of an image as one row, if every pixel of `dy` meets its own of `x` only.
    pub fn flattened(self) -> Self {
        let own = |axis: &Axis| *axis == Axis::plain(axis.input);
        if own(&self.rows) && own(&self.columns) && self.input == Input::ChannelsLast {
            let pixels = self.rows.output * self.columns.output;
            return Self { rows: Axis::plain(1), columns: Axis::plain(pixels), ..self };
        }
        self
    }

    /// Rows and columns of a block.
    fn block(&self) -> [usize; 2] {
        let columns = self.columns.output.clamp(1, BLOCK);
        [(BLOCK / columns).clamp(1, self.rows.output.max(1)), columns]
    }

    /// Blocks of an image, by rows and by columns.
    fn blocks(&self) -> [usize; 2] {
        let [rows, columns] = self.block();
        [self.rows.output.div_ceil(rows), self.columns.output.div_ceil(columns)]
    }

    fn taps(&self) -> usize {
        self.rows.kernel * self.columns.kernel
    }

    /// Elements of the weights.
    fn weights(&self) -> usize {
        self.filters * self.channels * self.taps()
    }
}

impl Family for WeightGradient {
    type Schedule = Schedule;

    const WORDS: &'static [&'static str] = &["weight_gradient"];

    fn kind(_name: &KernelName) -> LayerKind {
        LayerKind::WeightGradient
    }

    fn kernel_name(&self) -> KernelName {
        let (r, c) = (&self.rows, &self.columns);
        let (o, k, s) = ([r.output, c.output], [r.kernel, c.kernel], [r.stride, c.stride]);
        let (p, d) = ([r.begin, c.begin], [r.dilation, c.dilation]);
        let mut geometry: Vec<(char, &[usize])> = vec![('o', &o), ('k', &k), ('s', &s), ('p', &p)];
        if d != [1, 1] {
            geometry.push(('d', &d));
        }
        let (input, channels) = ([r.input, c.input], [self.channels, self.filters]);
        KernelName::new(self.element, "weight_gradient")
            .shape(&[
                ('n', &[self.batch]),
                ('c', &channels[..1]),
                ('h', &input[..1]),
                ('w', &input[1..]),
                ('m', &channels[1..]),
            ])
            .shape(&geometry)
            .word_if(self.input == Input::RowMajor, "rows")
            .word_if(self.gate, "gated")
            .word_if(self.sum, "sum")
    }

    fn read(name: &Parts<'_>) -> Option<Self> {
        let [rows, columns] = Axis::read(name)?;
        Some(Self {
            element: name.element()?,
            batch: name.one(0, 'n')?,
            channels: name.one(0, 'c')?,
            filters: name.one(0, 'm')?,
            rows,
            columns,
            input: if name.has("rows") { Input::RowMajor } else { Input::ChannelsLast },
            gate: name.has("gated"),
            sum: name.has("sum"),
        })
    }

    fn arguments(&self) -> Vec<Argument> {
        let (rows, columns) = (&self.rows, &self.columns);
        let mut arguments = vec![
            Argument::read("x", self.element, self.batch * self.channels * rows.input * columns.input),
            Argument::read("dy", self.element, self.batch * self.filters * rows.output * columns.output),
        ];
        if self.gate {
            arguments.push(Argument::read("gate", DType::F32, self.batch * self.channels));
        }
        let y = Argument::write("y", DType::F32, self.weights());
        if self.sum {
            let y = y.in_place_of(arguments.len());
            arguments.push(Argument::read("sum", DType::F32, self.weights()));
            arguments.push(y);
        } else {
            arguments.push(y);
        }
        arguments
    }

    fn schedule(&self, target: &Target) -> Schedule {
        self.plan(target.lanes(), target.vector_registers())
    }

    fn chunks(&self, schedule: &Schedule) -> u32 {
        if self.weights() == 0 { 0 } else { work_units(self.units(schedule).div_ceil(schedule.units)) }
    }

    fn flops(&self) -> u64 {
        2 * (self.batch * self.rows.output * self.columns.output) as u64 * self.weights() as u64
    }

    /// That of its tiles.
    fn cost(&self, schedule: &Schedule, machine: &Machine) -> Cost {
        let slots = self.slots(machine.lanes, schedule.lanes, [schedule.vectors, schedule.elements]);
        Cost::near(slots as f64 / machine.fma_per_cycle as f64, self.bytes())
    }

    fn emit(&self, schedule: &Schedule, e: &mut dyn Emitter) {
        emit::emit(self, schedule, e);
    }
}
