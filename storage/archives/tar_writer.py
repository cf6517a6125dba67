"""The writer of tars: shards as webdataset's own writer makes them, to the byte, at many times its speed.

Most of a header is the same for every member: only its name, its size and the sum over both differ. So a header is
a template with three fields filled in; times, owners and modes are fixed, and the same members give the same bytes.
"""

import hashlib
import tarfile
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor
from copy import copy
from typing import Any, Literal, Protocol, Self

BLOCK = 512
SIZE, SUM = slice(124, 136), slice(148, 156)
MAX_NAME, MAX_SIZE = 100, 8**11
"""The characters of a name, which are ASCII, and the bytes of a member that a plain header does not hold any more."""
ZEROS = bytes(BLOCK)
TOGETHER, ALONE, UNDER_WAY = 2**20, 2**18, 4
"""Bytes that are collected before they are written and hashed; those of one member that are written without being
copied once more; and how many such pieces may wait."""


class Template:
    """What the headers of all members have: the mode, the owner, and no time.

    form: what tarfile writes for names and sizes that a plain header does not hold; without it they are refused.
    """

    def __init__(self, mode: int, owner: str = "", form: Literal[0, 1, 2] | None = None) -> None:
        self._info, self._form = tarfile.TarInfo(), form
        self._info.mode, self._info.uname, self._info.gname = mode, owner, owner
        header = bytearray(self._info.tobuf(tarfile.USTAR_FORMAT))
        header[SUM] = b" " * 8  # as it is summed up
        whole = bytes(header)
        self._before_size, self._after_size, self._after_sum = whole[100:124], whole[136:148], whole[156:]
        self._sum_of_rest = sum(whole) - sum(whole[SIZE])

    def header(self, name: str, size: int) -> bytes:
        """The header of a member; ValueError for one that none can hold."""
        if not name.isascii() or len(name) > MAX_NAME or size >= MAX_SIZE:
            return self._long_header(name, size)
        encoded, length = name.encode("ascii"), b"%011o\0" % size
        check = b"%06o\0 " % (self._sum_of_rest + sum(encoded) + sum(length))
        fields = (encoded.ljust(100, b"\0"), self._before_size, length, self._after_size, check, self._after_sum)
        return b"".join(fields)

    def _long_header(self, name: str, size: int) -> bytes:
        if self._form is None:
            raise ValueError(f"{name}: too long a name, not in ascii, or too large, for a tar")
        info = copy(self._info)
        info.name, info.size = name, size
        return info.tobuf(self._form, "utf-8")


WEBDATASET = Template(mode=0o444, owner="bigdata")


class Sink(Protocol):
    """What a tar is written to, such as an open file."""

    def write(self, data: Any, /) -> int:
        """Take bytes; how many."""
        ...


class TarWriter:
    """Writes members to a file; `close` gives the size of the tar and the sha256 of its bytes.

    Writing and hashing are a thread's, as both leave Python's lock free. To be used in a `with` statement, which
    ends that thread.
    """

    def __init__(self, file: Sink, template: Template = WEBDATASET) -> None:
        self._file, self._template = file, template
        self._hash = hashlib.sha256()
        self._size = 0
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._thread = ThreadPoolExecutor(1)
        self._written: deque[Future[None]] = deque()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._thread.shutdown(cancel_futures=True)

    def add(self, name: str, data: bytes) -> None:
        """Add a member; ValueError where the template's headers cannot hold its name or its size."""
        size = len(data)
        header, rest = self._template.header(name, size), -size % BLOCK
        if size >= ALONE:
            self._waiting.append(header)
            self._waiting_bytes += len(header)
            self._hand_over()
            self._waiting, self._waiting_bytes = [data], size
            self._hand_over()
            self._waiting, self._waiting_bytes = [ZEROS[:rest]], rest
            return
        self._waiting += (header, data, ZEROS[:rest])
        self._waiting_bytes += len(header) + size + rest
        if self._waiting_bytes >= TOGETHER:
            self._hand_over()

    def close(self) -> tuple[int, str]:
        """End the tar, with blocks of zeros up to whole records as tar programs do."""
        end = self._size + self._waiting_bytes + 2 * BLOCK
        fill = bytes(2 * BLOCK + -end % tarfile.RECORDSIZE)
        self._waiting.append(fill)
        self._waiting_bytes += len(fill)
        self._hand_over()
        while self._written:
            self._written.popleft().result()
        return self._size, self._hash.hexdigest()

    def _hand_over(self) -> None:
        """Let the thread write what is waiting; at most so many pieces are under way."""
        self._size += self._waiting_bytes
        self._written.append(self._thread.submit(self._write, self._waiting))
        self._waiting, self._waiting_bytes = [], 0
        if len(self._written) > UNDER_WAY:
            self._written.popleft().result()

    def _write(self, pieces: list[bytes]) -> None:
        data = pieces[0] if len(pieces) == 1 else b"".join(pieces)
        self._hash.update(data)
        left = memoryview(data)
        while left:  # a file without a buffer may take less than it is given
            left = left[self._file.write(left) :]
