"""A target of each kind of place; a test that wants another has a fixture of that name of its own."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from storage.stores.location import Location


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.integration)])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    if request.param == "s3":
        yield Location.of(request.getfixturevalue("s3")) / "target"
        return
    where = Location.of(tmp_path / "target" if request.param == "local" else f"memory://{tmp_path.name}")
    yield where
    for entry in where.list():
        where.delete(entry.key)
