"""`vae-gen`: images of noise, by a chain of a variational autoencoder's latents (the thesis, §5.3; 2112.10752)."""

from dataclasses import dataclass

from dtls.models.diffusion import NoiseLoss
from dtls.models.generative import GenerativeChain, GenerativeChainConfig
from dtls.models.latent import AutoencoderConfig, Variational


@dataclass(frozen=True)
class VAEGenConfig(GenerativeChainConfig, AutoencoderConfig):
    """The configuration of a chain of latents."""

    size: int = 64
    width: int = 64
    noise_loss: NoiseLoss = "smooth-l1"


class VAEGen(GenerativeChain, Variational):
    """z is x_T of latents."""

    name = "vae-gen"
    config_type = VAEGenConfig
