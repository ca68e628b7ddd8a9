//! Parameters, multiply-accumulates and shapes of a network.
//!
//! In: an [`Architecture`] and the side of its input. Out: [`Counts`]. Multiply-accumulates are those of convolutions, of the
//! two convolutions of squeeze-and-excite and of the classifier, for one image; twice as many are floating-point operations.

use crate::architecture::{Architecture, BlockKind, Head};
use crate::layers::{Layer, Part, layers};

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
    let mut counts = Counts::default();
    counts.shapes.stages = vec![Shape::default(); architecture.stages.len()];
    let mut side = side;
    for layer in layers(architecture) {
        side = side.div_ceil(layer.stride);
        if layer.part == Part::Head && matches!(architecture.head, Head::AfterPool { .. }) {
            side = 1;
        }
        let kind = layer.block.map(|index| architecture.stages[index.stage][index.block].kind);
        let depthwise = matches!(kind, Some(BlockKind::MbConv | BlockKind::DepthwiseSeparable));
        counts.layer(&layer, side, depthwise);
        let output = layer.pieces.iter().map(|piece| piece.output).sum();
        counts.shapes.after(&layer, [output, side, side], &architecture.head);
    }
    counts
}

impl Counts {
    /// Adds a layer whose result has `side` rows and columns; it stands in a block whose spatial convolution is `depthwise` or not.
    fn layer(&mut self, layer: &Layer, side: usize, depthwise: bool) {
        let add = |sum: &mut u64, n: u64| *sum = sum.saturating_add(n);
        for piece in &layer.pieces {
            let weights = layer.weight(piece).numel() as u64;
            let params = weights.saturating_add(layer.bias(piece).map_or(0, |bias| bias.numel() as u64));
            let pixels = (side as u64).saturating_mul(side as u64);
            add(&mut self.params, params);
            match layer.part {
                Part::Classifier => {
                    self.macs.linear = weights;
                    self.classifier_params = params;
                    continue;
                }
                // Of one pixel, the mean of all.
                Part::SqueezeReduce | Part::SqueezeExpand => add(&mut self.macs.squeeze_excite, weights),
                Part::Spatial if depthwise => add(&mut self.macs.depthwise, weights.saturating_mul(pixels)),
                _ => add(&mut self.macs.conv, weights.saturating_mul(pixels)),
            }
            self.convs += 1;
        }
        if let Some([gamma, beta, mean, variance]) = layer.norm() {
            add(&mut self.params, (gamma.numel() + beta.numel()) as u64);
            self.running_stats += (mean.numel() + variance.numel()) as u64;
            self.batch_norms += 1;
        }
    }
}

impl Shapes {
    /// Notes the shape of what `layer` makes.
    fn after(&mut self, layer: &Layer, shape: Shape, head: &Head) {
        match (layer.part, layer.block, head) {
            (Part::Stem, ..) => {
                self.stem = shape;
                self.stages.fill(shape);
            }
            // What follows starts from here.
            (Part::Spatial | Part::Project, Some(index), _) => self.stages[index.stage..].fill(shape),
            (Part::Head, _, Head::BeforePool { .. }) => {
                self.head = Some(shape);
                self.pooled = shape[0];
            }
            (Part::Head, ..) => self.pooled = layer.pieces.iter().map(|piece| piece.input).sum(),
            (Part::Classifier, ..) => self.logits = shape[0],
            _ => {}
        }
    }
}
