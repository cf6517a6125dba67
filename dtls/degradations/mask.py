"""`mask`: holes fade to black, and are transparent in a degraded file.

D_t = 1 − m t/T in each pixel, m being 1 in the hole. An observation has an alpha channel behind the image's own:
A x = ((1 − m) x, 1 − m). Where no mask is given beside an observation, its alpha channel is 1 − m.
"""

from dataclasses import dataclass, field

import torch
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
        return x * (1 - share * _masks(x, info))

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        visible = (1 - _masks(x, info)).expand(len(x), -1, -1, -1)
        return torch.cat([x * visible, visible], dim=1)

    def lift(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The image with black in the hole, whatever y holds there."""
        return y[:, :-1] * (1 - mask_of(y, info))

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


def _masks(x: Tensor, info: Info) -> Tensor:
    """The masks of images x, of their type and on their device; an error says where they do not fit."""
    masks = info.masks
    if masks is None:
        raise DegradationError("inpainting needs a mask for each image")
    if masks.shape[1:] != (1, *x.shape[-2:]) or len(masks) not in (1, len(x)):
        wanted = f"{x.shape[-1]}×{x.shape[-2]}"
        raise SizeError(f"masks {tuple(masks.shape)} do not fit {len(x)} images of {wanted} pixels")
    return masks.to(x)
