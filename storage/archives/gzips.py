"""Gzips: what they unpack to, by position, read from the packed bytes. Nothing is unpacked to a disk.

A gzip has no index, so one is made: a walk from end to end keeps zlib's state every few MiB, and a later read unpacks
from the nearest of these points on. A point takes 40 kB: 10 MB for each GiB unpacked, and never more than 160 MB, as
beyond 16 GiB the points are further apart. Walking is as fast as zlib, some 500 MB/s for photographs.
"""

import zlib
from bisect import bisect_right
from collections.abc import Callable, Generator, Iterator
from contextlib import closing
from threading import Lock
from typing import Any, NamedTuple

from storage.archives.tars import Damaged, Member, members
from storage.parallel import ordered_map
from storage.stores.location import Entry, Location

GZIP = 16 + zlib.MAX_WBITS
SPACING, MAX_POINTS = 2**22, 4096
"""Unpacked bytes between two points, at least; and points, after which every second one goes."""
AHEAD, AT_ONCE = 2**22, 4
"""Packed bytes of one request of the walk, and how many of these are under way."""
PIECE = 2**20
"""Packed bytes of one request of a read."""
FED, UNPACKED = 2**16, 2**18
"""Packed bytes that zlib is given at once, which bounds how far apart points are; unpacked ones taken from it."""
READS = 32
"""Reads that ended are kept, so many, to be gone on with: mostly the next member is wanted next."""
TURNS = 64
"""Reads from the same point wait for each other, to go on where the others ended; so many can go on at once."""
LARGE, MAX_TIMES = 2**30, 500
"""A gzip that unpacks to more is refused where it grows more often than so many times: a bomb."""


class Point(NamedTuple):
    """A place in a gzip: how many bytes are before it, unpacked and packed, and zlib's state within a part."""

    position: int
    packed: int
    inflater: Any


class Stream:
    """What a gzip unpacks to from a point on; gzips that follow each other are one, as they are to gzip."""

    def __init__(self, point: Point, feeds: Iterator[bytes]) -> None:
        self.position, self._fed = point.position, point.packed
        self._inflater = point.inflater and point.inflater.copy()
        self._feeds, self._waiting = feeds, b""

    @property
    def packed(self) -> int:
        """How many packed bytes are before the position."""
        return self._fed - len(self._waiting)

    @property
    def is_bare(self) -> bool:
        """Whether zlib's state keeps no packed bytes besides."""
        return not self._waiting

    def point(self) -> Point:
        """This place, to go on from once more."""
        return Point(self.position, self.packed, self._inflater and self._inflater.copy())

    def more(self, most: int = UNPACKED) -> bytes:
        """The next bytes, at most so many, and none at the end; Damaged where they are not to be had."""
        while True:
            if not self._waiting:
                self._waiting = next(self._feeds, b"")
                self._fed += len(self._waiting)
                if not self._waiting:
                    return self._end()
            if self._inflater is None:
                self._waiting = self._waiting.lstrip(b"\0")  # what tapes are filled up with
                if not self._waiting:
                    continue
                self._inflater = zlib.decompressobj(GZIP)
            if data := self._unpacked(most):
                return data

    def _unpacked(self, most: int) -> bytes:
        try:
            data: bytes = self._inflater.decompress(self._waiting, most)
        except zlib.error as error:
            reason = str(error).rpartition(": ")[2]
            raise Damaged(f"what is packed at byte {self.packed:,} or soon after is no gzip: {reason}") from error
        self._waiting = self._inflater.unconsumed_tail
        if self._inflater.eof:
            self._waiting, self._inflater = self._inflater.unused_data, None
        self.position += len(data)
        return data

    def _end(self) -> bytes:
        if self._inflater is not None:
            raise Damaged("it ends within what is packed: cut off")
        return b""


