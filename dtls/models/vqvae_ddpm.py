"""VQVAE-DDPM: latent diffusion with a vector-quantised autoencoder, diffusers' (the thesis, §4.3; 2112.10752)."""

from dataclasses import dataclass

from dtls.models.latent import CodebookConfig, LatentConfig, Quantised


@dataclass(frozen=True)
class VQConfig(CodebookConfig, LatentConfig):
    """The configuration of a chain of a vector-quantised autoencoder's latents."""


class VQVAEDDPM(Quantised):
    """Super-resolution by a chain of a vector-quantised autoencoder's latents."""

    name = "vqvae-ddpm"
    config_type = VQConfig
