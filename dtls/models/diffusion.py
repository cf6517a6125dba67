"""What the diffusion models share: their network, noise schedules, loss and samplers, which are diffusers'.

x_t = √ᾱ_t x_0 + √(1 − ᾱ_t) ε with ε ~ N(0, 1), t = 1 … T (2006.11239, eq. 4), where diffusers counts from 0. x_0 is
what a model makes of the HR image, its condition what it makes of the enlarged LR image; both are (N, C, h, w).
"""

import math
from dataclasses import dataclass
from importlib import import_module
from typing import Any, ClassVar, Literal, Self, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.compat import allow_torchvision_import
from dtls.errors import SizeError
from dtls.models.base import Callback, Compare, Config, Draws, Model, Network, Noise, Sample, Sized, check_timesteps

allow_torchvision_import()
diffusers: Any = import_module("diffusers")  # it has no types

Schedule = Literal["linear", "cosine", "quadratic", "sigmoid"]
NoiseLoss = Literal["l1", "mse", "smooth-l1"]
SCHEDULES = {"linear": "linear", "cosine": "squaredcos_cap_v2", "quadratic": "scaled_linear", "sigmoid": "sigmoid"}
LOSSES = {"l1": F.l1_loss, "mse": F.mse_loss, "smooth-l1": F.smooth_l1_loss}
SAMPLERS = {"ddim": diffusers.DDIMScheduler, "ddpm": diffusers.DDPMScheduler}
MAX_BETA, DDIM_STEPS = 0.999, 50


