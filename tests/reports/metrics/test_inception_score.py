"""The inception score counts classes: ten sure and equally frequent ones are 10, one is 1."""

import math

import pytest
import torch

from reports.metrics.inception_score import inception_score, score_of
from reports.metrics.metric import TooFewError


def test_sure_and_uniform_over_ten_classes_is_ten() -> None:
    mean, spread = inception_score(torch.eye(10).repeat_interleave(20, dim=0))
    assert mean == pytest.approx(10, rel=1e-12)
    assert spread == pytest.approx(0, abs=1e-9)


def test_one_class_or_no_idea_is_one() -> None:
    for probabilities in (torch.eye(10)[:1].expand(50, 10), torch.full((50, 10), 0.1)):
        assert inception_score(probabilities)[0] == pytest.approx(1, abs=1e-6)


def test_the_mean_is_of_the_scores_of_the_parts() -> None:
    both, one = torch.eye(2).repeat(5, 1), torch.tensor([[1.0, 0.0]]).expand(10, 2)
    mean, spread = inception_score(torch.stack([both, one], dim=1).flatten(0, 1), splits=2)
    assert mean == pytest.approx(1.5)
    assert spread == pytest.approx(0.5)
    skewed = torch.tensor([[0.9, 0.1], [0.1, 0.9]])
    divergence = 0.9 * math.log(0.9 / 0.5) + 0.1 * math.log(0.1 / 0.5)
    assert inception_score(skewed, splits=1)[0] == pytest.approx(math.exp(divergence), rel=1e-6)


def test_few_images_are_refused_or_flagged() -> None:
    with pytest.raises(ValueError, match="9 images cannot be cut into 10 parts"):
        inception_score(torch.full((9, 2), 0.5))
    with pytest.raises(TooFewError, match="score of 90 images would be noise: it needs 100 or more"):
        score_of(torch.eye(10).repeat(9, 1))
    assert "of 100 images is biased" in str(score_of(torch.eye(10).repeat(10, 1)).warning)
    assert score_of(torch.eye(10).repeat(100, 1)).warning is None
