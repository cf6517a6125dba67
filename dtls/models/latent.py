"""Base of latent diffusion (2112.10752; the thesis, §4.3): an autoencoder first, then a DDPM of what it encodes.

In the first share of the steps the autoencoder learns by `compare`, between images and their reconstructions, so
that there, and only there, a perceptual and an adversarial loss apply (2112.10752, §3.1). Then it stays as it is, and
the DDPM learns the noise in latents: in those of HR images, given those of enlarged LR images, or in those of images
alone. The autoencoders are diffusers', without the paper's attention: that would grow with the square of the image.
"""

from dataclasses import dataclass
from typing import Any, ClassVar, Self

import torch
from torch import Tensor, distributed, nn

from dtls.errors import SizeError
from dtls.models.base import Compare, Draws, Network, Noise, departing
from dtls.models.diffusion import ChainConfig, Diffusion, DiffusionConfig, NoiseLoss, diffusers, groups

LEVELS = 3
"""Of the autoencoder, each with half the sides of the one before: a latent has a fourth of the image's."""
KL_WEIGHT = 1e-6
NEWS = 0.1
"""The weight of what a step sees in the statistics of latents."""


@dataclass(frozen=True)
class AutoencoderConfig(ChainConfig):
    """latent_channels: C of latents. ae_width: of the autoencoder's first level, then 2 and 4 times that.

    first_stage: the share of the steps in which the autoencoder learns.
    """

    width: int = 64
    levels: int = 3
    noise_loss: NoiseLoss = "smooth-l1"
    latent_channels: int = 3
    ae_width: int = 32
    first_stage: float = 0.4

    @property
    def state_channels(self) -> int:
        return self.latent_channels

    @property
    def reduction(self) -> int:
        return int(2 ** (LEVELS - 1))

    @property
    def multiple(self) -> int:
        return super().multiple * self.reduction

    @property
    def autoencoder(self) -> dict[str, Any]:
        """What the two autoencoders have in common, in diffusers' words."""
        return {
            "in_channels": self.image_channels,
            "out_channels": self.image_channels,
            "block_out_channels": tuple(self.ae_width * 2**level for level in range(LEVELS)),
            "down_block_types": ("DownEncoderBlock2D",) * LEVELS,
            "up_block_types": ("UpDecoderBlock2D",) * LEVELS,
            "latent_channels": self.latent_channels,
            "norm_num_groups": groups(self.ae_width),
            "mid_block_add_attention": False,
        }

    def validate(self) -> Self:
        if self.latent_channels < 1:
            raise SizeError(f"latent_channels is at least 1, not {self.latent_channels}")
        if self.ae_width < 8 or self.ae_width % 8:
            raise SizeError(f"ae_width is a multiple of 8, not {self.ae_width}")
        if not 0 <= self.first_stage <= 1:
            raise SizeError(f"first_stage is a share of the steps, from 0 to 1, not {self.first_stage}")
        return super().validate()


@dataclass(frozen=True)
class LatentConfig(AutoencoderConfig, DiffusionConfig):
    """The configuration of a chain of latents of HR images, given those of LR ones."""


@dataclass(frozen=True)
class CodebookConfig(AutoencoderConfig):
    """codebook: how many vectors there are for a pixel of a latent."""

    codebook: int = 512

    def validate(self) -> Self:
        if self.codebook < 1:
            raise SizeError(f"codebook is at least 1, not {self.codebook}")
        return super().validate()


