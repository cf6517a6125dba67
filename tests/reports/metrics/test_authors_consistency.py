"""OpenCV's cubic without OpenCV: `data/opencv_cubic.npz` holds what OpenCV 4.14 itself made of these images."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from reports.metrics.authors_consistency import UNIT, opencv_cubic, wrapped_squares

OPENCV = np.load(Path(__file__).parents[1] / "data" / "opencv_cubic.npz")


def hwc(x: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    return x[0].permute(1, 2, 0).numpy()


@pytest.mark.parametrize("scale", [4, 8])
@pytest.mark.parametrize("name", ["astronaut", "coffee", "chelsea", "rocket"])
def test_photographs_are_reduced_as_opencv_reduces_them(
    name: str, scale: int, photographs: dict[str, Tensor]
) -> None:
    low = opencv_cubic(photographs[name][None], (128 // scale, 128 // scale))
    np.testing.assert_array_equal(hwc(low), OPENCV[f"{name}_{scale}"])


@pytest.mark.parametrize("scale", [4, 8])
def test_noise_is_reduced_as_opencv_reduces_it(scale: int) -> None:
    noise = torch.from_numpy(OPENCV["noise"]).permute(2, 0, 1)[None]
    low = opencv_cubic(noise, (32 // scale, 48 // scale))
    np.testing.assert_array_equal(hwc(low), OPENCV[f"noise_{scale}"])


def test_what_overshoots_is_clipped_as_opencv_clips_it() -> None:
    edge = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    edge[..., 4:] = 255
    assert opencv_cubic(edge, (8, 4)).unique().tolist() == [0, 255]


def test_differences_and_their_squares_wrap_at_256() -> None:
    hr, sr = (torch.full((1, 3, 8, 8), v, dtype=torch.uint8) for v in (20, 37))  # 17² = 289 = 256 + 33
    assert wrapped_squares(sr, hr, (2, 2)).item() == pytest.approx(12 * 33 * UNIT)
    assert wrapped_squares(hr, sr, (2, 2)).item() == pytest.approx(12 * 33 * UNIT)
    sr = torch.full((1, 3, 8, 8), 36, dtype=torch.uint8)  # 16² = 256
    assert wrapped_squares(sr, hr, (2, 2)).item() == 0


def test_the_sum_is_numpys_in_uint8(photographs: dict[str, Tensor]) -> None:
    hr = torch.stack([*photographs.values()])
    sr = hr.roll(1, dims=0)
    low = [opencv_cubic(x, (16, 16)).numpy() for x in (hr, sr)]
    expected = np.sum((low[0] - low[1]) ** 2, axis=(1, 2, 3)) * UNIT
    assert wrapped_squares(sr, hr, (16, 16)).tolist() == pytest.approx(expected.tolist(), abs=1e-12)
