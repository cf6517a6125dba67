"""The names of the protocols, how LR images are made of HR images, and of the degradation that cuts holes out."""

from typing import Literal, TypeGuard, get_args

Protocol = Literal["reference", "antialias"]
"""Which linear downscaling makes LR images.

`reference`: torch's bilinear without antialias, as the authors of DTLS do it.
`antialias`: Pillow's bicubic (a = −0.5, support widened by the scale), on which the literature's ×2/×3/×4 and SR3
stand.
"""
PROTOCOLS: tuple[Protocol, ...] = get_args(Protocol)
LRProtocol = Literal["reference", "antialias", "realworld"]
"""How LR images are made: by a linear downscaling, or as in `dtls.degradations.realworld`, which is not linear."""
HOLES = "mask"
"""The degradation of which a pixel has all or nothing: it is missing, or it is not."""
NOISE = "noise"
"""The degradation that adds white noise."""


def is_linear(protocol: str) -> TypeGuard[Protocol]:
    """Whether this protocol is a linear function of HR images, so that results can be projected on its LR images."""
    return protocol in PROTOCOLS
