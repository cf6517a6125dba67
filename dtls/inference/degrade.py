"""Methods that degrade images: HR squares of one size, LR images by a protocol, and any degradation by its spec."""

from collections.abc import Mapping
from types import MappingProxyType

from torch import Tensor

from dtls.degradations.base import LRProtocol, is_linear
from dtls.degradations.holes import random_masks
from dtls.degradations.operator import Info
from dtls.degradations.realworld import realworld
from dtls.degradations.recorded import at_strength
from dtls.degradations.registry import operator_of, parts_of_spec
from dtls.degradations.resize import resize
from dtls.degradations.scale import scale_between
from dtls.degradations.seeds import seeds_of
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


class Faint(Square):
    """HR squares of less contrast: ½ + c (x − ½) of what `Square` makes."""

    def __init__(self, contrast: float) -> None:
        self.contrast = contrast
        self.identity = {"method": self.name, "contrast": f"{contrast:g}"}

    def __call__(self, x: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        return 0.5 + self.contrast * (super().__call__(x, size) - 0.5)


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


class Degrading(Method):
    """Degrades images at their own size: `blur:2`, `dark:0.25`, `grey`, `mask`, … (see `dtls.degradations.registry`).

    strength: t / T of the family D_t, above 0 and at most 1. seed: of what is drawn, for each image by its own
    pixels. has_masks: whether masks say where the holes of `mask` are; else they are drawn. DegradationError for a
    spec that is not known.
    """

    takes_same_size = True

    def __init__(self, spec: str, strength: float = 1.0, seed: int = 0, *, has_masks: bool = False) -> None:
        self.operator, self.strength, self.seed = operator_of(spec), strength, seed
        self.name = f"degrade-{'+'.join(part.family.spec for part in parts_of_spec(self.operator.spec))}"
        self.needs_mask = has_masks
        self.is_stochastic = self.operator.draws or (self.operator.needs_mask and not has_masks)
        drawn = {"seed": str(seed)} if self.is_stochastic else {}
        protocol = at_strength(self.operator.spec, strength)
        self.identity: Mapping[str, str] = {"method": self.name, "protocol": protocol, **drawn}

    def __call__(self, x: Tensor, _: tuple[int, int], mask: Tensor | None = None) -> Tensor:
        """What files of degraded images hold: (N, C, H, W), one channel of grey ones, alpha last where holes are."""
        operator = self.operator
        seeds = seeds_of(x, self.seed) if self.is_stochastic else None
        if self.operator.needs_mask and mask is None and seeds is not None:
            mask = random_masks((x.shape[-2], x.shape[-1]), seeds)
        info = Info(masks=mask, seeds=seeds)
        if x.shape[1] == operator.channels:  # a grey image, which what comes before the loss of colours changes, too
            x = x.expand(-1, 3, -1, -1)
        if self.strength == 1:
            return operator.observe(x, info).clamp(0, 1)
        return operator(x, self.strength * operator.steps, info).clamp(0, 1)
