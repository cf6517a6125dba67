"""Which of the pictures of a source a run takes: by patterns, by a list of keys, and no more than a limit."""

import re
from collections.abc import Callable, Iterable, Sequence
from fnmatch import translate
from typing import Self

from pydantic import Field, model_validator

from flows.console import tell
from flows.options import Address, BatchOptions
from storage.locations import Entry, Location, StorageError

MISSING = "not in the source"
"""The tag of a key that was asked for and is not there."""
PATTERN = "pattern of keys as `aws s3` has them: * stands for anything, slashes too, ? for a character"


class SelectionOptions(BatchOptions):
    """Options of the flows that can take a part of their source."""

    panel = "Which pictures"

    include: list[str] = Field(default_factory=list, description=f"only pictures whose keys match this {PATTERN}")
    exclude: list[str] = Field(default_factory=list, description="no pictures whose keys match this pattern")
    key_list: Address | None = Field(None, description="file or URL of keys, one a line: only these pictures")
    limit: int | None = Field(None, ge=1, description="no more than the first so many of these pictures")
    dry_run: bool = Field(False, description="tell the plan, with an estimate of time and bytes, and write nothing")

    @model_validator(mode="after")
    def _patterns_say_something(self) -> Self:
        if not all((*self.include, *self.exclude)):
            raise ValueError("an empty pattern matches nothing; leave it out")
        return self

    @property
    def takes_all(self) -> bool:
        return not (self.include or self.exclude or self.key_list or self.limit)


def select(pictures: Sequence[Entry], options: SelectionOptions) -> list[Entry]:
    """The chosen ones of the `pictures`, in their order, and after them the keys that are listed but not there."""
    include, exclude = _matcher(options.include), _matcher(options.exclude)
    wanted = _listed(options.key_list) if options.key_list is not None else None
    chosen = [
        entry
        for entry in pictures
        if (include is None or include(entry.key))
        and (exclude is None or not exclude(entry.key))
        and (wanted is None or entry.key in wanted)
    ]
    if not chosen:
        raise StorageError(f"none of the {len(pictures):,} pictures is chosen by --include, --exclude and --key-list")
    missing = sorted((wanted or set()) - {entry.key for entry in pictures})
    if missing:
        tell(f"{options.key_list}: {len(missing):,} keys are not in the source, such as {missing[0]!r}")
    chosen += [Entry(key, 0, MISSING) for key in missing]
    return chosen[: options.limit]


def _matcher(patterns: Iterable[str]) -> Callable[[str], object] | None:
    patterns = list(patterns)
    return re.compile("|".join(map(translate, patterns))).match if patterns else None


def _listed(address: str) -> set[str]:
    """The keys in a list; lines may end as those of any system, and empty ones do not count."""
    file = Location.of(address)
    if file.parent is None or file.what_is_there() != "file":
        raise StorageError(f"{address}: no file there; give a text file with one key a line")
    try:
        text = file.parent.read(file.url.rpartition("/")[2]).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise StorageError(f"{address}: not a text file in UTF-8") from error
    if not (keys := {line for line in text.splitlines() if line.strip()}):
        raise StorageError(f"{address}: no keys in it")
    return keys
