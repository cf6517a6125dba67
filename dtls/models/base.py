"""What a model offers so that the one training loop trains it and every flow can use it.

A model is a network with the loss it learns by and the way its results are made. Shapes: N images of 3 channels in
[0, 1], HR ones with sides of S pixels, LR ones with sides of s.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, ClassVar, NamedTuple, Self, get_args

import torch
from torch import Tensor, distributed, nn

from dtls.degradations.base import LRProtocol, is_linear
from dtls.degradations.realworld import realworld
from dtls.degradations.resize import resize
from dtls.errors import SizeError
from dtls.networks.critic import Critic

MAX_TIMESTEPS = 100_000
Network = Callable[[Tensor, Tensor], Tensor]
"""A model's `forward` in the precision of a run: (x, t) → what it predicts, float32."""
Compare = Callable[[Tensor, Tensor], Tensor]
"""The loss between predicted and true images."""
Callback = Callable[[float, Tensor, Tensor], None]
"""Sees (t, x_t, images) of each step of a chain: its timestep, the state before it, in the space that the network
works in, and the images (N, 3, H, W) that are predicted there, not clamped. Last comes t = 0: x_0 and the result."""
Sample = Callable[[Network, Tensor, float, Tensor, Callback | None], Tensor]
"""From network, input x, scale, the images' seeds (N,) and a callback that sees each step to SR images.

Of a model that undoes another degradation than resizing, x are observations y of that family, and in place of the
scale stands the share t/T of its strength that they suffered, 1 for all of it.
"""


class Draws(NamedTuple):
    """What is drawn for each image of a step, (N,) each: its timestep, whether it is mirrored, whether the network
    learns from what it first predicts of it, and the seed of its noise; of a classifier, what it is of."""

    t: Tensor
    mirrored: Tensor
    own: Tensor
    seeds: Tensor
    labels: Tensor = torch.empty(0, dtype=torch.int64)

    def part(self, which: slice) -> "Draws":
        return Draws(*(each[which] for each in self))


@dataclass(frozen=True)
class Sized:
    """What every model's configuration has, but for DTLS's own: the side of the images that it learns from."""

    size: int = 128

    @property
    def summary(self) -> str:
        """What it is for, in a word or two of the log."""
        return f"{self.size}×{self.size}"

    def validate(self) -> Self:
        """Return self, or raise SizeError where the parts do not fit."""
        if type(self.size) is not int or self.size < 1:
            raise SizeError(f"size is a whole number of pixels, at least 1, not {self.size!r}")
        return self


@dataclass(frozen=True)
class Config(Sized):
    """The configuration of a model that learns from HR images and the LR images made of them: the side of these, and
    how they were made."""

    lr_size: int = 16
    protocol: LRProtocol = "antialias"

    @property
    def scale(self) -> int:
        return self.size // self.lr_size

    @property
    def undoes(self) -> str:
        """The degradation of what goes in."""
        return self.protocol

    @property
    def summary(self) -> str:
        return f"{self.lr_size}→{self.size} ({self.undoes})"

    def validate(self) -> Self:
        if self.protocol not in get_args(LRProtocol):
            raise SizeError(f"unknown protocol {self.protocol!r}; known: {', '.join(get_args(LRProtocol))}")
        if self.lr_size < 1 or self.size <= self.lr_size or self.size % self.lr_size:
            raise SizeError(f"{self.lr_size}→{self.size} pixels is no whole scale of at least 2")
        return super().validate()


def check_timesteps(count: int) -> None:
    """SizeError for more timesteps than any schedule needs: some numbers are kept for each."""
    if count > MAX_TIMESTEPS:
        raise SizeError(f"{count:,} timesteps are more than {MAX_TIMESTEPS:,}")


def summed(values: Tensor, device: torch.device) -> Tensor:
    """The sum of what the processes of a training have, by way of the device on which they share tensors."""
    if not distributed.is_available() or not distributed.is_initialized():
        return values
    shared = values.to(device)
    distributed.all_reduce(shared)
    return shared.to(values.device)


def departing(**choices: Any) -> Mapping[str, Any]:
    """What of a model's training departs from `dtls.training.trainer.Recipe`; and its batch_size, 32 if not said."""
    return MappingProxyType(choices)


