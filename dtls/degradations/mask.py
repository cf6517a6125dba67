"""`mask`: holes fade to what the pixels around them make likely, and are transparent in a degraded file.

D_t x = x + t/T (F x − x), F x being the image with its holes filled by pull-push (Gortler et al. 1996, The Lumigraph,
§3.4). That is linear in x and leaves what is known as it is. With a mask m that is 1 in the holes, an observation has
an alpha channel behind the image's own: A x = ((1 − m) x, 1 − m). Where no mask is given beside it, that is 1 − m.

Cold Diffusion's holes fade to black (2208.09392, §5.2). A network then first has to learn what colour is around them.
"""

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.degradations.operator import NOTHING, STEPS, Info, Operator
from dtls.errors import DegradationError, SizeError


@dataclass(frozen=True)
class Mask(Operator):
    """Images (N, C, H, W) with a hole each, of `Info.masks`; observed as (N, C + 1, H, W), alpha last."""

    steps: int = field(default=STEPS, kw_only=True)
    needs_mask = True
    changes_shape = True
    pixelwise = True

    @property
    def spec(self) -> str:
        return "mask"

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        known = 1 - _masks(x, info)
        return torch.lerp(x, _filled(x * known, known), share)

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        visible = (1 - _masks(x, info)).expand(len(x), -1, -1, -1)
        return torch.cat([x * visible, visible], dim=1)

    def lift(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The image with its hole filled, whatever y holds there."""
        known = 1 - mask_of(y, info)
        return _filled(y[:, :-1] * known, known)

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """y, bit for bit, wherever no part of it is missing, and x elsewhere."""
        return torch.where(mask_of(y, info) == 0, y[:, :-1], x)

    def misfit(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The mean of (x − y)² over the pixels that are not missing; 0 where all are."""
        known = (mask_of(y, info) == 0).expand_as(x)
        squares = torch.where(known, x - y[:, :-1], 0).square()
        return squares.sum((1, 2, 3)) / known.sum((1, 2, 3)).clamp(min=1)


def mask_of(y: Tensor, info: Info = NOTHING) -> Tensor:
    """The mask of an observation y (N, C + 1, H, W): the one in `info`, or else 1 − alpha."""
    return 1 - y[:, -1:] if info.masks is None else _masks(y, info)


def _filled(parts: Tensor, known: Tensor) -> Tensor:
    """Pull-push: what is not known comes of means of 2×2 pixels, of 4×4 where there is nothing known in these, …

    parts: known · x (N, C, H, W). known: how much of each pixel is, (N or 1, 1, H, W) in [0, 1]; where nothing is in
    all of the image, it is 0.
    """
    if max(parts.shape[-2:]) == 1:
        return parts / torch.where(known == 0, 1, known)
    fewer, less = (F.avg_pool2d(v, 2, ceil_mode=True, divisor_override=1) for v in (parts, known))
    most = less.clamp(min=1)
    coarse = _filled(fewer / most, less / most)
    return parts + (1 - known) * F.interpolate(coarse, parts.shape[-2:], mode="bilinear")


def _masks(x: Tensor, info: Info) -> Tensor:
    """The masks of images x, of their type and on their device; an error says where they do not fit."""
    masks = info.masks
    if masks is None:
        raise DegradationError("inpainting needs a mask for each image")
    if masks.shape[1:] != (1, *x.shape[-2:]) or len(masks) not in (1, len(x)):
        wanted = f"{x.shape[-1]}×{x.shape[-2]}"
        raise SizeError(f"masks {tuple(masks.shape)} do not fit {len(x)} images of {wanted} pixels")
    return masks.to(x)
