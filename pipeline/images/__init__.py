"""Images: the bytes of an object → model-sized uint8 RGB.

Workers call only `prepare`: decode (decode.py), then resize and crop (transform.py,
resample.py) as the model's own processor config says (preprocess.py). reference.py is the
reference that checks all of it.
"""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from pipeline.images.clipping import Clipped, Depth, Depths, added, clipping_warnings, depths_of
from pipeline.images.cost import Room, room_for, unbounded
from pipeline.images.decode import Decoded, Least, Opened, decode, supported_formats
from pipeline.images.preprocess import Preprocess
from pipeline.images.refusals import out_of_memory
from pipeline.images.resample import resizing
from pipeline.images.transform import resize_crop
from pipeline.spec import MAX_PIXELS

__all__ = [
    "Clipped",
    "Decoded",
    "Depth",
    "Depths",
    "Prepared",
    "Preprocess",
    "Room",
    "added",
    "clipping_warnings",
    "decode",
    "depths_of",
    "prepare",
    "resize_crop",
    "resizing",
    "supported_formats",
]


class Prepared(NamedTuple):
    """`pixels`: uint8 (H, W, 3) of the model's size, C-contiguous; the rest as in `Decoded`."""

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    mode: str
    clipped: Clipped | None


def prepare(
    data: bytes,
    preprocess: Preprocess,
    *,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
    fast: bool = False,
    room: Room = unbounded,
) -> Prepared:
    """Decode, turn upright, resize and crop one image. Raises ImageError.

    With `fast`, large JPEGs may be decoded at a smaller scale, at least twice the size that they
    are resized to: a few 1/255 from the reference (docs/parity.md). A large image is processed
    within `room` (see cost.py).
    """
    least = preprocess.doubled if fast and preprocess.config is None else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # as in `decode`
            opened = Opened(data, max_pixels)
            with room_for(opened.needs_for(preprocess), room):
                return _prepared(opened, preprocess, exif, least)
    except MemoryError:
        raise out_of_memory() from None


def _prepared(opened: Opened, preprocess: Preprocess, exif: bool, least: Least | None) -> Prepared:
    image = opened.decoded(exif=exif, on_white=preprocess.on_white, least=least)
    pixels = resize_crop(image.pixels, preprocess, (image.height, image.width))
    if pixels.base is not None:
        pixels = pixels.copy()  # a part of the whole image, which it would keep alive
    return Prepared(pixels, *image[1:])
