"""The images of one folder or archive by key, as a comparison lists and reads them."""

import unicodedata
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, ClassVar

from flows.inputs.contents import contents_of, reason_of_refusal
from flows.inputs.keys import normalized
from flows.inputs.options import SourceOptions
from storage.archives.source import Source, open_source
from storage.images import decode as codec
from storage.images import formats
from storage.images.formats import ImageError
from storage.images.kinds import Kind
from storage.images.photo import open_photo
from storage.images.samples import to_8_bits
from storage.stores.location import Entry, StorageError

if TYPE_CHECKING:
    from torch import Tensor

IN_ANOTHER_FORM = -1
"""The size of what is listed for an image that is there under a name that only looks the same."""


@dataclass(frozen=True)
class Collection:
    """The images of one folder or archive by key."""

    has_own_files: ClassVar[bool] = False
    """Whether its files are what would be stored or sent, instead of the LR files that results are made from."""
    source: Source
    entries: Mapping[str, Entry]

    @classmethod
    def of(cls, address: str, options: SourceOptions | None = None) -> "Collection":
        """All images there, by their names without endings; by whole names where only the endings differ."""
        source, images = files_at(address, options)
        stems = Counter(formats.stem(entry.key) for entry in images)
        entries: dict[str, Entry] = {}
        for entry in images:
            stem = formats.stem(entry.key)
            key = stem if stems[stem] == 1 else entry.key
            if key in entries:
                raise StorageError(
                    f"{source}: {entries[key].key} and {entry.key} have the same key {key!r}; rename one"
                )
            entries[key] = entry
        return cls(source, entries)

    def listed(self, key: str) -> Entry | None:
        """What is listed for a key; where that is only a name that looks the same, an entry that is none to read."""
        entry = self.entries.get(key)
        if entry is None and not key.isascii() and (other := self._by_form.get(normalized(key))) is not None:
            return Entry(other, IN_ANOTHER_FORM, _form(key))
        return entry

    def data(self, key: str) -> bytes:
        """The image's bytes; StorageError where it is not there."""
        return self._bytes(self._there(self.entries.get(key)))

    def tensor(self, key: str) -> "Tensor":
        """uint8 (1, 3, H, W)."""
        entry = self._there(self.entries.get(key))
        return self._decoded(entry, self._bytes(entry))

    def see(self, entry: Entry | None, *, holes: bool = False) -> "Seen":
        """The image that was listed as `entry`, with its alpha channel where `holes`; StorageError where none was."""
        entry = self._there(entry)
        data = self._bytes(entry)
        return Seen(self._decoded(entry, data), Kind.of(data), len(data), _alpha(data) if holes else None)

    def _bytes(self, entry: Entry) -> bytes:
        return self.source.fetch(entry)

    def _decoded(self, entry: Entry, data: bytes) -> "Tensor":
        try:
            pixels = codec.decode(data)
        except ImageError as error:
            raise ImageError(f"{self.source}/{entry.key}: {error}") from error
        import torch

        return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None]

    @cached_property
    def _by_form(self) -> dict[str, str]:
        return {normalized(key): key for key in self.entries if not key.isascii()}

    def _there(self, entry: Entry | None) -> Entry:
        if entry is None:
            raise StorageError(f"not in {self.source}")
        if reason := reason_of_refusal(entry):
            raise StorageError(f"{self.source}/{entry.key}: {reason}")
        if entry.size == IN_ANOTHER_FORM:
            raise StorageError(
                f"not in {self.source} in this Unicode form ({entry.etag}), where {entry.key!r} "
                f"({_form(entry.key)}) looks the same; rename one"
            )
        return entry


@dataclass(frozen=True)
class Seen:
    """An image as it is measured, uint8 (1, 3, H, W), and what of it these pixels do not show.

    file_size: in bytes. alpha: uint8 (1, 1, H, W), 255 where a pixel is there; None where all are, or nobody asked.
    """

    pixels: "Tensor"
    kind: Kind
    file_size: int
    alpha: "Tensor | None" = None

    @property
    def size(self) -> tuple[int, ...]:
        """(H, W)."""
        return tuple(self.pixels.shape[-2:])


def files_at(address: str, options: SourceOptions | None) -> tuple[Source, list[Entry]]:
    """A source and its images; those that cannot be read at all raise an error when they are read."""
    options = options or SourceOptions()
    source = open_source(address, options.names_encoding, follow_links=options.follow_links)
    contents = contents_of(source, options)
    return source, sorted((*contents.images, *contents.refused))


def _alpha(data: bytes) -> "Tensor | None":
    """The alpha channel of an image, uint8 (1, 1, H, W); None where every pixel is opaque."""
    import torch

    alpha = open_photo(data).alpha
    return None if alpha is None else torch.from_numpy(to_8_bits(alpha))[None, None]


def _form(name: str) -> str:
    """How Unicode calls the form of a name."""
    return next((form for form in ("NFC", "NFD") if unicodedata.is_normalized(form, name)), "mixed")
