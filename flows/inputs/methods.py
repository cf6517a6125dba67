"""Methods by what options say of them; what is behind a URL is fetched for as long as loading takes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dtls.checkpoints.bundled import SHIPPED
from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS, CheckpointError
from dtls.degradations.resize import LRProtocol
from dtls.devices import best_device
from dtls.inference.interpolation import Downscaling
from dtls.inference.method import Method, load_method
from dtls.inference.trained import Sampling, Trained
from flows.inputs.sources import absolute
from storage.stores.location import Location, StorageError
from storage.stores.scratch import scratch_folder

SPANDREL = "spandrel:"
"""What the name of a method begins with that is a file of weights."""


OURS = "shipped:"
"""What the address of a model begins with that comes with dtls: it lies elsewhere on each machine."""


def found(checkpoint: str) -> str:
    """A checkpoint's address as any process finds it; a folder goes before a model of ours with the same name."""
    if checkpoint.startswith(OURS):
        return checkpoint
    is_ours = checkpoint in SHIPPED and not Path(checkpoint).exists()
    return OURS + checkpoint if is_ours else absolute(checkpoint)


@dataclass(frozen=True)
class MethodSpec:
    """Loads the method that the options name, on the device that they name, or the best there is."""

    method: str | None
    checkpoint: str | None
    device: str
    sampling: Sampling

    @classmethod
    def of(cls, method: str | None, checkpoint: str | None, device: str, sampling: Sampling) -> Self:
        """The same from any folder."""
        if method is not None and method.startswith(SPANDREL):
            method = f"{SPANDREL}{absolute(method.removeprefix(SPANDREL))}"
        return cls(method, found(checkpoint) if checkpoint is not None else None, device, sampling)

    def __call__(self) -> Method:
        if self.checkpoint is not None:
            return load_checkpointed(self.checkpoint, best_device(self.device), self.sampling, self.method)
        if self.method is None:
            raise CheckpointError("say a method or a checkpoint")
        if self.method.startswith(SPANDREL):
            return load_spandrel(self.method.removeprefix(SPANDREL), best_device(self.device), self.sampling)
        return load_method(self.method)


@dataclass(frozen=True)
class Reduction:
    """Loads what makes LR images by a protocol. seed: of what it draws."""

    protocol: LRProtocol
    seed: int = 0

    def __call__(self) -> Method:
        return Downscaling(self.protocol, self.seed)


def load_checkpointed(address: str, device: str, how: Sampling, wish: str | None = None) -> Trained:
    """The method of the checkpoint at `address`, a folder, a URL or a shipped model's name; of the model `wish`."""
    address = found(address)
    if address.startswith(OURS):
        if address.removeprefix(OURS) not in SHIPPED:
            raise CheckpointError(f"{address}: no model that comes with dtls; there are {', '.join(SHIPPED)}")
        return Trained(SHIPPED[address.removeprefix(OURS)].folder, device, how, wish)
    where = Location.of(address)
    if where.local is not None and not where.local.exists():
        raise CheckpointError(f"{address}: no such folder; models that come with dtls are {' and '.join(SHIPPED)}")
    with _at_hand(where, (CONFIG, WEIGHTS)) as folder:
        return Trained(folder, device, how, wish)


def load_spandrel(address: str, device: str, how: Sampling) -> Method:
    """The method of a file of weights that spandrel knows, at a path or a URL."""
    file = Location.of(address)
    name = file.url.rpartition("/")[2]
    if file.local is not None:
        return load_method("spandrel", file.local, device, how)
    if file.parent is None:
        raise CheckpointError(f"{address}: names no file")
    with _at_hand(file.parent, (name,)) as folder:
        return load_method("spandrel", folder / name, device, how)


@contextmanager
def _at_hand(where: Location, names: Iterable[str]) -> Iterator[Path]:
    """A folder on this machine with the files `names` of `where`."""
    if where.local is not None:
        yield where.local
        return
    with scratch_folder() as folder:
        try:
            for name in names:
                where.download(name, folder / name)
        except StorageError as error:
            raise CheckpointError(str(error)) from error
        yield folder
