"""HR images in as many bytes as their LR images have: what JPEG and WebP make of the size of an LR file."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self, get_args

from flows.evaluation.collection import Collection
from storage.images import decode
from storage.images.budget import CodecName, encode_within
from storage.images.formats import ImageError
from storage.stores.location import Entry, StorageError

CODECS: tuple[CodecName, ...] = get_args(CodecName)
"""The names of these results, which no other has in a report with rates."""


@dataclass(frozen=True)
class Coded(Collection):
    """HR images as a codec stores them in the bytes of their LR images; an entry's parts are both files."""

    has_own_files: ClassVar[bool] = True
    codec: CodecName = "jpeg"

    @classmethod
    def of_pairs(cls, name: CodecName, hr: Collection, lr: Collection) -> Self:
        """Of all keys that both have."""
        pairs = {key: (hr.listed(key), lr.listed(key)) for key in hr.entries if key in lr.entries}
        return cls(hr.source, {key: Entry.of(key, pair) for key, pair in pairs.items()}, name)

    def _there(self, entry: Entry | None) -> Entry:
        if entry is None:
            raise StorageError("no LR image, which says how many bytes the file may have")
        return entry

    def _bytes(self, entry: Entry) -> bytes:
        hr, lr = map(super()._there, entry.parts)
        try:
            pixels = decode.decode(self.source.fetch(hr))
        except ImageError as error:
            raise ImageError(f"{self.source}/{hr.key}: {error}") from error
        return encode_within(pixels, self.codec, lr.size)


def coded(hr: Collection, lr: Collection) -> Mapping[str, Collection]:
    """The HR images in the bytes of their LR images, by each codec."""
    return {name: Coded.of_pairs(name, hr, lr) for name in CODECS}
