"""Whether a target is what its receipts say: each file there, of its size, with the bytes that were written.

One listing, then each receipt and each file is read once, many at a time. Memory holds a line a file, as a listing
does, and never a file: those on this machine are read in pieces, the others pass through a temporary copy. Of an
archive, the receipts are in the folder beside it; each worker holds a member at a time.
"""

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import NamedTuple

import pyarrow.parquet as pq

from storage.entries import STATE, is_hidden
from storage.locations import TEMPORARY, Location, StorageError
from storage.packing import Packing
from storage.parallel import ordered_map
from storage.parquet import DAMAGED, read_parquet
from storage.proofs import at_hand, sha256_of
from storage.receipts import MANIFEST
from storage.shard_reader import image_members
from storage.survey import list_target
from storage.tars import Damaged
from storage.units import SKIPPED

RECEIPT = re.compile(rf"{re.escape(STATE)}/receipts/[^/]+/(?:[^/]+/)*[^./][^/]*\.parquet")
TOLD, PROOF = ("key", "status"), ("output", "output_bytes", "sha256")


@dataclass(frozen=True)
class Problem:
    """What is wrong with a file, and what to remove for the next run to make it again: nothing where that is open."""

    file: str
    what: str
    remove: frozenset[str]

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
    """A receipt: its rows' keys and statuses, and its claims by file, None where its flow makes no files."""

    told: list[tuple[str, str]]
    claims: dict[str, Claim] | None


class Verification:
    """The receipts below a target and what they name, by one listing; the checks go on from there.

    With `packing`, what they name is in its archive, or waits for it in the target, which is its folder `staging`.
    """

    def __init__(self, target: Location, workers: int, packing: Packing | None = None) -> None:
        self.target, self.workers, self.packing = target, workers, packing
        self.sizes = {entry.key: entry.size for entry in list_target(target)}
        packed = packing.sizes() if packing else {}
        self._packed = packed.keys() - self.sizes.keys()
        self.sizes = packed | self.sizes
        self.receipts = [key for key in self.sizes if RECEIPT.fullmatch(key)]
        if not self.sizes:
            raise StorageError(f"{packing or target}: nothing there to verify")
        if not self.receipts:
            raise StorageError(f"{target}: holds no receipts, so there is nothing to verify")
        self.claims: dict[str, list[Claim]] = {}
        self.damaged: list[Problem] = []
        self._told: Counter[tuple[str, str]] = Counter()
        self._makes_files = False
        for key, read in zip(self.receipts, ordered_map(self._read, self.receipts, workers), strict=True):
            if read is None:
                self.damaged.append(Problem(key, "not a readable receipt", frozenset({key})))
            elif read.claims is not None:
                self._makes_files = True
                self._told.update(read.told)
                for file, claim in read.claims.items():
                    self.claims.setdefault(file, []).append(claim)

    def _read(self, key: str) -> Read | None:
        """What a receipt says, or None where it is damaged."""
        data = self.target.read(key)
        try:
            table = read_parquet(data)
            told = list(zip(*(table.column(name).to_pylist() for name in TOLD), strict=True))
            if any(status not in ("ok", "failed", SKIPPED) for _, status in told):
                return None
            if "output" not in table.column_names:
                return Read(told, None)
            proofs = zip(*(table.column(name).to_pylist() for name in PROOF), strict=True)
            rows = Counter(proof for (_, status), proof in zip(told, proofs, strict=True) if status == "ok")
        except DAMAGED:
            return None
        claims = {file: Claim(key, size, sha256, count) for (file, size, sha256), count in rows.items()}
        whole = len(claims) == len(rows) and all(None not in proof for proof in rows)
        return Read(told, claims) if whole else None

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
            return Problem(file, f"cannot be read ({' '.join(str(error).split())})", frozenset())
        return Problem(file, next(iter(wrong.values())), frozenset(wrong)) if wrong else None

    def _unlike(self, file: str, claims: Iterable[Claim]) -> dict[str, str]:
        """By receipt, what it says of the bytes of a file that they are not."""
        if self.packing and file in self._packed:
            return _other_bytes(hashlib.sha256(self.packing.read(file)).hexdigest(), claims)
        with at_hand(self.target, file) as path:
            sha256 = sha256_of(path)
            wrong = _other_bytes(sha256, claims)
            right = [claim for claim in claims if claim.sha256 == sha256]
            if not right or PurePosixPath(file).suffix != ".tar":
                return wrong
            try:
                pictures = len(image_members(path))
            except StorageError:
                pictures = 0
            if not pictures:
                return wrong | {claim.receipt: "not a readable tar with pictures" for claim in right}
        says = "{:,} pictures, where its receipt says {:,}"
        return wrong | {c.receipt: says.format(pictures, c.rows) for c in right if c.rows != pictures}

    def manifest(self) -> Iterator[Problem]:
        """What is wrong with the table of all rows; where receipts are damaged, it may have rows of theirs."""
        if self._makes_files and (what := self._unlike_manifest()):
            yield Problem(MANIFEST, what, frozenset({MANIFEST}))

    def _unlike_manifest(self) -> str | None:
        if MANIFEST not in self.sizes:
            return "missing"
        left = self._told.copy()
        with at_hand(self.target, MANIFEST) as path:
            try:
                for batch in pq.ParquetFile(path).iter_batches():
                    left.subtract(zip(*(batch.column(name).to_pylist() for name in TOLD), strict=True))
            except DAMAGED:
                return "not a readable Parquet file"
        if lost := +left:
            return f"lacks {_rows(lost)} of the receipts"
        if (more := -left) and not self.damaged:
            return f"has {_rows(more)} of no receipt"
        return None

    def strays(self) -> list[str]:
        """Files that no receipt names, but for hidden ones; told where receipts are of files, and none is damaged."""
        if not self._makes_files or self.damaged:
            return []
        shown = (key for key in self.sizes if not is_hidden(key))
        return [key for key in shown if key != MANIFEST and key not in self.claims]

    def leftovers(self) -> list[str]:
        """Temporary files of runs that were killed."""
        return [key for key in self.sizes if TEMPORARY.fullmatch(key)]


def _other_bytes(sha256: str, claims: Iterable[Claim]) -> dict[str, str]:
    return {c.receipt: "other bytes than its receipt says (sha256)" for c in claims if c.sha256 != sha256}


def _rows(counts: Mapping[tuple[str, str], int]) -> str:
    count, (key, status) = sum(counts.values()), min(counts)
    return f"{count:,} row{'s' if count > 1 else ''} ({key}, {status}{', …' if count > 1 else ''})"
