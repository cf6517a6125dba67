"""A file of a listing."""

from dataclasses import dataclass


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """A file of a listing: its key (path below the location), size in bytes, and a tag that changes with it."""

    key: str
    size: int
    etag: str


def is_hidden(key: str) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with a dot."""
    return key.startswith(".") or "/." in key
