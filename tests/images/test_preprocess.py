"""Reading a model's processor config: defaults, refusals, and what travels to the workers."""

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from pipeline.errors import ErrorCode, ImageError, ModelError
from pipeline.images import Preprocess, prepare, resize_crop
from pipeline.images.reference import reference_pixels
from tests.golden.pictures import picture, png
from tests.golden.reference import NAMES, PROCESSORS
from tests.parts.images.forge import encode

pytestmark = pytest.mark.torch


def folder_with(folder: Path, **config: Any) -> Path:
    (folder / "preprocessor_config.json").write_text(json.dumps(config))
    return folder


def test_the_defaults_are_those_of_the_class(tmp_path: Path) -> None:
    got = Preprocess.from_folder(folder_with(tmp_path, image_processor_type="DeiTImageProcessor"))
    assert (got.box, got.crop, got.resample) == ((256, 256), (224, 224), 3)
    assert (got.height, got.width) == (224, 224)
    assert got.mean == got.std == (0.5, 0.5, 0.5)
    assert got.rescale == 1 / 255


def test_the_type_of_the_model_names_the_processor(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "convnextv2"}')
    got = Preprocess.from_folder(folder_with(tmp_path, size=224))
    assert got.processor == "ConvNextImageProcessorPil"


@pytest.mark.parametrize("kind", ["ViTFeatureExtractor", "ViTImageProcessorFast"])
def test_former_names_are_known(kind: str, tmp_path: Path) -> None:
    key = "image_processor_type" if kind.endswith("Fast") else "feature_extractor_type"
    got = Preprocess.from_folder(folder_with(tmp_path, **{key: kind}))
    assert got.processor == "ViTImageProcessorPil"


def test_a_nested_config_comes_first_as_in_transformers(tmp_path: Path) -> None:
    folder_with(tmp_path, image_processor_type="ViTImageProcessor", size=100)
    nested = {"image_processor": {"image_processor_type": "ViTImageProcessor", "size": 120}}
    (tmp_path / "processor_config.json").write_text(json.dumps(nested))
    assert Preprocess.from_folder(tmp_path).box == (120, 120)


def test_scales_that_are_switched_off(tmp_path: Path) -> None:
    off = {"do_rescale": False, "do_normalize": False}
    got = Preprocess.from_folder(
        folder_with(tmp_path, image_processor_type="ViTImageProcessor", **off)
    )
    assert (got.rescale, got.mean, got.std) == (1.0, (0.0,) * 3, (1.0,) * 3)


def test_an_offset_and_a_second_division_are_folded_in(tmp_path: Path) -> None:
    config = {"rescale_factor": 1 / 127.5, "rescale_offset": True, "do_normalize": False}
    folder_with(tmp_path, image_processor_type="EfficientNetImageProcessor", **config)
    got = Preprocess.from_folder(tmp_path)
    assert (got.rescale, got.mean, got.std) == (1 / 127.5, (1.0,) * 3, (0.5,) * 3)


@pytest.mark.parametrize(
    ("config", "says"),
    [
        ({"image_processor_type": "NoSuchImageProcessor"}, "is not known"),
        ({"image_processor_type": "Mine", "auto_map": {"a": "b"}}, "needs code of its own"),
        ({"size": 224}, "is not known"),
        ({"image_processor_type": "DetrImageProcessor"}, "no fixed size"),
        ({"image_processor_type": "DINOv3ViTImageProcessor"}, "no Pillow form"),
        ({"image_processor_type": "TimmWrapperImageProcessor"}, "no Pillow form"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"wide": 2}}, "size"),
        ({"image_processor_type": "ViTImageProcessor", "size": {"longest_edge": 9}}, "[Ss]ize"),
        ({"image_processor_type": "ViTImageProcessor", "resample": 77}, "resampling filter"),
        (
            {
                "image_processor_type": "ViTImageProcessor",
                "do_pad": True,
                "pad_size": {"height": 256, "width": 256},
            },
            "more than scale and shift",
        ),
        (
            {"image_processor_type": "CLIPImageProcessor", "do_center_crop": False},
            "no fixed size",
        ),
    ],
)
def test_what_cannot_be_reproduced_is_refused(
    config: dict[str, Any], says: str, tmp_path: Path
) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        Preprocess.from_folder(folder_with(tmp_path, **config))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", [None, "{", "[]", "{}"])
def test_a_config_that_is_missing_or_no_object(text: str | None, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "preprocessor_config.json").write_text(text)
    with pytest.raises(ModelError, match=r"preprocessor_config\.json"):
        Preprocess.from_folder(tmp_path)


@pytest.mark.parametrize("name", NAMES)
def test_it_travels_and_is_recorded(name: str) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / name)
    parcel = pickle.dumps(preprocess)
    assert len(parcel) < 1_000
    assert pickle.loads(parcel) == preprocess == Preprocess.from_folder(PROCESSORS / name)
    recorded = preprocess.as_dict()
    assert json.loads(json.dumps(recorded)) == recorded
    assert recorded["reference"] == "pil"


def test_a_worker_needs_no_folder_for_another_processor(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, image_processor_type="LevitImageProcessor")
    data = png(picture("waves", (300, 200)))
    expected = reference_pixels(data, folder, True)
    preprocess = pickle.loads(pickle.dumps(Preprocess.from_folder(folder)))
    (tmp_path / "preprocessor_config.json").unlink()
    assert np.array_equal(prepare(data, preprocess).pixels, expected)


def test_a_config_that_changed_is_read_again(tmp_path: Path) -> None:
    data = png(picture("waves", (300, 200)))
    folder_with(tmp_path, image_processor_type="ViTImageProcessor", size=64)
    assert reference_pixels(data, tmp_path, True).shape == (64, 64, 3)
    folder_with(tmp_path, image_processor_type="ViTImageProcessor", size=96)
    assert reference_pixels(data, tmp_path, True).shape == (96, 96, 3)


@pytest.mark.parametrize("size", [(5000, 1), (1, 5000)])
def test_a_long_strip_is_done_without_its_gigabyte(size: tuple[int, int]) -> None:
    preprocess = Preprocess.from_folder(PROCESSORS / "dinov2")
    flat = np.full((size[1], size[0], 3), 77, np.uint8)
    assert np.array_equal(resize_crop(flat, preprocess), np.full((224, 224, 3), 77, np.uint8))


def test_a_strip_that_is_too_long_is_refused() -> None:
    strip = np.zeros((1, 100_000, 3), np.uint8)
    with pytest.raises(ImageError) as caught:
        resize_crop(strip, Preprocess.from_folder(PROCESSORS / "clip"))
    assert caught.value.code == ErrorCode.TOO_LARGE
    assert resize_crop(strip, Preprocess.from_folder(PROCESSORS / "vit")).shape == (224, 224, 3)


def test_the_reference_and_prepare_agree_where_the_exif_is_broken() -> None:
    image = picture("waves", (300, 200))
    data = encode(image, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff")
    ours = prepare(data, Preprocess.from_folder(PROCESSORS / "swin"))
    assert np.array_equal(ours.pixels, reference_pixels(data, PROCESSORS / "swin", True))


@pytest.mark.parametrize("data", [b"no", b"", b"\xff\xd8\xff", png(picture("waves", (9, 9)))[:60]])
def test_the_reference_raises_an_image_error_for_what_it_cannot_read(data: bytes) -> None:
    with pytest.raises(ImageError):
        reference_pixels(data, PROCESSORS / "vit", True)
