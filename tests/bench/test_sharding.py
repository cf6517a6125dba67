"""A run of the sharding benchmark has every number that it promises, and all its subjects do the same work."""

import json
import os
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from tests.bench.sharding import main
from tests.bench.sharding_subjects import (
    SMALL,
    files_of,
    gnu_tar,
    make_images,
    make_links,
    ours,
    peak_megabytes,
    webdataset_loop,
)


def quick(scratch: Path, *cases: str) -> dict[str, Any]:
    """What a run with a few files finds."""
    file = scratch / "found.json"
    main(["--quick", "--repeats", "2", "--scratch", str(scratch), "--json", str(file), "--cases", *cases])
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def assert_rates(found: dict[str, Any], expected: dict[str, list[str]]) -> None:
    """Each case has its subjects with two timings each, and ratios that follow from them."""
    assert found["errors"] == []
    subjects: dict[str, list[str]] = {}
    best: dict[tuple[str, str], float] = {}
    for row in found["rates"]:
        assert len(row["seconds"]) == 2
        assert row["files"] > 0
        assert row["megabytes"] > 0
        subjects.setdefault(row["case"], []).append(row["subject"])
        best[row["case"], row["subject"]] = row["files"] / min(row["seconds"])
    assert subjects == expected
    assert {row["case"] for row in found["ratios"]} == expected.keys()
    for row in found["ratios"]:
        one, other = row["what"].split(" / ")
        assert row["best"] == pytest.approx(best[row["case"], one] / best[row["case"], other])
        assert 0 < row["lowest"] <= row["highest"]


@pytest.mark.nightly
def test_a_quick_run_has_every_local_number(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = quick(tmp_path, "small", "large")
    assert_rates(
        found,
        {
            "small": ["ours", "webdataset", "GNU tar"],
            "large png": ["ours", "GNU tar"],
            "large jpg": ["ours", "GNU tar"],
        },
    )
    printed = capsys.readouterr().out
    assert {"date", "CPU", "before", "versions", "command"} <= found["conditions"].keys()
    assert all(value in printed for value in found["conditions"].values())
    assert all(f"| {row['what']} | ×{row['best']:.2f} |" in printed for row in found["ratios"])


@pytest.mark.nightly
@pytest.mark.quiet  # it compares rates
def test_one_core_is_compared_with_two_where_there_are_two(tmp_path: Path) -> None:
    found = quick(tmp_path, "resize")
    if len(os.sched_getaffinity(0)) > 1:
        assert_rates(found, {"resize": ["two cores", "one core"]})
    else:
        assert found["errors"] == ["resize: RuntimeError: it needs two cores"]


@pytest.mark.integration
@pytest.mark.nightly
def test_the_upload_is_compared_with_the_aws_client(tmp_path: Path) -> None:
    before = dict(os.environ)
    assert_rates(quick(tmp_path, "upload"), {"upload": ["ours", "AWS client"]})
    assert dict(os.environ) == before


@pytest.mark.nightly
def test_memory_is_measured_for_every_number_of_entries(tmp_path: Path) -> None:
    found = quick(tmp_path, "memory")
    assert found["errors"] == []
    measured = [(row["what"], row["entries"]) for row in found["peaks"]]
    assert measured == [("dtls shard", 20), ("dtls shard", 40), ("listing", 60), ("listing and planning", 60)]
    listing, planning = found["peaks"][2:]
    assert 5 < listing["megabytes"] < planning["megabytes"]  # planning wants Prefect as well


@pytest.mark.slow
def test_memory_is_that_of_the_process_measured_not_of_the_one_that_starts_it() -> None:
    held = b"1" * 300_000_000
    small, large = peak_megabytes("-c", "pass"), peak_megabytes("-c", "len(b'1' * 200_000_000)")
    assert small < 100 < len(held) / 1e6
    assert 200 < large < 300


@pytest.mark.parametrize("subject", [ours, webdataset_loop, gnu_tar])
def test_every_subject_packs_all_images(subject: Callable[[Path, Path], float], tmp_path: Path) -> None:
    source = make_images(tmp_path, 5, SMALL)
    target = tmp_path / "target"
    assert subject(source, target) > 0
    packed = []
    for path in target.glob("*.tar"):
        with tarfile.open(path) as tar:
            packed += [tar.extractfile(member).read() for member in tar if member.name.endswith(".jpg")]  # type: ignore[union-attr]
    assert sorted(packed) == sorted(path.read_bytes() for path in files_of(source))


@pytest.mark.slow
def test_images_are_whole_and_different_and_made_once(tmp_path: Path) -> None:
    source = make_images(tmp_path, 1001, SMALL)
    files = files_of(source)
    assert [str(path.relative_to(source)) for path in (files[0], files[999], files[1000])] == [
        "00000/00000.jpg",
        "00000/00999.jpg",
        "01000/01000.jpg",
    ]
    assert len({path.read_bytes() for path in files}) == 1001
    with Image.open(files[-1]) as image:
        image.load()
        assert image.size == (128, 128)
    written = [path.stat().st_mtime_ns for path in files]
    assert files_of(make_images(tmp_path, 1001, SMALL)) == files
    assert [path.stat().st_mtime_ns for path in files] == written


@pytest.mark.slow
def test_links_share_the_bytes_of_a_few_images(tmp_path: Path) -> None:
    files = files_of(make_links(tmp_path, 450))
    assert len(files) == 450
    assert len({path.stat().st_ino for path in files}) == 200


@pytest.mark.slow
def test_a_case_that_fails_is_told_and_leaves_the_others_their_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def missing(source: Path, target: Path) -> float:
        raise FileNotFoundError("no webdataset here")

    monkeypatch.setattr("tests.bench.sharding.webdataset_loop", missing)
    file = tmp_path / "found.json"
    arguments = ["--quick", "--repeats", "1", "--scratch", str(tmp_path), "--json", str(file)]
    assert main([*arguments, "--cases", "small", "large"]) == 1
    found = json.loads(file.read_text())
    assert found["errors"] == ["small: FileNotFoundError: no webdataset here"]
    assert {row["case"] for row in found["rates"]} == {"large png", "large jpg"}
    assert "small failed: no webdataset here" in capsys.readouterr().out
