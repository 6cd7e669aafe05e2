"""TIFF files made by hand: any type for any tag, directories in a row and below each other."""

import struct
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

import numpy as np
from PIL import Image

BYTE, ASCII, SHORT, LONG, RATIONAL, SBYTE, UNDEFINED = 1, 2, 3, 4, 5, 6, 7
SSHORT, SLONG, SRATIONAL, FLOAT, DOUBLE, IFD, LONG8 = 8, 9, 10, 11, 12, 13, 16

#: Type → the letter of its values, and how many of these make one.
_LETTERS: Final = {
    BYTE: ("B", 1),
    ASCII: ("s", 1),
    SHORT: ("H", 1),
    LONG: ("I", 1),
    RATIONAL: ("I", 2),
    SBYTE: ("b", 1),
    UNDEFINED: ("B", 1),
    SSHORT: ("h", 1),
    SLONG: ("i", 1),
    SRATIONAL: ("i", 2),
    FLOAT: ("f", 1),
    DOUBLE: ("d", 1),
    IFD: ("I", 1),
    LONG8: ("Q", 1),
}

#: A tag's type and its values: numbers, for rationals numerators and denominators in turns, or
#: the text of an ASCII tag.
Entry = tuple[int, Sequence[float] | bytes]

COMPRESSION, PHOTOMETRIC, STRIPS, BELOW = 259, 262, 273, 330
SUBFILE, DNG_VERSION = 254, 50706
REDUCED: Final = {SUBFILE: (LONG, [1])}


@dataclass
class Page:
    """A directory with its one strip (or one a plane), and those below it."""

    tags: dict[int, Entry]
    strip: bytes
    below: list["Page"] = field(default_factory=list)
    planes: int = 1

    def strips(self) -> list[bytes]:
        """One a plane."""
        size = len(self.strip) // self.planes
        return [self.strip[at : at + size] for at in range(0, size * self.planes, size)]


def page(
    image: Image.Image, tags: dict[int, Entry] | None = None, below: Sequence[Page] = ()
) -> Page:
    """An uncompressed grey or RGB image."""
    pixels = np.asarray(image)
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    plain: dict[int, Entry] = {
        256: (LONG, [image.width]),
        257: (LONG, [image.height]),
        258: (SHORT, [8] * channels),
        COMPRESSION: (SHORT, [1]),
        PHOTOMETRIC: (SHORT, [2 if channels == 3 else 1]),
        277: (SHORT, [channels]),
        278: (LONG, [image.height]),
        279: (LONG, [pixels.nbytes]),
    }
    return Page(plain | (tags or {}), pixels.tobytes(), list(below))


def tiff(pages: Sequence[Page], order: str = "<", *, big: bool = False) -> bytes:
    """The bytes of a TIFF file; `order` as struct writes it."""
    return _Writer(order, big).file(pages)


def exif(tag: int, entry: Entry, order: str = "<") -> bytes:
    """An EXIF block with one tag, as JPEG carries it."""
    return b"Exif\0\0" + _Writer(order, big=False).file([Page({tag: entry}, b"")])


class _Writer:
    def __init__(self, order: str, big: bool) -> None:
        self._order, self._big = order, big
        self._word = "Q" if big else "I"
        self._data = bytearray()

    def file(self, pages: Sequence[Page]) -> bytes:
        self._data += b"II" if self._order == "<" else b"MM"
        self._data += self._pack("HHH", 43, 8, 0) if self._big else self._pack("H", 42)
        pointer = self._put(self._pack(self._word, 0))
        for one in pages:
            at, following = self._directory(one)
            self._point(pointer, at)
            pointer = following
        return bytes(self._data)

    def _directory(self, one: Page) -> tuple[int, int]:
        """(where it lies, where it says which one follows)."""
        tags = dict(one.tags)
        if one.strip:
            tags[STRIPS] = (LONG, [self._put(part) for part in one.strips()])
        if one.below:
            tags[BELOW] = (LONG, [self._directory(lower)[0] for lower in one.below])
        entries = b"".join(self._entry(tag, *tags[tag]) for tag in sorted(tags))
        at = self._put(self._pack("Q" if self._big else "H", len(tags)) + entries)
        return at, self._put(self._pack(self._word, 0), align=1)

    def _entry(self, tag: int, kind: int, values: Sequence[float] | bytes) -> bytes:
        letter, each = _LETTERS[kind]
        numbers = () if isinstance(values, bytes) else values
        data = self._pack(letter * len(numbers), *numbers) if numbers else bytes(values)
        room = 8 if self._big else 4
        count = len(values) // each
        inline = data if len(data) <= room else self._pack(self._word, self._put(data))
        return self._pack(f"HH{self._word}", tag, kind, count) + inline.ljust(room, b"\0")

    def _put(self, data: bytes, align: int = 2) -> int:
        self._data += bytes(-len(self._data) % align)
        self._data += data
        return len(self._data) - len(data)

    def _point(self, at: int, to: int) -> None:
        size = struct.calcsize(self._word)
        self._data[at : at + size] = self._pack(self._word, to)

    def _pack(self, letters: str, *values: float) -> bytes:
        return struct.pack(self._order + letters, *values)
