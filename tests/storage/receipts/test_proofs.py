"""Results of another process are believed when they are there, as seen from here: by size and bytes, or by tag."""

import hashlib
from pathlib import Path

import pytest

from storage.receipts.proofs import note_versions, unlike
from storage.receipts.units import Row
from storage.stores.location import Location

OUTPUTS = ["a/0.png", "a/1 é+%.png", "b.png", "b/2.png", "b0/3.png"]


def made(target: Location) -> list[Row]:
    """The rows of a worker that has put results there, some of them failures."""
    rows: list[Row] = [{"key": "broken", "status": "failed", "output": None}, {"key": "old", "status": "failed"}]
    for output in OUTPUTS:
        data = output.encode()
        target.write(output, data)
        proof = {"output": output, "output_bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        rows.append({"key": output, "status": "ok", **proof})
    for other in ("a/1", "a/2.png", "z.png"):
        target.write(other, b"of another unit")
    note_versions(target, rows)
    return rows


def test_each_output_that_is_not_what_was_made_is_found(target: Location) -> None:
    rows = made(target)
    assert unlike(target, rows) is None
    for output in OUTPUTS:
        for harm in (None, output.encode() + b"x", output.encode()[::-1]):
            target.delete(output) if harm is None else target.write(output, harm)
            assert unlike(target, rows) == output
        target.write(output, output.encode())


def test_an_older_result_is_not_taken_for_one_that_a_worker_has_put_elsewhere(target: Location) -> None:
    here, there = target / "here", target / "there"
    made(here)
    here.write("b.png", b"older")
    rows = made(there)
    assert unlike(there, rows) is None
    assert unlike(here, rows) == "b.png"


def test_what_a_network_disk_remembers_of_an_older_file_is_not_believed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = Location.of(tmp_path)
    target.write("b.png", b"older and longer")
    older = (tmp_path / "b.png").stat()
    rows = made(target)
    with monkeypatch.context() as remembering:
        remembering.setattr(Path, "stat", lambda *_, **__: older)
        assert unlike(target, rows) is None
    (tmp_path / "b.png").unlink()
    (tmp_path / "b.png").mkdir()
    assert unlike(target, rows) == "b.png"


def test_nothing_that_was_made_is_nothing_to_look_for(target: Location) -> None:
    assert unlike(target, [{"key": "broken", "status": "failed", "output": "b.png"}]) is None


@pytest.mark.integration
def test_results_far_apart_in_a_bucket_are_asked_for_one_by_one(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.stores.s3.PAGES", 0)
    target = Location.of(s3) / "far"
    rows = made(target)
    assert unlike(target, rows) is None
    target.delete("b/2.png")
    assert unlike(target, rows) == "b/2.png"
