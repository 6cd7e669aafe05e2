"""Decodes the bytes of one object → upright RGB pixels, or an ImageError with the reason.

The reference is `transformers.image_utils.load_image`: Pillow opens by content,
EXIF orientation is applied, `convert("RGB")`. Plain JPEGs go directly to libjpeg-turbo,
which gives the same pixels in about half the time.
"""

import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from pipeline.errors import ErrorCode, ImageError
from pipeline.images.clipping import Clipped, clipped_to
from pipeline.images.cost import Room, decoding_bytes, preparing_bytes, room_for, unbounded
from pipeline.images.formats import formats, opened
from pipeline.images.refusals import PILLOW_ERRORS, check_whole, translated
from pipeline.spec import MAX_PIXELS

if TYPE_CHECKING:
    from pipeline.images.preprocess import Preprocess

_EXIF_ORIENTATION = 0x0112
_ORIENTATIONS = {orientation: orientation for orientation in range(1, 9)}
#: Orientations that swap width and height.
_SIDEWAYS = (5, 6, 7, 8)
_STRIP_PIXELS = 2**20


#: (height, width) of an upright image → the least (height, width) that is needed of it.
Least = Callable[[int, int], tuple[int, int]]


class Decoded(NamedTuple):
    """An upright image: `pixels` is uint8 (height, width, 3), RGB, C-contiguous, writable.

    If it was decoded at a smaller scale, `width` and `height` are still the image's own. `mode` is
    Pillow's, as in the file; for `clipped` see clipping.py.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int
    format: str
    mode: str
    clipped: Clipped | None


def decode(
    data: bytes,
    *,
    exif: bool = True,
    max_pixels: int = MAX_PIXELS,
    on_white: bool = False,
    least: Least | None = None,
    room: Room = unbounded,
) -> Decoded:
    """Decode the first frame of an image to RGB and turn it upright.

    `format` is Pillow's name in lower case (`jpeg`, `png`, `webp`, …). `exif=False` leaves the
    pixels as stored. `on_white` lays it on white if the file declares a colour
    transparent, which Pillow's RGB still remembers (see `Preprocess.on_white`). An image of
    more than `max_pixels` is refused from its header. With `least`, a JPEG is decoded at the
    smallest scale of a half or less (in eighths) that still gives what is needed. A large image
    is decoded within `room` (see cost.py).
    Raises ImageError: empty, not_an_image, truncated, undecodable, unsupported, too_large.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they become rows' errors or don't matter
        image = Opened(data, max_pixels)
        with room_for(image.needs, room):
            return image.decoded(exif=exif, on_white=on_white, least=least)


class Opened:
    """An image whose header was read and whose size is allowed; nothing is decoded yet.

    Raises ImageError, as `decode` does. `needs` is the memory in bytes that decoding takes.
    """

    def __init__(self, data: bytes, max_pixels: int) -> None:
        if not data:
            raise ImageError(ErrorCode.EMPTY, "the object has no bytes")
        self._data, self._max_pixels = data, max_pixels
        self._image: Image.Image | None = open_image(data, max_pixels)
        self.needs = decoding_bytes(self._image, data)

    def needs_for(self, preprocess: "Preprocess") -> int:
        """Memory in bytes that making a model's input of it takes."""
        return self.needs + (preparing_bytes(self._image, preprocess) if self._image else 0)

    def decoded(self, *, exif: bool, on_white: bool, least: Least | None) -> Decoded:
        """Its pixels and the rest, see `decode`. Once only: Pillow's data is released
        afterwards."""
        image, self._image = self._image, None
        if image is None:
            raise ValueError("an image is decoded once")
        width, height = image.size
        clipped: Clipped | None = None
        if isinstance(found := _jpeg_or_rgb(self._data, image, least), Image.Image):
            clipped = clipped_to(image)
        turn = _orientation(image) if exif else 1
        name = "jpeg" if image.format == "MPO" else (image.format or "").lower()
        mode = image.mode
        del image  # with its pixels and its decoder's buffers, before they are copied
        if isinstance(found, Image.Image):
            found = _array(_laid_on_white(found) if on_white else found)
            height, width = found.shape[:2]
        _check_size(width, height, self._max_pixels)
        if turn in _SIDEWAYS:
            width, height = height, width
        return Decoded(orient(found, turn), width, height, name, mode, clipped)


