//! ResNet-50 and ResNet-18 as torchvision spells them and the TorchScript exporter writes it: batch norms as nodes, the stride of a block in its 3x3
//! convolution. Every initialiser is drawn by our own generator, so that the bytes are the same on every machine.

use fornax_ir::types::random_values;

use super::onnx::{Value, Writer};

/// Channels inside the blocks of each stage.
const CHANNELS: [usize; 4] = [64, 128, 256, 512];

/// A kind of block.
#[derive(Clone, Copy)]
enum Block {
    /// Two convolutions of 3x3.
    Basic,
    /// One of 3x3 between two of 1x1.
    Bottleneck,
}

impl Block {
    /// Channels that a block ends in for each inside.
    fn growth(self) -> usize {
        match self {
            Self::Basic => 1,
            Self::Bottleneck => 4,
        }
    }
}

/// How a convolution moves over its input: side of the window, stride.
type Window = (usize, usize);

struct Net {
    out: Writer,
    seed: u64,
}

/// The bytes of a ResNet-50 of `side` x `side` pixels and `classes` classes.
pub fn resnet50(side: usize, classes: usize) -> Vec<u8> {
    resnet("resnet50", [3, 4, 6, 3], Block::Bottleneck, side, classes)
}

/// The bytes of a ResNet-18 of `side` x `side` pixels and `classes` classes.
pub fn resnet18(side: usize, classes: usize) -> Vec<u8> {
    resnet("resnet18", [2; 4], Block::Basic, side, classes)
}

fn resnet(name: &str, blocks: [usize; 4], kind: Block, side: usize, classes: usize) -> Vec<u8> {
    let mut net = Net { out: Writer::new(name, 17), seed: 0 };
    let (image, classes) = (side as i64, classes as i64);
    net.out.input("input", &[1, 3, image, image]);
    let stem = net.conv(["conv1", "bn1"], "input", (3, 64), (7, 2), 1.0);
    let stem = net.out.node("Relu", &[&stem], "relu", &[]);
    let window =
        [("kernel_shape", Value::Ints(&[3; 2])), ("strides", Value::Ints(&[2; 2])), ("pads", Value::Ints(&[1; 4]))];
    let mut x = net.out.node("MaxPool", &[&stem], "maxpool", &window);
    let mut channels = 64;
    for (stage, (blocks, inner)) in blocks.into_iter().zip(CHANNELS).enumerate() {
        for block in 0..blocks {
            let stride = if stage > 0 && block == 0 { 2 } else { 1 };
            x = net.block(&format!("layer{}.{block}", stage + 1), &x, (channels, inner, stride), kind);
            channels = kind.growth() * inner;
        }
    }
    let mean = net.out.node("GlobalAveragePool", &[&x], "avgpool", &[]);
    let flat = net.out.node("Flatten", &[&mean], "flat", &[("axis", Value::Int(1))]);
    net.random("fc.weight", &[classes, channels as i64], 0.0, (3.0 / channels as f32).sqrt());
    net.random("fc.bias", &[classes], 0.0, 0.1);
    net.out.node("Gemm", &[&flat, "fc.weight", "fc.bias"], "logits", &[("transB", Value::Int(1))]);
    net.out.output("logits", &[1, classes]);
    net.out.finish()
}

impl Net {
    /// Values within `spread` of `middle`, another draw for every initialiser.
    fn random(&mut self, name: &str, dims: &[i64], middle: f32, spread: f32) {
        self.seed += 1;
        let count = dims.iter().product::<i64>() as usize;
        let values: Vec<f32> = random_values(self.seed, count).iter().map(|v| middle + spread * v).collect();
        self.out.weight(name, dims, &values);
    }

    /// Convolution and batch norm. The weights have variance 2 / fan_in, which keeps that of what a ReLU left; scales lie around
    /// `gain`, variances around 1.
    fn conv(
        &mut self,
        [conv, norm]: [&str; 2],
        x: &str,
        (from, to): (usize, usize),
        (k, stride): Window,
        gain: f32,
    ) -> String {
        let (weight, side, channels) = (format!("{conv}.weight"), k as i64, to as i64);
        self.random(&weight, &[channels, from as i64, side, side], 0.0, (6.0 / (from * k * k) as f32).sqrt());
        let attributes = [
            ("kernel_shape", Value::Ints(&[side; 2])),
            ("strides", Value::Ints(&[stride as i64; 2])),
            ("pads", Value::Ints(&[side / 2; 4])),
        ];
        let y = self.out.node("Conv", &[x, &weight], &format!("{conv}.y"), &attributes);
        let draws =
            [("weight", gain, 0.2 * gain), ("bias", 0.0, 0.1), ("running_mean", 0.0, 0.1), ("running_var", 1.0, 0.5)];
        let names = draws.map(|(part, ..)| format!("{norm}.{part}"));
        for (name, (_, middle, spread)) in names.iter().zip(draws) {
            self.random(name, &[channels], middle, spread);
        }
        let operands: Vec<&str> = std::iter::once(y.as_str()).chain(names.iter().map(String::as_str)).collect();
        self.out.node("BatchNormalization", &operands, &format!("{norm}.y"), &[("epsilon", Value::Float(1e-5))])
    }

    fn relu(&mut self, x: &str) -> String {
        self.out.node("Relu", &[x], &format!("{x}.relu"), &[])
    }

    /// A block. Its branch is damped, so that many additions in a row do not grow without bound.
    fn block(&mut self, name: &str, x: &str, (from, inner, stride): (usize, usize, usize), kind: Block) -> String {
        let to = kind.growth() * inner;
        let part = |kind: &str, i: usize| format!("{name}.{kind}{i}");
        let layers = match kind {
            Block::Basic => vec![((from, inner), (3, stride)), ((inner, inner), (3, 1))],
            Block::Bottleneck => vec![((from, inner), (1, 1)), ((inner, inner), (3, stride)), ((inner, to), (1, 1))],
        };
        let (mut y, count) = (x.to_string(), layers.len());
        for (i, (shape, window)) in (1..).zip(layers) {
            let gain = if i == count { 0.5 } else { 1.0 };
            y = self.conv([&part("conv", i), &part("bn", i)], &y, shape, window, gain);
            if i < count {
                y = self.relu(&y);
            }
        }
        let shortcut = if from == to && stride == 1 {
            x.to_string()
        } else {
            let parts = [0, 1].map(|i| format!("{name}.downsample.{i}"));
            self.conv([&parts[0], &parts[1]], x, (from, to), (1, stride), 1.0)
        };
        let sum = self.out.node("Add", &[&y, &shortcut], &format!("{name}.sum"), &[]);
        self.relu(&sum)
    }
}
