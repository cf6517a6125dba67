"""What a metric is: how its number is called, computed, printed and ranked.

Each metric is one object in the module that computes it; `registry` lists them.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from numbers import Real
from typing import Any, Literal, Self, TypeVar

from torch import Tensor, nn

from dtls.degradations.base import is_linear
from reports.metrics.degraded import can_be_measured, needs_alpha
from reports.metrics.feature_set import FeatureSet
from reports.metrics.planes import WHOLE, Measure, check_images, check_same_size, reduced_size

Need = Literal["hr", "lr", "reduced", "lpips", "file"]
T = TypeVar("T")


class Kept:
    """What several metrics or methods need, made once."""

    def __init__(self) -> None:
        self._found: dict[str, Any] = {}

    def once(self, name: str, make: Callable[[], T]) -> T:
        """What `make` returns at the first call of this name."""
        if name not in self._found:
            self._found[name] = make()
        found: T = self._found[name]
        return found


@dataclass(frozen=True)
class References:
    """What a batch of SR images is compared with, and how.

    hr: uint8 (N, 3, H, W). lr: uint8 (N, 3, h, w), made by `protocol`, the name of a degradation as
    `dtls.degradations.recorded` has them; alpha: uint8 (N, 1, h, w), its alpha channel where the degradation makes
    holes. measure: what PSNR and SSIM look at. lpips: the network of `load_lpips`. Each is None where there is none.
    kept: for all methods, such as features of the HR images.
    """

    hr: Tensor | None = None
    lr: Tensor | None = None
    protocol: str = "reference"
    measure: Measure = WHOLE
    lpips: nn.Module | None = None
    alpha: Tensor | None = None
    kept: Kept = field(default_factory=Kept, compare=False)

    @property
    def has(self) -> set[Need]:
        """What there is of that which metrics need; `reduced` are LR images by a linear protocol.

        LR images of which it is not known what results should agree with do not count: those of realworld, and
        images without an alpha channel where that would show the holes.
        """
        can_be_compared = (
            self.lr is not None
            and can_be_measured(self.protocol)
            and (self.alpha is not None or not needs_alpha(self.protocol))
        )
        there: dict[Need, bool] = {
            "hr": self.hr is not None,
            "lr": can_be_compared,
            "reduced": can_be_compared and is_linear(self.protocol),
            "lpips": self.lpips is not None,
        }
        return {need for need, is_there in there.items() if is_there}

    def check(self, sr: Tensor) -> None:
        """SizeError where the sizes of SR images do not fit, ValueError for what are no images."""
        check_images(sr, self.hr)
        if self.lr is not None and "lr" in self.has:
            (reduced_size if is_linear(self.protocol) else check_same_size)(sr, self.lr)

    def part(self, images: slice) -> "References":
        """The same for some of the images."""
        hr, lr, alpha = (None if x is None else x[images] for x in (self.hr, self.lr, self.alpha))
        return References(hr, lr, self.protocol, self.measure, self.lpips, alpha)


@dataclass(frozen=True)
class Compared:
    """The SR images of one method, uint8 (N, 3, H, W), with their references; kept: for this method."""

    sr: Tensor
    given: References
    kept: Kept = field(default_factory=Kept, compare=False)

    @property
    def measure(self) -> Measure:
        """What PSNR and SSIM look at."""
        return self.given.measure

    @property
    def hr(self) -> Tensor:
        """The HR images, for metrics that need hr."""
        return _there(self.given.hr)

    @property
    def lr(self) -> Tensor:
        """The LR images, for metrics that need lr."""
        return _there(self.given.lr)

    @property
    def lpips(self) -> nn.Module:
        """The network of LPIPS, for metrics that need lpips."""
        return _there(self.given.lpips)


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number of a method: its name in tables, and how it is printed and ranked.

    name: of the column. label, unit, description: for people. label_unreduced: the label where methods were given
    images of the results' size, if it is another. decimals: digits behind the point; notation: f for 27.31, e for
    1.23e-05, % for 86 %. is_primary: shown also where there is no room for all metrics. is_later: tables of earlier
    versions lack its column.
    """

    name: str
    label: str
    description: str
    decimals: int
    lower_is_better: bool = False
    unit: str = ""
    notation: Literal["f", "e", "%"] = "f"
    is_primary: bool = False
    is_later: bool = False
    label_unreduced: str = ""

    def labelled(self, *, reduced: bool) -> Self:
        """The same metric with the label for methods that enlarge images, or for those that restore them."""
        return self if reduced or not self.label_unreduced else replace(self, label=self.label_unreduced)

    @property
    def form(self) -> str:
        """The format specification of a number."""
        return f".{self.decimals}{self.notation}"

    @property
    def better(self) -> Literal["higher", "lower"]:
        """Which numbers are better."""
        return "lower" if self.lower_is_better else "higher"

    @property
    def arrow(self) -> str:
        """The direction in which it gets better."""
        return "↓" if self.lower_is_better else "↑"

    @property
    def heading(self) -> str:
        """The head of its column: `PSNR ↑`."""
        return f"{self.label} {self.arrow}"

    def text(self, value: object) -> str:
        """The number as people read it: a dash for none, ∞ for infinite."""
        number = finite_or_none(value, infinite=True)
        if number is None:
            return "–"
        return "∞" if math.isinf(number) else format(number, self.form)

    def best(self, values: Iterable[object]) -> str | None:
        """The printed form of the best of `values`; all that print like it are the best. None without a number."""
        numbers = [n for value in values if (n := finite_or_none(value, infinite=True)) is not None]
        return self.text((min if self.lower_is_better else max)(numbers)) if numbers else None


@dataclass(frozen=True, kw_only=True)
class SampleMetric(Metric):
    """A metric of single images, a column of `metrics.parquet`.

    needs: what it compares with; where that is missing the metric is left out. compute: the numbers of a batch,
    float64 (N,), NaN where the images are too small for the metric.
    """

    needs: frozenset[Need]
    compute: Callable[[Compared], Tensor]


class TooFewError(ValueError):
    """Too few images for a number that means something."""


@dataclass(frozen=True)
class SetDistance:
    """A number of a set of images. spread: its standard deviation over subsets, None where there are none.

    images: in the smaller set. warning: why the number says little, None where it says enough.
    """

    value: float
    spread: float | None
    images: int
    warning: str | None


@dataclass(frozen=True)
class SetPair:
    """The features of what a method made, and those of real images. kept: what several metrics need, made once."""

    made: FeatureSet
    real: FeatureSet
    kept: Kept = field(default_factory=Kept, compare=False)


@dataclass(frozen=True, kw_only=True)
class SetMetric(Metric):
    """A metric of all images of a method together; it is part of the summary, and no column of `metrics.parquet`.

    compute: from the features of a method's images and those of the real ones, which are HR in a comparison.
    It raises `TooFewError` below the least number of images.
    """

    compute: Callable[[SetPair], SetDistance]


def mean_or_infinite(row: Mapping[str, Any], name: str) -> float | None:
    """A method's mean of the metric of this name; infinite where there are infinite values only."""
    value = finite_or_none(row.get(name))
    return math.inf if value is None and row.get(f"{name}_infinite") else value


def finite_or_none(value: object, *, infinite: bool = False) -> float | None:
    """A number as float; None for null, NaN and, unless `infinite`, the infinities."""
    if not isinstance(value, Real):
        return None
    try:
        number = float(value)
    except OverflowError:  # a whole number beyond all floats
        return None
    return None if math.isnan(number) or (math.isinf(number) and not infinite) else number


def _there(value: T | None) -> T:
    if value is None:
        raise ValueError("a metric was computed without what it needs")
    return value
