"""The methods that are trained: a checkpoint, how its results are made, and whatever size there is."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.checkpoints.checkpoint import load_hashed
from dtls.choices import SMALLEST
from dtls.degradations.base import LRProtocol, is_linear
from dtls.degradations.operator import PASSES, Info
from dtls.degradations.scale import scale_between
from dtls.devices import accelerated, best_precision
from dtls.errors import CheckpointError, SamplingError
from dtls.inference.channels import in_colour
from dtls.inference.method import Method
from dtls.inference.projected import operator_for
from dtls.inference.sampling import DEFAULT, Sampling
from dtls.inference.tiling import Tiler
from dtls.models.base import Callback
from dtls.registry import PRESET_SAMPLERS, model_class


class Trained(Method):
    """A model with the weights of a checkpoint; SamplingError for choices in `sampling` that it does not have.

    A model works on enlarged images, or enlarges by its own scale; where another size is wanted, Pillow's bicubic
    makes it of that result. requested: the method that the checkpoint should be of, or one that has the same model.
    """

    is_learned = True
    uses_gpu = True

    def __init__(
        self, checkpoint: Path, device: str = "cpu", sampling: Sampling = DEFAULT, requested: str | None = None
    ) -> None:
        self.model, digest = load_hashed(checkpoint, device)
        self.name, self.device, self.sampling = requested or self.model.name, device, sampling
        if model_class(self.name) is not type(self.model):
            found = self.model.name
            raise CheckpointError(
                f"{checkpoint}: a model of the method {found}, not {requested}; say --method {found}"
            )
        self.degradation: LRProtocol = self.model.config.protocol
        self.is_stochastic, self.multiple = self.model.draws, self.model.multiple
        self.max_scale: float = self.model.config.size / self.model.config.lr_size
        try:
            self.sample, chosen = self.model.sampler(self._sampler(), sampling.steps)
        except ValueError as error:
            raise SamplingError(f"{checkpoint}: {error}") from error
        self.made_by = sampling.made_by or self.degradation
        try:
            self.operator = operator_for(self.made_by) if sampling.projected else None
        except SamplingError as error:
            raise SamplingError(f"{checkpoint}: {error}") from error
        self.passes = sampling.passes or (1 if is_linear(self.degradation) else PASSES)
        if sampling.seed and not self.is_stochastic:
            raise SamplingError(f"{checkpoint}: {self.name} draws nothing, so that a seed changes nothing")
        scale = self.model.scale
        self.tiler = Tiler(max(sampling.tile // scale, SMALLEST) if scale > 1 else sampling.tile, scale)
        self.max_pixels = self.tiler.tile**2
        precision = best_precision(sampling.precision, device)
        self.network = accelerated(self.model, device, precision, compiled=sampling.compiled)
        choices = {
            "projected": sampling.projected,
            "ensemble": sampling.ensemble,
            "precision": precision,
            "tile": sampling.tile,
            **chosen,
            **({"seed": sampling.seed} if self.is_stochastic else {}),
            **self._projection,
        }
        self.identity: Mapping[str, str] = {
            "method": self.name,
            "checkpoint": digest,
            "protocol": self.degradation,
            **{key: str(value) for key, value in choices.items()},
        }

    @torch.inference_mode()
    def __call__(self, lr: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        """SR images (N, C, H, W) in [0, 1] of LR images (N, C, h, w), C = 1 or 3.

        SizeError for scales beyond the model's.
        """
        return in_colour(partial(self._upscaled, size=size), lr.to(self.device))

    def _upscaled(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        x, scale = self._input(lr, size)
        run = partial(self._sampled, scale=scale)
        sr = self.tiler(run, x)
        if self.sampling.ensemble:
            sr = (sr + self.tiler(run, x.flip(-1)).flip(-1)) / 2
        if sr.shape[-2:] != size:
            sr = F.interpolate(sr, size, mode="bicubic", antialias=True)
        sr = torch.where(sr.isfinite(), sr, torch.nan)  # an infinity is no white pixel
        if self.operator is not None:
            sr = self.operator.project(sr, lr, Info(size=size), self.passes)
        return sr.clamp(0, 1)

    @torch.inference_mode()
    def trajectory(self, lr: Tensor, size: tuple[int, int]) -> list[tuple[float, Tensor]]:
        """The sampler's predictions on its way, (t, images (N, 3, H, W) in [0, 1]), its last state as t = 0.

        In one piece, neither projected nor averaged with the mirrored image.
        """
        lr = lr.to(self.device)
        x, scale = self._input(lr, size)
        seen: list[tuple[float, Tensor]] = []

        def see(t: float, made: Tensor) -> None:
            seen.append((t, made[..., : size[0], : size[1]].clamp(0, 1)))

        sr = self._sampled(x, scale, see)
        return [*seen, (0, sr.clamp(0, 1))]

    def check_scale(self, scale: float) -> None:
        self.model.check_scale(scale)

    @property
    def _projection(self) -> dict[str, str]:
        """What of projecting identifies results, where it is not what version 0.1 did."""
        if self.operator is None:
            return {}
        passes = {"passes": str(self.passes)} if self.passes != 1 else {}
        return passes | ({"made_by": self.made_by} if self.made_by != self.degradation else {})

    def _sampler(self) -> str | None:
        """The sampler that is asked for, or that belongs to the method's name; None for the model's own choice."""
        preset = PRESET_SAMPLERS.get(self.name)
        return self.sampling.sampler or (preset if preset in self.model.samplers else None)

    def _input(self, lr: Tensor, size: tuple[int, int]) -> tuple[Tensor, float]:
        """What goes into the model, and the scale that is wanted; SizeError for one beyond the model's."""
        low = (lr.shape[-2], lr.shape[-1])
        scale, largest = scale_between(low, size), self.max_scale
        if all(m <= round(n * largest) for n, m in zip(low, size, strict=True)):
            scale = min(scale, largest)  # more is the rounding to whole pixels
        self.check_scale(scale)
        return lr if self.model.scale > 1 else self.model.enlarged(lr, size), scale

    def _sampled(self, x: Tensor, scale: float, callback: Callback | None = None) -> Tensor:
        """The model's result; x is padded to sides that the network can halve, by repeating its last pixels.

        All images have the same noise, where there is any: so a result does not depend on its neighbours.
        """
        height, width = x.shape[-2:]
        multiple, larger = self.multiple, self.model.scale
        padded = F.pad(x, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        seeds = torch.full((len(x),), self.sampling.seed)
        sr = self.sample(self.network, padded, scale, seeds, callback)
        return sr[..., : larger * height, : larger * width]
