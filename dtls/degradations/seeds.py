"""Seeds: each image draws what is random in its degradation by one of its own, and so is the same in any batch."""

import hashlib
import zlib

import torch
from torch import Tensor


def seeds_of(images: Tensor, seed: int) -> Tensor:
    """Seeds (N,) of images (N, C, H, W), each of the run's seed and its own pixels: the same in any order."""
    head = f"{seed} {tuple(images.shape[1:])} {images.dtype} ".encode()
    digests = (hashlib.sha256(head + x.cpu().contiguous().numpy().tobytes()).digest() for x in images)
    return torch.tensor([int.from_bytes(digest[:4], "big") for digest in digests])


def generators(drawn: str, seeds: Tensor) -> list[torch.Generator]:
    """Of each seed in `seeds` (N,), whole numbers, a generator of what is `drawn`, on the CPU.

    It has nothing to do with a model's own noise, or with what else is drawn, whose seed may be the same.
    """
    return [torch.Generator().manual_seed(zlib.crc32(f"{drawn} {seed}".encode())) for seed in seeds.tolist()]
