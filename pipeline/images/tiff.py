"""Reads the directories of a TIFF file, to find previews and variants that Pillow does not decode.

Pillow reads only the first directory. A raw photograph (DNG, NEF, ARW, …) is a TIFF file
too: its first image is a preview, and the photograph is in a later or lower directory. Sources:
   TIFF
6.0, the BigTIFF design, the DNG specification 1.7. A damaged file has fewer directories, never
an error.
"""

import struct
from collections.abc import Iterator
from functools import lru_cache
from io import BytesIO

from PIL import Image

#: The values of a directory by tag, for integer types.
Directory = dict[int, tuple[int, ...]]

#: Enough for any camera; a file may chain its directories without end.
_MOST_DIRECTORIES = 64
_MOST_ENTRIES = 512
_MOST_VALUES = 64
#: More than any satellite image has: a file that claims more is damaged.
_MOST_CHANNELS = 1024

_SUBFILE, _OLD_SUBFILE, _WIDTH, _HEIGHT = 254, 255, 256, 257
_COMPRESSION, _PHOTOMETRIC, _CHANNELS, _PLANES, _BELOW = 259, 262, 277, 284, 330
_DNG_VERSION = 50706

#: TIFF type → its struct letter: BYTE, SHORT, LONG, IFD, LONG8, IFD8.
_INTEGERS = {1: "B", 3: "H", 4: "I", 13: "I", 16: "Q", 18: "Q"}

#: A colour filter array, and the same after demosaicing.
_RAW_PHOTOMETRICS = (32803, 34892)

#: Compressions that Pillow has no decoder for, and those that its libtiff may lack.
_COMPRESSIONS = {
    32766: "NeXT",
    32767: "Sony ARW",
    32769: "Epson ERF",
    32770: "Samsung SRW",
    33003: "JPEG 2000",
    33004: "JPEG 2000",
    33005: "JPEG 2000",
    33007: "JPEG",
    34661: "JBIG",
    34712: "JPEG 2000",
    34713: "Nikon NEF",
    34887: "LERC",
    34892: "lossy DNG",
    34933: "PNG",
    34934: "JPEG XR",
    50002: "JPEG XL",
    52546: "JPEG XL",
    65000: "Kodak DCR",
    65535: "Pentax PEF",
}
_OPTIONAL = {34925: ("lzma", "LZMA"), 50000: ("zstd", "Zstandard"), 50001: ("webp", "WebP")}
#: Pillow's decoders, by TIFF's number; any other compression has no name here.
_DECODED = (1, 2, 3, 4, 5, 6, 7, 8, 32771, 32773, 32809, 32946, 34676, 34677)


def preview_of(data: bytes) -> str | None:
    """What this TIFF file's first image is a preview of; None if it is no preview.

    It is a preview if a directory that is itself no preview or mask holds a larger image, and
    either the first says that it is reduced or that directory is below it or is raw.
    """
    pages = list(_chain(data)) or [{}]
    if (camera := _camera(data)) is not None:
        return f"a raw photograph ({camera})"
    first, *later = pages
    reduced = bool(_one(first, _SUBFILE) & 1 or _one(first, _OLD_SUBFILE) == 2)
    if reduced and _DNG_VERSION in first:
        return "a raw photograph (DNG)"
    below = list(_below(data, first))
    hidden = [page for page in later if reduced or _is_raw(page)]
    hidden += [lower for page in later for lower in _below(data, page) if _is_raw(lower)]
    for other in (*below, *hidden):
        if not _one(other, _SUBFILE) & 5 and _is_larger(other, first):
            return "a raw photograph" if _is_raw(other) else f"an image of {_size(other)}"
    lost = {} in pages or len(below) < len(first.get(_BELOW, ()))
    return "an image that cannot be read" if reduced and lost else None


def first_size(data: bytes) -> str:
    """The width and height of the first image, for people."""
    return _size(next(_chain(data), {}))


def sort_not_decoded(data: bytes) -> str | None:
    """What Pillow does not support in a TIFF file with a valid first directory, or None."""
    first = next(_chain(data), {})
    if not (_one(first, _WIDTH) and _one(first, _HEIGHT)):
        return None
    if _is_raw(first) or _camera(data) is not None:
        return "a raw photograph"
    if data[:4] in (b"MM\0+", b"MM+\0", b"II\0+"):
        return "BigTIFF in this byte order"
    compression = _one(first, _COMPRESSION) or 1
    if compression in _OPTIONAL:
        codec, name = _OPTIONAL[compression]
        return None if _libtiff_has(codec) else f"TIFF with {name} compression"
    if compression not in _DECODED:
        return f"TIFF with {_COMPRESSIONS.get(compression, f'unknown ({compression})')} compression"
    channels, grey = _one(first, _CHANNELS) or 1, _one(first, _PHOTOMETRIC) in (0, 1, 3)
    if 4 < channels <= _MOST_CHANNELS or (grey and 1 < channels <= 4):
        planes = " in planes" if _one(first, _PLANES) == 2 else ""
        return f"TIFF with {channels} channels{planes}"
    return None


