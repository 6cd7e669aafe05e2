"""The sample of `verify`: transformers alone says what a label should be."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from transformers import pipeline as transformers_pipeline

from pipeline.images import Preprocess, prepare
from pipeline.images.reference import reference_values
from pipeline.models.backends.openvino_engine import OpenVinoEngine
from pipeline.models.fetch import fetch
from pipeline.models.purpose import CLASSIFYING
from pipeline.models.reference import ReferenceModel
from pipeline.runs.sample import Sample, check_sample
from pipeline.spec import make_spec
from pipeline.tasks.classify import Classify
from pipeline.tasks.classify import ClassifyRecipe as Recipe
from pipeline.tasks.graph_maker import GraphRequest, make_graph
from tests.golden.pictures import picture
from tests.models import tiny

COUNT = 12
ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("images")
    paths = []
    for n in range(COUNT):
        image = picture(["noise", "waves", "blur", "edges"][n % 4], (60 + 17 * n, 130 - 7 * n))
        exif = image.getexif()
        exif[0x0112] = 1 + n % 8
        paths.append(folder / f"{n}.png")
        image.save(paths[-1], exif=exif)
        os.utime(paths[-1], (1_700_000_000, 1_700_000_000))
    return paths


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A ViT whose config.json alone names another processor than a ViT's."""
    folder = tiny.save_vit(tmp_path / "vit", labels=40)
    tiny.edit_config(folder, image_processor_type="ConvNextImageProcessor")
    fields = {"size": {"shortest_edge": tiny.SIZE}, "crop_pct": 0.5}
    (folder / "preprocessor_config.json").write_text(json.dumps(fields))
    return folder


def labelled(images: list[Path], folder: Path, preprocess: Preprocess) -> pa.Table:
    """Rows as a run with this preprocessing writes them."""
    graph = make_graph(GraphRequest(folder, "", preprocess, CLASSIFYING, "fp32"))
    engine = OpenVinoEngine(graph, top_k=1, batch_size=4)
    pixels = np.stack([prepare(path.read_bytes(), preprocess).pixels for path in images])
    indices, scores = engine.predict(pixels)
    stats = [path.stat() for path in images]
    return pa.table(
        {
            "uri": [path.as_uri() for path in images],
            "member": pa.nulls(len(images), pa.string()),
            "etag": pa.nulls(len(images), pa.string()),
            "size": [stat.st_size for stat in stats],
            "modified": [datetime.fromtimestamp(stat.st_mtime, UTC) for stat in stats],
            "address": pa.nulls(len(images), pa.string()),
            "label": [engine.labels[index] for index in indices[:, 0]],
            "score": scores[:, 0],
        }
    )


def sampled(images: list[Path], folder: Path, preprocess: Preprocess) -> Sample:
    spec = make_spec(src=str(images[0].parent), dst="/labels", model=str(folder))
    recipe = Recipe.of(spec, fetch(str(folder), None), preprocess.as_dict())
    return check_sample(Classify(), spec, recipe, labelled(images, folder, preprocess))


def wrong_class(folder: Path) -> Preprocess:
    """What was made of this model once: the processor of its family, not the one it names."""
    plain = folder.parent / "plain"
    plain.mkdir()
    fields = {"image_processor_type": "ViTImageProcessor", "size": tiny.SIZE}
    (plain / "preprocessor_config.json").write_text(json.dumps(fields))
    return Preprocess.from_folder(plain)


def test_labels_of_a_processor_that_config_json_names_are_transformers(
    images: list[Path], model: Path
) -> None:
    rows = labelled(images, model, Preprocess.from_folder(model))
    ask = transformers_pipeline("image-classification", model=str(model), top_k=1)
    expected = [ask(str(path))[0] for path in images]
    assert rows["label"].to_pylist() == [one["label"] for one in expected]
    np.testing.assert_allclose(rows["score"], [one["score"] for one in expected], atol=1e-5)


def test_a_true_sample_agrees(images: list[Path], model: Path) -> None:
    found = sampled(images, model, Preprocess.from_folder(model))
    assert (found.images, found.agree, found.unreadable) == (COUNT, COUNT, 0)


def test_labels_of_the_wrong_processor_are_found(images: list[Path], model: Path) -> None:
    found = sampled(images, model, wrong_class(model))
    assert found.images == COUNT
    assert found.agree < COUNT
    assert found.problems()


TAMPERED: dict[str, dict[str, Any]] = {
    "the filter": {"resample": 0},
    "the crop": {"shortest_edge": 90},
    "the mean": {"mean": (0.0, 0.0, 0.0)},
    "the scale": {"rescale": 1 / 128},
}


@pytest.mark.parametrize("what", TAMPERED)
def test_each_step_of_ours_is_held_against_transformers(
    what: str, images: list[Path], model: Path
) -> None:
    found = sampled(images, model, replace(Preprocess.from_folder(model), **TAMPERED[what]))
    assert found.agree < found.images == COUNT


#: Types, limits and words; of the decoder only what Pillow opens and raises and what is refused.
MAY_SHARE = {
    "from pipeline.errors import BadModelError",
    "from pipeline.errors import BadModelError, ErrorCode, ImageError",
    "from pipeline.fields import one_line, refusals",
    "from pipeline.images.formats import opened",
    "from pipeline.images.refusals import PILLOW_ERRORS, check_whole",
    "from pipeline.spec import MAX_PIXELS",
}


@pytest.mark.parametrize("unit", ["images", "models"])
def test_the_reference_shares_no_step_with_what_labels(unit: str) -> None:
    lines = (ROOT / "pipeline" / unit / "reference.py").read_text().splitlines()
    assert {line.strip() for line in lines if "pipeline" in line and "import" in line} <= MAY_SHARE


@pytest.mark.parametrize("problem", [None, "multi_label_classification"])
def test_scores_of_the_reference_are_those_of_transformers_pipeline(
    problem: str | None, images: list[Path], model: Path
) -> None:
    tiny.edit_config(model, problem_type=problem)
    ask = transformers_pipeline("image-classification", model=str(model), top_k=40)
    reference = ReferenceModel(model)
    for path in images[:4]:
        scores = reference.scores(reference_values(path.read_bytes(), model, True))
        for one in ask(str(path)):
            ours = scores[reference.labels.index(one["label"])]
            assert ours == pytest.approx(one["score"], abs=1e-6)
