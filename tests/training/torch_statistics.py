"""Writes what tests/training/statistics.rs reads: a small network, photos for it, and the statistics that PyTorch's `update_bn` takes over them.

    python tests/training/torch_statistics.py tests/training/statistics        (torch, onnx, numpy, pillow, safetensors)

The folder gets model.onnx, batch norms as nodes; 0.png, 1.png, …; expected.safetensors: mean and variance of each batch norm, in f64, rounded.
Batches are of the photos in the order in which `fornax::train::random` shuffles them for statistics, computed here anew.
"""

import os
import sys

import numpy
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from torch.optim.swa_utils import update_bn

PHOTOS, BATCH, SIDE = 8, 3, 20
WORD = (1 << 64) - 1
# What the order of photos for statistics is drawn as.
LOOK = 7


def hashed(words, seed):
    """XXH3, 64 bits, of three words with a seed."""
    secret = [0xBE4BA423396CFEB8, 0x1CAD21F72C81017C, 0xDB979083E96DD4DE, 0x1F67B3B7A4A44072]
    total = 24 * 0x9E3779B185EBCA87
    for at in range(2):
        low = words[at] ^ ((secret[2 * at] + seed) & WORD)
        high = words[at + 1] ^ ((secret[2 * at + 1] - seed) & WORD)
        product = low * high
        total += (product & WORD) ^ (product >> 64)
    total &= WORD
    total = ((total ^ (total >> 37)) * 0x165667919E3779F9) & WORD
    return total ^ (total >> 32)


def split_mix(state):
    while True:
        state = (state + 0x9E3779B97F4A7C15) & WORD
        z = ((state ^ (state >> 30)) * 0xBF58476D1CE4E5B9) & WORD
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & WORD
        yield z ^ (z >> 31)


def shuffled(count, seed):
    numbers, items = split_mix(hashed([LOOK, 0, 0], seed)), list(range(count))
    for at in range(count - 1, 0, -1):
        other = (next(numbers) * (at + 1)) >> 64
        items[at], items[other] = items[other], items[at]
    return items


folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
torch.manual_seed(0)
model = nn.Sequential(
    nn.Conv2d(3, 8, 3, stride=2, padding=1, bias=False),
    nn.BatchNorm2d(8),
    nn.SiLU(),
    nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False),
    nn.BatchNorm2d(8, eps=1e-3),
    nn.ReLU(),
    nn.Conv2d(8, 12, 1),
    nn.BatchNorm2d(12),
    nn.AdaptiveAvgPool2d(1),
    nn.Flatten(),
    nn.Linear(12, 2),
)
for norm in model.modules():
    # As after training: none of them is 0 or 1.
    if isinstance(norm, nn.BatchNorm2d):
        nn.init.uniform_(norm.weight, 0.7, 1.3)
        nn.init.uniform_(norm.bias, -0.1, 0.1)
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
model.eval()
torch.onnx.export(
    model,
    (torch.zeros(1, 3, SIDE, SIDE),),
    os.path.join(folder, "model.onnx"),
    dynamo=False,
    do_constant_folding=False,
    training=torch.onnx.TrainingMode.PRESERVE,
    input_names=["input"],
    output_names=["logits"],
    dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
)
images = []
for at in range(PHOTOS):
    # Patches of colour under noise, of another contrast in each photo.
    coarse = torch.rand(1, 3, 4, 4) * 200
    pixels = nn.functional.interpolate(coarse, size=SIDE, mode="nearest")[0] + torch.rand(3, SIDE, SIDE) * 6 * at
    pixels = pixels.clamp(0, 255).byte()
    Image.fromarray(pixels.permute(1, 2, 0).numpy()).save(os.path.join(folder, f"{at}.png"), optimize=True)
    images.append((pixels.double() / 255 - 0.5) / 0.25)
order = shuffled(PHOTOS, 0)
whole = order[: PHOTOS // BATCH * BATCH]
batches = [torch.stack([images[at] for at in whole[first : first + BATCH]]) for first in range(0, len(whole), BATCH)]
model = model.double()
update_bn(batches, model)
found = {name: value.float() for name, value in model.named_buffers() if name.endswith(("running_mean", "running_var"))}
save_file(found, os.path.join(folder, "expected.safetensors"))
print(order)