class Gzip:
    """What a gzip unpacks to, by position: first by one `members`, which finds the points, then from any thread."""

    def __init__(self, place: Location, file: Entry) -> None:
        self.place, self.file = place, file
        self._points = [Point(0, 0, None)]
        self._spacing = SPACING
        self._reads: list[Stream] = []
        self._lock = Lock()
        self._turns = [Lock() for _ in range(TURNS)]

    def members(self, encoding: str = "utf-8") -> Iterator[Member]:
        """The members of the tar in it, from one walk over all of it."""
        starts = range(0, self.file.size, AHEAD)
        with closing(_feeds(ordered_map(lambda start: self._fetch(start, AHEAD), starts, AT_ONCE))) as feeds:
            yield from members(Walk(Stream(self._points[0], feeds), self._pass), encoding)

    def read(self, start: int, length: int) -> bytes:
        """So many bytes; Damaged where they are not to be had."""
        number = bisect_right(self._points, start, key=lambda point: point.position) - 1
        found = []
        with self._turns[number % TURNS]:
            stream = self._nearest(self._points[number], start)
            if stream.position < start:
                self._keep(self._from(stream.point()))
            while stream.position < start and stream.more(min(start - stream.position, UNPACKED)):
                pass
            while length and (data := stream.more(min(length, UNPACKED))):
                found.append(data)
                length -= len(data)
            self._keep(stream)
        if length:
            raise Damaged("what is packed ends before")
        return b"".join(found)

    def _nearest(self, point: Point, start: int) -> Stream:
        """A stream of its own for the caller, from a point or where another read ended before `start`."""
        with self._lock:
            near = [stream for stream in self._reads if point.position <= stream.position <= start]
            if not near:
                return self._from(point)
            nearest = max(near, key=lambda stream: stream.position)
            self._reads.remove(nearest)
            return nearest

    def _keep(self, stream: Stream) -> None:
        with self._lock:
            self._reads = [*self._reads[1 - READS :], stream]

    def _from(self, point: Point) -> Stream:
        pieces = (self._fetch(packed, PIECE) for packed in range(point.packed, self.file.size, PIECE))
        return Stream(point, _feeds(pieces))

    def _fetch(self, start: int, length: int) -> bytes:
        return self.place.fetch(self.file, start, min(length, self.file.size - start))

    def _pass(self, stream: Stream) -> None:
        """Keep a point where the last one is far; Damaged for a bomb."""
        if stream.position > LARGE and stream.position > MAX_TIMES * stream.packed:
            raise Damaged(f"a bomb: its first {stream.packed:,} bytes become {stream.position:,}")
        if stream.position - self._points[-1].position >= self._spacing and stream.is_bare:
            self._points.append(stream.point())
            if len(self._points) > MAX_POINTS:
                self._points, self._spacing = self._points[::2], self._spacing * 2


class Walk:
    """What a stream gives, read by position: always forward, or again from where the last read began."""

    def __init__(self, stream: Stream, on_the_way: Callable[[Stream], None]) -> None:
        self._stream, self._on_the_way = stream, on_the_way
        self._start, self._data = 0, b""

    def read(self, start: int, length: int) -> bytes:
        """So many bytes; fewer only where the stream ends."""
        if self.reaches(start) and start + length > self._stream.position:
            self._start, self._data = start, self._data[start - self._start :]
            pieces = [self._data]
            while start + length > self._stream.position and (data := self._more()):
                pieces.append(data)
            self._data = b"".join(pieces)
        return self._data[start - self._start : start - self._start + length]

    def reaches(self, end: int) -> bool:
        """Whether there are so many bytes."""
        while self._stream.position < end:
            self._start, self._data = self._stream.position, self._more()
            if not self._data:
                return False
        return True

    def _more(self) -> bytes:
        data = self._stream.more()
        self._on_the_way(self._stream)
        return data


def _feeds(pieces: Iterator[bytes]) -> Generator[bytes]:
    """Larger pieces in smaller ones."""
    for piece in pieces:
        for start in range(0, len(piece), FED):
            yield piece[start : start + FED]
