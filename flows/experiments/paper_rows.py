"""What a table of a paper is made of: rows, each with what to train, what to give it, and what was published."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from dtls.degradations.base import LRProtocol, Protocol
from dtls.registry import MODELS

Numbers = Mapping[str, float]
"""Published means by their metric: psnr (dB), ssim, authors_consistency and satisfied (a share); and parameters."""


@dataclass(frozen=True)
class PaperRow:
    """One line of a table: a method, and what it is given.

    low: side of the LR images at the preset's full size; where there is a task of restoration, of no meaning. train
    and use: what departs from the preset, and from the defaults of upscaling or restoring. is_computed: whether we
    compute it; other people's methods are published numbers only. share: of the steps, so that all rows take the same
    time (measured on 2 cores at dim 16). protocol: what makes the LR images, where the table's rows differ in it.
    contrast: of the test images. is_input: whether it is of the degraded images themselves.
    """

    label: str
    low: int
    train: Mapping[str, Any] = field(default_factory=dict)
    use: Mapping[str, Any] = field(default_factory=dict)
    published: Numbers = field(default_factory=dict)
    is_computed: bool = True
    share: float = 1.0
    task: str | None = None
    protocol: LRProtocol | None = None
    contrast: float = 1.0
    is_input: bool = False

    @property
    def needs_training(self) -> bool:
        """Whether it is computed, and needs a trained model."""
        return self.is_computed and not self.is_input and self.use.get("method", "dtls") in MODELS


@dataclass(frozen=True)
class PaperTable:
    """One table: its rows, all of one preset; rated: by the share of people whom results satisfy, too.

    protocol: what makes the LR images where nothing else is asked for. costs: of `flows.experiments.cost.COSTS`, the
    columns it has, too. figure: what is drawn, if anything: losses while training, parameters against quality, or
    quality over training steps.
    """

    title: str
    preset: Literal["16-128", "32-512"]
    rows: tuple[PaperRow, ...]
    note: str = ""
    rated: bool = False
    protocol: Protocol = "reference"
    costs: tuple[str, ...] = ()
    figure: Literal["losses", "parameters", "steps"] | None = None

    @property
    def has_protocol(self) -> bool:
        """Whether a protocol can be chosen for it: its rows are of super-resolution, and say none themselves."""
        return all(row.task is None and row.protocol is None for row in self.rows)


BICUBIC = {"method": "bicubic"}
RATE = {"learning_rate": 1e-3, "schedule": "cosine", "warmup": 40, "clip": 1.0}
RESIDUAL = {**RATE, "residual": True, "loss": "mse"}
SAMPLED = {**RESIDUAL, "inputs": "sampled"}


def restored(task: str) -> Iterator[PaperRow]:
    """What undoing a degradation at an image's own size takes part with."""
    yield PaperRow("input", 128, task=task, is_input=True)
    if task == "inpaint":
        yield PaperRow("membrane", 128, use={"method": "membrane"}, task=task)
    unprojected = {} if task == "inpaint" else {"project": False}
    yield PaperRow("dtls", 128, RESIDUAL, unprojected, task=task)
    yield PaperRow("cold", 128, RESIDUAL, {**unprojected, "sampler": "cold"}, task=task)
