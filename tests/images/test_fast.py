"""Large JPEGs decoded at a smaller scale: how far off, and that nothing else changes."""

from typing import Any

import numpy as np
import pytest

from pipeline.images import Preprocess, decode, prepare
from tests.golden.pictures import picture, png
from tests.golden.reference import NAMES, PROCESSORS
from tests.parts.images.forge import encode, oriented

pytestmark = pytest.mark.torch


def jpeg(size: tuple[int, int], texture: str = "blur", **options: Any) -> bytes:
    return encode(picture(texture, size), "JPEG", quality=90, **options)


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("size", [(2000, 1500), (1500, 2000), (3000, 600)])
def test_it_is_close_to_the_reference(name: str, size: tuple[int, int]) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / name)
    data = jpeg(size)
    fast = prepare(data, preprocess, fast=True)
    exact = prepare(data, preprocess)
    assert fast[1:] == exact[1:]
    off = np.abs(fast.pixels.astype(int) - exact.pixels)
    assert off.max() <= 6
    assert off.mean() < 0.7


@pytest.mark.parametrize(
    ("size", "sides"),
    [
        ((3584, 3584), (448, 448)),
        ((3583, 3583), (448, 448)),  # rounded up
        ((3500, 3500), (875, 875)),
        ((2400, 2400), (600, 600)),
        ((1250, 1250), (469, 469)),  # three eighths
        ((4000, 900), (2000, 450)),
        ((894, 894), (894, 894)),
    ],
)
def test_at_a_half_or_less_and_twice_the_model_at_least(
    size: tuple[int, int], sides: tuple[int, int]
) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / "vit")
    image = decode(jpeg(size), least=preprocess.doubled)
    assert (image.width, image.height) == size
    assert image.pixels.shape[1::-1] == sides


@pytest.mark.parametrize("orientation", range(1, 9))
def test_the_size_is_that_of_the_upright_image(orientation: int) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / "vit")
    data = jpeg((1800, 1200), exif=oriented(orientation))
    fast = prepare(data, preprocess, fast=True)
    exact = prepare(data, preprocess)
    assert fast[1:] == exact[1:]
    assert np.abs(fast.pixels.astype(int) - exact.pixels).max() <= 6


@pytest.mark.parametrize("orientation", [1, 6])
def test_a_box_that_is_no_square_is_enough_upright_and_sideways(orientation: int) -> None:
    data = jpeg((2400, 1200), exif=oriented(orientation))
    image = decode(data, least=lambda height, width: (200, 900))
    assert image.pixels.shape[0] >= 200
    assert image.pixels.shape[1] >= 900


@pytest.mark.parametrize(
    "data",
    [
        png(picture("blur", (2000, 1500))),
        jpeg((800, 600)),
        encode(picture("blur", (2000, 1500)).convert("CMYK"), "JPEG"),
    ],
    ids=["png", "small", "cmyk"],
)
def test_other_images_are_exact(data: bytes) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / "vit")
    fast, exact = prepare(data, preprocess, fast=True), prepare(data, preprocess)
    assert np.array_equal(fast.pixels, exact.pixels)


def test_a_processor_that_is_kept_whole_sees_all_of_an_image(tmp_path: Any) -> None:
    (tmp_path / "preprocessor_config.json").write_text(
        '{"image_processor_type": "LevitImageProcessor"}'
    )
    preprocess = Preprocess.from_folder(tmp_path)
    assert preprocess.config is not None
    data = jpeg((2000, 1500))
    fast, exact = prepare(data, preprocess, fast=True), prepare(data, preprocess)
    assert np.array_equal(fast.pixels, exact.pixels)


def test_grey_stays_grey() -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / "vit")
    data = encode(picture("blur", (2000, 1500)).convert("L"), "JPEG")
    pixels = prepare(data, preprocess, fast=True).pixels
    assert pixels.shape == (224, 224, 3)
    assert np.ptp(pixels.astype(int), axis=2).max() == 0
