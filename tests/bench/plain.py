"""The U-Net of DTLS in its textbook form: what `dtls.networks.unet.UNet` computes, written as the papers write it.

Images are NCHW and contiguous, normalisation is its formula, attention makes q, k and v for every pixel, and
nothing is arranged for speed. Parameters have the names and shapes of `dtls.networks.unet.UNet`, so either loads the
other's state_dict. This is the baseline of the benchmark, and a reference to test against.
"""

import math
from collections.abc import Iterable
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

HEADS, HEAD_WIDTH = 4, 32


class PlainTimeEmbedding(nn.Module):
    """Sines and cosines of t through a two-layer perceptron: (N,) → (N, dim)."""

    frequencies: Tensor

    def __init__(self, dim: int) -> None:
        super().__init__()
        half = dim // 2
        exponents = torch.arange(half) * -(math.log(10_000) / (half - 1))
        self.register_buffer("frequencies", exponents.exp(), persistent=False)
        self.hidden = nn.Linear(dim, 4 * dim)
        self.out = nn.Linear(4 * dim, dim)

    def forward(self, t: Tensor) -> Tensor:
        angles = t[:, None] * self.frequencies
        return self.out(F.gelu(self.hidden(torch.cat((angles.sin(), angles.cos()), dim=-1))))


class PlainNorm(nn.Module):
    """Layer normalisation over the channels of each pixel: (x − mean) / √(variance + 1e-5) · weight + bias."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(channels))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        variance, mean = torch.var_mean(x, dim=1, correction=0, keepdim=True)
        normal = (x - mean) * torch.rsqrt(variance + 1e-5)
        return normal * self.weight[:, None, None] + self.bias[:, None, None]


class PlainBlock(nn.Module):
    """ConvNeXt block: depthwise 7×7, plus the time's shift, norm, two 3×3 around a GELU, and a shortcut."""

    def __init__(self, c_in: int, c_out: int, time_dim: int | None, *, norm: bool = True) -> None:
        super().__init__()
        self.depthwise = nn.Conv2d(c_in, c_in, 7, padding=3, groups=c_in)
        self.shift = nn.Linear(time_dim, c_in) if time_dim is not None else None
        self.norm = PlainNorm(c_in) if norm else nn.Identity()
        self.expand = nn.Conv2d(c_in, 2 * c_out, 3, padding=1)
        self.contract = nn.Conv2d(2 * c_out, c_out, 3, padding=1)
        self.shortcut = nn.Conv2d(c_in, c_out, 1) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor, time: Tensor | None) -> Tensor:
        h = self.depthwise(x)
        if self.shift is not None and time is not None:
            h = h + self.shift(F.gelu(time))[:, :, None, None]
        h = self.contract(F.gelu(self.expand(self.norm(h))))
        return h + self.shortcut(x)


class PlainAttention(nn.Module):
    """Linear attention (1812.01243): context = softmax(k) vᵀ, out = contextᵀ q / √32, with a shortcut."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm = PlainNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * HEADS * HEAD_WIDTH, 1, bias=False)
        self.out = nn.Conv2d(HEADS * HEAD_WIDTH, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, _, height, width = x.shape
        qkv = self.qkv(self.norm(x)).view(n, 3, HEADS, HEAD_WIDTH, height * width)
        q, k, v = qkv.unbind(1)  # (N, heads, head width, H·W) each
        context = k.softmax(dim=-1) @ v.mT  # (N, heads, head width of k, head width of v)
        h = context.mT @ (q * HEAD_WIDTH**-0.5)  # (N, heads, head width, H·W)
        return x + self.out(h.reshape(n, -1, height, width))


class PlainLevel(nn.Module):
    """Two blocks and attention at one resolution; `resample` leads to the next one."""

    resample: nn.Module

    def __init__(self, c_in: int, c_out: int, time_dim: int, resample: nn.Module, *, norm: bool = True) -> None:
        super().__init__()
        self.block1 = PlainBlock(c_in, c_out, time_dim, norm=norm)
        self.block2 = PlainBlock(c_out, c_out, time_dim)
        self.attention = PlainAttention(c_out)
        self.resample = resample

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        return self.attention(self.block2(self.block1(x, time), time))


class PlainUNet(nn.Module):
    """U(x_t, t) → x_{t,0}, of the same arguments as `dtls.networks.unet.UNet`."""

    def __init__(self, dim: int, multipliers: tuple[int, ...], *, residual: bool = False) -> None:
        super().__init__()
        self.residual = residual
        widths = [dim * m for m in multipliers]
        pairs = list(pairwise(widths))
        self.time = PlainTimeEmbedding(dim)
        self.encoder = nn.ModuleList(
            PlainLevel(
                c_in,
                c_out,
                dim,
                nn.Conv2d(c_out, c_out, 4, stride=2, padding=1) if i < len(pairs) else nn.Identity(),
                norm=i > 0,
            )
            for i, (c_in, c_out) in enumerate([(3, widths[0]), *pairs])
        )
        self.middle1 = PlainBlock(widths[-1], widths[-1], dim)
        self.middle_attention = PlainAttention(widths[-1])
        self.middle2 = PlainBlock(widths[-1], widths[-1], dim)
        self.decoder = nn.ModuleList(
            PlainLevel(2 * deep, shallow, dim, nn.ConvTranspose2d(shallow, shallow, 4, stride=2, padding=1))
            for shallow, deep in reversed(pairs)
        )
        self.head = PlainBlock(dim, dim, None)
        self.rgb = nn.Conv2d(dim, 3, 1)

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        time = self.time(t)
        h, skips = x, []
        for level in cast(Iterable[PlainLevel], self.encoder):
            h = level(h, time)
            skips.append(h)
            h = level.resample(h)
        h = self.middle2(self.middle_attention(self.middle1(h, time)), time)
        for level in cast(Iterable[PlainLevel], self.decoder):
            h = level.resample(level(torch.cat((h, skips.pop()), dim=1), time))
        out = self.rgb(self.head(h, None))
        return out + x if self.residual else out
