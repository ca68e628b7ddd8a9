//! Whether a convolution runs in Winograd form, and with which tile: a cost of shapes alone.
//!
//! The tile decides how results round, so the choice knows no target, no thread count and no batch: it compares one image on the
//! nominal machine. A cost is arithmetic or memory traffic, whichever is more, plus half of the other ([`overlapped`]), in units of one floating-point operation at the full rate. Transformed weights are 1.8 (2x2) or 4 (4x4) times as many as taps, so small maps
//! with many channels, which are bound by their weights, gain less or lose.

use super::{Tile, Winograd};
use crate::codegen::elements::{SINGLE, widens};
use crate::kernels::{Conv, conv};
use crate::target::{Machine, overlapped};

/// Operations at the full rate in the time that a byte takes from the LLC.
const PER_BYTE: f64 = Machine::NOMINAL.flops_per_byte();
/// Weights, bytes, that stay near from block to block.
const NEAR: f64 = Machine::NOMINAL.l2 as f64 / 2.0;
/// Transformed input, bytes, that a block may take.
const BLOCK: f64 = Machine::NOMINAL.l2 as f64 * 3.0 / 4.0;
/// Gain that is worth the larger weights and the larger error.
const LEAST_GAIN: f64 = 1.15;
/// Fewest input and output channels: vectors have up to 16 lanes.
const LEAST_CHANNELS: usize = 16;

/// The Winograd form of a convolution.
#[derive(Clone, PartialEq, Debug)]
pub struct Choice {
    /// The best of the tiles.
    pub spec: Winograd,
    /// Predicted cost of the direct form over that of this one.
    pub gain: f64,
}

impl Choice {
    /// Whether it pays.
    pub fn pays(&self) -> bool {
        self.gain >= LEAST_GAIN
    }
}

/// The better Winograd form of a convolution; `None` unless it is dense, 3x3, without stride and dilation, channel-last, of floating-point elements, and has
/// 16 channels or more on both sides.
pub fn choose(conv: &Conv) -> Option<Choice> {
    let axes = [&conv.rows, &conv.columns];
    let plain = axes.iter().all(|axis| (axis.kernel, axis.stride, axis.dilation) == (3, 1, 1) && axis.output > 0);
    let dense =
        conv.groups == 1 && !conv.weights_per_image && !conv.transposed && conv.input == conv::Input::ChannelsLast;
    if !plain || !dense || !widens(conv.element) || conv.channels.min(conv.filters) < LEAST_CHANNELS {
        return None;
    }
    let form = |tile: Tile| {
        let spec = Winograd {
            element: conv.element,
            batch: conv.batch,
            channels: conv.channels,
            filters: conv.filters,
            input: axes.map(|axis| axis.input),
            output: axes.map(|axis| axis.output),
            begin: axes.map(|axis| axis.begin),
            tile,
            epilogue: conv.epilogue.clone(),
        };
        let gain = spec.direct_operations() / spec.operations();
        Choice { spec, gain }
    };
    let (two, four) = (form(Tile::Two), form(Tile::Four));
    Some(if four.gain >= two.gain { four } else { two })
}

/// Arithmetic and traffic as one cost.
fn combined(operations: f64, bytes: f64) -> f64 {
    overlapped(operations, PER_BYTE * bytes)
}

impl Winograd {
    /// Bytes of one image's input and output.
    fn map_bytes(&self) -> f64 {
        let pixels = |[height, width]: [usize; 2]| (height * width) as f64;
        self.element.size() as f64
            * (pixels(self.input) * self.channels as f64 + pixels(self.output) * self.filters as f64)
    }

    /// Cost of the direct form of one image: every product, every weight once.
    fn direct_operations(&self) -> f64 {
        let weights = 9.0 * self.channels as f64 * self.filters as f64;
        let pixels = (self.output[0] * self.output[1]) as f64;
        combined(2.0 * weights * pixels, self.element.size() as f64 * weights + self.map_bytes())
    }

    /// Cost of this form of one image.
    pub(super) fn operations(&self) -> f64 {
        let (channels, filters, positions) = (self.channels as f64, self.filters as f64, self.tile.positions() as f64);
        let tiles = self.grid().iter().product::<usize>() as f64;
        // The transforms of one channel of a tile in operations at the full rate, from counting instructions: they are loads and stores
        // for the greater part.
        let (input, output) = match self.tile {
            Tile::Two => (160.0, 120.0),
            Tile::Four => (480.0, 400.0),
        };
        let operations = tiles * (2.0 * positions * channels * filters + input * channels + output * filters);
        let single = SINGLE as f64;
        let weights = single * positions * channels * filters;
        let in_block = (BLOCK / (single * positions * channels)).max(1.0).floor();
        let passes = if weights <= NEAR { 1.0 } else { (tiles / in_block).ceil() };
        combined(operations, weights * passes + self.map_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codegen::epilogue::Epilogue;
    use crate::kernels::conv::Axis;

    fn same(extent: usize, channels: usize, filters: usize) -> Conv {
        let axis = Axis { input: extent, output: extent, kernel: 3, stride: 1, dilation: 1, begin: 1 };
        Conv { rows: axis, columns: axis, ..Conv::pointwise(1, channels, filters, Epilogue::default()) }
    }

    #[test]
    fn the_layers_of_known_networks() {
        use Tile::{Four, Two};
        for (extent, channels, filters, tile) in [
            // ResNet-50.
            (56, 64, 64, Some(Four)),
            (28, 128, 128, Some(Four)),
            (14, 256, 256, Some(Four)),
            (7, 512, 512, Some(Two)),
            // EfficientNetV2-S at 384.
            (192, 24, 24, Some(Four)),
            (96, 48, 192, Some(Four)),
            (48, 64, 256, Some(Four)),
            // Too few pixels for the weights.
            (4, 512, 512, None),
            (1, 64, 64, None),
        ] {
            let choice = choose(&same(extent, channels, filters)).unwrap();
            assert_eq!(choice.pays().then_some(choice.spec.tile), tile, "{extent} {channels} {filters}");
        }
    }

    #[test]
    fn the_batch_does_not_matter() {
        for (extent, channels) in [(7, 512), (14, 256), (3, 64), (20, 16)] {
            let alone = choose(&same(extent, channels, channels)).unwrap();
            let batch = choose(&Conv { batch: 8, ..same(extent, channels, channels) }).unwrap();
            assert_eq!((batch.spec.tile, batch.gain), (alone.spec.tile, alone.gain));
        }
    }

    #[test]
    fn other_convolutions_have_no_such_form() {
        let conv = same(20, 32, 32);
        let with = |change: fn(&mut Conv)| {
            let mut conv = conv.clone();
            change(&mut conv);
            choose(&conv).is_none()
        };
        assert!(choose(&conv).is_some());
        assert!(with(|c| c.groups = 2));
        assert!(with(|c| c.rows.stride = 2));
        assert!(with(|c| c.columns.dilation = 2));
        assert!(with(|c| c.rows.kernel = 1));
        assert!(with(|c| c.channels = 15));
        assert!(with(|c| c.filters = 8));
        assert!(with(|c| c.input = conv::Input::RowMajor));
        assert!(with(|c| c.weights_per_image = true));
    }
}
