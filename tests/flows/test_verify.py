"""`dtls verify`: whatever is wrong with a target is told by name, and a repaired one is made whole by its flow."""

import errno
import hashlib
import re
import signal
import sys
import tarfile
from collections.abc import Callable
from io import BufferedReader
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from dtls.checkpoints.checkpoint import WEIGHTS, save_checkpoint
from dtls.errors import CheckpointError
from dtls.models.dtls import DTLS
from flows.cli import main
from flows.interface.errors import RunError
from flows.report import ReportOptions, report
from flows.shard import ShardOptions, shard
from flows.upscale import UpscaleOptions, upscale
from flows.verify import VerifyOptions, verify
from storage.archives.writer import Packing
from storage.receipts.schemas import IMAGES, SAMPLES
from storage.stores.location import Location, StorageError

IMAGE = "00000/00003.png"


def upscaled(source: Path, target: object) -> str:
    return upscale.fn(
        UpscaleOptions(source=str(source), target=str(target), method="bicubic", scale=1.5, unit_size=2, workers=2)
    )


def sharded(source: Path, target: object) -> str:
    return shard.fn(ShardOptions(source=str(source), target=str(target), samples_per_shard=5, workers=2))


def verified(target: object, *, repair: bool = False) -> str:
    return verify(VerifyOptions(target=str(target), repair=repair, workers=2))


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Each file below a folder: its bytes, and when it was written."""
    paths = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def receipts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".dtls/receipts/*/*.parquet"))


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def forget_a_row(manifest: Path) -> None:
    pd.read_parquet(manifest).iloc[1:].to_parquet(manifest, schema=IMAGES)


@pytest.fixture
def images(photographs: Path, tmp_path: Path) -> Path:
    upscaled(photographs, tmp_path / "images")
    return tmp_path / "images"


@pytest.fixture
def shards(photographs: Path, tmp_path: Path) -> Path:
    sharded(photographs, tmp_path / "shards")
    return tmp_path / "shards"


def test_whole_targets_pass_and_nothing_is_written(images: Path, shards: Path) -> None:
    before = files(images) | files(shards)
    count = len(receipts(images))
    assert verified(images) == f"verify {images}: 12 files in {count} receipts are whole"
    assert verified(shards) == f"verify {shards}: 3 files in 3 receipts are whole"
    assert files(images) | files(shards) == before


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "harm", "line", "summary"),
    [
        (IMAGE, flip, "other bytes than its receipt says (sha256)", "1 of 12 files does not match its receipt"),
        (IMAGE, cut, "bytes, where its receipt says", "1 of 12 files does not match its receipt"),
        (IMAGE, Path.unlink, "missing", "1 of 12 files does not match its receipt"),
        (
            "manifest.parquet",
            forget_a_row,
            "lacks 1 row (00000/00000.png, ok) of the receipts",
            "manifest.parquet does not match the receipts",
        ),
        ("manifest.parquet", cut, "not a readable Parquet file", "manifest.parquet does not match the receipts"),
        ("manifest.parquet", Path.unlink, "missing", "manifest.parquet does not match the receipts"),
        (".dtls/receipts/*/*.parquet", cut, "not a readable receipt", "1 receipt cannot be read"),
    ],
)
def test_what_is_wrong_is_told_repaired_and_made_again(
    photographs: Path,
    images: Path,
    name: str,
    harm: Callable[[Path], None],
    line: str,
    summary: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    whole = files(images)
    victim = min(images.glob(name))
    harm(victim)
    harmed = files(images)
    with pytest.raises(RunError, match=re.escape(f"run `dtls verify {images} --repair`, then the flow again")):
        verified(images)
    assert files(images) == harmed  # without --repair, nothing is removed
    said = capsys.readouterr().err.splitlines()
    told = [text for text in said if text.startswith("  ")]
    assert len(told) == 1
    assert told[0].startswith(f"  {victim.relative_to(images)}: ")
    assert line in told[0]
    assert summary in said[-1]

    assert "verify" in verified(images, repair=True)
    gone = set(harmed) - set(files(images))
    assert all(key.startswith(".dtls/receipts/") or key == "manifest.parquet" for key in gone)
    assert len(gone) == (harm != Path.unlink or name == IMAGE)
    upscaled(photographs, images)
    assert verified(images).endswith("are whole")
    after = files(images)
    made_images = [key for key in whole if key.endswith(".png")]
    assert all(after[key][0] == whole[key][0] for key in made_images)
    redone = [key for key in made_images if after[key][1] != whole[key][1]]
    assert len(redone) <= 4  # the images of one unit
    assert (IMAGE in redone) == (name == IMAGE)


@pytest.mark.slow
@pytest.mark.parametrize("harm", [flip, cut])
def test_a_harmed_shard_is_made_again_alone(
    photographs: Path, shards: Path, harm: Callable[[Path], None], capsys: pytest.CaptureFixture[str]
) -> None:
    whole = files(shards)
    harm(shards / "shard-000001.tar")
    with pytest.raises(RunError):
        verified(shards)
    assert "  shard-000001.tar: " in capsys.readouterr().err
    verified(shards, repair=True)
    assert "dropped 1 receipt;" in capsys.readouterr().err
    assert sharded(photographs, shards) == "5 done, 7 already done"
    assert verified(shards).endswith("3 files in 3 receipts are whole")
    after = files(shards)
    assert {key: data for key, (data, _) in after.items() if key.endswith(".tar")} == {
        key: data for key, (data, _) in whole.items() if key.endswith(".tar")
    }
    assert after["shard-000000.tar"] == whole["shard-000000.tar"]


def test_a_shard_of_the_right_bytes_and_fewer_images_is_told(
    shards: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As when a run wrote it so: a tar without its last member, and a receipt with that tar's size and hash."""
    path, receipt = shards / "shard-000002.tar", receipts(shards)[2]
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-1].offset
        data = path.read_bytes()[:last].ljust(path.stat().st_size, b"\0")
    path.write_bytes(data)
    rows = pd.read_parquet(receipt).assign(sha256=hashlib.sha256(data).hexdigest())
    rows.to_parquet(receipt, schema=SAMPLES)
    with pytest.raises(RunError):
        verified(shards)
    assert "  shard-000002.tar: 1 images, where its receipt says 2" in capsys.readouterr().err


