"""How large the pages of a Parquet file are once unpacked, by their own headers: its footer may say less.

Of both that much of Thrift's compact protocol is read as says where pages are and how long they are. pyarrow tells
neither: it ends the process that asks about a column of a damaged footer.
"""

from collections.abc import Mapping, Sequence
from typing import Any

STOP, TRUE, FALSE, BYTE, DOUBLE, BINARY, LIST, SET, STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 12
DEEP = 16
"""Structures and lists that are nested, at most."""
TAIL = 8
"""Bytes at the end of a file that say how long its footer is."""
GROUPS, COLUMNS, ABOUT = 4, 1, 3
"""The numbers of fields: of a footer, of a group of rows, of a column."""
PACKED, FIRST, DICTIONARY = 7, 9, 11
"""Of what is said about a column: the size of its pages in the file, and where they begin."""
PAGE_UNPACKED, PAGE_PACKED = 2, 3


def unpacked_size(data: Sequence[int]) -> int:
    """What all pages of a file take once unpacked; ValueError for what is no Parquet file."""
    end = len(data) - TAIL
    start = end - int.from_bytes(bytes(data[end : end + 4]), "little")
    if start < 0 or bytes(data[:4]) != b"PAR1":
        raise ValueError("a footer longer than its file, or another kind of file")
    try:
        groups = _get(_Thrift(data, start).struct(DEEP), GROUPS, list)
        columns = [_get(column, ABOUT, dict) for group in groups for column in _get(group, COLUMNS, list)]
        return sum(_of_column(data, column) for column in columns)
    except IndexError as error:
        raise ValueError("cut off") from error


def _of_column(data: Sequence[int], column: Mapping[int, Any]) -> int:
    place, dictionary = _get(column, FIRST, int), column.get(DICTIONARY)
    if isinstance(dictionary, int) and 0 < dictionary < place:
        place = dictionary
    end = place + _get(column, PACKED, int)
    total = 0
    if place <= 0:  # no pages
        return 0
    while place < end:
        thrift = _Thrift(data, place)
        header = thrift.struct(DEEP)
        unpacked, packed = _get(header, PAGE_UNPACKED, int), _get(header, PAGE_PACKED, int)
        if min(unpacked, packed) < 0:
            raise ValueError("a page of less than nothing")
        place = thrift.place + packed
        total += unpacked
    return total


def _get(fields: Any, number: int, kind: type) -> Any:
    value = fields.get(number) if isinstance(fields, dict) else None
    if not isinstance(value, kind):
        raise ValueError("not the structure of a Parquet file")
    return value


class _Thrift:
    """Values as they follow each other from `place` on: numbers, lists, structures; None for others."""

    def __init__(self, data: Sequence[int], place: int) -> None:
        self.data, self.place = data, place

    def struct(self, deep: int) -> dict[int, Any]:
        """The fields of a structure by their numbers."""
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) & 0x0F != STOP:
            number = number + (head >> 4) if head >> 4 else self._signed()
            kind = head & 0x0F
            if BYTE < kind < DOUBLE:
                fields[number] = self._signed()
            elif kind > FALSE:  # a truth is its kind
                fields[number] = self._value(kind, deep)
        return fields

    def _value(self, kind: int, deep: int) -> Any:
        if BYTE < kind < DOUBLE:
            return self._signed()
        if kind == BINARY:
            return self._pass(self._number())
        if kind in (TRUE, FALSE, BYTE):
            return self._pass(1)
        if kind == DOUBLE:
            return self._pass(8)
        if not deep or kind not in (LIST, SET, STRUCT):
            raise ValueError("a structure that no Parquet file has")
        return self.struct(deep - 1) if kind == STRUCT else self._list(deep - 1)

    def _list(self, deep: int) -> list[Any]:
        head = self._byte()
        length = head >> 4 if head >> 4 < 15 else self._number()
        if self.place + length > len(self.data):
            raise ValueError("a list longer than its file")
        return [self._value(head & 0x0F, deep) for _ in range(length)]

    def _pass(self, length: int) -> None:
        self.place += length

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _number(self) -> int:
        byte = self.data[self.place]
        self.place += 1
        if byte < 0x80:
            return byte
        value, shift = byte & 0x7F, 7
        while (byte := self._byte()) >= 0x80 and shift < 63:
            value |= (byte & 0x7F) << shift
            shift += 7
        return value | byte << shift

    def _signed(self) -> int:
        value = self._number()
        return (value >> 1) ^ -(value & 1)
