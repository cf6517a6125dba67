"""What a run of the benchmark finds, and how it looks as Markdown."""

from dataclasses import dataclass, field
from typing import Any

from tests.bench.kinds import KINDS, Profile


@dataclass(frozen=True)
class Pair:
    """One number of the plain variant and of ours; None is not measured."""

    plain: float | None
    ours: float | None


@dataclass(frozen=True)
class Comparison:
    """Plain against ours.

    rate: images sampled, or training steps, a second. ratio: of the rates, ours by plain. memory: peak in bytes.
    share_of_peak: FLOP/s of ours, counted on the plain network, by those of a matrix product in the same precision.
    """

    what: str
    batch: Pair
    rate: Pair
    ratio: float
    memory: Pair
    share_of_peak: float


@dataclass(frozen=True)
class Sampling(Comparison):
    """psnr_between: the two results. psnr: each and the photograph; None without a photograph."""

    psnr_between: float
    psnr: Pair


@dataclass(frozen=True)
class Training(Comparison):
    """ours_is: what our step is, in words."""

    ours_is: str


@dataclass
class Results:
    """All of a run; what is not measured yet is empty."""

    conditions: dict[str, Any]
    peak: dict[str, float] = field(default_factory=dict)
    forward_flops: dict[str, int] = field(default_factory=dict)
    training: list[Training] = field(default_factory=list)
    sampling: list[Sampling] = field(default_factory=list)
    profiles: dict[str, Profile] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


COMPARISON = ("batch, plain / ours", "plain", "ours", "ratio", "GiB, plain", "GiB, ours", "share of peak")
SAMPLING = ("sampling, images/s", *COMPARISON, "dB, plain to ours", "dB, plain to photo", "dB, ours to photo")
TRAINING = ("training, steps/s", *COMPARISON)


def conditions(found: Results) -> str:
    """Under what the numbers were found."""
    return "\n".join(f"- {name}: {value}" for name, value in found.conditions.items()) + "\n"


def peak(found: Results) -> str:
    """The device's peak and the work of a forward."""
    rates = ", ".join(f"{name} {rate / 1e12:.4g} TFLOP/s" for name, rate in found.peak.items())
    flops = ", ".join(f"{name} {count / 1e9:.4g} GFLOP" for name, count in found.forward_flops.items())
    return f"- matrix product, the peak: {rates}\n- a forward of one image: {flops}\n"


def head(names: tuple[str, ...]) -> str:
    """The first two lines of a table."""
    return "\n" + line(names) + line(("---", *["--:"] * (len(names) - 1)))


def training(row: Training) -> str:
    return line((f"{row.what}, {row.ours_is}", *_comparison(row)))


def sampling(row: Sampling) -> str:
    decibels = (row.psnr_between, row.psnr.plain, row.psnr.ours)
    return line((row.what, *_comparison(row), *[_number(value, ".2f") for value in decibels]))


def profiles(found: Results) -> str:
    """The shares of each kind in the device's time, and how busy it was, as a table."""
    columns = list(found.profiles.values())
    lines = [line((kind, *[_number(column.shares[kind], ".1%") for column in columns])) for kind in KINDS]
    busy = line(("device busy", *[_number(column.busy, ".1%") for column in columns]))
    return head(("ours, share of the device's time", *found.profiles)) + "".join(lines) + busy


def _comparison(row: Comparison) -> tuple[str, ...]:
    gibibytes = [None if value is None else value / 2**30 for value in (row.memory.plain, row.memory.ours)]
    return (
        f"{row.batch.plain:g} / {row.batch.ours:g}",
        _number(row.rate.plain, ".4g"),
        _number(row.rate.ours, ".4g"),
        f"×{row.ratio:.3g}",
        *[_number(value, ".3g") for value in gibibytes],
        f"{row.share_of_peak:.1%}",
    )


def _number(value: float | None, how: str) -> str:
    return "–" if value is None else format(value, how)


def line(cells: tuple[str, ...]) -> str:
    """A row of a table."""
    return "| " + " | ".join(cells) + " |\n"
