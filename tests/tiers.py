"""What makes collecting tests cheap: files of which `-m` leaves out whatever is in them are not even imported.

A file says so itself: of `pytestmark = [pytest.mark.integration, pytest.mark.slow]` the fast tests have none.
"""

import ast
import atexit
import gc
import re
from collections.abc import Iterator
from itertools import product
from pathlib import Path

import pytest
from _pytest.mark.expression import Expression


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore a file that nobody named unless a test with its marks, and any others, may be asked for."""
    wanted, named = config.getoption("markexpr"), {Path(name.partition("::")[0]).resolve() for name in config.args}
    if not wanted or collection_path.suffix != ".py" or collection_path in named:
        return None
    return None if may_hold(wanted, set(marks_of(collection_path.read_text()))) else True


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """Look for no garbage among what is imported, neither now nor later: this takes a quarter of the collection."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()
        atexit.register(gc.unfreeze)  # at the end, duckdb would complain of what is not taken apart


def may_hold(wanted: str, marks: set[str]) -> bool:
    """Whether the expression holds for some test that has these marks at least."""
    expression = Expression.compile(wanted)
    others = sorted(set(re.findall(r"\w+", wanted)) - marks - {"and", "or", "not"})
    for has in product((False, True), repeat=len(others)):
        names = marks | {other for other, it_has in zip(others, has, strict=True) if it_has}
        if expression.evaluate(lambda name, /, names=names, **_: name in names):
            return True
    return False


def marks_of(source: str) -> Iterator[str]:
    """The marks of all tests in a module with this source."""
    if "pytestmark" not in source:
        return
    for statement in ast.parse(source).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == "pytestmark":
            yield from re.findall(r"pytest\.mark\.(\w+)", ast.unparse(statement.value))
