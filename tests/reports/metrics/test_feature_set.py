"""The features of a set: exact moments in any batches, an even sample in bounded memory."""

import pytest
import torch

from reports.metrics import feature_set
from reports.metrics.feature_set import FeatureSet
from tests.reports.metrics.test_fid_kid import feature_set as filled
from tests.reports.metrics.test_fid_kid import features


@pytest.mark.parametrize("batch", [1, 7, 500])
def test_batches_add_up_to_the_moments_of_all(batch: int) -> None:
    x = features(500, 0, shift=100)  # far from 0, where naive sums lose digits
    made = filled(x, batch)
    assert made.count == 500
    torch.testing.assert_close(made.mean, x.double().mean(dim=0), atol=1e-10, rtol=0)
    torch.testing.assert_close(made.covariance, x.double().T.cov(), atol=1e-9, rtol=0)


def test_an_even_sample_is_kept_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(feature_set, "SAMPLE", 100)
    made = FeatureSet()
    for start in range(0, 10_000, 250):
        made.add(torch.arange(start, start + 250, dtype=torch.float32)[:, None].expand(-1, 4))
    kept = made.sample[:, 0]
    assert kept.shape == (100,)
    assert len(kept.unique()) == 100
    assert abs(kept.mean() - 5_000) < 4 * 2_887 / 10


def test_features_of_another_width_are_refused() -> None:
    made = filled(features(10, 0))
    with pytest.raises(ValueError, match=r"features are \(N, 24\), not \(10, 3\)"):
        made.add(torch.zeros(10, 3))
    made.add(torch.zeros(0, 24))
    assert made.count == 10
