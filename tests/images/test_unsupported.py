"""Sound files that are not decoded say so, by name; a preview never stands for its photograph."""

import subprocess
import sys
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pipeline.errors import ErrorCode, ImageError
from pipeline.images import decode
from pipeline.images.reference import reference_pixels
from pipeline.images.signatures import sniff
from tests.golden.reference import PROCESSORS
from tests.parts.images import tiffs
from tests.parts.images.foreign import SVG, Foreign, foreign, ordinary, previews
from tests.parts.images.forge import encode, picture
from tests.parts.images.tiffs import COMPRESSION, page, tiff

FOREIGN, PREVIEWS = list(foreign()), list(previews())


def refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data)
    return caught.value


@pytest.mark.parametrize("entry", FOREIGN, ids=[name for name, _, _ in FOREIGN])
def test_what_is_sound_but_not_decoded_is_unsupported_and_named(entry: Foreign) -> None:
    _, data, words = entry
    error = refusal(data)
    assert (error.code, words in error.message) == (ErrorCode.UNSUPPORTED, True), error.message
    assert "; " in error.message  # what to do


@pytest.mark.parametrize("entry", PREVIEWS, ids=[name for name, _, _ in PREVIEWS])
def test_a_preview_is_never_labelled_in_silence(entry: Foreign) -> None:
    _, data, words = entry
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert Image.open(BytesIO(data)).convert("RGB").size  # Pillow shows it all the same
    error = refusal(data)
    assert (error.code, words in error.message) == (ErrorCode.UNSUPPORTED, True), error.message
    assert "preview" in error.message
    with pytest.raises(ImageError, match="preview"):
        reference_pixels(data, PROCESSORS / "vit", True)


@pytest.mark.parametrize("entry", list(ordinary()), ids=[name for name, _ in ordinary()])
def test_the_first_page_of_other_files_is_decoded_as_before(entry: tuple[str, bytes]) -> None:
    name, data = entry
    expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    image = decode(data)
    assert np.array_equal(image.pixels, expected)
    assert (image.width, image.height) == (96, 64)
    assert name.startswith("grey") or np.array_equal(expected, np.asarray(picture()))


def test_a_directory_that_points_to_itself_ends() -> None:
    _, data = next(ordinary())
    at = int.from_bytes(data[4:8], "little")
    count = int.from_bytes(data[at : at + 2], "little")
    following = at + 2 + 12 * count
    looped = data[:following] + data[4:8] + data[following + 4 :]
    assert np.array_equal(decode(looped).pixels, np.asarray(picture()))


@pytest.mark.parametrize(
    "text",
    [
        "<!DOCTYPE html><html><body><svg/></body></html>",
        '<?xml version="1.0"?><Error><Message>no <svg/> here</Message></Error>',
        "<!-- <svg> --><html/>",
        "<svgs/>",
        f"look: {SVG}",
        "<!-- never ends " + SVG,
        '<?xml version="1.0"?><!DOCTYPE svg [ <!ENTITY a "b"',
    ],
)
def test_other_markup_is_no_image(text: str) -> None:
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert refusal(text.encode(encoding)).code is ErrorCode.NOT_AN_IMAGE


def test_a_head_of_many_comments_is_read_at_once() -> None:
    assert sniff(b"<!---->" * 100_000) is None
    assert sniff(b"<!" * 100_000) is None


@pytest.mark.parametrize("name", [name for name, _, _ in PREVIEWS if "nef" in name])
def test_a_cut_or_damaged_preview_does_not_pass_for_an_image(name: str) -> None:
    """No cut gives pixels, wherever it falls, and no error of another kind comes out."""
    data = next(data for one, data, _ in PREVIEWS if one == name)
    for size in range(0, len(data), 7):
        assert refusal(data[:size]).code


@pytest.mark.parametrize(
    ("number", "codec", "words"),
    [(34925, "lzma", "LZMA"), (50000, "zstd", "Zstandard"), (50001, "webp", "WebP")],
)
def test_what_libtiff_may_lack_is_decoded_or_named(number: int, codec: str, words: str) -> None:
    try:
        data = encode(picture(), "TIFF", compression=codec)
    except (OSError, RuntimeError):
        data = tiff([page(picture(), {COMPRESSION: (tiffs.SHORT, [number])})])
        error = refusal(data)
        assert error.code is ErrorCode.UNSUPPORTED
        assert f"TIFF with {words} compression" in error.message
    else:
        assert decode(data).pixels.shape == (64, 96, 3)
        # What it could decode is damaged, not foreign.
        assert refusal(data[:16] + bytes(len(data) - 216) + data[-200:]).code == "undecodable"


def test_a_pillow_without_its_libraries_says_so() -> None:
    """Two modules are hidden and a codec taken out, as where Pillow was built without them."""
    script = """
import sys
from pathlib import Path
sys.modules["PIL._avif"] = sys.modules["PIL._webp"] = None
from PIL import Image
del Image.core.jpeg2k_decoder, Image.core.jpeg2k_encoder
from pipeline.errors import ImageError
from pipeline.images import decode
for path in sys.argv[1:]:
    try:
        decode(Path(path).read_bytes())
    except ImageError as error:
        print(error.code, error.message)
"""
    formats = [name for name in ("AVIF", "WEBP", "JPEG2000") if name in Image.SAVE]
    found = _told(script, formats)
    assert len(found) == len(formats)
    for name, line in zip(formats, found, strict=True):
        assert line == (
            f"unsupported {name} (this Pillow lacks its decoder) is not decoded here; "
            "install Pillow from PyPI"
        )


def _told(script: str, formats: list[str]) -> list[str]:
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in formats]
        for path in paths:
            path.write_bytes(encode(picture(), path.name))
        command = [sys.executable, "-c", script, *map(str, paths)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()
