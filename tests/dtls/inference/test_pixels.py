"""Pixels become tensors and the same pixels again, in 8 and in 16 bits."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from dtls.inference.pixels import to_pixels, to_unit


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_every_value_comes_back(dtype: type) -> None:
    largest = np.iinfo(dtype).max
    pixels: NDArray[Any] = np.arange(largest + 1, dtype=dtype).reshape(2, -1, 8, 1)
    tensor = to_unit(pixels)
    assert tensor.dtype == torch.float32
    assert (tensor.min().item(), tensor.max().item()) == (0, 1)
    assert tensor.shape == (2, 1, (largest + 1) // 16, 8)
    np.testing.assert_array_equal(to_pixels(tensor, dtype), pixels)


def test_pixels_are_left_as_they_are() -> None:
    for dtype in (np.uint8, np.uint16):
        pixels = np.full((1, 2, 2, 3), 7, dtype)
        to_unit(pixels)
        assert (pixels == 7).all()


def test_channels_stay_apart_and_values_are_rounded() -> None:
    x = torch.tensor([0.0, 0.5, 1.0])[None, :, None, None]
    assert to_pixels(x, np.uint8).tolist() == [[[[0, 128, 255]]]]
