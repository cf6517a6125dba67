"""VAE-DDPM: latent diffusion with a variational autoencoder, diffusers' (the thesis, §4.3; 2112.10752)."""

from typing import Any

from torch import Tensor

from dtls.models.base import Draws, Noise
from dtls.models.diffusion import diffusers
from dtls.models.latent import Latent, LatentConfig

KL_WEIGHT = 1e-6


class VAEDDPM(Latent):
    """With a variational autoencoder; x_0 is the mean of its latents."""

    name = "vae-ddpm"
    config_type = LatentConfig

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
