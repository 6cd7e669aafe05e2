"""Decodes bodies that a web server marks as compressed: `Content-Encoding`, which we never request.

Some servers send an image uncompressed but declare gzip, so the body's first bytes decide.
"""

import zlib
from collections.abc import Iterator
from typing import Final

import urllib3

_CHUNK: Final = 2**18
#: Enough bytes to decide; a server may send them in many pieces.
_START: Final = 4096

_GZIP: Final = frozenset({"gzip", "x-gzip"})
_GZIP_MAGIC: Final = b"\x1f\x8b"
#: zlib's numbers for a gzip header, for its own header, and for none.
_GZIP_BITS, _ZLIB_BITS, _RAW_BITS = 31, 15, -15


def plain(response: urllib3.BaseHTTPResponse) -> Iterator[bytes]:
    """The body in pieces of bounded size, decompressed if it really is compressed.

    Raises urllib3's errors, and DecodeError for a body whose compressed data breaks off.
    """
    encoding = response.headers.get("Content-Encoding", "").strip().lower()
    if encoding not in {*_GZIP, "deflate"}:
        while chunk := response.read1(_CHUNK):
            yield chunk
        return
    start = _start(response)
    bits = _bits_of(start, encoding)
    if bits is not None:
        yield from _unpacked(response, start, bits)
        return
    yield start
    while chunk := _raw(response):
        yield chunk


def _start(response: urllib3.BaseHTTPResponse) -> bytes:
    start = bytearray()
    while len(start) < _START and (chunk := _raw(response)):
        start += chunk
    return bytes(start)


def _raw(response: urllib3.BaseHTTPResponse) -> bytes:
    return response.read1(_CHUNK, decode_content=False)


def _bits_of(start: bytes, encoding: str) -> int | None:
    """zlib's setting for a body that begins with these bytes; None if it is not compressed."""
    if encoding in _GZIP:
        return _GZIP_BITS if start.startswith(_GZIP_MAGIC) else None
    for bits in (_ZLIB_BITS, _RAW_BITS):
        try:
            # More than the first byte: the first bytes of an image may look like raw deflate.
            if zlib.decompressobj(bits).decompress(start, _CHUNK):
                return bits
        except zlib.error:
            continue
    return None


def _unpacked(response: urllib3.BaseHTTPResponse, data: bytes, bits: int) -> Iterator[bytes]:
    unpacker = zlib.decompressobj(bits)
    while data:
        try:
            out = unpacker.decompress(data, _CHUNK)
        except zlib.error:
            raise urllib3.exceptions.DecodeError("the compressed body is damaged") from None
        if out:
            yield out
        data = unpacker.unconsumed_tail
        if unpacker.eof:
            # gzip may have several members; what follows the last one is padding.
            data, unpacker = unpacker.unused_data or _raw(response), zlib.decompressobj(bits)
            if not data.startswith(_GZIP_MAGIC):
                return
        data = data or _raw(response)
