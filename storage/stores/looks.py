"""Files of this machine that were changed while their size and their time of writing stayed as they were.

A disk notes when a file was changed, renamed, or given other rights, in a time that no program sets (ctime). Each run
keeps the newest of these times of its source. What has a newer one the next time is hashed, and compared with what
its result was made of: a file that was only moved or given other rights is the same, and another one gets a tag of
its own. A result of a version of dtls that kept no hash counts as made of what is there.
"""

import hashlib
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from storage.parallel import ordered_map
from storage.stores.entry import STATE, TOUCHED, Entry
from storage.stores.location import Location, StorageError, UnavailableError

LOOKS = f"{STATE}/looks.json"
MAX = 2**28
"""Bytes of what is kept, most of it the keys of changed files."""
READERS = 16

Row = Mapping[str, Any]
MadeOf = Callable[[Row], str | None]


@dataclass(frozen=True)
class Looks:
    """What a run saw of its source.

    newest: the last time, in ns, at which a file was changed. tags: by key, those of files that were changed while
    size and time of writing stayed.
    """

    newest: int = 0
    tags: dict[str, str] = field(default_factory=dict)

    @classmethod
    def at(cls, target: Location) -> "Looks | None":
        """What the last run over a target saw; None where nothing tells."""
        try:
            found = json.loads(target.read_if_there(LOOKS, most=MAX) or b"null")
            looks = cls(int(found["newest"]), {str(key): str(tag) for key, tag in found["tags"].items()})
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError):
            return None
        return looks

    def keep(self, target: Location) -> None:
        target.write(LOOKS, json.dumps(asdict(self)).encode())


def settled(
    entries: Sequence[Entry],
    before: Looks | None,
    rows_of: Callable[[Collection[str]], Mapping[str, Sequence[Row]]],
    fetch: Callable[[Entry], bytes],
    made_of: MadeOf,
) -> tuple[list[Entry], Looks]:
    """Entries with tags that say what was changed since the run before, and what to keep for the next one.

    rows_of: the rows that receipts have of some keys. made_of: the sha256 of what a row's result was made of.
    """
    newest = max((entry.changed for entry in entries), default=0)
    if before is None:
        return list(entries), Looks(newest)
    touched = [entry for entry in entries if entry.changed > before.newest]
    rows = rows_of({entry.key for entry in touched}) if touched else {}

    def tag(entry: Entry) -> str:
        return _tag(entry, [row for row in rows.get(entry.key, ()) if _is_like(row, entry)], fetch, made_of)

    found = zip(touched, ordered_map(tag, touched, READERS), strict=True)
    tags = before.tags | {entry.key: new for entry, new in found}
    others = {e.key: tags[e.key] for e in entries if e.key in tags and _is_other(tags[e.key], e)}
    result = [replace(e, etag=others[e.key]) if e.key in others else e for e in entries] if others else [*entries]
    return result, Looks(max(newest, before.newest), others)


def _tag(entry: Entry, rows: Sequence[Row], fetch: Callable[[Entry], bytes], made_of: MadeOf) -> str:
    """The tag of a file that was touched: that of the result which was made of its bytes, else one of its own."""
    hashes = {str(row["source_tag"]): known for row in rows if (known := made_of(row))}
    if not hashes:
        return str(rows[0]["source_tag"]) if rows else entry.etag
    try:
        found = hashlib.sha256(fetch(entry)).hexdigest()
    except UnavailableError:
        raise
    except StorageError:  # whoever makes its result is told why
        return entry.etag
    return next((tag for tag, known in hashes.items() if known == found), f"{entry.etag}{TOUCHED}{found[:16]}")


def _is_like(row: Row, entry: Entry) -> bool:
    """Whether a result was made of a file of this size and time of writing."""
    return row["source_bytes"] == entry.size and (row["source_tag"] or "").partition(TOUCHED)[0] == entry.etag


def _is_other(tag: str, entry: Entry) -> bool:
    """Whether a tag is of a file of this time of writing that was changed all the same."""
    return tag.startswith(f"{entry.etag}{TOUCHED}")
