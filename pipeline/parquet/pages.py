"""The pages of a column chunk, from their headers; no page is unpacked.

https://github.com/apache/parquet-format/blob/master/src/main/thrift/parquet.thrift
"""

from collections.abc import Iterator
from typing import Final, NamedTuple

from pipeline.parquet.thrift import Data, Malformed, number, read_struct, struct

_DATA, _DICTIONARY, _DATA_V2 = 0, 2, 3
#: The field of each page type's own struct, and in that the fields of its values and its encoding.
_OWN: Final = {_DATA: (5, 1, 2), _DICTIONARY: (7, 1, 2), _DATA_V2: (8, 1, 4)}

#: In these encodings a few bytes can become many: a value may be the previous one plus a little.
PREFIXED: Final = 7
#: Values that are indices into the chunk's dictionary.
INDICES: Final = frozenset({2, 8})
_KNOWN: Final = frozenset({0, 2, 3, 4, 5, 6, PREFIXED, 8, 9})


class Page(NamedTuple):
    """`start` and `packed` are the position and size of its bytes, `unpacked` their
    size unpacked."""

    is_dictionary: bool
    values: int
    encoding: int
    start: int
    packed: int
    unpacked: int


def pages_of(data: Data, start: int, size: int, values: int) -> Iterator[Page]:
    """The pages of one column chunk: `size` bytes from `start` on, with this many `values`.

    Raises Malformed if Arrow could read them in another way.
    """
    end = start + size
    if not 0 <= start <= end <= len(data):
        raise Malformed("a column is outside the file")
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
    kind, packed, unpacked = number(header, 1), number(header, 3), number(header, 2)
    if at + packed > end:
        raise Malformed("a page is outside its column")
    if kind not in _OWN:
        raise Malformed(f"a page of type {kind}")
    place, values, encoding = _OWN[kind]
    own = struct(header, place)
    if (encoded := number(own, encoding)) not in _KNOWN:
        raise Malformed("a page of unknown encoding")
    return Page(kind == _DICTIONARY, number(own, values), encoded, at, packed, unpacked)
