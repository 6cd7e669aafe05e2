"""Small images, and the byte surgery that makes their headers lie."""

import io
import struct
import zipfile
import zlib
from typing import Any

import numpy as np
from PIL import Image

PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
SIZE = (96, 64)
ORIENTATION = 0x0112


def picture(mode: str = "RGB", size: tuple[int, int] = SIZE, seed: int = 0) -> Image.Image:
    """A gradient with noise: no two rows, columns or seeds look alike."""
    width, height = size
    noise = np.random.default_rng(seed).integers(0, 64, (height, width, 3))
    across = np.linspace(0, 191, width)[None, :, None]
    down = np.linspace(0, 191, height)[:, None, None]
    pixels = np.concatenate([across + 0 * down, 0 * across + down, (across + down) / 2], axis=2)
    return Image.fromarray((pixels + noise).astype(np.uint8)).convert(mode)


def encode(image: Image.Image, format_: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format_, **options)
    return buffer.getvalue()


def png(seed: int = 0) -> bytes:
    return encode(picture(seed=seed), "PNG")


def jpeg(seed: int = 0) -> bytes:
    return encode(picture(seed=seed), "JPEG", quality=90)


def oriented(orientation: int) -> Image.Exif:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    return exif


def zip_file() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr(zipfile.ZipInfo("inside.txt"), b"not an image")
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    """One PNG chunk: length, type, data, CRC."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def ihdr(width: int, height: int, depth: int = 8, colour: int = 2) -> bytes:
    return chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0))


def png16() -> bytes:
    """16 bits a channel RGB, which Pillow reads but does not write."""
    pixels = (np.asarray(picture()).astype(">u2") * 257).reshape(SIZE[1], -1)
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    return assemble(ihdr(*SIZE, depth=16), chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))


def as_ycck(cmyk: bytes) -> bytes:
    """Set the transform of the Adobe marker to 2: the same samples, read as YCCK."""
    at = cmyk.index(b"Adobe") + 11
    return cmyk[:at] + b"\x02" + cmyk[at + 1 :]


def patch_sof(
    data: bytes, width: int = SIZE[0], height: int = SIZE[1], precision: int = 8
) -> bytes:
    """A baseline JPEG whose frame header claims other dimensions."""
    at = data.index(b"\xff\xc0") + 4
    return data[:at] + struct.pack(">BHH", precision, height, width) + data[at + 5 :]


def patch_tiff(data: bytes, values: dict[int, int]) -> bytes:
    """A little-endian TIFF whose first directory claims other values for these tags."""
    patched = bytearray(data)
    (start,) = struct.unpack_from("<I", data, 4)
    (count,) = struct.unpack_from("<H", data, start)
    for entry in range(start + 2, start + 2 + 12 * count, 12):
        (tag,) = struct.unpack_from("<H", data, entry)
        if tag in values:
            struct.pack_into("<HII", patched, entry + 2, 4, 1, values[tag])
    return bytes(patched)


def assemble(*parts: bytes) -> bytes:
    return PNG_SIGNATURE + b"".join(parts)


def png_parts(data: bytes) -> list[bytes]:
    parts, at = [], len(PNG_SIGNATURE)
    while at < len(data):
        (size,) = struct.unpack_from(">I", data, at)
        parts.append(data[at : at + size + 12])
        at += size + 12
    return parts


def flip(data: bytes, at: int) -> bytes:
    return data[:at] + bytes([data[at] ^ 0x10]) + data[at + 1 :]
