"""What a table would take of memory is known before it is read, whatever its file says in a few kilobytes."""

import io
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from storage.receipts import parquet
from storage.receipts.parquet import DAMAGED, TooLargeError, check_large, read_parquet, read_table
from storage.receipts.receipts import MANIFEST, Receipts, read_manifest
from storage.receipts.schemas import SAMPLES
from storage.receipts.status import standing
from storage.stores.location import Location, StorageError

MILLIONS = 4_000_000
LONG = "x" * 100_000


def equal(value: Any, rows: int) -> pa.Array:
    """A column of one value, which a file keeps once."""
    places = pa.DictionaryArray.from_arrays(pa.nulls(rows, pa.int32()).fill_null(0), pa.array([value]))
    return places if isinstance(value, str) else places.dictionary_decode()


def file_of(columns: dict[str, Any], **how: Any) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(pa.table(columns), buffer, compression="zstd", **how)
    return buffer.getvalue()


@pytest.fixture(scope="module")
def many_rows() -> bytes:
    """Millions of equal rows, in less than a hundred kilobytes."""
    columns = {"key": "a.png", "status": "ok", "method": "downscale", "protocol": "antialias", "output": "a.png"}
    data = file_of({name: equal(value, MILLIONS) for name, value in columns.items()})
    assert len(data) < 100_000
    return data


@pytest.fixture(scope="module")
def long_texts() -> bytes:
    """A few rows with one long text each, the same one."""
    return file_of({"key": equal(LONG, 100_000), "status": equal("ok", 100_000)})


def of_less(data: bytes) -> bytes:
    """The file with a footer that says of its large column and its group that they unpack to a byte."""
    group = pq.read_metadata(io.BytesIO(data)).row_group(0)
    start = len(data) - 8 - int.from_bytes(data[-8:-4], "little")
    footer = data[start:]
    for size in {group.column(0).total_uncompressed_size, group.total_byte_size}:
        told = varint(size)
        footer = footer.replace(told, b"\x82" + b"\x80" * (len(told) - 2) + b"\x00")
    return data[:start] + footer


@pytest.fixture
def at_most_64_mib() -> Iterator[None]:
    """Fails a test that has Arrow or Python allocate more."""
    pool = pa.default_memory_pool()
    tracemalloc.start()
    before = pool.bytes_allocated()
    yield
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak + max(0, pool.bytes_allocated() - before) < 2**26


