"""A membrane is harmonic in holes of any shape, leaves what is known alone, and takes seams away."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from dtls.errors import DegradationError, SizeError
from dtls.inference.membrane import TOLERANCE, Membrane, membrane, seamless
from dtls.inference.method import load_method
from dtls.registry import FILLINGS


def image(height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def mask(height: int, width: int, share: float = 0.6, seed: int = 0) -> Tensor:
    """A hole of scattered pixels, and of a rectangle up to the corner; the first pixel is known."""
    drawn = torch.rand(1, 1, height, width, generator=torch.Generator().manual_seed(seed)) < share
    drawn[..., height // 2 :, width // 3 :] = True
    drawn[..., 0, 0] = False
    return drawn.double()


def mean_of_neighbours(x: Tensor) -> Tensor:
    """Of each pixel; at a border, of those that there are."""
    around = torch.tensor([[0.0, 1, 0], [1, 0, 1], [0, 1, 0]], dtype=x.dtype)[None, None]
    total, count = (F.conv2d(y.flatten(0, 1)[:, None], around, padding=1) for y in (x, torch.ones_like(x)))
    return (total / count).view_as(x)


@pytest.mark.slow
@given(height=st.integers(2, 40), width=st.integers(2, 40), share=st.floats(0, 1), seed=st.integers(0, 9))
def test_each_pixel_of_a_hole_is_the_mean_of_its_neighbours_and_others_stay(
    height: int, width: int, share: float, seed: int
) -> None:
    x, hole = image(height, width), mask(height, width, share, seed)
    filled = membrane(x, hole)
    off = torch.where(hole > 0, mean_of_neighbours(filled) - filled, 0)
    assert off.abs().max() <= 3 * TOLERANCE
    assert torch.equal(torch.where(hole > 0, 0, filled), torch.where(hole > 0, 0, x))


def test_what_is_harmonic_comes_back_through_a_large_hole() -> None:
    y, x = torch.meshgrid(torch.arange(-60.0, 60), torch.arange(-90.0, 90), indexing="ij")
    harmonic = (0.5 + (x**2 - y**2 + x * y) / 30_000)[None, None].double()
    hole = torch.zeros_like(harmonic)
    hole[..., 10:-4, 20:-13] = 1
    assert (membrane(harmonic * (1 - hole), hole) - harmonic).abs().max() < 3 * TOLERANCE


@pytest.mark.parametrize(("height", "width"), [(60, 600), (20, 2000)])
def test_rounding_does_not_add_up_in_a_large_hole_of_an_image_in_single_precision(height: int, width: int) -> None:
    down = math.pi / height
    along = math.acosh(2 - math.cos(down))
    y, x = torch.arange(height, dtype=torch.double)[:, None], torch.arange(width - 0.5, -0.5, -1, dtype=torch.double)
    harmonic = 0.5 + 0.4 * torch.cos(down * (y + 0.5)) * torch.cosh(along * x) / math.cosh(along * float(x[0]))
    hole = torch.ones(1, 1, height, width)
    hole[..., 0] = 0
    filled = membrane((harmonic * (1 - hole)).float(), hole)
    assert (filled - harmonic).abs().max() * 65535 < 1.5


def test_a_hole_that_takes_more_steps_than_there_are_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dtls.inference.membrane.MAX_STEPS", 2)
    with pytest.raises(DegradationError, match="a shape whose membrane is not found in 2 steps"):
        membrane(image(40, 40), mask(40, 40))


def test_a_hole_from_edge_to_edge_of_a_flat_image_is_a_slope() -> None:
    x, hole = torch.zeros(2, 1, 2, 400, dtype=torch.float64)
    x[..., -30:], hole[..., 20:-30] = 1, 1
    slope = torch.linspace(0, 1, 352, dtype=torch.float64)[1:-1]
    assert (membrane(x[None], hole[None])[..., 20:-30] - slope).abs().max() < 3 * TOLERANCE


def test_images_of_one_batch_with_other_masks_are_as_each_alone() -> None:
    x = torch.cat([image(31, 45, seed) for seed in range(3)]).float()
    masks = torch.cat([mask(31, 45, share, seed=2).float() for share in (0.1, 0.5, 0.9)])
    masks[1] = 0
    alone = torch.cat([membrane(*one) for one in zip(x.split(1), masks.split(1), strict=True)])
    assert torch.equal(membrane(x, masks), alone)


def test_a_wrong_shade_in_a_hole_goes_and_its_detail_stays() -> None:
    x, hole = image(40, 40), mask(40, 40, 0.3)
    assert (seamless(x + 0.2, x, hole) - x).abs().max() < 3 * TOLERANCE
    other = seamless(0.5 * x, x, hole)
    detail = other - 0.5 * x
    assert torch.equal(torch.where(hole > 0, 0, other), torch.where(hole > 0, 0, x))
    assert torch.where(hole > 0, mean_of_neighbours(detail) - detail, 0).abs().max() < 3 * TOLERANCE


def test_a_hole_beside_what_is_no_number_is_filled_with_none() -> None:
    x, hole = image(9, 9), torch.zeros(1, 1, 9, 9)
    hole[..., 3:6, 3:6] = 1
    x[0, 0, 2, 4], x[0, 1, 0, 0] = torch.nan, torch.nan  # beside the hole, and far from it
    made = membrane(x, hole)[0, :, 3:6, 3:6]
    assert made[0].isnan().all()
    assert made[1:].isfinite().all()


def test_an_image_that_is_all_hole_is_refused() -> None:
    with pytest.raises(SizeError, match="all of the image is masked"):
        membrane(image(4, 4), torch.ones(1, 1, 4, 4))


@pytest.mark.parametrize("name", FILLINGS)
def test_the_methods_that_fill_are_called_with_a_mask(name: str) -> None:
    fill, x, hole = load_method(name), image(12, 9).float(), mask(12, 9).float()
    assert (fill.needs_mask, fill.takes_same_size, fill.max_scale) == (True, True, 1)
    assert torch.equal(fill(x, (12, 9), hole), membrane(x, hole))
    with pytest.raises(SizeError, match="a mask says where they are"):
        Membrane(name)(x, (12, 9))
