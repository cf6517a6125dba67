"""Which page of a TIFF is the image: neither a thumbnail nor a mask, wherever it stands in the file."""

import io
import struct
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any

import tifffile

from storage.images.exif import TIFF_HEADS

MAX_PAGES = 1000
"""Further pages of a file are not looked at."""
PARTS, MAX_PARTS = (273, 279, 324, 325), 50_000_000
"""The tables of strips and tiles, and how many numbers of theirs are read: one table may serve many pages."""
REDUCED, MASK = 1, 4
OLD_SUBFILE_TYPE, OLD_REDUCED = 255, 2
MASK_LEFT_OUT = "transparency mask left out"


def image_page(data: bytes) -> tuple[bytes, tuple[str, ...]]:
    """`data` with the page first that is the image, and notes on what other pages there are.

    Anything but a TIFF comes back as it is, and so does what cannot be read.
    """
    if data[:4] not in TIFF_HEADS:
        return data, ()
    try:
        with tifffile.TiffFile(io.BytesIO(data)) as file:
            pages = [(page.offset, _kind(page)) for page in _first(file.pages)]
            first, images = pages[0][0], [at for at, kind in pages if not kind]
            if not images:
                pages += [(page.offset, _kind(page)) for page in _below(file.pages.first)]
                images = [at for at, kind in pages if not kind]
    except Exception:  # whatever tifffile makes of damaged files
        return data, ()
    chosen = images[0] if images else first
    notes = frame_notes(len(images), most=MAX_PAGES)
    if any(kind & MASK for _, kind in pages):
        notes += (MASK_LEFT_OUT,)
    return data if chosen == first else _starting_at(chosen, data), notes


def frame_notes(count: int, most: int | None = None) -> tuple[str, ...]:
    """What to say of an image of so many frames, where no more than `most` were counted."""
    if most is not None and count > most:
        return (f"the first of more than {most:,} frames",)
    return (f"the first of {count:,} frames",) if count > 1 else ()


def _first(pages: Iterable[Any]) -> Iterator[Any]:
    """The pages that are looked at."""
    parts = 0
    for page in islice(pages, MAX_PAGES + 1):
        yield page
        parts += sum(tag.count for tag in map(page.tags.get, PARTS) if tag is not None)
        if parts > MAX_PARTS:
            return


def _kind(page: Any) -> int:
    """REDUCED, MASK, or both; 0 for an image."""
    kind = int(page.tags.valueof(254, 0)) & (REDUCED | MASK)
    return kind | REDUCED if page.tags.valueof(OLD_SUBFILE_TYPE) == OLD_REDUCED else kind


def _below(page: Any) -> Iterator[Any]:
    return _first(page.pages) if page.subifds else iter(())


def _starting_at(place: int, data: bytes) -> bytes:
    """A TIFF whose first directory is the one at `place`."""
    order = TIFF_HEADS[data[:4]]
    if data[2:4] in (b"+\0", b"\0+"):
        return data[:8] + struct.pack(order + "Q", place) + data[16:]
    return data[:4] + struct.pack(order + "I", place) + data[8:]
