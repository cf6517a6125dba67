"""A membrane over the holes of an image: the smoothest surface that meets the image at the rim of each hole.

It solves the Laplace equation Δu = 0 in the hole, with u given on the pixels around it and no flow across the borders
of the image. Each pixel of the hole is then the mean of its neighbours. Where a method has filled a hole in a shade
of its own, the membrane over the difference at the rim, added to the result, takes the seam away (Poisson image
editing, Pérez et al. 2003, with the result as the guide).

The equations are solved by conjugate gradients with a multigrid V-cycle as the preconditioner. The coarse equations
are Galerkin's of the fine ones (A_c = Pᵀ A P, with P constant on 2×2 pixels), so holes of any shape are solved in
some twenty steps, whatever their size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Self

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.errors import DegradationError, SizeError
from dtls.inference.method import Method

TOLERANCE = 4e-6
"""Of what one more V-cycle would change at most, for images in [0, 1]. What is left to the exact membrane is at most
about four times that, a level of 16 bits."""
MAX_STEPS = 200
DAMPING, CORRECTION = 0.8, 1.6
"""Of Jacobi's steps; and by how much what comes of the coarse equations counts, as constant pieces are too stiff."""


class Membrane(Method):
    """Fills holes by a membrane, without a model: right for scratches, small spots, and skies."""

    channelwise = True
    takes_same_size = True
    needs_mask = True
    max_scale = 1

    def __init__(self, name: str) -> None:
        self.name = name
        self.identity: Mapping[str, str] = {"method": name, "protocol": "mask"}

    def __call__(self, x: Tensor, _: tuple[int, int], mask: Tensor | None = None) -> Tensor:
        """x (N, C, H, W) with the holes of `mask` (N, 1, H, W) filled."""
        return membrane(x, self.masked(mask))


def membrane(x: Tensor, mask: Tensor) -> Tensor:
    """`x` (N, C, H, W) with the holes filled by a membrane; mask: (N, 1, H, W), above 0 in the holes.

    Each image is solved alone, and so is the same in any batch. What is outside the holes stays exactly as it is.
    SizeError for an image that is all hole; DegradationError for holes that are not filled in MAX_STEPS.
    """
    return torch.stack([_filled(image, hole) for image, hole in zip(x, mask[:, 0] > 0, strict=True)])


