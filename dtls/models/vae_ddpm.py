"""VAE-DDPM: latent diffusion with a variational autoencoder, diffusers' (the thesis, §4.3; 2112.10752)."""

from dtls.models.latent import Variational


class VAEDDPM(Variational):
    """Super-resolution by a chain of a variational autoencoder's latents."""

    name = "vae-ddpm"
