"""What a report wrote at its target, kept there by name: nobody else's file is overwritten, or removed."""

import json
import re
from collections.abc import Iterator, Mapping, Sequence, Set
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from storage.receipts.commits import Commits
from storage.receipts.seals import FIELD, MAX, PUBLISHED, Seal, broken, seals_of, tagged
from storage.receipts.survey import check_foreign
from storage.stores.location import Entry, Location

TABLE = "metrics.parquet"
SETS_TABLE, SAMPLES_TABLE = "features.parquet", "samples.parquet"
"""Of reports on generated images."""
IMAGE = re.compile(r"images/[0-9a-f]{16}-[0-9a-f]{16}(-[a-z]+)?\.(png|webp)")
KEPT = re.compile(r"rating/.*|study(-.*)?\.json|runs/run=.*/(metrics\.parquet|samples\.parquet|_summary\.json)")
"""What stays when a later run does not make it."""


@dataclass(frozen=True)
class Recorder(Location):
    """A location that notes what is put there, by name; it is there for certain when all is."""

    commits: Commits
    written: dict[str, Seal] = field(default_factory=dict)

    def write(self, key: str, data: bytes) -> None:
        self.commits.write(key, data)
        self.written[key] = Seal.of(data)

    def upload(self, key: str, file: Path) -> None:
        super().upload(key, file)
        self.written[key] = Seal.of_file(file)


@dataclass(frozen=True)
class Published:
    """What is at a target now, by its listing, and what of it reports have made.

    stands_on: what the last report was made from, None where it did not come to its end. names: of its files, but for
    images that a run which was stopped left behind. known: whether there was a report at all. seals: what its files
    were when they were written.
    """

    out: Location
    there: Mapping[str, Entry]
    stands_on: Any
    names: Set[str]
    known: bool
    seals: Mapping[str, Seal] = field(default_factory=dict)

    @classmethod
    def at(cls, out: Location, fixed: Set[str]) -> "Published":
        """What `out` records; fixed: what reports of earlier versions, which kept no names, may have written."""
        there = {entry.key: entry for entry in out.list()}
        if PUBLISHED not in there:
            return cls(out, there, None, set(), known=False)
        try:
            content = json.loads(out.read(PUBLISHED, MAX))
            names = {name for name in content["names"] if isinstance(name, str)}
            return cls(out, there, content["stands_on"], names, known=True, seals=seals_of(content))
        except (ValueError, TypeError, KeyError, RecursionError):
            return cls(out, there, None, fixed, known=True)

    def is_of(self, stands_on: Sequence[Any]) -> bool:
        """Whether a report that was made from this is there, and each of its files as it was written."""
        if self.stands_on is None or self.stands_on != _plain(stands_on) or self.names != self.seals.keys():
            return False
        return not broken(self.out, self.seals, self.there)

    def check_foreign_files(self, planned: Set[str]) -> None:
        """StorageError where foreign files are in the place of `planned` ones, or have the names of our images."""
        taken = {name for name in self.there if name in planned or IMAGE.fullmatch(name)}
        check_foreign(self.out, (name for name in taken if not self._is_own(name)), "dtls report")

    @contextmanager
    def renewing(self, stands_on: Sequence[Any], planned: Set[str]) -> Iterator[Recorder]:
        """Where the files of a new report go; when all are there, those of the last one that it did not make go."""
        self.check_foreign_files(planned)
        self._say(None, self.names | planned, {})
        with Commits(self.out) as commits:
            out = Recorder(self.out.url, self.out.store, self.out.root, commits)
            yield out
            for name in out.written:
                commits.settle(name)
        for name in sorted(self.there.keys() - out.written.keys()):
            if IMAGE.fullmatch(name) or (name in self.names and not KEPT.fullmatch(name)):
                self.out.delete(name)
        self._say(_plain(stands_on), out.written.keys(), tagged(out.written, self.out.list()))

    def _is_own(self, name: str) -> bool:
        return name in self.names or (self.known and bool(IMAGE.fullmatch(name) or KEPT.fullmatch(name)))

    def _say(self, stands_on: Any, names: Set[str], seals: Mapping[str, Any]) -> None:
        content = {"stands_on": stands_on, "names": sorted(names), FIELD: seals}
        self.out.write(PUBLISHED, json.dumps(content).encode())


def _plain(value: Sequence[Any]) -> Any:
    """As JSON gives it back."""
    return json.loads(json.dumps(value))
