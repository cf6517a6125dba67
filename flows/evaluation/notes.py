"""What people must know of a run to read its numbers: what is not measured yet, extra, or without an LR image."""

from collections.abc import Iterator, Sequence

import pandas as pd

from dtls.degradations.recorded import reduces
from flows.evaluation.measure import Measurement
from flows.evaluation.samples import SEPARATOR
from flows.interface.text import counted
from reports.metrics.degraded import can_be_measured
from reports.tables.table import NOTES

NAMED = 5
AGREE = "agree with what they were made of, when they are degraded again"
REALWORLD = (
    "The LR images are made by the protocol realworld, which is random and not linear: there is no downscaling by "
    "which results should shrink to them, and so no consistency and no LR-PSNR."
)
NOT_KNOWN = (
    "The degraded images are made by {}, a part of what is random, so that it is not known which results agree with "
    "them: there is no consistency."
)


def not_measured(comparison: Measurement, frame: pd.DataFrame) -> str | None:
    """How many images the table lacks, after a unit that came to nothing."""
    planned = len(comparison.truth.entries.keys() | set().union(*(sr.entries for sr in comparison.sr.values())))
    missing = planned - frame["key"].nunique()
    return f"{missing:,} of {planned:,} images are not measured yet: run it again to resume." if missing else None


def notes_of(comparison: Measurement, frame: pd.DataFrame) -> list[str]:
    """Sentences for under the summary."""
    hr, lr = comparison.hr, comparison.lr
    notes = [not_measured(comparison, frame), _cropped_away(comparison, frame)]
    if hr is None:
        become = "shrink back to their LR images" if reduces(comparison.protocol) else AGREE
        notes.append(f"No ground truth: what can be said is how well results {become}.")
    if comparison.note:
        notes.append(comparison.note)
    is_measured = can_be_measured(comparison.protocol)
    if lr is not None and not is_measured and not comparison.note:
        notes.append(REALWORLD if reduces(comparison.protocol) else NOT_KNOWN.format(comparison.protocol))
    if hr is not None and lr is not None:
        notes.append(_extra(sorted(lr.entries.keys() - hr.entries.keys())))
        notes.append(_unfit(frame, "no consistency there" if is_measured else "no scale there"))
    return [*filter(None, notes), *_unlike(frame)]


def _unlike(frame: pd.DataFrame) -> Iterator[str]:
    """In what comparisons are of unlike things, the most frequent first, with how many images and an example."""
    rows = frame.loc[frame[NOTES].notna(), ["method", "key", NOTES]]
    if rows.empty:
        return
    rows = rows.assign(**{NOTES: rows[NOTES].str.split(SEPARATOR)}).explode(NOTES)
    for note, found in sorted(rows.groupby(NOTES), key=lambda pair: (-len(pair[1]), pair[0])):
        methods = list(dict.fromkeys(found["method"]))
        of = f" of {', '.join(methods)}" if len(methods) < frame["method"].nunique() else ""
        images = counted(found["key"].nunique(), "image")
        yield f"{note}, in {images}{of} such as {found['key'].iloc[0]}."


def _extra(keys: Sequence[str]) -> str | None:
    if not keys:
        return None
    some = ", ".join(keys[:NAMED]) + ", …" * (len(keys) > NAMED)
    return f"LR images without an HR image, which nothing is compared with: {some} ({len(keys):,} in all)."


def _cropped_away(comparison: Measurement, frame: pd.DataFrame) -> str | None:
    if comparison.hr is None or not (border := comparison.measure.border):
        return None
    count = frame.loc[(frame["status"] == "ok") & frame["psnr"].isna(), "key"].nunique()
    if not count:
        return None
    return f"PSNR and SSIM: inside a border of {border} pixels nothing is left of {count:,} image{'s' * (count > 1)}."


def _unfit(frame: pd.DataFrame, so: str) -> str | None:
    count = frame.loc[(frame["status"] == "ok") & frame["scale"].isna(), "key"].nunique()
    if not count:
        return None
    return f"LR images are missing or do not fit for {count:,} image{'s' * (count > 1)}: {so}."
