"""Precision, recall, density and coverage are their papers' formulas, in any blocks; the nearest image is found."""

import pytest
import torch
from torch import Tensor

from reports.metrics import neighbours
from reports.metrics.feature_set import FeatureSet
from reports.metrics.metric import SetPair, TooFewError
from reports.metrics.neighbours import COVERAGE, PRECISION, Neighbourhoods, nearest, neighbourhoods, radii


def features(count: int, seed: int, shift: float = 0.0) -> Tensor:
    return torch.randn(count, 6, generator=torch.Generator().manual_seed(seed)) + shift


@pytest.fixture
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neighbours, "BLOCK", 7)


def plainly(generated: Tensor, real: Tensor, k: int) -> Neighbourhoods:
    """The definitions of the papers, in loops over images."""

    def distance(a: Tensor, b: Tensor) -> float:
        return (a.double() - b.double()).norm().item()

    def radius(x: Tensor, place: int) -> float:
        return sorted(distance(x[place], other) for i, other in enumerate(x) if i != place)[k - 1]

    of_real = [radius(real, i) for i in range(len(real))]
    of_made = [radius(generated, j) for j in range(len(generated))]
    near = [[distance(g, r) <= of_real[i] for i, r in enumerate(real)] for g in generated]
    is_made = [any(distance(r, g) <= of_made[j] for j, g in enumerate(generated)) for r in real]
    return Neighbourhoods(
        precision=sum(map(any, near)) / len(generated),
        recall=sum(is_made) / len(real),
        density=sum(map(sum, near)) / (k * len(generated)),
        coverage=sum(any(row[i] for row in near) for i in range(len(real))) / len(real),
    )


@pytest.mark.usefixtures("_small_blocks")
def test_the_numbers_are_those_of_the_papers_formulas() -> None:
    generated, real = features(23, 0, shift=0.7), features(31, 1)
    found, expected = neighbourhoods(generated, real, 3), plainly(generated, real, 3)
    assert found == expected
    assert 0 < found.precision < 1
    assert 0 < found.recall < 1


def test_a_copy_among_long_vectors_is_at_no_distance_whatever_rounding_leaves() -> None:
    x = features(10, 0).repeat(1, 200) + 1000
    distances, places = nearest(x, [features(30, 1).repeat(1, 200) + 1000, x])
    assert places.tolist() == [*range(30, 40)]
    assert distances.tolist() == [0] * 10


@pytest.mark.usefixtures("_small_blocks")
@pytest.mark.parametrize("copies", [1, 7])
def test_identical_sets_have_precision_recall_and_coverage_of_one(copies: int) -> None:
    x = features(20, 0, shift=100).repeat(copies, 1)  # with copies, balls have no size
    found = neighbourhoods(x, x.clone())
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


@pytest.mark.usefixtures("_small_blocks")
def test_disjoint_sets_have_nothing() -> None:
    assert neighbourhoods(features(20, 0), features(25, 1, shift=100)) == Neighbourhoods(0, 0, 0, 0)


@pytest.mark.usefixtures("_small_blocks")
def test_the_nearest_of_several_parts_is_found_and_a_copy_is_at_no_distance() -> None:
    others = features(40, 0, shift=50)
    x = torch.cat([features(9, 1, shift=50), others[33:34]])
    distances, places = nearest(x, others.split(15))
    whole = (x[:, None].double() - others.double()).norm(dim=2)
    assert places.tolist() == whole.argmin(dim=1).tolist()
    torch.testing.assert_close(distances, whole.min(dim=1).values, atol=1e-5, rtol=0)
    assert (places[-1].item(), distances[-1].item()) == (33, 0)
    assert nearest(x, [])[1].tolist() == [-1] * 10


def test_a_ball_reaches_to_the_kth_other_image() -> None:
    line = torch.tensor([[0.0], [1.0], [3.0], [7.0]])
    assert radii(line, 1).tolist() == [1, 1, 2, 4]
    assert radii(line, 3).tolist() == [7, 6, 4, 7]
    with pytest.raises(ValueError, match="needs more than 5 images in each set"):
        neighbourhoods(line, line)


def test_few_images_are_refused_or_flagged() -> None:
    few, some = FeatureSet(), FeatureSet()
    few.add(features(99, 0))
    some.add(features(100, 1))
    with pytest.raises(TooFewError, match="coverage of 99 images would be noise: they need 100 or more"):
        PRECISION.compute(SetPair(few, some))
    pair = SetPair(some, some)
    assert PRECISION.compute(pair).value == COVERAGE.compute(pair).value == 1
    assert "of 100 images are coarse" in str(PRECISION.compute(pair).warning)
