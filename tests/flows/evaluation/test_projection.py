"""A report says what projecting changed, of a method that it has with it and without, and of no others."""

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from flows.downscale import DownscaleOptions, downscale
from flows.upscale import UpscaleOptions, upscale
from tests.flows.reporting import images, made

SENTENCE = re.compile(
    r"What projecting the results of (\S+) changed \((\S+)\), in the mean of 3 images: "
    r"PSNR \+(\d\.\d\d) dB \(better\), (SSIM .*, )?Consistency -(\d\.\d\de-0\d) \(better\)\."
)


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """HR, LR and results of bicubic and lanczos, without and with projecting."""
    folder = images(tmp_path_factory.mktemp("results"), count=3)
    shutil.rmtree(folder / "lr")
    downscale.fn(DownscaleOptions(source=f"{folder}/hr", target=f"{folder}/lr", scale=4, protocol="antialias"))
    common: dict[str, Any] = {"source": f"{folder}/lr", "scale": 4}
    for method in ("bicubic", "lanczos"):
        upscale.fn(UpscaleOptions(target=f"{folder}/{method}", method=method, **common))
    upscale.fn(UpscaleOptions(target=f"{folder}/projected", method="bicubic", project=True, **common))
    upscale.fn(UpscaleOptions(target=f"{folder}/packed.zip", method="bicubic", project=True, **common))
    return folder


def notes(results: Path, out: Path, **sr: str) -> list[str]:
    """The notes of a report of these results that say what projecting changed."""
    summary = made(results, out, protocol=None, sr={name: f"{results}/{at}" for name, at in sr.items()})
    return [note for note in summary["notes"] if "rojecting" in note]


@pytest.mark.slow
@pytest.mark.parametrize("projected", ["projected", "packed.zip"])
def test_a_method_and_its_projected_twin_are_compared(results: Path, tmp_path: Path, projected: str) -> None:
    (note,) = notes(results, tmp_path / "out", plain="bicubic", other="lanczos", moved=projected)
    found = SENTENCE.fullmatch(note)
    assert found is not None, note
    assert found[1] == "plain"
    assert found[2] == "moved"


@pytest.mark.slow
def test_results_that_are_otherwise_unlike_or_both_alike_are_not(results: Path, tmp_path: Path) -> None:
    assert not notes(results, tmp_path / "others", other="lanczos", moved="projected")
    assert not notes(results, tmp_path / "both", moved="projected", packed="packed.zip")
    assert not notes(results, tmp_path / "foreign", theirs="good", moved="projected")
