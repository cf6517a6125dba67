"""DTLS (2023; the core of this project): a U-Net that undoes any of T degradations, and samplers that use it.

`DTLS.from_pretrained(folder)` and `push_to_hub` work as with any model there.
"""

from dataclasses import dataclass, replace
from typing import Any, Self, get_args

import torch
from huggingface_hub import PyTorchModelHubMixin
from torch import Tensor

from dtls.choices import Prediction, SamplerName
from dtls.degradations.base import Protocol
from dtls.degradations.holes import random_masks
from dtls.degradations.mask import mask_of
from dtls.degradations.operator import Info, Operator
from dtls.degradations.path import Degradation
from dtls.degradations.registry import operator_of
from dtls.errors import DegradationError, SizeError
from dtls.models.base import Callback, Compare, Draws, Model, Network, Sample, check_timesteps
from dtls.networks.unet import UNet
from dtls.samplers.dtls import DEGRADES_NOTHING, NEEDS_LINEAR, SAMPLERS, Sampler


@dataclass(frozen=True)
class ModelConfig:
    """All that makes a model: the network's widths and the degradation it undoes.

    patch: side in pixels of what the network sees as one. size, stride and steps are S, the stride in pixels and T of
    the degradation. predicts: what the network learned to give at t, x_0 as in the paper, or the previous step
    x_{t−1} = D(x_0, t − 1) of its ablation (DTLS B2). degradation: the spec of another family than resizing, such as
    `grey`, whose images keep their size, so that stride and protocol mean nothing; T is `steps` there, too.
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
    degradation: str | None = None

    @property
    def lr_size(self) -> int:
        """The side in pixels of the smallest LR image, S − T·stride; S where another family keeps the size."""
        return self.size if self.degradation is not None else self.size - self.steps * self.stride

    @property
    def undoes(self) -> str:
        """The degradation of what goes in: the protocol of LR images, or the spec of another family."""
        return self.protocol if self.degradation is None else self.family.spec

    @property
    def summary(self) -> str:
        """What it is for, in a word or two of the log."""
        return f"{self.lr_size}→{self.size} ({self.undoes})"

    @property
    def family(self) -> Operator:
        """The degradation; SizeError or DegradationError where there is none like this."""
        if self.degradation is None:
            return Degradation(self.size, self.stride, self.steps, self.protocol)
        if type(self.steps) is not int or self.steps < 1:
            raise SizeError(f"steps are at least 1, not {self.steps!r}")
        check_timesteps(self.steps)
        if not isinstance(self.degradation, str):
            raise DegradationError(f"a degradation is a text like grey or blur:2, not {self.degradation!r}")
        family = operator_of(self.degradation, self.steps)
        if family.scale != 1:
            raise DegradationError(f"{family.spec} makes images smaller; a model that enlarges them has an lr_size")
        return family

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
        _ = self.family
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
    walks = True
    sees_own = True
    takes_families = True
    takes_any_protocol = False
    preset = "16-128"

    def __init__(self, **config: Any) -> None:
        for extra in ("config", "method"):  # the mixin hands over the whole file, and once more as `config`
            config.pop(extra, None)
        config["multipliers"] = tuple(config.get("multipliers", ModelConfig.multipliers))
        super().__init__(**config)
        c: ModelConfig = self.config
        self.unet = UNet(c.dim, c.multipliers, residual=c.residual, patch=c.patch)
        self.degradation = c.family
        self.timesteps, self.multiple, self.draws = c.steps, self.unet.multiple, self.degradation.draws

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """U(x, t): images (N, 3, H, W) in [0, 1] and timesteps (N,) → (N, 3, H, W)."""
        prediction: Tensor = self.unet(x, t)
        return prediction

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        """Between x_0 and U(D(x_0, t), t) (DTLS §2.2), or D(x_0, t − 1) where the network predicts that.

        Of another family than resizing, the network gets D(x_0, t) in 8 bits, as files hold it: in the light of an
        exact one, it would learn to sharpen and brighten what rounding takes away.
        """
        degrade, t, info = self.degradation, drawn.t, self._drawn(hr, drawn)
        x, seen = degrade(hr, t, info), t
        if self.config.degradation is not None:
            x = (x.clamp(0, 1) * 255).round() / 255
        if drawn.own.any():
            own = drawn.own.nonzero().flatten()
            with torch.no_grad():
                predicted = network(x[own], t[own])
            x = x.index_copy(0, own, degrade(predicted, 1, info.part(own.cpu())))
            seen = t.index_fill(0, own, 1)
        target = hr if self.config.predicts == "x0" else degrade(hr, (t - 1).clamp(min=0), info)
        return compare(network(x, seen), target)

    def _drawn(self, hr: Tensor, drawn: Draws) -> Info:
        """What each image's degradation draws, of its seed alone."""
        family = self.degradation
        masks = random_masks((hr.shape[-2], hr.shape[-1]), drawn.seeds).to(hr) if family.needs_mask else None
        return Info(masks, drawn.seeds if family.draws else None)

    @property
    def samplers(self) -> tuple[SamplerName, ...]:
        """Those that can use what the network predicts, and that suit the degradation."""
        if self.config.predicts == "previous":
            return ("previous",)
        unfit = () if self.degradation.is_linear else NEEDS_LINEAR
        return tuple(name for name in SAMPLERS if name != "previous" and name not in unfit)

    @property
    def shows(self) -> str | None:
        return "current" if "current" in self.samplers else None

    def sampler(self, name: str | None, steps: int | None) -> tuple[Sample, dict[str, str]]:
        """By name; where none is said, the first of `samplers`: `two-call` where that is possible, `one-call` where
        the degradation is not linear, or `previous` where the network predicts that."""
        if steps is not None:
            raise ValueError(f"{self.name} has as many steps as the scale; leave them out")
        predicts = self.config.predicts
        chosen = name or self.samplers[0]
        if chosen not in SAMPLERS:
            raise ValueError(f"{self.name} has no sampler {chosen}; there are {', '.join(SAMPLERS)}")
        if chosen in NEEDS_LINEAR and not self.degradation.is_linear:
            raise ValueError(
                f"{self.degradation.spec} is not linear, so that {chosen} would give another image than the paper's "
                "sampler; choose current, which is that one, or one-call"
            )
        if chosen not in self.samplers:
            raise ValueError(f"its network predicts {predicts}, so the sampler {chosen} cannot use it")

        def restore(network: Network, x: Tensor, scale: float, seeds: Tensor, callback: Callback | None) -> Tensor:
            return self._sampled(SAMPLERS[chosen], network, x, scale, seeds, callback)

        return restore, {"sampler": chosen}

    def draws_with(self, sampler: str | None) -> bool:
        return self.draws and sampler not in DEGRADES_NOTHING

    def _sampled(
        self, sample: Sampler, network: Network, x: Tensor, scale: float, seeds: Tensor, callback: Callback | None
    ) -> Tensor:
        """By a sampler, in the space in which the family is linear; x and scale are what `Sample` says."""
        family, info = self.degradation, Info(seeds=seeds)
        t = family.timestep(scale)
        if self.config.degradation is not None:
            info = replace(info, masks=mask_of(x) if family.needs_mask else None)
            x = family.lift(x, info)

        def model(z: Tensor, s: Tensor) -> Tensor:
            return family.linearised(network(family.encoded(z), s))

        def degrade(z: Tensor, s: float) -> Tensor:
            return family.linearised(family(family.encoded(z), s, info))

        def seen(s: float, z: Tensor, predicted: Tensor) -> None:
            if callback is not None:
                callback(s, family.encoded(z), family.encoded(predicted))

        restored = family.encoded(sample(model, degrade, family.linearised(x), t, seen))
        if callback is not None:
            callback(0, restored, restored)
        return restored

    def check_scale(self, scale: float) -> None:
        if self.config.degradation is None:
            self.degradation.timestep(scale)
        elif scale != 1:
            raise SizeError(f"this checkpoint ({self.undoes}) restores images at the size they have, not ×{scale:g}")
