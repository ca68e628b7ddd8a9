//! Parameters, multiply-accumulates and shapes of a network.
//!
//! In: an [`Architecture`] and the side of its input. Out: [`Counts`]. Multiply-accumulates are those of convolutions, of the
//! two convolutions of squeeze-and-excite and of the classifier, for one image; twice as many are floating-point operations.

use crate::architecture::{Architecture, Block, BlockKind, Head};
use crate::rounding::split_channels;

/// Multiply-accumulates by kind of layer.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Macs {
    /// Dense and pointwise convolutions.
    pub conv: u64,
    /// Depthwise convolutions.
    pub depthwise: u64,
    /// Convolutions of squeeze-and-excite.
    pub squeeze_excite: u64,
    /// Classifier.
    pub linear: u64,
}

impl Macs {
    /// All of them.
    pub fn total(&self) -> u64 {
        [self.depthwise, self.squeeze_excite, self.linear].into_iter().fold(self.conv, u64::saturating_add)
    }
}

/// Channels, rows and columns.
pub type Shape = [usize; 3];

/// Shapes on the way through a network, channels first.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Shapes {
    /// After the first convolution.
    pub stem: Shape,
    /// After each stage.
    pub stages: Vec<Shape>,
    /// After the head's convolution, if it stands before the pooling.
    pub head: Option<Shape>,
    /// After the pooling: channels.
    pub pooled: usize,
    /// After the classifier: classes.
    pub logits: usize,
}

/// Size of a network.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Counts {
    /// Trainable parameters.
    pub params: u64,
    /// Those of the classifier among them.
    pub classifier_params: u64,
    /// Running means and variances, which are not among the parameters.
    pub running_stats: u64,
    /// Multiply-accumulates of one image.
    pub macs: Macs,
    /// Convolutions, those of squeeze-and-excite and of each group of channels included.
    pub convs: usize,
    /// Batch norms.
    pub batch_norms: usize,
    /// Shapes.
    pub shapes: Shapes,
}

/// Counts an architecture at a side, which need not be its own.
pub fn count(architecture: &Architecture, side: usize) -> Counts {
    let mut walk = Walk { counts: Counts::default(), side };
    let stem = &architecture.stem;
    walk.conv(3, stem.output, stem.kernel, stem.stride);
    walk.norm(stem.output);
    walk.counts.shapes.stem = [stem.output, walk.side, walk.side];
    let mut channels = stem.output;
    for stage in &architecture.stages {
        for block in stage {
            walk.block(block);
            channels = block.output;
        }
        walk.counts.shapes.stages.push([channels, walk.side, walk.side]);
    }
    match architecture.head {
        Head::BeforePool { output, .. } => {
            walk.conv(channels, output, 1, 1);
            walk.norm(output);
            walk.counts.shapes.head = Some([output, walk.side, walk.side]);
            walk.counts.shapes.pooled = output;
        }
        Head::AfterPool { output, bias, .. } => {
            walk.side = 1;
            walk.conv(channels, output, 1, 1);
            walk.params(if bias { output as u64 } else { 0 });
            walk.counts.shapes.pooled = channels;
        }
    }
    walk.classifier(architecture.head.output(), architecture.classes);
    walk.counts
}

/// Counts so far and the side of the map.
struct Walk {
    counts: Counts,
    side: usize,
}

impl Walk {
    fn params(&mut self, params: u64) {
        self.counts.params = self.counts.params.saturating_add(params);
    }

    /// Adds a convolution and gives its multiply-accumulates. Weights fit 64 bits: 65536 channels each way, sides of 31.
    fn layer(&mut self, weights: u64) -> u64 {
        self.params(weights);
        self.counts.convs += 1;
        weights.saturating_mul((self.side * self.side) as u64)
    }

    fn conv(&mut self, input: usize, output: usize, kernel: usize, stride: usize) {
        self.side = self.side.div_ceil(stride);
        let macs = self.layer((kernel * kernel) as u64 * input as u64 * output as u64);
        self.counts.macs.conv = self.counts.macs.conv.saturating_add(macs);
    }

    fn pointwise(&mut self, input: usize, output: usize, groups: usize) {
        for (input, output) in split_channels(input, groups).into_iter().zip(split_channels(output, groups)) {
            self.conv(input, output, 1, 1);
        }
        self.norm(output);
    }

    fn norm(&mut self, channels: usize) {
        self.params(2 * channels as u64);
        self.counts.running_stats += 2 * channels as u64;
        self.counts.batch_norms += 1;
    }

    fn depthwise(&mut self, block: &Block) {
        self.side = self.side.div_ceil(block.stride);
        for (channels, kernel) in split_channels(block.expanded, block.kernels.len()).into_iter().zip(&block.kernels) {
            let macs = self.layer((kernel * kernel * channels) as u64);
            self.counts.macs.depthwise = self.counts.macs.depthwise.saturating_add(macs);
        }
        self.norm(block.expanded);
    }

    fn squeeze_excite(&mut self, block: &Block) {
        let Some(squeeze) = &block.squeeze_excite else { return };
        let weights = block.expanded as u64 * squeeze.reduced as u64;
        self.params(2 * weights + (squeeze.reduced + block.expanded) as u64);
        self.counts.convs += 2;
        self.counts.macs.squeeze_excite = self.counts.macs.squeeze_excite.saturating_add(2 * weights);
    }

    fn block(&mut self, block: &Block) {
        let kernel = block.kernels.first().copied().unwrap_or(1);
        match block.kind {
            BlockKind::MbConv => {
                self.pointwise(block.input, block.expanded, block.expand_split);
                self.depthwise(block);
            }
            BlockKind::DepthwiseSeparable => self.depthwise(block),
            BlockKind::FusedMbConv | BlockKind::ConvBnAct => {
                self.conv(block.input, block.expanded, kernel, block.stride);
                self.norm(block.expanded);
            }
        }
        if block.kind != BlockKind::ConvBnAct {
            self.squeeze_excite(block);
            self.pointwise(block.expanded, block.output, block.project_split);
        }
    }

    fn classifier(&mut self, features: usize, classes: usize) {
        let weights = features as u64 * classes as u64;
        self.counts.shapes.logits = classes;
        self.counts.macs.linear = weights;
        self.counts.classifier_params = weights + classes as u64;
        self.params(weights + classes as u64);
    }
}