class Latent(Diffusion):
    """x_0 is the latent of the HR image, with about zero mean and unit variance in each channel.

    latent_moments: the mean and the mean square of each channel of latents, a running estimate of the first stage. It
    is a parameter, without a gradient, and no buffer, so that the average of the weights averages it with the encoder
    it belongs to.
    """

    compares = True
    staged = True
    limit = 3.0  # standard deviations; DDIM's first predictions are far off, and wider ones cost it PSNR
    config_type: ClassVar[type[ChainConfig]] = LatentConfig
    autoencoder: Any
    defaults = departing(learning_rate=2e-4, schedule="cosine", warmup=500, clip=1.0, batch_size=16)

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        standard = torch.stack((torch.zeros(self.config.state_channels), torch.ones(self.config.state_channels)))
        self.latent_moments = nn.Parameter(standard[..., None, None], requires_grad=False)  # (2, C, 1, 1)

    def latents(self, x: Tensor) -> Tensor:
        """Latents (N, C, H/4, W/4), as the encoder makes them, of images in [−1, 1]."""
        raise NotImplementedError

    def reconstructed(self, x: Tensor, drawn: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """The reconstruction of images in [−1, 1], their latents, and the loss that regularises these."""
        raise NotImplementedError

    def encoded(self, images: Tensor) -> Tensor:
        mean, std = self._statistics()
        return (self.latents(images * 2 - 1) - mean) / std

    def decoded(self, x0: Tensor) -> Tensor:
        mean, std = self._statistics()
        made: Tensor = self.autoencoder.decode(x0 * std + mean).sample
        return (made + 1) / 2

    def loss(self, network: Network, hr: Tensor, drawn: Draws, compare: Compare) -> Tensor:
        if self.progress >= self.config.first_stage:
            return self.noise_loss(network, hr, drawn)
        made, z, regularisation = self.reconstructed(hr * 2 - 1, drawn)
        if self.training:
            self._observe(z.detach())
        return compare((made + 1) / 2, hr) + regularisation

    def _statistics(self) -> tuple[Tensor, Tensor]:
        """Mean and standard deviation of each channel of latents, (C, 1, 1) each."""
        mean, square = self.latent_moments
        return mean, (square - mean**2).clamp(min=1e-8).sqrt()

    @torch.no_grad()
    def _observe(self, z: Tensor) -> None:
        """Move the estimate towards these latents, in all processes towards the mean of theirs.

        Parts of a batch come one after the other, so how many there are changes the estimate within its own noise.
        """
        seen = torch.stack((z.mean((0, 2, 3)), z.square().mean((0, 2, 3))))[..., None, None]
        if distributed.is_available() and distributed.is_initialized():
            distributed.all_reduce(seen)
            seen /= distributed.get_world_size()
        self.latent_moments.lerp_(seen, NEWS)


class Variational(Latent):
    """With a variational autoencoder; x_0 is the mean of its latents."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.autoencoder = diffusers.AutoencoderKL(**self.config.autoencoder)

    def latents(self, x: Tensor) -> Tensor:
        mean: Tensor = self.autoencoder.encode(x).latent_dist.mean
        return mean

    def reconstructed(self, x: Tensor, drawn: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """With the KL divergence from N(0, 1), of weight 1e-6 where the pixels' differences are summed, too."""
        found = self.autoencoder.encode(x).latent_dist
        z = found.mean + found.std * Noise(drawn.seeds)(found.mean)
        return self.autoencoder.decode(z).sample, found.mean, KL_WEIGHT * found.kl().mean() / x[0].numel()


class Quantised(Latent):
    """With a vector-quantised autoencoder; x_0 is not quantised yet: the decoder does that (2112.10752, §3.1)."""

    def __init__(self, **config: Any) -> None:
        super().__init__(**config)
        self.autoencoder = diffusers.VQModel(**self.config.autoencoder, num_vq_embeddings=self.config.codebook)

    def latents(self, x: Tensor) -> Tensor:
        z: Tensor = self.autoencoder.encode(x).latents
        return z

    def reconstructed(self, x: Tensor, _: Draws) -> tuple[Tensor, Tensor, Tensor]:
        """With the codebook's loss and the commitment loss, of diffusers' weights."""
        z = self.latents(x)
        made = self.autoencoder.decode(z)
        return made.sample, z, made.commit_loss
