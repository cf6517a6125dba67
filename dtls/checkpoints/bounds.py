"""Bounds on what a foreign file of weights may make this process allocate: its own size says how large a model is."""

import io
import threading
import zipfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_parameter_registration_hook

SLACK_BYTES = 1 << 20
"""What a PyTorch checkpoint may unpack to beyond twice its own size."""
SLACK_TENSORS, SLACK_NUMBERS = 64, 10_000_000
"""What a model may have beyond twice its weights: one that is a little too large is told by what does not fit."""


class TooLargeError(ValueError):
    """A file that asks for more memory than its own weights take."""


@contextmanager
def no_larger_than(weights: Mapping[str, Tensor]) -> Iterator[None]:
    """Within, the modules that this thread makes have no far more parameters than `weights`, else TooLargeError.

    Nothing is allocated for them: they are made on torch's meta device.
    """
    with counted(weights), torch.device("meta"):
        yield


@contextmanager
def counted(weights: Mapping[str, Any]) -> Iterator[None]:
    """The same for modules that are allocated; `weights` may be in nested dictionaries."""
    there = list(_tensors_in(weights))
    tensors = 2 * len(there) + SLACK_TENSORS
    numbers = 2 * sum(tensor.numel() for tensor in there) + SLACK_NUMBERS
    thread = threading.get_ident()

    def count(_module: nn.Module, _name: str, parameter: nn.Parameter | None) -> None:
        nonlocal tensors, numbers
        if parameter is None or threading.get_ident() != thread:
            return
        tensors, numbers = tensors - 1, numbers - parameter.numel()
        if tensors < 0 or numbers < 0:
            raise TooLargeError("describes a larger model than its weights are of")

    hook = register_module_parameter_registration_hook(count)
    try:
        yield
    finally:
        hook.remove()


def load_pickled(content: bytes) -> Any:
    """What a PyTorch checkpoint holds: tensors, and plain values by name. Nothing else is unpickled.

    TooLargeError for one that unpacks to far more than it is; else whatever `torch.load` raises.
    """
    if zipfile.is_zipfile(io.BytesIO(content)):
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            check_zip(archive, content)
    loaded = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    check_unpacked(loaded, content)
    return loaded


def check_zip(archive: zipfile.ZipFile, content: bytes) -> None:
    """TooLargeError for a zip, of these bytes, whose members are far larger than it is."""
    _check_more(sum(member.file_size for member in archive.infolist()), content)


def check_unpacked(loaded: Any, content: bytes) -> None:
    """TooLargeError for tensors in nested dictionaries that take far more memory than the file that they come of."""
    _check_more(_bytes_of(loaded), content)


def _bytes_of(value: Any) -> int:
    """What the tensors in nested dictionaries take once each has memory of its own."""
    return sum(tensor.numel() * tensor.element_size() for tensor in _tensors_in(value))


def _tensors_in(value: Any) -> Iterator[Tensor]:
    """The tensors in nested dictionaries, each of these once."""
    seen, waiting = set[int](), [value]
    while waiting:
        value = waiting.pop()
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, dict) and id(value) not in seen:
            seen.add(id(value))
            waiting += value.values()


def _check_more(size: int, content: bytes) -> None:
    if size > 2 * len(content) + SLACK_BYTES:
        raise TooLargeError(f"would take {size:,} bytes of memory, far more than the file has")
