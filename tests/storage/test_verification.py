"""What a target is checked for: damage that is no file's, files that cannot be read, each file read once."""

import hashlib
import io
import random
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pandas as pd
import pytest

from storage.archives.writer import Packing
from storage.receipts.lease import hold
from storage.receipts.receipts import MANIFEST, PLANNED, SOURCE, Receipts
from storage.receipts.seals import PUBLISHED, SEALS
from storage.receipts.survey import UNFINISHED, TargetState
from storage.receipts.units import Row, Unit, failed
from storage.stores.location import ChangedError, Entry, Location, StorageError
from storage.verification import Verification

PIXELS = b"pixels"


@pytest.fixture(params=["local", "memory"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    where = Location.of(tmp_path / "target" if request.param == "local" else f"memory://{tmp_path.name}")
    yield where
    for entry in where.list():
        where.delete(entry.key)


def unit(*keys: str, **options: object) -> Unit:
    return Unit.of("upscale", keys[0].split(".")[0], [Entry(key, 100, "tag") for key in keys], options)


def finish(target: Location, made: Unit, data: bytes = PIXELS) -> list[Row]:
    rows: list[Row] = []
    for entry in made.samples:
        target.write(entry.key, data)
        proof = {"output": entry.key, "output_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        source = {"source_bytes": entry.size, "source_tag": entry.etag, "options": made.options}
        rows.append({"key": entry.key, "status": "ok", **proof, **source, "method": "bicubic"})
    Receipts(target, "upscale").write(made, rows)
    return rows


def gather(target: Location, *units: Unit) -> None:
    """The end of a run over units whose receipts are there."""
    receipts = Receipts(target, "upscale", source="/source")
    receipts.begin(units, TargetState({}, (), {}))
    receipts.gather(units)
    receipts.end()


def problems(target: Location, packing: Packing | None = None) -> dict[str, tuple[str, frozenset[str]]]:
    """What is wrong, by file, and what would be removed."""
    found = Verification(target, workers=2, packing=packing)
    every = [*found.damaged, *found.files(lambda _: None), *found.tables()]
    told: dict[str, tuple[str, frozenset[str]]] = {}
    for problem in every:
        before = f"{told[problem.file][0]} | " if problem.file in told else ""
        told[problem.file] = (before + problem.what, problem.remove)
    return told


def test_a_whole_target_has_no_problems(target: Location) -> None:
    units = unit("a.png", "b.png"), unit("c.png")
    for made in units:
        finish(target, made)
    gather(target, *units)
    assert problems(target) == {}


def test_units_whose_names_have_folders_are_checked(target: Location) -> None:
    made = unit("some/folder/a.png")
    finish(target, made)
    gather(target, made)
    assert problems(target) == {}
    target.delete("some/folder/a.png")
    assert problems(target) == {"some/folder/a.png": ("missing", frozenset({made.receipt}))}


def test_of_two_receipts_of_a_file_the_one_that_is_wrong_goes(target: Location) -> None:
    old, new = unit("a.png", scale=2), unit("a.png", scale=3)
    for data in (b"other", b"larger"):
        finish(target, old, data)
        finish(target, new)
        assert problems(target)["a.png"][1] == {old.receipt}


def test_a_file_of_many_rows_is_read_once(target: Location, monkeypatch: pytest.MonkeyPatch) -> None:
    made = unit("a.png", "b.png")
    rows = finish(target, made)
    Receipts(target, "upscale").write(made, [row | {"output": "a.png"} for row in rows])
    gather(target, made)
    hashed: Counter[int] = Counter()
    digest = hashlib.file_digest
    monkeypatch.setattr(hashlib, "file_digest", lambda *given: hashed.update([1]) or digest(*given))
    found = Verification(target, workers=2)
    assert (list(found.files(lambda _: None)), found.strays()) == ([], ["b.png"])
    assert hashed.total() == 1


def test_the_manifest_has_the_rows_of_the_receipts_and_no_others(target: Location) -> None:
    first, second = unit("a.png"), unit("b.png")
    finish(target, first)
    finish(target, second)
    gather(target, first)
    assert problems(target)["manifest.parquet"][0] == "lacks 1 row (b.png, ok) of the receipts"
    gather(target, first, second)
    target.delete(second.receipt)
    assert problems(target)["manifest.parquet"][0] == "has 1 row (b.png, ok) of no receipt"
    Receipts(target, "upscale").write(second, [{"key": "b.png", "status": "failed"}])
    assert problems(target)["manifest.parquet"][0].startswith("b.png: status ok, where its receipt says failed; ")
    target.write(second.receipt, b"damaged")  # whose rows nobody knows, so the manifest may have them
    assert problems(target) == {second.receipt: ("not a readable receipt", frozenset({second.receipt}))}


def rewritten(target: Location, key: str, change: Callable[[pd.DataFrame], pd.DataFrame]) -> None:
    """Write a table with other rows, as whoever touches it would."""
    buffer = io.BytesIO()
    change(pd.read_parquet(io.BytesIO(target.read(key)))).to_parquet(buffer, index=False)
    target.write(key, buffer.getvalue())


def first(column: str, value: object) -> Callable[[pd.DataFrame], pd.DataFrame]:
    """Another value in the first row."""
    return lambda frame: frame.assign(**{column: [value, *frame[column].iloc[1:]]})


MANIFEST_HARMS = {
    "a.png: method lanczos, where its receipt says bicubic": first("method", "lanczos"),
    "a.png: output_bytes 7, where its receipt says 6": first("output_bytes", 7),
    "a.png: sha256 none, where its receipt says": first("sha256", None),
    "a.png: source_bytes 101, where its receipt says 100": first("source_bytes", 101),
    "a.png: options none, where": lambda frame: frame.drop(columns="options"),
    "a.png: reason kept, where its receipt says none": first("reason", "kept"),
    "lacks 1 row (a.png, ok) of the receipts": lambda frame: frame.iloc[1:],
    "lacks 3 rows (a.png, ok, …) of the receipts": lambda frame: frame.iloc[:0],
    "has 1 row (c.png, ok) more than once": lambda frame: frame.iloc[[0, 1, 2, 2]],
    "has 1 row (d.png, ok) of no receipt": lambda frame: pd.concat([frame, frame.iloc[:1].assign(key="d.png")]),
    "has its rows in another order than the plan": lambda frame: frame.iloc[::-1],
    "other bytes than were written (sha256)": lambda frame: frame,
}


@pytest.mark.parametrize("says", MANIFEST_HARMS)
def test_a_manifest_is_compared_with_the_receipts_in_each_column_and_row(says: str, tmp_path: Path) -> None:
    target = whole_target(tmp_path)
    rewritten(target, MANIFEST, MANIFEST_HARMS[says])
    [(file, (what, remove))] = problems(target).items()
    assert (file, set(remove)) == (MANIFEST, {MANIFEST})
    assert what.startswith(says)


def whole_target(folder: Path) -> Location:
    """Three results of two units, and all that a run leaves of them."""
    target, units = Location.of(folder), (unit("a.png", "b.png"), unit("c.png"))
    for made in units:
        finish(target, made)
    gather(target, *units)
    assert problems(target) == {}
    return target


PLAN_HARMS = {
    "a.png: size 101, where its receipt says 100": first("size", 101),
    "a.png: etag other, where its receipt says tag": first("etag", "other"),
    "has other keys in a than its receipt": first("key", "x.png"),
    "lacks the 1 unit": lambda frame: frame.iloc[:2],
    "has the unit c more than once": lambda frame: frame.iloc[[2, 0, 1, 2]],
    "has 1 unit (x) without a receipt": lambda frame: pd.concat([frame, frame.iloc[:1].assign(unit="x")]),
    "has 1 unit (c) without a receipt": lambda frame: frame.assign(
        fingerprint=[*frame.fingerprint.iloc[:2], "0123456789abcdef"]
    ),
    "not a readable Parquet file": lambda frame: frame.drop(columns="unit"),
    "other bytes than were written (sha256)": lambda frame: frame,
}


@pytest.mark.parametrize("says", PLAN_HARMS)
def test_a_plan_is_compared_with_the_receipts_in_each_column_and_row(says: str, tmp_path: Path) -> None:
    target = whole_target(tmp_path)
    rewritten(target, PLANNED, PLAN_HARMS[says])
    what, remove = problems(target)[PLANNED]
    assert what.startswith(says)
    assert remove == {PLANNED}


@pytest.mark.parametrize("key", [MANIFEST, PLANNED, SOURCE, SEALS])
def test_what_a_run_keeps_is_told_of_where_it_is_cut_changed_or_gone(key: str, target: Location) -> None:
    made = unit("a.png")
    finish(target, made)
    gather(target, made)
    whole = target.read(key)
    for harm in (b"", whole[::-1]):
        target.write(key, harm)
        assert list(problems(target)) == [key]
    target.delete(key)
    assert list(problems(target)) == ([] if key == SEALS else [key])  # which earlier versions do not make


def test_a_run_that_has_not_ended_is_told_of_and_its_tables_are_not(tmp_path: Path) -> None:
    target, more = whole_target(tmp_path), unit("d.png")
    finish(target, more)
    target.write(UNFINISHED, b"[]")
    what, remove = problems(target)[UNFINISHED]
    assert (list(problems(target)), remove) == ([UNFINISHED], frozenset())
    assert what == "the last run has not come to its end, so that its tables are not compared; run it again"
    with hold(target, "upscale"):
        assert problems(target)[UNFINISHED][0].startswith("a run works here (upscale ")


def test_receipts_of_versions_without_the_columns_that_came_later_agree(tmp_path: Path) -> None:
    target = whole_target(tmp_path)
    for key in [entry.key for entry in target.list() if "/receipts/" in entry.key]:
        rewritten(target, key, lambda frame: frame.drop(columns=["protocol", "checkpoint"]))
    assert problems(target) == {}


def test_what_an_earlier_version_says_of_a_report_has_nothing_to_compare(tmp_path: Path) -> None:
    target = whole_target(tmp_path)
    target.write(PUBLISHED, b'{"stands_on": [], "names": ["index.html"]}')
    assert problems(target) == {}
    target.write(PUBLISHED, b'{"stands_on": null, "names": ["index.html"], "seals": {}}')
    assert problems(target)[PUBLISHED][0] == "says nothing of the files that it is about"


def test_a_source_that_changed_while_it_was_read_has_no_tag_to_compare(tmp_path: Path) -> None:
    target, made = Location.of(tmp_path), unit("a.png")
    Receipts(target, "upscale").write(made, [failed(made.samples[0], ChangedError("changed"))])
    gather(target, made)
    assert problems(target) == {}


@pytest.mark.slow
def test_damage_of_any_kind_to_a_receipt_is_a_problem_or_changes_nothing_that_is_checked(target: Location) -> None:
    made, generator = unit("a.png", "b.png"), random.Random(0)
    finish(target, made)
    gather(target, made)
    whole = target.read(made.receipt)
    said: list[bool] = []
    for _ in range(100):
        data = bytearray(whole)
        data[generator.randrange(len(data))] ^= generator.randrange(1, 256)
        target.write(made.receipt, bytes(data))
        wrong = problems(target)
        said.append(bool(wrong))
        assert wrong or Verification(target, 1).claims.keys() == {"a.png", "b.png"}
    assert sum(said) > 25


@pytest.mark.parametrize("change", [{"status": "done"}, {"sha256": None}, {"output_bytes": None}, {"output": None}])
def test_a_receipt_whose_rows_prove_nothing_is_damaged(target: Location, change: dict[str, object]) -> None:
    made = unit("a.png", "b.png")
    first, second = finish(target, made)
    Receipts(target, "upscale").write(made, [first, second | change])
    found = Verification(target, 1)
    assert [str(problem) for problem in found.damaged] == [f"{made.receipt}: not a readable receipt"]
    assert not found.claims


def test_a_shard_of_the_right_bytes_that_is_no_tar_is_told(target: Location) -> None:
    made = unit("a.tar")
    finish(target, made)
    gather(target, made)
    assert problems(target) == {"a.tar": ("not a readable tar with images", frozenset({made.receipt}))}


def test_a_file_that_cannot_be_read_is_told_and_keeps_its_receipt(tmp_path: Path) -> None:
    """As when a disk fails or a server is away: that is no reason to make anything again."""
    target, made = Location.of(tmp_path), unit("a.png", "b.png")
    finish(target, made)
    gather(target, made)
    (tmp_path / "a.png").unlink()
    (tmp_path / "a.png").symlink_to(tmp_path / "folder")
    assert problems(target)["a.png"][1] == {made.receipt}  # a broken link is a file of no size
    sizes = Verification(target, 1)
    sizes.sizes["a.png"] = len(PIXELS)
    (tmp_path / "folder").mkdir()
    [problem] = sizes.files(lambda _: None)
    assert (problem.file, problem.remove) == ("a.png", frozenset())
    assert problem.what.startswith("cannot be read (")


def test_a_file_that_goes_between_the_listing_and_the_look_is_missing(target: Location) -> None:
    made = unit("a.png", "b.png")
    finish(target, made)
    found = Verification(target, workers=2)
    target.delete("b.png")
    assert [str(problem) for problem in found.files(lambda _: None)] == ["b.png: missing"]


def test_a_row_that_names_a_file_outside_the_target_is_not_followed(target: Location) -> None:
    made = unit("a.png")
    [row] = finish(target, made)
    Receipts(target, "upscale").write(made, [row | {"output": "../a.png"}])
    assert problems(target)["../a.png"][0] == "missing"


@pytest.fixture(params=["zip", "tar", "tar.gz"])
def packing(request: pytest.FixtureRequest, tmp_path: Path) -> Packing:
    """An archive of a.png, b.png and c.png, by two receipts."""
    packing, units = Packing(str(tmp_path / f"x.{request.param}")), (unit("a.png", "b.png"), unit("c.png"))
    for made, data in zip(units, (PIXELS, b"other pixels"), strict=True):
        finish(packing.staging, made, data)
    gather(packing.staging, *units)
    packing.pack(["a.png", "b.png", "c.png"], lambda _: None)
    return packing


def test_the_members_of_an_archive_are_checked_as_files_are(packing: Packing) -> None:
    assert problems(packing.staging, packing) == {}
    finish(packing.staging, unit("c.png"), b"new")  # which waits, and counts
    gather(packing.staging, unit("a.png", "b.png"), unit("c.png"))
    assert problems(packing.staging, packing) == {}
    packing.staging.write("b.png", b"wrong!")
    packing.staging.delete("c.png")
    assert problems(packing.staging, packing) == {
        "b.png": ("other bytes than its receipt says (sha256)", frozenset({unit("a.png", "b.png").receipt})),
        "c.png": ("12 bytes, where its receipt says 3", frozenset({unit("c.png").receipt})),
    }


def test_a_member_that_is_gone_or_of_other_bytes_is_told(packing: Packing) -> None:
    packing.staging.write("b.png", b"wrong!")
    packing.pack(["a.png", "b.png"], lambda _: None)
    found = problems(packing.staging, packing)
    assert {file: what for file, (what, _) in found.items()} == {
        "b.png": "other bytes than its receipt says (sha256)",
        "c.png": "missing",
    }


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_a_damaged_member_costs_its_receipt(kind: str, tmp_path: Path) -> None:
    packing, made = Packing(str(tmp_path / f"x.{kind}")), unit("a.png", "b.png")
    finish(packing.staging, made)
    gather(packing.staging, made)
    packing.pack(["a.png", "b.png"], lambda _: None)
    path = tmp_path / f"x.{kind}"
    path.write_bytes(path.read_bytes().replace(PIXELS, b"pixelz", 1))
    [(file, (what, remove))] = problems(packing.staging, packing).items()
    assert (file, set(remove)) == ("a.png", {made.receipt})
    assert ("checksum" if kind == "zip" else "sha256") in what


def test_a_member_of_no_receipt_is_told(packing: Packing) -> None:
    packing.staging.write("more.png", PIXELS)
    packing.pack(["a.png", "b.png", "c.png", "more.png"], lambda _: None)
    assert Verification(packing.staging, 1, packing).strays() == ["more.png"]


def test_an_archive_that_cannot_be_listed_says_what_to_do(packing: Packing) -> None:
    path = Path(packing.archive)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(StorageError, match="remove it, and the next run makes it anew"):
        Verification(packing.staging, 1, packing)


def test_where_there_is_no_archive_its_name_is_told(tmp_path: Path) -> None:
    packing = Packing(str(tmp_path / "x.zip"))
    with pytest.raises(StorageError, match=r"x\.zip: nothing there to verify"):
        Verification(packing.staging, 1, packing)
