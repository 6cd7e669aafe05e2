"""Upright RGB pixels → the model's input size, as the Hugging Face PIL processor does it."""

from typing import TYPE_CHECKING

import numpy as np

from pipeline.errors import ErrorCode, ImageError
from pipeline.images.resample import Pixels, along, one_pass

if TYPE_CHECKING:
    from pipeline.images.preprocess import Preprocess

#: The most pixels a very long image may be enlarged to before its crop. Our passes take some 10 s
#: for it; the Hugging Face processor holds all of it in memory, so its limit is lower.
MAX_RESIZED = 2**30
MAX_RESIZED_WHOLE = 2**28


def resize_crop(
    pixels: Pixels, preprocess: "Preprocess", size: tuple[int, int] | None = None
) -> Pixels:
    """Resize and crop uint8 (H, W, 3) to uint8 (preprocess.height, preprocess.width, 3).

    Exactly the result of the model's Hugging Face PIL processor, or made by it.
    `size` is the (height, width) of an image whose pixels were decoded at a smaller scale.
    Raises ImageError(too_large) for a strip so long that its resized form is too large.
    """
    size = size or pixels.shape[:2]
    _check_length(size, preprocess)
    if preprocess.config is not None:
        from pipeline.images.processors import run, saved_processor

        return run(saved_processor(preprocess.processor, preprocess.config), pixels)
    resized = preprocess.resized(*size)
    crop = preprocess.crop or resized
    for axis in (0, 1) if _vertical_first(pixels.shape, resized) else (1, 0):
        kept = _kept(resized[axis], crop[axis], preprocess.crop_half_even)
        if pixels.shape[axis] == resized[axis]:
            pixels = pixels[along(axis, kept)]
        else:
            pixels = one_pass(pixels, axis, resized[axis], kept, preprocess.resample)
    return _padded(pixels, crop)


def _vertical_first(shape: tuple[int, ...], resized: tuple[int, int]) -> bool:
    """Pillow's order of passes since 13.0 (libImaging/Resample.c, ImagingResampleInner)."""
    fewer_rows, fewer_columns = shape[0] - resized[0], shape[1] - resized[1]
    return fewer_rows > 0 and fewer_rows > 2 * fewer_columns


def _kept(length: int, target: int, half_even: bool) -> slice:
    """What a centre crop keeps (transformers.image_transforms.center_crop, or torchvision's)."""
    left_over = length - target
    start = max(0, round(left_over / 2) if half_even else left_over // 2)
    return slice(start, min(length, start + target))


def _padded(pixels: Pixels, target: tuple[int, int]) -> Pixels:
    """Black borders if the crop is larger than the image; an odd line goes before it."""
    if pixels.shape[:2] == target:
        return np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    top, left = (target[0] - height + 1) // 2, (target[1] - width + 1) // 2
    padded = np.zeros((*target, 3), np.uint8)
    padded[top : top + height, left : left + width] = pixels
    return padded


def _check_length(size: tuple[int, int], preprocess: "Preprocess") -> None:
    if preprocess.shortest_edge is None and preprocess.config is None:
        return
    limit = MAX_RESIZED if preprocess.config is None else MAX_RESIZED_WHOLE
    if preprocess.height * preprocess.width * max(size) / min(size) > limit:
        strip = f"{size[1]} by {size[0]}"
        raise ImageError(ErrorCode.TOO_LARGE, f"a strip of {strip} is too long for its short edge")
