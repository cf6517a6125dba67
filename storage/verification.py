"""Whether a target is what its receipts say: each file there, with the bytes that were written, and its tables.

One listing, then each receipt and each file is read once, many at a time. Memory holds a line a file, as a listing
does, and never a file: those on this machine are read in pieces, the others pass through a temporary copy. Of an
archive, the receipts are in the folder beside it; each worker holds a member at a time.
"""

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import MappingProxyType
from typing import Any, NamedTuple

from storage.archives.tars import Damaged
from storage.archives.writer import Packing
from storage.parallel import ordered_map
from storage.receipts.agreement import Agreement, Gathered
from storage.receipts.owners import owner_of
from storage.receipts.parquet import DAMAGED, read_parquet
from storage.receipts.proofs import sha256_of
from storage.receipts.receipts import PLANNED
from storage.receipts.seals import FIELD, MAX, PUBLISHED, SEALS, broken, seals_of
from storage.receipts.survey import UNFINISHED, list_target
from storage.receipts.units import SKIPPED, Row
from storage.shards.read import image_members
from storage.stores.entry import STATE, is_hidden
from storage.stores.location import TEMPORARY, Entry, Location, StorageError

RECEIPT = re.compile(rf"{re.escape(STATE)}/receipts/[^/]+/(?:[^/]+/)*[^./][^/]*\.parquet")
PROOF = ("output", "output_bytes", "sha256")


