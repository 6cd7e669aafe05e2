"""A file in each format that Pillow has a plugin for and that is not decoded here."""

import struct
from collections.abc import Iterator

from PIL import Image

from tests.parts.images.forge import encode, picture

_REST = bytes(range(256)) * 16

#: Formats that this Pillow writes, so that the file is a whole one.
_WRITTEN = {
    "BLP": "P",
    "BUFR": "",
    "DDS": "RGB",
    "EPS": "RGB",
    "GRIB": "",
    "HDF5": "",
    "ICNS": "RGBA",
    "ICO": "RGBA",
    "IM": "RGB",
    "MSP": "1",
    "PCX": "RGB",
    "PPM": "RGB",
    "QOI": "RGB",
    "SGI": "RGB",
    "SPIDER": "F",
    "TGA": "RGB",
    "WMF": "",
    "XBM": "1",
}

_PLACEABLE = b"\xd7\xcd\xc6\x9a\0\0" + struct.pack("<4hH", 0, 0, 96, 64, 72) + bytes(6)

_BY_HAND = {
    "BUFR": b"BUFR\0\0\x64\4" + _REST,
    "CUR": b"\0\0\2\0\1\0" + struct.pack("<4B2H2I", 32, 32, 0, 0, 1, 1, 40, 22) + _REST,
    "DCX": struct.pack("<3I", 0x3ADE68B1, 12, 0) + _REST,
    "FITS": b"".join(
        line.ljust(80)
        for line in (b"SIMPLE  =                    T", b"BITPIX  =                    8", b"END")
    )
    + _REST,
    "FLI": struct.pack("<I6H", 4096, 0xAF12, 1, 96, 64, 8, 3) + bytes(112) + _REST,
    "FPX": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + _REST,
    "FTEX": b"FTEX" + struct.pack("<7i", 1, 96, 64, 1, 1, 0, 28) + _REST,
    "GBR": struct.pack(">7I", 32, 2, 32, 32, 1, 0x47494D50, 10) + b"sun\0" + _REST,
    "GRIB": b"GRIB\0\1\0\1" + _REST,
    "HDF5": b"\x89HDF\r\n\x1a\n" + _REST,
    "IMT": b"*IM Tools\nwidth 96\nheight 64\npixel n8\n\x0c" + _REST,
    "IPTC": b"\x1c\3\x3c\0\2\1\1" + b"\x1c\3\x14\0\1\x60" + b"\x1c\x08\x0a\0\1x" + _REST,
    "MCIDAS": struct.pack(">8I", 0, 4, 0, 0, 0, 0, 0, 0) + _REST,
    "MPEG": b"\0\0\1\xb3\x06\0\x40\x13" + _REST,
    "PCD": b"\xff" * 2048 + b"PCD_IPI" + bytes(1531) + _REST,
    "PIXAR": b"\x80\xe8\0\0" + bytes(412) + struct.pack("<2H", 64, 96) + _REST,
    "PSD": b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 64, 96, 8, 3) + bytes(12) + _REST,
    "SUN": struct.pack(">8I", 0x59A66A95, 96, 64, 8, 6144, 1, 0, 0) + _REST,
    "WMF": _PLACEABLE + b"\1\0\x09\0\0\3" + _REST,
    "XPM": b'/* XPM */\nstatic char *x[] = {\n"1 1 1 1",\n"a c #FF0000",\n"a"\n};\n',
    "XVTHUMB": b"P7 332\n#XVVERSION:2.29\n#END_OF_COMMENTS\n80 60 255\n" + _REST,
}


def undecoded_files() -> Iterator[tuple[str, bytes]]:
    """(Pillow's name of the format, a file in it)."""
    yield from _BY_HAND.items()
    for name, mode in _WRITTEN.items():
        if mode and name in Image.SAVE:
            yield name, encode(picture(mode), name)
    head = struct.pack("<I4i4i", 1, 0, 0, 96, 64, 0, 0, 2540, 1693) + b"    " + b" EMF"
    yield "WMF", head + _REST
