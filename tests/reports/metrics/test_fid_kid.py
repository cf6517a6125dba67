"""FID and KID are what scipy and torchmetrics say, in any batches; few images are refused or flagged."""

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor

from dtls.compat import allow_torchvision_import
from reports.metrics.feature_set import FeatureSet
from reports.metrics.fid_kid import fid, frechet, kid, squared_mmd
from reports.metrics.metric import TooFewError


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    """Correlated, skewed features: float32 (count, 24)."""
    random = torch.Generator().manual_seed(seed)
    mix = torch.randn(24, 24, generator=torch.Generator().manual_seed(9))
    return (torch.randn(count, 24, generator=random) @ mix).relu() + shift


def feature_set(x: Tensor, batch: int = 500) -> FeatureSet:
    made = FeatureSet()
    for part in x.split(batch):
        made.add(part)
    return made


def test_the_frechet_distance_is_scipys() -> None:
    a, b = (features(300, seed, shift).double() for seed, shift in ((0, 0.0), (1, 0.3)))
    moments = [part for x in (a, b) for part in (x.mean(dim=0), x.T.cov())]
    mean_a, cov_a, mean_b, cov_b = (part.numpy() for part in moments)
    root = sqrtm(cov_a @ cov_b).real
    expected = np.square(mean_a - mean_b).sum() + np.trace(cov_a + cov_b - 2 * root)
    assert frechet(*moments) == pytest.approx(expected, rel=1e-9)
    assert frechet(*moments[:2], *moments[:2]) == pytest.approx(0, abs=1e-9)


def test_covariances_without_full_rank_have_a_frechet_distance() -> None:
    a, b = (features(10, seed).double() for seed in (0, 1))
    found = frechet(a.mean(dim=0), a.T.cov(), b.mean(dim=0), b.T.cov())
    centred = [(x - x.mean(dim=0)) / 3 for x in (a, b)]  # the root's trace is their product's nuclear norm
    nuclear = torch.linalg.matrix_norm(centred[0] @ centred[1].T, "nuc")
    lead = a.mean(dim=0) - b.mean(dim=0)
    expected = lead @ lead + sum(x.square().sum() for x in centred) - 2 * nuclear
    assert found == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.slow
def test_squared_mmd_is_torchmetrics() -> None:
    allow_torchvision_import()
    from torchmetrics.image.kid import poly_mmd

    a, b = (features(80, seed, shift).double() for seed, shift in ((0, 0.0), (1, 0.5)))
    assert squared_mmd(a, b) == pytest.approx(poly_mmd(a, b).item(), rel=1e-9)


def test_squared_mmd_of_one_distribution_is_zero_on_the_average() -> None:
    values = [squared_mmd(features(50, 2 * i).double(), features(50, 2 * i + 1).double()) for i in range(200)]
    assert abs(np.mean(values)) < 3 * np.std(values) / 200**0.5
    assert min(values) < 0


@pytest.mark.slow
def test_fid_and_kid_grow_with_the_distance() -> None:
    sets = [feature_set(features(2_500, seed, shift)) for seed, shift in ((0, 0.0), (1, 0.0), (2, 0.2), (3, 1.0))]
    for distance in (fid, kid):
        same, near, far = (distance(sets[0], other).value for other in sets[1:])
        assert same < near < far


@pytest.mark.slow
def test_kid_repeats_itself_and_knows_its_spread() -> None:
    a, b = (feature_set(features(400, seed)) for seed in (0, 1))
    assert kid(a, b) == kid(a, b)
    assert kid(a, b) != kid(a, b, seed=1)
    assert kid(a, b).spread > 0  # type: ignore[operator]
    assert kid(a, b).images == 400


def test_few_images_are_refused_with_the_reason() -> None:
    few = feature_set(features(99, 0))
    many = feature_set(features(2_048, 1))
    with pytest.raises(TooFewError, match="KID of 99 images would be noise: it needs 100 or more"):
        kid(few, many)
    with pytest.raises(TooFewError, match="FID of 99 images would be noise: it needs 2,048 or more"):
        fid(many, few)
    assert fid(many, many).value == pytest.approx(0, abs=1e-6)


@pytest.mark.slow
def test_numbers_of_not_quite_enough_images_are_flagged() -> None:
    some, enough = feature_set(features(999, 0)), feature_set(features(1_000, 1))
    assert "noisy" in str(kid(some, enough).warning)
    assert kid(enough, enough).warning is None
    some, enough = feature_set(features(9_999, 0), 5_000), feature_set(features(10_000, 1), 5_000)
    assert "FID of 9,999 images is biased" in str(fid(enough, some).warning)
    assert fid(enough, enough).warning is None