@lru_cache
def _libtiff_has(codec: str) -> bool:
    """Tested by encoding: libtiff is built with both sides of a codec or with neither."""
    try:
        Image.new("RGB", (16, 16)).save(BytesIO(), "TIFF", compression=codec)
    except (OSError, RuntimeError, ValueError, KeyError):
        return False
    return True


def _camera(data: bytes) -> str | None:
    """The raw format that the bytes after the header name."""
    if data[4:11] == b"\x10\0\0\0CR\x02":
        return "CR2"
    phase_one = data[8:12] == b"IIII" and data[13:16] == b"waR"
    return "IIQ" if phase_one or data[8:15] == b"MMMMRaw" else None


def _is_raw(directory: Directory) -> bool:
    return _one(directory, _PHOTOMETRIC) in _RAW_PHOTOMETRICS


def _is_larger(other: Directory, first: Directory) -> bool:
    """Raw images without a size count as larger (some cameras keep it elsewhere)."""
    pixels = _one(other, _WIDTH) * _one(other, _HEIGHT)
    return pixels > _one(first, _WIDTH) * _one(first, _HEIGHT) or (_is_raw(other) and not pixels)


def _size(directory: Directory) -> str:
    return f"{_one(directory, _WIDTH)} by {_one(directory, _HEIGHT)}"


def _one(directory: Directory, tag: int) -> int:
    """The first value of a tag; 0 if there is none."""
    return next(iter(directory.get(tag, ())), 0)


def _chain(data: bytes) -> Iterator[Directory]:
    """The directories of the pages; an empty one is last if the next cannot be read."""
    order, big = _form(data)
    where = 8 if big else 4
    seen: set[int] = set()
    at = _number(data, order, "Q" if big else "I", where)
    while at and at not in seen and len(seen) < _MOST_DIRECTORIES:
        seen.add(at)
        directory, at = _directory(data, at) or ({}, 0)
        yield directory


def _below(data: bytes, directory: Directory) -> Iterator[Directory]:
    """The directories that one points down to."""
    for at in directory.get(_BELOW, ()):
        if (found := _directory(data, at)) is not None:
            yield found[0]


def _directory(data: bytes, at: int) -> tuple[Directory, int] | None:
    """The directory at an offset and the offset of the next; None if there is none.

    If the file ends inside it, the entries that exist, as in Pillow; the next is then lost.
    """
    order, big = _form(data)
    count = _number(data, order, "Q" if big else "H", at)
    head, size, offset = (8, 20, "Q") if big else (2, 12, "I")
    there = min(count, (len(data) - at - head) // size)
    if there <= 0 or count > _MOST_ENTRIES:
        return None
    entry = struct.Struct(f"{order}HH{offset}{8 if big else 4}s")
    start = at + head
    directory: Directory = {}
    for tag, kind, values, inline in entry.iter_unpack(data[start : start + there * size]):
        directory.setdefault(tag, _values(data, kind, values, inline))
    end = start + count * size
    lost = end + struct.calcsize(offset) > len(data)
    return directory, len(data) if lost else _number(data, order, offset, end)


def _values(data: bytes, kind: int, count: int, inline: bytes) -> tuple[int, ...]:
    order, big = _form(data)
    letter = _INTEGERS.get(kind)
    if letter is None:
        return ()
    form = struct.Struct(f"{order}{min(count, _MOST_VALUES)}{letter}")
    if struct.calcsize(f"{order}{letter}") * count <= len(inline):
        return form.unpack_from(inline)
    at = _number(inline, order, "Q" if big else "I", 0)
    return form.unpack_from(data, at) if at + form.size <= len(data) else ()


def _number(data: bytes, order: str, letter: str, at: int) -> int:
    form = struct.Struct(order + letter)
    return int(form.unpack_from(data, at)[0]) if at + form.size <= len(data) else 0


def _form(data: bytes) -> tuple[str, bool]:
    """(byte order as struct writes it, whether it is BigTIFF)."""
    return "<" if data[:2] == b"II" else ">", 0x2B in data[2:4]