def supported_formats() -> list[str]:
    """The formats that this installation decodes."""
    return [name.lower() for name in formats()]


def orient(pixels: NDArray[np.uint8], orientation: int) -> NDArray[np.uint8]:
    """Turn (H, W, 3) upright by its EXIF orientation, 1 to 8 (CIPA DC-008, 4.6.4 A)."""
    if orientation in _SIDEWAYS:
        pixels = pixels.transpose(1, 0, 2)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    if orientation in (2, 3, 6, 7):
        pixels = pixels[:, ::-1]
    return np.ascontiguousarray(pixels)


def open_image(data: bytes, max_pixels: int) -> Image.Image:
    """The image with its header read and its size allowed, nothing decoded; raises ImageError."""
    _lift_pillow_limit(max_pixels)
    try:
        image = opened(data)
    except PILLOW_ERRORS as error:
        raise translated(error, data) from error
    check_whole(image, data)
    _check_size(*image.size, max_pixels)
    return image


def _jpeg_or_rgb(
    data: bytes, image: Image.Image, least: Least | None
) -> NDArray[np.uint8] | Image.Image:
    pixels = _jpeg_pixels(data, image, least)
    return pillow_rgb(data, image) if pixels is None else pixels


def _jpeg_pixels(data: bytes, image: Image.Image, least: Least | None) -> NDArray[np.uint8] | None:
    """Pixels of a clean 8-bit RGB or grey JPEG; None sends it to Pillow, which is the reference.

    The same DCT and upsampling as Pillow's. `strict` refuses everything that libjpeg warns of, so
    that damaged files are judged in one place.
    """
    if image.format not in ("JPEG", "MPO") or image.mode not in ("RGB", "L"):
        return None
    import simplejpeg

    options = {} if least is None else _scale(least, image.height, image.width)
    try:
        pixels: NDArray[np.uint8] = simplejpeg.decode_jpeg(
            data, "RGB", fastdct=False, fastupsample=False, strict=True, **options
        )
    except ValueError:
        return None
    return pixels if options or pixels.shape[1::-1] == image.size else None


def _scale(least: Least, height: int, width: int) -> dict[str, int]:
    """The smallest scale in eighths, up to a half, that suffices upright and sideways."""
    upright, sideways = least(height, width), least(width, height)
    return {
        "min_height": max(upright[0], sideways[1]),
        "min_width": max(upright[1], sideways[0]),
        "min_factor": 2,
    }


def pillow_rgb(data: bytes, image: Image.Image) -> Image.Image:
    """Pillow's own RGB of an image that `open_image` opened; raises ImageError."""
    try:
        return image.convert("RGB")
    except PILLOW_ERRORS as error:
        raise translated(error, data) from error


def _array(image: Image.Image) -> NDArray[np.uint8]:
    """The pixels of an RGB image, writable: a large one's in strips, since Pillow copies twice."""
    if image.width * image.height <= _STRIP_PIXELS:
        return np.array(image)
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    step = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, step):
        bottom = min(image.height, top + step)
        pixels[top:bottom] = np.asarray(image.crop((0, top, image.width, bottom)))
    return pixels


def _laid_on_white(rgb: Image.Image) -> Image.Image:
    """As `transformers.image_transforms.convert_to_rgb` does it."""
    if rgb.info.get("transparency") is None:
        return rgb
    white = Image.new("RGBA", rgb.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, rgb.convert("RGBA")).convert("RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF or XMP orientation; 1 if there is none or it cannot be read.

    A value of another type than SHORT counts if `ImageOps.exif_transpose` takes it for a
    whole number: 6.0 and 12/2 do, "6" and 6.5 do not.
    """
    try:
        return _ORIENTATIONS.get(image.getexif().get(_EXIF_ORIENTATION, 1), 1)
    except PILLOW_ERRORS:
        return 1


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels:
        raise ImageError(
            ErrorCode.TOO_LARGE,
            f"{width} by {height} is {width * height:,} pixels, over --max-pixels {max_pixels:,}",
        )


def _lift_pillow_limit(max_pixels: int) -> None:
    """Pillow refuses images over twice its own limit: raise that limit if more is allowed."""
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and 2 * limit < max_pixels:
        Image.MAX_IMAGE_PIXELS = -(-max_pixels // 2)
