"""How a run ended, for its last lines and for Prefect's page of it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import humanize

from storage.units import Row

REASONS_TOLD = 10
PARTS = {"read": "read_seconds", "compute": "compute_seconds", "write": "write_seconds"}
"""Where the time of a picture goes, and the columns that say so."""


def spent(rows: Iterable[Row]) -> dict[str, float]:
    """The seconds of threads that rows tell of, by what they went into."""
    rows = list(rows)
    return {part: sum(row.get(column) or 0 for row in rows) for part, column in PARTS.items()}


@dataclass
class Summary:
    """Counts of samples, units that came to nothing, the first reasons, and where the time went, in seconds."""

    ok: int = 0
    failed: int = 0
    skipped: int = 0
    broken_units: int = 0
    reasons: list[str] = field(default_factory=list)
    wall: float = 0.0
    seconds: dict[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.ok:,} done", f"{self.skipped:,} already done", f"{self.failed:,} failed"]
        return ", ".join(part for part in parts if not part.startswith("0 ")) or "nothing to do"

    def note(self, reason: str) -> None:
        if len(self.reasons) < REASONS_TOLD:
            self.reasons.append(reason)

    def spend(self, seconds: Mapping[str, float]) -> None:
        for part, more in seconds.items():
            self.seconds[part] = self.seconds.get(part, 0.0) + more

    def pace(self) -> str:
        """Images a second and where the time of the threads went; empty where nothing was done."""
        done = self.ok + self.failed
        if not self.ok or not self.wall:
            return ""
        pace = f"{done / self.wall:,.1f} images/s in {duration(self.wall)}"
        total = sum(self.seconds.values())
        if not total:
            return pace
        return f"{pace}; of the threads' time: " + ", ".join(
            f"{part} {seconds / total:.0%}" for part, seconds in self.seconds.items()
        )

    def markdown(self, title: str, target: str, manifest: str) -> str:
        """The same as a page; whatever pictures are called, it is shown as text."""
        lines = [f"# {_code(title)}", f"**{self}**", self.pace()]
        lines += [f"* Results: {_link(target)}\n* A row a picture: {_link(manifest)}"]
        if self.reasons:
            told = "the first " if self.failed > len(self.reasons) else ""
            lines += [f"## Failed: {told}{len(self.reasons)} of {self.failed:,}"]
            lines += ["\n".join(f"* {_code(reason)}" for reason in self.reasons)]
        return "\n\n".join(filter(None, lines)) + "\n"


def duration(seconds: float) -> str:
    """How long, for people."""
    return f"{seconds:.1f} s" if seconds < 60 else humanize.precisedelta(seconds, format="%0.0f")


def _code(text: str) -> str:
    return "`" + text.replace("`", "'") + "`"


def _link(address: str) -> str:
    return f"<{address}>" if "://" in address and not set(address) & set("<> ") else _code(address)
