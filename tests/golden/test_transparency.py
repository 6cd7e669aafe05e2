"""Files that call one colour transparent: what transformers' own way from file to pixels gives.

`load_image` makes them RGB and Pillow remembers the colour; a processor that converts to RGB
again then lays the image on white, one that does not leaves the colour as it is.
"""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from transformers import AutoImageProcessor
from transformers.image_utils import load_image

from pipeline.images import Preprocess, prepare
from pipeline.images.reference import reference_pixels
from tests.golden.reference import NAMES, PROCESSORS


def _blocks(channels: int) -> np.ndarray:
    draw = np.random.default_rng(3)
    coarse = draw.integers(0, 4, (7, 9, channels), np.uint8) * 60
    return coarse.repeat(10, axis=0).repeat(10, axis=1)


def _paletted(**options: object) -> bytes:
    return _saved(Image.fromarray(_blocks(3)).quantize(16), **options)


def _saved(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    sink = io.BytesIO()
    image.save(sink, kind, **options)
    return sink.getvalue()


FILES = {
    "P, one index": _paletted(transparency=3),
    "P, an alpha for each": _paletted(transparency=bytes(range(0, 160, 10))),
    "P, plain": _paletted(),
    "RGB": _saved(Image.fromarray(_blocks(3)), transparency=tuple(map(int, _blocks(3)[35, 45]))),
    "L": _saved(Image.fromarray(_blocks(1)[..., 0]), transparency=60),
    "1": _saved(Image.fromarray(_blocks(1)[..., 0]).convert("1"), transparency=0),
    "GIF": _saved(Image.fromarray(_blocks(3)).quantize(16), "GIF", transparency=3),
    "RGBA": _saved(Image.fromarray(_blocks(4), "RGBA")),
    "LA": _saved(Image.fromarray(_blocks(2), "LA")),
}


@pytest.mark.filterwarnings("ignore:Palette images with Transparency:UserWarning")
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", FILES)
def test_transparent_colours_are_as_transformers_shows_them(
    kind: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / "image"
    path.write_bytes(FILES[kind])
    processor = AutoImageProcessor.from_pretrained(PROCESSORS / name, backend="pil")
    values = processor(
        load_image(str(path)), return_tensors="np", do_rescale=False, do_normalize=False
    )["pixel_values"]
    expected = values[0].transpose(1, 2, 0).astype(np.int16)
    ours = prepare(FILES[kind], Preprocess.from_folder(PROCESSORS / name)).pixels
    assert np.abs(ours - expected).max() <= 1
    again = reference_pixels(FILES[kind], PROCESSORS / name, exif=True)
    assert np.array_equal(again, expected)


def test_some_of_these_files_do_turn_white() -> None:
    path = PROCESSORS / "dinov2"
    white = Preprocess.from_folder(path)
    assert white.on_white
    plain = prepare(FILES["RGB"], white).pixels
    coloured = prepare(_saved(Image.fromarray(_blocks(3))), white).pixels
    assert (plain == 255).all(axis=-1).mean() > 0.01
    assert not np.array_equal(plain, coloured)
