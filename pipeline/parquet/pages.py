"""The pages of a column chunk, by their headers; no page is unpacked.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Iterator
from typing import Final, NamedTuple, cast

from pipeline.parquet.thrift import Data, Fields, Malformed, read_struct

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
#: Where each kind of page has its own struct, and within that its values and its encoding.
_OWN: Final = {_DATA: (5, 1, 2), _DICTIONARY: (7, 1, 2), _DATA_V2: (8, 1, 4)}

#: Of 32 bits; a number outside would be another one to Arrow.
_MOST: Final = 2**31

#: Of what is encoded so, a few bytes become many: each value may be the one before, and a little.
PREFIXED: Final = 7
#: Values that are indices into the chunk's dictionary.
INDICES: Final = frozenset({2, 8})
_KNOWN: Final = frozenset({0, 2, 3, 4, 5, 6, PREFIXED, 8, 9})


class Page(NamedTuple):
    """`start` and `packed` are where its bytes lie, `unpacked` how many they become."""

    is_dictionary: bool
    values: int
    encoding: int
    start: int
    packed: int
    unpacked: int


def pages_of(data: Data, start: int, size: int, values: int) -> Iterator[Page]:
    """The pages of one column chunk: `size` bytes from `start` on, with so many `values`.

    Raises Malformed where Arrow could take them for anything else.
    """
    end = start + size
    if not 0 <= start <= end <= len(data):
        raise Malformed("a column lies outside of the file")
    seen, at = 0, start
    while seen < values:
        page = _page(data, at, end)
        if page.is_dictionary and at != start:
            raise Malformed("a dictionary that is not first")
        seen += 0 if page.is_dictionary else page.values
        at = page.start + page.packed
        yield page
    if seen != values:
        raise Malformed("its pages hold more values than it says")


def _page(data: Data, start: int, end: int) -> Page:
    header, at = read_struct(data, start)
    packed, unpacked = _size(header, 3), _size(header, 2)
    if at + packed > end:
        raise Malformed("a page lies outside of its column")
    kind = header.get(1)
    if kind not in _OWN:
        raise Malformed(f"a page of type {kind}")
    place, values, encoding = _OWN[kind]
    own = header.get(place)
    if not isinstance(own, dict) or own.get(encoding) not in _KNOWN:
        raise Malformed("a page of unknown encoding")
    is_dictionary = kind == _DICTIONARY
    return Page(is_dictionary, _size(own, values), cast("int", own[encoding]), at, packed, unpacked)


def _size(fields: Fields, number: int) -> int:
    value = fields.get(number)
    if not isinstance(value, int) or not 0 <= value < _MOST:
        raise Malformed("a page without a size, or with an odd one")
    return value
