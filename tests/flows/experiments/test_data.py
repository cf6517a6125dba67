"""What is learned and what is tested: a test set, or a part of the source that no training sees."""

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from flows.experiments.data import Data
from flows.experiments.paper_tables import PAPER_TABLES
from flows.reproduce import ReproduceOptions, reproduce
from storage.archives.source import open_source
from storage.shards.ffhq import by_hash
from storage.stores.location import StorageError

TINY: dict[str, Any] = {"size": 32, "steps": 2, "device": "cpu", "workers": 2}


@pytest.fixture
def tissue(tmp_path: Path) -> Path:
    """Twelve tiles in two classes, all different."""
    root = tmp_path / "tissue"
    for number in range(12):
        place = root / ("stroma" if number % 2 else "mucus") / f"{number:02}.png"
        place.parent.mkdir(parents=True, exist_ok=True)
        Image.linear_gradient("L").resize((32, 32)).rotate(25 * number).convert("RGB").save(place)
    return root


def held_out_of(root: Path) -> set[str]:
    keys = (path.relative_to(root).as_posix() for path in root.rglob("*.png"))
    return {key for key in keys if by_hash(key, 0.2) == "validation"}


def test_without_a_test_set_a_part_of_every_class_is_held_out_of_training(
    tissue: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bicubic = tuple(row for row in PAPER_TABLES["5.11"].rows if row.label == "bicubic")
    monkeypatch.setitem(PAPER_TABLES, "5.11", replace(PAPER_TABLES["5.11"], rows=bicubic))
    out, tested = tmp_path / "out", held_out_of(tissue)
    table = Path(reproduce.fn(ReproduceOptions(table="5.11", source=str(tissue), out=str(out), **TINY))).read_text()
    assert 0 < len(tested) < 6
    learned = {entry.key for entry in open_source(str(out / "shards-32")).list() if "train" in entry.key}
    assert len(learned) == 12 - len(tested)
    assert {path.relative_to(out / "hr-32").as_posix() for path in (out / "hr-32").rglob("*.png")} == tested
    assert f"trained on {12 - len(tested)} images of {tissue}" in table
    assert f"tested on {len(tested)} image" in table
    assert "of it, held out" in table


def test_what_is_held_out_must_not_be_learned_under_another_name(tissue: Path) -> None:
    key = sorted(held_out_of(tissue))[0]
    copies = (tissue / "stroma" / f"copy-{number}.png" for number in range(100))
    copy = next(path for path in copies if by_hash(path.relative_to(tissue).as_posix(), 0.2) == "train")
    shutil.copy(tissue / key, copy)
    with pytest.raises(StorageError, match=f"1 image of .* too, such as {key}: a model is not tested on"):
        Data(str(tissue), None).check_learned()


def test_models_of_a_part_of_the_source_are_others_and_too_small_a_source_is_refused(
    tissue: Path, tmp_path: Path
) -> None:
    assert Data(str(tissue), None).name != Data(str(tissue), str(tmp_path)).name == str(tissue)
    for path in [
        path for path in tissue.rglob("*.png") if path.relative_to(tissue).as_posix() in held_out_of(tissue)
    ]:
        path.unlink()
    with pytest.raises(StorageError, match="too few images to hold some out; give a test set"):
        Data(str(tissue), None).held_out()
