"""Every writer's rows have the columns that their table has, and the types that it gives them."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, get_type_hints

import pyarrow as pa
import pytest
from PIL import Image, ImageDraw

from flows.degrade import DegradeOptions, degrade
from flows.downscale import DownscaleOptions, downscale
from flows.report import report
from flows.shard import ShardOptions, shard
from storage.receipts.receipts import Receipts
from storage.receipts.schemas import INVERTED, MASKED_IMAGES, SAMPLES_OF_SHARDS, SampleRow
from storage.receipts.units import Unit
from tests.flows.reporting import images, options

TYPES = {pa.string(): str, pa.int32(): int, pa.int64(): int, pa.float64(): float, pa.binary(): bytes}
NOT_STORED = {"version"}


def test_the_type_of_a_row_is_that_of_the_tables() -> None:
    columns = {field.name: field for schema in (MASKED_IMAGES, INVERTED, SAMPLES_OF_SHARDS) for field in schema}
    hints = get_type_hints(SampleRow)
    assert hints.keys() - NOT_STORED == columns.keys()
    for name, field in columns.items():
        assert hints[name] == (TYPES[field.type] | None if field.nullable else TYPES[field.type]), name


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[tuple[pa.Schema, dict[str, Any]]]:
    """The rows that receipts are written of, each with the schema of its table."""
    rows: list[tuple[pa.Schema, dict[str, Any]]] = []
    write = Receipts.write

    def recorded(self: Receipts, unit: Unit, made: Sequence[dict[str, Any]]) -> None:
        rows.extend((self.schema, row) for row in made)
        write(self, unit, made)

    monkeypatch.setattr(Receipts, "write", recorded)
    return rows


@pytest.mark.parametrize("flow", ["shard", "downscale", "degrade", "report"])
def test_rows_have_no_other_columns_and_no_other_types(
    flow: str, written: list[tuple[pa.Schema, dict[str, Any]]], tmp_path: Path
) -> None:
    images(tmp_path, count=2, side=16)
    (tmp_path / "hr" / "broken.png").write_bytes(b"no image")
    common: dict[str, Any] = {"source": str(tmp_path / "hr"), "target": str(tmp_path / "out"), "max_failed": 1.0}
    if flow == "shard":
        shard.fn(ShardOptions(**common, size=8))
    elif flow == "downscale":
        downscale.fn(DownscaleOptions(**common, scale=2))
    elif flow == "degrade":
        mask = Image.new("L", (16, 16))
        ImageDraw.Draw(mask).rectangle((4, 4, 8, 8), fill=255)
        mask.save(tmp_path / "mask.png")
        degrade.fn(DegradeOptions(**common, task="inpaint", masks=str(tmp_path / "mask.png")))
    else:
        report.fn(options(tmp_path, tmp_path / "out"))
    assert {row["status"] for _, row in written} == {"ok", "failed"}
    for schema, row in written:
        assert row.keys() - NOT_STORED <= {*schema.names}
        for name in row.keys() - NOT_STORED:
            kind = TYPES[schema.field(name).type]
            assert row[name] is None or isinstance(row[name], (int, float) if kind is float else kind), name
            assert row[name] is not None or schema.field(name).nullable
