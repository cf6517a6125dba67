"""Methods by the options that name them; what is behind a URL is fetched for as long as loading takes."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Self

from dtls.checkpoints.bundled import BUNDLED
from dtls.degradations.base import LRProtocol
from dtls.errors import CheckpointError
from dtls.inference.sampling import Sampling
from flows.inputs.sources import absolute
from storage.stores.location import Location, StorageError
from storage.stores.scratch import scratch_folder

if TYPE_CHECKING:
    from dtls.inference.method import Method
    from dtls.inference.trained import Trained

SPANDREL = "spandrel:"
"""What the name of a method begins with that is a file of weights."""


BUNDLED_PREFIX = "bundled:"
"""What the address of a bundled model begins with: its folder is elsewhere on each machine."""


def found(checkpoint: str) -> str:
    """A checkpoint's address as any process finds it; a folder goes before a bundled model of the same name."""
    if checkpoint.startswith(BUNDLED_PREFIX):
        return checkpoint
    is_ours = checkpoint in BUNDLED and not Path(checkpoint).exists()
    return BUNDLED_PREFIX + checkpoint if is_ours else absolute(checkpoint)


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

    def __call__(self) -> "Method":
        from dtls.devices import best_device
        from dtls.inference.method import load_method

        if self.checkpoint is not None:
            return load_checkpointed(self.checkpoint, best_device(self.device), self.sampling, self.method)
        if self.method is None:
            raise CheckpointError("a method or a checkpoint is required")
        if self.method.startswith(SPANDREL):
            return load_spandrel(self.method.removeprefix(SPANDREL), best_device(self.device), self.sampling)
        return load_method(self.method, sampling=self.sampling)


def file_of_weights(method: str) -> str | None:
    """The name of the method of a file of weights, however its first part is spelled; None for other methods."""
    name, colon, file = method.partition(":")
    return SPANDREL + file if name.lower() + colon == SPANDREL and file else None


@dataclass(frozen=True)
class Deterioration:
    """Loads what degrades images at their own size, by the spec of a degradation.

    strength: how much of it. seed: of what it draws. has_masks: whether masks say where holes are.
    """

    spec: str
    strength: float = 1.0
    seed: int = 0
    has_masks: bool = False

    def __call__(self) -> "Method":
        from dtls.inference.degrade import Degrading

        return Degrading(self.spec, self.strength, self.seed, has_masks=self.has_masks)


@dataclass(frozen=True)
class Reduction:
    """Loads what makes LR images by a protocol. seed: of what it draws."""

    protocol: LRProtocol
    seed: int = 0

    def __call__(self) -> "Method":
        from dtls.inference.degrade import Downscaling

        return Downscaling(self.protocol, self.seed)


def load_checkpointed(address: str, device: str, sampling: Sampling, requested: str | None = None) -> "Trained":
    """The checkpoint at `address`, a folder, a URL or a bundled model's name, as the method `requested`."""
    from dtls.inference.trained import Trained

    with checkpoint_folder(address) as folder:
        return Trained(folder, device, sampling, requested)


@contextmanager
def checkpoint_folder(address: str) -> Iterator[Path]:
    """The folder, on this machine for as long as the body runs, of the checkpoint at `address`.

    address: a folder, a URL or a bundled model's name. CheckpointError where there is none.
    """
    from dtls.checkpoints.checkpoint import CONFIG, WEIGHTS

    address = found(address)
    if address.startswith(BUNDLED_PREFIX):
        if address.removeprefix(BUNDLED_PREFIX) not in BUNDLED:
            raise CheckpointError(f"{address}: no model that comes with dtls; there are {', '.join(BUNDLED)}")
        yield BUNDLED[address.removeprefix(BUNDLED_PREFIX)].folder
        return
    where = Location.of(address)
    if where.local is not None and not where.local.exists():
        raise CheckpointError(f"{address}: no such folder; models that come with dtls are {' and '.join(BUNDLED)}")
    with _at_hand(where, (CONFIG, WEIGHTS)) as folder:
        yield folder


def load_spandrel(address: str, device: str, sampling: Sampling) -> "Method":
    """The method of a file of weights that spandrel knows, at a path or a URL."""
    from dtls.inference.method import load_method

    file = Location.of(address)
    name = file.url.rpartition("/")[2]
    if file.local is not None:
        return load_method("spandrel", file.local, device, sampling)
    if file.parent is None:
        raise CheckpointError(f"{address}: names no file")
    with _at_hand(file.parent, (name,)) as folder:
        return load_method("spandrel", folder / name, device, sampling)


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
