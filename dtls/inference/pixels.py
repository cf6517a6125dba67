"""Pixels to tensors and back: (N, H, W, C) of 8 or 16 bits, and (N, C, H, W) in [0, 1]."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def to_unit(pixels: NDArray[Any]) -> Tensor:
    """uint8 or uint16 (N, H, W, C) as float32 (N, C, H, W) in [0, 1]."""
    largest = np.iinfo(pixels.dtype).max
    if pixels.dtype != np.uint8:  # torch has no arithmetic for uint16
        pixels = pixels.astype(np.float32)
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(largest)


def to_pixels(x: Tensor, dtype: np.dtype[Any] | type) -> NDArray[Any]:
    """Float (N, C, H, W) in [0, 1] as uint8 or uint16 (N, H, W, C), rounded; `x` is used up."""
    levels = x.mul_(np.iinfo(dtype).max).round_()
    if dtype == np.uint8:
        return levels.byte().permute(0, 2, 3, 1).cpu().numpy()
    return levels.permute(0, 2, 3, 1).cpu().numpy().astype(dtype)
