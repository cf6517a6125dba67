"""A run takes the images that were asked for, and leaves what was made before as it is."""

import os
from pathlib import Path

import pandas as pd
import pytest
from pydantic import ValidationError

from flows.inputs.contents import Contents
from flows.inputs.selection import SelectionOptions, listed_keys, select
from flows.interface.errors import RunError
from flows.interface.text import counted
from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import Entry, StorageError

KEYS = ("a/1.png", "a/2.jpg", "b/1.png", "b/c/3.png")
IMAGES = [Entry(key, 1, "") for key in KEYS]


def chosen(**options: object) -> list[str]:
    chosen_by = SelectionOptions.model_validate(options)
    found, _ = select(Contents(IMAGES), chosen_by, listed_keys(chosen_by))
    return [entry.key for entry in found]


def test_patterns_choose_by_key_and_a_star_crosses_folders() -> None:
    assert chosen(include=["b/*"]) == ["b/1.png", "b/c/3.png"]
    assert chosen(include=["*.jpg", "*3.png"]) == ["a/2.jpg", "b/c/3.png"]
    assert chosen(exclude=["b/*"]) == ["a/1.png", "a/2.jpg"]
    assert chosen(include=["*/1.png"], exclude=["b/*"]) == ["a/1.png"]
    assert chosen(include=["?/[12].*"]) == ["a/1.png", "a/2.jpg", "b/1.png"]


def test_patterns_match_in_any_unicode_form() -> None:
    contents = Contents([Entry("Zoe\u0308/1.png", 1, ""), Entry("b/2.png", 1, "")])
    for options, key in (({"include": ["Zo\u00eb/*"]}, "Zoe\u0308/1.png"), ({"exclude": ["Zo\u00eb/*"]}, "b/2.png")):
        found, _ = select(contents, SelectionOptions.model_validate(options))
        assert [entry.key for entry in found] == [key]


def test_a_limit_takes_the_first_ones() -> None:
    assert chosen(limit=2) == ["a/1.png", "a/2.jpg"]
    assert chosen(include=["b/*"], limit=1) == ["b/1.png"]
    assert chosen(limit=9) == list(KEYS)


def test_a_list_of_keys_may_come_from_any_system(tmp_path: Path) -> None:
    listed = tmp_path / "keys.txt"
    listed.write_bytes("\ufeffa/1.png\r\n\r\nb/c/3.png".encode())
    assert chosen(key_list=str(listed)) == ["a/1.png", "b/c/3.png"]


def test_a_list_as_find_makes_it_is_one_of_keys(tmp_path: Path) -> None:
    (tmp_path / "keys.txt").write_text("./a/1.png\n./b/c/3.png\n")
    assert chosen(key_list=str(tmp_path / "keys.txt")) == ["a/1.png", "b/c/3.png"]


@pytest.mark.parametrize(
    ("lines", "says"),
    [
        (["/data/photos/b/c/3.png"], "1 key, the first in line 1; keys begin below the source, like 'b/c/3.png'"),
        (
            ["/gone.png", "s3://bucket/a/2.jpg"],
            "2 keys, the first in line 1; keys begin below the source, like 'a/2.jpg'",
        ),
        (["photos/a/1.png", "x.png"], "keys begin below the source, like 'a/1.png'"),
        (["/data/9.png"], "keys begin below the source, without its address"),
    ],
)
@pytest.mark.parametrize("others", [[], ["a/1.png"]])
def test_a_list_with_the_source_in_front_of_its_keys_is_told_what_is_wrong(
    lines: list[str], others: list[str], says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys.txt").write_text("\n".join(lines + others))
    if others:
        assert chosen(key_list=str(tmp_path / "keys.txt")) == others
    else:
        with pytest.raises(StorageError, match="none of the 4 images is chosen"):
            chosen(key_list=str(tmp_path / "keys.txt"))
    assert f"not in the source: {counted(len(lines), 'key')}, the first" in (told := capsys.readouterr().err)
    assert says in told


def test_keys_that_are_only_not_there_get_no_hint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "keys.txt").write_text("a/1.png\na/9.png\n")
    assert chosen(key_list=str(tmp_path / "keys.txt")) == ["a/1.png"]
    assert capsys.readouterr().err.endswith("keys.txt: not in the source: 1 key, the first in line 2\n")


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"\n", "no keys in it"),
        (b"\xff\xfe\x00", "not a text file"),
        (b"a/1.png\nKEY=hunter2\0B=2", "not a text file with one key a line: line 2 has control characters"),
        (
            b"a/1.png\n\nKEY=hunter2\nB=hunter2.png\nhunter2",
            "line 3 is neither one nor an image's name, as are 2 of 4 lines",
        ),
        (b"a/1.png\ra/2.jpg", "line 1 has control characters"),
    ],
)
def test_a_list_that_is_none_is_refused_and_not_repeated(
    content: bytes, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "keys.txt").write_bytes(content)
    with pytest.raises(StorageError, match=says) as refusal:
        chosen(key_list=str(tmp_path / "keys.txt"))
    assert "hunter2" not in f"{refusal.value}{capsys.readouterr()}"


