"""LR pictures as cameras and websites make them (the thesis, §2.1): y = (x ⊗ k)↓ + n, its parts in any order."""

from torch import Tensor


def realworld(hr: Tensor, size: tuple[int, int], seeds: Tensor) -> Tensor:
    """LR pictures (N, 3, h, w) of HR pictures (N, 3, H, W) in [0, 1], each by what its seed draws."""
    raise NotImplementedError
