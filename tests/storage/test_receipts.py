"""Units and receipts: fingerprints that change when something does, cuts that stay, tables that people can read."""

import random
from pathlib import Path

import duckdb
import pandas as pd
import pytest

from storage.locations import Entry, Location, StorageError
from storage.receipts import SAMPLES, Receipts, Row, Unit, cut_by_key, cut_evenly, write_samples

ENTRIES = [Entry(f"{i:05d}.png", 100 + i, f"tag{i}") for i in range(2000)]


@pytest.fixture
def target(tmp_path: Path) -> Location:
    return Location.of(tmp_path / "target")


def unit(name: str = "a", **options: object) -> Unit:
    return Unit.of("upscale", name, ENTRIES[:2], options)


def finish(receipts: Receipts, made: Unit, data: bytes = b"pixels") -> list[Row]:
    """Do a unit: its outputs, then its receipt."""
    rows: list[Row] = []
    for entry in made.samples:
        receipts.target.write(entry.key, data)
        facts = {"source_bytes": entry.size, "source_tag": entry.etag, "options": made.options}
        rows.append({"key": entry.key, "status": "ok", "output": entry.key, "output_bytes": len(data), **facts})
    receipts.write(made, rows)
    return rows


def test_a_fingerprint_changes_with_each_input_and_option_and_only_then() -> None:
    changed = [
        unit(scale=3),
        unit(scale=2, method="x"),
        Unit.of("shard", "a", ENTRIES[:2], {"scale": 2}),
        Unit.of("upscale", "b", ENTRIES[:2], {"scale": 2}),
        Unit.of("upscale", "a", ENTRIES[:3], {"scale": 2}),
        *(
            Unit.of("upscale", "a", [ENTRIES[0], other], {"scale": 2})
            for other in (Entry("x", 101, "tag1"), Entry("00001.png", 9, "tag1"), Entry("00001.png", 101, "new"))
        ),
    ]
    assert unit(scale=2, method="m").fingerprint == unit(method="m", scale=2).fingerprint
    assert len({u.fingerprint for u in [unit(scale=2), *changed]}) == len(changed) + 1


def test_even_cuts_have_the_same_size_and_keep_everything() -> None:
    cuts = list(cut_evenly(ENTRIES[:10], 4))
    assert [len(cut) for cut in cuts] == [4, 4, 2]
    assert [entry for cut in cuts for entry in cut] == ENTRIES[:10]


def test_cuts_by_key_keep_everything_and_stay_when_pictures_come_and_go() -> None:
    generator = random.Random(0)
    for _ in range(50):
        entries = sorted(generator.sample(ENTRIES, 1000))
        cuts = list(cut_by_key(entries, 20))
        assert [entry for cut in cuts for entry in cut] == entries
        assert max(map(len, cuts)) <= 40
        fewer = [entry for entry in entries if entry != generator.choice(entries)]
        moved = set(cut_by_key(fewer, 20)) ^ set(cuts)
        assert len(moved) <= 8


def test_a_unit_is_done_when_its_receipt_and_its_outputs_are_there(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    assert receipts.survey([unit()]).done == {}
    finish(receipts, unit())
    assert receipts.survey([unit()]).done == {"a": []}
    assert receipts.survey([unit(scale=3)]).done == {}


@pytest.mark.parametrize("harm", [None, b"cut"])
def test_a_missing_or_shorter_output_undoes_its_unit_but_not_its_neighbours(
    target: Location, harm: bytes | None
) -> None:
    receipts = Receipts(target, "upscale")
    finish(receipts, unit())
    target.delete("00001.png") if harm is None else target.write("00001.png", harm)
    survey = receipts.survey([unit()])
    assert survey.done == {}
    assert list(survey.kept) == ["00000.png"]


def test_a_broken_receipt_does_not_count(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    finish(receipts, unit())
    target.write(unit().receipt, target.read(unit().receipt)[:-10])
    assert receipts.survey([unit()]).done == {}


def test_a_target_belongs_to_one_flow(target: Location) -> None:
    finish(Receipts(target, "upscale"), unit())
    with pytest.raises(StorageError, match="holds the results of upscale"):
        Receipts(target, "shard").survey([])


def test_pruning_removes_only_what_earlier_plans_made(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    finish(receipts, unit())
    target.write("mine.txt", b"not of any run")
    survey = receipts.survey([])
    receipts.drop(survey.stale, kept={"00000.png"})
    assert [entry.key for entry in target.list()] == ["00000.png", "mine.txt"]


def test_the_manifest_is_read_by_pandas_and_duckdb_and_explains_its_columns(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    finish(receipts, unit())
    receipts.gather([unit()], write_samples)
    path = Path(target.root) / "manifest.parquet"
    assert list(pd.read_parquet(path).key) == ["00000.png", "00001.png"]
    query = f"select sum(output_bytes) from '{path}'"
    assert duckdb.connect().execute(query).fetchall() == [(12,)]
    assert all(field.metadata[b"description"] for field in SAMPLES)
