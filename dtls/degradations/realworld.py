"""LR images as cameras and websites make them (the thesis, §2.1): y = (x ⊗ k)↓ + n, its parts in any order.

The parts are an isotropic and an anisotropic Gaussian blur, down-sampling, white noise, and JPEG, shuffled as in the
paper that the thesis follows (BSRGAN, arXiv 2103.14006, §3). The thesis gives no numbers. Those below are milder than
that paper's, which at ×4 blurs by up to σ = 2.8 pixels before and after down-sampling, and goes to noise of 25/255
and to JPEG's quality 30.

It is random, and not linear: nothing can be projected on such an image, and there is no consistency with it.
"""

import io
import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from dtls.degradations.operator import NOTHING, STEPS, Info, Operator
from dtls.degradations.resize import resize
from dtls.degradations.seeds import generators
from dtls.errors import DegradationError

BLUR = (0.1, 0.6)
"""σ of the isotropic blur, and of each axis of the other: in LR pixels, so that it is as strong in any order."""
NOISE = (1 / 255, 10 / 255)
"""σ of the noise, of which some goes again where blur or down-sampling come after it."""
QUALITY = (50, 95)
"""Of JPEG, as libjpeg counts it, with colour at half the resolution."""
MODES = ("bilinear", "bicubic")
"""Of down-sampling, with their support widened by the scale, as Pillow does it."""


@dataclass(frozen=True)
class RealWorld(Operator):
    """`realworld:s`: LR images by `realworld`, drawn of `Info.seeds`: D_t x = (1 − t/T) x + (t/T) B A x.

    B enlarges by Pillow's bicubic. Which images agree with such an LR image is not known.
    """

    times: float
    steps: int = field(default=STEPS, kw_only=True)
    is_linear = False
    projects = False
    draws = True
    changes_shape = True

    @property
    def spec(self) -> str:
        return f"realworld:{self.times:g}"

    @property
    def scale(self) -> float:
        return self.times

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        size = (x.shape[-2], x.shape[-1])
        return (1 - share) * x + share * resize(self.observe(x, info), size, "antialias")

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        if info.seeds is None:
            raise DegradationError("realworld draws of a seed for each image, and there are none")
        height, width = (max(1, round(n / self.scale)) for n in x.shape[-2:])
        return realworld(x, (height, width), info.seeds)

    def lift(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        """y enlarged to `Info.size`, or by the scale."""
        height, width = info.size or (round(n * self.scale) for n in y.shape[-2:])
        return resize(y, (height, width), "antialias")

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        raise DegradationError("there is no projection on images of realworld, as they are random")

    def misfit(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        raise DegradationError("nothing is consistent with images of realworld, as they are random")


@torch.no_grad()
def realworld(hr: Tensor, size: tuple[int, int], seeds: Tensor) -> Tensor:
    """LR images (N, C, h, w) of HR images (N, C, H, W), C = 1 or 3, both in [0, 1], of one type, on one device.

    Each is made alone, on the CPU, by what is drawn from its seed in `seeds` (N,), whole numbers: evenly from BLUR
    (three times), [0, π) (the turn of the anisotropic kernel), MODES, NOISE and QUALITY, and any order of the five
    parts. So an image is the same in any batch. It has no gradient.
    """
    images, drawing = hr.float().cpu().split(1), generators("realworld", seeds)
    return torch.cat([_made(x, size, generator) for x, generator in zip(images, drawing, strict=True)]).to(hr)


def _made(x: Tensor, size: tuple[int, int], generator: torch.Generator) -> Tensor:
    """The LR image (1, C, h, w) of x (1, C, H, W)."""

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()

    def whole(low: int, high: int) -> int:
        return int(torch.randint(low, high + 1, (), generator=generator))

    width, axes, turn = uniform(*BLUR), (uniform(*BLUR), uniform(*BLUR)), uniform(0, math.pi)
    mode, noise, quality = MODES[whole(0, 1)], uniform(*NOISE), whole(*QUALITY)

    def pixel(x: Tensor) -> float:
        """The side of an LR image's pixel in pixels of x."""
        return float(x.shape[-2] / size[0])

    parts = (
        lambda x: blurred(x, width * pixel(x)),
        lambda x: blurred_along(x, (axes[0] * pixel(x), axes[1] * pixel(x)), turn),
        lambda x: reduced(x, size, mode),
        lambda x: with_noise(x, noise, generator),
        lambda x: compressed(x, quality),
    )
    for place in torch.randperm(len(parts), generator=generator).tolist():
        x = parts[place](x)
    return x.clamp(0, 1)


def blurred(x: Tensor, sigma: float) -> Tensor:
    """x (N, C, H, W) under an isotropic Gaussian of σ pixels."""
    radius = _radius(sigma)
    steps = torch.arange(-radius, radius + 1, dtype=x.dtype)
    kernel = torch.exp(-steps.square() / (2 * sigma**2))
    kernel = (kernel / kernel.sum()).expand(x.shape[1], 1, 1, -1)  # (C, 1, 1, 2·radius + 1)
    across = F.conv2d(F.pad(x, (radius, radius, 0, 0), mode="replicate"), kernel, groups=x.shape[1])
    down = F.pad(across, (0, 0, radius, radius), mode="replicate")
    return F.conv2d(down, kernel.mT, groups=x.shape[1])


def blurred_along(x: Tensor, sigmas: tuple[float, float], turn: float) -> Tensor:
    """x (N, C, H, W) under a Gaussian of `sigmas` pixels along two axes at right angles.

    turn: by how many radians the first is turned from the row towards the column.
    """
    radius = _radius(max(sigmas))
    steps = torch.arange(-radius, radius + 1, dtype=x.dtype)
    down, across = steps[:, None], steps[None]
    along = (across * math.cos(turn) + down * math.sin(turn)) / sigmas[0]
    aside = (down * math.cos(turn) - across * math.sin(turn)) / sigmas[1]
    kernel = torch.exp(-(along.square() + aside.square()) / 2)
    padded = F.pad(x, (radius,) * 4, mode="replicate")
    size = (padded.shape[-2], padded.shape[-1])
    spectrum = torch.fft.rfftn(kernel / kernel.sum(), s=size).conj()  # wide kernels cost no more than narrow ones
    made = torch.fft.irfftn(torch.fft.rfftn(padded, dim=(-2, -1)) * spectrum, s=size, dim=(-2, -1))
    return made[..., : x.shape[-2], : x.shape[-1]].contiguous()


def reduced(x: Tensor, size: tuple[int, int], mode: str) -> Tensor:
    """x (N, C, H, W) at another size, by one of MODES. Not clamped."""
    return F.interpolate(x, size, mode=mode, antialias=True)


def with_noise(x: Tensor, sigma: float, generator: torch.Generator) -> Tensor:
    """x (N, C, H, W) with white Gaussian noise of that σ, each channel with its own. Not clamped."""
    return x + sigma * torch.randn(x.shape, generator=generator)


def compressed(x: Tensor, quality: int) -> Tensor:
    """x (1, C, H, W), C = 1 or 3, as it comes out of a JPEG file of that quality: in [0, 1], in steps of 1/255."""
    levels = (x[0].clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()  # (H, W, C)
    file = io.BytesIO()
    Image.fromarray(levels if levels.shape[-1] > 1 else levels[..., 0]).save(file, "JPEG", quality=quality)
    with Image.open(file) as opened:
        pixels = np.array(opened).reshape(levels.shape)
    return torch.from_numpy(pixels).permute(2, 0, 1)[None].float() / 255


def _radius(sigma: float) -> int:
    return max(1, math.ceil(3 * sigma))
