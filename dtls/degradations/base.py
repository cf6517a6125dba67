"""The names of the protocols: how LR images are made of HR images."""

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


def is_linear(protocol: str) -> TypeGuard[Protocol]:
    """Whether this protocol is a linear function of HR images, so that results can be projected on its LR images."""
    return protocol in PROTOCOLS
