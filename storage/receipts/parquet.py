"""Tables in Parquet files that may be anybody's: what one would take of memory is known before it is read.

In such a file a value that a million rows share is kept once, and a few kilobytes may stand for gigabytes. Texts stay
as they are kept, by their place in a dictionary, until it is known how long all of them are together.
"""

import io
import mmap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from storage.receipts.parquet_pages import unpacked_size
from storage.stores.location import Location, StorageError

DAMAGED = (OSError, ValueError, KeyError, pa.ArrowException)
"""What is raised for bytes that are no whole Parquet file, not of the schema, or far more than they look."""
FLOOR, RATIO = 16 * 2**20, 300
"""A table may take so many bytes of memory, or so many times the size of its file: honest ones stay below 100."""
CELL = 8
"""Bytes that a value takes at least, beside its text."""
ROWS = 16_384
MANY = 2**31
"""Bytes of the largest file that is read."""


class TooLargeError(ValueError):
    """A table that takes far more memory than its file would let one think."""


def read_parquet(data: bytes, columns: Sequence[str] | None = None) -> pa.Table:
    """The table in a Parquet file, or those of `columns` that it has of single values; DAMAGED where it is none.

    By the calling thread alone: pyarrow's own threads may abort a process that ends soon after (apache/arrow #34314).
    """
    return _File(io.BytesIO(data), len(data), columns).read()


def read_table(place: Location, key: str, columns: Sequence[str] | None) -> pa.Table | None:
    """The table at `key`, or those of `columns` that it has; None where nothing is there.

    StorageError, with the address, for what is no readable Parquet file.
    """
    data = place.read_if_there(key, most=MANY)
    if data is None:
        return None
    try:
        table = read_parquet(data, columns)
        table.validate(full=True)
        return table
    except DAMAGED as error:
        reason = " ".join(str(error).split())
        raise StorageError(f"{place.address(key)}: not a readable Parquet file ({reason})") from error


def batches_of(path: Path) -> Iterator[pa.RecordBatch]:
    """The rows of a Parquet file, some at a time; DAMAGED where it is none, or stands for far more than it looks."""
    yield from _File(path, path.stat().st_size, None).batches()


def check_large(path: Path) -> None:
    """TooLargeError for a file that stands for far more than it looks, another of DAMAGED for none of tables."""
    _File(path, path.stat().st_size, None).read()


class _File:
    """An open file, and those of its columns that are wanted; ValueError where they cannot be what it says."""

    def __init__(self, source: io.BytesIO | Path, size: int, columns: Sequence[str] | None) -> None:
        self.source, self.size = source, size
        self.known = pq.read_metadata(source)
        schema = self.known.schema.to_arrow_schema()
        self.wanted = _wanted(schema, columns)
        self.schema = pa.schema([_plain(schema.field(name)) for name in self.wanted], schema.metadata)
        _check_more(max(self._kept(), self.known.num_rows * max(1, len(self.wanted)) * CELL), size)

    def _kept(self) -> int:
        """Bytes of all columns before they are compressed: what the footer says, or the pages, if that is more.

        Not of the wanted ones: where a file is damaged, pyarrow ends the process that asks about one of its columns.
        """
        groups = map(self.known.row_group, range(self.known.num_row_groups))
        told = sum(group.total_byte_size for group in groups)
        if isinstance(self.source, io.BytesIO):
            return max(told, unpacked_size(self.source.getvalue()))
        with (
            self.source.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            return max(told, unpacked_size(data))

    def read(self) -> pa.Table:
        """The table; TooLargeError as soon as it takes too much."""
        if not self.wanted:
            return pq.ParquetFile(self.source, metadata=self.known).read([])
        return pa.Table.from_batches(self.batches(), self.schema)

    def batches(self) -> Iterator[pa.RecordBatch]:
        """The rows, some at a time; TooLargeError as soon as all of them take too much."""
        texts = [field.name for field in self.schema if _is_text(field.type)]
        if isinstance(self.source, io.BytesIO):
            self.source.seek(0)
        file = pq.ParquetFile(self.source, metadata=self.known, read_dictionary=texts)
        return (batch.cast(self.schema) for batch in self._batches(file))

    def _batches(self, file: pq.ParquetFile) -> Iterator[pa.RecordBatch]:
        taken = 0
        for batch in file.iter_batches(ROWS, columns=self.wanted, use_threads=False):
            taken += sum(map(_bytes_of, batch.columns))
            _check_more(taken, self.size)
            yield batch


def _wanted(schema: pa.Schema, columns: Sequence[str] | None) -> list[str]:
    """The columns to read; ValueError where two have one name, or where all are wanted and some are of lists."""
    single = {field.name for field in schema if _is_single(_plain(field).type)}
    if columns is None and (other := next((field for field in schema if field.name not in single), None)):
        raise ValueError(f"a column of {other.type}")
    wanted = [name for name in schema.names if columns is None or (name in columns and name in single)]
    if len(set(wanted)) < len(wanted):
        raise ValueError("two columns of one name")
    return wanted


def _is_single(kind: pa.DataType) -> bool:
    """Whether a column holds a value a row, whose size is known."""
    return _is_text(kind) or bool(pa.types.is_primitive(kind) or pa.types.is_null(kind))


def _plain(field: pa.Field) -> pa.Field:
    """A column as its values are, where they come by their place in a dictionary."""
    return field.with_type(field.type.value_type) if pa.types.is_dictionary(field.type) else field


def _is_text(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_binary(kind))


def _bytes_of(column: pa.Array) -> int:
    """What a column takes without a dictionary."""
    if not pa.types.is_dictionary(column.type):
        return int(column.nbytes)
    lengths = pc.take(pc.binary_length(column.dictionary), column.indices)
    return int(pc.sum(lengths, min_count=0).as_py()) + CELL * len(column)


def _check_more(taken: int, size: int) -> None:
    if taken > max(FLOOR, RATIO * size):
        raise TooLargeError(f"its {size:,} bytes would take {taken:,} or more of memory")
