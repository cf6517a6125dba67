"""The guide names every architecture of the installed spandrel, under the tasks that its loader knows."""

import inspect
import re
import sys
from pathlib import Path

import pytest

from dtls.compat import allow_torchvision_import
from dtls.inference.spandrel import FOURIER
from tests.dtls.inference.test_spandrel_restoration import RESTORERS

GUIDE = Path(__file__).parents[3] / "docs" / "guides" / "other-models.md"
UPSCALE, RESTORE = "`dtls upscale`", "`dtls restore`"
ROW = re.compile(r"\| ([^|]+) \| (`dtls \w+`|refused) \| ([^|]+) \|")


@pytest.fixture(scope="module")
def architectures() -> dict[str, str]:
    """By the architecture: the source text of its loader."""
    allow_torchvision_import()
    from spandrel import MAIN_REGISTRY

    known = [support.architecture for support in MAIN_REGISTRY.architectures()]
    return {one.id: inspect.getsource(sys.modules[type(one).__module__]) for one in known}


def listed(command: str) -> set[str]:
    """The architectures in the rows of a command, without their marks."""
    found = [names for _, of, names in ROW.findall(GUIDE.read_text()) if of == command and "any " not in names]
    return {name.strip("† ") for names in found for name in names.partition(":")[0].split(",")}


def test_the_guide_names_all_architectures_and_no_others(architectures: dict[str, str]) -> None:
    assert listed(UPSCALE) | listed(RESTORE) | listed("refused") == set(architectures)


def test_the_guide_has_them_under_what_they_are_loaded_as(architectures: dict[str, str]) -> None:
    purposes = {name: set(re.findall(r"purpose=(.*),\n", source)) for name, source in architectures.items()}
    assert listed("refused") == {name for name, found in purposes.items() if found == {'"FaceSR"'}}
    assert listed(UPSCALE) == {name for name, found in purposes.items() if '"SR"' in "".join(found)}
    alone = {name for name, found in purposes.items() if found <= {'"Restoration"', '"Inpainting"'}}
    assert alone <= listed(RESTORE)
    never = {name for name, found in purposes.items() if found == {'"SR"'}}
    assert f"but {', '.join(sorted(never)[:-1])} and {max(never)}" in GUIDE.read_text()
    assert alone - {"LaMa"} <= RESTORERS.keys(), "each is built and run in a test"


def test_the_guide_marks_those_that_see_the_whole_image(architectures: dict[str, str]) -> None:
    whole = {name for name, source in architectures.items() if "ModelTiling.DISCOURAGED" in source}
    assert set(re.findall(r"(\w+)†", GUIDE.read_text())) == whole


def test_those_that_transform_by_fourier_are_known(architectures: dict[str, str]) -> None:
    import spandrel

    folder = Path(spandrel.__file__).parent / "architectures"
    parts = {name: "".join(file.read_text() for file in folder.glob(f"{name}/**/*.py")) for name in architectures}
    assert {name for name, source in parts.items() if "torch.fft." in source} == set(FOURIER)
