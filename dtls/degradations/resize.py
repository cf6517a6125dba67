"""The downscaling A and the upscaling B, as 1-D matrices.

A separable linear resize of an image X (H, W) is `R_H X R_Wᵀ`, R being a small (n_out, n_in) matrix. So the making of
LR images, their consistency, and D_t (`dtls.degradations.path`) are each two small matrix products, exact and
differentiable, and all use one protocol.
"""

from collections import OrderedDict
from collections.abc import Callable
from functools import wraps
from threading import Lock
from typing import ParamSpec

import torch
import torch.nn.functional as F
from torch import Tensor

from dtls.degradations.base import Protocol
from dtls.errors import SizeError

CACHE_BYTES = 2**27
"""Of matrices of each kind that are kept: an archive has images of any size, and large ones have large matrices."""


P = ParamSpec("P")


def kept(compute: Callable[P, Tensor]) -> Callable[P, Tensor]:
    """`compute`, a function of hashable arguments: of its matrices, the last used CACHE_BYTES are kept."""
    matrices: OrderedDict[object, Tensor] = OrderedDict()
    lock = Lock()

    @wraps(compute)
    def call(*args: P.args, **kwargs: P.kwargs) -> Tensor:
        key = (args, *sorted(kwargs.items()))
        with lock:
            if key in matrices:
                matrices.move_to_end(key)
                return matrices[key]
        made = compute(*args, **kwargs)
        if made.nbytes > CACHE_BYTES:
            return made
        with lock:
            matrices[key] = made
            matrices.move_to_end(key)
            while sum(matrix.nbytes for matrix in matrices.values()) > CACHE_BYTES:
                matrices.popitem(last=False)
        return made

    return call


@kept
@torch.inference_mode(False)
def resize_matrix(n_in: int, n_out: int, protocol: Protocol) -> Tensor:
    """The 1-D resize from `n_in` to `n_out` samples: float64 (n_out, n_in), rows sum to 1."""
    if n_in < 1 or n_out < 1:
        raise SizeError(f"cannot resize {n_in} to {n_out} pixels")
    identity = torch.eye(n_in, dtype=torch.float64)[None, None]
    antialias = protocol == "antialias"
    mode = "bicubic" if antialias else "bilinear"
    return F.interpolate(identity, (n_out, n_in), mode=mode, antialias=antialias, align_corners=False)[0, 0]


def resize(x: Tensor, size: tuple[int, int], protocol: Protocol) -> Tensor:
    """Resize x (N, C, H, W) to `size` (h, w): A when it shrinks, B when it grows. Not clamped."""
    rows = resize_matrix(x.shape[-2], size[0], protocol).to(x)
    columns = resize_matrix(x.shape[-1], size[1], protocol).to(x)
    return rows @ x @ columns.T  # (N, C, h, w)


@kept
@torch.inference_mode(False)
def pseudo_inverse(n_in: int, n_out: int, protocol: Protocol) -> Tensor:
    """A⁺ of `resize_matrix(n_in, n_out)`: float64 (n_in, n_out)."""
    return torch.linalg.pinv(resize_matrix(n_in, n_out, protocol))


def project(x: Tensor, y: Tensor, protocol: Protocol) -> Tensor:
    """The image nearest to x (N, C, H, W) that A reduces to y (N, C, h, w): x + A⁺(y − A x). Not clamped."""
    size = (y.shape[-2], y.shape[-1])
    rows = pseudo_inverse(x.shape[-2], size[0], protocol).to(x)
    columns = pseudo_inverse(x.shape[-1], size[1], protocol).to(x)
    return x + rows @ (y - resize(x, size, protocol)) @ columns.T
