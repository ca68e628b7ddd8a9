//! EfficientNet-B0 as both PyTorch exporters write it, with seeded weights.
//!
//! TorchScript keeps batch norms as nodes, pools with GlobalAveragePool and flattens; the dynamo exporter folds batch norms, leaves
//! zero biases out, pools with ReduceMean over an axes input and reshapes. SiLU is Sigmoid and Mul in both.

use fornax_ir::types::random_values;

use super::onnx::{Value, Writer};

/// Whose spelling.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exporter {
    TorchScript,
    Dynamo,
}

/// How convolutions with stride 2 are padded.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Padding {
    /// `(k - 1) / 2` on all sides.
    Symmetric,
    /// TensorFlow's SAME: explicit pads from TorchScript, `auto_pad` from dynamo.
    Same,
}

/// Stages of B0: repeats, kernel, stride, expansion, output channels.
const STAGES: [(usize, usize, usize, usize, usize); 7] = [
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
];

struct Net {
    out: Writer,
    exporter: Exporter,
    padding: Padding,
    seed: u64,
}

/// The bytes of an EfficientNet-B0 of `side` x `side` pixels and `classes` classes.
pub fn b0(exporter: Exporter, padding: Padding, side: usize, classes: usize) -> Vec<u8> {
    b0_seeded(1, exporter, padding, side, classes)
}

/// [`b0`] with other weights for every `seed`.
pub fn b0_seeded(seed: u64, exporter: Exporter, padding: Padding, side: usize, classes: usize) -> Vec<u8> {
    let opset = if exporter == Exporter::Dynamo { 18 } else { 17 };
    let mut net = Net { out: Writer::new("b0", opset), exporter, padding, seed };
    net.out.input("image", &[1, 3, side as i64, side as i64]);
    net.out.integers("pixel_axes", &[-1, -2]);
    let (mut x, mut size) = net.conv("stem", "image", (3, 32), 3, 2, 1, side);
    x = net.silu("stem", &x);
    let mut channels = 32;
    for (stage, (repeats, kernel, stride, expand, out)) in STAGES.into_iter().enumerate() {
        for block in 0..repeats {
            let name = format!("blocks.{stage}.{block}");
            let stride = if block == 0 { stride } else { 1 };
            (x, size) = net.block(&name, &x, (channels, out), kernel, stride, expand, size);
            channels = out;
        }
    }
    (x, _) = net.conv("head", &x, (320, 1280), 1, 1, 1, size);
    x = net.silu("head", &x);
    x = net.mean("pool", &x);
    x = match exporter {
        Exporter::TorchScript => net.out.node("Flatten", &[&x], "flat", &[("axis", Value::Int(1))]),
        Exporter::Dynamo => {
            net.out.integers("flat_shape", &[1, 1280]);
            net.out.node("Reshape", &[&x, "flat_shape"], "flat", &[("allowzero", Value::Int(1))])
        }
    };
    net.random("classifier.weight", &[classes as i64, 1280], 1280);
    net.random("classifier.bias", &[classes as i64], 1);
    net.out.node("Gemm", &[&x, "classifier.weight", "classifier.bias"], "logits", &[("transB", Value::Int(1))]);
    net.out.output("logits", &[1, classes as i64]);
    net.out.finish()
}

impl Net {
    /// Seeded weights whose products keep the size of their operands: uniform with variance 2 / fan_in.
    fn random(&mut self, name: &str, dims: &[i64], fan_in: usize) {
        let scale = (6.0 / fan_in as f32).sqrt().min(0.5);
        self.seed += 1;
        let count = dims.iter().product::<i64>() as usize;
        let values: Vec<f32> = random_values(self.seed, count).iter().map(|v| v * scale).collect();
        self.out.weight(name, dims, &values);
    }

