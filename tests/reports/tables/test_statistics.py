"""Intervals hold what they promise, tests say when nothing differs, and strengths that are known are found again."""

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap, wilcoxon

from reports.tables.statistics import (
    bradley_terry,
    difference,
    mean_interval,
    scores_of,
)

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def scores() -> pd.DataFrame:
    """200 images: b is 0.3 dB better than a on the average, c is a."""
    random = np.random.default_rng(0)
    a = random.normal(28, 3, 200)
    return pd.DataFrame({"a": a, "b": a + random.normal(0.3, 0.5, 200), "c": a})


def test_the_interval_is_scipys_percentile_bootstrap() -> None:
    values = np.random.default_rng(1).gamma(2, size=150)
    found = mean_interval(values)
    expected = bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=2).confidence_interval
    assert found.mean == values.mean()
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high), abs=0.01)
    assert (found.count, found.confidence) == (150, 0.95)


@pytest.mark.slow
def test_nineteen_of_twenty_intervals_hold_the_truth() -> None:
    random = np.random.default_rng(2)
    intervals = [mean_interval(random.exponential(size=60)) for _ in range(200)]
    assert 0.88 <= np.mean([i.low <= 1 <= i.high for i in intervals]) <= 0.98


@pytest.mark.slow
def test_a_large_sample_has_the_interval_that_resampling_would_give(monkeypatch: pytest.MonkeyPatch) -> None:
    values = np.random.default_rng(3).gamma(2, size=10_000)
    quick = mean_interval(values)
    monkeypatch.setattr("reports.tables.statistics.NORMAL_FROM", 10**9)
    slow = mean_interval(values)
    assert (quick.low, quick.high) == pytest.approx((slow.low, slow.high), abs=0.002)
    assert quick != slow


def test_the_same_numbers_and_seed_give_the_same_interval() -> None:
    values = np.random.default_rng(4).normal(size=50)
    assert mean_interval(values) == mean_interval(values)
    assert mean_interval(values) != mean_interval(values, seed=1)
    assert mean_interval(values, confidence=0.5).high < mean_interval(values).high


def test_what_is_missing_or_infinite_is_in_no_mean() -> None:
    found = mean_interval([1.0, NAN, 3.0, INF])
    assert (found.mean, found.count) == (2.0, 2)
    one = mean_interval([5.0])
    assert (one.low, one.mean, one.high) == (5.0, 5.0, 5.0)
    none = mean_interval([NAN])
    assert none.count == 0
    assert np.isnan([none.mean, none.low, none.high]).all()


@pytest.mark.parametrize("confidence", [0, 1, 95])
def test_a_confidence_that_is_no_share_is_refused(confidence: float) -> None:
    with pytest.raises(ValueError, match="confidence is between 0 and 1"):
        mean_interval([1, 2], confidence=confidence)


def test_a_difference_is_found_and_tested(scores: pd.DataFrame) -> None:
    found = difference(scores, "b", "a")
    assert found.interval.low < 0.3 < found.interval.high
    assert found.interval.low > 0
    assert found.p == pytest.approx(wilcoxon(scores.b, scores.a).pvalue)
    assert found.p < 1e-6
    assert found.wins == (scores.b > scores.a).sum()
    assert found.wins + found.losses == 200
    assert found.ties == 0


def test_where_less_is_better_the_smaller_one_wins(scores: pd.DataFrame) -> None:
    higher, lower = (difference(scores, "b", "a", better=better) for better in ("higher", "lower"))
    assert (lower.wins, lower.losses) == (higher.losses, higher.wins)
    assert lower.interval == higher.interval


def test_equal_methods_do_not_differ(scores: pd.DataFrame) -> None:
    found = difference(scores, "a", "c")
    assert (found.interval.low, found.interval.high, found.p) == (0, 0, 1)
    assert (found.wins, found.losses, found.ties) == (0, 0, 200)


def test_ties_are_counted_and_weigh_in_the_test() -> None:
    gains = np.array([1.0, 2.0, -0.5, 0.7] + [0.0] * 20)
    found = difference(pd.DataFrame({"a": gains, "b": 0.0}), "a", "b")
    assert (found.wins, found.losses, found.ties) == (3, 1, 20)
    assert found.p == wilcoxon(gains, zero_method="pratt").pvalue
    assert found.p > wilcoxon(gains[gains != 0] + 1).pvalue


def test_images_that_one_method_lacks_are_left_out_and_infinite_ones_win() -> None:
    scores = pd.DataFrame({"a": [1.0, NAN, INF, 2.0, INF], "b": [0.0, 5.0, 3.0, NAN, INF]})
    found = difference(scores, "a", "b")
    assert (found.wins, found.losses, found.ties, found.interval.count) == (2, 0, 1, 1)
    nothing = difference(scores.iloc[[1, 3]], "a", "b")
    assert nothing.interval.count == 0
    assert np.isnan(nothing.p)


def test_unknown_methods_are_named(scores: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="no numbers of x; there are a, b, c"):
        difference(scores, "a", "x")


def test_scores_stand_by_key_with_methods_in_their_order() -> None:
    frame = pd.DataFrame({"method": ["z", "a", "z"], "key": ["1", "1", "2"], "psnr": [1.0, 2.0, 3.0]})
    found = scores_of(frame, "psnr")
    assert list(found) == ["z", "a"]
    assert found["z"].tolist() == [1, 3]
    assert found["a"].isna().tolist() == [False, True]


def test_bradley_terry_finds_strengths_that_are_known() -> None:
    strengths = pd.Series({"a": -1.0, "b": 0.2, "c": 0.8})
    values = strengths.to_numpy()
    chances = 1 / (1 + np.exp(values - values[:, None]))
    wins = pd.DataFrame(1e6 * chances, index=strengths.index, columns=strengths.index)
    pd.testing.assert_series_equal(bradley_terry(wins), strengths, check_names=False, atol=1e-4)


def test_two_methods_have_the_logarithm_of_their_odds() -> None:
    wins = pd.DataFrame([[0.0, 30], [10, 0]], index=["a", "b"], columns=["a", "b"])
    found = bradley_terry(wins, prior=0)
    assert found.iloc[0] - found.iloc[1] == pytest.approx(np.log(3), abs=1e-5)


def test_who_never_lost_stays_finite_and_first() -> None:
    names = ["a", "b", "c"]
    wins = pd.DataFrame([[0.0, 9, 9], [0, 0, 5], [0, 4, 0]], index=names, columns=names)
    found = bradley_terry(wins)
    assert found.idxmax() == "a"
    assert found.abs().max() < 10
    assert found.sum() == pytest.approx(0, abs=1e-12)
    assert bradley_terry(wins * 0).tolist() == [0, 0, 0]


def test_wins_that_are_no_wins_are_refused() -> None:
    with pytest.raises(ValueError, match="not the same methods"):
        bradley_terry(pd.DataFrame([[0, 1], [1, 0]], index=["a", "b"], columns=["b", "a"]))
    with pytest.raises(ValueError, match="at least 0"):
        bradley_terry(pd.DataFrame([[0, -1], [1, 0]], index=["a", "b"], columns=["a", "b"]))