class Model(nn.Module):
    """Base of all models. A subclass says what is below, and `forward(x, t)` is its network.

    scale: how many times larger its results are than what goes in; 1 where enlarged LR images go in. multiple: of
    which the sides of what goes in have to be. timesteps: T, those it learns. name: in the registry, and in
    config.json. defaults: what departs from the training recipe's. compares: whether its loss is between images,
    so that --loss, --perceptual and --adversarial apply. fits: whether it takes something of the images, by `fit`,
    once before its first step. staged: whether some weights are learned before others.
    draws: whether results may depend on noise. walks: whether these come of a chain of timesteps. shows: the sampler
    whose chain has every timestep, where the default's has not. sees_own: whether it can learn from what it first
    predicts of an image. takes_families: whether it can be trained for any degradation that keeps an image's size,
    not only for LR images. takes_any_protocol: whether it can be trained for LR images of any protocol, not only of
    linear ones.
    generates: whether it makes images of noise, as `dtls.models.generative.Generative` does. restores: whether it
    makes images of degraded ones, so that it learns from crops, and from LR images made of these; others learn from
    whole images, reduced to their size. classifies: whether it learns the classes of images, so that batches come
    with these.
    preset: of those in `dtls.training.presets`, the one that it is trained by where none is named; None for a model
    that has none. progress: in training, the share of the steps that is done.
    """

    name: str
    config_type: ClassVar[type[Any]] = Config
    defaults: ClassVar[Mapping[str, Any]] = departing()
    compares: ClassVar[bool] = True
    fits: ClassVar[bool] = False
    staged: ClassVar[bool] = False
    draws: bool = False
    walks: ClassVar[bool] = False
    generates: ClassVar[bool] = False
    restores: ClassVar[bool] = True
    classifies: ClassVar[bool] = False
    sees_own: ClassVar[bool] = False
    takes_families: ClassVar[bool] = False
    takes_any_protocol: ClassVar[bool] = True
    preset: ClassVar[str | None] = None
    config: Any
    scale: int = 1
    multiple: int = 1
    timesteps: int = 1
    progress: float = 0.0

    def __init__(self, **config: Any) -> None:
        super().__init__()
        self.config = self.config_type(**config).validate()

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        """The loss of HR images (N, 3, S, S), a scalar."""
        raise NotImplementedError

    def fit(self, batches: Iterable[Tensor]) -> None:
        """Take what it needs of images (N, 3, S, S) in [0, 1] before its first step, where `fits` is true.

        Of several processes each has its own images, and all take the same of all of them.
        """
        raise NotImplementedError

    def critic(self) -> Critic | None:
        """A new critic, where it learns from one alone: its `compare` is what that says; else None."""
        return None

    @property
    def undoes(self) -> str:
        """The degradation of what goes in: the protocol of LR images, or a spec of `dtls.degradations.registry`."""
        degradation: str = self.config.undoes
        return degradation

    @property
    def samplers(self) -> tuple[str, ...]:
        """The names of its samplers; none where there is one way alone."""
        return ()

    @property
    def shows(self) -> str | None:
        return None

    def sampler(self, name: str | None, steps: int | None) -> tuple[Sample, dict[str, str]]:
        """How results are made, by a sampler's name and its number of steps, and what to call that in receipts.

        ValueError for choices that it does not have.
        """
        if name is not None:
            raise ValueError(f"{self.name} has no sampler {name}")
        if steps is not None:
            raise ValueError(f"{self.name} has no choice of steps")
        return self.restore, {}

    def draws_with(self, _sampler: str | None) -> bool:
        """Whether results depend on noise where a sampler of this name makes them."""
        return self.draws

    def restore(
        self, network: Network, x: Tensor, scale: float, seeds: Tensor, callback: Callback | None, /
    ) -> Tensor:
        """SR images of x: LR images, or enlarged ones where the model's scale is 1. Not clamped."""
        raise NotImplementedError

    def check_scale(self, scale: float) -> None:
        """SizeError for a scale beyond the one that it was trained for."""
        largest = self.config.scale
        if scale > largest * (1 + 1e-6):
            trained = f"{self.config.lr_size}→{self.config.size}"
            raise SizeError(f"this checkpoint ({trained}) upscales by at most ×{largest}, not ×{scale:g}")

    def lr(self, hr: Tensor, drawn: Draws) -> Tensor:
        """LR images (N, 3, s, s) of HR images as files have them: by the protocol, in 8 bits."""
        side = hr.shape[-1] * self.config.lr_size // self.config.size
        protocol: LRProtocol = self.config.protocol
        size = (side, side)
        made = resize(hr, size, protocol) if is_linear(protocol) else realworld(hr, size, drawn.seeds)
        return (made.clamp(0, 1) * 255).round() / 255

    def enlarged(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        """LR images at HR size, by the interpolation that belongs to the protocol."""
        return resize(lr, size, "reference" if self.config.protocol == "reference" else "antialias")


class Noise:
    """Standard normal noise, each image's from a generator of its own: the same in any batch, on any device."""

    def __init__(self, seeds: Tensor) -> None:
        self.generators = [torch.Generator().manual_seed(int(seed)) for seed in seeds]

    def __call__(self, like: Tensor) -> Tensor:
        """Noise (N, …) of the shape, device and type of `like`."""
        drawn = [torch.randn(like.shape[1:], generator=generator) for generator in self.generators]
        return torch.stack(drawn).to(like)
