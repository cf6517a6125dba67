"""Images that are transparent in places: their colour and their alpha are enlarged apart.

The colour of a pixel whose alpha is 0 means nothing, and would bleed into the edges of what is seen. So it is
replaced before enlarging (`fill`). Enlarged alpha overshoots, and is put back between its neighbours (`bounded`).
Reduced alpha has more neighbours than that, and is left as it is.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.inference.degrade import Downscaling
from dtls.inference.interpolation import Interpolation
from dtls.inference.method import Method


def fill(colour: Tensor, alpha: Tensor) -> Tensor:
    """`colour` (N, 1 or 3, h, w) with that of its surroundings where `alpha` (N, 1, h, w) is 0; both in [0, 1].

    Pixels that are seen at all stay exactly as they are, and so does an image of which nothing is seen.
    """
    seen = alpha > 0
    nothing = ~seen.any(-1, keepdim=True).any(-2, keepdim=True)
    return torch.where(seen | nothing, colour, _surroundings(colour * alpha, alpha))


def _surroundings(weighted: Tensor, weight: Tensor) -> Tensor:
    """`weighted / weight`; where the weight is 0, what an image half as large has there, and so on."""
    colour = weighted / torch.where(weight > 0, weight, 1)
    if (weight > 0).all() or weight.shape[-2:] == (1, 1):
        return colour
    coarse = _surroundings(*(F.avg_pool2d(x, 2, ceil_mode=True) for x in (weighted, weight)))
    enlarged = F.interpolate(coarse, (weight.shape[-2], weight.shape[-1]), mode="bilinear")
    return torch.where(weight > 0, colour, enlarged)


def bounded(alpha_sr: Tensor, alpha_lr: Tensor) -> Tensor:
    """`alpha_sr` (N, 1, H, W) between the least and the greatest of the 3×3 pixels of `alpha_lr` (N, 1, h, w) there.

    So what is wholly opaque, or wholly transparent, stays exactly so. Smaller than `alpha_lr`, it is cut to [0, 1].
    """
    if alpha_sr.shape[-2] < alpha_lr.shape[-2] or alpha_sr.shape[-1] < alpha_lr.shape[-1]:
        return alpha_sr.clamp(0, 1)
    size = (alpha_sr.shape[-2], alpha_sr.shape[-1])
    least, greatest = (
        F.interpolate(sign * F.max_pool2d(sign * alpha_lr, 3, stride=1, padding=1), size, mode="nearest-exact")
        for sign in (-1, 1)
    )
    return torch.clamp(alpha_sr, least, greatest)


def of_alpha(method: Method) -> Method:
    """What resizes alpha: the method, unless its results depend on noise, which would show as specks."""
    if not method.is_stochastic:
        return method
    return Interpolation("bicubic") if method.is_learned else Downscaling("antialias")