class NoReceiptsError(StorageError):
    """No flow that writes receipts was at a target."""


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, and what to remove for the next run to make it again: nothing where that is open.

    is_open: nobody knows how to mend it; else the next run of the flow does.
    """

    file: str
    what: str
    remove: frozenset[str]
    is_open: bool = False

    def __str__(self) -> str:
        return f"{self.file}: {self.what}"


class Claim(NamedTuple):
    """What a receipt says of a file, in so many rows."""

    receipt: str
    size: int
    sha256: str
    rows: int


@dataclass(frozen=True)
class Read:
    """A receipt: its rows, and its claims by file, None where its flow makes no files."""

    rows: list[Row]
    claims: dict[str, Claim] | None


class Verification:
    """The receipts below a target and what they name, by one listing; the checks go on from there.

    With `packing`, what they name is in its archive, or waits for it in the target, which is its folder `staging`.
    gathered: by flow, the table that it makes of its receipts, where that is not the usual one.
    """

    def __init__(
        self,
        target: Location,
        workers: int,
        packing: Packing | None = None,
        gathered: Mapping[str, Gathered] = MappingProxyType({}),
    ) -> None:
        self.target, self.workers, self.packing = target, workers, packing
        self.sizes = {entry.key: entry.size for entry in list_target(target)}
        packed = packing.sizes() if packing else {}
        self._packed = packed.keys() - self.sizes.keys()
        self.sizes = packed | self.sizes
        self.receipts = [key for key in self.sizes if RECEIPT.fullmatch(key)]
        if not self.sizes:
            raise StorageError(f"{packing or target}: nothing there to verify")
        if not self.receipts:
            raise NoReceiptsError(f"{target}: holds no receipts, so there is nothing to verify")
        flow = self.receipts[0].split("/")[2]
        self.agreement = Agreement(target, flow, gathered.get(flow, Gathered()))
        self.claims: dict[str, list[Claim]] = {}
        self.damaged: list[Problem] = []
        self._makes_files = False
        for key, read in zip(self.receipts, ordered_map(self._read, self.receipts, workers), strict=True):
            if read is None:
                self.damaged.append(Problem(key, "not a readable receipt", frozenset({key})))
                self.agreement.unreadable.add(key)
                continue
            self.agreement.add(key, read.rows)
            self._makes_files |= read.claims is not None
            for file, claim in (read.claims or {}).items():
                self.claims.setdefault(file, []).append(claim)

    def _read(self, key: str) -> Read | None:
        """What a receipt says, or None where it is damaged."""
        data = self.target.read(key)
        try:
            table = read_parquet(data)
            table.validate(full=True)
            rows = table.to_pylist()
            if any(row["status"] not in ("ok", "failed", SKIPPED) or row["key"] is None for row in rows):
                return None
            if "output" not in table.column_names:
                return Read(rows, None)
            proofs = Counter(tuple(row[name] for name in PROOF) for row in rows if row["status"] == "ok")
        except DAMAGED:
            return None
        claims = {file: Claim(key, size, sha256, count) for (file, size, sha256), count in proofs.items()}
        whole = len(claims) == len(proofs) and all(None not in proof for proof in proofs)
        return Read(rows, claims) if whole else None

    def files(self, advance: Callable[[int], None]) -> Iterator[Problem]:
        """What is wrong with the files that receipts name."""

        def check(file: str) -> Problem | None:
            problem = self._check(file)
            advance(1)
            return problem

        yield from filter(None, ordered_map(check, sorted(self.claims), self.workers))

    def _check(self, file: str) -> Problem | None:
        claims, size = self.claims[file], self.sizes.get(file)
        gone = Problem(file, "missing", frozenset(claim.receipt for claim in claims))
        if size is None:
            return gone
        wrong = {c.receipt: f"{size:,} bytes, where its receipt says {c.size:,}" for c in claims if c.size != size}
        right = [claim for claim in claims if claim.size == size]
        try:
            wrong |= self._unlike(file, right) if right else {}
        except OSError as error:
            if isinstance(error, FileNotFoundError) or isinstance(error.__cause__, FileNotFoundError):
                return gone
            if isinstance(error.__cause__, Damaged):
                return Problem(file, str(error.__cause__), gone.remove)
            return Problem(file, f"cannot be read ({' '.join(str(error).split())})", frozenset(), is_open=True)
        return Problem(file, next(iter(wrong.values())), frozenset(wrong)) if wrong else None

    def _unlike(self, file: str, claims: Iterable[Claim]) -> dict[str, str]:
        """By receipt, what it says of the bytes of a file that they are not."""
        if self.packing and file in self._packed:
            return _other_bytes(hashlib.sha256(self.packing.read(file)).hexdigest(), claims)
        with self.target.as_file(file) as path:
            sha256 = sha256_of(path)
            wrong = _other_bytes(sha256, claims)
            right = [claim for claim in claims if claim.sha256 == sha256]
            if not right or PurePosixPath(file).suffix != ".tar":
                return wrong
            try:
                images = len(image_members(path))
            except StorageError:
                images = 0
            if not images:
                return wrong | {claim.receipt: "not a readable tar with images" for claim in right}
        says = "{:,} images, where its receipt says {:,}"
        return wrong | {c.receipt: says.format(images, c.rows) for c in right if c.rows != images}

    def tables(self) -> Iterator[Problem]:
        """What is wrong with the plan, the table of all rows, and whatever else the last run has left about results.

        Where receipts are damaged, tables may have rows of theirs. Those of a run that has not ended are left alone.
        """
        if UNFINISHED in self.sizes:
            owner = owner_of(self.target)
            why = f"a run works here ({owner})" if owner is not None else "the last run has not come to its end"
            yield Problem(UNFINISHED, f"{why}, so that its tables are not compared; run it again", frozenset())
        else:
            found = [*self._compared(PLANNED, self.agreement.plan)]
            found += self._compared(self.agreement.gathered.name, self.agreement.table)
            yield from found
            yield from self._sealed(SEALS, {problem.file for problem in found})
        yield from self._sealed(PUBLISHED)

    def _compared(self, name: str, compare: Callable[[str], Iterator[str]]) -> Iterator[Problem]:
        for what in compare(name) if name in self.sizes else ("missing",):
            yield Problem(name, what, frozenset({name}))

    def _sealed(self, record: str, told: Set[str] = frozenset()) -> Iterator[Problem]:
        """What is wrong with files of which a record has the hashes, but for those that are `told` of already."""
        if record not in self.sizes:  # earlier versions made none
            return
        content = self._json(record)
        if isinstance(content, dict) and "names" in content and FIELD not in content:  # nor did they keep any in it
            return
        seals = seals_of(content)
        if not seals:
            yield Problem(record, "says nothing of the files that it is about", frozenset())
        listed = {key: Entry(key, self.sizes[key], "") for key in seals if key in self.sizes}
        for key in broken(self.target, seals, listed, deep=True):
            if key not in told:
                what = "other bytes than were written (sha256)" if key in listed else "missing"
                yield Problem(key, what, frozenset({key}))

    def _json(self, key: str) -> Any:
        try:
            return json.loads(self.target.read(key, MAX))
        except (ValueError, RecursionError):
            return None

    def strays(self) -> list[str]:
        """Files that no receipt names, but for hidden ones; told where receipts are of files, and none is damaged."""
        if not self._makes_files or self.damaged:
            return []
        shown = (key for key in self.sizes if not is_hidden(key))
        return [key for key in shown if key != self.agreement.gathered.name and key not in self.claims]

    def leftovers(self) -> list[str]:
        """Temporary files of runs that were killed."""
        return [key for key in self.sizes if TEMPORARY.fullmatch(key)]


def _other_bytes(sha256: str, claims: Iterable[Claim]) -> dict[str, str]:
    return {c.receipt: "other bytes than its receipt says (sha256)" for c in claims if c.sha256 != sha256}
