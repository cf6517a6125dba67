"""VQVAE-DDPM: latent diffusion with a vector-quantised autoencoder, diffusers' (the thesis, §4.3; 2112.10752)."""

from dataclasses import dataclass
from typing import Any, Self

from torch import Tensor

from dtls.errors import SizeError
from dtls.models.base import Draws
from dtls.models.diffusion import diffusers
from dtls.models.latent import Latent, LatentConfig


@dataclass(frozen=True)
class VQConfig(LatentConfig):
    """codebook: how many vectors there are for a pixel of a latent."""

    codebook: int = 512

    def validate(self) -> Self:
        if self.codebook < 1:
            raise SizeError(f"codebook is at least 1, not {self.codebook}")
        return super().validate()


class VQVAEDDPM(Latent):
    """With a vector-quantised autoencoder; x_0 is not quantised yet: the decoder does that (2112.10752, §3.1)."""

    name = "vqvae-ddpm"
    config_type = VQConfig

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
