"""`a+b`: one degradation after the other.

D_t = D_t of b, of D_t of a; A likewise. A family that changes an image's size or channels comes last, so that the
ones before have the image as it is.
"""

from dataclasses import dataclass, replace
from functools import reduce

from torch import Tensor

from dtls.degradations.blur import DEVIATION
from dtls.degradations.operator import NOTHING, Info, Operator
from dtls.errors import DegradationError


@dataclass(unsafe_hash=True)
class Sum(Operator):
    """Two operators or more, of different families, with the same T; DegradationError where they cannot be combined.

    It is linear where all of them are, in the same space. Images that agree with an observation are known where one
    operator at most, beside noise, mixes pixels or channels.
    """

    parts: tuple[Operator, ...]

    def __post_init__(self) -> None:
        first, last = self.parts[0], self.parts[-1]
        if len({type(part) for part in self.parts}) < len(self.parts):
            raise DegradationError(f"{self.spec}: each degradation can be part of a sum once")
        if early := [part.spec for part in self.parts[:-1] if part.changes_shape]:
            raise DegradationError(f"{self.spec}: {early[0]} changes the size or channels, so it has to come last")
        others = [part for part in self.parts if not part.noise]
        self.steps, self.in_light = first.steps, first.in_light
        self.channels, self.changes_shape = last.channels, last.changes_shape
        self.is_linear = all(part.is_linear and part.in_light == self.in_light for part in self.parts)
        self.pixelwise = all(part.pixelwise for part in self.parts)
        self.projects = all(part.projects for part in self.parts) and (
            len(others) < 2 or all(part.pixelwise for part in others)
        )
        self.draws = any(part.draws for part in self.parts)
        self.needs_mask = any(part.needs_mask for part in self.parts)

    @property
    def spec(self) -> str:
        return "+".join(part.spec for part in self.parts)

    @property
    def scale(self) -> float:
        return self.parts[-1].scale

    def degraded(self, x: Tensor, share: Tensor, info: Info) -> Tensor:
        return reduce(lambda made, part: part.degraded(made, share, info), self.parts, x)

    def observe(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        return reduce(lambda made, part: part.observe(made, info), self.parts, x)

    def expected(self, x: Tensor, info: Info = NOTHING) -> Tensor:
        return reduce(lambda made, part: part.expected(made, info), self.parts, x)

    def lift(self, y: Tensor, info: Info = NOTHING) -> Tensor:
        return reduce(lambda made, part: part.lift(made, info), reversed(self.parts), y)

    def nearest(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """The nearest image by its first part, to what is nearest by the others.

        Noise that comes last is that of y, for the parts before. Noise that comes first shrinks the step of parts
        that mix pixels or channels by σ²/(σ² + σ_y²) (2201.11793), σ being DEVIATION and σ_y the noise's.
        """
        first, *others = self.parts
        if not others:
            return first.nearest(x, y, info)
        if noise := others[-1].noise:
            before = Sum(self.parts[:-1])
            return before.nearest(x, y, replace(info, noise=(info.noise**2 + noise**2) ** 0.5))
        rest = Sum(tuple(others))
        if first.noise and not rest.pixelwise:
            return x + (rest.nearest(x, y, info) - x) / (1 + (first.noise / DEVIATION) ** 2)
        return first.nearest(x, rest.nearest(first.expected(x, info), y, info), info)

    def misfit(self, x: Tensor, y: Tensor, info: Info = NOTHING) -> Tensor:
        """That of the last part, for what the others make of x."""
        *others, last = self.parts
        return last.misfit(reduce(lambda made, part: part.expected(made, info), others, x), y, info)
