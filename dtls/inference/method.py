"""Methods: what turns LR images into SR images. `load_method` finds one by name.

A new method is a subclass of `Method` that says what it can do, and a line in `dtls.registry`.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from numpy.typing import NDArray
from torch import Tensor

from dtls.errors import SamplingError, SizeError
from dtls.inference.sampling import DEFAULT, Sampling
from dtls.registry import FILLINGS, INTERPOLATIONS, INVERSES, imported, methods


class Method(ABC):
    """Base of all methods. A subclass has a name and an identity, is callable, and declares what departs from below.

    name: in tables and manifests. identity: all that results depend on, but the images.
    is_learned: it has weights, and so layers that take memory. uses_gpu: it computes on a GPU where there is one.
    channelwise: it takes each channel for itself, on the CPU, in any number of threads at once. copies: `copied`
    makes its results of arrays of any type. takes_same_size: it is called for results of the image's own size, too;
    of other methods such a result is the image. needs_mask: it fills holes, and is called with a mask of them.
    grey_only: it takes images of one channel alone, and gives them colour. is_stochastic: its results depend on
    noise. projects: it projects all of a result at once, which takes memory. scale: what results are enlarged by if
    nothing else is asked for; None for the user's default. max_scale: the largest scale that it takes; None for any,
    1 for methods that restore images at the size they have.
    degradation: what it undoes: the protocol that made the LR images that it was trained on, or a spec like `blur:2`;
    or the protocol that it makes LR images by. multiple: of which the sides of images are, once it has padded them.
    max_pixels: of an image that it computes in one piece; it cuts larger ones into tiles.
    """

    name: str
    identity: Mapping[str, str]
    is_learned: bool = False
    uses_gpu: bool = False
    channelwise: bool = False
    takes_same_size: bool = False
    needs_mask: bool = False
    grey_only: bool = False
    copies: bool = False
    is_stochastic: bool = False
    projects: bool = False
    scale: float | None = None
    max_scale: float | None = None
    degradation: str | None = None
    multiple: int = 1
    max_pixels: int | None = None

    @abstractmethod
    def __call__(self, lr: Tensor, size: tuple[int, int], mask: Tensor | None = None, /) -> Tensor:
        """Images (N, C, H, W) in [0, 1] of `size` (H, W), of images (N, C, h, w), float32 in [0, 1], C = 1 or 3.

        mask: (N, 1, h, w), 1 in holes and 0 elsewhere, where `needs_mask` is true; other methods are called without.
        SizeError where it cannot reach that size.
        """

    def masked(self, mask: Tensor | None) -> Tensor:
        """The mask that a method is called with that fills holes; SizeError where it is called without."""
        if mask is None:
            raise SizeError(f"{self.name} fills holes: a mask says where they are")
        return mask

    def check_scale(self, scale: float) -> None:
        """SizeError for a scale that it does not take."""
        if self.max_scale is not None and scale > self.max_scale:
            raise SizeError(f"{self.name} upscales by at most ×{self.max_scale:g}, not ×{scale:g}")

    def copied(self, pixels: NDArray[Any], size: tuple[int, int]) -> NDArray[Any]:
        """The result (H, W, …) of an array (h, w, …) of any type, where `copies` is true."""
        raise NotImplementedError


def load_method(
    name: str, checkpoint: Path | None = None, device: str = "cpu", sampling: Sampling = DEFAULT
) -> Method:
    """The method called `name`; a trained one needs its checkpoint's folder, `spandrel` a file of weights.

    ValueError, CheckpointError or SamplingError says what is wrong.
    """
    from dtls.inference.projected import projected  # needs this module

    if name in INTERPOLATIONS:
        return projected(imported(INTERPOLATIONS[name])(name), sampling)
    if name in INVERSES:
        if sampling.made_by is None:
            raise SamplingError(f"{name} undoes a known degradation, and nothing says which; use dtls restore --task")
        undoing: Method = imported(INVERSES[name])(name, sampling.made_by)
        return undoing
    if name in FILLINGS:
        made: Method = imported(FILLINGS[name])(name)
        return made
    if name not in methods():
        raise ValueError(f"unknown method {name!r}; known: {', '.join(methods())}")
    if checkpoint is None:
        raise ValueError(f"the method {name} needs a checkpoint")
    if name == "spandrel":
        from dtls.inference.spandrel import SpandrelModel  # takes seconds

        return projected(SpandrelModel(checkpoint, device, sampling), sampling)
    from dtls.inference.trained import Trained  # needs this module

    return Trained(checkpoint, device, sampling, name)
