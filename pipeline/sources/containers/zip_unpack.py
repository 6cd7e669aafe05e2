"""Unpacks a member of a zip file within size limits, and checks its CRC-32."""

import bz2
import struct
import zlib
from collections.abc import Mapping
from typing import Any, Final

from pipeline.errors import ErrorCode, ImageError

_STORED, _DEFLATE, _BZIP2 = 0, 8, 12
#: What is unpacked: the format's number for each method.
METHODS: Final = {_STORED: "stored", _DEFLATE: "deflate", _BZIP2: "bzip2"}
#: mark … lengths of name and extra field
_LOCAL: Final = struct.Struct("<I22xHH")
_MARK: Final = 0x04034B50


def unpack(place: Mapping[str, Any], size: int | None, raw: bytes) -> bytes:
    """`raw` begins with the member's local header, and may continue after its data.

    At most `size` + 1 bytes are unpacked, whatever the data would give. Raises ImageError.
    """
    if len(raw) < _LOCAL.size:
        raise _damaged("its header is cut")
    mark, names, extras = _LOCAL.unpack_from(raw)
    if mark != _MARK:
        raise _damaged("it has no header")
    packed = memoryview(raw)[_LOCAL.size + names + extras :]
    try:
        data = _unpacked(packed, place["method"], size or 0)
    except (zlib.error, OSError, EOFError, ValueError):
        raise _damaged("it can't be unpacked") from None
    if len(data) != size or zlib.crc32(data) != place["crc32"]:
        raise _damaged("its CRC-32 does not match")
    return data


def _unpacked(packed: memoryview, method: int, size: int) -> bytes:
    if method == _STORED:
        return bytes(packed[:size])
    if method == _BZIP2:
        return bz2.BZ2Decompressor().decompress(packed, size + 1)
    return zlib.decompressobj(-zlib.MAX_WBITS).decompress(packed, size + 1)


def _damaged(problem: str) -> ImageError:
    return ImageError(ErrorCode.UNDECODABLE, f"damaged in its archive: {problem}")
