"""Files that a run left are known to be as they were, without reading them where their tags say so."""

import json
from pathlib import Path

import pytest

from storage.receipts.receipts import MANIFEST, PLANNED, SOURCE, Receipts
from storage.receipts.seals import SEALS
from storage.receipts.units import Unit, failed
from storage.stores.location import Entry, Location, StorageError

KEPT = (MANIFEST, PLANNED, SOURCE, SEALS)
UNIT = Unit.of("upscale", "a", [Entry("0.png", 1, "tag"), Entry("1.png", 1, "tag")], {})


def ended(target: Location, *units: Unit) -> Receipts:
    """The receipts of a run that has come to its end."""
    receipts = Receipts(target, "upscale", source="/source")
    receipts.begin(units, receipts.survey(units))
    for unit in units:
        receipts.write(unit, [failed(entry, "broken") for entry in unit.samples])
    receipts.gather(units)
    receipts.end()
    return receipts


def test_each_file_that_a_run_keeps_is_missed_when_it_is_cut_changed_or_gone(target: Location) -> None:
    receipts = ended(target, UNIT)
    assert receipts.survey([UNIT]).gathered
    for key in KEPT:
        whole = target.read(key)
        for harm in (b"", whole[:-1], b"X" + whole[1:], None):
            target.delete(key) if harm is None else target.write(key, harm)
            survey = receipts.survey([UNIT])
            assert (list(survey.done), survey.gathered) == (["a"], False), (key, harm)
        target.write(key, whole)
    assert receipts.survey([UNIT]).gathered  # though the tags are others now


def test_a_file_is_read_only_where_its_tag_is_another(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    target = Location.of(tmp_path)
    receipts = ended(target, UNIT)
    read: list[str] = []
    monkeypatch.setattr("storage.receipts.seals.sha256_of", lambda path: read.append(path.name))
    assert receipts.survey([UNIT]).gathered
    assert read == []
    seals = json.loads(target.read(SEALS))
    seals["seals"][MANIFEST]["tag"] = "of the place it was copied from"
    target.write(SEALS, json.dumps(seals).encode())
    assert not receipts.survey([UNIT]).gathered
    assert read == [MANIFEST]


@pytest.mark.parametrize("content", [b"[]", b"{", b'{"seals": {"x": 1}}', b'{"seals": {"x": {"size": 1}}}', b"null"])
def test_seals_that_are_none_are_no_seals(tmp_path: Path, content: bytes) -> None:
    target = Location.of(tmp_path)
    receipts = ended(target, UNIT)
    target.write(SEALS, content)
    assert not receipts.survey([UNIT]).gathered


def test_results_of_a_source_that_nobody_knows_any_longer_are_not_replaced(tmp_path: Path) -> None:
    target, other = Location.of(tmp_path), Unit.of("upscale", "b", UNIT.samples, {})
    receipts = ended(target, UNIT)
    target.write(SOURCE, b"")
    assert receipts.survey([UNIT]).done
    with pytest.raises(StorageError, match=r"source\.json: damaged, .*; remove it if that is /source, or choose"):
        receipts.survey([other])
    target.delete(SOURCE)
    assert receipts.survey([other]).done == {}
