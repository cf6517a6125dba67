"""`python -m flows.automation`: one line says what is wrong. What it does is tested where runs are operated."""

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, temporary_settings

from flows.automation import main
from tests.services import free_ports

Capture = pytest.CaptureFixture[str]
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("text", "said", "code"),
    [
        (None, "usage: python -m flows.automation FILE.yaml", 2),
        ("", "automation.yaml: no automation: ", 1),
        ("name: [", "automation.yaml: no automation: ", 1),
        ("name: zombies", "automation.yaml: no automation: trigger: Field required", 1),
        ("A=hunter2\nB: hunter2: c", "automation.yaml: no automation: not YAML, by line 2", 1),
        ("name: {a: hunter2}\ntrigger: hunter2", "automation.yaml: no automation: name: ", 1),
        ((ROOT / "deploy" / "zombies.yaml").read_text(), "Prefect's server: ", 1),
    ],
)
def test_what_is_wrong_is_one_line(
    text: str | None, said: str, code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Capture
) -> None:
    file = tmp_path / "automation.yaml"
    if text is not None:
        file.write_text(text)
    monkeypatch.setattr("sys.argv", ["automation", *([str(file)] if text is not None else [])])
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{free_ports()}/api"}):
        assert main() == code
    out, err = capsys.readouterr()
    (line,) = err.splitlines()
    assert said in line
    assert "hunter2" not in line
    assert out == ""


def test_a_file_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, capsys: Capture) -> None:
    monkeypatch.setattr("sys.argv", ["automation", "nowhere.yaml"])
    assert main() == 1
    assert capsys.readouterr().err == "nowhere.yaml: No such file or directory\n"
