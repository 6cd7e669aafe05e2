"""Thrift's compact protocol, as much of it as the header of a Parquet page needs.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from mmap import mmap
from typing import Final

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE, _BINARY, _STRUCT = 1, 2, 3, 4, 5, 6, 7, 8, 12
#: Bytes of a value; a boolean is its type.
_FIXED: Final = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8}
#: Set in each byte of a whole number but its last.
_MORE: Final = 128
#: A page's header holds its statistics, and they hold nothing further.
_DEPTH: Final = 3
#: A whole number of 64 bits takes no more.
_VARINT_BYTES: Final = 10

#: A whole file.
Data = bytes | mmap

#: By field id: a number of 32 bits, or a struct. What has another type is skipped, as Arrow does.
Fields = dict[int, "int | Fields"]


class Malformed(ValueError):  # noqa: N818 - it is told on as what it says
    """Bytes that are no such struct."""


def read_struct(data: Data, at: int, depth: int = 0) -> tuple[Fields, int]:
    """The struct that begins at `at`, and where it ends. Raises Malformed.

    It runs once for each page of each file that is read: it takes some microseconds.
    """
    fields: Fields = {}
    number = 0
    try:
        while head := data[at]:  # 0 ends it
            at += 1
            kind = head & 15
            if head >> 4:
                number += head >> 4
            else:
                number, at = _whole(data, at)
            if kind == _I32:
                value, at = (data[at], at + 1) if data[at] < _MORE else _varint(data, at)
                fields[number] = (value >> 1) ^ -(value & 1)
            elif kind == _STRUCT and depth < _DEPTH:
                fields[number], at = read_struct(data, at, depth + 1)
            else:
                at = _skip(data, at, kind)
    except IndexError:
        raise Malformed("it is cut") from None
    return fields, at + 1


def _whole(data: Data, at: int) -> tuple[int, int]:
    """A zigzag number."""
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: Data, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_VARINT_BYTES):
        byte = data[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < _MORE:
            return value, at + place + 1
    raise Malformed("a number without end")


def _skip(data: Data, at: int, kind: int) -> int:
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in (_I16, _I64):
        return _varint(data, at)[1]
    if kind in _FIXED:
        return at + _FIXED[kind]
    raise Malformed(f"a field of type {kind}")
