"""Upright RGB pixels → the model's input size, as the Hugging Face PIL processor does it.

Pillow resizes in two passes, one an axis, and rounds to uint8 between them; here the passes
are separate, so that what a centre crop throws away is never made and a strip of 1 × 5000
does not become gigabytes.

torch's uint8 kernel is several times faster on large images. One pass of it is at most 1/255
off Pillow's, but two in a row, or one before a filter with negative lobes, reach 2/255. So
it takes the first pass of a bilinear resize, whose second pass is a mean and cannot widen an
error, and Pillow does all the rest.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ErrorCode, ImageError

if TYPE_CHECKING:
    from pipeline.images.preprocess import Preprocess

Pixels = NDArray[np.uint8]

#: One pass along an axis: (pixels, axis, length, PIL resampling) → pixels.
Pass = Callable[[Pixels, int, int, int], Pixels]

#: Below this, Pillow is quick enough that a worker need not import torch (seconds) for it.
TORCH_PIXELS = 500_000

#: The most pixels that one call of Pillow may make: 64 MiB at its 4 bytes a pixel.
STRIP_PIXELS = 2**24

#: The most pixels a very long image may be blown up to before its crop. Our passes take some
#: 10 s for it; the Hugging Face processor holds all of it in memory, so it gets less.
MAX_RESIZED = 2**30
MAX_RESIZED_WHOLE = 2**28


def resize_crop(pixels: Pixels, preprocess: "Preprocess") -> Pixels:
    """Resize and crop uint8 (H, W, 3) to uint8 (preprocess.height, preprocess.width, 3).

    At most 1/255 from the Hugging Face PIL processor of the same model, or made by it.
    Raises ImageError(too_large) for a strip so long that its resized form is out of reach.
    """
    _check_length(pixels, preprocess)
    if preprocess.config is not None:
        from pipeline.images.reference import run, saved_processor

        return run(saved_processor(preprocess.processor, preprocess.config), pixels)
    resized = preprocess.resized(*pixels.shape[:2])
    crop = preprocess.crop or resized
    first, second = (0, 1) if _vertical_first(pixels.shape, resized) else (1, 0)
    for axis, one_pass in ((first, _first_pass(pixels, preprocess.resample)), (second, _pillow)):
        kept = _kept(resized[axis], crop[axis])
        if pixels.shape[axis] == resized[axis]:
            pixels = pixels[_along(axis, kept)]
        else:
            pixels = _in_strips(one_pass, pixels, axis, resized[axis], kept, preprocess.resample)
    return _padded(pixels, crop)


def _vertical_first(shape: tuple[int, ...], resized: tuple[int, int]) -> bool:
    """Pillow's order of passes since 13.0 (libImaging/Resample.c, ImagingResampleInner)."""
    fewer_rows, fewer_columns = shape[0] - resized[0], shape[1] - resized[1]
    return fewer_rows > 0 and fewer_rows > 2 * fewer_columns


def _kept(length: int, target: int) -> slice:
    """What a centre crop keeps (transformers.image_transforms.center_crop)."""
    start = max(0, (length - target) // 2)
    return slice(start, min(length, start + target))


def _padded(pixels: Pixels, target: tuple[int, int]) -> Pixels:
    """Black borders where the crop is larger than the image; an odd line goes before it."""
    if pixels.shape[:2] == target:
        return np.ascontiguousarray(pixels)
    height, width = pixels.shape[:2]
    top, left = (target[0] - height + 1) // 2, (target[1] - width + 1) // 2
    padded = np.zeros((*target, 3), np.uint8)
    padded[top : top + height, left : left + width] = pixels
    return padded


def _in_strips(
    one_pass: Pass, pixels: Pixels, axis: int, length: int, kept: slice, resample: int
) -> Pixels:
    """One pass along `axis`, some lines at a time, keeping only what the crop keeps."""
    step = max(1, STRIP_PIXELS // max(length, pixels.shape[axis]))
    starts = range(0, pixels.shape[1 - axis], step)
    strips = (pixels[_along(1 - axis, slice(start, start + step))] for start in starts)
    parts = [one_pass(strip, axis, length, resample)[_along(axis, kept)] for strip in strips]
    return parts[0] if len(parts) == 1 else np.concatenate(parts, axis=1 - axis)


def _along(axis: int, part: slice) -> tuple[slice, slice]:
    return (part, slice(None)) if axis == 0 else (slice(None), part)


def _first_pass(pixels: Pixels, resample: int) -> Pass:
    large = pixels.shape[0] * pixels.shape[1] >= TORCH_PIXELS
    return _torch if large and resample == Image.Resampling.BILINEAR else _pillow


def _pillow(pixels: Pixels, axis: int, length: int, resample: int) -> Pixels:
    height, width = pixels.shape[:2]
    size = (width, length) if axis == 0 else (length, height)
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling(resample)))


def _torch(pixels: Pixels, axis: int, length: int, _resample: int) -> Pixels:
    """Bilinear, antialiased; the caller sets the number of threads."""
    import torch
    from torch.nn.functional import interpolate

    height, width = pixels.shape[:2]
    size = (length, width) if axis == 0 else (height, length)
    # A view of HWC as NCHW is torch's channels_last, for which its vectorised kernel is made.
    image = torch.from_numpy(np.require(pixels, requirements="W")).permute(2, 0, 1)[None]
    resized: Pixels = interpolate(image, size, mode="bilinear", antialias=True)[0].numpy()
    return resized.transpose(1, 2, 0)


def _check_length(pixels: Pixels, preprocess: "Preprocess") -> None:
    if preprocess.shortest_edge is None and preprocess.config is None:
        return
    long, short = max(pixels.shape[:2]), min(pixels.shape[:2])
    limit = MAX_RESIZED if preprocess.config is None else MAX_RESIZED_WHOLE
    if preprocess.height * preprocess.width * long / short > limit:
        shape = f"{pixels.shape[1]} by {pixels.shape[0]}"
        raise ImageError(ErrorCode.TOO_LARGE, f"a strip of {shape} is too long for its short edge")
