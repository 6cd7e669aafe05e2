"""Thrift's compact protocol: the part that Parquet's footers and page headers need.

https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md
"""

from mmap import mmap
from typing import Any, Final

_TRUE, _FALSE, _BYTE, _I16, _I32, _I64, _DOUBLE = range(1, 8)
_BINARY, _LIST, _SET, _STRUCT = 8, 9, 10, 12
#: Bytes of a value; a boolean is part of its type.
_FIXED: Final = {_TRUE: 0, _FALSE: 0, _BYTE: 1, _DOUBLE: 8}
#: Set in each byte of an integer but the last.
_MORE: Final = 128
#: Maximum depth: a footer holds row groups, which hold columns, which hold facts and statistics.
_DEPTH: Final = 8
#: Maximum bytes of a 64-bit integer.
_VARINT_BYTES: Final = 10
_LIST_ITEMS: Final = 100_000

#: A whole file.
Data = bytes | mmap

#: By field id: (type, value). Texts, bytes and floating-point numbers are left out.
Fields = dict[int, tuple[int, Any]]


class Malformed(ValueError):  # noqa: N818 - callers report it with its text
    """Bytes that are not such a struct."""


def number(fields: Fields, name: int, *, wide: bool = False) -> int:
    """A 32-bit integer, or 64-bit with `wide`. Raises Malformed for others: Arrow would read
    another number."""
    kind, value = fields.get(name, (0, 0))
    bits = 64 if wide else 32
    if kind != (_I64 if wide else _I32) or not 0 <= value < 1 << (bits - 1):
        raise Malformed(f"field {name} is not a valid size")
    return int(value)


def struct(fields: Fields, name: int) -> Fields:
    kind, value = fields.get(name, (0, None))
    if kind != _STRUCT:
        raise Malformed(f"field {name} is missing")
    found: Fields = value
    return found


def structs(fields: Fields, name: int) -> list[Fields]:
    kind, value = fields.get(name, (0, None))
    if kind != _LIST or not all(isinstance(one, dict) for one in value):
        raise Malformed(f"field {name} is missing")
    found: list[Fields] = value
    return found


def read_struct(data: Data, at: int, depth: int = 0) -> tuple[Fields, int]:
    """The struct that begins at `at`, and where it ends. Raises Malformed.

    It runs once for each page of each file that is read; it takes some microseconds.
    """
    fields: Fields = {}
    place = 0
    try:
        while head := data[at]:  # 0 ends it
            at += 1
            kind = head & 15
            if head >> 4:
                place += head >> 4
            else:
                place, at = _whole(data, at)
            if place in fields:
                raise Malformed(f"field {place} occurs twice")
            if kind in (_I32, _I64):
                value, at = (data[at], at + 1) if data[at] < _MORE else _varint(data, at)
                fields[place] = kind, (value >> 1) ^ -(value & 1)
            elif kind in (_STRUCT, _LIST):
                fields[place], at = _nested(data, at, kind, depth)
            else:
                at = _skip(data, at, kind)
                fields[place] = kind, None
    except IndexError:
        raise Malformed("it is cut") from None
    return fields, at + 1


def _nested(data: Data, at: int, kind: int, depth: int) -> tuple[tuple[int, Any], int]:
    if depth == _DEPTH:
        raise Malformed("it is nested too deeply")
    if kind == _STRUCT:
        fields, at = read_struct(data, at, depth + 1)
        return (kind, fields), at
    head, at = data[at], at + 1
    size = head >> 4
    if size == 15:
        size, at = _varint(data, at)
    if size > _LIST_ITEMS:
        raise Malformed("a list is too long")
    items = []
    for _ in range(size):
        if head & 15 == _STRUCT:
            fields, at = read_struct(data, at, depth + 1)
            items.append(fields)
        elif head & 15 in (_TRUE, _FALSE):
            at += 1
        elif head & 15 == _I32:
            at = _varint(data, at)[1]
        else:
            at = _skip(data, at, head & 15)
    return (kind, items if head & 15 == _STRUCT else [None] * size), at


def _whole(data: Data, at: int) -> tuple[int, int]:
    """A zigzag integer."""
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at


def _varint(data: Data, at: int) -> tuple[int, int]:
    value = 0
    for place in range(_VARINT_BYTES):
        byte = data[at + place]
        value |= (byte & 127) << (7 * place)
        if byte < _MORE:
            return value, at + place + 1
    raise Malformed("an endless number")


def _skip(data: Data, at: int, kind: int) -> int:
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in (_I16, _I64):
        return _varint(data, at)[1]
    if kind in _FIXED:
        return at + _FIXED[kind]
    raise Malformed(f"a field of type {kind}")
