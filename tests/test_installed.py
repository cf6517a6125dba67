"""A wheel, installed: what dtls does without a checkout, and without its extras."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
from pathlib import Path

import pytest
from PIL import Image

from flows.interface.extras import EXTRAS

ROOT = Path(__file__).parents[1]
BUILT = ("dtls", "storage", "reports", "flows", "pyproject.toml", "README.md", "LICENSE")
WITHOUT_EXTRAS = """
import sys

class Missing:
    def find_spec(name, path=None, target=None):
        if name.partition(".")[0] in {modules}:
            raise ModuleNotFoundError("No module named " + repr(name), name=name)

sys.meta_path.insert(0, Missing)
"""
LATER = ("3.12", "3.13")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of an environment with the wheel, with what it depends on, and with no extra."""
    folder = tmp_path_factory.mktemp("installed")
    for name in BUILT:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / "checkout" / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / "checkout" / name)
    uv = [str(Path(sys.executable).with_name("uv")), "--quiet", "--offline"]
    build = ["build", "--wheel", "--no-build-isolation", "--python", sys.executable, "--out-dir", str(folder)]
    run([*uv, *build, str(folder / "checkout")], folder)
    venv.create(folder / "venv", symlinks=True)
    packages = next((folder / "venv" / "lib").glob("python*/site-packages"))
    (packages / "linked.pth").write_text(sysconfig.get_path("purelib"))
    (packages / "sitecustomize.py").write_text(WITHOUT_EXTRAS.format(modules=sum(EXTRAS.values(), ())))
    programs = folder / "venv" / "bin"
    wheel = str(next(folder.glob("*.whl")))
    run([*uv, "pip", "install", "--no-deps", "--python", str(programs / "python"), wheel], folder)
    shutil.rmtree(folder / "checkout")
    return programs


def run(command: list[str], cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, check=False, timeout=300)


@pytest.mark.slow
def test_the_installed_core_upscales_and_reports_from_any_folder(
    installed: Path, photographs: Path, tmp_path: Path
) -> None:
    (tmp_path / "flows").mkdir()
    (tmp_path / "flows" / "__init__.py").write_text("raise SystemExit('the wrong flows')")
    (tmp_path / "hr").mkdir()
    (tmp_path / "lr").mkdir()
    with Image.open(photographs / "00000" / "00000.png") as photo:
        photo.save(tmp_path / "hr" / "one.png")
        photo.resize((photo.width // 4, photo.height // 4)).save(tmp_path / "lr" / "one.png")
    for words in (
        ["upscale", "lr", "sr", "--scale", "4"],
        ["report", "--hr", "hr", "--lr", "lr", "--sr", "ours=sr", "--out", "report", "--lpips", "none"],
    ):
        ended = run([str(installed / "dtls"), *words], tmp_path)
        assert ended.returncode == 0, ended.stderr
    assert Image.open(tmp_path / "sr" / "one.png").size == Image.open(tmp_path / "hr" / "one.png").size
    assert "Super-resolution" in (tmp_path / "report" / "index.html").read_text()
    lacking = run([str(installed / "dtls"), "demo"], tmp_path)
    assert lacking.returncode == 1
    assert lacking.stderr.endswith(" needs the extra demo: pip install 'dtls[demo]'\n")
    declared = run(
        [str(installed / "python"), "-P", "-c", "import flows.deploy; print(flows.deploy.DECLARED)"], tmp_path
    )
    assert Path(declared.stdout.strip()).is_file()


@pytest.mark.slow
@pytest.mark.parametrize("version", LATER)
def test_later_versions_of_python_compile_all_modules(version: str, tmp_path: Path) -> None:
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    known = [shutil.which(f"python{version}"), *pyenv.glob(f"versions/{version}*/bin/python")]
    working = [path for path in map(str, filter(None, known)) if not run([path, "--version"], tmp_path).returncode]
    if not working:
        pytest.skip(f"no Python {version}")
    rooms = [str(ROOT / room) for room in BUILT[:4]]
    check = "import ast, pathlib, sys; [compile(p.read_text(), p, 'exec') for d in sys.argv[1:] "
    check += "for p in pathlib.Path(d).rglob('*.py')]"
    ended = run([working[0], "-W", "error", "-c", check, *rooms], tmp_path)
    assert ended.returncode == 0, ended.stderr
