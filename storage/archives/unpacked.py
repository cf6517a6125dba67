"""Tars packed by bzip2, xz or zstd: unpacked once into a nameless temporary file, from which members are read.

These have no states that can be kept and gone on from, as gzip's has, so that each member would cost all before it.
"""

import io
import lzma
import os
import tempfile
from collections.abc import Callable, Iterator
from typing import IO, Any

import pyarrow as pa

from storage.archives.gzips import AHEAD, LARGE, MAX_TIMES
from storage.archives.tars import Damaged
from storage.stores.errors import StorageError, in_one_line
from storage.stores.location import Entry, Location

PIECE = 2**20
BROKEN = (lzma.LZMAError, pa.ArrowException, EOFError, ValueError)
CUT_OFF, DAMAGED = "it ends within what is packed: cut off", "what is packed is damaged"


class Packed(io.RawIOBase):
    """The bytes of a file from its start on."""

    def __init__(self, place: Location, file: Entry) -> None:
        self._place, self._file, self._position = place, file, 0

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer: Any) -> int:
        length = min(len(buffer), self._file.size - self._position)
        if length > 0:
            buffer[:length] = self._place.fetch(self._file, self._position, length)
            self._position += length
        return max(length, 0)


class Unpacked:
    """What a packed file unpacks to, by position, from any thread; Damaged where it cannot be unpacked whole."""

    def __init__(self, unpacker: Callable[[Any], Any], place: Location, file: Entry) -> None:
        packed = Packed(place, file)
        self._file = tempfile.TemporaryFile(prefix="dtls-")  # noqa: SIM115 - open for as long as this is
        try:
            self.size = sum(self._copied(unpacker(io.BufferedReader(packed, AHEAD)), packed))
            self._file.flush()
        except (StorageError, Damaged):
            raise
        except BROKEN as error:
            raise Damaged(CUT_OFF if _ends_early(error) else DAMAGED) from error
        except OSError as error:
            if error.errno is None:  # what is packed is at fault, not the disk
                raise Damaged(CUT_OFF if _ends_early(error) else DAMAGED) from error
            raise in_one_line(f"{tempfile.gettempdir()} (where {file.key} is unpacked)", error) from error

    def _copied(self, unpacking: IO[bytes], packed: Packed) -> Iterator[int]:
        """How many bytes come, piece by piece; Damaged for a bomb."""
        total = 0
        while data := unpacking.read(PIECE):
            self._file.write(data)
            total += len(data)
            if total > LARGE and total > MAX_TIMES * packed.tell():
                raise Damaged(f"a bomb: its first {packed.tell():,} bytes become {total:,}")
            yield len(data)

    def reaches(self, end: int) -> bool:
        """Whether there are so many bytes."""
        return end <= self.size

    def read(self, start: int, length: int) -> bytes:
        """So many bytes; fewer only where they end."""
        return os.pread(self._file.fileno(), length, start)


def _ends_early(error: Exception) -> bool:
    """Whether a library says that its input has no end: by an error of that name, or, as pyarrow does, in words."""
    return isinstance(error, EOFError) or "Truncated" in str(error)
