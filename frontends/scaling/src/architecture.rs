//! One network, resolved: every channel count, kernel and stride, in the order of execution.
//!
//! In: what [`crate::spec`] resolves. Out: what counting, building and weight loading read; they decide nothing themselves.

/// Activation function.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Activation {
    /// `max(x, 0)`.
    Relu,
    /// `min(max(x, 0), 6)`.
    Relu6,
    /// `x sigmoid(x)`, also called swish.
    Silu,
    /// `x min(max(x + 3, 0), 6) / 6`.
    HardSwish,
}

/// What squeeze-and-excite gates with.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Gate {
    /// `1 / (1 + exp(-x))`.
    Sigmoid,
    /// `min(max(x + 3, 0), 6) / 6`.
    HardSigmoid,
}

/// How a strided convolution is padded. Both give `ceil(n / stride)` outputs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// `(k - 1) / 2` on every side.
    Symmetric,
    /// TensorFlow's SAME, computed from the size: the odd pixel goes to the bottom and the right.
    Same,
}

/// Squeeze-and-excite: mean over the map, 1x1 with bias, activation, 1x1 with bias, gate.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SqueezeExcite {
    /// Channels between the two convolutions.
    pub reduced: usize,
    /// Between them.
    pub activation: Activation,
    /// After them.
    pub gate: Gate,
}

/// Form of a block.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BlockKind {
    /// 1x1 expansion, depthwise convolution, squeeze-and-excite, 1x1 projection; a batch norm after each, an activation after the first two.
    MbConv,
    /// [`Self::MbConv`] without the expansion.
    DepthwiseSeparable,
    /// Dense expansion with kernel and stride, squeeze-and-excite, 1x1 projection.
    FusedMbConv,
    /// One dense convolution, batch norm, activation; the shortcut is added after the activation.
    ConvBnAct,
}

/// A block.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Block {
    /// Form.
    pub kind: BlockKind,
    /// Input channels.
    pub input: usize,
    /// Output channels.
    pub output: usize,
    /// Channels of the depthwise or fused convolution's output.
    pub expanded: usize,
    /// Squeeze-and-excite on the expanded channels.
    pub squeeze_excite: Option<SqueezeExcite>,
    /// Sides of the kernels. Several split the channels of a depthwise convolution (MixNet): equal parts, the remainder to the first.
    pub kernels: Vec<usize>,
    /// Stride of that convolution.
    pub stride: usize,
    /// Whether the input is added to the output.
    pub skip: bool,
    /// Activation.
    pub activation: Activation,
    /// Groups of channels that the 1x1 expansion is split into (MixNet), 1 for a plain one.
    pub expand_split: usize,
    /// Groups of channels that the 1x1 projection is split into, 1 for a plain one.
    pub project_split: usize,
}

/// A convolution with batch norm and activation.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ConvNorm {
    /// Side of the kernel.
    pub kernel: usize,
    /// Stride.
    pub stride: usize,
    /// Output channels.
    pub output: usize,
    /// Activation.
    pub activation: Activation,
}

/// What stands between the last block and the classifier.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Head {
    /// 1x1 convolution, batch norm, activation, then the pooling.
    BeforePool {
        /// Output channels.
        output: usize,
        /// Activation.
        activation: Activation,
    },
    /// The pooling, then a 1x1 convolution without batch norm, activation (MobileNetV3).
    AfterPool {
        /// Output channels.
        output: usize,
        /// Whether the convolution has a bias.
        bias: bool,
        /// Activation.
        activation: Activation,
    },
}

impl Head {
    /// Features that the classifier reads.
    pub fn output(&self) -> usize {
        match self {
            Self::BeforePool { output, .. } | Self::AfterPool { output, .. } => *output,
        }
    }
}

/// A network.
#[derive(Clone, PartialEq, Debug)]
pub struct Architecture {
    /// Name: of the preset or the spec.
    pub name: String,
    /// Family, for example `efficientnet`.
    pub family: String,
    /// Side of the square input, pixels.
    pub side: usize,
    /// Channels of the input: 3 of colours, 1 of grey.
    pub channels: usize,
    /// First convolution.
    pub stem: ConvNorm,
    /// Blocks by stage.
    pub stages: Vec<Vec<Block>>,
    /// End.
    pub head: Head,
    /// Outputs of the classifier.
    pub classes: usize,
    /// Padding of strided convolutions.
    pub padding: Padding,
    /// Added to the variance in every batch norm.
    pub eps: f64,
    /// Share of features dropped before the classifier while training.
    pub dropout: f64,
}

impl Architecture {
    /// All blocks, in order.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.stages.iter().flatten()
    }
}
