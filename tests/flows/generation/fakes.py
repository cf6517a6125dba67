"""A generator whose results can be told in the head: z is an image of one channel or three, and images are z, cut."""

from collections.abc import Callable

import torch
from torch import Tensor

from dtls.inference.generation import Start


class Fake:
    """Makes grey or coloured images of 4 pixels a side, each of z of that shape; adds what `spoiled` says."""

    size, batch, inverts, edits = 4, 3, True, True

    def __init__(self, channels: int = 3, spoiled: int | None = None) -> None:
        self.channels, self.z_shape = channels, (channels, 4, 4)
        self.identity = {"method": "fake", "checkpoint": "0" * 64}
        self.spoiled = spoiled
        """The seed whose image is no numbers."""

    def z(self, seeds: Tensor, start: Start) -> Tensor:
        drawn = [torch.rand(self.z_shape, generator=torch.Generator().manual_seed(int(seed))) for seed in seeds]
        return torch.stack(drawn) * start.truncate

    def images(self, z: Tensor, seeds: Tensor, callback: Callable[[float, Tensor, Tensor], None]) -> Tensor:
        callback(0, z, z)
        return torch.stack(
            [one * torch.nan if seed == self.spoiled else one for one, seed in zip(z, seeds.tolist(), strict=True)]
        )

    def invert(self, images: Tensor) -> Tensor:
        return images

    def partly(self, images: Tensor, strength: float, _: Tensor) -> Tensor:
        return images * (1 - strength)
