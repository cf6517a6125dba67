"""`inverse`: a degradation undone by its equations, without a model. It is what a trained model has to beat.

For images that were degraded exactly so: noise, JPEG blocks and another blur come out larger.
"""

from collections.abc import Mapping

from torch import Tensor

from dtls.degradations.operator import Info
from dtls.inference.method import Method
from dtls.inference.projected import operator_for


class Inverse(Method):
    """A⁺ y, of images that hold all that there was but what is rounded away. made_by: the spec of A."""

    takes_same_size = True
    max_scale = 1
    projects = True

    def __init__(self, name: str, made_by: str) -> None:
        self.name, self.degradation, self.operator = name, made_by, operator_for(made_by)
        self.identity: Mapping[str, str] = {"method": name, "protocol": made_by}

    def __call__(self, x: Tensor, size: tuple[int, int], _: Tensor | None = None) -> Tensor:
        return self.operator.inverse(x, Info(size=size))
