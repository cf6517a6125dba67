"""Luma is Pillow's, and what is restored keeps it."""

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from dtls.degradations.grayscale import Grey, luma
from dtls.errors import SizeError


def test_luma_is_that_of_pillow(images: Tensor) -> None:
    image = images[0]
    pillow = Image.fromarray(image.permute(1, 2, 0).numpy()).convert("L")
    ours = Grey().observe(image[None].float() / 255)[0, 0] * 255
    np.testing.assert_allclose(ours.numpy(), np.asarray(pillow), rtol=0, atol=0.51)


def test_the_luma_is_the_same_at_every_step(images: Tensor) -> None:
    x = images[:3].double() / 255
    for t in (1, 14.5, 28):
        torch.testing.assert_close(luma(Grey()(x, t)), luma(x), rtol=0, atol=1e-12)
    assert torch.equal(Grey()(x, 28)[:, 0], Grey()(x, 28)[:, 2])


def test_images_of_another_number_of_channels_are_refused() -> None:
    with pytest.raises(SizeError, match="luma is of images of 3 channels, not of 1"):
        Grey().observe(torch.zeros(1, 1, 4, 4))


def test_a_projected_image_has_the_luma_exactly_however_far_off_its_colours_were(images: Tensor) -> None:
    truth = images[:3].double() / 255
    y = luma(truth)
    for spread in (0.05, 3):
        x = truth + spread * torch.randn(truth.shape, generator=torch.Generator().manual_seed(0), dtype=truth.dtype)
        projected = Grey().project(x, y, passes=1)
        assert 0 <= projected.min() <= projected.max() <= 1
        torch.testing.assert_close(luma(projected), y, rtol=0, atol=1e-12)
        assert ((projected - truth).square().sum(1) <= (x - truth).square().sum(1) + 1e-12).all()
        for other in (truth, y.expand(-1, 3, -1, -1)):  # of the nearest, no other image lies on the side of x
            assert ((x - projected) * (other - projected)).sum(1).max() <= 1e-12
