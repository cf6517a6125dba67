"""The methods that need weights, from an address: what is behind a URL is fetched for as long as loading takes."""

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from dtls.checkpoint import CONFIG, WEIGHTS, CheckpointError
from dtls.domain_transfer import DomainTransfer, Sampling
from dtls.methods import Method, load_method
from storage.locations import Location, StorageError


def load_checkpointed(address: str, device: str, how: Sampling) -> DomainTransfer:
    """The method of the checkpoint at `address`, a folder or a URL."""
    with _at_hand(Location.of(address), (CONFIG, WEIGHTS)) as folder:
        return DomainTransfer(folder, device, how)


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