    /// Convolution and batch norm; returns the result and its side.
    #[allow(clippy::too_many_arguments, reason = "each is a parameter of the layer")]
    fn conv(
        &mut self,
        name: &str,
        x: &str,
        (from, to): (usize, usize),
        k: usize,
        stride: usize,
        group: usize,
        side: usize,
    ) -> (String, usize) {
        let per_group = from / group;
        let weight = format!("{name}.weight");
        self.random(&weight, &[to as i64, per_group as i64, k as i64, k as i64], per_group * k * k);
        let out_side = side.div_ceil(stride);
        let total = ((out_side - 1) * stride + k).saturating_sub(side) as i64;
        let (before, after) = match self.padding {
            Padding::Same => (total / 2, total - total / 2),
            Padding::Symmetric => ((k as i64 - 1) / 2, (k as i64 - 1) / 2),
        };
        let pads = [before, before, after, after];
        let (kernel, strides) = ([k as i64; 2], [stride as i64; 2]);
        let mut attributes = vec![
            ("kernel_shape", Value::Ints(&kernel)),
            ("strides", Value::Ints(&strides)),
            ("group", Value::Int(group as i64)),
        ];
        match (self.exporter, self.padding) {
            (Exporter::Dynamo, Padding::Same) => attributes.push(("auto_pad", Value::Text("SAME_UPPER"))),
            _ => attributes.push(("pads", Value::Ints(&pads))),
        }
        let y = match self.exporter {
            Exporter::Dynamo => {
                let bias = format!("{name}.weight_bias");
                self.random(&bias, &[to as i64], 600);
                self.out.node("Conv", &[x, &weight, &bias], &format!("{name}.conv"), &attributes)
            }
            Exporter::TorchScript => {
                let c = self.out.node("Conv", &[x, &weight], &format!("{name}.conv"), &attributes);
                let names =
                    ["bn.weight", "bn.bias", "bn.running_mean", "bn.running_var"].map(|n| format!("{name}.{n}"));
                self.seed += 1;
                for (i, parameter) in names.iter().enumerate() {
                    let base = if i == 0 || i == 3 { 1.0 } else { 0.0 };
                    let values: Vec<f32> =
                        random_values(self.seed + i as u64, to).iter().map(|v| base + 0.1 * v).collect();
                    self.out.weight(parameter, &[to as i64], &values);
                }
                let operands: Vec<&str> = std::iter::once(c.as_str()).chain(names.iter().map(String::as_str)).collect();
                self.out.node(
                    "BatchNormalization",
                    &operands,
                    &format!("{name}.bn"),
                    &[("epsilon", Value::Float(1e-3))],
                )
            }
        };
        (y, out_side)
    }

    fn silu(&mut self, name: &str, x: &str) -> String {
        let gate = self.out.node("Sigmoid", &[x], &format!("{name}.sigmoid"), &[]);
        self.out.node("Mul", &[x, &gate], &format!("{name}.silu"), &[])
    }

    fn mean(&mut self, name: &str, x: &str) -> String {
        let name = format!("{name}.mean");
        match self.exporter {
            Exporter::TorchScript => self.out.node("GlobalAveragePool", &[x], &name, &[]),
            Exporter::Dynamo => self.out.node("ReduceMean", &[x, "pixel_axes"], &name, &[("keepdims", Value::Int(1))]),
        }
    }

    /// A 1x1 convolution of squeeze-and-excite; dynamo leaves its zero bias out.
    fn project(&mut self, name: &str, x: &str, from: usize, to: usize) -> String {
        let (weight, bias) = (format!("{name}.weight"), format!("{name}.bias"));
        self.random(&weight, &[to as i64, from as i64, 1, 1], from);
        if self.exporter == Exporter::Dynamo {
            return self.out.node("Conv", &[x, &weight], name, &[]);
        }
        self.random(&bias, &[to as i64], 600);
        self.out.node("Conv", &[x, &weight, &bias], name, &[])
    }

    #[allow(clippy::too_many_arguments, reason = "the columns of the architecture's table")]
    fn block(
        &mut self,
        name: &str,
        x: &str,
        (from, to): (usize, usize),
        k: usize,
        stride: usize,
        expand: usize,
        side: usize,
    ) -> (String, usize) {
        let (mut h, wide) = (x.to_string(), from * expand);
        if expand > 1 {
            (h, _) = self.conv(&format!("{name}.expand"), &h, (from, wide), 1, 1, 1, side);
            h = self.silu(&format!("{name}.expand"), &h);
        }
        let (d, out_side) = self.conv(&format!("{name}.depthwise"), &h, (wide, wide), k, stride, wide, side);
        let d = self.silu(&format!("{name}.depthwise"), &d);
        let squeezed = (from / 4).max(1);
        let s = self.mean(&format!("{name}.se"), &d);
        let s = self.project(&format!("{name}.se.reduce"), &s, wide, squeezed);
        let s = self.silu(&format!("{name}.se"), &s);
        let s = self.project(&format!("{name}.se.expand"), &s, squeezed, wide);
        let gate = self.out.node("Sigmoid", &[&s], &format!("{name}.gate"), &[]);
        let operands = if self.exporter == Exporter::Dynamo { [gate.as_str(), &d] } else { [d.as_str(), &gate] };
        let gated = self.out.node("Mul", &operands, &format!("{name}.gated"), &[]);
        let (y, _) = self.conv(&format!("{name}.project"), &gated, (wide, to), 1, 1, 1, out_side);
        if stride == 1 && from == to {
            return (self.out.node("Add", &[&y, x], &format!("{name}.add"), &[]), out_side);
        }
        (y, out_side)
    }
}