def test_a_list_that_is_too_long_or_no_file_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / "keys.txt").open("wb") as file:
        file.truncate(2**40)
    os.mkfifo(tmp_path / "pipe")
    for name, says in {
        "keys.txt": "1,099,511,627,776 bytes",
        "pipe": "no file there",
        "/dev/zero": "no file there",
    }.items():
        with pytest.raises(StorageError, match=says):
            chosen(key_list=str(tmp_path / name))


def test_the_environment_is_no_list_of_keys() -> None:
    with pytest.raises(StorageError, match="environ: no keys in it"):
        chosen(key_list="/proc/self/environ")


def test_a_list_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no file there; give a text file with one key a line"):
        chosen(key_list=str(tmp_path / "keys.txt"))


def test_a_choice_of_nothing_is_refused() -> None:
    with pytest.raises(StorageError, match="none of the 4 images is chosen"):
        chosen(include=["c/*"])
    with pytest.raises(ValidationError, match="an empty pattern matches nothing"):
        SelectionOptions(include=[""])


def run(source: Path, target: Path, **options: object) -> str:
    settings = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2, **options}
    return upscale.fn(UpscaleOptions.model_validate(settings))


def made(target: Path) -> set[str]:
    return {path.stem for path in target.rglob("*.png")}


@pytest.mark.slow
def test_a_chosen_part_adds_to_what_was_made_before(photographs: Path, tmp_path: Path) -> None:
    assert run(photographs, tmp_path / "out", limit=3) == "3 done"
    assert run(photographs, tmp_path / "out", limit=3) == "3 already done"
    assert run(photographs, tmp_path / "out", include=["*0000[45].png"]) == "2 done, 3 already done"
    assert made(tmp_path / "out") == {"00000", "00001", "00002", "00004", "00005"}
    assert len(pd.read_parquet(tmp_path / "out" / "manifest.parquet")) == 5
    assert run(photographs, tmp_path / "out") == "7 done, 5 already done"
    assert run(photographs, tmp_path / "out") == "12 already done"


def test_keys_that_are_not_there_are_failures_and_tried_again(photographs: Path, tmp_path: Path) -> None:
    listed = tmp_path / "keys.txt"
    listed.write_text("00000/00000.png\n../outside.png\n00000/99999.png\n")
    with pytest.raises(RunError, match="2 of 3 images failed"):
        run(photographs, tmp_path / "out", key_list=str(listed))
    assert run(photographs, tmp_path / "out", key_list=str(listed), max_failed=1) == "1 already done, 2 failed"
    rows = pd.read_parquet(tmp_path / "out" / "manifest.parquet").set_index("key")
    assert rows.loc["00000/99999.png"].reason == "not in the source"
    assert made(tmp_path / "out") == {"00000"}


def test_a_dry_run_tells_the_plan_and_writes_nothing(
    photographs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(photographs, tmp_path / "out", limit=5)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    capsys.readouterr()
    said = run(photographs, tmp_path / "out", dry_run=True)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == before
    assert said.startswith("7 to do from ")
    told = capsys.readouterr().err
    size = sum(path.stat().st_size for path in photographs.rglob("*.png")) / 1e3
    assert f"12 images, {size:.1f} kB; 5 already done" in told
    assert "a dry run: nothing was written" in told


def test_a_dry_run_s_estimate_of_bytes_is_near_what_is_written(photographs: Path, tmp_path: Path) -> None:
    said = run(photographs, tmp_path / "out", dry_run=True)
    run(photographs, tmp_path / "out")
    written = sum(path.stat().st_size for path in (tmp_path / "out").rglob("*.png")) / 1e3
    estimate = float(said.split("about ")[2].split(" kB")[0])
    assert estimate == pytest.approx(written, rel=0.2)


def test_a_dry_run_over_a_new_target_makes_no_folder(photographs: Path, tmp_path: Path) -> None:
    run(photographs, tmp_path / "new", dry_run=True)
    run(photographs, tmp_path / "new.zip", dry_run=True)
    assert list(tmp_path.iterdir()) == []
