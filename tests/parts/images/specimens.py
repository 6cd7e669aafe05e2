"""Small sound images of every kind that is worth damaging."""

from collections.abc import Iterator
from functools import cache
from typing import NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin, features

from tests.parts.images.forge import as_ycck, encode, oriented, picture, png16


class Specimen(NamedTuple):
    """`kind` is the format as `anatomy` knows it."""

    kind: str
    name: str
    data: bytes


@cache
def specimens() -> list[Specimen]:
    return [*_pngs(), *_jpegs(), *_tiffs(), *_webps(), *_others(), *_undecoded()]


def _moving(format_: str, mode: str = "RGB") -> bytes:
    frames = [picture(mode, seed=seed) for seed in range(3)]
    return encode(frames[0], format_, save_all=True, append_images=frames[1:])


def _sixteen() -> Image.Image:
    return Image.fromarray(np.asarray(picture("L")).astype(np.uint16) * 257)


def _pngs() -> Iterator[Specimen]:
    for mode in ("1", "L", "LA", "P", "RGB", "RGBA"):
        yield Specimen("png", mode, encode(picture(mode), "PNG"))
    text = PngImagePlugin.PngInfo()
    text.add_itxt("Title", "a text that is compressed", zip=True)
    remarks = {"exif": oriented(6), "pnginfo": text, "icc_profile": bytes(range(128)) * 2}
    yield Specimen("png", "remarks", encode(picture(), "PNG", **remarks))
    yield Specimen("png", "16 bits", encode(_sixteen(), "PNG"))
    yield Specimen("png", "48 bits", png16())
    yield Specimen("png", "one colour transparent", encode(picture("P"), "PNG", transparency=3))
    yield Specimen("png", "animated", _moving("PNG"))


def _jpegs() -> Iterator[Specimen]:
    cmyk = encode(picture("CMYK"), "JPEG")
    yield Specimen("jpeg", "baseline", encode(picture(), "JPEG", quality=90))
    yield Specimen("jpeg", "4:4:4", encode(picture(), "JPEG", subsampling=0))
    yield Specimen("jpeg", "grey", encode(picture("L"), "JPEG"))
    yield Specimen("jpeg", "progressive", encode(picture(), "JPEG", progressive=True))
    yield Specimen("jpeg", "grey progressive", encode(picture("L"), "JPEG", progressive=True))
    yield Specimen("jpeg", "restarts", encode(picture(), "JPEG", restart_marker_blocks=2))
    yield Specimen("jpeg", "CMYK", cmyk)
    yield Specimen("jpeg", "YCCK", as_ycck(cmyk))
    yield Specimen("jpeg", "RGB", encode(picture(), "JPEG", keep_rgb=True))
    yield Specimen("jpeg", "EXIF", encode(picture(), "JPEG", exif=oriented(6)))
    yield Specimen("jpeg", "pair", _moving("MPO"))


def _tiffs() -> Iterator[Specimen]:
    for compression in ("raw", "tiff_lzw", "packbits", "tiff_adobe_deflate", "jpeg", "zstd"):
        data = encode(picture(), "TIFF", compression=compression)
        yield Specimen("tiff", compression, data)
    yield Specimen("tiff", "fax", encode(picture("1"), "TIFF", compression="group4"))
    yield Specimen("tiff", "palette", encode(picture("P"), "TIFF"))
    yield Specimen("tiff", "CMYK", encode(picture("CMYK"), "TIFF", compression="tiff_lzw"))
    yield Specimen("tiff", "16 bits", encode(_sixteen(), "TIFF"))
    yield Specimen("tiff", "float", encode(picture("L").convert("F"), "TIFF"))
    yield Specimen("tiff", "pages", _moving("TIFF"))
    yield Specimen("tiff", "big", encode(picture(), "TIFF", big_tiff=True))


def _webps() -> Iterator[Specimen]:
    yield Specimen("webp", "lossy", encode(picture(), "WEBP"))
    yield Specimen("webp", "lossless", encode(picture(), "WEBP", lossless=True))
    yield Specimen("webp", "alpha", encode(picture("RGBA"), "WEBP", exif=oriented(8)))
    yield Specimen("webp", "animated", _moving("WEBP"))


def _others() -> Iterator[Specimen]:
    yield Specimen("gif", "still", encode(picture("P"), "GIF"))
    yield Specimen("gif", "animated", _moving("GIF"))
    for mode in ("1", "L", "P", "RGB", "RGBA"):
        yield Specimen("bmp", mode, encode(picture(mode), "BMP"))
    if features.check("avif"):
        yield Specimen("avif", "still", encode(picture(), "AVIF"))
        yield Specimen("avif", "alpha", encode(picture("RGBA"), "AVIF"))
        yield Specimen("avif", "animated", _moving("AVIF"))
    if features.check("jpg_2000"):
        yield Specimen("jpeg2000", "boxes", encode(picture(), "JPEG2000"))
        yield Specimen("jpeg2000", "bare", encode(picture("L"), "JPEG2000", no_jp2=True))


def _undecoded() -> Iterator[Specimen]:
    """What else Pillow opens by content; a name that ends in .jpg may hold it."""
    for format_ in ("DDS", "ICNS", "ICO", "PCX", "PPM", "QOI", "SGI", "TGA"):
        yield Specimen("other", format_, encode(picture(), format_))
