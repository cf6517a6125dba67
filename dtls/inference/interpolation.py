"""Methods without weights that enlarge images: the interpolations."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from dtls.inference.method import Method


class Interpolation(Method):
    """nearest, bilinear, bicubic (a = −0.5), or lanczos (a = 3) as Pillow does them, of any number of channels.

    All but nearest go across, are cut to [0, 1], then down.
    """

    channelwise = True
    takes_same_size = True

    def __init__(self, name: str) -> None:
        self.name = name
        self.copies = name == "nearest"
        self.identity: Mapping[str, str] = {"method": name}

    def __call__(self, lr: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        if self.copies:
            return F.interpolate(lr.contiguous(), size, mode="nearest-exact")  # twice as fast so
        across = F.interpolate(lr, (lr.shape[-2], size[1]), mode=self.name, antialias=True).clamp_(0, 1)
        return F.interpolate(across, size, mode=self.name, antialias=True).clamp_(0, 1)

    def copied(self, pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        return nearest(pixels, size)


def nearest(pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
    """What the interpolation nearest makes of an array (h, w, …), of any type: (H, W, …); no number is computed."""
    rows, columns = (
        ((np.arange(m) + 0.5) * (n / m)).astype(np.intp) for n, m in zip(pixels.shape[:2], size, strict=True)
    )
    rest = pixels.shape[2:]
    channels = math.prod(rest)
    places = (columns[:, None] * channels + np.arange(channels)).ravel()  # one channel after the other is faster
    return pixels.reshape(len(pixels), -1).take(places, axis=1).take(rows, axis=0).reshape(*size, *rest)
