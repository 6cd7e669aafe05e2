"""Decoding takes no more memory than is documented, whatever the format."""

from collections.abc import Callable, Iterator
from functools import partial
from io import BytesIO
from typing import Any

import pytest
from PIL import Image

from pipeline.errors import ErrorCode
from pipeline.isolation.child_process import Child
from pipeline.spec import MAX_PIXELS
from tests.parts.images.costs import SORTS, meter, scene
from tests.parts.images.decode_trial import PIXELS, Trial, Verdict
from tests.parts.images.forge import encode
from tests.parts.images.hostile import bombs
from tests.parts.images.synthetic_photos import landscape
from tests.parts.processes.watch import MIB

pytestmark = pytest.mark.chaos

TRIAL = Trial(MAX_PIXELS, seconds=600.0)
ASK_SECONDS = 900.0


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


@pytest.mark.parametrize("megapixels", [12, 64])
@pytest.mark.parametrize("sort", SORTS)
def test_what_is_said_beforehand_holds(sort: str, megapixels: int) -> None:
    """A photograph's noise at 12 MP, and a bomb's one colour at 64."""
    child = Child(meter)
    try:
        taken, said = child.ask(SORTS[sort](scene(megapixels, flat=megapixels > 12)), ASK_SECONDS)
    finally:
        child.end()
    print(f"{sort:22} {megapixels} MP took {taken / MIB:.0f} MiB, said {said / MIB:.0f} MiB")
    assert taken <= said <= 3.5 * taken


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
