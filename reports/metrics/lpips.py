"""LPIPS as what it is, a squared distance between features, so that one image's serve for many comparisons.

LPIPS sums, over five layers, the mean over places of Σ_c w_c (a_c − b_c)², a and b being of unit length over the
channels c. So with φ = a·√(w/places), all layers together, it is |φ(x) − φ(y)|².
"""

from typing import Any

import torch
from torch import Tensor

EPSILON = 1e-10
"""What the package `lpips` adds to a length before it divides by it."""


def features(x: Tensor, model: Any) -> list[Tensor]:
    """φ of images by the trunk and heads of `model`, an `lpips.LPIPS`: one tensor a layer, float32 (N, C, h, w).

    x: uint8 (N, 3, H, W) on the model's device, H and W at least 32.
    """
    scaling = model.scaling_layer
    std = scaling.scale * 127.5
    mean = scaling.shift * 127.5 + 127.5
    x = (x.to(std.dtype, memory_format=torch.channels_last) - mean) / std
    return [_unit(layer, head.model[-1].weight) for layer, head in zip(model.net(x), model.lins, strict=True)]


def distance(a: list[Tensor], b: list[Tensor]) -> Tensor:
    """LPIPS of images whose features are a and b: float64 (N,), 0 for equal ones."""
    return torch.stack([(x - y).square().sum(dim=(1, 2, 3)) for x, y in zip(a, b, strict=True)]).double().sum(dim=0)


def _unit(layer: Tensor, weight: Tensor) -> Tensor:
    """A layer's activations (N, C, h, w) at unit length over the channels, times √(weight / places); in place."""
    length = torch.linalg.vector_norm(layer, dim=1, keepdim=True)
    return layer.div_(length.add_(EPSILON)).mul_((weight / layer[0, 0].numel()).sqrt())
