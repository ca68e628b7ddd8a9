"""Single operators over a grid of shapes, axes and attributes against other engines: where a user would fall off a cliff.

    operators.py [PATTERN...] [--every N] [--engines onnxruntime,openvino] [--rounds 3] [--below 0.95] [--list]

Each case is a network of one operator with one f32 input. The rules are those of contest.py (one process an engine, rounds in turn, ratios
inside a round) on one thread, where the time of the process counts. Printed are the cases by ratio (best of the others over Fornax), the worst
first, and their geometric mean. PATTERN picks cases by parts of their names. Needs numpy, onnx and the engines' Python packages.
"""

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

from contest import HERE, ROOT, Worker, differences

RANDOM = numpy.random.default_rng(7)


def weights(shape, spread=None):
    fan = math.prod(shape[1:]) or 1
    return RANDOM.standard_normal(shape).astype(numpy.float32) * numpy.float32(spread or fan**-0.5)


def case(name, op, shape, constants=(), **attributes):
    """A network `y = op(x, constants…)`."""
    return {"name": name, "op": op, "shape": shape, "constants": list(constants), "attributes": attributes}


def dims(shape):
    return "x".join(map(str, shape))


def convolutions():
    # N C H W, filters, kernel, stride, dilation, groups
    grid = [
        (1, 3, 224, 224, 32, (3, 3), 2, 1, 1), (1, 3, 224, 224, 64, (7, 7), 2, 1, 1), (1, 3, 640, 640, 16, (3, 3), 2, 1, 1),
        (1, 1, 32, 320, 64, (3, 3), 1, 1, 1), (1, 3, 224, 224, 96, (4, 4), 4, 1, 1), (1, 3, 224, 224, 768, (16, 16), 16, 1, 1),
        (1, 3, 224, 224, 48, (11, 11), 4, 1, 1), (1, 64, 56, 56, 64, (3, 3), 1, 1, 1), (1, 64, 56, 56, 128, (3, 3), 2, 1, 1),
        (1, 128, 28, 28, 128, (3, 3), 1, 1, 1), (1, 256, 14, 14, 256, (3, 3), 1, 1, 1), (1, 512, 7, 7, 512, (3, 3), 1, 1, 1),
        (1, 64, 56, 56, 256, (1, 1), 1, 1, 1), (1, 256, 56, 56, 64, (1, 1), 1, 1, 1), (1, 256, 56, 56, 512, (1, 1), 2, 1, 1),
        (1, 1024, 14, 14, 256, (1, 1), 1, 1, 1), (1, 2048, 7, 7, 512, (1, 1), 1, 1, 1), (1, 24, 56, 56, 144, (1, 1), 1, 1, 1),
        (1, 144, 56, 56, 24, (1, 1), 1, 1, 1), (1, 40, 28, 28, 240, (1, 1), 1, 1, 1), (1, 112, 14, 14, 672, (1, 1), 1, 1, 1),
        (1, 320, 7, 7, 1280, (1, 1), 1, 1, 1), (1, 1280, 1, 1, 1000, (1, 1), 1, 1, 1), (1, 17, 33, 35, 23, (3, 3), 1, 1, 1),
        (1, 5, 65, 63, 7, (5, 5), 1, 1, 1), (1, 64, 40, 40, 1, (1, 1), 1, 1, 1), (1, 64, 40, 40, 1, (3, 3), 1, 1, 1),
        (1, 256, 20, 20, 255, (1, 1), 1, 1, 1), (1, 64, 64, 64, 64, (3, 3), 1, 2, 1), (1, 128, 33, 33, 128, (3, 3), 1, 4, 1),
        (1, 256, 33, 33, 256, (3, 3), 1, 12, 1), (1, 256, 33, 33, 256, (3, 3), 1, 24, 1), (1, 64, 35, 35, 96, (5, 5), 1, 1, 1),
        (1, 128, 17, 17, 128, (1, 7), 1, 1, 1), (1, 128, 17, 17, 128, (7, 1), 1, 1, 1), (1, 32, 1, 400, 64, (1, 20), 1, 1, 1),
        (1, 32, 1, 400, 64, (1, 20), 4, 1, 1), (1, 1, 1, 16000, 64, (1, 80), 4, 1, 1), (1, 80, 1, 3000, 384, (1, 3), 1, 1, 1),
        (1, 64, 400, 1, 64, (3, 1), 1, 1, 1), (1, 64, 400, 1, 64, (9, 1), 1, 1, 1), (1, 128, 28, 28, 128, (3, 3), 1, 1, 32),
        (1, 256, 14, 14, 256, (3, 3), 1, 1, 32), (1, 64, 28, 28, 128, (1, 1), 1, 1, 4), (1, 240, 28, 28, 240, (1, 1), 1, 1, 3),
        (4, 64, 28, 28, 64, (3, 3), 1, 1, 1), (8, 128, 14, 14, 256, (1, 1), 1, 1, 1), (1, 3, 128, 128, 3, (3, 3), 1, 1, 1),
        (1, 16, 200, 200, 16, (3, 3), 1, 1, 1), (1, 64, 23, 23, 32, (13, 13), 1, 1, 1), (1, 16, 64, 64, 16, (25, 25), 1, 1, 1),
        (1, 48, 40, 40, 96, (3, 3), 2, 1, 1), (1, 96, 80, 80, 96, (3, 3), 1, 1, 1), (1, 192, 20, 20, 192, (1, 1), 1, 1, 1), (1, 12, 160, 160, 24, (1, 1), 1, 1, 1),
        (1, 320, 8, 8, 320, (3, 3), 1, 1, 1), (1, 256, 1, 1, 64, (1, 1), 1, 1, 1), (16, 32, 32, 32, 64, (3, 3), 2, 1, 1), (1, 96, 10, 100, 96, (3, 3), 1, 1, 1),
        (1, 64, 64, 64, 128, (2, 2), 2, 1, 1), (1, 96, 55, 55, 192, (2, 2), 2, 1, 1), (1, 512, 1, 50, 512, (1, 5), 1, 1, 1),
    ]
    for n, c, h, w, m, (kh, kw), s, d, g in grid:
        pads = [d * (kh - 1) // 2, d * (kw - 1) // 2] if (kh, kw) not in [(2, 2), (4, 4), (16, 16)] else [0, 0]
        strides = [s if h > 1 else 1, s if w > 1 else 1]
        yield case(
            f"conv {dims((n, c, h, w))} m{m} k{kh}x{kw} s{s} d{d} g{g}", "Conv", (n, c, h, w), [weights((m, c // g, kh, kw)), weights((m,), 1)],
            kernel_shape=[kh, kw], strides=strides, dilations=[d, d], group=g, pads=pads * 2,
        )
    depthwise = [
        (32, 112, 3, 1), (96, 112, 3, 2), (144, 56, 3, 1), (144, 56, 5, 2), (240, 28, 5, 1), (480, 14, 3, 1), (672, 14, 5, 1), (672, 14, 5, 2),
        (1152, 7, 5, 1), (1152, 7, 3, 1), (96, 56, 7, 1), (192, 28, 7, 1), (384, 14, 7, 1), (768, 7, 7, 1), (64, 56, 9, 1), (64, 56, 11, 1),
        (64, 56, 13, 1), (128, 28, 31, 1), (256, 14, 27, 1), (17, 33, 3, 1), (3, 224, 3, 1), (960, 7, 5, 1), (16, 112, 3, 2), (512, 19, 3, 1),
    ]
    for c, extent, k, s in depthwise:
        yield case(
            f"depthwise {c}x{extent} k{k} s{s}", "Conv", (1, c, extent, extent), [weights((c, 1, k, k)), weights((c,), 1)],
            kernel_shape=[k, k], strides=[s, s], group=c, pads=[k // 2] * 4,
        )
    for c, length, k in [(256, 400, 31), (512, 100, 7), (144, 1000, 15)]:
        yield case(f"depthwise 1d {c}x{length} k{k}", "Conv", (1, c, length), [weights((c, 1, k))], kernel_shape=[k], group=c, pads=[k // 2] * 2)
    for c, length, m, k, s in [(80, 3000, 384, 3, 1), (384, 3000, 384, 3, 2), (1, 16000, 64, 80, 4), (64, 1000, 64, 9, 1), (512, 200, 512, 5, 1)]:
        yield case(f"conv 1d {c}x{length} m{m} k{k} s{s}", "Conv", (1, c, length), [weights((m, c, k))], kernel_shape=[k], strides=[s], pads=[k // 2] * 2)
    for c, extent, m, k, s in [(64, 28, 32, 2, 2), (128, 14, 64, 4, 2), (256, 14, 128, 3, 2), (21, 16, 21, 16, 8), (512, 7, 256, 2, 2)]:
        pads = [(k - s) // 2] * 4
        yield case(
            f"transposed {c}x{extent} m{m} k{k} s{s}", "ConvTranspose", (1, c, extent, extent), [weights((c, m, k, k))],
            kernel_shape=[k, k], strides=[s, s], pads=pads,
        )


def pools():
    for c, extent, k, s in [(64, 112, 3, 2), (256, 56, 2, 2), (192, 28, 3, 1), (512, 13, 5, 1), (512, 20, 9, 1), (512, 20, 13, 1), (64, 224, 2, 2), (48, 55, 3, 2), (3, 224, 7, 7), (1024, 7, 3, 1)]:
        pads = [k // 2 if s == 1 or k == 3 else 0] * 4
        for op in ["MaxPool", "AveragePool"]:
            yield case(f"{op} {c}x{extent} k{k} s{s}", op, (1, c, extent, extent), kernel_shape=[k, k], strides=[s, s], pads=pads)
    for shape in [(1, 1280, 7, 7), (1, 2048, 7, 7), (1, 64, 112, 112), (8, 512, 14, 14), (1, 96, 56, 56)]:
        yield case(f"GlobalAveragePool {dims(shape)}", "GlobalAveragePool", shape)
        yield case(f"GlobalMaxPool {dims(shape)}", "GlobalMaxPool", shape)


def rows():
    shapes = [
        ((64, 1000), -1), ((1, 12, 197, 197), -1), ((1, 8, 512, 512), -1), ((512, 49), -1), ((4096, 16), -1), ((8192, 8), -1), ((8192, 4), -1), ((16384, 2), -1),
        ((3234, 91), -1), ((1, 4, 16, 8400), 2), ((1, 21, 129, 129), 1), ((1, 150, 64, 64), 1), ((1, 10, 4096), 1), ((32, 100, 7), 1), ((2000, 13), -1),
    ]
    for shape, axis in shapes:
        yield case(f"Softmax {dims(shape)} axis {axis}", "Softmax", shape, axis=axis)
    for shape, axis in shapes[:8:2]:
        yield case(f"LogSoftmax {dims(shape)} axis {axis}", "LogSoftmax", shape, axis=axis)
    for shape in [(197, 192), (197, 768), (49, 384), (3136, 96), (512, 1024), (4096, 40), (128, 4096)]:
        ends = [weights(shape[-1:], 1), weights(shape[-1:], 1)]
        yield case(f"LayerNormalization {dims(shape)}", "LayerNormalization", (1, *shape), ends, axis=-1)
    for shape in [(1, 64, 56, 56), (1, 256, 14, 14), (2, 32, 128, 128)]:
        channel = [weights(shape[1:2], 1), weights(shape[1:2], 1)]
        yield case(f"InstanceNormalization {dims(shape)}", "InstanceNormalization", shape, channel)
        mean, var = weights(shape[1:2], 1), numpy.abs(weights(shape[1:2], 1)) + 1
        yield case(f"BatchNormalization {dims(shape)}", "BatchNormalization", shape, [*channel, mean, var])


def reductions():
    shapes = [
        ((64, 4096), (1,)), ((4096, 64), (1,)), ((4096, 64), (0,)), ((1, 64, 56, 56), (2, 3)), ((1, 64, 56, 56), (1,)), ((1, 197, 768), (1,)), ((1, 197, 768), (2,)),
        ((16384, 8), (1,)), ((512, 100, 5), (2,)), ((512, 100, 5), (1,)), ((1 << 18,), (0,)), ((1, 256, 14, 14), (1, 2, 3)),
    ]
    for op in ["ReduceSum", "ReduceMean", "ReduceMax", "ReduceMin", "ReduceL2"]:
        for shape, axes in shapes:
            if op == "ReduceL2" and len(axes) > 1:
                continue
            yield case(f"{op} {dims(shape)} axes {axes}", op, shape, [numpy.array(axes, numpy.int64)], keepdims=1)
    for shape, axis in [((64, 1000), 1), ((1, 21, 129, 129), 1), ((4096, 16), 1), ((1, 256, 14, 14), 3)]:
        yield case(f"ArgMax {dims(shape)} axis {axis}", "ArgMax", shape, axis=axis, keepdims=1)


def movements():
    for shape, perm in [
        ((4, 32, 32, 32), (0, 2, 1, 3)), ((4, 32, 32, 32), (0, 2, 3, 1)), ((4, 32, 32, 32), (0, 3, 1, 2)), ((1, 197, 12, 64), (0, 2, 1, 3)), ((512, 512), (1, 0)),
        ((1, 64, 56, 56), (0, 2, 3, 1)), ((1, 56, 56, 64), (0, 3, 1, 2)), ((1, 3, 224, 224), (0, 2, 3, 1)), ((8, 7, 8, 7, 96), (0, 2, 1, 3, 4)), ((64, 100, 3), (2, 0, 1)), ((1, 2, 58, 28, 28), (0, 2, 1, 3, 4)),
    ]:
        yield case(f"Transpose {dims(shape)} {perm}", "Transpose", shape, perm=list(perm))
    for shape, scale, mode, coordinates in [
        ((1, 64, 28, 28), 2, "nearest", "asymmetric"), ((1, 256, 20, 20), 2, "nearest", "asymmetric"), ((1, 64, 28, 28), 2, "linear", "half_pixel"),
        ((1, 21, 65, 65), 8, "linear", "half_pixel"), ((1, 3, 224, 224), 0.5, "linear", "half_pixel"), ((1, 32, 56, 56), 2, "linear", "align_corners"), ((1, 16, 32, 32), 2, "cubic", "half_pixel"),
    ]:
        scales = numpy.array([1, 1, scale, scale], numpy.float32)
        more = {"nearest_mode": "floor"} if mode == "nearest" else {}
        empty = numpy.array([], numpy.float32)
        yield case(f"Resize {dims(shape)} by {scale} {mode} {coordinates}", "Resize", shape, [empty, scales], mode=mode, coordinate_transformation_mode=coordinates, **more)
    for shape, axis in [((1, 64, 56, 56), 1), ((1, 256, 14, 14), 1), ((1, 197, 768), 1), ((64, 1000), 1), ((1, 32, 28, 28), 3), ((1, 8400, 4), 2)]:
        yield case(f"Concat {dims(shape)} axis {axis}", "Concat", shape, [weights(shape, 1)], axis=axis)
    for shape, starts, ends, axes, steps in [
        ((1, 64, 56, 56), [0], [32], [1], [1]), ((1, 64, 56, 56), [0, 0], [56, 56], [2, 3], [2, 2]), ((1, 3, 640, 640), [1, 1], [640, 640], [2, 3], [2, 2]), ((64, 1000), [10], [900], [1], [1]), ((1, 197, 768), [1], [197], [1], [1]),
    ]:
        values = [numpy.array(v, numpy.int64) for v in (starts, ends, axes, steps)]
        yield case(f"Slice {dims(shape)} {starts} {ends} {axes} {steps}", "Slice", shape, values)
    for shape, pads, mode in [((1, 64, 56, 56), [0, 0, 1, 1, 0, 0, 1, 1], "constant"), ((1, 3, 224, 224), [0, 0, 3, 3, 0, 0, 3, 3], "reflect"), ((1, 32, 64, 64), [0, 0, 2, 2, 0, 0, 2, 2], "edge")]:
        yield case(f"Pad {dims(shape)} {mode}", "Pad", shape, [numpy.array(pads, numpy.int64)], mode=mode)
    for shape, block in [((1, 64, 64, 64), 2), ((1, 256, 28, 28), 4)]:
        yield case(f"DepthToSpace {dims(shape)} {block}", "DepthToSpace", shape, blocksize=block)
        yield case(f"SpaceToDepth {dims(shape)} {block}", "SpaceToDepth", shape, blocksize=block)
    for shape, rows, axis in [((1000, 256), 300, 0), ((64, 4096), 500, 1), ((1, 100, 768), 49, 1)]:
        yield case(f"Gather {dims(shape)} {rows} axis {axis}", "Gather", shape, [RANDOM.integers(0, shape[axis], rows).astype(numpy.int64)], axis=axis)
    yield case("Tile 1x64x28x28", "Tile", (1, 64, 28, 28), [numpy.array([1, 1, 2, 2], numpy.int64)])
    yield case("Expand 1x64x1x1", "Expand", (1, 64, 1, 1), [numpy.array([1, 64, 56, 56], numpy.int64)])
    yield case("Split 1x64x56x56", "Split", (1, 64, 56, 56), [numpy.array([32, 32], numpy.int64)], axis=1)


def products():
    for m, k, n in [
        (1, 1280, 1000), (1, 2048, 1000), (1, 512, 512), (4, 1024, 1024), (8, 768, 3072), (16, 512, 512), (49, 384, 1152), (64, 256, 128), (128, 768, 768), (197, 192, 576), (197, 768, 3072), (197, 3072, 768),
        (256, 256, 256), (512, 512, 512), (1000, 64, 64), (3136, 96, 288), (100, 100, 100), (33, 77, 55), (512, 16, 16), (4096, 3, 64), (16, 4096, 16), (7, 1000, 1), (512, 64, 1), (1, 64, 8192),
    ]:
        yield case(f"MatMul {m}x{k}x{n}", "MatMul", (m, k), [weights((k, n))])
        if m <= 16 or n == 1000:
            yield case(f"Gemm {m}x{k}x{n} transB", "Gemm", (m, k), [weights((n, k)), weights((n,), 1)], transB=1)
    for b, m, k, n in [(12, 197, 64, 197), (12, 197, 197, 64), (8, 64, 64, 64), (64, 49, 32, 49), (3, 100, 24, 300), (16, 512, 64, 512)]:
        yield case(f"MatMul batch {b} {m}x{k}x{n}", "MatMul", (b, m, k), [weights((b, k, n))])
        # Of two computed matrices: of x and its transpose.
        yield case(f"MatMul of x and its transpose {b}x{m}x{k}", "MatMul of x", (b, m, k))


def elements():
    for op in [
        "Relu", "Sigmoid", "Tanh", "Exp", "Log", "Sqrt", "Erf", "Softplus", "Softsign", "HardSigmoid", "HardSwish", "Elu", "Selu", "LeakyRelu", "Abs", "Neg", "Floor", "Ceil", "Round", "Reciprocal",
        "Sin", "Cos", "Mish", "Gelu", "Sign", "Celu",
    ]:
        for shape in [(1, 64, 56, 56), (197, 768)]:
            yield case(f"{op} {dims(shape)}", op, shape)
    one = lambda value: numpy.array(value, numpy.float32)  # noqa: E731
    for exponent in [2.0, 3.0, 0.5, -1.0, -0.5, 1.5, 4.0]:
        yield case(f"Pow {exponent}", "Pow", (1, 64, 56, 56), [one(exponent)])
    for op in ["Add", "Mul", "Sub", "Div", "Max", "Min"]:
        for other in [(), (1, 64, 1, 1), (1, 64, 56, 56), (56,), (1, 1, 56, 56)][: 5 if op in ("Add", "Mul") else 2]:
            yield case(f"{op} 1x64x56x56 {dims(other) or 'scalar'}", op, (1, 64, 56, 56), [weights(other, 1) + 3 if other else one(1.7)])
    yield case("Add 197x768 768", "Add", (197, 768), [weights((768,), 1)])
    yield case("Add 64x1 64x1000", "Add", (64, 1), [weights((64, 1000), 1)])
    yield case("Clip 1x64x56x56", "Clip", (1, 64, 56, 56), [one(0.0), one(6.0)])
    yield case("PRelu 1x64x56x56", "PRelu", (1, 64, 56, 56), [weights((64, 1, 1), 1)])
    yield case("CumSum 64x1000", "CumSum", (64, 1000), [numpy.array(1, numpy.int64)])
    yield case("LRN 1x96x27x27", "LRN", (1, 96, 27, 27), size=5)


def cases():
    for family in (convolutions, pools, rows, reductions, movements, products, elements):
        yield from family()


def write(one, path):
    """The network of a case, opset 20."""
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, one["shape"])
    initialisers = [numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(one["constants"])]
    inputs = ["x"] + [value.name for value in initialisers]
    if one["op"] == "MatMul of x":
        nodes = [helper.make_node("Transpose", ["x"], ["t"], perm=[0, 2, 1]), helper.make_node("MatMul", ["x", "t"], ["y"])]
    elif one["op"] == "Split":
        nodes = [helper.make_node("Split", inputs, ["a", "b"], **one["attributes"]), helper.make_node("Mul", ["a", "b"], ["y"])]
    else:
        nodes = [helper.make_node(one["op"], inputs, ["y"], **one["attributes"])]
    kind = TensorProto.INT64 if one["op"].startswith("Arg") else TensorProto.FLOAT
    y = helper.make_tensor_value_info("y", kind, None)
    graph = helper.make_graph(nodes, "operator", [x], [y], initialisers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    onnx.save(onnx.shape_inference.infer_shapes(model), path)


def race(one, options, folder):
    """Milliseconds of each engine and the ratio of the best other one to ours; or why there is none."""
    model, source = os.path.join(folder, "case.onnx"), os.path.join(folder, "x.npy")
    write(one, model)
    # Positive where a function wants it.
    x = numpy.random.default_rng(1).standard_normal(one["shape"], dtype=numpy.float32)
    numpy.save(source, numpy.abs(x) + numpy.float32(0.1) if one["op"] in ("Log", "Sqrt", "Pow") else x)
    workers = []
    try:
        for engine in ["fornax", *options.engines]:
            output = os.path.join(folder, f"{engine}.npy")
            command = [options.fornax, "bench", model, "--threads", "1", "--input", source, "--save", output, "--drive"]
            if engine != "fornax":
                command = [sys.executable, os.path.join(HERE, "worker.py"), engine, model, source, output, "1"]
            try:
                workers.append(Worker(engine, command, output))
            except RuntimeError as error:
                if engine == "fornax":
                    return {"name": one["name"], "error": str(error)}
        rounds = []
        for turn in range(options.rounds + 1):
            order = workers[turn % len(workers) :] + workers[: turn % len(workers)]
            rounds.append({worker.engine: worker.run(options.seconds, 5)["cpu_ms"] for worker in order})
        apart = differences(workers)
    finally:
        for worker in workers:
            worker.stop()
    rounds = rounds[1:]
    ms = {engine: statistics.median(r[engine] for r in rounds) for engine in rounds[0]}
    ratio = statistics.median(min(v for e, v in r.items() if e != "fornax") / r["fornax"] for r in rounds)
    return {"name": one["name"], "ms": ms, "ratio": ratio, "apart": apart.get("fornax")}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("patterns", nargs="*", metavar="PATTERN")
    parser.add_argument("--every", type=int, default=1, help="only each N-th case")
    parser.add_argument("--engines", type=lambda text: text.split(","), default=["onnxruntime", "openvino"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=0.1, help="per engine and round")
    parser.add_argument("--below", type=float, default=0.95, help="print the cases below this ratio")
    parser.add_argument("--fornax", default=os.path.join(ROOT, "target/release/fornax"))
    parser.add_argument("--json", metavar="FILE", help="all results")
    parser.add_argument("--list", action="store_true", help="print the names of the cases")
    options = parser.parse_args()
    chosen = [one for one in cases() if not options.patterns or any(p in one["name"] for p in options.patterns)][:: options.every]
    if options.list:
        print("\n".join(one["name"] for one in chosen), f"{len(chosen)} cases", sep="\n")
        return
    results = []
    with tempfile.TemporaryDirectory() as folder:
        for one in chosen:
            results.append(race(one, options, folder))
            if options.json:
                with open(options.json, "w") as file:
                    json.dump(results, file, indent=1)
    refused = [r for r in results if "error" in r]
    found = sorted((r for r in results if "ratio" in r), key=lambda r: r["ratio"])
    for r in found:
        if r["ratio"] < options.below or (r["apart"] or 0) > 1e-3:
            times = ", ".join(f"{engine} {ms:.3f}" for engine, ms in r["ms"].items())
            print(f"{r['ratio']:6.2f}  {r['name']}  ({times} ms; apart {r['apart'] or 0:.1e})")
    for r in refused:
        print(f"     -  {r['name']}: {r['error']}")
    if found:
        mean = math.exp(statistics.fmean(math.log(r["ratio"]) for r in found))
        low = [sum(r["ratio"] < bound for r in found) for bound in (0.8, 0.95)]
        print(f"{len(found)} cases: geometric mean {mean:.2f}, {low[0]} below 0.8, {low[1]} below 0.95; {len(refused)} not run")


if __name__ == "__main__":
    main()
