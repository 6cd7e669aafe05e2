"""What is said of an image's memory from its header is enough, and not much more than it takes."""

from io import BytesIO

import pytest
from PIL import Image

from pipeline.images.cost import SMALL_BYTES, decoding_bytes
from pipeline.images.decode import Opened
from pipeline.isolation.child_process import Child
from tests.parts.images.costs import MAX_PIXELS, SORTS, meter, scene
from tests.parts.images.forge import encode

#: Every format, and of each the sort that takes the most; all sorts at full length in
#: tests/chaos/test_memory.py.
QUICK = [
    "JPEG turned",
    "JPEG progressive",
    "JPEG CMYK progressive",
    "PNG alpha",
    "WebP alpha",
    "GIF",
    "TIFF LZW",
    "TIFF float",
    "BMP",
    "AVIF 4:4:4",
    "JPEG 2000 alpha",
]


def test_what_is_said_holds() -> None:
    image, child, wrong = scene(12, flat=True), Child(meter), {}
    try:
        for name in filter(SORTS.__contains__, QUICK):
            taken, said = child.ask(SORTS[name](image), 60.0)
            if not taken <= said <= 3 * taken:
                wrong[name] = (taken, said)
    finally:
        child.end()
    assert wrong == {}


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA", "CMYK", "I;16", "F", "1", "P"])
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "GIF", "TIFF", "JPEG2000", "new"])
def test_nothing_is_forgotten_and_small_ones_are_small(name: str, mode: str) -> None:
    image = Image.new(mode, (6000, 6000))
    image.format = name
    assert decoding_bytes(image, b"") >= 36_000_000 * 7
    small = Image.new(mode, (2500, 3000))
    small.format = name
    assert decoding_bytes(small, b"") <= SMALL_BYTES


def test_scans_count_by_what_the_file_says() -> None:
    photo = Image.new("RGB", (6000, 6000), (9, 99, 200))
    plain = Opened(encode(photo, "JPEG"), MAX_PIXELS).needs
    for options in ({"progressive": True}, {"progressive": True, "quality": 100}):
        assert Opened(encode(photo, "JPEG", **options), MAX_PIXELS).needs > 1.4 * plain
    assert Opened(_in_scans_of_one(encode(photo, "JPEG")), MAX_PIXELS).needs > 1.4 * plain


def _in_scans_of_one(data: bytes) -> bytes:
    """The same as if its first scan were of one channel: what follows is not looked at."""
    at = data.index(b"\xff\xda")
    return data[: at + 2] + b"\0\x08\1" + data[at + 5 : at + 7] + data[at + 11 :]


def test_a_long_strip_is_said_to_take_what_its_first_pass_leaves() -> None:
    sink = BytesIO()
    Image.new("RGB", (20, 65_000)).save(sink, "PNG")
    from tests.parts.images.decode_trial import SHAPE

    assert Opened(sink.getvalue(), MAX_PIXELS).needs_for(SHAPE) > 65_000 * SHAPE.width * 3
