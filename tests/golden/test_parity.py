"""Ours against transformers' PIL processors: the same pixels."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from pipeline.images import Preprocess, prepare, resample, transform
from tests.golden import reference
from tests.golden.pictures import SIZES, TEXTURES, photographs, picture, png
from tests.golden.reference import NAMES, PROCESSORS
from tests.parts.archives.real_archives import PartUnavailable

pytestmark = pytest.mark.torch


def apart(ours: np.ndarray, theirs: np.ndarray) -> int:
    assert ours.dtype == theirs.dtype == np.uint8
    assert ours.shape == theirs.shape
    return int(np.abs(ours.astype(np.int16) - theirs).max())


@cache
def preprocess_of(folder: Path) -> Preprocess:
    return Preprocess.from_folder(folder)


def compare(folder: Path, data: bytes) -> int:
    preprocess = preprocess_of(folder)
    ours = prepare(data, preprocess, exif=True)
    assert ours.pixels.shape == (preprocess.height, preprocess.width, 3)
    assert ours.pixels.flags.c_contiguous
    return apart(ours.pixels, reference.pixels(folder, reference.upright(data)))


def write(folder: Path, **config: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder


@pytest.mark.parametrize("size", SIZES, ids=lambda size: f"{size[0]}x{size[1]}")
@pytest.mark.parametrize("name", NAMES)
def test_pixels_of_every_size(name: str, size: tuple[int, int]) -> None:
    for texture in TEXTURES:
        assert compare(PROCESSORS / name, png(picture(texture, size))) == 0, texture


@pytest.mark.parametrize("name", NAMES)
def test_pixels_of_photographs(name: str) -> None:
    try:
        images = photographs()
    except PartUnavailable as error:
        pytest.skip(str(error))
    for data in images:
        assert compare(PROCESSORS / name, data) == 0


@pytest.mark.parametrize("name", NAMES)
def test_normalised_values_are_the_same_floats(name: str) -> None:
    folder = PROCESSORS / name
    preprocess = Preprocess.from_folder(folder)
    ours = prepare(png(picture("waves", (500, 375))), preprocess).pixels
    scaled = (ours * np.float32(preprocess.rescale) - preprocess.mean) / np.array(preprocess.std)
    theirs = reference.whole(folder, Image.fromarray(ours), do_resize=False, do_center_crop=False)
    np.testing.assert_allclose(scaled, theirs, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", NAMES)
def test_the_nine_take_the_fast_path_with_the_class_of_transformers(name: str) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / name)
    assert preprocess.as_dict()["path"] == "fast"
    assert preprocess.processor == type(reference.processor(PROCESSORS / name)).__name__


@pytest.mark.parametrize("resample", list(Image.Resampling)[:6])
@pytest.mark.parametrize("size", [{"shortest_edge": 96}, {"height": 70, "width": 111}])
@pytest.mark.parametrize("crop", [None, (64, 64), (95, 201), (301, 33)])
def test_every_filter_and_crop(
    resample: int, size: dict[str, int], crop: tuple[int, int] | None, tmp_path: Path
) -> None:
    if crop is None and "shortest_edge" in size:
        return  # of no fixed size; tests/images says that it is refused
    config: dict[str, Any] = {"do_center_crop": crop is not None, "resample": int(resample)}
    if crop:
        config["crop_size"] = {"height": crop[0], "width": crop[1]}
    folder = write(tmp_path, image_processor_type="CLIPImageProcessor", size=size, **config)
    assert Preprocess.from_folder(folder).as_dict()["path"] == "fast"
    for shape in ((150, 100), (99, 151), (96, 96), (31, 57)):
        assert compare(folder, png(picture("edges", shape))) == 0


def test_a_crop_without_a_resize(tmp_path: Path) -> None:
    crop = {"do_resize": False, "do_center_crop": True, "crop_size": {"height": 50, "width": 61}}
    folder = write(tmp_path, image_processor_type="CLIPImageProcessor", **crop)
    for shape in ((150, 100), (40, 151), (151, 40), (9, 8), (61, 50)):
        assert compare(folder, png(picture("noise", shape))) == 0


@pytest.mark.parametrize("edge", [160, 383, 384, 400])
def test_convnext_crops_below_384_and_warps_from_there(edge: int, tmp_path: Path) -> None:
    folder = write(tmp_path, image_processor_type="ConvNextImageProcessor", size=edge, crop_pct=0.9)
    assert compare(folder, png(picture("waves", (500, 301)))) == 0


@pytest.mark.parametrize("name", ["dinov2", "vit"])
@pytest.mark.parametrize("size", [(700, 500), (500, 700), (1000, 3), (3, 1000)])
def test_without_a_compiler_pillow_makes_the_same_pixels_strip_by_strip(
    name: str, size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / name)
    data = png(picture("noise", size))
    ours = prepare(data, preprocess).pixels
    monkeypatch.setattr(transform, "one_pass", resample.by_pillow)
    whole = prepare(data, preprocess).pixels
    monkeypatch.setattr(resample, "STRIP_PIXELS", 20_000)
    assert apart(whole, ours) == apart(prepare(data, preprocess).pixels, ours) == 0


@pytest.mark.parametrize(
    "kind",
    ["LevitImageProcessor", "MobileNetV2ImageProcessor", "EfficientNetImageProcessor"],
)
def test_other_steps_are_left_to_their_processor(kind: str, tmp_path: Path) -> None:
    folder = write(tmp_path, image_processor_type=kind, rescale_offset=True)
    preprocess = Preprocess.from_folder(folder)
    assert preprocess.as_dict()["path"] == "hf"
    for size in ((300, 200), (200, 300), (40, 30)):
        image = picture("edges", size)
        ours = prepare(png(image), preprocess).pixels
        assert ours.dtype == np.uint8
        scaled = (ours * preprocess.rescale - preprocess.mean) / np.array(preprocess.std)
        np.testing.assert_allclose(scaled, reference.whole(folder, image), rtol=0, atol=2e-6)


def test_channels_turned_round_stay_so(tmp_path: Path) -> None:
    folder = write(tmp_path, image_processor_type="MobileViTImageProcessor")
    assert Preprocess.from_folder(folder).as_dict()["path"] == "hf"
    assert compare(folder, png(picture("waves", (300, 200)))) == 0
