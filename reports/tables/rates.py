"""Quality against file size: what results made of LR files and codecs make of the same bytes."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from reports.metrics.file_size import FILE_SIZE
from reports.metrics.lpips import LPIPS
from reports.metrics.metric import Metric, finite_or_none
from reports.metrics.psnr import PSNR
from reports.metrics.ssim import SSIM
from reports.tables.render import markdown, markdown_table, ranks

QUALITY: tuple[Metric, ...] = (PSNR, SSIM, LPIPS)
Rows = Sequence[Mapping[str, Any]]


def rates(frame: pd.DataFrame, codecs: Sequence[str]) -> list[dict[str, Any]]:
    """One mapping a method, over the images that all methods have: what it costs and how good it is.

    frame: as `read_metrics` gives it, with sizes of files. codecs: the methods whose files are theirs, and not LR's.
    method; images; bytes, the mean size; bits_per_pixel of the result; psnr, ssim, lpips, means of finite values or
    None; larger: in how many images the smallest file of a codec is larger than the LR file, 0 for others.
    """
    ok = frame[(frame["status"] == "ok") & frame[FILE_SIZE.name].notna()]
    shared = ok.groupby("key")["method"].nunique()
    ok = ok[ok["key"].isin(shared.index[shared == ok["method"].nunique()])]
    of_lr = ok[~ok["method"].isin(codecs)].groupby("key")[FILE_SIZE.name].first()
    found = []
    for name, rows in ok.groupby("method", sort=False):
        size = rows[FILE_SIZE.name].astype(float)
        pixels = rows["width"].astype(float) * rows["height"].astype(float)
        means = {m.name: rows[m.name].astype(float) for m in QUALITY}
        found.append(
            {
                "method": str(name),
                "images": len(rows),
                "bytes": float(size.mean()),
                "bits_per_pixel": float(8 * size.sum() / pixels.sum()),
                **{key: finite_or_none(x[x != float("inf")].mean()) for key, x in means.items()},
                "larger": int((size.to_numpy() > of_lr.reindex(rows["key"]).to_numpy(float)).sum()),
            }
        )
    return found


def measured(rows: Rows) -> list[Metric]:
    """The metrics of quality that some row has a number of; LPIPS may have been left out."""
    return [metric for metric in QUALITY if any(row[metric.name] is not None for row in rows)]


def rates_table(rows: Rows) -> str:
    """The same as a table in Markdown, the best number of each metric in bold."""
    shown = measured(rows)
    best = {metric.name: ranks([row[metric.name] for row in rows], metric) for metric in shown}
    lines = [
        [
            markdown(row["method"]),
            f"{row['bytes']:,.0f}",
            f"{row['bits_per_pixel']:.3f}",
            *(_text(row, metric, best[metric.name][place]) for metric in shown),
            str(row["images"]),
            str(row["larger"]),
        ]
        for place, row in enumerate(rows)
    ]
    head = ["Method", "Bytes", "Bits per pixel", *(metric.heading for metric in shown), "Images", "Larger than LR"]
    return markdown_table(head, lines)


def _text(row: Mapping[str, Any], metric: Metric, rank: int) -> str:
    text = metric.text(row[metric.name])
    return f"**{text}**" if rank == 1 else text
