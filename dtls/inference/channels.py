"""Images of one channel or three, for networks that know only the other kind."""

import torch
from torch import Tensor

from dtls.inference.tiling import Run


def in_colour(run: Run, x: Tensor) -> Tensor:
    """`run(x)` of RGB images; grey ones (N, 1, h, w) go in as three equal channels, and the mean comes back."""
    return run(x) if x.shape[1] == 3 else run(x.expand(-1, 3, -1, -1)).mean(1, keepdim=True)


def channel_by_channel(run: Run, x: Tensor) -> Tensor:
    """`run` of each channel of x (N, C, h, w) as an image of its own, (N·C, 1, h, w)."""
    return torch.unflatten(run(x.flatten(0, 1)[:, None]), 0, x.shape[:2])[:, :, 0]
