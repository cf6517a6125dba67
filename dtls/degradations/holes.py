"""Holes drawn at random, for training and tests of inpainting: rectangles and strokes, like stains and wires."""

import math

import torch
from torch import Tensor

from dtls.degradations.seeds import generators

SHARE = 0.25
"""How much of an image is missing, at least."""
SIDES = (0.1, 0.4)
"""Of a rectangle, and the length of a stroke, as parts of the image's sides."""
WIDTHS = (0.01, 0.04)
"""Of a stroke, as parts of the image's shorter side; one pixel at least."""


def random_masks(size: tuple[int, int], seeds: Tensor, share: float = SHARE) -> Tensor:
    """Masks (N, 1, H, W) in {0, 1}, 1 in holes, of images of `size` (H, W), each drawn from its seed in `seeds` (N,).

    Rectangles and strokes are added in turn until `share` of the image is missing. An image of one pixel has no hole.
    """
    return torch.stack([_drawn(size, share, generator) for generator in generators("holes", seeds)])


def _drawn(size: tuple[int, int], share: float, generator: torch.Generator) -> Tensor:
    """A mask (1, H, W)."""
    mask = torch.zeros(size)
    most = min(math.ceil(share * mask.numel()), mask.numel() - 1)
    while int(mask.sum()) < most:
        for draw in (_rectangle, _stroke):
            added = draw(mask, generator)
            if int(added.sum()) < mask.numel():  # something stays known
                mask = added
    return mask[None]


def _rectangle(mask: Tensor, generator: torch.Generator) -> Tensor:
    added = mask.clone()
    spans = []
    for n in mask.shape:
        length = max(1, round(n * _uniform(*SIDES, generator)))
        start = int(_uniform(0, n - length + 1, generator))
        spans.append(slice(start, start + length))
    added[tuple(spans)] = 1
    return added


def _stroke(mask: Tensor, generator: torch.Generator) -> Tensor:
    """The mask with all pixels nearer to a line than half its width."""
    height, width = mask.shape
    half = max(1.0, min(height, width) * _uniform(*WIDTHS, generator)) / 2
    length, turn = max(height, width) * _uniform(*SIDES, generator), _uniform(0, math.pi, generator)
    top, left = _uniform(0, height, generator), _uniform(0, width, generator)
    down, across = math.sin(turn), math.cos(turn)
    y = torch.arange(height)[:, None] + 0.5 - top
    x = torch.arange(width)[None] + 0.5 - left
    along = (x * across + y * down).clamp(0, length)
    near = (x - along * across).square() + (y - along * down).square() <= half**2
    return torch.where(near, 1, mask)


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()
