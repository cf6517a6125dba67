"""Cures for what other people's packages do to each other; each a small function to be called before an import."""

import functools
import importlib.util
import sys
from importlib.machinery import PathFinder

import torch

_OPERATORS = ("nms", "qnms")
_SIGNATURE = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"


@functools.cache
def allow_torchvision_import() -> None:
    """Make `import torchvision` succeed beside a CPU build of torch; does nothing where it already would.

    torchvision's wheel links its operators against CUDA. Without CUDA they do not load, and the import stops with
    `operator torchvision::nms does not exist`. Declaring the two operators it asks for is enough; calling them
    (`torchvision.ops.nms`) fails as before, and the models are untouched. Call it before importing torchvision,
    lpips or spandrel; any number of times. A torchvision that is missing stays missing.
    """
    if "torchvision" in sys.modules or _torchvision_operators_load():
        return
    library = torch.library.Library("torchvision", "FRAGMENT")
    for name in _OPERATORS:
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + _SIGNATURE)
    _KEPT.append(library)


_KEPT: list[torch.library.Library] = []
"""A library's operators vanish with the object, so it is held here."""


def _torchvision_operators_load() -> bool:
    """Whether torchvision's compiled operators load, found the way its own `extension.py` finds them."""
    package = importlib.util.find_spec("torchvision")
    if package is None or package.submodule_search_locations is None:
        return False
    extension = PathFinder.find_spec("_C", list(package.submodule_search_locations))
    if extension is None or extension.origin is None:
        return False
    try:
        torch.ops.load_library(extension.origin)
    except OSError:
        return False
    return True
