"""The map of SSIM has the numbers of the definition, and colours that keep their order."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.metrics import structural_similarity
from torch import Tensor

from dtls.errors import SizeError
from reports.metrics.ssim import ssim
from reports.metrics.ssim_map import local_ssim, ssim_map

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pairs(photographs: dict[str, Tensor]) -> list[tuple[Pixels, Pixels]]:
    """Each photograph, blurred to every fourth pixel, and itself."""
    originals = [image.permute(1, 2, 0).numpy()[:, :120] for image in photographs.values()]
    return [(np.repeat(np.repeat(hr[::4, ::4], 4, axis=0), 4, axis=1), hr) for hr in originals]


def test_local_ssim_is_that_of_skimage(pairs: list[tuple[Pixels, Pixels]]) -> None:
    for sr, hr in pairs:
        _, expected = structural_similarity(sr, hr, channel_axis=-1, data_range=255, full=True)  # type: ignore[no-untyped-call]
        assert np.allclose(local_ssim(sr, hr), expected.mean(axis=-1), rtol=0, atol=1e-4)


def test_the_mean_of_local_ssim_is_the_ssim_of_the_table(pairs: list[tuple[Pixels, Pixels]]) -> None:
    for sr, hr in pairs:
        a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] for x in (sr, hr))
        assert local_ssim(sr, hr)[3:-3, 3:-3].mean() == pytest.approx(ssim(a, b).item(), abs=1e-9)


def test_the_map_has_the_size_of_hr_and_is_darkest_where_nothing_differs(pairs: list[tuple[Pixels, Pixels]]) -> None:
    _, hr = pairs[0]
    same = ssim_map(hr, hr)
    assert same.shape == hr.shape
    assert same.dtype == np.uint8
    assert (same == same[0, 0]).all()
    assert same[0, 0].max() < 8


def test_the_scale_does_not_depend_on_the_image(pairs: list[tuple[Pixels, Pixels]]) -> None:
    sr, hr = pairs[0]
    quiet = sr.copy()
    quiet[60:] = hr[60:]
    assert np.array_equal(ssim_map(sr, hr)[:50], ssim_map(quiet, hr)[:50])


def test_no_likeness_and_less_are_brightest() -> None:
    hr = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (8, 8))[..., None].repeat(3, axis=2)
    assert (local_ssim(255 - hr, hr) < 0).all()
    assert (ssim_map(255 - hr, hr) == (251, 252, 191)).all()


def test_images_that_do_not_fit_are_refused() -> None:
    small, large = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)
    with pytest.raises(SizeError, match="SR is 8×8, HR is 9×8"):
        ssim_map(small, large)
    with pytest.raises(ValueError, match="uint8"):
        ssim_map(small.astype(np.float32), small)
