"""EXIF orientation of every type, value and byte order: upright where Pillow turns it upright."""

import struct
from collections.abc import Iterator
from functools import cache
from importlib.util import find_spec
from io import BytesIO

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image, ImageOps, features

from pipeline.images import decode
from pipeline.images.decode import orient
from pipeline.images.reference import reference_pixels
from tests.golden.pictures import picture
from tests.golden.reference import PROCESSORS
from tests.parts.images import tiffs
from tests.parts.images.forge import ORIENTATION, encode
from tests.parts.images.tiffs import Entry, exif, page, tiff

WHOLE = {
    "BYTE": tiffs.BYTE,
    "SHORT": tiffs.SHORT,
    "LONG": tiffs.LONG,
    "SBYTE": tiffs.SBYTE,
    "UNDEFINED": tiffs.UNDEFINED,
    "SSHORT": tiffs.SSHORT,
    "SLONG": tiffs.SLONG,
    "FLOAT": tiffs.FLOAT,
    "DOUBLE": tiffs.DOUBLE,
    "IFD": tiffs.IFD,
    "LONG8": tiffs.LONG8,
}
CONTAINERS = ["JPEG", "PNG", "WEBP", "TIFF", "MPO"]
CONTAINERS += ["AVIF"] * features.check("avif") + ["HEIF"] * bool(find_spec("pillow_heif"))
STORED = picture("waves", (40, 24))


def odd_values() -> Iterator[tuple[str, Entry]]:
    """Each with a name; all values, also such as mean nothing, for the types of numbers."""
    for value in range(10):
        for name, kind in WHOLE.items():
            yield f"{name} {value}", (kind, [value])
            yield f"{name} {value}, 3", (kind, [value, 3])
        for name, kind in (("RATIONAL", tiffs.RATIONAL), ("SRATIONAL", tiffs.SRATIONAL)):
            yield f"{name} {value}/1", (kind, [value, 1])
            yield f"{name} {2 * value}/2", (kind, [2 * value, 2])
            yield f"{name} {2 * value + 1}/2", (kind, [2 * value + 1, 2])
            yield f"{name} {value}/0", (kind, [value, 0])
        yield f"FLOAT {value}.5", (tiffs.FLOAT, [value + 0.5])
        for text in (b"%d\0", b"%d", b" %d\0"):
            yield f"ASCII {text % value!r}", (tiffs.ASCII, text % value)
    yield "SSHORT -6", (tiffs.SSHORT, [-6])
    yield "SHORT 262", (tiffs.SHORT, [262])
    yield "SHORT without a value", (tiffs.SHORT, [])
    yield "DOUBLE nan", (tiffs.DOUBLE, [float("nan")])


def hold(container: str, entry: Entry, order: str) -> bytes:
    """The picture in a file of this kind that says this of its orientation."""
    if container == "TIFF":
        return tiff([page(STORED, {ORIENTATION: entry})], order)
    block = exif(ORIENTATION, entry, order)
    if container in ("JPEG", "MPO"):
        plain = _plain(container)
        return plain[:2] + b"\xff\xe1" + struct.pack(">H", len(block) + 2) + block + plain[2:]
    if container in ("AVIF", "HEIF"):
        return in_place(_with_silent(container, order), block, order)
    return encode(STORED, container, exif=block)


def in_place(data: bytes, block: bytes, order: str) -> bytes:
    """Its encoder reads what it writes: the block is put in the place of one of another tag."""
    plain = _silent(order).removeprefix(b"Exif\0\0")
    assert data.count(plain) == 1
    block = block.removeprefix(b"Exif\0\0")
    return data.replace(plain, block) if len(block) == len(plain) else data


@cache
def _plain(container: str) -> bytes:
    pair = {"save_all": True, "append_images": [STORED]} if container == "MPO" else {}
    return encode(STORED, container, **pair)


@cache
def _with_silent(container: str, order: str) -> bytes:
    return encode(STORED, container, exif=_silent(order))


def _silent(order: str) -> bytes:
    return exif(ORIENTATION + 1, (tiffs.SHORT, [1]), order)


def by_pillow(data: bytes) -> NDArray[np.uint8]:
    """As `load_image` does it; as stored where that fails."""
    image = Image.open(BytesIO(data))
    try:
        return np.asarray(ImageOps.exif_transpose(image).convert("RGB"))
    except (TypeError, ValueError, OSError, SyntaxError, ArithmeticError, struct.error):
        return np.asarray(image.convert("RGB"))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("order", ["<", ">"])
@pytest.mark.parametrize("container", CONTAINERS)
def test_it_is_turned_as_pillow_turns_it(container: str, order: str) -> None:
    turned = set()
    for name, entry in odd_values():
        data = hold(container, entry, order)
        expected = by_pillow(data)
        image = decode(data)
        assert np.array_equal(image.pixels, expected), name
        assert (image.height, image.width) == expected.shape[:2], name
        turned.add(expected.tobytes())
    # What EXIF says of an AVIF or HEIF does not count: their own boxes turn them.
    assert len(turned) == (1 if container in ("AVIF", "HEIF") else 8)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("order", ["<", ">"])
def test_a_smaller_scale_is_turned_alike(order: str) -> None:
    def half(height: int, width: int) -> tuple[int, int]:
        return height // 2, width // 2

    for name, entry in odd_values():
        data = hold("JPEG", entry, order)
        stored, expected = decode(data, exif=False).pixels, by_pillow(data)
        (turn, *_) = (n for n in range(1, 9) if np.array_equal(orient(stored, n), expected))
        small = decode(data, exif=False, least=half)
        assert small.pixels.shape == (12, 20, 3)
        found = decode(data, least=half)
        assert np.array_equal(found.pixels, orient(small.pixels, turn)), name
        assert (found.height, found.width) == expected.shape[:2], name


@pytest.mark.torch
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("container", ["JPEG", "PNG", "TIFF"])
@pytest.mark.parametrize(
    "entry",
    [(tiffs.ASCII, b"6\0"), (tiffs.LONG, [6]), (tiffs.RATIONAL, [13, 2]), (tiffs.BYTE, [6])],
    ids=str,
)
def test_the_reference_of_verify_is_pillows_too(entry: Entry, container: str) -> None:
    data = hold(container, entry, ">")
    folder = PROCESSORS / "vit"
    upright = encode(Image.fromarray(by_pillow(data)), "PNG")
    assert np.array_equal(
        reference_pixels(data, folder, True), reference_pixels(upright, folder, True)
    )
