"""Tars as archives: without compression, and packed by gzip, bzip2, xz or zstd."""

import bz2
import gzip
import lzma
import tarfile
from abc import abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, BinaryIO, ClassVar

import pyarrow as pa

from storage.archives import tars
from storage.archives.archive import MODE, Add, Archive
from storage.archives.gzips import Gzip
from storage.archives.tar_writer import TarWriter, Template
from storage.archives.tars import BLOCK, Damaged, Member, Window
from storage.archives.unpacked import Unpacked

LEVEL = 0
"""Of gzip: none, as images hardly shrink at any, and level 1 takes ten times as long as all the rest."""
PLAIN = Template(mode=MODE, form=tarfile.PAX_FORMAT)
"""Of a member: no times and no owners, and a name of any length."""


class Tar(Archive):
    """A tar without compression."""

    kind = "tar"
    endings: ClassVar[tuple[str, ...]] = ("tar", "cbt")
    is_written = True

    @classmethod
    def begins(cls, head: bytes) -> bool:
        """Whether there is a header whose sum is right, as a tar that is not packed has no magic."""
        if cls.magic:  # a packed one has
            return super().begins(head)
        try:
            return bool(head.strip(b"\0")) and bool(tars.read_header(head))
        except Damaged:
            return False

    @classmethod
    @contextmanager
    def adding(cls, file: IO[bytes]) -> Iterator[Add]:
        """Write without tarfile's own writer, which keeps an index that a tar does not need."""
        with TarWriter(file, PLAIN) as tar:
            yield tar.add
            tar.close()

    def _index(self, file: Window) -> Iterator[Member]:
        return tars.members(file, self.encoding or "utf-8")

    def _etag(self, number: int) -> str:
        return f"{self._file.etag}-{self._offsets[number]:x}"

    def _read(self, number: int, size: int) -> bytes:
        return self.place.fetch(self._file, self._offsets[number], size)


class TarGz(Tar):
    """A tar packed by gzip. Listing it unpacks the whole of it once; a member is then read from a point before it."""

    kind = "tar.gz"
    endings = ("tar.gz", "tgz")
    magic = (b"\x1f\x8b\x08",)

    @classmethod
    @contextmanager
    def adding(cls, file: IO[bytes]) -> Iterator[Add]:
        """Pack without a time or a name, so that the same members give the same bytes."""
        packed = gzip.GzipFile(filename="", mode="wb", compresslevel=LEVEL, fileobj=file, mtime=0)
        with packed, TarWriter(packed, PLAIN) as tar:
            yield tar.add
            tar.close()

    def _index(self, file: Window) -> Iterator[Member]:
        self._gzip = Gzip(file.place, file.file)
        return self._gzip.members(self.encoding or "utf-8")

    def _read(self, number: int, size: int) -> bytes:
        return self._gzip.read(self._offsets[number], size)


class TarUnpacked(Tar):
    """A tar that is unpacked for as long as it is read."""

    title = "packed tar"
    is_written = False

    @staticmethod
    @abstractmethod
    def _unpacking(packed: BinaryIO) -> Any:
        """A file that reads what `packed` unpacks to."""

    def _index(self, file: Window) -> Iterator[Member]:
        if not self.begins(file.read(0, BLOCK)):
            raise Damaged("packed by none of bzip2, xz and zstd")
        self._unpacked = Unpacked(self._unpacking, file.place, file.file)
        return tars.members(self._unpacked, self.encoding or "utf-8")

    def _read(self, number: int, size: int) -> bytes:
        return self._unpacked.read(self._offsets[number], size)


class TarBz2(TarUnpacked):
    """A tar packed by bzip2."""

    kind = "tar.bz2"
    endings = ("tar.bz2", "tbz2", "tbz")
    magic = (b"BZh",)

    @staticmethod
    def _unpacking(packed: BinaryIO) -> Any:
        return bz2.BZ2File(packed)


class TarXz(TarUnpacked):
    """A tar packed by xz."""

    kind = "tar.xz"
    endings = ("tar.xz", "txz")
    magic = (b"\xfd7zXZ\0",)

    @staticmethod
    def _unpacking(packed: BinaryIO) -> Any:
        return lzma.LZMAFile(packed)


class TarZst(TarUnpacked):
    """A tar packed by zstd, or by pzstd, which begins with a frame to skip."""

    kind = "tar.zst"
    endings = ("tar.zst", "tzst")
    magic = (b"\x28\xb5\x2f\xfd", b"\x50\x2a\x4d\x18")

    @staticmethod
    def _unpacking(packed: BinaryIO) -> Any:
        return pa.CompressedInputStream(pa.PythonFile(packed, "r"), "zstd")
