"""`ddpm` (2006.11239): images of noise, in 50 steps of DDIM or in the T of the chain."""

from dtls.models.base import departing
from dtls.models.generative import GenerativeChain


class DDPM(GenerativeChain):
    """z is x_T of images in [−1, 1]."""

    name = "ddpm"
    defaults = departing(learning_rate=2e-4, schedule="cosine", warmup=500, clip=1.0, batch_size=32)
