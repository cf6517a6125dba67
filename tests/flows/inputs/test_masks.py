"""Which file is the mask of an image: one for all, or that of its own name."""

from pathlib import Path

import pytest
from PIL import Image

from flows.inputs.contents import reason_of_refusal
from flows.inputs.masks import Masks, with_masks
from flows.inputs.options import SourceOptions
from storage.stores.entry import Entry


def masks(folder: Path, *names: str) -> Masks:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("1", (2, 2)).save(path)
    return Masks.at(str(folder if len(names) > 1 else folder / names[0]), SourceOptions())


def test_an_image_has_the_mask_of_its_name_whatever_the_ending_and_the_form(tmp_path: Path) -> None:
    there = masks(tmp_path, "a.png", "sub/a.png", "sub/é.png")
    assert there.of("a.jpg").key == "a.png"
    assert there.of("sub/a.webp").key == "sub/a.png"
    assert there.of("sub/e\N{COMBINING ACUTE ACCENT}.png").key == "sub/é.png"


def test_of_two_masks_the_one_with_the_same_ending_counts_or_none(tmp_path: Path) -> None:
    there = masks(tmp_path, "a.png", "a.bmp")
    assert there.of("a.bmp").key == "a.bmp"
    assert "has several masks for it, a.bmp and a.png; leave one" in reason_of_refusal(there.of("a.jpg"))


def test_an_image_without_a_mask_is_told_which_name_it_would_have(tmp_path: Path) -> None:
    there = masks(tmp_path, "a.png", "b.png")
    assert "has no mask for it; sub/a.png would be one" in reason_of_refusal(there.of("sub/a.jpg"))


def test_one_file_is_the_mask_of_all(tmp_path: Path) -> None:
    there = masks(tmp_path, "hole.png")
    assert {there.of(key).key for key in ("a.jpg", "sub/b.png")} == {"hole.png"}


def test_a_sample_changes_with_its_image_and_with_its_mask(tmp_path: Path) -> None:
    there, image = masks(tmp_path, "a.png", "b.png"), Entry("a.jpg", 10, "tag", changed=5)
    (sample,) = with_masks([image], there)
    assert (sample.key, sample.parts) == ("a.jpg", (image, there.of("a.jpg")))
    assert sample.changed == max(5, there.of("a.jpg").changed)
    Image.new("1", (9, 9)).save(tmp_path / "a.png")
    (other,) = with_masks([image], Masks.at(str(tmp_path), SourceOptions()))
    assert other.etag != sample.etag


def test_masks_of_no_image_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    masks(tmp_path, "a.png", "b.png", "c.png").log_unused([Entry("a.jpg", 1, "")])
    assert "left out: 2 masks that no image uses, such as b.png" in capsys.readouterr().err
