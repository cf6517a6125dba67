"""Features have one length for images of any size, and do not depend on the batch."""

from typing import get_args

import pytest
import torch
from torch import Tensor

from reports.metrics.choices import FeatureName
from reports.metrics.features import EXTRACTORS, IN_WORDS, LpipsFeatures, PixelFeatures
from reports.metrics.lpips import lpips


def images(count: int, height: int, width: int, seed: int = 0) -> Tensor:
    random = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (count, 3, height, width), dtype=torch.uint8, generator=random)


def test_every_name_has_an_extractor_and_words() -> None:
    assert EXTRACTORS.keys() == IN_WORDS.keys() == {*get_args(FeatureName)}


def test_pixels_are_means_of_the_places_they_stand_for() -> None:
    extract = PixelFeatures()
    flat = torch.tensor([10, 20, 255], dtype=torch.uint8)[:, None, None].expand(3, 7, 90)[None]
    found = extract(flat).reshape(3, -1)
    torch.testing.assert_close(found, torch.tensor([10, 20, 255])[:, None].expand(3, 1024) / 255)
    stripes = torch.zeros(1, 3, 256, 256, dtype=torch.uint8)
    stripes[..., ::4] = 200  # a quarter of each pixel of the result
    inner = extract(stripes).reshape(3, 32, 32)[..., 1:-1]
    torch.testing.assert_close(inner, torch.full((3, 32, 30), 50 / 255))
    x = images(2, 32, 32)
    assert torch.equal(extract(x), x.flatten(1) / 255)
    with pytest.raises(ValueError, match="images are uint8"):
        extract(x.float())


@pytest.mark.slow
def test_lpips_features_are_bounded_by_lpips_and_have_one_length() -> None:
    extract = LpipsFeatures()
    a, b = images(9, 128, 128), images(9, 128, 128, seed=1) // 2
    x, y = extract(a), extract(b)
    assert x.shape == (9, 1152)
    torch.testing.assert_close(extract(a[:1]), x[:1], rtol=1e-5, atol=1e-5)
    distance = lpips(a, b, extract._network)
    assert ((x - y).square().mean(dim=1) <= distance + 1e-6).all()
    assert ((x - y).square().mean(dim=1) > distance / 20).all()
    assert extract(images(1, 12, 200)).shape == (1, 1152)
