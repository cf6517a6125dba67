"""The weights of a TorchScript file, by name, without its program: nothing in it is run.

Such a file is a zip. `data.pkl` has the tree of modules as a pickle; `data/0`, `data/1`, … have the bytes of tensors.
The pickle may name classes of the program, which become plain records here, and what torch makes tensors and lists
of. Any other name is refused.
"""

import io
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dtls.checkpoints.bounds import check_unpacked, check_zip

DTYPES = {
    "BFloat16Storage": torch.bfloat16,
    "BoolStorage": torch.bool,
    "ByteStorage": torch.uint8,
    "CharStorage": torch.int8,
    "DoubleStorage": torch.float64,
    "FloatStorage": torch.float32,
    "HalfStorage": torch.float16,
    "IntStorage": torch.int32,
    "LongStorage": torch.int64,
    "ShortStorage": torch.int16,
}
OF_LISTS = ("build_boollist", "build_doublelist", "build_intlist", "build_tensorlist", "restore_type_tag")


def is_torchscript(content: bytes) -> bool:
    """Whether this is a TorchScript file."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            return any(name.endswith("/constants.pkl") for name in archive.namelist())
    except zipfile.BadZipFile:
        return False


def weights_of_torchscript(content: bytes) -> dict[str, Tensor]:
    """The tensors of the modules in a TorchScript file, by the names that a state dict has.

    pickle.UnpicklingError for a file that names anything but modules, tensors and lists; TooLargeError for one that
    unpacks to far more than it is; any other error of Python's for one that is broken.
    """
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        check_zip(archive, content)
        root = _Unpickler(archive).load()
    if not isinstance(root, _Record):
        raise pickle.UnpicklingError("no module at its root")
    weights = dict(_tensors_of(root))
    check_unpacked(weights, content)
    return weights


class _Storage(NamedTuple):
    """The numbers of some tensors, in one dimension."""

    numbers: Tensor


class _Record:
    """What a module of the program holds, by name."""

    fields: dict[str, Any]

    def __setstate__(self, state: object) -> None:
        self.fields = state if isinstance(state, dict) else {}


class _Unpickler(pickle.Unpickler):
    """Makes records of modules, and tensors; what it is asked to call are functions of its own."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        name = next((name for name in archive.namelist() if name.endswith("/data.pkl")), None)
        if name is None:
            raise pickle.UnpicklingError("has no data.pkl")
        super().__init__(io.BytesIO(archive.read(name)))
        self.archive, self.folder = archive, name.removesuffix(".pkl")

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return type("Record", (_Record,), {})  # of its own: a pickle can change what it is given
        if module == "torch" and name in DTYPES:
            return name
        known: dict[tuple[str, str], Callable[..., Any]] = {
            ("torch._utils", "_rebuild_tensor_v2"): self._rebuilt,
            ("collections", "OrderedDict"): OrderedDict,
            **{("torch.jit._pickle", of_list): self._same for of_list in OF_LISTS},
        }
        if (module, name) not in known:
            raise pickle.UnpicklingError(f"names {module}.{name}, which is neither a module nor a tensor")
        return known[module, name]

    def persistent_load(self, pid: Any) -> _Storage:
        kind, dtype, key, *_ = pid
        if kind != "storage" or not str(key).isdecimal():
            raise pickle.UnpicklingError(f"has {kind} {key}, which is no storage")
        data = bytearray(self.archive.read(f"{self.folder}/{key}"))
        return _Storage(torch.frombuffer(data, dtype=DTYPES[dtype]) if data else torch.empty(0, dtype=DTYPES[dtype]))

    def _rebuilt(self, storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
        return storage.numbers.as_strided(size, stride, offset)

    def _same(self, value: Any, *_: Any) -> Any:
        return value


def _tensors_of(root: _Record) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module and those below it, each module once, with their names."""
    seen, waiting = set[int](), [("", root)]
    while waiting:
        prefix, record = waiting.pop()
        if id(record) in seen:
            continue
        seen.add(id(record))
        for name, value in record.fields.items():
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, _Record):
                waiting.append((f"{prefix}{name}.", value))
