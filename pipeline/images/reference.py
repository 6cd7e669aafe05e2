"""The reference for pixels: transformers' own image processor of a folder, in its Pillow form.

`verify` checks labels with it, so it shares no step with the code that labels: Pillow decodes and
turns the image, transformers chooses the processor and does all of its work. The backend is named
explicitly: if torchvision is installed, transformers would otherwise choose other pixels.
"""

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from functools import lru_cache
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from pipeline.errors import BadModelError, ErrorCode, ImageError
from pipeline.fields import one_line, refusals
from pipeline.images.formats import opened
from pipeline.images.refusals import PILLOW_ERRORS, check_whole
from pipeline.spec import MAX_PIXELS

#: Pillow's widest decoder, and copies of the image upright and as an array.
_BYTES_A_PIXEL, _SMALL_BYTES = 48, 256 * 2**20

#: Switches for steps after the uint8 pixels; `include_top` is EfficientNet's.
_AFTER_THE_PIXELS = ("do_rescale", "do_normalize", "include_top")


def reference_values(
    data: bytes,
    folder: Path,
    exif: bool,
    *,
    max_pixels: int = MAX_PIXELS,
    room: Callable[[int], AbstractContextManager[None]] | None = None,
) -> NDArray[np.float32]:
    """The input that the model in `folder` should get for an image: float32 (3, H, W), scaled.

    The image is turned as `transformers.image_utils.load_image` does (as stored if `exif` is
    False or its EXIF is broken). A large image is processed within `room`. Raises ImageError for
    the image, BadModelError for the folder.
    """
    with _room_for(data, max_pixels, room):
        return _processed(_opened(data, exif, max_pixels), folder).astype(np.float32)


def reference_pixels(
    data: bytes, folder: Path, exif: bool, *, max_pixels: int = MAX_PIXELS
) -> NDArray[np.uint8]:
    """The same before scaling: uint8 (H, W, 3), if the processor has such a step."""
    image = _opened(data, exif, max_pixels)
    known = _current(Path(folder)).valid_kwargs.__annotations__
    off = {name: False for name in _AFTER_THE_PIXELS if name in known}
    return np.ascontiguousarray(_processed(image, folder, **off).transpose(1, 2, 0))


def reference_image(
    data: bytes,
    exif: bool,
    *,
    max_pixels: int = MAX_PIXELS,
    room: Callable[[int], AbstractContextManager[None]] | None = None,
) -> Image.Image:
    """The upright RGB image itself, from Pillow. Raises ImageError."""
    with _room_for(data, max_pixels, room):
        return _opened(data, exif, max_pixels)


def _room_for(
    data: bytes, max_pixels: int, room: Callable[[int], AbstractContextManager[None]] | None
) -> AbstractContextManager[None]:
    """Room for everything that transformers may hold of an image; none for a small or
    broken one."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            width, height = opened(data).size
        except PILLOW_ERRORS:
            return nullcontext()
    needs = min(width * height, max_pixels) * _BYTES_A_PIXEL
    return nullcontext() if room is None or needs <= _SMALL_BYTES else room(needs)


def _processed(image: Image.Image, folder: Path, **options: bool) -> NDArray[Any]:
    processor = _current(Path(folder))
    tensors = _TENSORS.get(type(processor).__name__, "np")
    try:
        values = processor(image, return_tensors=tensors, **options)["pixel_values"]
    except refusals() as error:
        raise ImageError(ErrorCode.UNDECODABLE, f"the processor: {one_line(error)}") from error
    return np.asarray(values[0])


#: The one processor that does not return numpy.
_TENSORS = {"TimmWrapperImageProcessor": "pt"}


def _opened(data: bytes, exif: bool, max_pixels: int) -> Image.Image:
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and 2 * limit < max_pixels:  # Pillow allows twice its limit
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            image = opened(data)
            if image.width * image.height > max_pixels:
                raise ImageError(ErrorCode.TOO_LARGE, "the image is over --max-pixels")
            rgb = image.convert("RGB")
        except PILLOW_ERRORS as error:
            raise ImageError(ErrorCode.UNDECODABLE, one_line(error)) from error
        check_whole(image, data)  # a preview is not the photograph
        if exif:
            with suppress(*PILLOW_ERRORS):
                rgb = ImageOps.exif_transpose(image).convert("RGB")
    return rgb


def _current(folder: Path) -> Any:
    stamp = max((file.stat().st_mtime_ns for file in folder.glob("*.json")), default=0)
    return _loaded(folder, stamp)


@lru_cache(maxsize=4)
def _loaded(folder: Path, _stamp: int) -> Any:
    import transformers
    from transformers.utils import logging

    logging.set_verbosity_error()  # type: ignore[no-untyped-call]
    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    try:
        if former := _former_name(folder):
            return getattr(transformers, former).from_pretrained(folder, local_files_only=True)
        find: Any = transformers.AutoImageProcessor.from_pretrained
        return find(folder, backend="pil", **own)
    except refusals() as error:
        raise BadModelError(f"{folder}: transformers refuses it: {one_line(error)}") from error


def _former_name(folder: Path) -> str | None:
    """The class for an `image_processor_type` from before 2022, `ViTFeatureExtractor`.

    transformers itself reads that name only in `feature_extractor_type`.
    """
    auto = import_module("transformers.models.auto.image_processing_auto")
    config = auto.get_image_processor_config(folder, local_files_only=True)
    kind = str(config.get("image_processor_type") or "")
    former, is_former, _ = kind.partition("FeatureExtractor")
    return f"{former}ImageProcessorPil" if is_former else None