def seamless(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """`x` in the holes and `y` elsewhere, both (N, C, H, W), without a seam between the two.

    In the holes it is x + h, where Δh = 0 there, and h = y − x on the pixels around them.
    """
    return torch.where(mask > 0, x + membrane(y - x, mask), y)


def _filled(x: Tensor, hole: Tensor) -> Tensor:
    """One image (C, H, W), whose `hole` (H, W) is filled."""
    if not hole.any():
        return x
    if hole.all():
        raise SizeError("all of the image is masked, so that nothing is known of it")
    part = _around(hole)
    levels = _levels(hole[part])
    filled = x.clone()
    for channel in filled[:, *part].split(1):  # each alone takes a third of the memory
        channel.copy_(torch.where(hole[part], _solved(levels, torch.where(hole[part], 0, channel)), channel))
    return filled


def _around(hole: Tensor) -> tuple[slice, slice]:
    """The smallest part of the image with the hole and the pixels around it."""

    def side(found: Tensor) -> slice:
        places = found.nonzero().flatten()
        return slice(max(0, int(places[0]) - 1), int(places[-1]) + 2)

    return side(hole.any(1)), side(hole.any(0))


def _levels(hole: Tensor) -> list["Level"]:
    """The equations in a hole, and coarser and coarser ones."""
    levels = [Level.of(hole)]
    while max(levels[-1].diagonal.shape) > 2:
        levels.append(levels[-1].coarser())
    return levels


def _solved(levels: list["Level"], known: Tensor) -> Tensor:
    """The membrane (C, H, W) in the hole, 0 elsewhere, in double precision; known: the image with 0 in the hole.

    In single precision, rounding would add up to tens of levels of 16 bits in large holes. The V-cycle is single: it
    only says in which direction to go on. Not a number where a pixel beside the hole is none.
    """
    finest = levels[0]
    right = torch.where(finest.diagonal > 0, neighbours(known.double()), 0)
    if not right.isfinite().all():
        return torch.full_like(right, torch.nan)
    u, residual = torch.zeros_like(right), right
    direction, before = torch.zeros_like(right), right.new_ones(len(right), 1, 1)
    for _ in range(MAX_STEPS):
        z = _cycle(levels, residual.float()).double()
        if float(z.abs().max()) <= TOLERANCE:
            return u
        now = (residual * z).sum((1, 2), keepdim=True)
        direction = z + now / _not_zero(before) * direction
        before, times = now, finest(direction)
        step = now / _not_zero((direction * times).sum((1, 2), keepdim=True))
        u = u + step * direction
        residual = residual - step * times
    raise DegradationError(f"its holes are of a shape whose membrane is not found in {MAX_STEPS} steps")


def _not_zero(x: Tensor) -> Tensor:
    return torch.where(x == 0, 1, x)


@dataclass(frozen=True)
class Level:
    """The equations on one grid, Σ w (u − u') = right side, w the weight between two neighbours.

    right, down: (H, W), the weights between a pixel and the one to its right, and the one below it. diagonal: (H, W),
    the sum of all weights of a pixel, those to known pixels included; 0 where there is no unknown.
    """

    right: Tensor
    down: Tensor
    diagonal: Tensor

    @classmethod
    def of(cls, hole: Tensor) -> Self:
        """The equations in a hole: all weights are 1, and pixels at a border have fewer neighbours."""
        unknown = hole.float()
        count = torch.full_like(unknown, 4)
        for edge in (count[0], count[-1], count[:, 0], count[:, -1]):
            edge -= 1
        return cls(_to_right(unknown), _to_right(unknown.mT).mT, count * unknown)

    def __call__(self, u: Tensor) -> Tensor:
        """A u, of u (C, H, W) that is 0 where there is no unknown."""
        found = self.diagonal * u
        across, along = self.right[:, :-1], self.down[:-1]
        found[..., :-1] -= across * u[..., 1:]
        found[..., 1:] -= across * u[..., :-1]
        found[:, :-1] -= along * u[:, 1:]
        found[:, 1:] -= along * u[:, :-1]
        return found

    def coarser(self) -> "Level":
        """The equations of pieces of 2×2 pixels, each of one value: Pᵀ A P."""
        right, down, diagonal = map(_even, (self.right, self.down, self.diagonal))
        inner = right[:, ::2].reshape(-1, 2, right.shape[1] // 2).sum(1) + down[::2].unflatten(1, (-1, 2)).sum(2)
        return Level(
            right[:, 1::2].reshape(-1, 2, right.shape[1] // 2).sum(1),
            down[1::2].unflatten(1, (-1, 2)).sum(2),
            restricted(diagonal) - 2 * inner,
        )

    @cached_property
    def damped(self) -> Tensor:
        """Of Jacobi's steps, what a residual is multiplied by, (H, W)."""
        return torch.where(self.diagonal > 0, DAMPING / _not_zero(self.diagonal), 0)


def neighbours(u: Tensor) -> Tensor:
    """The sum of the four neighbours of each pixel of u (C, H, W), of those that there are."""
    padded = F.pad(u, (1, 1, 1, 1))
    return padded[:, 1:-1, :-2] + padded[:, 1:-1, 2:] + padded[:, :-2, 1:-1] + padded[:, 2:, 1:-1]


def _to_right(unknown: Tensor) -> Tensor:
    """1 where a pixel and the one to its right are unknown."""
    return F.pad(unknown[:, :-1] * unknown[:, 1:], (0, 1))


def _even(x: Tensor) -> Tensor:
    """x (…, H, W) with sides of even length, by a row or a column of zeros."""
    return F.pad(x, (0, x.shape[-1] % 2, 0, x.shape[-2] % 2))


def restricted(x: Tensor) -> Tensor:
    """Pᵀ x: the sums of 2×2 pixels of x (…, H, W)."""
    even = _even(x)
    return even.unflatten(-1, (-1, 2)).sum(-1).unflatten(-2, (-1, 2)).sum(-2)


def _cycle(levels: list[Level], right: Tensor) -> Tensor:
    """About A⁻¹ of the right side (C, H, W): one V-cycle, symmetric, from zero."""
    level = levels[0]
    u = level.damped * right
    if len(levels) > 1:
        coarse = _cycle(levels[1:], restricted(right - level(u)))
        fine = coarse.repeat_interleave(2, -2).repeat_interleave(2, -1)[..., : u.shape[-2], : u.shape[-1]]
        u = u + CORRECTION * fine * (level.diagonal > 0)
    return u + level.damped * (right - level(u))
