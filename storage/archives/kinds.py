"""What an archive is, by its name and by its first bytes; the bytes are right where the two differ."""

import re

from storage.archives.tars import BLOCK, Damaged, read_header

ENDINGS = {
    "zip": "zip",
    "cbz": "zip",
    "tar": "tar",
    "cbt": "tar",
    "tar.gz": "tar.gz",
    "tgz": "tar.gz",
    "tar.bz2": "tar.bz2",
    "tbz2": "tar.bz2",
    "tbz": "tar.bz2",
    "tar.xz": "tar.xz",
    "txz": "tar.xz",
    "tar.zst": "tar.zst",
    "tzst": "tar.zst",
    "7z": "7z",
    "cb7": "7z",
    "rar": "rar",
    "cbr": "rar",
    "tar.lz": "lzip",
    "tar.lz4": "LZ4",
    "tar.z": "compress",
}
"""What a name ends in, and the kind that this says."""
WRITTEN = ("zip", "tar", "tar.gz")
UNREAD = ("7z", "rar", "lzip", "LZ4", "compress")
HEAD = BLOCK
"""So many bytes tell the kind."""
BY_NAME = re.compile(rf"[^/]\.({'|'.join(map(re.escape, ENDINGS))})$", re.IGNORECASE)
MAGIC = {
    b"PK\3\4": "zip",
    b"PK\5\6": "zip",
    b"\x1f\x8b\x08": "tar.gz",
    b"BZh": "tar.bz2",
    b"\xfd7zXZ\0": "tar.xz",
    b"\x28\xb5\x2f\xfd": "tar.zst",
    b"\x50\x2a\x4d\x18": "tar.zst",  # as pzstd writes it
    b"7z\xbc\xaf\x27\x1c": "7z",
    b"Rar!\x1a\x07": "rar",
    b"LZIP\1": "lzip",
    b"\4\x22\x4d\x18": "LZ4",
    b"\x1f\x9d": "compress",
}


def by_name(name: str) -> str | None:
    """The kind that the name of an archive says."""
    found = BY_NAME.search(name.rstrip("/"))
    return ENDINGS[found[1].lower()] if found else None


def by_content(head: bytes) -> str | None:
    """The kind that the first bytes of an archive say."""
    for magic, kind in MAGIC.items():
        if head.startswith(magic):
            return kind
    return "tar" if _begins_a_tar(head) else None


def _begins_a_tar(head: bytes) -> bool:
    try:
        return bool(head.strip(b"\0")) and bool(read_header(head))
    except Damaged:
        return False
