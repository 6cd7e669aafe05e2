"""Formats that Pillow has plugins for but that are not decoded here, recognised by their first
bytes.

Some have no mark at the start. For those, all fields of the header must be plausible, so that
text or noise is rarely mistaken for one.
"""

import re
import struct
from collections.abc import Callable

#: The rest is searched no further than this.
_HEAD_BYTES = 4096

_PREFIXES = (
    (b"BUFR", "bufr"),
    (b"ZCZC", "bufr"),
    (b"\xb1\x68\xde\x3a", "dcx"),
    (b"SIMPLE  =", "fits"),
    (b"FTEX", "ftex"),
    (b"GRIB", "grib"),
    (b"\x89HDF\r\n\x1a\n", "hdf5"),
    (b"\0\0\0\0\0\0\0\4", "mcidas"),
    (b"\0\0\1\xb3", "mpeg"),
    (b"\0\0\1\xba", "mpeg"),
    (b"\x80\xe8\0\0", "pixar"),
    (b"\x59\xa6\x6a\x95", "sun"),
    (b"\xd7\xcd\xc6\x9a\0\0", "wmf"),
    (b"/* XPM */", "xpm"),
    (b"P7 332", "xvthumb"),
)

_PATTERNS = (
    (re.compile(rb"P(?:[1-7Ff]|0CMYK|yP|yRGBA|yCMYK)\s"), "ppm"),
    (re.compile(rb"\s*(?:/\*.{0,500}?\*/\s*)?#define[ \t]+\S*_width[ \t]+\d", re.DOTALL), "xbm"),
    (re.compile(rb"(?:[A-Z][^\n\0]{0,99}\n){0,8}Image type: [^\n\0]{1,40} image\r?\n"), "im"),
    (re.compile(rb"(?:\*[^\n\0]{0,99}\n|(?:width|height|pixel) [^\n\0]{1,40}\n){2,9}\x0c"), "imt"),
)


def undecoded_format(data: bytes) -> str | None:
    """The Pillow format that `data` seems to be in, in lower case, or None."""
    for prefix, name in _PREFIXES:
        if data.startswith(prefix):
            return name
    head = data[:_HEAD_BYTES]
    for pattern, name in _PATTERNS:
        if pattern.match(head):
            return name
    return next((name for name, fits in _CHECKS.items() if fits(head)), None)


def _is_fli(head: bytes) -> bool:
    """Autodesk's header of 128 bytes: its mark at 4, the flags at 14."""
    return len(head) >= 128 and head[4:6] in (b"\x11\xaf", b"\x12\xaf") and head[14] in (0, 3)


def _is_gbr(head: bytes) -> bool:
    """GIMP's devel-docs/gbr.txt: version 1 has no mark, and grey or RGBA pixels."""
    if len(head) < 20:
        return False
    size, version, width, height, channels = struct.unpack(">5I", head[:20])
    if version == 2:
        return head[20:24] == b"GIMP"
    return version == 1 and 20 <= size < 1024 and 0 < width * height < 2**32 and channels in (1, 4)


def _is_iptc(head: bytes) -> bool:
    """Whether the first two datasets follow one another (IPTC IIM 4.2, 1.5)."""
    if len(head) < 5 or head[0] != 0x1C or head[1] not in (*range(1, 10), 240) or head[3] >= 0x80:
        return False
    following = 5 + int.from_bytes(head[3:5], "big")
    return following >= len(head) or head[following] == 0x1C


def _is_pcx(head: bytes) -> bool:
    """ZSoft's header: maker, version, encoding, bits a plane, and a window that is not empty."""
    if len(head) < 128 or head[0] != 10 or head[1] not in (0, 2, 3, 5) or head[2] > 1:
        return False
    left, top, right, bottom = struct.unpack("<4H", head[4:12])
    return head[3] in (1, 2, 4, 8) and left <= right and top <= bottom


def _is_spider(head: bytes) -> bool:
    """Wadsworth Center's header: 27 floats, whole numbers that agree with each other."""
    for order in "><" if len(head) >= 108 else "":
        values = (0.0, *struct.unpack(f"{order}27f", head[:108]))
        counts = [values[at] for at in (1, 2, 5, 12, 13, 22, 23)]
        whole = all(value == value // 1 and abs(value) < 2**31 for value in counts)
        if whole and values[5] in (1, 3, -11, -12, -21, -22) and values[22] > 0:
            return bool(values[13] * values[23] == values[22])
    return False


def _is_tga(head: bytes) -> bool:
    """Truevision TGA 2.0, C.2: a colour map only if the image type says so."""
    if len(head) < 18 or head[17] & 0xC0:
        return False
    mapped, kind, map_bits, depth = head[1], head[2], head[7], head[16]
    width, height = struct.unpack("<2H", head[12:16])
    depths = {1: (8, 16), 2: (15, 16, 24, 32), 3: (1, 8, 16)}.get(kind & ~8, ())
    colours = map_bits in (15, 16, 24, 32) if mapped == 1 else mapped == 0 and not any(head[3:8])
    return bool(width and height and depth in depths and colours)


def _is_emf(head: bytes) -> bool:
    return head.startswith(b"\1\0\0\0") and head[40:44] == b" EMF"


_CHECKS: dict[str, Callable[[bytes], bool]] = {
    "emf": _is_emf,
    "fli": _is_fli,
    "gbr": _is_gbr,
    "iptc": _is_iptc,
    "pcd": lambda head: head[2048:2052] == b"PCD_",
    "pcx": _is_pcx,
    "spider": _is_spider,
    "tga": _is_tga,
}
