"""Images whose names a disk takes for one: a run onto such a disk is refused before its first result."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from flows.upscale import UpscaleOptions, upscale
from storage.stores.location import StorageError
from tests.folding import FoldingDisk
from tests.mounts import private_mounts
from tests.services import isolated_environment

ROOT = Path(__file__).parents[2]
NAMES = ("A.png", "a.png", "\u00e9.png", "e\u0301.png")


def filled(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 0, 0)).save(folder / name)
    return folder


def enlarged(source: Path, target: Path, **options: object) -> str:
    settings = {"source": str(source), "target": str(target), "method": "nearest", "scale": 2, **options}
    return upscale.fn(UpscaleOptions.model_validate(settings))


@pytest.fixture
def folding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("storage.stores.location.LocalDisk", FoldingDisk)


@pytest.mark.parametrize(
    ("names", "says"),
    [
        (NAMES, "takes A.png and a.png for one name"),
        (NAMES[2:], r"takes 'e\u0301.png' and '\xe9.png' for one name"),
        (("A/x.png", "a/y.png"), "takes A and a for one name"),
    ],
)
@pytest.mark.parametrize("name", ["large", "large.zip"])
@pytest.mark.usefixtures("folding")
def test_two_results_that_would_be_one_file_are_refused(
    names: tuple[str, ...], says: str, name: str, tmp_path: Path
) -> None:
    target = tmp_path / name
    with pytest.raises(StorageError) as refused:
        enlarged(filled(tmp_path / "source", *names), target)
    assert says in str(refused.value)
    assert not [path for path in tmp_path.rglob("large*/**/*") if path.is_file()]


@pytest.mark.usefixtures("folding")
def test_a_file_that_is_there_in_another_spelling_is_not_replaced(tmp_path: Path) -> None:
    target = filled(tmp_path / "large", "a.png")
    with pytest.raises(StorageError, match=r"large: a\.png is there already, and not made by dtls"):
        enlarged(filled(tmp_path / "source", "A.png"), target)


@pytest.mark.parametrize("name", ["large", "large.zip"])
def test_elsewhere_all_are_made_and_of_an_archive_it_is_told(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = filled(tmp_path / "source", *NAMES), tmp_path / name
    for _ in range(2):
        assert "4" in enlarged(source, target)
        said = "2 names like another but for letter case or Unicode form, such as A.png and a.png: systems whose"
        assert (said in " ".join(capsys.readouterr().err.split())) == (name == "large.zip")


SCRIPT = """
set -u
mkfs.ext4 -q -O casefold "$1/disk" 16M && mkdir "$1/mount" && mount -o loop "$1/disk" "$1/mount" || exit 99
mkdir "$1/mount/large" && chattr +F "$1/mount/large" || exit 99
shift; "$@"
"""


def test_a_disk_that_folds_names_is_asked(tmp_path: Path) -> None:
    if not shutil.which("mkfs.ext4"):
        pytest.skip("needs mkfs.ext4: install Debian's e2fsprogs")
    source, target = filled(tmp_path / "source", *NAMES), tmp_path / "mount" / "large"
    command = [
        sys.executable,
        "-m",
        "flows",
        "upscale",
        str(source),
        str(target),
        "--method",
        "nearest",
        "--scale",
        "2",
    ]
    script = [*private_mounts(), "sh", "-c", SCRIPT, "sh", str(tmp_path), *command]
    run = subprocess.run(script, cwd=ROOT, env=isolated_environment(), capture_output=True, text=True, timeout=120)
    if run.returncode == 99:
        pytest.skip("needs a kernel with casefold (CONFIG_UNICODE), and loop mounts: root")
    assert run.returncode == 1
    assert f"dtls: {target}: takes A.png and a.png for one name" in run.stderr
