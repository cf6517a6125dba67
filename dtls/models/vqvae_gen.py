"""`vqvae-gen`: images of noise, by a chain of latents of a vector-quantised autoencoder (the thesis, §5.3)."""

from dataclasses import dataclass

from dtls.models.diffusion import NoiseLoss
from dtls.models.generative import GenerativeChain, GenerativeChainConfig
from dtls.models.latent import CodebookConfig, Quantised


@dataclass(frozen=True)
class VQGenConfig(GenerativeChainConfig, CodebookConfig):
    """The configuration of a chain of latents."""

    size: int = 64
    width: int = 64
    noise_loss: NoiseLoss = "smooth-l1"


class VQVAEGen(GenerativeChain, Quantised):
    """z is x_T of latents that are not quantised yet."""

    name = "vqvae-gen"
    config_type = VQGenConfig
