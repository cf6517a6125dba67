"""What version 0.1 wrote stays as good as new: `data/version-0.1` has its targets, reports and trainings."""

import hashlib
import json
import os
import shlex
import shutil
import signal
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from flows.cli import main

KEPT = Path(__file__).parents[1] / "data" / "version-0.1" / "kept.tar.xz"
HOW = "--scale 2 --unit-size 2 --device cpu --precision fp32"
LARGE = "upscale photos {} --method bicubic --scale 1.5 --max-failed 1"
REPORT = "report --hr photos/faces --lr lr --sr dtls=sr/dtls --sr bicubic=sr/bicubic --device cpu --gallery 2"
TRAINED = ("dtls", "cold", "sr3")
TRAIN = {
    "dtls": "--dim 4 --dim-mults 1 --stride 8 --protocol antialias",
    "cold": "--method cold --dim 4 --dim-mults 1 --stride 8 --protocol antialias",
    "sr3": "--method sr3 --network width=8 --network levels=1 --network timesteps=4",
}
TINY = "--size 32 --lr-size 16 --batch-size 2 --learning-rate 0.001 --schedule constant --device cpu --workers 0"
COMMANDS = {
    "shards": "shard photos shards --samples-per-shard 3 --max-failed 1",
    "lr": "downscale photos/faces lr --scale 2 --protocol antialias",
    **{f"sr/{name}": f"upscale lr sr/{name} --checkpoint models/{name} {HOW}" for name in TRAINED},
    "sr/bicubic": "upscale lr sr/bicubic --method bicubic --scale 2",
    "large": f"{LARGE.format('large')} --unit-size 2",
    "large.zip": f"{LARGE.format('large.zip')} --unit-size 2",
    "large-shards": f"{LARGE.format('large-shards')} --samples-per-shard 3",
}
"""By target, what made it."""
REPORTS = {
    "reports/first": f"{REPORT} --out reports/first --run monday --ratings answers.json",
    "reports/second": f"{REPORT} --out reports/second --run tuesday --lpips none --colour y",
}

