#!/usr/bin/env python3
"""Writes frontends/onnx/tests/operators/values.txt: small cases of operators, with what other implementations give.

In: the cases below. Out: attributes, inputs and outputs of each as text; the outputs are those of onnxruntime, or of the reference of the
`onnx` package where onnxruntime has not the operator (1.32.0 and 1.23.2 made the committed file).

    pip install onnx onnxruntime
    python3 tools/onnx_values.py
"""
import pathlib
import warnings

import numpy as np
import onnx
import onnxruntime
from onnx import helper
from onnx.reference import ReferenceEvaluator

warnings.filterwarnings("ignore")
onnxruntime.set_default_logger_severity(4)
FILE = pathlib.Path(__file__).resolve().parent.parent / "frontends/onnx/tests/operators/values.txt"
NAMES = {"float32": "f32", "int32": "i32", "int64": "i64", "uint8": "u8", "int8": "i8", "bool": "bool", "uint16": "u16"}


def ramp(*shape, seed=0, scale=0.1):
    """Numbers that look random: -5 to 5 times `scale`."""
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return (((i * 7 + i // 11 + seed * 3) % 11 - 5) * np.float32(scale)).astype(np.float32).reshape(shape)


def bytes_of(*shape, seed=0, dtype=np.uint8):
    i = np.arange(int(np.prod(shape)), dtype=np.int64)
    return ((i * 37 + seed * 11) % 200 + (20 if dtype == np.uint8 else -90)).astype(dtype).reshape(shape)


def ints(*values, dtype=np.int64):
    return np.array(values, dtype)


class Known:
    """An input that the model holds."""

    def __init__(self, value):
        self.value = np.asarray(value)


def f32(x):
    return np.float32(x)


CASES = []


def case(op, version, inputs, outputs=1, domain="", **attributes):
    CASES.append((op, version, inputs, outputs, domain, attributes))


# Recurrence.
def recurrent(op, gates, outputs, directions=1, lengths=None, initial=False, peepholes=False, **attributes):
    steps, batch, width, hidden = 3, 2, 2, 2
    inputs = [
        ramp(steps, batch, width, seed=1),
        ramp(directions, gates * hidden, width, seed=2),
        ramp(directions, gates * hidden, hidden, seed=3),
        ramp(directions, 2 * gates * hidden, seed=4),
        ints(*lengths, dtype=np.int32) if lengths else None,
        ramp(directions, batch, hidden, seed=5) if initial else None,
    ]
    if op == "LSTM":
        inputs += [ramp(directions, batch, hidden, seed=6) if initial else None]
        inputs += [ramp(directions, 3 * hidden, seed=7) if peepholes else None]
    while inputs[-1] is None:
        inputs.pop()
    case(op, 17, inputs, outputs, hidden_size=hidden, **attributes)


recurrent("LSTM", 4, 3)
recurrent("LSTM", 4, 3, 2, [2, 3], True, True, direction="bidirectional", clip=0.4)
recurrent("LSTM", 4, 3, activations=["HardSigmoid", "ScaledTanh", "Softsign"], activation_alpha=[0.3, 1.2], activation_beta=[0.4, 0.8])
recurrent("GRU", 3, 2, lengths=[3, 1], direction="reverse")
recurrent("GRU", 3, 2, initial=True, linear_before_reset=1)
recurrent("RNN", 1, 2)
recurrent("RNN", 1, 2, 2, direction="bidirectional", activations=["LeakyRelu", "Tanh"], activation_alpha=[0.2])

# Fused operators of the runtime.
MS = "com.microsoft"
conv = [ramp(1, 2, 4, 4, seed=1), ramp(2, 2, 3, 3, seed=2), ramp(2, seed=3)]
case("FusedConv", 1, conv, domain=MS, activation="Relu", pads=[1, 1, 1, 1], kernel_shape=[3, 3])
case("FusedConv", 1, conv, domain=MS, activation="LeakyRelu", activation_params=[0.3], kernel_shape=[3, 3])
case("FusedConv", 1, conv + [ramp(1, 2, 2, 2, seed=4)], domain=MS, activation="HardSigmoid", activation_params=[0.3, 0.4], kernel_shape=[3, 3])
case("FusedGemm", 1, [ramp(3, 2), ramp(3, 4, seed=1), ramp(4, seed=2)], domain=MS, transA=1, alpha=1.5, beta=0.5, activation="LeakyRelu", activation_alpha=0.2)
case("FusedMatMul", 1, [ramp(2, 3, 4), ramp(2, 5, 4, seed=1)], domain=MS, transB=1, alpha=0.5)
case("FusedMatMul", 1, [ramp(3, 2, 4), ramp(2, 4, 5, seed=1)], domain=MS, transBatchA=1)
case("Gelu", 1, [ramp(6, scale=0.5)], domain=MS)
case("BiasGelu", 1, [ramp(2, 3), ramp(3, seed=1)], domain=MS)
case("FastGelu", 1, [ramp(2, 3), ramp(3, seed=1)], domain=MS)
case("QuickGelu", 1, [ramp(6, scale=0.5)], domain=MS, alpha=1.5)
norm = [ramp(2, 2, 4), ramp(2, 2, 4, seed=1), ramp(4, seed=2)]
case("SkipLayerNormalization", 1, norm + [ramp(4, seed=3), ramp(4, seed=4)], domain=MS, epsilon=1e-5)
case("SkipSimplifiedLayerNormalization", 1, norm, domain=MS, epsilon=1e-5)
case("SimplifiedLayerNormalization", 17, [ramp(2, 4), ramp(4, seed=1)], epsilon=1e-5, axis=-1)

# Transformers of the runtime.
tokens = [ramp(2, 3, 8), ramp(2, 4, 8, seed=1), ramp(2, 4, 8, seed=2)]
case("MultiHeadAttention", 1, tokens + [ramp(24, seed=3)], domain=MS, num_heads=2)
case("MultiHeadAttention", 1, tokens + [None, ints(3, 4, dtype=np.int32)], domain=MS, num_heads=4, scale=0.3)
packed = [ramp(2, 3, 8), Known(ramp(8, 24, seed=1)), Known(ramp(24, seed=2))]
case("Attention", 1, packed, domain=MS, num_heads=2)
case("Attention", 1, packed + [ints(1, 1, 0, 1, 1, 1, dtype=np.int32).reshape(2, 3)], domain=MS, num_heads=2)
case("Attention", 1, packed, domain=MS, num_heads=4, unidirectional=1)
words = [ints(1, 4, 2, 0, 3, 3, dtype=np.int32).reshape(2, 3), ints(0, 1, 1, 0, 0, 1, dtype=np.int32).reshape(2, 3)]
tables = [Known(ramp(5, 4)), Known(ramp(3, 4, seed=1)), Known(ramp(2, 4, seed=2)), Known(ramp(4, seed=3)), Known(ramp(4, seed=4))]
case("EmbedLayerNormalization", 1, words + tables, 2, domain=MS, epsilon=1e-5)
bits = bytes_of(3, 2, 8)
case("MatMulNBits", 1, [ramp(2, 32), Known(bits), Known(ramp(6, seed=1))], domain=MS, K=32, N=3, bits=4, block_size=16)
case("MatMulNBits", 1, [ramp(2, 32), Known(bits), Known(ramp(6, seed=1)), Known(bytes_of(3))], domain=MS, K=32, N=3, bits=4, block_size=16)

# Quantised operators of the runtime.
scale, zero = f32(0.05), np.uint8(120)
q = bytes_of(1, 2, 4, 4)
case("QLinearSigmoid", 1, [q, Known(scale), Known(zero), Known(f32(1 / 256)), Known(np.uint8(0))], domain=MS)
case("QLinearLeakyRelu", 1, [q, Known(scale), Known(zero), Known(scale), Known(np.uint8(100))], domain=MS, alpha=0.2)
case("QLinearSoftmax", 1, [q, Known(scale), Known(zero), Known(f32(1 / 256)), Known(np.uint8(0))], domain=MS, axis=-1, opset=13)
pool = [q, Known(scale), Known(zero), Known(f32(0.04)), Known(np.uint8(111))]
case("QLinearAveragePool", 1, pool, domain=MS, kernel_shape=[2, 2], strides=[2, 2])
case("QLinearGlobalAveragePool", 1, pool, domain=MS)
two = [q, Known(scale), Known(zero), bytes_of(1, 2, 4, 4, seed=2), Known(f32(0.03)), Known(np.uint8(90))]
case("QLinearAdd", 1, two + [Known(f32(0.07)), Known(np.uint8(128))], domain=MS)
case("QLinearMul", 1, two + [Known(f32(0.2)), Known(np.uint8(128))], domain=MS)
case("QLinearConcat", 1, [Known(f32(0.06)), Known(np.uint8(110))] + two, domain=MS, axis=1)
a, b = bytes_of(2, 4), bytes_of(4, 3, seed=1, dtype=np.int8)
case("MatMulIntegerToFloat", 1, [a, Known(b), Known(scale), Known(f32(0.02)), Known(zero), Known(np.int8(3)), Known(ramp(3))], domain=MS)
case("QGemm", 1, [a, Known(scale), Known(zero), Known(b), Known(f32(0.02)), Known(np.int8(0)), Known(ints(5, -7, 9, dtype=np.int32)), Known(f32(0.3)), Known(np.uint8(100))], domain=MS)
case("QuantizeLinear", 1, [ramp(6), Known(f32(0.01)), Known(np.uint16(30))], domain=MS)
case("NhwcMaxPool", 1, [bytes_of(1, 4, 4, 2)], domain=MS, kernel_shape=[2, 2], strides=[2, 2])

# Attention.
heads = [ramp(1, 2, 3, 4), ramp(1, 2, 5, 4, seed=1), ramp(1, 2, 5, 4, seed=2)]
case("Attention", 23, heads)
case("Attention", 23, heads, is_causal=1, softcap=2.0)
case("Attention", 23, [ramp(1, 3, 8), ramp(1, 5, 4, seed=1), ramp(1, 5, 4, seed=2), ramp(3, 5, seed=3)], q_num_heads=4, kv_num_heads=2, scale=0.3)
case("Attention", 23, heads + [None, ramp(1, 2, 2, 4, seed=4), ramp(1, 2, 2, 4, seed=5)], 3, is_causal=1)
case("Attention", 24, heads + [np.tril(np.ones((3, 5), bool), -1), None, None, ints(4)])
case("CausalConvWithState", 27, [ramp(1, 2, 5), ramp(2, 1, 3, seed=1), ramp(2, seed=2)], 2, activation="silu")

# Losses.
scores, labels = ramp(3, 4, 2, scale=0.4), ints(1, 3, 0, 2, 1, 1).reshape(3, 2)
for reduction in ["none", "sum", "mean"]:
    case("SoftmaxCrossEntropyLoss", 13, [scores, labels], 2, reduction=reduction)
    case("NegativeLogLikelihoodLoss", 13, [scores, labels, ramp(4, scale=0.3) + 2], reduction=reduction, ignore_index=1)

# Samples.
places = ramp(1, 3, 3, 2, scale=0.25)
for mode in ["bilinear", "nearest", "bicubic"]:
    for padding in ["zeros", "border", "reflection"]:
        case("GridSample", 16, [ramp(1, 2, 4, 5), places], mode=mode, padding_mode=padding, align_corners=int(mode == "nearest"))
case("GridSample", 20, [ramp(1, 1, 3, 4, 2), ramp(1, 2, 2, 1, 3, scale=0.2)], mode="linear", align_corners=1)
case("AffineGrid", 20, [ramp(2, 2, 3), Known(ints(2, 1, 3, 4))])
case("AffineGrid", 20, [ramp(1, 3, 4), Known(ints(1, 1, 2, 3, 4))], align_corners=1)

# Spectra.
case("DFT", 20, [ramp(1, 5, 1)])
case("DFT", 20, [ramp(1, 6, 2), Known(ints(4).reshape(())), Known(ints(1).reshape(()))], inverse=1)
case("DFT", 17, [ramp(2, 3, 6, 1)], axis=2, onesided=1)
case("DFT", 20, [ramp(1, 4, 2)], inverse=1, onesided=1)
case("STFT", 17, [ramp(1, 16, 1), Known(ints(4).reshape(())), Known(ramp(8, seed=1)), Known(ints(8).reshape(()))])
for name in ["HannWindow", "HammingWindow", "BlackmanWindow"]:
    case(name, 17, [Known(ints(6).reshape(()))])
    case(name, 17, [Known(ints(7).reshape(()))], periodic=0)
mel = [Known(np.array(v)) for v in (8, 16, 8192)] + [Known(f32(0)), Known(f32(4096))]
case("MelWeightMatrix", 17, mel)

# Sums by equation.
i, j = ramp(2, 3), ramp(3, 4, seed=1)
for equation, operands in [
    ("ij,jk->ik", [i, j]), ("ij,jk", [i, j]), ("ij->ji", [i]), ("ij->", [i]), ("ii->i", [ramp(3, 3)]), ("ii", [ramp(3, 3)]),
    ("bij,bjk->bik", [ramp(2, 2, 3), ramp(2, 3, 4, seed=1)]), ("...ij,...jk->...ik", [ramp(2, 1, 2, 3), ramp(4, 3, 2, seed=1)]),
    ("bhqd,bhkd->bhqk", [ramp(1, 2, 3, 4), ramp(1, 2, 5, 4, seed=1)]), ("i,j->ij", [ramp(2), ramp(3)]),
    ("ij,jk,kl->il", [i, j, ramp(4, 2, seed=2)]), ("bi,bj,bk->bijk", [ramp(2, 2), ramp(2, 3), ramp(2, 2, seed=3)]),
    ("iij,jk->ki", [ramp(2, 2, 3), j]),
]:  # fmt: skip
    case("Einsum", 12, operands, equation=equation)

# Places.
case("GatherND", 13, [ramp(2, 2, 3), ints(0, 1, 1, -2).reshape(2, 2)])
case("GatherND", 13, [ramp(2, 3, 2), ints(1, 2).reshape(2, 1)], batch_dims=1)
case("ScatterND", 18, [ramp(4, 3), Known(ints(1, 3).reshape(2, 1)), ramp(2, 3, seed=1)])
case("ScatterND", 18, [ramp(4, 3), Known(ints(1, 1, 1, 1, 0, -1).reshape(3, 2)), ramp(3, seed=1)], reduction="add")
case("ScatterND", 18, [ramp(4, 3), Known(ints(1, 1).reshape(2, 1)), ramp(2, 3, seed=1)], reduction="max")
case("ScatterElements", 18, [ramp(3, 4), Known(ints(0, -1, 2, 1).reshape(2, 2)), ramp(2, 2, seed=1)], axis=1)
case("ScatterElements", 18, [ramp(5), Known(ints(1, 1, 4)), ramp(3, seed=1)], reduction="mul")
case("TensorScatter", 24, [ramp(2, 5, 3), ramp(2, 2, 3, seed=1), ints(1, 3)])
case("TensorScatter", 24, [ramp(2, 5, 3), ramp(2, 3, 3, seed=1), ints(4, 3)], mode="circular")
case("ReverseSequence", 10, [ramp(4, 2, 2), ints(3, 4)], time_axis=0, batch_axis=1)

# Pools, products, integers.
case("LpPool", 18, [ramp(1, 2, 5, 5)], kernel_shape=[2, 2], strides=[2, 2], p=3)
case("LpPool", 18, [ramp(1, 2, 5, 5)], kernel_shape=[3, 3], pads=[1, 1, 1, 1], p=1)
case("LpPool", 18, [ramp(1, 1, 7)], kernel_shape=[2], dilations=[2], strides=[2])
case("GlobalLpPool", 2, [ramp(1, 2, 3, 3)], p=2)
case("Col2Im", 18, [ramp(1, 8, 4), Known(ints(4, 4)), Known(ints(2, 2))], strides=[2, 2])
case("Col2Im", 18, [ramp(1, 8, 9), Known(ints(3, 3)), Known(ints(2, 2))], pads=[1, 1, 0, 0])
case("Det", 11, [ramp(2, 3, 3)])
case("Det", 11, [ramp(4, 4)])
case("CumProd", 26, [ramp(2, 4, scale=0.5), Known(ints(1).reshape(()))], exclusive=1)
case("CumProd", 26, [ramp(2, 4, scale=0.5), Known(ints(1).reshape(()))], reverse=1)
case("BitShift", 11, [ints(255, 16, 1, dtype=np.uint8), ints(1, 3, 7, dtype=np.uint8)], direction="LEFT")
case("BitShift", 11, [ints(255, 16, 128, dtype=np.uint8), ints(1, 3, 7, dtype=np.uint8)], direction="RIGHT")
ML = "ai.onnx.ml"
case("Scaler", 1, [ramp(3, 4)], domain=ML, offset=[0.5, 1.0, 1.5, 2.0], scale=[2.0, 3.0, 4.0, 5.0])
for norm in ["MAX", "L1", "L2"]:
    case("Normalizer", 1, [np.abs(ramp(3, 4)) + f32(0.1)], domain=ML, norm=norm)
case("Binarizer", 1, [ramp(3, 4)], domain=ML, threshold=0.1)
case("ArrayFeatureExtractor", 1, [ramp(3, 4), ints(3, 0).reshape(1, 2)], domain=ML)
case("LinearRegressor", 1, [ramp(3, 2)], domain=ML, coefficients=[1.0, 2.0, -3.0, 0.5], intercepts=[0.25, -1.0], targets=2)
case("BitShift", 28, [ints(-8, 4, -1, 5, dtype=np.int32), ints(-1, 2, 40, 3, dtype=np.int32)], direction="LEFT")
case("BitShift", 28, [ints(-8, 4, -1, -9, dtype=np.int32), ints(-1, 2, 40, 1, dtype=np.int32)], direction="RIGHT")
line = np.array([-0.999, -0.7, -0.4, -1e-3, 0, 1e-4, 0.3, 0.55, 0.9, 1], np.float32)
wide = np.array([-80, -9, -1.3, -0.3, 1e-4, 0.2, 0.6, 2.2, 30, 88], np.float32)
for name in ["Asin", "Acos"]:
    case(name, 7, [line])
case("Atanh", 9, [line[:-1]])
case("Acosh", 9, [np.array([1, 1.0001, 1.5, 20, 1e20], np.float32)])
for name, version in [("Atan", 7), ("Tan", 7), ("Sinh", 9), ("Cosh", 9), ("Asinh", 9)]:
    case(name, version, [wide])

# Places between pixels, and back to where a pool took from.
ROIS = np.array([[0, 0, 5, 5], [1, 2, 4.5, 3.2], [-3, -3, 2, 9], [2, 2, 2, 2]], np.float32)
for version, mode in [(10, "avg"), (10, "max"), (16, "avg"), (16, "max")]:
    attributes = dict(output_height=2, output_width=3, sampling_ratio=2, spatial_scale=0.75, mode=mode)
    case("RoiAlign", version, [ramp(2, 3, 5, 6), ROIS, ints(0, 1, 1, 0)], **attributes)


def deformed(group=1, offset_group=1, bias=False, mask=False, **attributes):
    rows, columns = attributes.pop("result")
    inputs = [ramp(2, 4, 5, 6), ramp(4, 4 // group, 2, 3, seed=1), ramp(2, offset_group * 12, rows, columns, seed=2, scale=0.7)]
    inputs += [ramp(4, seed=3) if bias else None]
    inputs += [ramp(2, offset_group * 6, rows, columns, seed=4) if mask else None]
    while inputs[-1] is None:
        inputs.pop()
    case("DeformConv", 19, inputs, group=group, offset_group=offset_group, **attributes)


deformed(result=(4, 4))
deformed(result=(6, 6), group=2, offset_group=2, bias=True, mask=True, pads=[1, 1, 1, 1])
deformed(result=(2, 2), group=4, bias=True, strides=[2, 1], dilations=[1, 2], pads=[0, 0, 0, 0], kernel_shape=[2, 3])
deformed(result=(2, 2), mask=True, offset_group=4, strides=[2, 2])


def unpooled(x, sizes=None, **attributes):
    node = helper.make_node("MaxPool", ["x"], ["y", "i"], **attributes)
    values = [helper.make_tensor_value_info("x", 1, x.shape)], [onnx.ValueInfoProto(name=name) for name in "yi"]
    model = helper.make_model(helper.make_graph([node], "pool", *values), opset_imports=[helper.make_opsetid("", 12)], ir_version=10)
    pooled = onnxruntime.InferenceSession(model.SerializeToString()).run(None, {"x": x})
    case("MaxUnpool", 11, [*pooled, *([Known(ints(*sizes))] if sizes else [])], **attributes)


unpooled(ramp(2, 3, 6, 4), kernel_shape=[2, 2], strides=[2, 2])
unpooled(ramp(1, 2, 7, 7), kernel_shape=[3, 3], strides=[2, 2])
unpooled(ramp(1, 2, 7, 7), kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
unpooled(ramp(1, 2, 9), kernel_shape=[3], strides=[1])

# Counts of n-grams.
GRAMS = dict(pool_int64s=[2, 3, 5, 4, 5, 6, 7, 8, 6, 7], ngram_counts=[0, 4], ngram_indexes=[0, 1, 2, 3, 4, 5, 6])
WORDS = ints(1, 1, 3, 3, 3, 7, 8, 6, 7, 5, 6, 8, dtype=np.int32).reshape(2, 6)
for mode in ["TF", "IDF", "TFIDF"]:
    for least, skips in [(1, 0), (1, 5), (2, 2)]:
        lengths = dict(min_gram_length=least, max_gram_length=2, max_skip_count=skips)
        case("TfIdfVectorizer", 9, [WORDS], mode=mode, weights=[0.5, 1.5, 2.0, 3.0, -1.0, 4.0, 0.25], **lengths, **GRAMS)
case("TfIdfVectorizer", 9, [WORDS[0].astype(np.int64)], mode="TFIDF", min_gram_length=1, max_gram_length=1, max_skip_count=3, **GRAMS)
TRIPLES = dict(pool_int64s=[1, 3, 3, 3, 1, 1, 3], ngram_counts=[0, 1, 1], ngram_indexes=[2, 0, 1])
case("TfIdfVectorizer", 9, [WORDS], mode="TF", min_gram_length=1, max_gram_length=3, max_skip_count=1, **TRIPLES)

# Steps of training.
TRAINING = "ai.onnx.preview.training"


def training(op, kept, count, tensors=1, **attributes):
    shapes = [(2, 3), (4,)][:tensors]
    inputs = [np.float32(0.1), np.int64(count)]
    inputs += [ramp(*shape, seed=kind) for kind in range(2) for shape in shapes]
    inputs += [np.abs(ramp(*shape, seed=kind)) + f32(0.2) for kind in range(2, 2 + kept) for shape in shapes]
    case(op, 1, [np.asarray(x) for x in inputs], (1 + kept) * tensors, TRAINING, **attributes)


for count in [0, 3]:
    training("Adagrad", 1, count, 2, decay_factor=0.1, epsilon=1e-5, norm_coefficient=0.01)
    training("Adam", 2, count, 2, alpha=0.95, beta=0.85, epsilon=1e-2, norm_coefficient=0.001, norm_coefficient_post=0.1)
    for mode in ["standard", "nesterov"]:
        training("Momentum", 1, count, 2, alpha=0.95, beta=0.85, norm_coefficient=0.001, mode=mode)
training("Adagrad", 1, 1)
training("Adam", 2, 1)


def outputs_of(op, version, inputs, count, domain, attributes):
    names, feeds, declared, held = [], {}, [], []
    for at, value in enumerate(inputs):
        if value is None:
            names.append("")
            continue
        names.append(f"i{at}")
        if isinstance(value, Known):
            held.append(onnx.numpy_helper.from_array(value.value, f"i{at}"))
            continue
        feeds[f"i{at}"] = value
        declared.append(helper.make_tensor_value_info(f"i{at}", helper.np_dtype_to_tensor_dtype(value.dtype), value.shape))
    results = [f"o{at}" for at in range(count)]
    node = helper.make_node(op, names, results, domain=domain, **attributes)
    graph = helper.make_graph([node], "case", declared, [onnx.ValueInfoProto(name=name) for name in results], held)
    imports = [helper.make_opsetid("", 17 if domain else version)]
    imports += [helper.make_opsetid(domain, 1)] if domain else []
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    try:
        typed = onnx.ModelProto()
        typed.CopyFrom(model)
        session = onnxruntime.InferenceSession(typed.SerializeToString(), providers=["CPUExecutionProvider"])
        return session.run(None, feeds)
    except Exception:
        return ReferenceEvaluator(model).run(None, feeds)


def text(kind, value):
    if value is None:
        return "absent"
    value = np.asarray(value)
    if value.dtype == np.float64:
        # The reference widens where a scalar meets a tensor.
        value = value.astype(np.float32)
    shape = ",".join(map(str, value.shape))
    elements = value.ravel().tolist()
    spelled = " ".join(repr(float(np.float32(v))) if value.dtype.kind == "f" else str(int(v)) for v in elements)
    return f"{kind} {NAMES[value.dtype.name]}[{shape}] {spelled}".rstrip()


def spelled(name, value):
    if isinstance(value, list):
        kind = {int: "INTS", float: "FLOATS", str: "STRINGS"}[type(value[0])]
        return f"attribute {name} {kind} {' '.join(map(str, value))}"
    return f"attribute {name} {({int: 'INT', float: 'FLOAT', str: 'STRING'})[type(value)]} {value}"


def main():
    lines = ["# Small cases of operators, and what other implementations give. Written by tools/onnx_values.py: do not edit."]
    for op, version, inputs, count, domain, attributes in CASES:
        try:
            outputs = outputs_of(op, version, inputs, count, domain, attributes)
        except Exception as error:
            raise SystemExit(f"{op} {attributes}: {error}") from error
        lines.append(f"case {op} {version} {domain}".rstrip())
        lines += [spelled(*attribute) for attribute in attributes.items()]
        lines += [text("constant", v.value) if isinstance(v, Known) else text("input", v) for v in inputs]
        lines += [text("output", v) for v in outputs]
    FILE.write_text("\n".join(lines) + "\n")


main()
