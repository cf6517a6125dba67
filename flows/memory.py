"""How much memory images and results take on their way, and how many may be on it at a time."""

from dtls.interpolation import Downscaling, Interpolation, Square
from dtls.methods import Method
from storage.extents import Extent
from storage.limits import memory

SHARE = 12
"""Each of the three queues of a run, before reading, computing and writing, has this part of the memory."""
FILLING, REDUCING, ALPHA, OF_NETWORKS = 60, 10, 20, 60
"""Bytes a pixel, measured: of an image, for its colours where nothing is seen; of one of its channels, as it is made
smaller; of a result, for its alpha; and of one of a network, as it is put together and checked."""


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
    if method.name == "nearest":
        return max(extent.decoding, stored * pixels + after * results)
    before = 2 * stored + 4 * extent.channels
    if isinstance(method, Downscaling | Square):
        before += REDUCING * extent.channels
    elif not isinstance(method, Interpolation):
        after += OF_NETWORKS
    if extent.channels not in (2, 4):
        return max(extent.decoding, before * pixels + after * results)
    return max(extent.decoding, (before + FILLING) * pixels, before * pixels + max(after, ALPHA) * results)
