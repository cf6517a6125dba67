"""Masks: which file says where the holes of an image are, and images listed together with their masks.

A mask is white where pixels are missing. One file is the mask of all images. Of a folder or an archive, each image
has the mask of its own name, whatever the ending: `a/b.png` is that of `a/b.jpg`.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from flows.inputs.contents import contents_of, refused_entry
from flows.inputs.keys import normalized
from flows.inputs.options import SourceOptions
from flows.inputs.selection import SelectionOptions
from flows.interface.console import log
from flows.interface.text import counted
from storage.archives.source import Single, Source, open_source
from storage.images import formats
from storage.stores.location import Entry, Location, StorageError


@dataclass(frozen=True)
class Masks:
    """The masks at an address. one: that of all images; else `named`, the masks by their names without endings."""

    source: Source
    one: Entry | None
    named: Mapping[str, Sequence[Entry]]

    @classmethod
    def at(cls, address: str, options: SourceOptions) -> "Masks":
        """All masks of a file, a folder, an archive or a URL; StorageError where there are none."""
        source = open_source(address, options.names_encoding, follow_links=options.follow_links)
        contents = contents_of(source, options)
        files = sorted((*contents.images, *contents.refused))
        named = defaultdict(list)
        for entry in files:
            named[_name(entry.key)].append(entry)
        return cls(source, files[0] if isinstance(source, Single) else None, named)

    def of(self, key: str) -> Entry:
        """The mask of an image; for one that has none, or several, an entry that says so to whom reads it."""
        if self.one is not None:
            return self.one
        found = self.named.get(_name(key), ())
        if len(found) == 1:
            return found[0]
        if exact := [entry for entry in found if entry.key == key]:
            return exact[0]
        if found:
            some = " and ".join(entry.key for entry in found)
            return refused_entry(key, f"{self.source} has several masks for it, {some}; leave one")
        return refused_entry(key, f"{self.source} has no mask for it; {formats.stem(key)}.png would be one")

    def log_unused(self, images: Iterable[Entry]) -> None:
        """Log masks that no image uses."""
        used = {self.of(entry.key).key for entry in images}
        there = (entry for entries in self.named.values() for entry in entries)
        if unused := sorted(entry.key for entry in there if entry.key not in used):
            log(f"{self.source}: left out: {counted(len(unused), 'mask')} that no image uses, such as {unused[0]}")


def with_masks(images: Iterable[Entry], masks: Masks) -> list[Entry]:
    """The images as samples that each consist of the image and its mask, and change with either."""
    return [_pair(image, masks.of(image.key)) for image in images]


def check_apart(masks: str, source: str, options: SelectionOptions) -> None:
    """StorageError where masks are among the images, and would be taken for more of them."""
    if not options.chooses and Location.of(masks).within(Location.of(source)):
        raise StorageError(
            f"{masks}: is inside the source {source}, so that masks would be taken for images; move them, or leave "
            "them out by --exclude"
        )


def hashes_of(source: Source, masks: Masks, sample: Entry) -> bytes:
    """What tells whether the bytes of an image and its mask are those that a result was made of."""
    image, mask = sample.parts
    data = ((source, image), (masks.source, mask))
    return _told(*(hashlib.sha256(one.fetch(file or sample)).hexdigest() for one, file in data))


def made_of_both(row: Mapping[str, Any]) -> str | None:
    """The sha256 of `hashes_of` the image and the mask that a row's result was made of, where that is known."""
    image, mask = row["source_sha256"], row["mask_sha256"]
    return hashlib.sha256(_told(image, mask)).hexdigest() if image and mask else None


def _told(image: str, mask: str) -> bytes:
    return f"{image} {mask}".encode()


def _pair(image: Entry, mask: Entry) -> Entry:
    return replace(Entry.of(image.key, (image, mask)), changed=max(image.changed, mask.changed))


def _name(key: str) -> str:
    return normalized(formats.stem(key))
