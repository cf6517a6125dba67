"""The methods that are trained: a checkpoint, how its results are made, and whatever size there is."""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.checkpoints.checkpoint import load_hashed
from dtls.choices import SMALLEST
from dtls.degradations.operator import PASSES, Info
from dtls.degradations.recorded import at_strength
from dtls.degradations.registry import operator_of
from dtls.degradations.scale import scale_between
from dtls.devices import accelerated, best_precision
from dtls.errors import CheckpointError, SamplingError
from dtls.inference.channels import in_colour
from dtls.inference.membrane import seamless
from dtls.inference.method import Method
from dtls.inference.projected import operator_for
from dtls.inference.sampling import DEFAULT, Sampling
from dtls.inference.tiling import Run, Tiler
from dtls.models.base import Callback
from dtls.registry import PRESET_SAMPLERS, model_class


class Step(NamedTuple):
    """A step of a chain: its timestep, its state in the space of the network, and what is predicted there.

    x: (N, C, h, w), padded as the network is given it. images: (N, 3, H, W) in [0, 1].
    """

    t: float
    x: Tensor
    images: Tensor


class Trained(Method):
    """A model with the weights of a checkpoint; SamplingError for choices in `sampling` that it does not have.

    A model works on enlarged images, or enlarges by its own scale; where another size is wanted, Pillow's bicubic
    makes it of that result. Or it undoes another degradation, at the size that images have. requested: the method
    that the checkpoint should be of, or one that has the same model.
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
        if not self.model.restores:
            other = "; see dtls generate" if self.model.generates else ""
            raise CheckpointError(f"{checkpoint}: the method {self.name} neither enlarges nor restores images{other}")
        self.degradation: str = self.model.undoes
        self.multiple = self.model.multiple
        self.max_scale: float = self.model.config.size / self.model.config.lr_size
        self.takes_same_size = self.max_scale == 1
        if self.takes_same_size:
            family = operator_of(self.degradation)
            self.needs_mask, self.grey_only = family.needs_mask, family.channels == 1 and sampling.strength == 1
        elif sampling.strength != 1:
            raise SamplingError(f"{checkpoint}: enlarges images, so that a strength of {sampling.strength:g} is none")
        if sampling.projected and sampling.strength != 1:
            raise SamplingError(
                f"{checkpoint}: results are projected at the full strength, not {sampling.strength:g}"
            )
        try:
            self.sample, chosen = self.model.sampler(self._sampler(), sampling.steps)
        except ValueError as error:
            raise SamplingError(f"{checkpoint}: {error}") from error
        self.is_stochastic = self.model.draws_with(chosen.get("sampler"))
        self.made_by = sampling.made_by or self.degradation
        try:
            self.operator = operator_for(self.made_by) if sampling.projected else None
        except SamplingError as error:
            raise SamplingError(f"{checkpoint}: {error}") from error
        self.passes = sampling.passes or (PASSES if self.takes_same_size else 1)
        if sampling.seed and not self.is_stochastic:
            how = f"with the sampler {chosen['sampler']}, " if self.model.draws else ""
            raise SamplingError(f"{checkpoint}: {how}{self.name} draws nothing, so that a seed changes nothing")
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
            **({"strength": f"{sampling.strength:g}"} if sampling.strength != 1 else {}),
        }
        self.identity: Mapping[str, str] = {
            "method": self.name,
            "checkpoint": digest,
            "protocol": at_strength(self.degradation, sampling.strength),
            **{key: str(value) for key, value in choices.items()},
        }

    @torch.inference_mode()
    def __call__(self, lr: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> Tensor:
        """Results (N, C, H, W) in [0, 1] of images (N, C, h, w), C = 1 or 3; mask: (N, 1, h, w), 1 in holes.

        What gives images of one channel colour has 3 channels. SizeError for scales beyond the model's, and for holes
        without a mask.
        """
        if self.takes_same_size:
            return self._restored(lr.to(self.device), mask)
        return in_colour(partial(self._upscaled, size=size), lr.to(self.device))

    def _upscaled(self, lr: Tensor, size: tuple[int, int]) -> Tensor:
        x, scale = self._input(lr, size)
        sr = self._tiled(partial(self._sampled, scale=scale), x)
        if sr.shape[-2:] != size:
            sr = F.interpolate(sr, size, mode="bicubic", antialias=True)
        if self.operator is not None:
            sr = self.operator.project(sr, lr, Info(size=size), self.passes)
        return sr.clamp(0, 1)

    def _restored(self, y: Tensor, mask: Tensor | None) -> Tensor:
        """What the observations y (N, C, H, W) were; where holes are, only these are another."""
        channels = 3 if self.grey_only else y.shape[1]

        def run(part: Tensor) -> Tensor:
            return torch.cat([self._sampled(part, self.sampling.strength), part[:, 3:]], dim=1)

        made = self._tiled(run, self._observed(y, mask))[:, :3]
        made = made if channels == 3 else made.mean(1, keepdim=True)
        if mask is not None and self.needs_mask:
            made = seamless(made, y, mask.to(self.device))
        elif self.operator is not None:
            made = self.operator.project(made, y, passes=self.passes)
        return made.clamp(0, 1)

    def _observed(self, y: Tensor, mask: Tensor | None) -> Tensor:
        """What a model that restores is given of y: three channels, and where pixels are missing, which are known."""
        x = y.expand(-1, 3, -1, -1)
        if not self.needs_mask:
            return x
        known = 1 - self.masked(mask).to(self.device)
        return torch.cat([x * known, known], dim=1)

    def _tiled(self, run: Run, x: Tensor) -> Tensor:
        """`run(x)`, in tiles where x is large; with an ensemble, its mean with what comes of the mirrored image."""
        made = self.tiler(run, x)
        if self.sampling.ensemble:
            made = (made + self.tiler(run, x.flip(-1)).flip(-1)) / 2
        return torch.where(made.isfinite(), made, torch.nan)  # an infinity is no white pixel

    def trajectory(self, lr: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> list[Step]:
        """The steps of the sampler's chain, as `walk` shows them; all of them take much memory."""
        steps: list[Step] = []
        self.walk(lr, size, mask, lambda t, x, images: steps.append(Step(t, x, images)))
        return steps

    @torch.inference_mode()
    def walk(self, lr: Tensor, size: tuple[int, int], mask: Tensor | None, callback: Callback) -> None:
        """Show each `Step` of the sampler's chain from the largest timestep to t = 0, whose images are the result.

        Arguments and errors are those of a call; SamplingError for a model without a chain. In one piece, neither
        projected, nor averaged with the mirrored image, nor made seamless.
        """
        if not self.model.walks:
            raise SamplingError(f"{self.name} makes its results in one step, so that there is no chain to show")
        lr = lr.to(self.device)
        if self.takes_same_size:
            x, scale = self._observed(lr, mask), self.sampling.strength
        else:
            x, scale = self._input(lr, size)

        def see(t: float, state: Tensor, images: Tensor) -> None:
            callback(t, state, images[..., : size[0], : size[1]].clamp(0, 1))

        self._sampled(x, scale, see)

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
