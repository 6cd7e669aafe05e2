"""Where the parts of an image file lie, which of its fields tell sizes, and its checksums.

Offsets are good enough for damaging files, not for reading them: a marker that is found by
its bytes may be one by chance.
"""

import re
import struct
import zlib
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Final, Literal, NamedTuple

from tests.parts.images.forge import PNG_SIGNATURE


class Field(NamedTuple):
    """An integer of `size` bytes."""

    at: int
    size: int
    order: Literal["little", "big"]


def pieces(kind: str, data: bytes) -> list[bytes]:
    """`data` cut into the chunks, segments, boxes, blocks or entries of its format."""
    cuts = sorted({0, *_CUTS.get(kind, _no_cuts)(data), len(data)})
    return [data[start:end] for start, end in pairwise(cuts)]


def fields(kind: str, data: bytes) -> list[Field]:
    """Lengths, dimensions, counts and modes, as far as they lie within `data`."""
    found = _FIELDS.get(kind, _first_words)(data)
    return [field for field in found if field.at + field.size <= len(data)]


def with_checksums(kind: str, data: bytes) -> bytes:
    """`data` with checksums and overall lengths that fit again, where its format has any."""
    if kind == "webp" and len(data) > 8:
        return data[:4] + struct.pack("<I", len(data) - 8) + data[8:]
    if kind == "png" and data.startswith(PNG_SIGNATURE):
        return _with_crcs(data)
    return data


def _with_crcs(data: bytes) -> bytes:
    fixed = bytearray(data)
    for at in _png_chunks(data):
        (size,) = struct.unpack_from(">I", data, at)
        end = at + 8 + size
        if end + 4 <= len(data):
            struct.pack_into(">I", fixed, end, zlib.crc32(fixed[at + 4 : end]))
    return bytes(fixed)


def _png_chunks(data: bytes) -> Iterator[int]:
    at = len(PNG_SIGNATURE)
    while at + 12 <= len(data):
        yield at
        at += 12 + int(struct.unpack_from(">I", data, at)[0])


def _riff_chunks(data: bytes) -> Iterator[int]:
    at = 12
    while at + 8 <= len(data):
        yield at
        size = int(struct.unpack_from("<I", data, at + 4)[0])
        at += 8 + size + size % 2


def _boxes(data: bytes) -> Iterator[int]:
    at = 0
    while at + 8 <= len(data):
        yield at
        at += int(struct.unpack_from(">I", data, at)[0]) or len(data)


def _tiff_entries(data: bytes) -> Iterator[int]:
    """Of the first directory; classic TIFF, little-endian."""
    if len(data) < 8:
        return
    (start,) = struct.unpack_from("<I", data, 4)
    if start + 2 > len(data):
        return
    (count,) = struct.unpack_from("<H", data, start)
    yield from range(start + 2, min(start + 3 + 12 * count, len(data)), 12)


def _matches(pattern: bytes, data: bytes) -> list[int]:
    return [found.start() for found in re.finditer(pattern, data, re.DOTALL)]


#: All but restarts, which belong to their scan.
_JPEG_MARKERS: Final = rb"\xff[\xc0-\xcf\xd8-\xfe]"
_GIF_BLOCKS: Final = rb"\x21[\xf9\xff\xfe\x01]|\x2c.{8}|\x3b\Z"
_J2K_MARKERS: Final = rb"\xff[\x4f-\x5f\x90-\x93\xd9]"


def _no_cuts(data: bytes) -> list[int]:
    return [min(64, len(data)), len(data) // 2]


_CUTS: Final[dict[str, Callable[[bytes], Iterator[int] | list[int]]]] = {
    "png": _png_chunks,
    "jpeg": lambda data: _matches(_JPEG_MARKERS, data),
    "webp": _riff_chunks,
    "avif": _boxes,
    "jpeg2000": lambda data: _matches(_J2K_MARKERS, data),
    "tiff": _tiff_entries,
    "gif": lambda data: _matches(_GIF_BLOCKS, data),
    "bmp": lambda _: [14, 54],
}


def _big(start: int, *sizes: int) -> list[Field]:
    return _row(start, "big", sizes)


def _little(start: int, *sizes: int) -> list[Field]:
    return _row(start, "little", sizes)


def _row(start: int, order: Literal["little", "big"], sizes: tuple[int, ...]) -> list[Field]:
    found = []
    for size in sizes:
        found.append(Field(start, size, order))
        start += size
    return found


def _first_words(data: bytes) -> Iterator[Field]:
    for at in range(0, min(64, len(data)), 2):
        yield from (*_big(at, 2), *_little(at, 4))


def _png_fields(data: bytes) -> Iterator[Field]:
    yield from _big(16, 4, 4, 1, 1, 1, 1, 1)
    for at in _png_chunks(data):
        yield from _big(at, 4)
        if data[at + 4 : at + 8] in (b"acTL", b"fcTL"):
            yield from _big(at + 8, 4, 4, 4, 4, 4)


def _jpeg_fields(data: bytes) -> Iterator[Field]:
    for at in _matches(_JPEG_MARKERS, data):
        yield from _big(at + 2, 2)
        if data[at + 1] in (0xC0, 0xC1, 0xC2):
            yield from _big(at + 4, 1, 2, 2, 1, 1, 1, 1)


def _webp_fields(data: bytes) -> Iterator[Field]:
    for at in _riff_chunks(data):
        yield from _little(at + 4, 4)
        if data[at : at + 4] in (b"VP8X", b"ANMF"):
            yield from _little(at + 8, 4, 3, 3)
        if data[at : at + 4] == b"VP8L":
            yield from _little(at + 9, 4)
        if data[at : at + 4] == b"VP8 ":
            yield from _little(at + 14, 2, 2)


def _avif_fields(data: bytes) -> Iterator[Field]:
    for at in _matches(rb"ispe|iloc|iinf|ipma|pixi|meta|mdat|av1C|stsz|stco|tkhd|mvhd", data):
        yield from _big(at - 4, 4)
        yield from _big(at + 8, 4, 4, 2)


def _jpeg2000_fields(data: bytes) -> Iterator[Field]:
    for at in _matches(rb"ihdr|jp2h|jp2c", data):
        yield from _big(at - 4, 4)
        yield from _big(at + 4, 4, 4, 2)
    for at in _matches(_J2K_MARKERS, data):
        yield from _big(at + 2, 2)
        if data[at + 1] == 0x51:
            yield from _big(at + 6, 4, 4, 4, 4, 4, 4, 4, 4, 2)


def _tiff_fields(data: bytes) -> Iterator[Field]:
    yield from _little(4, 4)
    for at in _tiff_entries(data):
        yield from _little(at, 2, 2, 4, 4)


def _gif_fields(data: bytes) -> Iterator[Field]:
    yield from _little(6, 2, 2, 1)
    for at in _matches(rb"\x2c.{8}", data):
        yield from _little(at + 1, 2, 2, 2, 2, 1, 1)


def _bmp_fields(_: bytes) -> list[Field]:
    return _little(2, 4) + _little(10, 4, 4, 4, 4, 2, 2, 4, 4, 4, 4, 4)


_FIELDS: Final[dict[str, Callable[[bytes], Iterator[Field] | list[Field]]]] = {
    "png": _png_fields,
    "jpeg": _jpeg_fields,
    "webp": _webp_fields,
    "avif": _avif_fields,
    "jpeg2000": _jpeg2000_fields,
    "tiff": _tiff_fields,
    "gif": _gif_fields,
    "bmp": _bmp_fields,
}
