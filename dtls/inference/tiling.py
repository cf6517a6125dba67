"""Any size in the memory there is: large images in overlapping tiles, batches and tiles halved when it is short."""

from collections.abc import Callable
from itertools import product
from math import inf

import torch
from torch import Tensor

from dtls.choices import SMALLEST, TILE
from dtls.errors import MemoryShortError

OVERLAP = 64
"""What two neighbouring tiles share, in pixels.

Networks that enlarge work on the small image and look less far, so there neighbours share half as much.
"""

Run = Callable[[Tensor], Tensor]
"""From images (N, C, h, w) to images (N, C, scale·h, scale·w)."""


class Tiler:
    """`run(x)`, in tiles where x is larger than one, and in smaller tiles and batches where memory is short.

    tile: the longest side that goes through `run` in one piece, in pixels of what `run` is given. scale: how many
    times larger than x its result is. What ran out of memory once is not tried again: from then on at most half as
    many pixels go through `run` at a time. MemoryShortError when the smallest tile is still too much; that image
    teaches nothing about others.
    """

    def __init__(self, tile: int = TILE, scale: int = 1) -> None:
        self.tile, self.scale = tile, scale
        self.overlap = OVERLAP if scale == 1 else OVERLAP // 2
        self.most = inf

    def __call__(self, run: Run, x: Tensor) -> Tensor:
        """`run(x)` of x (N, C, h, w)."""
        most = self.most
        try:
            return self._within_memory(run, x, self.tile)
        except MemoryShortError:
            self.most = most
            raise

    def _within_memory(self, run: Run, x: Tensor, tile: int) -> Tensor:
        n, _, height, width = x.shape
        tile = min(tile, max(height, width))
        at_once = n * min(height, tile) * min(width, tile)
        smallest = n == 1 and tile <= SMALLEST
        if at_once <= self.most or smallest:
            try:
                whole = max(height, width) <= tile
                return run(x) if whole else tiled(run, x, tile, self.overlap, self.scale)
            except RuntimeError as error:
                if not ran_out_of_memory(error):
                    raise
            if x.is_cuda:  # outside the except clause: there, the traceback still holds the tensors
                torch.cuda.empty_cache()
            self.most = at_once / 2
        if smallest:
            raise MemoryShortError(f"{width}×{height}: the memory of {x.device} does not suffice, not even in tiles")
        if n > 1:
            return torch.cat([self._within_memory(run, part, tile) for part in x.chunk(2)])
        return self._within_memory(run, x, max(tile // 2, SMALLEST))


def tiled(run: Run, x: Tensor, tile: int, overlap: int = OVERLAP, scale: int = 1) -> Tensor:
    """`run` of overlapping windows of x (N, C, h, w), put together by a linear blend: (N, C, scale·h, scale·w).

    tile and overlap are pixels of x: the longest side of a window, and what two neighbours share at least.
    """
    overlap = min(overlap, tile // 4)
    height, width = x.shape[-2:]
    out = x.new_zeros(*x.shape[:2], scale * height, scale * width)
    rows, columns = (shares(windows(n, tile, overlap), overlap, scale, x) for n in (height, width))
    for (top, down), (left, across) in product(rows, columns):
        place = out[..., _times(top, scale), _times(left, scale)]
        place += down[:, None] * across * run(x[..., top, left])
    return out


def windows(n: int, tile: int, overlap: int) -> list[slice]:
    """The windows of one side of n pixels: evenly apart, all of one size, at least `overlap` shared."""
    if n <= tile:
        return [slice(0, n)]
    count = -(-(n - overlap) // (tile - overlap))
    starts = [round(i * (n - tile) / (count - 1)) for i in range(count)]
    return [slice(start, start + tile) for start in starts]


def shares(side: list[slice], overlap: int, scale: int, like: Tensor) -> list[tuple[slice, Tensor]]:
    """The windows of one side, and how much each pixel of their results counts there: 1 in sum where they overlap."""
    n = scale * side[-1].stop
    weights = [ramp(_times(window, scale), n, scale * overlap, like) for window in side]
    total = like.new_zeros(n)
    for window, weight in zip(side, weights, strict=True):
        total[_times(window, scale)] += weight
    return [(window, w / total[_times(window, scale)]) for window, w in zip(side, weights, strict=True)]


def ramp(window: slice, n: int, overlap: int, like: Tensor) -> Tensor:
    """How much each pixel of a window's side counts, of an image's side of n pixels.

    Towards an edge inside the image it falls from 1 to 0 over the middle half of the overlap: the quarter next to
    the edge, where the network sees padding instead of the image, does not count.
    """
    place = torch.arange(window.stop - window.start, device=like.device, dtype=like.dtype) + 0.5
    edges = [*([place] if window.start > 0 else []), *([place.flip(0)] if window.stop < n else [])]
    weight = torch.ones_like(place)
    for away in edges:
        weight = torch.minimum(weight, ((away - overlap / 4) / (overlap / 2)).clamp(0, 1))
    return weight


def _times(window: slice, scale: int) -> slice:
    return slice(scale * window.start, scale * window.stop)


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch's error is about memory; of a CPU's, only its text tells."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "ALLOC_FAILED")
    )
