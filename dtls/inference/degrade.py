"""Methods that make images smaller: HR squares of one size, and LR images by a protocol."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from dtls.degradations.base import LRProtocol, is_linear
from dtls.degradations.realworld import realworld, seeds_of
from dtls.degradations.resize import resize
from dtls.degradations.scale import scale_between
from dtls.errors import SizeError
from dtls.inference.method import Method


class Square(Method):
    """The centre square, reduced to the size wanted by Pillow's bicubic: makes HR images of one size."""

    name = "square"
    identity: Mapping[str, str] = MappingProxyType({"method": name})
    takes_same_size = True

    def __call__(self, x: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        height, width = x.shape[-2:]
        side = min(height, width)
        if side < max(size):
            raise SizeError(f"{width}×{height} is smaller than the size {max(size)}")
        top, left = (height - side) // 2, (width - side) // 2
        return resize(x[..., top : top + side, left : left + side], size, "antialias").clamp(0, 1)


class Downscaling(Method):
    """Makes LR images from HR images by a protocol, by one scale in both directions.

    seed: of what `realworld` draws, for each image by its own pixels; the others draw nothing.
    """

    def __init__(self, protocol: LRProtocol, seed: int = 0) -> None:
        self.name = f"downscale-{protocol}"
        self.protocol = self.degradation = protocol
        self.seed = seed
        self.is_stochastic = not is_linear(protocol)
        drawn = {"seed": str(seed)} if self.is_stochastic else {}
        self.identity: Mapping[str, str] = {"method": self.name, "protocol": protocol, **drawn}

    def __call__(self, hr: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        scale_between(size, (hr.shape[-2], hr.shape[-1]))
        if is_linear(self.protocol):
            return resize(hr, size, self.protocol).clamp(0, 1)
        return realworld(hr, size, seeds_of(hr, self.seed))
