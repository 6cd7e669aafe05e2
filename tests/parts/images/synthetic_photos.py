"""Photographs that nobody took: large, natural-looking, each from its seed."""

import numpy as np
from PIL import Image

from tests.parts.images.forge import encode

#: The coarsest octave has so many cells along the long side; each next one has twice as many.
_COARSE = 4

#: Pixels of the largest of `photographs`.
LARGEST_PHOTOGRAPH = 8688 * 5792


def landscape(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB image whose detail falls off with frequency as in photographs, with grain."""
    draw = np.random.default_rng(seed)
    pixels = np.zeros((height, width, 3), np.float32)
    cells, strength = _COARSE, 64.0
    while cells < width / 4:
        rows = max(2, cells * height // width)
        octave = draw.uniform(-1, 1, (rows, cells, 3)).astype(np.float32)
        for channel in range(3):
            layer = Image.fromarray(octave[..., channel])
            smooth = np.asarray(layer.resize((width, height), Image.Resampling.BICUBIC))
            pixels[..., channel] += strength * smooth
        cells, strength = cells * 4, strength / 2
    pixels += draw.integers(-4, 5, (height, width, 1), np.int8)
    return Image.fromarray(np.clip(pixels + 128, 0, 255).astype(np.uint8))


def photographs() -> dict[str, bytes]:
    """Eight of 12 to 50 megapixels, by name."""
    return {
        "12.jpg": encode(landscape(4000, 3000, 1), "JPEG", quality=90),
        "12.webp": encode(landscape(4000, 3000, 2), "WEBP", quality=80, method=0),
        "16.png": encode(landscape(4920, 3264, 3), "PNG", compress_level=1),
        "20.jpg": encode(landscape(5472, 3648, 4), "JPEG", quality=85, progressive=True),
        "24.jpg": encode(landscape(6000, 4000, 5), "JPEG", quality=92, subsampling=0),
        "24.tiff": encode(landscape(6000, 4000, 6), "TIFF", compression="tiff_lzw"),
        "33.jpg": encode(landscape(7008, 4672, 7), "JPEG", quality=85),
        "50.jpg": encode(landscape(8688, 5792, 8), "JPEG", quality=85),
    }
