"""DTLS (2023; the core of this project): a U-Net that undoes any of T degradations, and samplers that use it.

`DTLS.from_pretrained(folder)` and `push_to_hub` work as with any model there.
"""

from dataclasses import dataclass
from typing import Any, Self, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor

from dtls.choices import Prediction, SamplerName
from dtls.degradations.base import Protocol
from dtls.degradations.path import Degradation
from dtls.errors import SizeError
from dtls.models.base import Callback, Compare, Draws, Model, Network, Sample
from dtls.networks.unet import UNet
from dtls.samplers.dtls import SAMPLERS


@dataclass(frozen=True)
class ModelConfig:
    """All that makes a model: the network's widths and the degradation it undoes.

    patch: side in pixels of what the network sees as one. size, stride and steps are S, the stride in pixels and T of
    the degradation. predicts: what the network learned to give at t, x_0 as in the paper, or the previous step
    x_{t−1} = D(x_0, t − 1) of its ablation (DTLS B2).
    """

    dim: int = 64
    multipliers: tuple[int, ...] = (1, 2, 4, 8)
    residual: bool = False
    patch: int = 1
    predicts: Prediction = "x0"
    size: int = 128
    stride: int = 4
    steps: int = 28
    protocol: Protocol = "reference"

    @property
    def lr_size(self) -> int:
        """The side in pixels of the smallest LR image, S − T·stride."""
        return self.size - self.steps * self.stride

    def validate(self) -> Self:
        """Return self, or raise SizeError where the parts do not fit."""
        if type(self.dim) is not int or self.dim < 4 or self.dim % 2:
            raise SizeError(f"dim must be even and at least 4, not {self.dim!r}")
        if any(type(m) is not int or m < 1 for m in self.multipliers) or self.multipliers[:1] != (1,):
            raise SizeError(f"dim_mults must be whole numbers and start with 1, not {self.multipliers!r}")
        if self.predicts not in get_args(Prediction):
            raise SizeError(f"predicts is {' or '.join(get_args(Prediction))}, not {self.predicts!r}")
        if type(self.patch) is not int or self.patch < 1:
            raise SizeError(f"patch must be at least 1, not {self.patch!r}")
        multiple = self.patch * 2 ** (len(self.multipliers) - 1)
        if self.size % multiple:
            patches = f" of patches of {self.patch}" if self.patch > 1 else ""
            raise SizeError(
                f"size {self.size} is no multiple of {multiple}, as {len(self.multipliers)} levels "
                f"({','.join(map(str, self.multipliers))}){patches} need"
            )
        Degradation(self.size, self.stride, self.steps, self.protocol)
        return self


def steps_between(lr_size: int, size: int, stride: int) -> int:
    """T of a model from `lr_size` to `size` pixels; SizeError where no whole number of strides leads there."""
    steps, rest = divmod(size - lr_size, stride) if stride > 0 else (0, 0)
    if rest or steps < 1:
        raise SizeError(f"{lr_size}→{size} pixels is no whole number of strides of {stride}")
    return steps


class DTLS(Model, PyTorchModelHubMixin, library_name="dtls", tags=["super-resolution"]):
    """The U-Net and the degradation it was trained to undo; called like the U-Net."""

    name = "dtls"
    config_type = ModelConfig
    sees_own = True
    preset = "16-128"

    def __init__(self, **config: Any) -> None:
        for extra in ("config", "method"):  # the mixin hands over the whole file, and once more as `config`
            config.pop(extra, None)
        config["multipliers"] = tuple(config.get("multipliers", ModelConfig.multipliers))
        super().__init__(**config)
        c: ModelConfig = self.config
        self.unet = UNet(c.dim, c.multipliers, residual=c.residual, patch=c.patch)
        self.degradation = Degradation(c.size, c.stride, c.steps, c.protocol)
        self.timesteps, self.multiple = c.steps, self.unet.multiple

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """U(x, t): images (N, 3, H, W) in [0, 1] and timesteps (N,) → (N, 3, H, W)."""
        prediction: Tensor = self.unet(x, t)
        return prediction

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        """Between x_0 and U(D(x_0, t), t) (DTLS §2.2), or D(x_0, t − 1) where the network predicts that."""
        degrade, t = self.degradation, drawn.t
        x, seen = degrade(hr, t), t
        if drawn.own.any():
            own = drawn.own.nonzero().flatten()
            with torch.no_grad():
                predicted = network(x[own], t[own])
            x, seen = x.index_copy(0, own, degrade(predicted, 1)), t.index_fill(0, own, 1)
        target = hr if self.config.predicts == "x0" else degrade(hr, (t - 1).clamp(min=0))
        return compare(network(x, seen), target)

    @property
    def samplers(self) -> tuple[SamplerName, ...]:
        """Those that can use what the network predicts."""
        if self.config.predicts == "previous":
            return ("previous",)
        return tuple(name for name in SAMPLERS if name != "previous")

    def sampler(self, name: str | None, steps: int | None) -> tuple[Sample, dict[str, str]]:
        """By name; where none is said, `two-call`, or `previous` where the network predicts that."""
        if steps is not None:
            raise ValueError(f"{self.name} has as many steps as the scale; leave them out")
        predicts = self.config.predicts
        chosen = name or self.samplers[0]
        if chosen not in SAMPLERS:
            raise ValueError(f"{self.name} has no sampler {chosen}; there are {', '.join(SAMPLERS)}")
        if chosen not in self.samplers:
            raise ValueError(f"its network predicts {predicts}, so the sampler {chosen} cannot use it")
        sample = SAMPLERS[chosen]

        def restore(network: Network, x: Tensor, scale: float, _: Tensor, callback: Callback | None) -> Tensor:
            return sample(network, self.degradation, x, self.degradation.timestep(scale), callback)

        return restore, {"sampler": chosen}

    def check_scale(self, scale: float) -> None:
        self.degradation.timestep(scale)