Command = Callable[[str], str]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The current folder, which has all that version 0.1 wrote, with the times that its files had."""
    found = tmp_path / "kept"
    with tarfile.open(KEPT) as tar:
        tar.extractall(found, filter="data")
    times: dict[str, int] = json.loads((found / "times.json").read_text())
    for name, time in times.items():
        os.utime(found / name, ns=(time, time))
    for state in found.rglob(".dtls"):
        if (state / "source.json").exists():
            _move_source(state, found)
    monkeypatch.chdir(found)
    return found


def _move_source(state: Path, to: Path) -> None:
    """Let a target say that its source is in another folder, as if the run had been there."""
    record, seals = state / "source.json", state / "seals.json"
    said = json.loads(record.read_text())
    said["source"] = str(to.resolve() / Path(said["source"]).relative_to("/tmp/version-0.1"))
    record.write_text(json.dumps(said))
    if seals.exists():
        content = json.loads(seals.read_text())
        data, tag = record.read_bytes(), str(record.stat().st_mtime_ns)
        sealed = {"size": len(data), "sha256": hashlib.sha256(data).hexdigest(), "tag": tag}
        content["seals"][".dtls/source.json"] = sealed
        seals.write_text(json.dumps(content))


@pytest.fixture
def dtls(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    """The command line, called in this process; what it says."""
    on_sigterm = signal.getsignal(signal.SIGTERM)

    def run(line: str) -> str:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["dtls", *shlex.split(line)])
        try:
            main()
        except SystemExit as end:
            if end.code:
                raise AssertionError(f"dtls {line}: exit code {end.code}: {capsys.readouterr().err}") from end
        said = capsys.readouterr()
        return f"{said.err}\n{said.out}"

    yield run
    signal.signal(signal.SIGTERM, on_sigterm)


def files(folder: Path) -> dict[str, tuple[bytes, int]]:
    """Each file below a folder: its bytes, and when it was written; what was seen of a source is no result."""
    paths = (path for path in folder.rglob("*") if path.is_file() and path.name != "looks.json")
    return {str(path.relative_to(folder)): (path.read_bytes(), path.stat().st_mtime_ns) for path in paths}


def results(found: dict[str, tuple[bytes, int]]) -> dict[str, tuple[bytes, int]]:
    """The images among files."""
    return {name: content for name, content in found.items() if name.endswith((".png", ".jpg"))}


def difference(one: Path, other: Path) -> int:
    """The largest one between two images, in levels of 8 bits."""
    pixels = [np.asarray(Image.open(path).convert("RGBA"), dtype=int) for path in (one, other)]
    return int(np.abs(pixels[0] - pixels[1]).max())


def rows(table: Path, *key: str) -> dict[Any, dict[str, Any]]:
    """The rows of a table by their key."""
    found: list[dict[Any, Any]] = pd.read_parquet(table).to_dict("records")
    return {tuple(row[name] for name in key): row for row in found}


@pytest.mark.slow
@pytest.mark.parametrize("target", COMMANDS)
def test_a_finished_target_is_skipped_and_no_file_is_rewritten(target: str, folder: Path, dtls: Command) -> None:
    before = files(folder)
    dtls(COMMANDS[target])
    assert files(folder) == before


@pytest.mark.slow
@pytest.mark.parametrize("target", [*COMMANDS, *REPORTS])
def test_status_and_verify_read_a_target(target: str, folder: Path, dtls: Command) -> None:
    before = files(folder)
    assert "100% of " in dtls(f"status {target}")
    dtls(f"verify {target}")
    assert files(folder) == before


@pytest.mark.slow
def test_only_the_missing_units_of_a_stopped_run_are_done(folder: Path, dtls: Command) -> None:
    before = files(folder / "half")
    done, whole = results(before), {name: folder / "large" / name for name in results(files(folder / "large"))}
    assert (len(done), len(whole)) == (2, 6)
    assert "43% of 7 images: 2 done, 1 failed, 4 left" in dtls("status half")
    dtls(f"{LARGE.format('half')} --unit-size 2")
    after = files(folder / "half")
    assert {name: after[name] for name in done} == done
    receipts = {name for name in before if "/receipts/" in name}
    assert receipts
    assert all(after[name] == before[name] for name in receipts)
    assert results(after).keys() == whole.keys()
    assert all(difference(folder / "half" / name, path) == 0 for name, path in whole.items())
    assert ".dtls/unfinished" in before.keys() - after.keys()
    dtls("verify half")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["large", "large.zip"])
def test_of_one_more_image_only_that_one_is_made(target: str, folder: Path, dtls: Command) -> None:
    shutil.copy(folder / "photos/faces/0.png", folder / "photos/faces/6.png")
    table = folder / ("large.zip.dtls" if target == "large.zip" else "large") / "manifest.parquet"
    before, old = results(files(folder / "large")), rows(table, "key")
    dtls(COMMANDS[target])
    new = rows(table, "key")
    assert new.keys() - old.keys() == {("faces/6.png",)}
    assert all(str(new[key]) == str(row) for key, row in old.items())  # its seconds among them
    if target == "large":
        after = results(files(folder / "large"))
        assert after.keys() - before.keys() == {"faces/6.png"}
        assert {name: after[name] for name in before} == before
    dtls(f"verify {target}")


@pytest.mark.slow
@pytest.mark.parametrize("target", ["large", "large.zip", "shards"])
def test_a_failed_image_is_tried_again_alone(target: str, folder: Path, dtls: Command) -> None:
    """Its file is mended, and has the size and the time that it had."""
    mended, broken = folder / "photos/faces/5.png", folder / "photos/broken.png"
    time = broken.stat().st_mtime_ns
    assert broken.stat().st_size == mended.stat().st_size
    table = folder / ("large.zip.dtls" if target == "large.zip" else target) / "manifest.parquet"
    old = rows(table, "key")
    assert old[("broken.png",)]["status"] == "failed"
    dtls(f"{COMMANDS[target]} --retry-failed")
    assert rows(table, "key")[("broken.png",)]["status"] == "failed"
    broken.write_bytes(mended.read_bytes())
    os.utime(broken, ns=(time, time))
    before = results(files(folder / target)) if target == "large" else {}
    dtls(f"{COMMANDS[target]} --retry-failed")
    new = rows(table, "key")
    assert new.keys() == old.keys()
    assert {row["status"] for row in new.values()} == {"ok"}
    if target == "large":
        after = results(files(folder / "large"))
        assert {name: after[name] for name in before} == before
        assert after.keys() - before.keys() == {"broken.png"}
    dtls(f"verify {target}")


def test_other_options_are_refused_where_the_target_has_results(folder: Path, dtls: Command) -> None:
    before = files(folder / "large")
    with pytest.raises(AssertionError, match=r"exit code 1: .*--overwrite"):
        dtls(COMMANDS["large"].replace("--scale 1.5", "--scale 2"))
    assert files(folder / "large") == before


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_checkpoint_makes_the_same_images(name: str, folder: Path, dtls: Command) -> None:
    """To one level of 8 bits, as another build of torch may round otherwise."""
    dtls(f"upscale lr again --checkpoint models/{name} {HOW}")
    images = [path.relative_to(folder / "again") for path in (folder / "again").rglob("*.png")]
    assert len(images) == 6
    assert max(difference(folder / "again" / image, folder / "sr" / name / image) for image in images) <= 1


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["dtls", pytest.param("cold", marks=pytest.mark.nightly), pytest.param("sr3", marks=pytest.mark.nightly)]
)
def test_a_training_resumes_and_learns_as_it_would_have(name: str, folder: Path, dtls: Command) -> None:
    """A training that began anew would replace the losses of the steps before."""
    (folder / f"models/{name}/loss.csv").write_text("step,loss\n1,8.0\n2,9.0\n")
    dtls(f"train shards models/{name} {TRAIN[name]} {TINY} --precision fp32 --steps 3 --keep 1 --resume")
    assert "3 steps" in dtls(f"status models/{name}")
    kept, now = (pd.read_csv(path)["loss"] for path in (f"resumed/{name}.csv", f"models/{name}/loss.csv"))
    assert list(now) == pytest.approx([8.0, 9.0, kept[2]], abs=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("out", REPORTS)
def test_nothing_is_measured_again_for_the_same_report(out: str, folder: Path, dtls: Command) -> None:
    before = files(folder / out)
    dtls(REPORTS[out])
    after = files(folder / out)
    measured = {name for name in before if name.startswith((".dtls/receipts/", ".dtls/plan", "metrics.parquet"))}
    assert {name: after[name] for name in measured} == {name: before[name] for name in measured}
    assert after.keys() == before.keys()
    for name in before:
        if name.endswith("summary.json"):
            assert json.loads(after[name][0])["methods"] == json.loads(before[name][0])["methods"]
    assert "study.json" not in before or after["study.json"] == before["study.json"]


@pytest.mark.slow
def test_a_report_takes_one_more_result_and_keeps_the_numbers_of_the_others(folder: Path, dtls: Command) -> None:
    out = folder / "reports/second"
    old = rows(out / "metrics.parquet", "method", "key")
    dtls(f"{REPORTS['reports/second']} --sr sr3=sr/sr3 --run wednesday")
    new = rows(out / "metrics.parquet", "method", "key")
    assert {method for method, _ in new.keys() - old.keys()} == {"sr3"}
    assert len(new) == len(old) + 6
    assert all(str({name: new[key][name] for name in row}) == str(row) for key, row in old.items())
    assert sorted(path.name for path in (out / "runs").iterdir()) == ["run=tuesday", "run=wednesday"]
    dtls("verify reports/second")


@pytest.mark.slow
def test_answers_of_people_are_read_with_the_key_to_their_study(folder: Path, dtls: Command) -> None:
    out = folder / "reports/first"
    before = pd.read_parquet(out / "ratings.parquet")
    (out / "ratings.parquet").unlink()
    dtls(REPORTS["reports/first"])
    pd.testing.assert_frame_equal(pd.read_parquet(out / "ratings.parquet"), before)


def test_reports_over_time_are_read_side_by_side(folder: Path, dtls: Command) -> None:
    dtls("compare-reports reports/first reports/second --out history")
    found = pd.read_parquet(folder / "history/history.parquet")
    assert list(found["run"]) == ["monday", "monday", "tuesday", "tuesday"]
    for name, run in (("first", "monday"), ("second", "tuesday")):
        summary = json.loads((folder / f"reports/{name}/runs/run={run}/_summary.json").read_text())
        psnr = {method["method"]: method["psnr"] for method in summary["methods"]}
        part = found[found["run"] == run]
        assert dict(zip(part["method"], part["psnr"], strict=True)) == psnr
