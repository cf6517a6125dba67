"""Methods by what options say of them; what is behind a URL is fetched for as long as loading takes."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from dtls.checkpoint import CONFIG, WEIGHTS, CheckpointError
from dtls.degradation import Protocol
from dtls.devices import best_device
from dtls.interpolation import Downscaling
from dtls.methods import Method, load_method
from dtls.trained import Sampling, Trained
from flows.sources import absolute
from storage.locations import Location, StorageError

SPANDREL = "spandrel:"
"""What the name of a method begins with that is a file of weights."""


@dataclass(frozen=True)
class Chosen:
    """Loads the method that the options name, on the device that they name, or the best there is."""

    method: str
    checkpoint: str | None
    device: str
    sampling: Sampling

    @classmethod
    def of(cls, method: str, checkpoint: str | None, device: str, sampling: Sampling) -> Self:
        """The same from any folder."""
        name, colon, file = method.partition(":")
        method = f"{SPANDREL}{absolute(file)}" if name + colon == SPANDREL else method
        return cls(method, absolute(checkpoint) if checkpoint is not None else None, device, sampling)

    def __call__(self) -> Method:
        if self.checkpoint is not None:
            return load_checkpointed(self.checkpoint, best_device(self.device), self.sampling)
        if self.method.startswith(SPANDREL):
            return load_spandrel(self.method.removeprefix(SPANDREL), best_device(self.device), self.sampling)
        return load_method(self.method)


@dataclass(frozen=True)
class Reduction:
    """Loads the A of a protocol."""

    protocol: Protocol

    def __call__(self) -> Method:
        return Downscaling(self.protocol)


def load_checkpointed(address: str, device: str, how: Sampling, wish: str | None = None) -> Trained:
    """The method of the checkpoint at `address`, a folder or a URL, which should be of the model `wish`."""
    with _at_hand(Location.of(address), (CONFIG, WEIGHTS)) as folder:
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
    with tempfile.TemporaryDirectory(prefix="dtls-") as folder:
        try:
            for name in names:
                where.download(name, Path(folder) / name)
        except StorageError as error:
            raise CheckpointError(str(error)) from error
        yield Path(folder)