def test_files_of_no_receipt_are_told_and_no_error(images: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (images / "notes.txt").write_text("mine")
    (images / ".hidden").write_text("mine, too")
    (images / "00000" / f".{'0' * 32}.tmp").write_text("half a pict")
    before = files(images)
    assert verified(images, repair=True).endswith("are whole")
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")] == [
        "  not in any receipt: notes.txt",
        f"  left by a run that was killed: 00000/.{'0' * 32}.tmp",
    ]
    assert files(images) == before


@pytest.mark.slow
def test_of_many_problems_the_first_are_told_and_the_rest_counted(
    tmp_path: Path, photographs: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for number in range(23):
        (tmp_path / "many").mkdir(exist_ok=True)
        (tmp_path / "many" / f"{number:02}.png").write_bytes((photographs / IMAGE).read_bytes())
    upscaled(tmp_path / "many", tmp_path / "sr")
    for path in (tmp_path / "sr").glob("*.png"):
        path.unlink()
    capsys.readouterr()
    with pytest.raises(RunError):
        verified(tmp_path / "sr")
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("  ")] == [
        *(f"  {number:02}.png: missing" for number in range(20)),
        "  … and 3 more",
    ]
    assert said[-1].endswith("23 of 23 files do not match their receipts")


@pytest.mark.slow
def test_a_report_has_receipts_to_read_and_what_was_made_of_them(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    options = {"hr": str(photographs), "lr": str(photographs), "sr": {"same": str(photographs)}, "out": str(out)}
    report.fn(ReportOptions(**options, device="cpu", gallery=0))
    assert verified(out) == f"verify {out}: 1 receipt can be read; what the run made is whole"
    assert "not in any receipt" not in capsys.readouterr().err
    cut(receipts(out)[0])
    with pytest.raises(RunError):
        verified(out)


@pytest.mark.slow
def test_each_file_of_a_report_is_checked_and_its_table_in_each_column(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "report"
    results = {"same": str(photographs), "other": str(photographs)}
    settings: dict[str, Any] = {"hr": str(photographs), "lr": str(photographs), "sr": results, "out": str(out)}
    options = ReportOptions(**settings, device="cpu", gallery=1, lpips="none")
    report.fn(options)
    table = pq.read_table(out / "metrics.parquet")
    numbers = pa.array([0.5, *table["ssim"].to_pylist()[1:]])
    table = table.set_column(table.column_names.index("ssim"), table.schema.field("ssim"), numbers)
    pq.write_table(table, out / "metrics.parquet")
    (out / "index.html").write_text("others' numbers")
    (out / "summary.json").unlink()
    capsys.readouterr()
    with pytest.raises(RunError):
        verified(out)
    said = capsys.readouterr().err.splitlines()
    assert [line for line in said if line.startswith("  ")] == [
        "  metrics.parquet: same/00000/00000: ssim 0.5, where its receipt says 1.0",
        "  index.html: other bytes than were written (sha256)",
        "  summary.json: missing",
    ]
    verified(out, repair=True)
    assert "dropped index.html, metrics.parquet, summary.json; run the flow again" in capsys.readouterr().err
    report.fn(options)
    assert verified(out).endswith("can be read; what the run made is whole")


@pytest.mark.slow
def test_a_run_that_has_not_ended_is_told_of(images: Path, photographs: Path) -> None:
    (images / ".dtls" / "unfinished").write_text("{}")
    with pytest.raises(RunError, match=f"{images}: run the flow again, which makes it whole"):
        verified(images)
    upscaled(photographs, images)
    assert verified(images).endswith("are whole")


def test_what_cannot_be_read_keeps_its_receipt(
    images: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before, digest = files(images), hashlib.file_digest

    def fails(file: BufferedReader, name: str) -> object:
        if file.name.endswith(IMAGE):
            raise OSError(errno.EIO, "Input/output error")
        return digest(file, name)

    monkeypatch.setattr(hashlib, "file_digest", fails)
    with pytest.raises(RunError, match="1 file could not be read, so no receipt was dropped for that"):
        verified(images, repair=True)
    assert f"  {IMAGE}: cannot be read ([Errno 5] Input/output error)" in capsys.readouterr().err
    assert files(images) == before


@pytest.mark.parametrize(("harm", "repair", "code"), [(False, [], 0), (True, [], 1), (True, ["--repair"], 0)])
def test_the_command_ends_with_the_exit_code(
    images: Path,
    harm: bool,
    repair: list[str],
    code: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if harm:
        flip(images / IMAGE)
    monkeypatch.setattr(sys, "argv", ["dtls", "verify", str(images), *repair])
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    with pytest.raises(SystemExit) as end:
        main()
    assert (end.value.code or 0) == code
    said = capsys.readouterr().err.splitlines()
    assert [line.startswith("dtls: ") for line in said if "--repair" in line] == [True] * (code == 1)


def test_a_model_has_no_receipts_and_is_loaded(tmp_path: Path) -> None:
    save_checkpoint(DTLS(dim=4, multipliers=(1,), size=16, degradation="grey"), tmp_path)
    assert "a model of the method dtls that can be loaded" in verified(tmp_path)
    cut(tmp_path / WEIGHTS)
    with pytest.raises(CheckpointError, match="not a readable safetensors file"):
        verified(tmp_path)


@pytest.mark.parametrize("name", ["gone", "source"])
def test_a_target_without_receipts_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "source").mkdir()
    (tmp_path / "source" / "image.png").touch()
    with pytest.raises(StorageError, match=r"nothing (there )?to verify"):
        verified(tmp_path / name)


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["zip", "tar", "tar.gz"])
def test_an_archive_is_told_repaired_and_made_whole_again(
    kind: str, photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    archive = tmp_path / f"x.{kind}"
    upscaled(photographs, archive)
    whole = archive.read_bytes()
    assert re.fullmatch(rf"verify {archive}: 12 files in \d+ receipts are whole", verified(archive))
    packing = Packing(str(archive))
    keys = list(packing.sizes())
    packing.staging.write(IMAGE, packing.read(IMAGE)[::-1])
    packing.pack([key for key in keys if key != "00000/00007.png"], lambda _: None)
    capsys.readouterr()
    with pytest.raises(RunError, match=re.escape(f"run `dtls verify {archive} --repair`, then the flow again")):
        verified(archive)
    assert [line for line in capsys.readouterr().err.splitlines() if line.startswith("  ")] == [
        f"  {IMAGE}: other bytes than its receipt says (sha256)",
        "  00000/00007.png: missing",
    ]
    verified(archive, repair=True)
    upscaled(photographs, archive)
    assert verified(archive).endswith("are whole")
    assert archive.read_bytes() == whole


@pytest.mark.slow
def test_a_folder_may_be_named_like_an_archive(photographs: Path, tmp_path: Path) -> None:
    upscaled(photographs, tmp_path / "folder")
    (tmp_path / "folder").rename(tmp_path / "folder.zip")
    assert verified(tmp_path / "folder.zip").endswith("are whole")


@pytest.mark.integration
def test_in_a_bucket(photographs: Path, s3: str, capsys: pytest.CaptureFixture[str]) -> None:
    target, bucket = f"{s3}/shards", Location.of(f"{s3}/shards")
    sharded(photographs, target)
    assert verified(target).endswith("3 files in 3 receipts are whole")
    data = bytearray(bucket.read("shard-000000.tar"))
    data[600] ^= 1
    bucket.write("shard-000000.tar", bytes(data))
    bucket.delete("shard-000002.tar")
    verified(target, repair=True)
    assert "2 of 3 files do not match their receipts" in capsys.readouterr().err
    assert sharded(photographs, target) == "7 done, 5 already done"
    assert verified(target).endswith("3 files in 3 receipts are whole")
