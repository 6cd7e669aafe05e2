"""Pillow opens the formats that are decoded here; no other plugin of its is ever entered."""

import subprocess
import sys
from io import BytesIO
from typing import Any

import pytest
from PIL import Image, ImageFile

from pipeline.errors import ErrorCode, ImageError
from pipeline.images import decode, supported_formats
from pipeline.images.formats import FORMATS, formats
from pipeline.images.reference import reference_pixels
from tests.golden.reference import PROCESSORS
from tests.parts.images.forge import encode, picture
from tests.parts.images.hostile import entries, no_images
from tests.parts.images.undecoded_formats import undecoded_files

Image.init()
UNDECODED = list(undecoded_files())
REGISTERED = [name for name in Image.OPEN if name not in FORMATS]


@pytest.fixture
def entered(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The plugins that were asked or entered, of those that are not decoded here."""
    seen: list[str] = []

    def watched(name: str) -> tuple[Any, Any]:
        factory, accept = Image.OPEN[name]

        def enter(*arguments: Any) -> Any:
            seen.append(name)
            return factory(*arguments)

        def ask(prefix: bytes) -> Any:
            seen.append(name)
            return accept is None or accept(prefix)

        return enter, ask

    for name in REGISTERED:
        monkeypatch.setitem(Image.OPEN, name, watched(name))
    return seen


def refusal(data: bytes) -> ImageError:
    with pytest.raises(ImageError) as caught:
        decode(data)
    return caught.value


def test_there_is_a_file_for_each_plugin_that_is_not_decoded() -> None:
    assert set(REGISTERED) - {name for name, _ in UNDECODED} == set()
    assert len(REGISTERED) > 25


@pytest.mark.parametrize("entry", UNDECODED, ids=[name for name, _ in UNDECODED])
def test_a_format_that_is_not_decoded_is_refused_by_name_and_its_plugin_never_runs(
    entry: tuple[str, bytes], entered: list[str]
) -> None:
    name, data = entry
    if name == "FPX":  # a container of Microsoft's for anything: no image, as far as bytes say
        assert refusal(data).code is ErrorCode.NOT_AN_IMAGE
    else:
        error = refusal(data)
        assert (error.code, "; " in error.message) == (ErrorCode.UNSUPPORTED, True), error.message
    with pytest.raises(ImageError):
        reference_pixels(data, PROCESSORS / "vit", True)
    assert entered == []


def test_the_plugins_are_really_watched(entered: list[str]) -> None:
    with pytest.raises(OSError, match="cannot identify"):
        Image.open(BytesIO(b"no image at all"))
    assert len(set(entered)) == len(REGISTERED)


def test_no_hostile_file_reaches_another_plugin(entered: list[str]) -> None:
    """Cut and damaged ones too, and pictures within other formats (PNG in ICO and in BMP, …)."""
    for _, data, _ in entries():
        try:
            decode(data)
        except ImageError:
            continue
    for name, data in UNDECODED:
        for size in (3, 8, 16, 40, 200, len(data) // 2):
            assert refusal(data[:size]).code != ErrorCode.CRASHED, name
    assert entered == []


@pytest.mark.parametrize("entry", list(no_images()), ids=[name for name, _, _ in no_images()])
def test_what_is_no_image_is_not_taken_for_a_rare_one(entry: tuple[str, bytes, Any]) -> None:
    _, data, codes = entry
    assert refusal(data).code in codes


def test_a_fresh_decoder_does_not_even_import_them() -> None:
    script = (
        "import sys; from pipeline.errors import ImageError; from pipeline.images import decode\n"
        "for data in (sys.argv[1].encode(), b'%!PS-Adobe-3.0 EPSF-3.0'):\n"
        "    try: decode(data)\n"
        "    except ImageError as error: print(error.code)\n"
        "wrong = {'Eps', 'Fli', 'Psd', 'WmfStub', 'Hdf5Stub', 'Xpm', 'Sgi', 'Pcx'}\n"
        "print([one for one in wrong if f'PIL.{one}ImagePlugin' in sys.modules])\n"
    )
    command = [sys.executable, "-c", script, "no image"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n")[:3] == ["not_an_image", "unsupported", "[]"]


def test_all_that_is_decoded_is_still_opened() -> None:
    assert supported_formats() == [name.lower() for name in formats()]
    for name in set(formats()) & set(Image.SAVE):
        assert decode(encode(picture(), name)).format == name.lower()
    assert {"JPEG", "PNG", "GIF", "BMP", "DIB", "TIFF"} <= set(formats())


def test_pillow_repairs_nothing_and_limits_what_texts_may_unpack_to() -> None:
    from PIL import PngImagePlugin

    assert ImageFile.LOAD_TRUNCATED_IMAGES is False
    assert PngImagePlugin.MAX_TEXT_MEMORY <= 64 * 2**20
    assert PngImagePlugin.MAX_TEXT_CHUNK <= 2**20
