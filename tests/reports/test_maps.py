"""Maps of error and SSIM have the numbers of the definitions, and colours that keep their order."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from skimage.color import rgb2lab
from skimage.metrics import structural_similarity
from torch import Tensor

from dtls.degradation import SizeError
from reports import metrics
from reports.maps import (
    ERROR_TOP,
    absolute_error,
    error_legend,
    error_map,
    local_ssim,
    ssim_legend,
    ssim_map,
)

Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def pairs(photographs: dict[str, Tensor]) -> list[tuple[Pixels, Pixels]]:
    """Each photograph, blurred to every fourth pixel, and itself."""
    originals = [picture.permute(1, 2, 0).numpy()[:, :120] for picture in photographs.values()]
    return [(np.repeat(np.repeat(hr[::4, ::4], 4, axis=0), 4, axis=1), hr) for hr in originals]


def test_local_ssim_is_that_of_skimage(pairs: list[tuple[Pixels, Pixels]]) -> None:
    for sr, hr in pairs:
        _, expected = structural_similarity(sr, hr, channel_axis=-1, data_range=255, full=True)  # type: ignore[no-untyped-call]
        assert np.allclose(local_ssim(sr, hr), expected.mean(axis=-1), rtol=0, atol=1e-4)


def test_the_mean_of_local_ssim_is_the_ssim_of_the_table(pairs: list[tuple[Pixels, Pixels]]) -> None:
    for sr, hr in pairs:
        a, b = (torch.from_numpy(x.copy()).permute(2, 0, 1)[None] for x in (sr, hr))
        assert local_ssim(sr, hr)[3:-3, 3:-3].mean() == pytest.approx(metrics.ssim(a, b).item(), abs=1e-9)


def test_the_error_is_the_mean_of_the_channels() -> None:
    hr = np.full((2, 3, 3), 100, np.uint8)
    sr = hr.copy()
    sr[1, 2] = (100, 70, 160)
    assert absolute_error(sr, hr).tolist() == [[0, 0, 0], [0, 0, 30]]


def test_maps_have_the_size_of_hr_and_are_darkest_where_nothing_differs(pairs: list[tuple[Pixels, Pixels]]) -> None:
    _, hr = pairs[0]
    for same in (error_map(hr, hr), ssim_map(hr, hr)):
        assert same.shape == hr.shape
        assert same.dtype == np.uint8
        assert (same == same[0, 0]).all()
        assert same[0, 0].max() < 8


def test_larger_errors_are_lighter_up_to_the_top_of_the_scale() -> None:
    hr = np.zeros((1, 256, 3), np.uint8)
    sr = np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2)
    lightness = rgb2lab(error_map(sr, hr))[0, :, 0]
    assert (np.diff(lightness[: ERROR_TOP + 1]) > 0).all()
    assert (lightness[ERROR_TOP:] == lightness[-1]).all()


def test_the_scale_does_not_depend_on_the_picture(pairs: list[tuple[Pixels, Pixels]]) -> None:
    for of in (error_map, ssim_map):
        sr, hr = pairs[0]
        quiet = sr.copy()
        quiet[60:] = hr[60:]
        assert np.array_equal(of(sr, hr)[:50], of(quiet, hr)[:50])


def test_negative_ssim_has_the_colour_of_none() -> None:
    hr = np.tile(np.array([[0, 255], [255, 0]], np.uint8), (8, 8))[..., None].repeat(3, axis=2)
    assert (local_ssim(255 - hr, hr) < 0).all()
    assert (ssim_map(255 - hr, hr) == ssim_legend()[35, -9]).all()


@pytest.mark.parametrize("legend", [error_legend, ssim_legend])
def test_a_legend_shows_the_whole_scale_and_words(legend: Callable[[], Pixels]) -> None:
    picture = legend()
    bar = rgb2lab(picture[35, 7:-8])[:, 0]
    assert picture.dtype == np.uint8
    assert (np.diff(bar) >= 0).all()
    assert bar[0] < 5
    assert bar[-1] > 95
    for words in (picture[:22], picture[-22:]):
        assert (words < 100).any()


def test_pictures_that_do_not_fit_are_refused() -> None:
    small, large = np.zeros((8, 8, 3), np.uint8), np.zeros((8, 9, 3), np.uint8)
    for of in (error_map, ssim_map):
        with pytest.raises(SizeError, match="SR is 8×8, HR is 9×8"):
            of(small, large)
        with pytest.raises(ValueError, match="uint8"):
            of(small.astype(np.float32), small)
