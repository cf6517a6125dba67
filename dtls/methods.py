"""Methods: what turns LR pictures into SR pictures. `load_method` finds one by name.

A method is called with a batch of LR pictures (N, 3, h, w), float in [0, 1], and the size (H, W) wanted, and returns
(N, 3, H, W) in [0, 1]; SizeError where it cannot reach that size. `identity` is what its results depend on.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.checkpoint import checkpoint_hash, load_checkpoint
from dtls.degradation import Protocol as DownscalingProtocol
from dtls.degradation import SizeError, project, resize
from dtls.sampler import two_call

INTERPOLATIONS = ("nearest", "bilinear", "bicubic")
MAX_PIXELS = 2048 * 2048
"""The largest SR picture that goes through a model in one piece."""
METHODS = (*INTERPOLATIONS, "dtls")


class Method(Protocol):
    """What every method offers."""

    name: str

    @property
    def identity(self) -> Mapping[str, str]: ...

    def __call__(self, lr: Tensor, size: tuple[int, int], /) -> Tensor: ...


class Interpolation:
    """nearest, bilinear, or bicubic (a = −0.5) as Pillow does them: across, cut to [0, 1], then down."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.identity: Mapping[str, str] = {"method": name}

    def __call__(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        if self.name == "nearest":
            return F.interpolate(lr, size, mode="nearest-exact")
        across = F.interpolate(lr, (lr.shape[-2], size[1]), mode=self.name, antialias=True).clamp(0, 1)
        return F.interpolate(across, size, mode=self.name, antialias=True).clamp(0, 1)


class Downscaling:
    """A of a protocol: makes LR pictures from HR pictures, by one scale in both directions."""

    def __init__(self, protocol: DownscalingProtocol) -> None:
        self.name = f"downscale-{protocol}"
        self.protocol = protocol
        self.identity: Mapping[str, str] = {"method": self.name, "protocol": protocol}

    def __call__(self, hr: Tensor, size: tuple[int, int]) -> Tensor:
        _scale(hr, size)
        return resize(hr, size, self.protocol).clamp(0, 1)


class DomainTransfer:
    """DTLS with the weights of a checkpoint, in the two-call form of its sampler.

    With `projected`, the result is moved to the nearest picture that A reduces to the LR picture: exact for clean
    LR pictures, and never worse then; noise and JPEG blocks of the LR picture would come through.
    """

    name = "dtls"

    def __init__(self, checkpoint: Path, device: str | torch.device = "cpu", *, projected: bool = False) -> None:
        self.model = load_checkpoint(checkpoint, device)
        self.device = device
        self.projected = projected
        config = self.model.config
        self.identity: Mapping[str, str] = {
            "method": self.name,
            "checkpoint": checkpoint_hash(checkpoint),
            "protocol": config.protocol,
            "projected": str(projected),
        }

    @torch.inference_mode()
    def __call__(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """SR pictures (N, 3, H, W) in [0, 1]; H/h = W/w is a scale that some timestep of the model stands for."""
        if size[0] * size[1] > MAX_PIXELS:
            raise SizeError(f"{size[1]}×{size[0]} is more than the {MAX_PIXELS:,} pixels that fit through the model")
        scale = _scale(lr, size)
        t = self.model.degradation.timestep(scale)
        padded, padded_size = _pad(lr.to(self.device), scale, self.model.unet.multiple)
        x = resize(padded, padded_size, self.model.config.protocol)
        sr = two_call(self.model, self.model.degradation, x, t)[..., : size[0], : size[1]]
        if self.projected:
            sr = project(sr, lr.to(self.device), self.model.config.protocol)
        return sr.clamp(0, 1)


def load_method(
    name: str, checkpoint: Path | None = None, device: str | torch.device = "cpu", *, projected: bool = False
) -> Method:
    """The method called `name`; `dtls` wants a checkpoint. ValueError or CheckpointError says what is wrong."""
    if name in INTERPOLATIONS:
        return Interpolation(name)
    if name == "dtls":
        if checkpoint is None:
            raise ValueError("the method dtls needs a checkpoint")
        return DomainTransfer(checkpoint, device, projected=projected)
    raise ValueError(f"unknown method {name!r}; known: {', '.join(METHODS)}")


def _scale(lr: Tensor, size: tuple[int, int]) -> float:
    vertical, horizontal = size[0] / lr.shape[-2], size[1] / lr.shape[-1]
    if abs(vertical - horizontal) > 1e-6:
        raise SizeError(f"×{horizontal:g} across and ×{vertical:g} down: one scale is needed")
    return horizontal


def _pad(lr: Tensor, scale: float, multiple: int) -> tuple[Tensor, tuple[int, int]]:
    """Repeat the last row and column until the SR sides are multiples of `multiple`; and that SR size."""
    low = [_padded_side(n, scale, multiple) for n in lr.shape[-2:]]
    padding = (0, low[1] - lr.shape[-1], 0, low[0] - lr.shape[-2])
    return F.pad(lr, padding, mode="replicate"), (round(low[0] * scale), round(low[1] * scale))


def _padded_side(n: int, scale: float, multiple: int) -> int:
    for low in range(n, n + 8 * multiple):
        high = round(low * scale)
        if abs(high - low * scale) < 1e-6 and high % multiple == 0:
            return low
    raise SizeError(f"no multiple of {multiple} within reach of {n} pixels at ×{scale:g}")
