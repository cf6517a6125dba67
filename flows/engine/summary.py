"""How a run ended, for its last lines and for Prefect's page of it."""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Self

from flows.interface.text import code, counted, duration, link
from storage.receipts.units import COPIED, SKIPPED, Row

MAX_REASONS, MAX_LOSSES = 10, 5
AMOUNT = re.compile(r"\bof \d[\d,]*")
"""What differs between notes of one kind, such as "the first of 12 frames"."""
PARTS = {"read": "read_seconds", "compute": "compute_seconds", "write": "write_seconds"}
"""Where the time of an image goes, and the columns that hold it."""


def reason_of(row: Row) -> str:
    """Why a sample failed, in a line."""
    return f"{row['key']}: {row.get('reason') or row.get('error')}"


@dataclass
class Summary:
    """How many samples are ok, failed, or were done before, and what is reported of them.

    tried: those that were worked on now, as `failed` has those of earlier runs, too. broken_units: units that came
    to nothing. omitted: what an option leaves out, in earlier runs, too; example: one of these, and why. reasons:
    the first failures. notes: what of the images could not be kept, and of how many of them. seconds: of threads,
    by what they went into.
    """

    ok: int = 0
    failed: int = 0
    skipped: int = 0
    tried: int = 0
    broken_units: int = 0
    omitted: int = 0
    example: str = ""
    reasons: list[str] = field(default_factory=list)
    notes: Counter[str] = field(default_factory=Counter)
    wall: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    @classmethod
    def of(cls, rows: Sequence[Row]) -> Self:
        """The samples of these rows, all of which were worked on now."""
        failures = [row for row in rows if row["status"] == "failed"]
        omitted = [row for row in rows if row["status"] == SKIPPED]
        return cls(
            ok=len(rows) - len(failures) - len(omitted),
            failed=len(failures),
            tried=len(rows),
            omitted=len(omitted),
            example=next(map(reason_of, omitted), ""),
            reasons=[reason_of(row) for row in failures[:MAX_REASONS]],
            notes=Counter(
                AMOUNT.sub("of …", note) for row in rows for note in (row.get("note") or "").split("; ") if note
            ),
            seconds={part: sum(row.get(column) or 0.0 for row in rows) for part, column in PARTS.items()},
        )

    def add(self, other: Self) -> None:
        """Count the samples of `other` in; its clock is not this one's."""
        self.ok += other.ok
        self.failed += other.failed
        self.skipped += other.skipped
        self.tried += other.tried
        self.broken_units += other.broken_units
        self.omitted += other.omitted
        self.example = self.example or other.example
        self.notes += other.notes
        for reason in other.reasons:
            self.note(reason)
        for part, seconds in other.seconds.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + seconds

    def add_before(self, rows: Iterable[Row]) -> None:
        """Count the samples of these rows of earlier runs."""
        for row in rows:
            if row["status"] == "failed":
                self.failed += 1
                self.note(reason_of(row))
            elif row["status"] == SKIPPED:
                self.omitted += 1
                self.example = self.example or reason_of(row)
            else:
                self.skipped += 1

    def __str__(self) -> str:
        parts = [
            f"{self.ok:,} done",
            f"{self.skipped:,} already done",
            f"{self.omitted:,} skipped",
            f"{self.failed:,} failed",
        ]
        return ", ".join(part for part in parts if not part.startswith("0 ")) or "nothing to do"

    def note(self, reason: str) -> None:
        if len(self.reasons) < MAX_REASONS:
            self.reasons.append(reason)

    def exceptions(self) -> list[str]:
        """What was not made as the others were, as an option asks for that: how many images, with an example."""
        lines = [f"skipped: {counted(self.omitted, 'image')}, such as {self.example}"] if self.omitted else []
        if copied := self.notes[COPIED]:
            lines.append(f"{COPIED}: {counted(copied, 'image')}")
        return lines

    def losses(self) -> str:
        """What of the results was not kept, the most frequent first; empty where all was."""
        kinds = [(note, count) for note, count in self.notes.most_common() if note != COPIED]
        lost = [f"{note} ({count:,})" for note, count in kinds[:MAX_LOSSES]]
        if rest := kinds[MAX_LOSSES:]:
            lost.append(f"{counted(len(rest), 'more kind')} ({sum(count for _, count in rest):,})")
        return f"not kept: {', '.join(lost)}" if lost else ""

    def pace(self) -> str:
        """Images a second and where the time of the threads went; empty where nothing was done."""
        if not self.ok or not self.wall:
            return ""
        pace = f"{self.tried / self.wall:,.1f} images/s in {duration(self.wall)}"
        total = sum(self.seconds.values())
        if not total:
            return pace
        shares = (f"{seconds / total:.0%} {part}" for part, seconds in self.seconds.items())
        return f"{pace}; thread time: {', '.join(shares)}"

    def load(self) -> str:
        """How many devices were computing at a time, or threads where these compute; empty where nothing was done."""
        computing = self.seconds.get("compute", 0.0)
        return f"computing at a time: {computing / self.wall:.2f} on average" if computing and self.wall else ""

    def markdown(
        self, title: str, target: str, manifest: str, left_out: Mapping[str, tuple[int, str]] = MappingProxyType({})
    ) -> str:
        """The same as a page; whatever images are called, it is shown as text.

        left_out: what of the source is, by kind: how many files and one of them.
        """
        lines = [f"# {code(title)}", f"**{self}**", *map(code, self.exceptions())]
        lines += [self.losses(), self.pace(), self.load()]
        lines += [f"* Results: {link(target)}\n* A row an image: {link(manifest)}"]
        if left_out:
            lines += ["## Left out of the source"]
            found = left_out.items()
            lines += ["\n".join(f"* {kind}: {count:,}, such as {code(example)}" for kind, (count, example) in found)]
        if self.reasons:
            some = "the first " if self.failed > len(self.reasons) else ""
            lines += [f"## Failed: {some}{len(self.reasons)} of {self.failed:,}"]
            lines += ["\n".join(f"* {code(reason)}" for reason in self.reasons)]
        return "\n\n".join(filter(None, lines)) + "\n"
