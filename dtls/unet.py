"""The time-conditioned U-Net of DTLS (Fig. 5): ConvNeXt blocks and linear attention, widths `dim × multipliers`.

Shapes: N pictures, C channels, H×W pixels. Each level but the last halves H and W, so both are multiples of
`UNet.multiple`. The network is convolutional (attention is linear in H·W), so any such size will do.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ATTENTION_HEADS, HEAD_WIDTH = 4, 32


class TimeEmbedding(nn.Module):
    """Sinusoidal features of t through a two-layer perceptron: (N,) → (N, dim)."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        frequencies = torch.exp(torch.arange(half) * -(math.log(10_000) / (half - 1)))
        self.register_buffer("frequencies", frequencies, persistent=False)
        self.hidden = nn.Linear(dim, 4 * dim)
        self.out = nn.Linear(4 * dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies  # (N, dim / 2)
        features = torch.cat((angles.sin(), angles.cos()), dim=-1)  # (N, dim)
        return self.out(F.gelu(self.hidden(features)))


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of each pixel."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        normal = (x - mean) * torch.rsqrt(variance + 1e-5)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class ConvNextBlock(nn.Module):
    """Depthwise 7×7, plus the time's shift, two 3×3 with twice the width between, and a shortcut (2201.03545)."""

    def __init__(self, c_in: int, c_out: int, time_dim: int | None, *, norm: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 7, padding=3, groups=c_in)
        self.shift = nn.Linear(time_dim, c_in) if time_dim is not None else None
        self.norm = ChannelNorm(c_in) if norm else nn.Identity()
        self.expand = nn.Conv2d(c_in, 2 * c_out, 3, padding=1)
        self.contract = nn.Conv2d(2 * c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        h = self.depthwise(x)
        if self.shift is not None and time is not None:
            h = h + self.shift(F.gelu(time))[:, :, None, None]
        h = self.contract(F.gelu(self.expand(self.norm(h))))
        return h + self.shortcut(x)  # (N, c_out, H, W)


class LinearAttention(nn.Module):
    """Pre-normalised attention whose cost is linear in the number of pixels (1812.01243), with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = ATTENTION_HEADS * HEAD_WIDTH
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * width, 1, bias=False)
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        qkv = self.qkv(self.norm(x)).view(n, 3, ATTENTION_HEADS, HEAD_WIDTH, height * width)
        q, k, v = qkv.unbind(1)  # (N, heads, head width, H·W) each
        context = k.softmax(dim=-1) @ v.mT  # (N, heads, head width of k, head width of v)
        h = context.mT @ (q * HEAD_WIDTH**-0.5)  # (N, heads, head width, H·W)
        return x + self.out(h.reshape(n, -1, height, width))


class Level(nn.Module):
    """Two blocks and attention at one resolution; `resample` leads to the next one."""

    resample: nn.Module

    def __init__(self, c_in: int, c_out: int, time_dim: int, resample: nn.Module, *, norm: bool = True) -> None:
        super().__init__()
        self.block1 = ConvNextBlock(c_in, c_out, time_dim, norm=norm)
        self.block2 = ConvNextBlock(c_out, c_out, time_dim)
        self.attention = LinearAttention(c_out)
        self.resample = resample

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.block2(self.block1(x, time), time))


class UNet(nn.Module):
    """U(x_t, t) → x_{t,0}: the HR picture the network expects behind a degraded one.

    Args:
        dim: width of the first level and of the time embedding; even, at least 4.
        multipliers: width of each level as a multiple of `dim`.
        residual: predict what to add to x_t instead of the picture itself (the authors' `residual` switch).
    """

    def __init__(self, dim: int, multipliers: tuple[int, ...], *, residual: bool = False) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"dim must be even and at least 4, not {dim}")
        if not multipliers or min(multipliers) < 1 or multipliers[0] != 1:
            raise ValueError(f"dim_mults must be positive and start with 1, not {multipliers}")
        self.residual = residual
        self.multiple: int = 2 ** (len(multipliers) - 1)
        widths = [dim * m for m in multipliers]
        pairs = list(pairwise(widths))

        self.time = TimeEmbedding(dim)
        self.encoder = nn.ModuleList(
            Level(c_in, c_out, dim, halve(c_out) if i < len(pairs) else nn.Identity(), norm=i > 0)
            for i, (c_in, c_out) in enumerate([(3, widths[0]), *pairs])
        )
        self.middle1 = ConvNextBlock(widths[-1], widths[-1], dim)
        self.middle_attention = LinearAttention(widths[-1])
        self.middle2 = ConvNextBlock(widths[-1], widths[-1], dim)
        self.decoder = nn.ModuleList(
            Level(2 * c_deep, c_shallow, dim, double(c_shallow)) for c_shallow, c_deep in reversed(pairs)
        )
        self.head = ConvNextBlock(dim, dim, None)
        self.rgb = nn.Conv2d(dim, 3, 1)
        if residual:  # starts as the identity, a good first guess
            nn.init.zeros_(self.rgb.weight)
            nn.init.zeros_(cast(Tensor, self.rgb.bias))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Pictures x (N, 3, H, W) in [0, 1] and their timesteps t (N,) → (N, 3, H, W), not clamped."""
        time = self.time(t)
        h, skips = x, []
        for level in cast(Iterable[Level], self.encoder):
            h = level(h, time)
            skips.append(h)
            h = level.resample(h)  # (N, C, H / 2, W / 2), the last level apart
        h = self.middle2(self.middle_attention(self.middle1(h, time)), time)
        for level in cast(Iterable[Level], self.decoder):
            h = level.resample(level(torch.cat((h, skips.pop()), dim=1), time))  # (N, C, 2 H, 2 W)
        out = self.rgb(self.head(h, None))
        return out + x if self.residual else out


def halve(channels: int) -> nn.Module:
    """Half the resolution by a strided convolution."""
    return nn.Conv2d(channels, channels, 4, stride=2, padding=1)


def double(channels: int) -> nn.Module:
    """Twice the resolution by a transposed convolution."""
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
