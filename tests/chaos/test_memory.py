"""Decoding takes no more memory than is documented, whatever the format."""

from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import ErrorCode
from pipeline.flow.child import Child
from pipeline.spec import MAX_PIXELS
from tests.parts.forge import encode, oriented
from tests.parts.hostile import bombs
from tests.parts.scenery import landscape
from tests.parts.trial import PIXELS, Trial, Verdict
from tests.parts.watch import MIB

pytestmark = pytest.mark.chaos

TRIAL = Trial(MAX_PIXELS, seconds=600.0)
ASK_SECONDS = 900.0

Encoder = Callable[[Image.Image], bytes]

SORTS: dict[str, Encoder] = {
    "JPEG": partial(encode, format_="JPEG"),
    "JPEG turned": partial(encode, format_="JPEG", exif=oriented(6)),
    "JPEG progressive": partial(encode, format_="JPEG", progressive=True),
    "JPEG CMYK": lambda image: encode(image.convert("CMYK"), "JPEG"),
    "PNG": partial(encode, format_="PNG", compress_level=1),
    "PNG alpha turned": lambda image: encode(
        image.convert("RGBA"), "PNG", compress_level=1, exif=oriented(6)
    ),
    "PNG palette": lambda image: encode(image.convert("P"), "PNG", compress_level=1),
    "WebP": partial(encode, format_="WEBP", method=0),
    "WebP alpha": lambda image: encode(image.convert("RGBA"), "WEBP", method=0),
    "WebP lossless": partial(encode, format_="WEBP", method=0, lossless=True),
    "GIF": partial(encode, format_="GIF"),
    "TIFF LZW": partial(encode, format_="TIFF", compression="tiff_lzw"),
    "TIFF CMYK": lambda image: encode(image.convert("CMYK"), "TIFF", compression="tiff_lzw"),
    "TIFF float": lambda image: encode(image.convert("F"), "TIFF"),
    "BMP": partial(encode, format_="BMP"),
    "AVIF": partial(encode, format_="AVIF", speed=10),
    "JPEG 2000": partial(encode, format_="JPEG2000"),
}


@pytest.fixture(scope="module")
def cost() -> Iterator[Callable[[bytes], Verdict]]:
    """What one image costs a warm worker."""
    child = Child(partial(_costs, TRIAL))
    yield partial(child.ask, seconds=ASK_SECONDS)
    child.end()


def _costs(trial: Trial) -> Callable[[bytes], Verdict]:
    return trial.warmed().cost


def _tell(what: str, data: bytes, verdict: Verdict) -> None:
    width, height = Image.open(BytesIO(data)).size
    print(
        f"{what:18} {width * height / 1e6:6.1f} MP {verdict.memory / MIB:7.0f} MiB "
        f"{verdict.memory / (width * height):5.1f} bytes a pixel {verdict.seconds:6.1f} s"
    )


@pytest.mark.parametrize("sort", SORTS)
def test_no_format_takes_more_than_documented(sort: str, cost: Callable[[bytes], Verdict]) -> None:
    data = SORTS[sort](landscape(4000, 3000))
    verdict = cost(data)
    _tell(sort, data, verdict)
    assert (verdict.outcome, verdict.wrong) == (PIXELS, None)


@pytest.mark.parametrize(
    ("size", "mode", "format_", "options"),
    [
        ((13377, 13377), "RGB", "JPEG", {}),
        ((13377, 13377), "RGB", "JPEG", {"progressive": True}),
        ((13377, 13377), "RGBA", "PNG", {"compress_level": 1}),
        ((16383, 10923), "RGBA", "WEBP", {"method": 0, "lossless": True}),
    ],
    ids=["JPEG", "progressive", "PNG", "WebP"],
)
def test_nor_does_the_largest_image_that_is_allowed(
    size: tuple[int, int],
    mode: str,
    format_: str,
    options: dict[str, Any],
    cost: Callable[[bytes], Verdict],
) -> None:
    data = encode(Image.new(mode, size, (90, 120, 60, 200)[: len(mode)]), format_, **options)
    verdict = cost(data)
    _tell(format_, data, verdict)
    assert (verdict.outcome, verdict.wrong) == (PIXELS, None)


def test_bombs_take_next_to_nothing(cost: Callable[[bytes], Verdict]) -> None:
    for name, data, codes in bombs():
        verdict = cost(data)
        if codes == {"too_large"}:
            assert verdict.outcome == ErrorCode.TOO_LARGE
            assert verdict.memory < 16 * MIB, name
