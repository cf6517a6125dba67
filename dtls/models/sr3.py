"""SR3 (2104.07636), and the thesis's DDPM: a U-Net takes the noise out of an image, given the enlarged LR image.

What departs from SR3: the U-Net is DDPM's (2006.11239), without BigGAN's blocks, and is told t, not the noise level.
The loss is L1, one of the two of its eq. 6; the thesis's (§5.2) is `noise_loss = smooth-l1`.
"""

from dtls.models.base import departing
from dtls.models.diffusion import Diffusion


class SR3(Diffusion):
    """x_0 is the HR image in [−1, 1], its condition the enlarged LR image in [−1, 1]."""

    name = "sr3"
    defaults = departing(learning_rate=1e-4, schedule="cosine", warmup=500, clip=1.0, batch_size=16)
