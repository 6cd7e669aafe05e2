"""Decoding: the pixels of transformers' own loader, or one error code from the closed list."""

import subprocess
import sys
import warnings
from io import BytesIO
from typing import Any

import numpy as np
import pytest
import simplejpeg
from PIL import Image, ImageFile, features

from pipeline.errors import ErrorCode, ImageError
from pipeline.images import decode
from pipeline.images.decode import Decoded
from tests.golden.pictures import picture
from tests.golden.reference import upright
from tests.parts.images.forge import encode, patch_tiff
from tests.parts.images.hostile import Entry, bombs, entries

ENTRIES = list(entries())
ORIENTATION = 0x0112
FORMATS = ["JPEG", "PNG", "WEBP", "TIFF", "GIF", "BMP"]
FORMATS += ["AVIF"] * features.check("avif") + ["JPEG2000"] * features.check("jpg_2000")


def verdict(data: bytes, **limits: Any) -> tuple[ErrorCode | None, Decoded | None]:
    try:
        return None, decode(data, **limits)
    except ImageError as error:
        refused = error
    assert refused.message
    assert "\n" not in refused.message
    return refused.code, None


@pytest.mark.torch
@pytest.mark.parametrize("entry", ENTRIES, ids=[name for name, _, _ in ENTRIES])
def test_a_hostile_file_gives_its_code_or_the_pixels_of_the_loader(entry: Entry) -> None:
    _, data, codes = entry
    code, image = verdict(data)
    if image is None:
        assert code in codes
        return
    assert not codes or "" in codes
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = np.asarray(upright(data))
        except SyntaxError:  # transformers fails on the EXIF of a good picture; we do not
            expected = np.asarray(Image.open(BytesIO(data)).convert("RGB"))
    assert np.array_equal(image.pixels, expected)
    assert (image.height, image.width) == image.pixels.shape[:2]


@pytest.mark.torch
@pytest.mark.parametrize("name", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(orientation: int, name: str) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    data = encode(picture("waves", (40, 24)), name, exif=exif)
    image = decode(data)
    assert np.array_equal(image.pixels, np.asarray(upright(data)))
    assert (image.width, image.height) == ((24, 40) if orientation > 4 else (40, 24))
    assert image.pixels.flags.c_contiguous
    as_stored = decode(data, exif=False)
    assert np.array_equal(as_stored.pixels, np.asarray(Image.open(BytesIO(data)).convert("RGB")))


@pytest.mark.torch
def test_an_orientation_in_xmp_counts_too() -> None:
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><a tiff:Orientation="6"/></x:xmpmeta>'
    data = encode(picture("waves", (40, 24)), "JPEG", xmp=xmp)
    assert decode(data).pixels.shape == (40, 24, 3)
    assert np.array_equal(decode(data).pixels, np.asarray(upright(data)))


@pytest.mark.torch
@pytest.mark.parametrize("subsampling", ["444", "422", "420", "440", "411", "Gray"])
@pytest.mark.parametrize("size", [(64, 48), (61, 47), (1, 1), (17, 200)])
def test_libjpeg_turbo_gives_the_pixels_of_pillow(subsampling: str, size: tuple[int, int]) -> None:
    source = np.asarray(picture("blur", size))
    space = "RGB" if subsampling != "Gray" else "GRAY"
    source = source if space == "RGB" else np.ascontiguousarray(source[..., :1])
    data = simplejpeg.encode_jpeg(source, 60, space, subsampling)
    assert np.array_equal(decode(data).pixels, np.asarray(upright(data)))


@pytest.mark.torch
@pytest.mark.parametrize(
    "options",
    [
        {"progressive": True},
        {"quality": 5},
        {"quality": 100, "subsampling": 0},
        {"keep_rgb": True},
        {"restart_marker_blocks": 3},
    ],
    ids=str,
)
def test_unusual_jpegs_too(options: dict[str, Any]) -> None:
    data = encode(picture("edges", (133, 77)), "JPEG", **options)
    assert np.array_equal(decode(data).pixels, np.asarray(upright(data)))


@pytest.mark.parametrize("name", FORMATS)
def test_what_is_cut_short_is_truncated(name: str) -> None:
    data = encode(picture("noise", (64, 48)), name)
    assert decode(data).format == name.lower()
    for part in (0.2, 0.5, 0.9):
        code, _ = verdict(data[: int(len(data) * part)])
        assert code == ErrorCode.TRUNCATED, part


def test_what_pillow_does_not_know_is_unsupported_and_says_why() -> None:
    bmp = encode(picture("noise", (64, 48)), "BMP")
    two_bits = bmp[:28] + b"\x02\0" + bmp[30:]
    tiff = encode(picture("noise", (64, 48)), "TIFF")
    twelve_bits = encode(picture("noise", (64, 48)), "JPEG").replace(
        b"\xff\xc0\0\x11\x08", b"\xff\xc0\0\x11\x0c"
    )
    for data, reason in (
        (two_bits, "Unsupported BMP pixel depth"),
        (patch_tiff(tiff, {262: 9}), "unknown pixel mode"),
        (twelve_bits, "cannot handle 12-bit layers"),
    ):
        with pytest.raises(ImageError, match=reason) as caught:
            decode(data)
        assert caught.value.code is ErrorCode.UNSUPPORTED


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\2\0\0\0" + bytes(64),
        b"DanM" + b"\x12" * 64,
        b"\xc5\xd0\xd3\xc6" + b"\x12" * 64,
    ],
)
def test_an_image_by_its_first_bytes_is_one(data: bytes) -> None:
    assert verdict(data)[0] is ErrorCode.UNSUPPORTED