@dataclass(frozen=True)
class ChainConfig(Sized):
    """The configuration of a chain of T timesteps and of the network that predicts its noise.

    width: of the first of `levels` levels, those below it are 2, 4, then 8 times as wide. patch: side of what the
    network sees as one pixel (2301.11093, §3.2). blocks: residual blocks a level. timesteps: T. schedule: of β.
    noise_loss: between ε and what the network predicts. beta_times_t: the first and last β, times T: those of the
    thesis (§4.1) are 0.001 and 0.02 at its 2000 steps, and other T scale them, as the code of 2102.09672 does.
    """

    beta_times_t: ClassVar[tuple[float, float]] = (2.0, 40.0)
    width: int = 32
    levels: int = 4
    patch: int = 1
    blocks: int = 1
    timesteps: int = 2000
    schedule: Schedule = "cosine"
    noise_loss: NoiseLoss = "l1"

    @property
    def image_channels(self) -> int:
        """Of the images that it learns."""
        return 3

    @property
    def state_channels(self) -> int:
        """C of x_0."""
        return self.image_channels

    @property
    def reduction(self) -> int:
        """How many times smaller the sides of x_0 are than those of images."""
        return 1

    @property
    def multiple(self) -> int:
        """Of which the sides of images have to be."""
        return int(self.patch * 2 ** (self.levels - 1))

    def validate(self) -> Self:
        if self.width < 8 or self.width % 8:
            raise SizeError(f"width is a multiple of 8, not {self.width}")
        for name in ("levels", "patch", "blocks", "timesteps"):
            if getattr(self, name) < 1:
                raise SizeError(f"{name} is at least 1, not {getattr(self, name)}")
        check_timesteps(self.timesteps)
        for name, known in (("schedule", Schedule), ("noise_loss", NoiseLoss)):
            if getattr(self, name) not in get_args(known):
                raise SizeError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(get_args(known))}")
        few = range(DDIM_STEPS // 5, DDIM_STEPS + 1)
        if self.timesteps > DDIM_STEPS and all(self.timesteps % n for n in few):
            raise SizeError(f"timesteps {self.timesteps} have no divisor from {few[0]} to {few[-1]}, as ddim needs")
        return super().validate()


@dataclass(frozen=True)
class DiffusionConfig(ChainConfig, Config):
    """The configuration of a chain whose images are HR ones, given LR ones."""

    def validate(self) -> Self:
        super().validate()
        if self.size % self.multiple:
            patches = f" of patches of {self.patch}" if self.patch > 1 else ""
            raise SizeError(
                f"size {self.size} is no multiple of {self.multiple}, as {self.levels} levels{patches} need"
            )
        return self


def groups(width: int) -> int:
    """How many groups of channels GroupNorm has in a network of this width: at most 32, of at least 4 channels."""
    return math.gcd(32, width // 4)


def betas(schedule: Schedule, steps: int, beta_times_t: tuple[float, float] = ChainConfig.beta_times_t) -> Tensor:
    """β_1 … β_T, (T,), such that x_T is nearly noise for any T."""
    first, last = (min(beta / steps, MAX_BETA) for beta in beta_times_t)
    made: Tensor = diffusers.DDPMScheduler(
        num_train_timesteps=steps, beta_start=first, beta_end=last, beta_schedule=SCHEDULES[schedule]
    ).betas
    return made


class Diffusion(Model):
    """Predicts the noise in x_t, given its condition; diffusers' U-Net, with attention at the lowest resolution.

    limit: the largest magnitude of x_0, to which samplers clip their predictions of it. is_conditional: whether there
    is a condition, with as many channels as x_0.
    """

    config_type: ClassVar[type[ChainConfig]] = DiffusionConfig
    compares = False
    draws = True
    walks = True
    limit: float = 1.0
    is_conditional: ClassVar[bool] = True

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        c: ChainConfig = self.config
        self.timesteps, self.multiple = c.timesteps, c.multiple
        self.unet = diffusers.UNet2DModel(
            in_channels=(1 + self.is_conditional) * c.state_channels * c.patch**2,
            out_channels=c.state_channels * c.patch**2,
            block_out_channels=tuple(c.width * min(2**level, 8) for level in range(c.levels)),
            layers_per_block=c.blocks,
            down_block_types=("DownBlock2D",) * (c.levels - 1) + ("AttnDownBlock2D",),
            up_block_types=("AttnUpBlock2D",) + ("UpBlock2D",) * (c.levels - 1),
            norm_num_groups=groups(c.width),
        )
        self.chain = self._scheduler("ddpm")

    def encoded(self, images: Tensor) -> Tensor:
        """x_0, or the condition, of images (N, C, H, W) in [0, 1]: in [−1, 1]."""
        return images * 2 - 1

    def condition(self, hr: Tensor, drawn: Draws) -> Tensor:
        """What is known of HR images beside x_t."""
        return self.encoded(self.enlarged(self.lr(hr, drawn), (hr.shape[-2], hr.shape[-1])))

    def decoded(self, x0: Tensor) -> Tensor:
        """Images (N, C, H, W), not clamped, of x_0."""
        return (x0 + 1) / 2

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        """ε_θ of the condition and x_t, one after the other, and t in 1 … T (N,); 0 counts as 1."""
        patch = self.config.patch
        return F.pixel_shuffle(self.unet(F.pixel_unshuffle(x, patch), _index(t), return_dict=False)[0], patch)

    def loss(self, network: Network, hr: Tensor, drawn: Draws, _: Compare) -> Tensor:
        return self.noise_loss(network, hr, drawn)

    def noise_loss(self, network: Network, hr: Tensor, drawn: Draws) -> Tensor:
        """Between ε, each image's by its seed, and ε_θ(condition, x_t, t) (2104.07636, eq. 6; 2006.11239, eq. 14)."""
        with torch.no_grad():
            x0 = self.encoded(hr)
            condition = self.condition(hr, drawn) if self.is_conditional else None
            noise = Noise(drawn.seeds)(x0)
            noisy = self.noised(x0, drawn.t, noise)
        return LOSSES[self.config.noise_loss](network(_together(condition, noisy), drawn.t), noise)

    def noised(self, x0: Tensor, t: Tensor, noise: Tensor) -> Tensor:
        """x_t of x_0 and ε, for timesteps (N,)."""
        made: Tensor = self.chain.add_noise(x0, noise, _index(t))
        return made

    @property
    def samplers(self) -> tuple[str, ...]:
        return tuple(SAMPLERS)

    def sampler(self, name: str | None, steps: int | None) -> tuple[Sample, dict[str, str]]:
        """`ddim` (2010.02502, η = 0), in 50 steps unless said, or `ddpm`, in T; steps are a divisor of T."""
        scheduler, chosen = self.scheduled(name, steps)

        def restore(network: Network, x: Tensor, _: float, seeds: Tensor, callback: Callback | None) -> Tensor:
            condition, noise = self.encoded(x), Noise(seeds)
            return self.walked(network, scheduler, condition, noise(condition), noise, callback)

        return restore, chosen

    def scheduled(self, name: str | None, steps: int | None) -> tuple[Any, dict[str, str]]:
        """diffusers' scheduler with the timesteps of a sampler, and what to call that in receipts."""
        chosen = name or self.samplers[0]
        if chosen not in SAMPLERS:
            raise ValueError(f"{self.name} has no sampler {chosen}; there are {', '.join(SAMPLERS)}")
        few = next(n for n in range(min(DDIM_STEPS, self.timesteps), 0, -1) if self.timesteps % n == 0)
        count = steps if steps is not None else few if chosen == "ddim" else self.timesteps
        if count < 1 or self.timesteps % count:
            raise ValueError(f"the steps of {chosen} are a divisor of {self.timesteps}, not {count}")
        scheduler = self._scheduler(chosen)
        scheduler.set_timesteps(count)
        return scheduler, {"sampler": chosen, "steps": str(count)}

    def walked(
        self,
        network: Network,
        scheduler: Any,
        condition: Tensor | None,
        state: Tensor,
        noise: Noise,
        callback: Callback | None,
        start: int | None = None,
    ) -> Tensor:
        """Images, not clamped, that a scheduler's steps lead to from x_t; start: t of that x_t, T if not said."""
        first = self.timesteps if start is None else start
        for index in [index for index in scheduler.timesteps.tolist() if index < first]:
            t = torch.full((len(state),), index + 1, device=state.device)
            predicted = network(_together(condition, state), t).float()
            made = scheduler.step(predicted, index, state, generator=noise.generators)
            if callback is not None:
                callback(index + 1, state, self.decoded(made.pred_original_sample))
            state = made.prev_sample
        images = self.decoded(state)
        if callback is not None:
            callback(0, state, images)
        return images

    def _scheduler(self, name: str) -> Any:
        """diffusers' scheduler of a sampler, its numbers on the CPU; its steps start from T (2305.08891, §3.3)."""
        with torch.device("cpu"):
            return SAMPLERS[name](
                num_train_timesteps=self.timesteps,
                trained_betas=betas(self.config.schedule, self.timesteps, self.config.beta_times_t).tolist(),
                clip_sample_range=self.limit,
                timestep_spacing="trailing",
            )


def _together(condition: Tensor | None, state: Tensor) -> Tensor:
    """What the network is given: the condition, where there is one, then x_t."""
    return state if condition is None else torch.cat((condition, state), dim=1)


def _index(t: Tensor) -> Tensor:
    """What diffusers calls t."""
    return (t - 1).clamp(min=0)