@pytest.mark.slow
@pytest.mark.usefixtures("at_most_64_mib")
@pytest.mark.parametrize("name", ["many_rows", "long_texts"])
def test_a_small_file_that_stands_for_gigabytes_is_refused_before_they_are_there(
    name: str, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    (tmp_path / MANIFEST).write_bytes(request.getfixturevalue(name))
    with pytest.raises(TooLargeError, match=r"its [\d,]+ bytes would take [\d,]+ or more of memory"):
        check_large(tmp_path / MANIFEST)
    with pytest.raises(StorageError, match=rf"{MANIFEST}: not a readable Parquet file \(its "):
        read_manifest(Location.of(tmp_path), ["key", "status"])


@pytest.mark.usefixtures("at_most_64_mib")
def test_a_file_that_lies_about_its_size_is_refused() -> None:
    data = file_of({"key": equal(LONG, 100_000)})
    said = varint(pq.read_metadata(io.BytesIO(data)).row_group(0).total_byte_size)
    lying = data.replace(said, b"\x82" + b"\x80" * (len(said) - 2) + b"\x00")
    assert pq.read_metadata(io.BytesIO(lying)).row_group(0).total_byte_size == 1
    with pytest.raises(TooLargeError):
        read_parquet(lying)


def varint(number: int) -> bytes:
    """A number as the metadata of a Parquet file write it: seven bits a byte, the sign last."""
    number, groups = number * 2, []
    while number:
        groups.append(number % 128 + 128)
        number //= 128
    return bytes([*groups[:-1], groups[-1] - 128])


def test_columns_that_nobody_asks_for_are_not_read(tmp_path: Path) -> None:
    rows = 1000
    data = file_of({"key": equal("a", rows), "pixels": equal(LONG, rows), "deep": [[1]] * rows})
    assert read_parquet(data, ["key", "absent"]).column_names == ["key"]
    assert len(read_parquet(data, ["absent"])) == rows
    with pytest.raises(ValueError, match="a column of list"):
        read_parquet(data)


@pytest.mark.parametrize("group", [10, 5000])
@pytest.mark.parametrize("encoding", [None, "PLAIN"])
@pytest.mark.parametrize("rows", [0, 3, 4000])
def test_a_table_is_what_pyarrow_reads(rows: int, encoding: str | None, group: int) -> None:
    texts = [None if place % 7 == 0 else f"{place}é" * (place % 5) for place in range(rows)]
    columns = {"key": pa.array(texts, pa.string()), "again": pa.array(texts, pa.large_string())}
    numbers = {
        "n": pa.array(range(rows), pa.int64()),
        "none": pa.nulls(rows),
        "ok": pa.array([True] * rows, pa.bool_()),
    }
    how = {"use_dictionary": False, "column_encoding": {"key": encoding, "again": encoding}} if encoding else {}
    data = file_of(columns | numbers, row_group_size=group, **how)
    read = read_parquet(data)
    read.validate(full=True)
    assert read.equals(pq.ParquetFile(io.BytesIO(data)).read())


@pytest.mark.slow
def test_receipts_and_plans_that_stand_for_gigabytes_count_as_damaged(many_rows: bytes, tmp_path: Path) -> None:
    receipts, state = Receipts(Location.of(tmp_path), "flow"), tmp_path / ".dtls"
    (state / "receipts/flow").mkdir(parents=True)
    (state / "receipts/flow/a-0.parquet").write_bytes(
        file_of({field.name: equal(0, MILLIONS // 10).cast(field.type) for field in SAMPLES})
    )
    assert list(receipts.made({})) == []
    plan = {name: equal("a", MILLIONS) for name in ("unit", "fingerprint", "key")}
    (state / "plan.parquet").write_bytes(file_of(plan))
    with pytest.raises(StorageError, match="not a readable plan"):
        standing(Location.of(tmp_path), 1, None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", file_of({"key": ["a"]})[:-3], file_of({"key": ["a"]})[:60] + b"\0" * 60]
)
def test_what_is_no_table_is_damaged(data: bytes, tmp_path: Path) -> None:
    with pytest.raises(DAMAGED):
        read_parquet(data)
    (tmp_path / "t").write_bytes(data)
    with pytest.raises(StorageError, match="t: not a readable Parquet file"):
        read_table(Location.of(tmp_path), "t", ["key"])


@pytest.mark.slow
def test_no_damaged_byte_ends_the_process() -> None:
    data = file_of({"key": ["a", "b"], "n": [1, 2]})
    refused = 0
    for place in range(len(data)):
        for change in (1, 39, 55, 69, 86, 128):
            damaged = bytearray(data)
            damaged[place] ^= change
            try:
                read_parquet(bytes(damaged)).validate(full=True)
            except DAMAGED:
                refused += 1
    assert refused > len(data)


def test_a_file_larger_than_any_table_is_refused_unread(tmp_path: Path) -> None:
    with (tmp_path / MANIFEST).open("wb") as file:
        file.truncate(parquet.MANY + 1)
    with pytest.raises(StorageError, match=f"{MANIFEST}: 2,147,483,649 bytes, and such a file has "):
        read_manifest(Location.of(tmp_path))


@pytest.mark.slow
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_a_footer_that_says_less_than_its_pages_is_not_believed(version: str, tmp_path: Path) -> None:
    zeros = pa.array(["\0" * 40_000_000])
    data = of_less(file_of({"key": zeros, "status": ["ok"]}, use_dictionary=False, data_page_version=version))
    assert pq.read_metadata(io.BytesIO(data)).row_group(0).column(0).total_uncompressed_size == 1
    file = tmp_path / "some.parquet"
    file.write_bytes(data)
    with pytest.raises(TooLargeError):
        read_parquet(data)
    with pytest.raises(TooLargeError):
        check_large(file)


@pytest.mark.parametrize(
    "how", [{}, {"compression": "snappy"}, {"write_page_checksum": True}, {"use_dictionary": False}]
)
@pytest.mark.parametrize("version", ["1.0", "2.0"])
def test_pages_are_counted_in_files_of_any_kind(version: str, how: dict[str, Any]) -> None:
    numbers = list(range(2000))
    columns = {
        "key": list(map(str, numbers)),
        "status": [None, "ok"] * 1000,
        "size": numbers,
        "is": [None, True] * 1000,
    }
    buffer = io.BytesIO()
    pq.write_table(
        pa.table(columns), buffer, data_page_version=version, row_group_size=900, data_page_size=500, **how
    )
    assert read_parquet(buffer.getvalue()).to_pydict() == columns


@pytest.mark.parametrize("cut", [4, 6, 9, 20])
def test_pages_that_are_none_are_damage(cut: int, many_rows: bytes) -> None:
    for byte in b"\x00\xff\x19":
        with pytest.raises(DAMAGED):
            read_parquet(many_rows[:cut] + bytes([byte] * 12) + many_rows[cut + 12 :])