def test_a_thumbnail_does_not_hide_that_its_image_is_cut() -> None:
    exif = Image.Exif()
    exif[0x010E] = "\xff\xd9 as if the end" * 3
    data = encode(picture("noise", (64, 48)), "JPEG", exif=exif.tobytes() + b"\xff\xd9")
    assert verdict(data[: len(data) // 2])[0] == ErrorCode.TRUNCATED


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "empty"),
        (b"not an image at all", "not_an_image"),
        (b"\0" * 1000, "not_an_image"),
        (b"<html><body>403</body></html>", "not_an_image"),
        (b"<svg xmlns='http://www.w3.org/2000/svg'/>", "unsupported"),
        (b"\xff\x0a" + b"\x12" * 64, "unsupported"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\n", "unsupported"),
        (b"\x89PNG\r\n\x1a\n" + b"\x12" * 64 + b"IEND", "undecodable"),
    ],
)
def test_each_code(data: bytes, code: str) -> None:
    assert verdict(data)[0] == code


def test_the_header_alone_decides_on_size() -> None:
    data = encode(picture("noise", (300, 200)), "PNG")
    assert verdict(data, max_pixels=60_000)[0] is None
    assert verdict(data, max_pixels=59_999)[0] == ErrorCode.TOO_LARGE
    assert verdict(data[:60], max_pixels=59_999)[0] == ErrorCode.TOO_LARGE


def test_a_limit_above_pillows_own_is_granted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)
    data = encode(picture("noise", (300, 200)), "PNG")
    assert verdict(data, max_pixels=15_000)[0] == ErrorCode.TOO_LARGE
    assert verdict(data, max_pixels=60_000)[0] is None


def test_bombs_are_refused_within_64_mib(tmp_path: Any) -> None:
    for name, data, _ in bombs():
        (tmp_path / name).write_bytes(data)
    script = """
import resource, sys
from pathlib import Path
from pipeline.errors import ImageError
from pipeline.images import decode
from PIL import Image
Image.init()
used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 2**26, used + 2**26))
for path in sorted(Path(sys.argv[1]).iterdir()):
    try:
        decode(path.read_bytes())
    except ImageError as error:
        print(path.name, error.code)
"""
    command = [sys.executable, "-c", script, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    refused = dict(line.rsplit(" ", 1) for line in done.stdout.splitlines())
    must = {name for name, _, codes in bombs() if codes == {"too_large"}}
    assert must <= {name for name, code in refused.items() if code == "too_large"}


def test_pillow_stays_as_it_was_and_says_nothing() -> None:
    before = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        inside = list(warnings.filters)
        for _, data, _ in ENTRIES:
            verdict(data)
        assert list(warnings.filters) == inside
    after = (Image.MAX_IMAGE_PIXELS, ImageFile.LOAD_TRUNCATED_IMAGES, list(warnings.filters))
    assert after == before


@pytest.mark.torch
def test_a_stereo_pair_is_a_jpeg() -> None:
    pair = [picture("waves", (40, 24)), picture("blur", (40, 24))]
    data = encode(pair[0], "MPO", save_all=True, append_images=pair[1:])
    image = decode(data)
    assert image.format == "jpeg"
    assert np.array_equal(image.pixels, np.asarray(upright(data)))


def test_pixels_may_be_written_to() -> None:
    for name in FORMATS:
        assert decode(encode(picture("noise", (8, 8)), name)).pixels.flags.writeable
