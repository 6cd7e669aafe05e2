"""Images of more than 8 bits stay the reference's; those that lose their light are known."""

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from pipeline.images import Depth, added, clipping_warnings, decode, depths_of, prepare
from pipeline.images.clipping import clipped_to
from tests.golden.reference import upright
from tests.parts.images.decode_trial import SHAPE
from tests.parts.images.forge import encode, picture, png16

LIGHT = np.linspace(0.0, 1.0, 300 * 200).reshape(200, 300)
DRAWING = (LIGHT > 0.5).astype(np.float64)


def _held(values: NDArray[np.float64], kind: str) -> bytes:
    return encode(Image.fromarray(values.astype(kind)), "TIFF")


def _big_endian(values: NDArray[np.float64]) -> Image.Image:
    return Image.frombytes("I;16B", values.shape[::-1], values.astype(">u2").tobytes())


@pytest.mark.torch
@pytest.mark.parametrize(
    ("data", "mode", "clipped"),
    [
        (_held(LIGHT * 65535, "u2"), "I;16", "white"),
        (_held(LIGHT * 4000 + 300, "u2"), "I;16", "white"),
        (_held(LIGHT * 255, "u2"), "I;16", None),
        (_held(LIGHT * 1000, "u2"), "I;16", None),
        (_held(DRAWING * 65535, "u2"), "I;16", None),
        (_held(0 * LIGHT + 1000, "u2"), "I;16", None),
        (encode(Image.fromarray((LIGHT * 65535).astype("u2")), "PNG"), "I;16", "white"),
        (encode(_big_endian(LIGHT * 65535), "TIFF"), "I;16B", "white"),
        (_held(LIGHT * 1e6 - 2e6, "i4"), "I", "black"),
        (_held(LIGHT * 1e6, "i4"), "I", "white"),
        (_held(LIGHT * 255, "i4"), "I", None),
        (_held(LIGHT, "f4"), "F", "black"),
        (_held(LIGHT * 255, "f4"), "F", None),
        (_held(LIGHT * 65535, "f4"), "F", "white"),
        (_held(DRAWING * 255, "f4"), "F", None),
        (png16(), "RGB", None),
        (encode(Image.new("L", (30, 20), 255), "PNG"), "L", None),
        (encode(picture("1"), "PNG"), "1", None),
        (encode(Image.new("RGB", (30, 20)), "JPEG"), "RGB", None),
    ],
)
def test_what_clips_is_told_and_its_pixels_stay_as_they_are(
    data: bytes, mode: str, clipped: str | None
) -> None:
    image = decode(data)
    assert (image.mode, image.clipped) == (mode, clipped)
    assert np.array_equal(image.pixels, np.asarray(upright(data)))
    prepared = prepare(data, SHAPE)
    assert (prepared.mode, prepared.clipped) == (mode, clipped)


@pytest.mark.parametrize("mode", ["I;16", "I;16L", "I;16B", "I;16N"])
def test_every_mode_of_16_bits_is_looked_at(mode: str) -> None:
    order = ">" if mode == "I;16B" else "<"
    light = (LIGHT * 65535).astype(f"{order}u2")
    assert clipped_to(Image.frombytes(mode, (300, 200), light.tobytes())) == "white"


@pytest.mark.torch
def test_values_that_are_no_numbers_end_nothing() -> None:
    values = LIGHT.astype("f4")
    values[:50] = np.nan
    values[50:60] = np.inf
    image = decode(encode(Image.fromarray(values), "TIFF"))
    assert np.array_equal(
        image.pixels, np.asarray(upright(encode(Image.fromarray(values), "TIFF")))
    )


def test_images_are_counted_by_mode_and_many_are_warned_of() -> None:
    images = [("I;16", "white")] * 31 + [("I;16", None)] * 9 + [("F", "black")] * 2
    depths = added([depths_of(images[:20]), depths_of(images[20:]), depths_of([("RGB", None)])])
    assert depths == {"I;16": Depth(40, 31, 0), "F": Depth(2, 0, 2)}
    floats, greys = clipping_warnings(depths)
    assert floats.startswith("2 of 2 float (F) images clip to black: their labels mean little")
    assert greys.startswith("31 of 40 16-bit grey (I;16) images clip to white")


def test_few_are_not_worth_a_warning() -> None:
    assert not list(clipping_warnings({"I;16": Depth(1000, 99, 0), "F": Depth(5, 0, 0)}))
    assert len(list(clipping_warnings({"I;16": Depth(1000, 100, 100)}))) == 2
