"""Any size in the memory there is: large pictures in overlapping tiles, batches and tiles halved when it is short."""

from collections.abc import Callable
from itertools import product

import torch
from torch import Tensor

TILE, OVERLAP, SMALLEST = 1024, 64, 128
"""Sides in pixels: of a tile, of what two neighbours share, and of the smallest tile tried."""

Run = Callable[[Tensor], Tensor]
"""From pictures (N, 3, H, W) to pictures of the same shape."""


class MemoryShortError(RuntimeError):
    """Memory that does not even suffice for the smallest tile."""


def within_memory(run: Run, x: Tensor, tile: int = TILE) -> Tensor:
    """`run(x)`, in tiles of `tile` pixels where x is larger, in smaller ones and in smaller batches where it must.

    MemoryShortError when a single tile of 128 pixels is still too much.
    """
    height, width = x.shape[-2:]
    try:
        return run(x) if max(height, width) <= tile else tiled(run, x, tile)
    except RuntimeError as error:
        if not ran_out_of_memory(error):
            raise
    if x.is_cuda:  # outside the except clause: there, the traceback still holds the tensors
        torch.cuda.empty_cache()
    if len(x) > 1:
        return torch.cat([within_memory(run, part, tile) for part in x.chunk(2)])
    largest = min(tile, max(height, width))
    if largest <= SMALLEST:
        raise MemoryShortError(f"{width}×{height}: the memory of {x.device} does not suffice, not even in tiles")
    return within_memory(run, x, max(largest // 2, SMALLEST))


def tiled(run: Run, x: Tensor, tile: int, overlap: int = OVERLAP) -> Tensor:
    """`run` of overlapping windows of x, at most `tile` pixels a side, put together by a linear blend."""
    overlap = min(overlap, tile // 4)
    out = torch.zeros_like(x)
    total = torch.zeros_like(x[:1, :1])
    rows, columns = (windows(n, tile, overlap) for n in x.shape[-2:])
    for vertical, horizontal in product(rows, columns):
        weight = ramp(vertical, x.shape[-2], overlap, x)[:, None] * ramp(horizontal, x.shape[-1], overlap, x)
        out[..., vertical, horizontal] += weight * run(x[..., vertical, horizontal])
        total[..., vertical, horizontal] += weight
    return out / total


def windows(n: int, tile: int, overlap: int) -> list[slice]:
    """The windows of one side of n pixels: evenly apart, all of one size, at least `overlap` shared."""
    if n <= tile:
        return [slice(0, n)]
    count = -(-(n - overlap) // (tile - overlap))
    starts = [round(i * (n - tile) / (count - 1)) for i in range(count)]
    return [slice(start, start + tile) for start in starts]


def ramp(window: slice, n: int, overlap: int, like: Tensor) -> Tensor:
    """How much each pixel of a window's side counts, of a picture's side of n pixels.

    Towards an edge inside the picture it falls from 1 to 0 over the middle half of the overlap: the quarter next to
    the edge, where the network sees padding instead of the picture, does not count.
    """
    place = torch.arange(window.stop - window.start, device=like.device, dtype=like.dtype) + 0.5
    edges = [*([place] if window.start > 0 else []), *([place.flip(0)] if window.stop < n else [])]
    weight = torch.ones_like(place)
    for away in edges:
        weight = torch.minimum(weight, ((away - overlap / 4) / (overlap / 2)).clamp(0, 1))
    return weight


def ran_out_of_memory(error: RuntimeError) -> bool:
    """Whether torch's error is about memory; of a CPU's, only its text tells."""
    return isinstance(error, torch.OutOfMemoryError) or any(
        words in str(error) for words in ("can't allocate memory", "ALLOC_FAILED")
    )
