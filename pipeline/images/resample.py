"""One pass of Pillow's resize, along one axis.

Pillow resizes in two passes and rounds to uint8 between them. Here a pass is separate, so that
pixels that a centre crop discards are never computed and a strip of 1 × 5000 does not become
gigabytes. The work is done by _resample.c, which gives exactly Pillow's pixels in a third of the
time, or by Pillow itself if that was not compiled.
"""

from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL.Image import Resampling, fromarray

try:
    from pipeline.images import _resample
except ImportError:  # there was no C compiler
    _resample = None  # type: ignore[assignment]

Pixels = NDArray[np.uint8]

#: Whether our own kernel is there, and the filters that it supports.
COMPILED: Final = _resample is not None
FILTERS: Final = frozenset(
    {
        Resampling.BOX,
        Resampling.BILINEAR,
        Resampling.HAMMING,
        Resampling.BICUBIC,
        Resampling.LANCZOS,
    }
)

#: The most pixels that one call of Pillow may make: 64 MiB at its 4 bytes per pixel.
STRIP_PIXELS = 2**24


def resizing() -> str:
    """The implementation in use, in words."""
    if not COMPILED:
        return "Pillow; with a C compiler at hand, installing anew makes it several times as fast"
    return "compiled, with AVX2" if _resample.WIDE else "compiled"


def one_pass(pixels: Pixels, axis: int, length: int, kept: slice, resample: int) -> Pixels:
    """Resize uint8 (H, W, 3) along `axis` to `length`, and keep the range `kept` of the result.

    `resample` is one of PIL.Image.Resampling; `kept` has a start and a stop.
    """
    if _resample is None or resample not in FILTERS:
        return by_pillow(pixels, axis, length, kept, resample)
    height, width = pixels.shape[:2]
    shape = [height, width, 3]
    shape[axis] = kept.stop - kept.start
    made = np.empty(shape, np.uint8)
    source = np.ascontiguousarray(pixels)
    _resample.resample(source, height, width, made, axis, length, kept.start, kept.stop, resample)
    return made


def by_pillow(pixels: Pixels, axis: int, length: int, kept: slice, resample: int) -> Pixels:
    """The same by Pillow, some lines at a time."""
    step = max(1, STRIP_PIXELS // max(length, pixels.shape[axis]))
    starts = range(0, pixels.shape[1 - axis], step)
    strips = (pixels[along(1 - axis, slice(start, start + step))] for start in starts)
    parts = [_strip(strip, axis, length, resample)[along(axis, kept)] for strip in strips]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1 - axis)


def along(axis: int, part: slice) -> tuple[slice, slice]:
    """The index of a part of (H, W, 3) along an axis."""
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def _strip(pixels: Pixels, axis: int, length: int, resample: int) -> Pixels:
    height, width = pixels.shape[:2]
    size = (width, length) if axis == 0 else (length, height)
    return np.asarray(fromarray(pixels).resize(size, Resampling(resample)))
