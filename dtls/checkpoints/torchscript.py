"""The weights of a TorchScript file, by name, without its program: nothing in it is run.

Such a file is a zip. `data.pkl` has the tree of modules as a pickle; `data/0`, `data/1`, … have the bytes of tensors.
The pickle may name classes of the program, which become plain records here, and what torch makes tensors and lists
of. Any other name is refused.
"""

import io
import pickle
import pickletools
import zipfile
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from dtls.checkpoints.bounds import TooLargeError, check_unpacked, check_zip

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
MAX_TREE, MAX_NAMES = 2**23, 2**24
"""Bytes of the pickle, and characters in the names of all tensors and modules; models of a GB have less than a MB."""
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
        super().__init__(io.BytesIO(_checked(archive.read(name))))
        self.archive, self.folder = archive, name.removesuffix(".pkl")
        self.storages: dict[str, bytearray] = {}
        self.record = type("Record", (_Record,), {})  # of its own: a pickle can change what it is given

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".")[0] == "__torch__":
            return self.record
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
        data = self.storages.get(str(key))
        if data is None:
            data = self.storages[str(key)] = bytearray(self.archive.read(f"{self.folder}/{key}"))
        return _Storage(torch.frombuffer(data, dtype=DTYPES[dtype]) if data else torch.empty(0, dtype=DTYPES[dtype]))

    def _rebuilt(self, storage: _Storage, offset: int, size: Sequence[int], stride: Sequence[int], *_: Any) -> Tensor:
        return storage.numbers.as_strided(size, stride, offset)

    def _same(self, value: Any, *_: Any) -> Any:
        return value


def _checked(tree: bytes) -> bytes:
    """The pickle; TooLargeError for one that is far larger than any program's, or would make pickle's memo so."""
    if len(tree) > MAX_TREE:
        raise TooLargeError(f"names its modules in {len(tree):,} bytes, far more than a model needs")
    for opcode, place, _ in pickletools.genops(tree):
        if opcode.name.endswith("PUT") and isinstance(place, int) and place > len(tree):
            raise TooLargeError(f"keeps what it names at the place {place:,}, far more than it has")
    return tree


def _tensors_of(root: _Record) -> Iterator[tuple[str, Tensor]]:
    """The tensors of a module and those below it, each module once, with their names.

    TooLargeError for names that are together far longer than those of any model.
    """
    seen, waiting, left = set[int](), [("", root)], MAX_NAMES
    while waiting:
        prefix, record = waiting.pop()
        if id(record) in seen:
            continue
        seen.add(id(record))
        for name, value in record.fields.items():
            left -= len(prefix) + len(str(name)) if isinstance(value, Tensor | _Record) else 0
            if left < 0:
                raise TooLargeError("has names far longer than a model needs")
            if isinstance(value, Tensor):
                yield f"{prefix}{name}", value
            elif isinstance(value, _Record):
                waiting.append((f"{prefix}{name}.", value))
