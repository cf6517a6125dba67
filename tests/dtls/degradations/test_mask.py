"""Known pixels come out bit for bit, each image has its own hole, and what is no mask of theirs is refused."""

import pytest
import torch
from torch import Tensor

from dtls.degradations.mask import Mask, mask_of
from dtls.degradations.operator import Info
from dtls.errors import DegradationError, SizeError


@pytest.fixture
def x(images: Tensor) -> Tensor:
    """Images in [0, 1], (3, 3, 16, 20)."""
    return images[:3, :, :16, :20].float() / 255


@pytest.fixture
def holes() -> Info:
    masks = torch.zeros(3, 1, 16, 20)
    masks[0, 0, 2:9, 3:5] = 1
    masks[1, 0, 10:, 10:] = 1
    return Info(masks)


def test_known_pixels_are_those_of_the_file_bit_for_bit(x: Tensor, holes: Info) -> None:
    y, result = Mask().observe(x, holes), torch.rand(x.shape, generator=torch.Generator().manual_seed(0))
    for given in (holes, Info()):  # the hole is in alpha, too
        restored = Mask().project(result, y, given)
        hole = mask_of(y, holes).expand_as(x) == 1
        assert torch.equal(restored[~hole], x[~hole])
        assert torch.equal(restored[hole], result[hole])


def test_an_observation_is_transparent_in_the_hole_and_lifted_to_the_end_of_its_way(x: Tensor, holes: Info) -> None:
    y = Mask().observe(x, holes)
    assert torch.equal(mask_of(y), mask_of(y, holes))
    hidden = y.clone()
    hidden[:, :3] += mask_of(y) * 0.5
    assert torch.equal(Mask().lift(hidden), Mask()(x, 28, holes))


def test_one_mask_may_be_of_all_images(x: Tensor, holes: Info) -> None:
    assert holes.masks is not None
    one = Info(holes.masks[:1])
    assert torch.equal(Mask()(x, 9, one), Mask()(x, 9, Info(holes.masks[:1].expand(3, -1, -1, -1))))
    assert torch.equal(Mask().observe(x, one)[:, 3:], 1 - holes.masks[:1].expand(3, -1, -1, -1))


def test_an_image_without_known_pixels_has_no_misfit(x: Tensor) -> None:
    everything = Info(torch.ones(3, 1, 16, 20))
    y = Mask().observe(x, everything)
    assert Mask().misfit(x, y).tolist() == [0, 0, 0]


@pytest.mark.parametrize("shape", [(2, 1, 16, 20), (3, 3, 16, 20), (3, 1, 20, 16), (3, 1, 1, 1)])
def test_masks_of_other_images_are_refused(x: Tensor, shape: tuple[int, ...]) -> None:
    with pytest.raises(SizeError, match="do not fit 3 images of 20×16 pixels"):
        Mask()(x, 1, Info(torch.zeros(shape)))


def test_images_without_masks_are_refused(x: Tensor) -> None:
    with pytest.raises(DegradationError, match="inpainting needs a mask for each image"):
        Mask()(x, 1)


@pytest.mark.parametrize("size", [(16, 20), (13, 7), (1, 9)])
def test_holes_fade_to_what_is_around_them(size: tuple[int, int]) -> None:
    slope = torch.linspace(0.2, 0.8, size[1]).expand(1, 3, *size)
    mask = torch.zeros(1, 1, *size)
    mask[..., size[0] // 4 : size[0] // 2 + 1, 3:5] = 1
    filled = Mask()(slope, 28, Info(mask))
    assert torch.equal(torch.where(mask == 0, filled, slope), slope)
    assert torch.allclose(filled, slope, atol=0.12)  # a step of the slope is 0.1 at most
    assert not torch.equal(filled, slope)


def test_filling_is_linear_and_done_once_is_done(x: Tensor, holes: Info) -> None:
    x, other = x.double(), x.double().flip(0)
    family = Mask()
    filled = family(x, 28, holes)
    assert torch.allclose(family(filled, 28, holes), filled, rtol=0, atol=1e-15)
    both = family(2 * x - other, 28, holes)
    assert torch.allclose(both, 2 * filled - family(other, 28, holes), rtol=0, atol=1e-14)


def test_an_image_without_known_pixels_becomes_black(x: Tensor) -> None:
    assert Mask()(x, 28, Info(torch.ones(3, 1, 16, 20))).count_nonzero() == 0
