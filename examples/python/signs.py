"""A compiled library from Python, with ctypes and numpy.

    fornax compile examples/signs.onnx -o target/examples/signs.so
    python3 examples/python/signs.py target/examples/signs.so examples/signs.input.npy target/examples/python.f32
"""

import ctypes
import json
import os
import sys

import numpy as np


class Signs:
    """One arena: for one thread at a time. Several of them may run at once; ctypes releases the interpreter's lock."""

    def __init__(self, path):
        size, pointer, word, code = ctypes.c_size_t, ctypes.c_void_p, ctypes.c_uint32, ctypes.c_int
        library = ctypes.CDLL(os.path.abspath(path))

        def function(name, result, *arguments):
            found = library["signs_" + name]
            found.restype, found.argtypes = result, arguments
            return found

        self._strerror = function("strerror", ctypes.c_char_p, code)
        self._run = function("run_simple", code, pointer, pointer, pointer)
        self.signature = json.loads(function("signature", ctypes.c_char_p)())
        binding = self.signature["bindings"][0]
        self.input, self.output = binding["inputs"][0], binding["outputs"][0]

        # numpy aligns to 16 bytes, an arena begins at a multiple of 64.
        bytes = function("arena_bytes", size, word, word)(0, 1)
        block = np.empty(bytes + 63, np.uint8)
        self._arena = block[-block.ctypes.data % 64 :][:bytes]
        init = function("init", code, pointer, size, pointer, size, word)
        self._check(init(self._arena.ctypes.data, bytes, None, 0, 0))

    def _check(self, code):
        if code:
            raise RuntimeError(self._strerror(code).decode())

    def __call__(self, image):
        image = np.ascontiguousarray(image, np.float32)
        if list(image.shape) != self.input["shape"]:
            raise ValueError(f"expected {self.input['shape']}, found {list(image.shape)}")
        scores = np.empty(self.output["shape"], np.float32)
        self._check(self._run(image.ctypes.data, scores.ctypes.data, self._arena.ctypes.data))
        return scores


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit("usage: signs.py LIBRARY INPUT.npy [OUTPUT]")
    signs = Signs(sys.argv[1])
    scores = signs(np.load(sys.argv[2]))
    if len(sys.argv) > 3:
        scores.tofile(sys.argv[3])
    best = int(scores[0].argmax())
    print(f"class {best}, {signs.signature['labels'][best]}, score {scores[0, best]:.9g}")
