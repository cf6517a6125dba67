"""One interface for all degradations: the family D_t that a model undoes, and the observation A that it ends in.

Shapes: x (N, C, H, W) are images in [0, 1], as files code them (sRGB); y are observations, what degraded files hold.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from dtls.degradations.light import to_encoded, to_light
from dtls.degradations.registry import task_of_spec, title_of_spec
from dtls.errors import DegradationError, SizeError

STEPS = 28
"""T where none is chosen, that of the paper's models."""
WIDTH = 3.0
"""How far values with noise are taken to be from those without, in deviations of the noise."""
PASSES = 4
"""How often `Operator.project` projects and clamps: clamping breaks a little of what projecting has made right."""

Timestep = float | Sequence[float] | Tensor
"""t for all images, or N of them. Models are trained on 1 … T; a part of a degradation's strength is a t between."""


@dataclass(frozen=True)
class Info:
    """What images have of their own beside their pixels; what an operator does not need may be left out.

    masks: (N, 1, H, W) or (1, 1, H, W) in [0, 1], 1 where pixels are missing. seeds: (N,) whole numbers, each
    image's for what is drawn at random. size: (H, W) of the images to restore, where an observation is smaller.
    levels: into how many steps the observations are rounded; 255 for files of 8 bits, None for exact ones. noise: the
    deviation of white noise in them.
    """

    masks: Tensor | None = None
    seeds: Tensor | None = None
    size: tuple[int, int] | None = None
    levels: int | None = 255
    noise: float = 0.0

    @property
    def slack(self) -> float:
        """By how much values of an observation may be off: half a step, and WIDTH deviations of its noise."""
        return (0.5 / self.levels if self.levels else 0) + WIDTH * self.noise

    @property
    def deviation(self) -> float:
        """The deviation of the noise and rounding of an observation."""
        return math.hypot(1 / (self.levels * math.sqrt(12)) if self.levels else 0, self.noise)

    def part(self, which: slice | Tensor) -> "Info":
        """That of some of the images; `which` is a slice, or their indices on the CPU."""
        masks = self.masks if self.masks is None or len(self.masks) == 1 else self.masks[which]
        return replace(self, masks=masks, seeds=self.seeds if self.seeds is None else self.seeds[which])


NOTHING = Info()


class Operator(ABC):
    """A family of degradations D_0 … D_T, D_0 being the identity, and its observation A.

    steps: T. is_linear: whether every D_t is linear, in the space of `linearised`. projects: whether there is a
    nearest image that agrees with an observation. draws: whether `Info.seeds` are needed.
    needs_mask: whether `Info.masks` are. channels: of an observation; None for those of the image. changes_shape:
    whether observations have another size or other channels. pixelwise: whether each value of an observation depends
    on one value of the image. inverts: whether an observation tells all of the image but what is rounded away.
    in_light: whether D_t is linear in linear light, not in sRGB's code.
    """

    steps: int = STEPS
    is_linear: bool = True
    projects: bool = True
    draws: bool = False
    needs_mask: bool = False
    channels: int | None = None
    changes_shape: bool = False
    pixelwise: bool = False
    inverts: bool = False
    in_light: bool = False

    @property
    @abstractmethod
    def spec(self) -> str:
        """What `operator_of` makes this operator of."""

    @property
    def noise(self) -> float:
        """The deviation of the white noise that it adds, if it adds that and does nothing else."""
        return 0.0

    @property
    def scale(self) -> float:
        """How many times smaller observations are."""
        return 1.0

    @property
    def task(self) -> str:
        """The task of undoing it, like `deblur:2`."""
        return task_of_spec(self.spec)

    @property
    def title(self) -> str:
        """The task in words."""
        return title_of_spec(self.spec)

    def __call__(self, x: Tensor, t: Timestep, info: Info = NOTHING) -> Tensor:
        """D_t x (N, C, H, W), with one t in 0 … T for all or N of them. Not clamped.

        SizeError for timesteps beyond these, DegradationError where `info` lacks what the family needs.
        """
        share = _share(t, self.steps, x)
        return torch.where(share == 0, x, self.degraded(x, share, info))

    def timestep(self, strength: float) -> float:
        """The t at a share of the strength, 0 to 1; of resizing, at a scale. SizeError for one beyond the family."""
        if not 0 <= strength <= 1:
            raise SizeError(f"the strength of {self.spec} is 0 to 1, not {strength:g}")
        return strength * self.steps

    @abstractmethod
    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        """D_t x for t / T = `share` (N or 1, 1, 1, 1) in [0, 1]."""

    @abstractmethod
    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        """A x, what a degraded file holds. Not clamped."""

    def expected(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        """A x without what is drawn at random."""
        return self.observe(x, info)

    def lift(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        """D_T x (N, C, H, W), of the observation y of x: what a network gets.

        y itself, where both have one shape.
        """
        return y

    @abstractmethod
    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The image nearest to x that agrees with the observation y, as exact as `info` says. Not clamped."""

    def project(self, x: Tensor, y: Tensor, info: Info = NOTHING, passes: int = PASSES) -> Tensor:
        """`nearest` and clamping to [0, 1], so many times in turn.

        Each of them brings x no further from any image in [0, 1] that agrees with y. DegradationError where
        `projects` is False.
        """
        if not self.projects:
            raise DegradationError(f"there is no projection on images of the degradation {self.spec}")
        for _ in range(passes):
            x = self.nearest(x, y, info).clamp(0, 1)
        return x

    def inverse(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        """A⁺ y, clamped: the image of the observation y, by the equations alone; for operators that `inverts`."""
        return self.project(self.lift(y, info), y, info)

    def misfit(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The mean of (A x − y)² for each image (N,): how far results are from agreeing with observations."""
        return (self.expected(x, info) - y).square().mean((1, 2, 3))

    def linearised(self, x: Tensor) -> Tensor:
        """x in the space in which every D_t is linear: linear light, or sRGB's code as it is."""
        return to_light(x) if self.in_light else x

    def encoded(self, x: Tensor) -> Tensor:
        """The inverse of `linearised`."""
        return to_encoded(x) if self.in_light else x


def _share(t: Timestep, steps: int, x: Tensor) -> Tensor:
    """t / T as a tensor (N or 1, 1, 1, 1) like x (N, C, H, W)."""
    given = torch.as_tensor(t, dtype=x.dtype, device=x.device).reshape(-1)
    if len(given) not in (1, len(x)):
        raise SizeError(f"{len(given)} timesteps for {len(x)} images")
    values = [float(t)] if isinstance(t, int | float) else given.tolist()
    if not all(0 <= value <= steps for value in values):
        raise SizeError(f"timesteps are 0…{steps}, not {min(values):g}…{max(values):g}")
    return (given / steps).view(-1, 1, 1, 1)
