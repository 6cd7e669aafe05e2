"""Which processor a folder has: transformers' own answer, wherever it stands; frozen recipes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from transformers import AutoImageProcessor

import pipeline.demo
from pipeline.errors import BadModelError
from pipeline.images import Preprocess, prepare
from pipeline.images.reference import reference_pixels
from pipeline.models.fetch import ModelFolder, fetch
from pipeline.spec import make_spec
from pipeline.tasks.classify import ClassifyRecipe as Recipe
from tests.golden.pictures import picture, png
from tests.golden.reference import PROCESSORS

PICTURES = [png(picture("edges", size)) for size in ((301, 200), (96, 230), (40, 31))]
DEMO = Path(pipeline.demo.__file__).parent / "model"

VIT = {"model_type": "vit", "architectures": ["ViTForImageClassification"]}
OLD = {"model_type": "convnextv2"}

#: preprocessor_config.json, config.json, processor_config.json
PLACES: dict[str, tuple[dict[str, Any] | None, dict[str, Any] | None, dict[str, Any] | None]] = {
    "config.json alone names another": (
        {"size": {"shortest_edge": 64}, "crop_pct": 0.8},
        VIT | {"image_processor_type": "ConvNextImageProcessor"},
        None,
    ),
    "config.json names it with Fast": (
        {"size": 64},
        VIT | {"image_processor_type": "DeiTImageProcessorFast"},
        None,
    ),
    "config.json names one that is not": (
        {"size": 64},
        VIT | {"image_processor_type": "OwnProcessor"},
        None,
    ),
    "its own file comes before config.json": (
        {"image_processor_type": "ViTImageProcessor", "size": 64},
        VIT | {"image_processor_type": "ConvNextImageProcessor"},
        None,
    ),
    "the model's type alone": ({"size": 64, "crop_pct": 0.9}, OLD, None),
    "an empty file and the model's type": ({}, VIT, None),
    "the nested part comes first": (
        {"image_processor_type": "ViTImageProcessor", "size": 64},
        VIT,
        {"image_processor": {"image_processor_type": "BitImageProcessor", "crop_size": 50}},
    ),
    "a nested part alone": (
        None,
        VIT,
        {"image_processor": {"image_processor_type": "BitImageProcessor", "crop_size": 50}},
    ),
    "a nested part without a name": (None, VIT, {"image_processor": {"size": 60}}),
    "a nested part of null": ({"size": 60}, VIT, {"image_processor": None}),
    "the former key": ({"feature_extractor_type": "ConvNextFeatureExtractor"}, VIT, None),
    "the present key beside the former": (
        {
            "feature_extractor_type": "ConvNextFeatureExtractor",
            "image_processor_type": "ViTImageProcessor",
        },
        VIT,
        None,
    ),
    "with Fast": ({"image_processor_type": "BeitImageProcessorFast"}, VIT, None),
    "with Pil": ({"image_processor_type": "BeitImageProcessorPil"}, VIT, None),
}


def write(folder: Path, place: str) -> Path:
    files = ("preprocessor_config.json", "config.json", "processor_config.json")
    for name, content in zip(files, PLACES[place], strict=True):
        if content is not None:
            (folder / name).write_text(json.dumps(content))
    return folder


@pytest.mark.parametrize("place", PLACES)
def test_the_class_and_the_pixels_are_those_of_transformers(place: str, tmp_path: Path) -> None:
    folder = write(tmp_path, place)
    theirs = AutoImageProcessor.from_pretrained(folder, backend="pil")
    ours = Preprocess.from_folder(folder)
    assert ours.processor == type(theirs).__name__
    for data in PICTURES:
        assert np.array_equal(prepare(data, ours).pixels, reference_pixels(data, folder, True))


@pytest.mark.parametrize("kind", ["ViT", "ConvNext", "DeiT", "Beit", "CLIP", "Levit"])
def test_former_names_under_the_present_key_are_their_processors(kind: str, tmp_path: Path) -> None:
    """transformers reads them under the former key alone, and refuses these."""
    former = tmp_path / "former"
    present = tmp_path / "present"
    for folder, name in ((former, f"{kind}FeatureExtractor"), (present, f"{kind}ImageProcessor")):
        folder.mkdir()
        fields = {"image_processor_type": name, "image_mean": [0.1, 0.2, 0.3]}
        (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    with pytest.raises(ValueError, match="Unrecognized"):
        AutoImageProcessor.from_pretrained(former, backend="pil")
    assert Preprocess.from_folder(former) == Preprocess.from_folder(present)
    for data in PICTURES:
        expected = reference_pixels(data, present, True)
        assert np.array_equal(reference_pixels(data, former, True), expected)


@pytest.mark.parametrize(
    ("fields", "config", "said"),
    [
        ({"size": 9}, {"model_type": "own"}, "config.json"),
        ({"size": 9}, {}, "has no image_processor_type"),
        ({"image_processor_type": "OwnFeatureExtractor"}, VIT, "OwnFeatureExtractor"),
    ],
)
def test_what_transformers_does_not_find_is_refused(
    fields: dict[str, Any], config: dict[str, Any], said: str, tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    (tmp_path / "config.json").write_text(json.dumps(config))
    with pytest.raises(ValueError, match=r"Unrecognized|image processor"):
        AutoImageProcessor.from_pretrained(tmp_path, backend="pil")
    with pytest.raises(BadModelError, match=said):
        Preprocess.from_folder(tmp_path)


#: Of version 0.1.0: other ids would label whole archives again.
FROZEN = {
    "vit": "r1e72e155",
    "deit": "r49edcf75",
    "beit": "r2f731184",
    "swin": "r12728580",
    "convnext": "r3950546d",
    "resnet": "r3950546d",
    "clip": "rc4670238",
    "siglip": "rab768b85",
    "dinov2": "r88f30202",
}
FROZEN_FIELDS: list[tuple[str, dict[str, Any]]] = [
    ("r9e85b168", {"image_processor_type": "LevitImageProcessor"}),
    (
        "rd7f2ff4b",
        {"image_processor_type": "EfficientNetImageProcessor", "rescale_offset": True},
    ),
    ("ra913b79d", {"image_processor_type": "MobileNetV2ImageProcessor"}),
    ("rb6a5b20a", {"image_processor_type": "MobileViTImageProcessor"}),
    ("r5e8da0b6", {"image_processor_type": "ViTImageProcessorFast", "size": 100}),
    ("r5e8da0b6", {"feature_extractor_type": "ViTFeatureExtractor", "size": 100}),
    (
        "rc0b59220",
        {
            "image_processor_type": "ViTImageProcessor",
            "image_mean": [0, 0, 0],
            "image_std": [1, 1, 1],
            "rescale_factor": 1,
        },
    ),
    ("rc70eef88", {"image_processor_type": "ConvNextImageProcessor", "size": 384, "crop_pct": 0.9}),
]


def recipe_of(processor: Path) -> str:
    """The recipe's id of the demo's config with made-up weights and this processor."""
    spec = make_spec(src="/images", dst="/labels")
    folder = ModelFolder(DEMO, "any", None, "0" * 64, 1)
    return Recipe.of(spec, folder, Preprocess.from_folder(processor).as_dict()).id


@pytest.mark.parametrize("name", FROZEN)
def test_recipes_of_models_are_what_they_were(name: str) -> None:
    assert recipe_of(PROCESSORS / name) == FROZEN[name]


@pytest.mark.parametrize(("frozen", "fields"), FROZEN_FIELDS)
def test_recipes_of_other_processors_are_what_they_were(
    frozen: str, fields: dict[str, Any], tmp_path: Path
) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(fields))
    assert recipe_of(tmp_path) == frozen


def test_the_recipe_of_the_demo_is_what_it_was() -> None:
    spec = make_spec(src="/images", dst="/labels")
    found = Recipe.of(spec, fetch(str(DEMO), None), Preprocess.from_folder(DEMO).as_dict())
    assert found.id == "r39b19dd2"
