"""Methods without weights: interpolations, and what makes HR squares and LR images."""

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dtls.degradations.realworld import realworld, seeds_of
from dtls.degradations.resize import LRProtocol, SizeError, resize, scale_between


class Interpolation:
    """nearest, bilinear, bicubic (a = −0.5), or lanczos (a = 3) as Pillow does them, of any number of channels.

    All but nearest go across, are cut to [0, 1], then down.
    """

    def __init__(self, name: str) -> None:
        self.name = name
        self.identity: Mapping[str, str] = {"method": name}

    def __call__(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        if self.name == "nearest":
            return F.interpolate(lr.contiguous(), size, mode="nearest-exact")  # twice as fast so
        across = F.interpolate(lr, (lr.shape[-2], size[1]), mode=self.name, antialias=True).clamp_(0, 1)
        return F.interpolate(across, size, mode=self.name, antialias=True).clamp_(0, 1)


def nearest(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """What the interpolation nearest makes of an array (h, w, …), of any type: (H, W, …); no number is computed."""
    rows, columns = (
        ((np.arange(m) + 0.5) * (n / m)).astype(np.intp) for n, m in zip(pixels.shape[:2], size, strict=True)
    )
    rest = pixels.shape[2:]
    channels = math.prod(rest)
    places = (columns[:, None] * channels + np.arange(channels)).ravel()  # one channel after the other is faster
    return pixels.reshape(len(pixels), -1).take(places, axis=1).take(rows, axis=0).reshape(*size, *rest)


class Square:
    """The centre square, reduced to the size wanted by Pillow's bicubic: makes HR images of one size."""

    name = "square"
    identity: Mapping[str, str] = MappingProxyType({"method": name})

    def __call__(self, x: Tensor, size: tuple[int, int]) -> Tensor:
        height, width = x.shape[-2:]
        side = min(height, width)
        if side < max(size):
            raise SizeError(f"{width}×{height} is smaller than the size {max(size)}")
        top, left = (height - side) // 2, (width - side) // 2
        return resize(x[..., top : top + side, left : left + side], size, "antialias").clamp(0, 1)


class Downscaling:
    """Makes LR images from HR images by a protocol, by one scale in both directions.

    seed: of what `realworld` draws, for each image by its own pixels; the others draw nothing.
    """

    def __init__(self, protocol: LRProtocol, seed: int = 0) -> None:
        self.name = f"downscale-{protocol}"
        self.protocol, self.seed = protocol, seed
        drawn = {"seed": str(seed)} if protocol == "realworld" else {}
        self.identity: Mapping[str, str] = {"method": self.name, "protocol": protocol, **drawn}

    def __call__(self, hr: Tensor, size: tuple[int, int]) -> Tensor:
        scale_between(size, (hr.shape[-2], hr.shape[-1]))
        if self.protocol == "realworld":
            return realworld(hr, size, seeds_of(hr, self.seed))
        return resize(hr, size, self.protocol).clamp(0, 1)
