"""The inception score (Salimans et al. 2016) of the probabilities that a classifier gives generated images.

The score is exp of the mean of KL(p(y|x) ‖ p(y)) over the images: 1 where all images look like the same mixture of
classes, and the number of classes where each image is surely of one class and all classes are equally frequent.
"""

import torch
from torch import Tensor

from reports.metrics.metric import Metric, SetDistance, TooFewError

SPLITS = 10
"""The score is the mean over so many splits, as in the paper."""
LEAST, SENSIBLE = 100, 1000
"""A split of fewer images than classes cannot reach the highest score."""


def inception_score(probabilities: Tensor, splits: int = SPLITS) -> tuple[float, float]:
    """Mean and standard deviation of the score over `splits` equal parts of the images.

    probabilities: float (N, C), rows that add up to 1, N at least `splits`. Image i is in part i mod `splits`; images
    beyond a multiple of `splits` are left out.
    The score is exp E KL(p(y|x) ‖ p(y)), as in section 4 of arXiv 1606.03498, with 0·log 0 = 0.
    """
    size = len(probabilities) // splits
    if not size:
        raise ValueError(f"{len(probabilities)} images cannot be cut into {splits} parts")
    parts = probabilities[: size * splits].double().reshape(size, splits, -1)
    marginal = parts.mean(dim=0, keepdim=True)
    divergences = (torch.xlogy(parts, parts) - torch.xlogy(parts, marginal)).sum(dim=2)
    scores = divergences.mean(dim=0).exp()
    return scores.mean().item(), scores.std(correction=0).item()


def score_of(probabilities: Tensor) -> SetDistance:
    """The score of a set with its spread over the splits. TooFewError below 100 images; flagged below 1,000."""
    images = len(probabilities)
    if images < LEAST:
        raise TooFewError(f"an inception score of {images:,} images would be noise: it needs {LEAST:,} or more")
    warning = f"the inception score of {images:,} images is biased: compare it only with scores of as many"
    return SetDistance(*inception_score(probabilities), images, warning if images < SENSIBLE else None)


INCEPTION_SCORE = Metric(
    name="inception_score",
    label="Inception score",
    decimals=2,
    lower_is_better=False,
    description="exp E KL(p(y|x) ‖ p(y)) by a classifier trained on the real images' classes",
)
