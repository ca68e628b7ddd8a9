"""Writes a ResNet-18 with random weights as an ONNX file, and the gradients that PyTorch computes of it.

    python tests/training/torch_gradients.py FOLDER        (torch, torchvision, onnx, safetensors)
    FORNAX_TORCH=FOLDER cargo test --test training torch

FOLDER gets model.onnx, batch norms as nodes, and step.safetensors: two images, their targets, and the gradient of each parameter in f64, rounded.

A gradient jumps where a ReLU or a maximum changes its mind, and one pixel that does so by rounding moves the sum over all pixels by a
thousandth. So images are drawn until nothing lies that close.
"""

import os
import sys

import torch
import torchvision
from safetensors.torch import save_file

folder = sys.argv[1]
os.makedirs(folder, exist_ok=True)
torch.manual_seed(0)
model = torchvision.models.resnet18(num_classes=10)
for norm in model.modules():
    # As after training: none of them is 0 or 1.
    if isinstance(norm, torch.nn.BatchNorm2d):
        torch.nn.init.uniform_(norm.weight, 0.7, 1.3)
        torch.nn.init.uniform_(norm.bias, -0.1, 0.1)
        norm.running_mean.uniform_(-0.1, 0.1)
        norm.running_var.uniform_(0.5, 1.5)
model.eval()

# How far, over the root mean square of the map, everything must be from where the gradient jumps.
APART = 2e-5
nearest = []


def rectified(_, operands):
    x = operands[0]
    nearest.append((x.abs().min() / x.square().mean().sqrt()).item())


def pooled(_, operands):
    x = operands[0]
    windows = torch.nn.functional.unfold(x.transpose(0, 1), 3, padding=1, stride=2)
    largest = windows.topk(2, dim=1).values
    # Zeros that a ReLU has left are equal and stay so.
    gaps = (largest[:, 0] - largest[:, 1])[largest[:, 0] > 0]
    nearest.append((gaps.min() / x.square().mean().sqrt()).item())


def drawn():
    for seed in range(100000):
        torch.manual_seed(seed)
        image = torch.randn(1, 3, 64, 64)
        nearest.clear()
        model(image)
        if min(nearest) > APART:
            yield image


hooks = []
for module in model.modules():
    if isinstance(module, torch.nn.ReLU):
        hooks.append(module.register_forward_pre_hook(rectified))
    if isinstance(module, torch.nn.MaxPool2d):
        hooks.append(module.register_forward_pre_hook(pooled))
with torch.no_grad():
    source = drawn()
    images = torch.cat([next(source), next(source)])
for hook in hooks:
    hook.remove()
torch.manual_seed(0)
targets = torch.rand(2, 10)
targets = targets / targets.sum(1, keepdim=True) / 2
torch.onnx.export(
    model,
    (images[:1],),
    os.path.join(folder, "model.onnx"),
    dynamo=False,
    do_constant_folding=False,
    training=torch.onnx.TrainingMode.PRESERVE,
    input_names=["input"],
    output_names=["logits"],
    dynamic_axes={"input": {0: "batch"}, "logits": {0: "batch"}},
)
model = model.double()
loss = -(targets.double() * torch.log_softmax(model(images.double()), 1)).sum()
loss.backward()
tensors = {f"grad.{name}": value.grad.float().contiguous() for name, value in model.named_parameters()}
save_file({"input": images, "targets": targets, **tensors}, os.path.join(folder, "step.safetensors"))
print(f"loss {loss.item():.6f}")
