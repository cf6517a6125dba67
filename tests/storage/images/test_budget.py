"""The best file within a number of bytes, or the smallest there is."""

from typing import get_args

import numpy as np
import pytest
from PIL import Image

from storage.images import decode
from storage.images.budget import QUALITIES, CodecName, _encoded, encode_within


def image(side: int = 48) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    y, x = np.mgrid[:side, :side]
    smooth = np.stack([128 + 100 * np.sin(x / 5), 128 + 100 * np.cos(y / 7), 2.0 * (x + y)], axis=2)
    return (smooth + np.random.default_rng(0).normal(0, 12, smooth.shape)).clip(0, 255).astype(np.uint8)


@pytest.mark.parametrize("codec", get_args(CodecName))
def test_a_better_quality_would_not_fit(codec: CodecName) -> None:
    pixels = image()
    low, high = QUALITIES[codec]
    sizes = [len(_encoded(Image.fromarray(pixels), codec, quality)) for quality in range(low, high + 1)]
    for size in (sizes[0], sizes[20] + 1, sizes[60], 10**6):
        found = encode_within(pixels, codec, size)
        largest = max(s for s in sizes if s <= size)
        assert 0.98 * largest <= len(found) <= size  # WebP files may shrink by bytes where the quality grows
        assert decode.decode(found).shape == pixels.shape


@pytest.mark.parametrize("codec", get_args(CodecName))
def test_without_a_file_that_small_it_is_the_smallest(codec: CodecName) -> None:
    pixels = image()
    found = encode_within(pixels, codec, 10)
    assert found == _encoded(Image.fromarray(pixels), codec, QUALITIES[codec][0])
    assert len(found) > 10
