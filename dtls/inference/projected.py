"""Results moved to the nearest images that agree with what they were made of, whatever method made them.

The result x of an observation y becomes x + A⁺ (y − A x), cut to [0, 1] (DDNM, arXiv 2212.00490, eq. 9), several
times in turn, as cutting undoes a little of what projecting has done. For an exact y that never raises the error.
Noise and JPEG blocks of y come through. A is linear: a downscaling, or another degradation of `dtls.degradations`.
"""

from collections.abc import Mapping
from typing import get_args

from torch import Tensor

from dtls.degradations.base import PROTOCOLS, LRProtocol
from dtls.degradations.operator import PASSES, Info, Operator
from dtls.degradations.registry import operator_of
from dtls.errors import SamplingError
from dtls.inference.method import Method
from dtls.inference.sampling import Sampling


class Projected(Method):
    """The results of `method`, projected `passes` times onto images that agree with what it was given.

    made_by: what made that of the images, as in `operator_for`. It declares what the method declares, but that it
    computes all channels together, and projects.
    """

    projects = True

    def __init__(self, method: Method, made_by: str, passes: int = PASSES) -> None:
        self.method, self.operator, self.passes = method, operator_for(made_by), passes
        self.name = method.name
        self.is_learned, self.uses_gpu, self.is_stochastic = method.is_learned, method.uses_gpu, method.is_stochastic
        self.takes_same_size, self.needs_mask = method.takes_same_size, method.needs_mask
        self.scale, self.max_scale = method.scale, method.max_scale
        self.multiple, self.max_pixels = method.multiple, method.max_pixels
        self.degradation = method.degradation
        self.identity: Mapping[str, str] = {
            **method.identity,
            "protocol": made_by,
            "projected": str(True),
            "passes": str(passes),
        }

    def __call__(self, lr: Tensor, size: tuple[int, int], mask: Tensor | None = None) -> Tensor:
        made = self.method(lr, size, mask)
        return self.operator.project(made, lr.to(made), Info(masks=mask, size=size), self.passes)

    def check_scale(self, scale: float) -> None:
        self.method.check_scale(scale)


def projected(method: Method, sampling: Sampling) -> Method:
    """The method, with its results projected where `sampling` wants that.

    SamplingError where nothing says what made the images that it is given.
    """
    if not sampling.projected:
        return method
    if sampling.made_by is None:
        raise SamplingError(
            f"{method.name} cannot be projected: nothing says by which downscaling its images were made; "
            f"--protocol {' or '.join(PROTOCOLS)} does"
        )
    return Projected(method, sampling.made_by, sampling.passes or PASSES)


def operator_for(made_by: str) -> Operator:
    """The operator of a protocol, at any scale, or of a spec like `blur:2`.

    SamplingError for one that nothing can be projected on, DegradationError for one that is not known.
    """
    operator = operator_of(f"{made_by}:2" if made_by in get_args(LRProtocol) else made_by)  # A goes by the sizes
    if not operator.projects:
        why = "which is not linear" if operator.draws else "as more than one of its parts mixes pixels or channels"
        raise SamplingError(f"nothing can be projected on images of {made_by}, {why}")
    return operator
