"""Writes the PyTorch checkpoints of frontends/scaling/tests/data, each with its state dict as safetensors next to it.

    python tools/torch_checkpoints.py frontends/scaling/tests/data     # needs torch and safetensors

Names say what a file has; what it holds beside tensors must not matter. A test compares each pair byte for byte.
"""

import argparse
import collections
import pathlib
import sys

import torch
from safetensors.torch import save_file


def tensors():
    """One state dict with everything that tensors can be: types, views, shared and empty storages, strides of every kind."""
    base = torch.arange(12, dtype=torch.float32).reshape(3, 4) / 8
    out = collections.OrderedDict(
        whole=base,
        transposed=base.t(),
        rows=base[1:],
        column=base[:, 2],
        expanded=torch.tensor([[1.5], [2.5]]).expand(2, 3),
        channels_last=torch.arange(16.0).reshape(1, 2, 2, 4).to(memory_format=torch.channels_last),
        half=torch.tensor([0.5, -2.0], dtype=torch.float16),
        brain=torch.tensor([0.5, -2.0], dtype=torch.bfloat16),
        double=torch.tensor([0.1], dtype=torch.float64),
        long=torch.tensor(-7),
        int=torch.tensor([1, -2], dtype=torch.int32),
        byte=torch.tensor([1, 255], dtype=torch.uint8),
        bool=torch.tensor([True, False]),
        empty=torch.zeros(0, 3),
        parameter=torch.nn.Parameter(torch.tensor([3.0])),
    )
    out._metadata = {"": {"version": 1}}
    return out


def run(name, values):
    """A state dict as training runs keep it, among other things."""
    return {
        "epoch": 3,
        "best": 0.5,
        name: values,
        "optimizer": {"state": {0: {"step": 1, "momentum": torch.ones(2)}}, "param_groups": [{"lr": 0.1, "params": [0]}]},
        "args": argparse.Namespace(model="efficientnet_b0", size=torch.Size([1, 2])),
        "seen": {"set", 1},
        "steps": collections.defaultdict(list, {"a": [1]}),
    }


def main(folder):
    one = {"w": torch.tensor([1.0, 2.0])}
    other = {"w": torch.tensor([3.0, 4.0])}
    unsigned = {"w": torch.tensor([65535, 1], dtype=torch.uint16)}
    cases = {
        "tensors": (tensors(), tensors(), {}),
        "tensors_legacy": (tensors(), tensors(), {"_use_new_zipfile_serialization": False}),
        "protocol_4": (one, one, {"pickle_protocol": 4}),
        "protocol_4_legacy": (one, one, {"pickle_protocol": 4, "_use_new_zipfile_serialization": False}),
        "run": (run("state_dict", one), one, {}),
        "run_averaged": (run("model", other) | {"model_ema": {"n_averaged": torch.tensor(5), "module.w": one["w"]}}, one, {}),
        "unsigned": (unsigned, unsigned, {}),
    }
    for name, (saved, expected, options) in cases.items():
        torch.save(saved, folder / f"{name}.pth", **options)
        save_file({key: value.detach().contiguous().clone() for key, value in expected.items()}, folder / f"{name}.safetensors")
    # What is refused: a whole model.
    torch.save(torch.nn.Linear(1, 1), folder / "model.pth")


main(pathlib.Path(sys.argv[1]))
