"""The image formats that are decoded. Pillow opens no other, whatever plugins it has.

Pillow tries some forty formats on any input, among them EPS, for which it starts
Ghostscript. A hostile file may reach the code of each. So the plugins of formats that no
photograph uses are neither tried nor imported.
"""

from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from io import BytesIO
from typing import Final

from PIL import Image

#: By Pillow's names, the most common first. DIB is a BMP without its file header. MPO, a JPEG with
#: several pictures, is opened as JPEG.
FORMATS: Final = (
    "JPEG",
    "PNG",
    "WEBP",
    "GIF",
    "BMP",
    "DIB",
    "TIFF",
    "AVIF",
    "HEIF",
    "JPEG2000",
)

_PLUGINS: Final = (
    "JpegImagePlugin",
    "PngImagePlugin",
    "WebPImagePlugin",
    "GifImagePlugin",
    "BmpImagePlugin",
    "TiffImagePlugin",
    "AvifImagePlugin",
    "Jpeg2KImagePlugin",
)


@lru_cache(maxsize=1)
def formats() -> tuple[str, ...]:
    """Those of FORMATS for which this installation has a plugin."""
    for plugin in _PLUGINS:
        import_module(f"PIL.{plugin}")
    if find_spec("pillow_heif"):
        import pillow_heif

        pillow_heif.register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def opened(data: bytes) -> Image.Image:
    """The image with its header read, by Pillow. Raises one of PILLOW_ERRORS (refusals.py)."""
    return Image.open(BytesIO(data), formats=formats())
