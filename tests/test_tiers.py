"""Files of tests that are left out before they are imported, and none that has a test which is asked for."""

import subprocess
import sys
from pathlib import Path

import pytest

from tests.tiers import marks_of, may_hold

CONFTEST = """
from tests import tiers

def pytest_configure(config):
    config.pluginmanager.register(tiers)
    for mark in ("slow", "browser"):
        config.addinivalue_line("markers", mark)
"""


@pytest.mark.parametrize(
    ("marks", "wanted", "may"),
    [
        ({"slow"}, "not (slow or browser)", False),
        ({"usefixtures"}, "not (slow or browser)", True),
        (set(), "slow and not browser", True),  # a test of it may be slow
        ({"browser"}, "slow and not browser", False),
        ({"slow"}, "not nightly", True),
        ({"nightly", "slow"}, "not nightly", False),
    ],
)
def test_a_file_may_hold_a_test_unless_its_marks_rule_that_out(marks: set[str], wanted: str, may: bool) -> None:
    assert may_hold(wanted, marks) == may


@pytest.mark.parametrize(
    ("source", "marks"),
    [
        ("pytestmark = pytest.mark.slow", ["slow"]),
        ('pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("warm")]', ["slow", "usefixtures"]),
        ("def test_it():\n    pytestmark = pytest.mark.slow", []),
        ("@pytest.mark.slow\ndef test_it(): ...", []),
    ],
)
def test_the_marks_of_a_file_are_those_of_all_its_tests(source: str, marks: list[str]) -> None:
    assert list(marks_of(source)) == marks


@pytest.mark.slow
def test_a_file_that_is_left_out_is_imported_when_it_is_named(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "test_quick.py").write_text("def test_it(): ...")
    (tmp_path / "test_slow.py").write_text("import pytest, nothing_like_it\npytestmark = pytest.mark.slow")

    def collected(where: Path) -> str:
        command = [sys.executable, "-m", "pytest", "--collect-only", "-qm", "not slow", "-p", "no:cacheprovider"]
        return subprocess.run(
            [*command, "--rootdir", tmp_path, where], capture_output=True, text=True, check=False
        ).stdout

    assert "1 test collected" in collected(tmp_path)
    assert "nothing_like_it" in collected(tmp_path / "test_slow.py")
