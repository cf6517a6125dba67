"""Of a folder as people have them, every file is a right result, a row with a reason, or counted as skipped."""

import io
import json
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest
import tifffile
from PIL import Image

from flows.interface.errors import RunError
from flows.report import report
from flows.upscale import UpscaleOptions, upscale
from storage.images import decode as codec
from tests.flows.reporting import made, options

SIDE = 24


def pixels() -> Image.Image:
    ramp = Image.linear_gradient("L").resize((SIDE, SIDE))
    return Image.merge("RGB", (ramp, ramp.rotate(90), ramp.rotate(180)))


def file(form: str = "PNG", mode: str = "RGB", **how: Any) -> bytes:
    buffer = io.BytesIO()
    pixels().convert(mode).save(buffer, form, **how)
    return buffer.getvalue()


def deep() -> bytes:
    buffer = io.BytesIO()
    tifffile.imwrite(buffer, np.asarray(pixels()).astype(np.uint16) * 257, photometric="rgb")
    return buffer.getvalue()


def zipped() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("inside.png", file())
    return buffer.getvalue()


def tarred() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("inside.txt"))
    return buffer.getvalue()


GOOD = {
    "plain.png": file(),
    "photo.JPG": file("JPEG", quality=95),
    "photo.png": file(),
    "grey.gif": file("GIF", "L"),
    "deep.tif": deep(),
    "palette.png": file(mode="P"),
    "no end.jpg": file("JPEG")[:-2],
    "misnamed.png": file("WEBP", lossless=True),
    "...And Justice For All/cover.png": file(),
    "Cafe\N{COMBINING ACUTE ACCENT}/\N{CJK UNIFIED IDEOGRAPH-8868}.png": file(),
    "a#b%20c?.png": file(),
}
BROKEN = {
    "cut.jpg": file("JPEG")[:400],
    "empty.png": b"",
    "text.png": b"no image at all",
    "page.jpg": b"<!DOCTYPE html><title>404</title>",
}
SKIPPED = {
    "other": {"notes.txt": b"a text", "3f2a9c7e": file(), "archive/readme": b"read me"},
    "hidden": {".hidden.png": file(), ".album/x.png": file()},
    "archive": {"nested.zip": zipped(), "backup.tar": tarred()},
    "unread": {"phone.heic": b"\0\0\0\x18ftypheic"},
    "junk": {"._plain.png": b"fork", ".DS_Store": b"x", "Thumbs.db": b"x", "__MACOSX/plain.png": b"fork"},
}


@pytest.fixture(scope="module")
def mixed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("mixed")
    for name, data in {**GOOD, **BROKEN, **{k: v for kind in SKIPPED.values() for k, v in kind.items()}}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def upscaled(mixed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("upscaled") / "out"
    wanted = UpscaleOptions(source=str(mixed), target=str(target), method="lanczos", scale=2, format="same")
    with pytest.raises(RunError, match="4 of 15 images failed"):
        upscale.fn(wanted)
    return target


def test_each_file_is_right_or_a_row_with_a_reason_or_counted(mixed: Path, upscaled: Path) -> None:
    manifest = pq.read_table(upscaled / "manifest.parquet")
    rows = {row["key"]: row for row in manifest.to_pylist()}
    assert {key for key, row in rows.items() if row["status"] == "ok"} == GOOD.keys()
    assert {key for key, row in rows.items() if row["status"] == "failed" and row["reason"]} == BROKEN.keys()
    skipped: Mapping[str, dict[str, Any]] = json.loads((manifest.schema.metadata or {})[b"dtls.skipped"])
    counted = {kind: found["count"] for kind, found in skipped.items()}
    assert counted == {kind: len(files) for kind, files in SKIPPED.items() if kind in counted}
    files = {str(path.relative_to(mixed)) for path in mixed.rglob("*") if path.is_file()}
    told = sum(counted.values()) + len(SKIPPED["junk"]) * ("junk" not in counted)
    assert len(files) == len(rows) + told


def test_each_result_is_its_own_image_enlarged(upscaled: Path) -> None:
    rows = pd.read_parquet(upscaled / "manifest.parquet").set_index("key")
    assert rows.loc[[*GOOD]].output.is_unique
    for key, source in GOOD.items():
        small = Image.fromarray(codec.decode(source))
        expected = np.asarray(small.resize((2 * SIDE, 2 * SIDE), Image.Resampling.LANCZOS)).astype(float)
        found = codec.decode((upscaled / rows.output[key]).read_bytes())
        assert found.shape == expected.shape, key
        assert np.abs(found - expected).mean() < 3, key


@pytest.mark.slow
def test_a_report_on_it_has_a_row_for_each_image_and_no_traceback(
    mixed: Path, upscaled: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    addresses = {"hr": str(upscaled), "lr": str(mixed), "protocol": None}
    summary = made(tmp_path, tmp_path / "good", **addresses, sr={"same": str(upscaled)})
    assert (summary["methods"][0]["ok"], summary["methods"][0]["failed"]) == (len(GOOD), 0)
    with pytest.raises(RunError, match="images failed"):
        report.fn(options(tmp_path, tmp_path / "out", hr=str(mixed), sr={"x2": str(upscaled)}, lr=None, max_failed=0))
    table = pd.read_parquet(tmp_path / "out" / "metrics.parquet")
    assert len(table) == len(GOOD) + len(BROKEN)
    assert table.error.notna().all()
    assert "Warning" not in capfd.readouterr().err
