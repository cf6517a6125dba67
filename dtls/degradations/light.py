"""sRGB's transfer functions: from the code in files to linear light, and back (IEC 61966-2-1).

Both are odd functions, so that differences of images and values beyond [0, 1] go there and back, too.
"""

import torch
from torch import Tensor

TOE, SLOPE = 0.04045, 12.92
"""The largest code on the straight part at the dark end, and how many times its light it is."""
OFFSET, GAMMA = 0.055, 2.4


def to_light(x: Tensor) -> Tensor:
    """Linear light of sRGB's code x, both 0 … 1, of any shape."""
    code = x.abs()
    light = torch.where(code <= TOE, code / SLOPE, ((code + OFFSET) / (1 + OFFSET)) ** GAMMA)
    return light.copysign(x)


def to_encoded(light: Tensor) -> Tensor:
    """sRGB's code of linear light: the inverse of `to_light`."""
    size = light.abs()
    curved = (1 + OFFSET) * size.clamp(min=TOE / SLOPE) ** (1 / GAMMA) - OFFSET
    return torch.where(size <= TOE / SLOPE, size * SLOPE, curved).copysign(light)
