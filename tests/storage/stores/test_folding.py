"""Names that a disk may take for one are found, and the disk is asked."""

import random
from pathlib import Path

import pytest

from storage.receipts.lease import sweep
from storage.stores.folding import pair_folded, pairs_alike
from storage.stores.local import LocalDisk
from storage.stores.location import Location
from tests.folding import FoldingDisk

NFC, NFD = "\u00e9.png", "e\u0301.png"


@pytest.mark.parametrize(
    ("names", "pairs"),
    [
        (["A.png", "B.png", "a.png", "b.jpg"], [("A.png", "a.png")]),
        ([NFD, NFC], [(NFD, NFC)]),
        (["É.png", NFD, NFC], [("É.png", NFD), ("É.png", NFC)]),
        (["A/x.png", "a/y.png", "a/z.png", "b/A/x.png", "b/a.png"], [("A", "a")]),
        (["straße.png", "STRASSE.png"], [("straße.png", "STRASSE.png")]),
        (["a.png", "a/a.png", "b/a.png", "ab.png"], []),
    ],
)
def test_names_are_alike_but_for_case_and_form(names: list[str], pairs: list[tuple[str, str]]) -> None:
    assert pairs_alike(names) == pairs


def test_of_many_names_those_alike_are_found_and_no_others() -> None:
    generator = random.Random(0)
    names = [f"{n // 100:03}/{n:05}.png" for n in range(20_000)]
    others = [name.upper() for name in generator.sample(names, 10)]
    assert pairs_alike([*names, *others]) == [(name.lower(), name) for name in others]


def test_a_disk_is_asked_and_keeps_nothing(tmp_path: Path) -> None:
    pairs = [("A.png", "a.png"), ("x/" + NFC, "x/" + NFD)]
    plain, folding = Location.of(tmp_path), Location(str(tmp_path), FoldingDisk(), str(tmp_path))
    assert pair_folded(plain, pairs) is None
    assert pair_folded(folding, pairs) == pairs[0]
    assert pair_folded(folding, pairs[1:]) == pairs[1]
    assert pair_folded(folding, []) is None
    assert plain.list() == []


def test_what_a_disk_was_asked_with_is_swept_after_a_run_that_was_killed(tmp_path: Path) -> None:
    class Killed(LocalDisk):
        def delete(self, path: str) -> None:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        pair_folded(Location(str(tmp_path), Killed(), str(tmp_path)), [("A.png", "a.png")])
    target = Location.of(tmp_path)
    target.write("A.png", b"a result")
    sweep(target, [entry.key for entry in target.list()])
    assert [entry.key for entry in target.list()] == ["A.png"]


def test_each_kind_of_pair_is_asked_for_once(tmp_path: Path) -> None:
    written: list[str] = []

    class Disk(LocalDisk):
        def write(self, path: str, data: bytes) -> None:
            written.append(path)
            super().write(path, data)

    pairs = [*(pair for n in range(100) for pair in [(f"A{n}", f"a{n}"), (f"É{n}", f"é{n}")]), (NFC, NFD)]
    assert pair_folded(Location(str(tmp_path), Disk(), str(tmp_path)), pairs) is None
    assert len(written) == 3
