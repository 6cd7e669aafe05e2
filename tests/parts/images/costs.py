"""What decoding takes of memory, by format and mode, beside what is said beforehand (cost.py).

python -m tests.parts.images.costs 16        # megapixels; prints a line a sort
"""

import gc
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from PIL import Image, features

from pipeline.heap import give_back
from pipeline.images import prepare, resize_crop
from pipeline.images.decode import Opened
from pipeline.isolation.child_process import Child
from tests.parts.images.decode_trial import SHAPE
from tests.parts.images.forge import encode, oriented
from tests.parts.images.synthetic_photos import landscape
from tests.parts.processes.memory import status_bytes

Encoder = Callable[[Image.Image], bytes]
MAX_PIXELS: Final = 2**30


def _as(mode: str | None, format_: str, **options: object) -> Encoder:
    return lambda image: encode(image.convert(mode) if mode else image, format_, **options)


def _deep(kind: type, format_: str) -> Encoder:
    return lambda image: encode(
        Image.fromarray(np.asarray(image.convert("L")).astype(kind)), format_
    )


def _moving(format_: str) -> Encoder:
    def made(image: Image.Image) -> bytes:
        return encode(image, format_, save_all=True, append_images=[image.rotate(180)])

    return made


SORTS: Final[dict[str, Encoder]] = {
    "JPEG": _as(None, "JPEG"),
    "JPEG grey": _as("L", "JPEG"),
    "JPEG 4:4:4": _as(None, "JPEG", subsampling=0),
    "JPEG turned": _as(None, "JPEG", exif=oriented(6)),
    "JPEG progressive": _as(None, "JPEG", progressive=True, subsampling=0),
    "JPEG CMYK": _as("CMYK", "JPEG"),
    "JPEG CMYK progressive": _as("CMYK", "JPEG", progressive=True),
    "PNG": _as(None, "PNG", compress_level=1),
    "PNG alpha": _as("RGBA", "PNG", compress_level=1),
    "PNG alpha turned": _as("RGBA", "PNG", compress_level=1, exif=oriented(6)),
    "PNG palette": _as("P", "PNG", compress_level=1),
    "PNG palette alpha": _as("P", "PNG", compress_level=1, transparency=bytes(range(256))),
    "PNG grey": _as("L", "PNG", compress_level=1),
    "PNG grey alpha": _as("LA", "PNG", compress_level=1),
    "PNG bits": _as("1", "PNG", compress_level=1),
    "PNG 16 bits": _deep(np.uint16, "PNG"),
    "WebP": _as(None, "WEBP", method=0),
    "WebP alpha": _as("RGBA", "WEBP", method=0),
    "WebP lossless": _as(None, "WEBP", method=0, lossless=True),
    "WebP lossless alpha": _as("RGBA", "WEBP", method=0, lossless=True),
    "WebP moving": _moving("WEBP"),
    "GIF": _as("P", "GIF"),
    "GIF grey": _as("L", "GIF"),
    "GIF transparent": _as("P", "GIF", transparency=3),
    "GIF moving": _moving("GIF"),
    "TIFF": _as(None, "TIFF"),
    "TIFF LZW": _as(None, "TIFF", compression="tiff_lzw"),
    "TIFF deflate alpha": _as("RGBA", "TIFF", compression="tiff_adobe_deflate"),
    "TIFF CMYK": _as("CMYK", "TIFF", compression="tiff_lzw"),
    "TIFF LAB": lambda image: encode(Image.fromarray(np.asarray(image), mode="LAB"), "TIFF"),
    "TIFF float": _deep(np.float32, "TIFF"),
    "TIFF 32 bits": _deep(np.int32, "TIFF"),
    "TIFF 16 bits": _deep(np.uint16, "TIFF"),
    "TIFF palette": _as("P", "TIFF"),
    "TIFF fax": _as("1", "TIFF", compression="group4"),
    "TIFF JPEG": _as(None, "TIFF", compression="jpeg"),
    "BMP": _as(None, "BMP"),
    "BMP alpha": _as("RGBA", "BMP"),
    "BMP bits": _as("1", "BMP"),
}
if features.check("avif"):
    SORTS |= {
        "AVIF": _as(None, "AVIF", speed=10),
        "AVIF alpha": _as("RGBA", "AVIF", speed=10),
        "AVIF 4:4:4": _as(None, "AVIF", speed=10, subsampling="4:4:4"),
    }
if features.check("jpg_2000"):
    SORTS |= {
        "JPEG 2000": _as(None, "JPEG2000"),
        "JPEG 2000 alpha": _as("RGBA", "JPEG2000"),
        "JPEG 2000 grey": _as("L", "JPEG2000"),
        "JPEG 2000 tiles": _as(None, "JPEG2000", tile_size=(512, 512)),
    }


class Cost(NamedTuple):
    """Bytes that decoding and resizing took at their most, and what was said before."""

    taken: int
    said: int


def meter() -> Callable[[bytes], Cost]:
    """In a child process: what an image costs a decoder that has seen a large one before."""
    resize_crop(np.zeros((1000, 1000, 3), np.uint8), SHAPE)
    return _cost


def _cost(data: bytes) -> Cost:
    said = Opened(data, MAX_PIXELS).needs
    gc.collect()
    give_back()  # or what the last image left would do for this one
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before = status_bytes("VmRSS")
    prepare(data, SHAPE, max_pixels=MAX_PIXELS)
    return Cost(status_bytes("VmHWM") - before, said)


def scene(megapixels: float, *, flat: bool = False) -> Image.Image:
    width = int((megapixels * 4e6 / 3) ** 0.5)
    size = width, int(megapixels * 1e6 / width)
    return Image.new("RGB", size, (90, 120, 60)) if flat else landscape(*size)


def main() -> None:
    image = scene(float(sys.argv[1]), flat=len(sys.argv) > 2)
    pixels = image.width * image.height
    for name, encoder in SORTS.items():
        data = encoder(image)
        child = Child(partial(meter))
        taken, said = child.ask(data, 600.0)
        child.end()
        print(
            f"{name:22} {len(data) / 2**20:7.1f} MiB {taken / 2**20:7.0f} MiB "
            f"{taken / pixels:6.2f} bytes a pixel; said {said / pixels:6.2f}, "
            f"{said / max(taken, 1):.2f} times",
            flush=True,
        )


if __name__ == "__main__":
    from tests.parts.images import costs  # what a child can import, not this copy

    costs.main()
