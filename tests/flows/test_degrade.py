"""Degraded images, as runs: each by its own pixels, with what it carries, and a manifest that says by what."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from flows.degrade import DegradeOptions, degrade
from flows.inputs.compatibility import protocols
from storage.images.photo import open_photo


@pytest.fixture
def source(tmp_path: Path, photographs: Path) -> Path:
    """A photograph of 8 bits, one of 16, a grey one, and one that is transparent in places."""
    folder = tmp_path / "source"
    folder.mkdir()
    with Image.open(sorted(photographs.rglob("*.png"))[0]) as photograph:
        small = photograph.convert("RGB").resize((24, 20))
    small.save(folder / "plain.png")
    small.convert("L").save(folder / "grey.png")
    small.putalpha(Image.linear_gradient("L").resize((24, 20)))
    small.save(folder / "clear.png")
    Image.fromarray(np.asarray(small.convert("L")).astype(np.uint16) * 257).save(folder / "deep.png")
    return folder


def degraded(source: Path, target: Path, task: str, **options: Any) -> str:
    given = {"source": str(source), "target": str(target), "task": task, **options}
    return degrade.fn(DegradeOptions.model_validate(given))


def pixels(path: Path) -> tuple[NDArray[Any], NDArray[Any] | None]:
    found = open_photo(path.read_bytes())
    return found.pixels, found.alpha


@pytest.mark.parametrize(
    ("task", "protocol"),
    [
        ("deblur:2", "blur:2"),
        ("denoise:25/255", "noise:0.0980392"),
        ("lowlight:0.25", "dark:0.25"),
        ("deblur:1+denoise:0.05", "blur:1+noise:0.05"),
    ],
)
def test_images_keep_their_kind_and_the_manifest_says_what_was_done(
    task: str, protocol: str, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "degraded"
    assert degraded(source, target, task) == "4 done"
    assert degraded(source, target, task) == "4 already done"
    for path in source.iterdir():
        (before, alpha), (after, other) = pixels(path), pixels(target / path.name)
        assert (after.shape, after.dtype) == (before.shape, before.dtype)
        assert not np.array_equal(before, after)
        assert (alpha is None) == (other is None)
        assert alpha is None or other is None or np.array_equal(alpha, other)
    manifest = pd.read_parquet(target / "manifest.parquet")
    assert set(manifest.protocol) == {protocol}
    assert set(manifest.method) == {"degrade-" + re.sub(r":[\d.]+", "", protocol)}
    assert protocols(str(target), "degrade") == {protocol}


def test_colour_fades_to_one_channel_of_luma(source: Path, tmp_path: Path) -> None:
    degraded(source, tmp_path / "grey", "colourise")
    for path in source.iterdir():
        before, after = pixels(path)[0], pixels(tmp_path / "grey" / path.name)[0]
        assert (after.shape[2], after.dtype) == (1, before.dtype)
        luma = before @ np.array([0.299, 0.587, 0.114]) if before.shape[2] == 3 else before[..., 0]
        assert abs(after[..., 0] - luma).max() <= 0.5 + 1e-3


@pytest.mark.parametrize("strength", [0.5, 1])
def test_what_comes_before_the_loss_of_colours_is_done_to_grey_images_too(
    strength: float, source: Path, tmp_path: Path
) -> None:
    degraded(source, tmp_path / "both", "lowlight:0.25+colourise", strength=strength)
    degraded(source, tmp_path / "dark", "lowlight:0.25", strength=strength)
    for name in ("grey.png", "deep.png"):
        before, dark, both = (pixels(folder / name)[0] for folder in (source, tmp_path / "dark", tmp_path / "both"))
        assert not np.array_equal(dark, before)
        assert both.dtype == before.dtype
        assert abs(both.astype(int) - dark).max() <= 1


def test_holes_are_transparent_and_black_and_all_else_stays_bit_by_bit(source: Path, tmp_path: Path) -> None:
    degraded(source, tmp_path / "holes", "inpaint")
    for path in source.iterdir():
        (before, alpha), (after, other) = pixels(path), pixels(tmp_path / "holes" / path.name)
        assert other is not None
        hole = (other == 0) & ((alpha if alpha is not None else 1) > 0)
        assert 0.1 < hole.mean() < 0.9
        assert not after[hole].any()
        assert np.array_equal(after[~hole], before[~hole])
        assert alpha is None or np.array_equal(other[~hole], alpha[~hole])


def test_masks_say_where_the_holes_are(source: Path, tmp_path: Path) -> None:
    hole = np.zeros((20, 24), np.uint8)
    hole[3:9, 5:20] = 255
    Image.fromarray(hole).save(tmp_path / "mask.png")
    degraded(source, tmp_path / "holes", "inpaint", masks=str(tmp_path / "mask.png"))
    alpha = pixels(tmp_path / "holes" / "plain.png")[1]
    assert alpha is not None
    assert np.array_equal(alpha == 0, hole > 0)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["denoise:0.1", "inpaint"])
def test_what_is_drawn_depends_on_the_seed_and_on_the_image_alone(task: str, source: Path, tmp_path: Path) -> None:
    first, again, other, alone = (tmp_path / name for name in ("first", "again", "other", "alone"))
    degraded(source, first, task)
    degraded(source, again, task, workers=1, in_flight=1)
    degraded(source, other, task, seed=1)
    degraded(source, alone, task, include=["plain.png"])
    for path in source.iterdir():
        assert (first / path.name).read_bytes() == (again / path.name).read_bytes()
        assert (first / path.name).read_bytes() != (other / path.name).read_bytes()
    assert (first / "plain.png").read_bytes() == (alone / "plain.png").read_bytes()


def test_half_the_strength_is_less_and_is_told(source: Path, tmp_path: Path) -> None:
    for strength in (0.25, 1):
        degraded(source, tmp_path / str(strength), "lowlight:0.25", strength=strength)
    full, part = (pixels(tmp_path / str(strength) / "plain.png")[0].mean() for strength in (1, 0.25))
    assert full < part < pixels(source / "plain.png")[0].mean()
    assert protocols(str(tmp_path / "0.25"), "degrade") == {"dark:0.25*0.25"}


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"task": "sr:4"}, "sr:4 changes the size of images: use dtls upscale --scale 4"),
        ({"task": "debur:2"}, "did you mean 'deblur'?"),
        (
            {"task": "sharpen"},
            r"no task is called 'sharpen'; there are colourise, inpaint, deblur:2, low",
        ),
        ({"task": "deblur:1+sr:4"}, "sr:4 changes the size of images: use dtls upscale --scale 4"),
        ({"task": "deblur:2+deblur:2"}, "each degradation can be part of a sum once"),
        ({"task": "deblur:2", "masks": "m"}, "--masks goes with --task inpaint"),
        ({"task": "deblur:2", "seed": 1}, "draws nothing"),
        ({"task": "inpaint", "strength": 0.5}, "--strength is not for inpaint"),
    ],
)
def test_options_that_change_nothing_are_refused(options: dict[str, Any], says: str) -> None:
    with pytest.raises(ValidationError, match=says):
        DegradeOptions.model_validate({"source": "a", "target": "b", **options})
