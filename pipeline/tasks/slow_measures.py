"""Reference for `measures`: Pillow, and each formula written out, in double precision.

`verify` compares rows with it, so it shares no step with the code that made them: no other
decoder, no kernel, no matrices, no float32.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from math import cos, pi, sqrt
from statistics import fmean, median, pvariance
from typing import NamedTuple

from PIL.Image import Resampling

from pipeline.images.reference import reference_image

_SIDE, _GREY, _WAVES = 256, 32, 8


class Measures(NamedTuple):
    """The measures of one image. `aspect` is width divided by height, upright."""

    phash: int
    sharpness: float
    brightness: float
    colourfulness: float
    aspect: float


def slow_measures(
    data: bytes,
    *,
    exif: bool,
    max_pixels: int,
    room: Callable[[int], AbstractContextManager[None]] | None = None,
) -> Measures:
    """The measures of an image in some 0.3 s. Raises ImageError."""
    image = reference_image(data, exif, max_pixels=max_pixels, room=room)
    width, height = image.size
    square = image.resize((_SIDE, _SIDE), Resampling.BILINEAR)
    flat = square.tobytes()
    pixels = list(zip(flat[0::3], flat[1::3], flat[2::3], strict=True))
    grey = [0.299 * r + 0.587 * g + 0.114 * b for r, g, b in pixels]
    rows = [grey[start : start + _SIDE] for start in range(0, len(grey), _SIDE)]
    return Measures(
        phash=_phash(rows),
        sharpness=_sharpness(rows),
        brightness=fmean(grey) / 255,
        colourfulness=_colourfulness(pixels),
        aspect=width / height,
    )


def _phash(rows: list[list[float]]) -> int:
    block = _SIDE // _GREY
    small = [
        [
            fmean(rows[y][x] for y in range(top, top + block) for x in range(left, left + block))
            for left in range(0, _SIDE, block)
        ]
        for top in range(0, _SIDE, block)
    ]
    waves = [_wave(small, v, u) for v in range(1, _WAVES + 1) for u in range(1, _WAVES + 1)]
    middle = median(waves)
    number = int("".join("1" if wave > middle else "0" for wave in waves), 2)
    return number - 2**64 if number >= 2**63 else number


def _wave(small: list[list[float]], v: int, u: int) -> int:
    """One coefficient of the orthonormal two-dimensional DCT-II, as a whole number."""
    down = [cos(pi * v * (2 * y + 1) / (2 * _GREY)) for y in range(_GREY)]
    across = [cos(pi * u * (2 * x + 1) / (2 * _GREY)) for x in range(_GREY)]
    total = sum(
        value * down[y] * across[x] for y, row in enumerate(small) for x, value in enumerate(row)
    )
    return round(total * 2 / _GREY)


def _sharpness(rows: list[list[float]]) -> float:
    inside = range(1, _SIDE - 1)
    return pvariance(
        rows[y - 1][x] + rows[y + 1][x] + rows[y][x - 1] + rows[y][x + 1] - 4 * rows[y][x]
        for y in inside
        for x in inside
    )


def _colourfulness(pixels: list[tuple[int, int, int]]) -> float:
    rg = [float(r - g) for r, g, _ in pixels]
    yb = [(r + g) / 2 - b for r, g, b in pixels]
    spread = sqrt(pvariance(rg) + pvariance(yb))
    return spread + 0.3 * sqrt(fmean(rg) ** 2 + fmean(yb) ** 2)
