"""A place of each kind, as target or as source; a test that wants another has a fixture of that name of its own."""

import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
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


@pytest.fixture(params=["local", "memory", pytest.param("s3", marks=pytest.mark.integration)])
def location(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Location]:
    """An empty place to write to, of every kind."""
    if request.param == "s3":
        yield Location.of(request.getfixturevalue("s3"))
    elif request.param == "memory":
        yield Location.of(f"memory://{uuid.uuid4().hex}/place")
        fsspec.filesystem("memory").store.clear()
    else:
        yield Location.of(tmp_path / "place")
