"""What the files of a source are: images, junk, hidden files, archives and others, by their names."""

import mimetypes

from storage.archives import kinds as archive_kinds
from storage.archives.source import Folder, Single, Source
from storage.images import formats
from storage.images.unsupported import is_unread
from storage.receipts.receipts import MANIFEST
from storage.stores.entry import FOLDER_LINK, STATE, UNLISTED, is_hidden, is_junk, is_named_only
from storage.stores.location import Entry

TYPES = mimetypes.MimeTypes()
"""What Python knows of suffixes, whatever the machine knows besides."""
OTHERS = ("unread", "archive", "other")
KINDS = ("image", "junk", "hidden", "link", "unlisted", *OTHERS)
"""What files are, by their names; and what is named alone: links that are not followed, folders without a listing."""


def by_kind_of(source: Source) -> dict[str, list[Entry]]:
    """The files of a source, but for what dtls keeps there itself, by KINDS."""
    listed = source.list()
    if isinstance(source, Single):
        return {kind: listed if kind == "image" else [] for kind in KINDS}
    found: dict[str, list[Entry]] = {kind: [] for kind in KINDS}
    for entry in (*listed, *(source.beside if isinstance(source, Folder) else ())):
        if entry.key != MANIFEST and not entry.key.startswith(f"{STATE}/") and entry.etag != FOLDER_LINK:
            found[_kind(entry)].append(entry)
    return found


def _kind(entry: Entry) -> str:
    key = entry.key
    if is_named_only(entry):
        return "unlisted" if entry.etag.startswith(UNLISTED) else "link"
    if is_junk(key):
        return "junk"
    if is_hidden(key):
        return "hidden"
    if formats.is_image(key):
        return "image"
    if is_unread(key):
        return "unread"
    return "archive" if archive_kinds.by_name(key) else "other"


def may_be_image(key: str) -> bool:
    """Whether a file can be an image by its name: those with the suffix of another kind cannot."""
    kind, _ = TYPES.guess_type(key)
    return kind is None or kind.startswith("image/")
