"""Holes are drawn from the seed of each image alone, and are as large as is asked for."""

import pytest
import torch

from dtls.degradations.holes import SHARE, random_masks


@pytest.mark.parametrize("size", [(64, 64), (31, 90), (3, 2), (1, 5)])
def test_so_much_of_each_image_is_missing_and_something_is_known(size: tuple[int, int]) -> None:
    masks = random_masks(size, torch.arange(4))
    assert masks.shape == (4, 1, *size)
    assert set(masks.unique().tolist()) == {0, 1}
    assert masks.mean((1, 2, 3)).min() >= SHARE


def test_a_mask_depends_on_its_own_seed_alone() -> None:
    masks = random_masks((32, 32), torch.tensor([3, 1, 3]))
    assert torch.equal(masks[:1], masks[2:])
    assert torch.equal(masks[1:2], random_masks((32, 32), torch.tensor([1])))
    assert not torch.equal(masks[0], masks[1])


def test_more_of_an_image_can_be_missing_and_one_pixel_is_known() -> None:
    assert random_masks((40, 40), torch.tensor([0]), 0.6).mean() >= 0.6
    assert not random_masks((1, 1), torch.tensor([0])).any()
