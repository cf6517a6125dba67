"""The time-conditioned U-Net of DTLS (Fig. 5): ConvNeXt blocks and linear attention, widths `dim × multipliers`.

Shapes: N images, C channels, H×W pixels. Each level but the last halves H and W, so both are multiples of
`UNet.multiple`. The network is convolutional (attention is linear in H·W), so any such size will do. With a patch
of p pixels the first level works at H/p×W/p, each of its pixels being p×p of the image's: p² times less work.
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
        places = torch.arange(half, device="cpu")  # on meta, torch would compile this
        frequencies = torch.exp(places * -(math.log(10_000) / (half - 1)))
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
        pixels = x.permute(0, 2, 3, 1)  # (N, H, W, C), contiguous where x is channels_last
        return F.layer_norm(pixels, self.weight.shape, self.weight, self.bias, eps=1e-5).permute(0, 3, 1, 2)


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
        h = self._depthwise(x)
        if self.shift is not None and time is not None:
            h = h + self.shift(F.gelu(time))[:, :, None, None]
        h = self.contract(F.gelu(self.expand(self.norm(h))))
        return h + self.shortcut(x)  # (N, c_out, H, W)

    def _depthwise(self, x: Tensor) -> Tensor:
        if x.is_cuda or x.dtype != torch.bfloat16 or not torch.is_grad_enabled():
            return self.depthwise(x)
        with torch.autocast(x.device.type, enabled=False):  # its gradient takes a CPU three times as long in bfloat16
            return self.depthwise(x.float())


class LinearAttention(nn.Module):
    """Pre-normalised attention whose cost is linear in the number of pixels (1812.01243), with a shortcut.

    With X the normalised pixels (H·W, C), and a head's K = X W_k, V = X W_v, Q = X W_q, what the heads add up to is
    Σ Q (softmax(K)ᵀ V) W_o = X Σ W_q (softmax(K)ᵀ X W_v) W_o: of the three, K alone is needed for every pixel.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        width = ATTENTION_HEADS * HEAD_WIDTH
        self.norm = ChannelNorm(channels)
        self.qkv = nn.Conv2d(channels, 3 * width, 1, bias=False)
        self.out = nn.Conv2d(width, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        n, channels, height, width = x.shape
        pixels = self.norm(x).permute(0, 2, 3, 1).reshape(n, height * width, channels)
        w_q, w_k, w_v = self.qkv.weight.view(3, -1, channels)  # (heads · head width, C) each
        focus = (pixels @ w_k.T).softmax(dim=1)  # (N, H·W, heads · head width)
        seen = (focus.mT @ pixels).view(n, ATTENTION_HEADS, HEAD_WIDTH, channels)
        context = seen @ _by_head(w_v).mT  # (N, heads, head width of k, head width of v)
        w_o = _by_head(self.out.weight.view(channels, -1).T)  # (heads, head width, C)
        mixer = (_by_head(w_q * HEAD_WIDTH**-0.5).mT @ context @ w_o).sum(dim=1)  # (N, C, C)
        h = torch.baddbmm(cast(Tensor, self.out.bias), pixels, mixer).view(n, height, width, channels)
        return x + h.permute(0, 3, 1, 2)


def _by_head(weight: Tensor) -> Tensor:
    """(heads · head width, C) → (heads, head width, C)."""
    return weight.view(ATTENTION_HEADS, HEAD_WIDTH, -1)


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
    """U(x_t, t) → x_{t,0}: the HR image the network expects behind a degraded one.

    Args:
        dim: width of the first level and of the time embedding; even, at least 4.
        multipliers: width of each level as a multiple of `dim`.
        residual: predict what to add to x_t instead of the image itself (the authors' `residual` switch).
        patch: side in pixels of what the first level sees as one (1 in the paper; as in 2301.11093 §3.2).
        conditions: channels that are seen behind the image's three, and are no part of what comes out.
    """

    def __init__(
        self, dim: int, multipliers: tuple[int, ...], *, residual: bool = False, patch: int = 1, conditions: int = 0
    ) -> None:
        super().__init__()
        if dim < 4 or dim % 2:
            raise ValueError(f"dim must be even and at least 4, not {dim}")
        if not multipliers or min(multipliers) < 1 or multipliers[0] != 1:
            raise ValueError(f"dim_mults must be positive and start with 1, not {multipliers}")
        if patch < 1:
            raise ValueError(f"a patch is at least 1 pixel, not {patch}")
        if conditions < 0:
            raise ValueError(f"conditions are at least 0 channels, not {conditions}")
        self.residual, self.patch = residual, patch
        self.multiple: int = patch * 2 ** (len(multipliers) - 1)
        channels, seen = 3 * patch**2, (3 + conditions) * patch**2
        widths = [dim * m for m in multipliers]
        pairs = list(pairwise(widths))

        self.time = TimeEmbedding(dim)
        self.encoder = nn.ModuleList(
            Level(c_in, c_out, dim, halve(c_out) if i < len(pairs) else nn.Identity(), norm=i > 0)
            for i, (c_in, c_out) in enumerate([(seen, widths[0]), *pairs])
        )
        self.middle1 = ConvNextBlock(widths[-1], widths[-1], dim)
        self.middle_attention = LinearAttention(widths[-1])
        self.middle2 = ConvNextBlock(widths[-1], widths[-1], dim)
        self.decoder = nn.ModuleList(
            Level(2 * c_deep, c_shallow, dim, double(c_shallow)) for c_shallow, c_deep in reversed(pairs)
        )
        self.head = ConvNextBlock(dim, dim, None)
        self.rgb = nn.Conv2d(dim, channels, 1)
        if residual:  # starts as the identity, a good first guess
            nn.init.zeros_(self.rgb.weight)
            nn.init.zeros_(cast(Tensor, self.rgb.bias))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """Images x (N, 3 + conditions, H, W) in [0, 1] and their timesteps t (N,) → (N, 3, H, W), not clamped."""
        time = self.time(t)
        h, skips = F.pixel_unshuffle(x, self.patch), []  # (N, (3 + conditions) p², H / p, W / p)
        for level in cast(Iterable[Level], self.encoder):
            h = level(h, time)
            skips.append(h)
            h = level.resample(h)  # (N, C, H / 2, W / 2), the last level apart
        h = self.middle2(self.middle_attention(self.middle1(h, time)), time)
        for level in cast(Iterable[Level], self.decoder):
            h = level.resample(level(torch.cat((h, skips.pop()), dim=1), time))  # (N, C, 2 H, 2 W)
        h = self.head(h, None)
        with torch.autocast(x.device.type, enabled=False):  # an image wants more than bfloat16's 8 bits
            out = F.pixel_shuffle(self.rgb(h.to(self.rgb.weight.dtype)), self.patch)
        return out + x[:, :3] if self.residual else out


def halve(channels: int) -> nn.Module:
    """Half the resolution by a strided convolution."""
    return nn.Conv2d(channels, channels, 4, stride=2, padding=1)


def double(channels: int) -> nn.Module:
    """Twice the resolution by a transposed convolution."""
    return nn.ConvTranspose2d(channels, channels, 4, stride=2, padding=1)
