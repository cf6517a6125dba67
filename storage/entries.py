"""A file of a listing, and what its name says: that it is hidden, or what systems leave behind."""

import re
from dataclasses import dataclass

STATE = ".dtls"
"""The folder of what a target keeps for itself."""
HIDDEN = re.compile(r"(?:\A|/)\.[^./]")
JUNK = re.compile(
    r"(?:\A|/)(?:"
    r"\._[^/]*|\.DS_Store|\.AppleDouble|\.Spotlight-V100|\.fseventsd|\.TemporaryItems|\.DocumentRevisions-V100|"
    r"__MACOSX|Thumbs\.db|ehthumbs\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume Information|"
    r"@eaDir|#recycle|\.@__thumb|\.thumbnails|\.Trash[^/]*|\.nomedia|\.directory|\.picasa\.ini|"
    r"\.git[^/]*|\.svn|\.hg|\.ipynb_checkpoints|\.dtls|\.[0-9a-f]{32}\.tmp"
    r")(?:/|\Z)",
    re.IGNORECASE,
)


@dataclass(frozen=True, order=True, slots=True)
class Entry:
    """A file of a listing: its key (path below the location), size in bytes, and a tag that changes with it."""

    key: str
    size: int
    etag: str


def is_hidden(key: str) -> bool:
    """Whether a file, or a folder that it is in, has a name that begins with one dot; more are part of a name."""
    return "." in key and HIDDEN.search(key) is not None


def is_junk(key: str) -> bool:
    """Whether a file, or a folder that it is in, is known to hold nothing of the user's: system files, caches."""
    return JUNK.search(key) is not None
