"""How much memory images and results take on their way, how many may be on it at a time, and what is kept of it."""

import ctypes
import os
import time
from contextlib import suppress

from dtls.inference.method import Method
from storage.images.extents import Extent
from storage.images.limits import memory
from storage.images.room import give_back

SHARE = 12
"""Each of the three queues of a run, before reading, computing and writing, has this part of the memory."""
FILLING, REDUCING, ALPHA, OF_NETWORKS, PROJECTED, HOLE = 60, 6, 20, 60, 36, 110
"""Bytes a pixel, measured: of an image, for its colours where nothing is seen; of one of its channels, as it is made
smaller; of a result, for its alpha; of one of a network, as it is put together and checked, and projected; of one of
another method that is projected; and of one whose holes are filled, as it may be all hole."""

PRIMITIVES = 256
"""What oneDNN keeps of the code that it makes for each layer and size; a network has up to 60 layers that differ."""
ARENA_MAX, ARENAS = -8, 2
"""Of mallopt: how many parts of the memory threads share, each with holes of its own; eight a core, if not said."""
EVERY = 1.0
"""Seconds between two emptyings of these holes."""


def bytes_at_once(units: int) -> int:
    """How many bytes images on their way may take in each queue of each of `units` units."""
    return memory() // (SHARE * units)


def needed(extent: Extent, size: tuple[int, int], method: Method) -> int:
    """The bytes that an image and its result of `size` (H, W) take at their peak; measured, and a little more.

    Samples are there as they were read, once more in a batch, and as floats; results as they come out, and once more
    as they are encoded. What a network computes with is not counted: a tile's, whatever the size of the image.
    """
    pixels, results = extent.height * extent.width, size[0] * size[1]
    stored = extent.channels * extent.depth
    after = stored + max(stored + 2, 6)
    if method.copies:
        return max(extent.decoding, stored * pixels + after * results)
    before, matrices = 2 * stored + 4 * extent.channels, 0
    if not method.channelwise:  # a long narrow image is small, and its matrices are not
        matrices = sum(8 * n * n + 12 * n * m for n, m in zip(extent.size, size, strict=True))
        if method.is_learned:
            after += OF_NETWORKS
        else:
            before += REDUCING * extent.channels
            after += PROJECTED if method.projects else 0
    if method.needs_mask:
        after += HOLE
    if extent.channels not in (2, 4):
        return max(extent.decoding, before * pixels + after * results + matrices)
    return max(extent.decoding, (before + FILLING) * pixels, before * pixels + max(after, ALPHA) * results) + matrices


class Holes:
    """What the C library keeps between what is in use; it grows for as long as each image has another size."""

    def __init__(self) -> None:
        self._due = 0.0

    def empty(self) -> None:
        """Give it back to the system, once a second at most: that takes milliseconds."""
        if (now := time.monotonic()) >= self._due:
            self._due = now + EVERY
            give_back()


HOLES = Holes()


def keep_little() -> None:
    """Have this process's libraries keep little of what networks leave behind that see images of many sizes.

    To be called before the first network computes. oneDNN would keep code for a thousand layers and sizes, and the C
    library holes between what is in use, in more and more places: see `HOLES`.
    """
    os.environ.setdefault("ONEDNN_PRIMITIVE_CACHE_CAPACITY", str(PRIMITIVES))
    with suppress(OSError, AttributeError):  # a C library that is not GNU's
        ctypes.CDLL(None).mallopt(ARENA_MAX, ARENAS)
