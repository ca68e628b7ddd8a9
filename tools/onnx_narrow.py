#!/usr/bin/env python3
"""Writes frontends/onnx/tests/operators/narrow.txt: what every element of the types below 8 bits, and of 8-bit floats, is as a number.

In: the element types of the installed `onnx` package (1.23.2 made the committed file). Out: a line for each type: its name, its number, and the
numbers of its elements in the order of their bits.

    pip install onnx
    python3 tools/onnx_narrow.py
"""
import pathlib

import numpy as np
import onnx

FILE = pathlib.Path(__file__).resolve().parent.parent / "frontends/onnx/tests/operators/narrow.txt"
BITS = {"INT4": 4, "UINT4": 4, "INT2": 2, "UINT2": 2, "FLOAT4E2M1": 4}
TYPES = ["FLOAT8E4M3FN", "FLOAT8E4M3FNUZ", "FLOAT8E5M2", "FLOAT8E5M2FNUZ", "FLOAT8E8M0", *BITS]


def main():
    lines = ["# What elements of narrow types are. Written by tools/onnx_narrow.py: do not edit."]
    for name in TYPES:
        code = getattr(onnx.TensorProto, name)
        dtype = onnx.helper.tensor_dtype_to_np_dtype(code)
        numbers = np.arange(1 << BITS.get(name, 8), dtype=np.uint8).view(dtype).astype(np.float32)
        lines.append(" ".join([name, str(code), *(repr(float(x)) for x in numbers)]))
    FILE.write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
