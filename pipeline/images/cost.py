"""Memory that decoding one image takes, estimated from its header alone.

Measured as a process's peak memory minus its memory before, at 16 and 64 megapixels, on
2026-11-30 with Pillow 13.0.0 (libjpeg-turbo, libwebp, libtiff, OpenJPEG, libavif with dav1d) and
simplejpeg 1.9.0. `python -m tests.parts.images.costs 16` measures again, and a test checks each
format. In bytes per pixel:

    JPEG 3, turned 6, of several scans 9; CMYK 8, of several scans 12
    PNG, GIF, BMP 8; TIFF 8, and its largest strip beside the pixels
    WebP 16; AVIF 10 to 12, deeper ones more; JPEG 2000 8 per channel at most
"""

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from typing import TYPE_CHECKING, Final

from PIL import Image

from pipeline.images.signatures import jpeg_segments

if TYPE_CHECKING:
    from pipeline.images.preprocess import Preprocess

#: A decoder may use this for an image without asking: 30 megapixels of PNG or 15 of WebP.
SMALL_BYTES: Final = 256 * 2**20

#: Reserves this many bytes while an image is decoded; may wait for them, or raise ImageError.
Room = Callable[[int], AbstractContextManager[None]]

#: Bytes a pixel by Pillow's format: the measurement plus a tenth, or the worst case of the format:
#: a TIFF in one strip of 16 bits a channel, an AVIF of 10 or 12 bits.
_PIXEL: Final[Mapping[str, float]] = {
    "PNG": 9,
    "GIF": 9,
    "BMP": 9,
    "DIB": 9,
    "TIFF": 13,
    "WEBP": 17.5,
    "AVIF": 20,
    "HEIF": 24,
}
_MOST: Final = 32.0
#: JPEG by its channels: with one scan, and with several, whose coefficients are kept.
_JPEG, _JPEG_SCANS = {1: 7, 3: 7, 4: 9}, {1: 8.5, 3: 11, 4: 13.5}
#: To lay it on white, an image is held as RGBA three times.
_ON_WHITE: Final = 16
#: Libraries that read a file copy it, and libtiff copies one of its strips.
_COPIES: Final = 2
#: A Hugging Face processor holds images as Pillow images and as arrays, the resized one too.
_WHOLE, _WHOLE_RESIZED = 12, 16


def unbounded(_: int) -> AbstractContextManager[None]:
    """The Room for a process that shares its memory with no other decoder."""
    return nullcontext()


def room_for(needs: int, room: Room) -> AbstractContextManager[None]:
    """The room to decode an image of this many bytes in: a small one does not ask."""
    return nullcontext() if needs <= SMALL_BYTES else room(needs)


def decoding_bytes(image: Image.Image, data: bytes) -> int:
    """The most bytes that decoding takes for an image whose header was read."""
    pixels = image.width * image.height
    if pixels * _MOST + _COPIES * len(data) <= SMALL_BYTES:
        return int(pixels * _MOST)  # small, whatever it is
    return int(pixels * _bytes_a_pixel(image, data)) + _COPIES * len(data)


def preparing_bytes(image: Image.Image, preprocess: "Preprocess") -> int:
    """The most bytes that the steps from there to the model's input take."""
    width, height = image.size
    white = preprocess.on_white and "transparency" in image.info
    more = _ON_WHITE * width * height * white
    if preprocess.config is None:
        # The first of two passes may leave a strip that is longer than the model's input.
        return more + 2 * 3 * max(height * preprocess.width, width * preprocess.height)
    strip = preprocess.height * preprocess.width * max(width, height) // max(1, min(width, height))
    return more + _WHOLE * width * height + _WHOLE_RESIZED * strip


def _bytes_a_pixel(image: Image.Image, data: bytes) -> float:
    channels = len(image.getbands())
    if image.format in ("JPEG", "MPO"):
        return (_JPEG_SCANS if _several_scans(data) else _JPEG).get(channels, _MOST)
    if image.format == "JPEG2000":
        return 5.5 * (1 + channels)
    return _PIXEL.get(image.format or "", _MOST)


def _several_scans(data: bytes) -> bool:
    """By libjpeg's rule (jdinput.c): a progressive frame, or a first scan of few channels."""
    frame = channels = 0
    for marker, at in jpeg_segments(data):
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            frame, channels = marker, data[at + 9] if at + 9 < len(data) else 0
        if marker == 0xDA:
            return frame not in (0xC0, 0xC1, 0xC9) or data[at + 4 : at + 5] < bytes([channels])
    return True
