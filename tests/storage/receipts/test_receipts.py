"""Units and receipts: fingerprints that change when something does, cuts that stay, tables that people can read."""

import io
import random
import re
from pathlib import Path

import duckdb
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.receipts.receipts import MANIFEST, Receipts, read_manifest
from storage.receipts.schemas import SAMPLES
from storage.receipts.survey import TargetState
from storage.receipts.units import Row, Unit, cut_by_key, cut_evenly, failed, is_current
from storage.stores.location import Entry, Location, StorageError

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


@pytest.mark.slow
def test_cuts_by_key_keep_everything_and_stay_when_images_come_and_go() -> None:
    generator = random.Random(0)
    for _ in range(200):
        entries = sorted(generator.sample(ENTRIES, 1000))
        cuts = list(cut_by_key(entries, 20))
        assert [entry for cut in cuts for entry in cut] == entries
        assert max(map(len, cuts)) <= 40
        gone = generator.choice(entries)
        fewer = list(cut_by_key([entry for entry in entries if entry != gone], 20))
        assert len(set(cuts) - set(fewer)) <= 8  # of about 60
        assert len(set(fewer) - set(cuts)) <= 8


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


def test_pruning_removes_outputs_of_earlier_plans_and_nothing_else(target: Location) -> None:
    receipts = Receipts(target, "upscale", outputs=re.compile(r"\d+\.png"))
    now = Unit.of("upscale", "a", ENTRIES[:1], {})
    finish(receipts, unit())
    finish(receipts, now)
    target.write("mine.txt", b"not of any run")
    target.write("00007.png", b"of a run that was killed before its receipt")
    survey = receipts.survey([now])
    assert survey.orphans == ("00001.png", "00007.png")
    receipts.drop(stale.receipt for stale in survey.stale)
    receipts.prune(survey.orphans, [now])
    assert [e.key for e in target.list() if not e.key.startswith(".")] == ["00000.png", "mine.txt"]


def test_the_manifest_is_read_by_pandas_and_duckdb_and_explains_its_columns(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    finish(receipts, unit())
    receipts.gather([unit()])
    path = Path(target.root) / "manifest.parquet"
    assert list(pd.read_parquet(path).key) == ["00000.png", "00001.png"]
    query = f"select sum(output_bytes) from '{path}'"
    assert duckdb.connect().execute(query).fetchall() == [(12,)]
    assert all(field.metadata[b"description"] for field in SAMPLES)


def test_pruning_without_outputs_removes_receipts_only(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    finish(receipts, unit())
    receipts.drop(stale.receipt for stale in receipts.survey([unit(scale=3)]).stale)
    assert [entry.key for entry in target.list()] == ["00000.png", "00001.png"]
    assert receipts.read(unit()) == []


def test_failed_samples_of_a_done_unit_are_told(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    receipts.write(unit(), [failed(ENTRIES[0], "broken image: truncated"), failed(ENTRIES[1], "too large")])
    [(name, rows)] = receipts.survey([unit()]).done.items()
    assert name == "a"
    assert [(row["key"], row["status"], row["reason"]) for row in rows] == [
        ("00000.png", "failed", "broken image: truncated"),
        ("00001.png", "failed", "too large"),
    ]


def test_a_row_is_current_for_the_same_source_and_options_only(target: Location) -> None:
    row = finish(Receipts(target, "upscale"), unit())[0]
    assert is_current(row, ENTRIES[0], unit())
    assert not is_current(row, ENTRIES[0], unit(scale=3))
    assert not is_current(row, ENTRIES[1], unit())
    assert not is_current(row, Entry("00000.png", 100, "new"), unit())


@pytest.mark.slow
def test_damage_of_any_kind_undoes_a_receipt_and_is_a_line_for_the_manifest(target: Location) -> None:
    receipts, generator = Receipts(target, "upscale"), random.Random(0)
    finish(receipts, unit())
    receipts.gather([unit()])
    receipt, manifest = target.read(unit().receipt), target.read(MANIFEST)
    lines: list[str] = []
    for _ in range(300):
        target.write(unit().receipt, damaged(receipt, generator))
        receipts.survey([unit()])
        target.write(MANIFEST, damaged(manifest, generator))
        try:
            read_manifest(target)
        except StorageError as error:
            lines.append(str(error))
    assert len(lines) > 50
    assert all(line.startswith(f"{target}/{MANIFEST}: not a readable Parquet file (") for line in lines)
    assert not any("\n" in line for line in lines)


def test_a_manifest_with_two_columns_of_one_name_is_refused(target: Location) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.table([["a"], ["b"]], names=["key", "key"]), buffer)
    target.write(MANIFEST, buffer.getvalue())
    with pytest.raises(StorageError, match=r"not a readable Parquet file \(two columns of one name\)"):
        read_manifest(target)


def damaged(data: bytes, generator: random.Random) -> bytes:
    changed = bytearray(data)
    changed[generator.randrange(len(data))] ^= generator.randrange(1, 256)
    return bytes(changed[: generator.choice((len(data), len(data), len(data) // 2))])


def test_a_receipt_that_cannot_be_reached_is_not_taken_for_missing(target: Location) -> None:
    """Else its rows would be missing from the manifest without a word."""
    (target / unit().receipt).write("folder", b"in its place")
    with pytest.raises(StorageError, match=unit().receipt):
        list(Receipts(target, "upscale").rows([unit()]))


@pytest.mark.slow
def test_the_rows_of_all_units_come_in_their_order(target: Location) -> None:
    receipts = Receipts(target, "upscale")
    units = [Unit.of("upscale", str(n), ENTRIES[10 * n : 10 * n + 10], {}) for n in range(30)]
    for made in reversed(units):
        receipts.write(made, [failed(entry, "x") for entry in made.samples])
    assert [row["key"] for row in receipts.rows(units)] == [entry.key for entry in ENTRIES[:300]]


def test_the_plan_lists_every_sample_with_its_unit(target: Location) -> None:
    units = [unit("a"), unit("b")]
    Receipts(target, "upscale").begin(units, TargetState({}, (), {}, gathered=False))
    plan = pd.read_parquet(Path(target.root) / ".dtls" / "plan.parquet")
    assert list(zip(plan.unit, plan.key, plan["size"], plan.etag, strict=True)) == [
        (made.name, entry.key, entry.size, entry.etag) for made in units for entry in ENTRIES[:2]
    ]
    assert set(plan.fingerprint) == {made.fingerprint for made in units}


def test_there_may_be_no_manifest(target: Location) -> None:
    assert read_manifest(target) is None
