"""The fingerprint of a recipe: what moves it, what must not, and that it never drifts."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from pipeline.errors import StoreError
from pipeline.models.config import ModelConfig
from pipeline.models.fetch import fetch
from pipeline.spec import make_spec
from pipeline.tasks.classify import ClassifyRecipe as Recipe
from tests.models import tiny

PREPROCESSING = {"reference": "pil", "box": (32, 32), "resample": 2, "rescale": 1 / 255}

FIELDS: dict[str, Any] = {
    "format": 1,
    "model": "google/vit-base-patch16-224",
    "revision": "3f49326eb077187dfe1c2a2bb15fbd74e6ab91e3",
    "weights_sha256": "a" * 64,
    "network_sha256": "b" * 64,
    "labels_sha256": "c" * 64,
    "preprocessing": {"height": 224, "width": 224, "mean": [0.5, 0.5, 0.5], "rescale": 1 / 255},
    "exif": True,
    "decode": "exact",
    "precision": "auto",
    "top_k": 5,
    "multi_label": False,
}


def recipe(folder: Path, preprocessing: dict[str, Any] = PREPROCESSING, **spec: Any) -> Recipe:
    job = make_spec(src="a", dst="b", model=str(folder), **spec)
    return Recipe.of(job, fetch(str(folder), None), preprocessing)


def test_the_fingerprint_never_drifts() -> None:
    """Another value here would label every archive of the world again."""
    assert Recipe(**FIELDS).id == "r0986b1d9"


def test_order_and_tuples_do_not_matter(vit: Path) -> None:
    one = recipe(vit)
    other = recipe(vit, dict(reversed(PREPROCESSING.items())) | {"box": [32, 32]})
    assert one == other
    assert one.id == other.id
    backwards = dict(reversed(FIELDS.items()))
    assert Recipe(**backwards).id == Recipe(**FIELDS).id


def test_it_survives_json(vit: Path) -> None:
    one = recipe(vit)
    again = Recipe.from_json(one.to_json())
    assert again == one
    assert again.id == one.id


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "d" * 64},
        {"network_sha256": "d" * 64},
        {"labels_sha256": "d" * 64},
        {"preprocessing": FIELDS["preprocessing"] | {"height": 256}},
        {"exif": False},
        {"decode": "fast"},
        {"precision": "fp32"},
        {"top_k": 3},
        {"multi_label": True},
        {"format": 2},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_a_label_moves_it(change: dict[str, Any]) -> None:
    before, after = Recipe(**FIELDS), Recipe(**FIELDS | change)
    assert after.id != before.id
    assert len(before.differences(after)) == 1


def test_every_field_decides_or_is_provenance() -> None:
    assert set(Recipe.model_fields) == set(FIELDS)
    moved = Recipe(**FIELDS | {"model": "/copy/of/it", "revision": None})
    assert moved.id == Recipe(**FIELDS).id


def test_a_folder_that_moved_keeps_its_labels(vit: Path, tmp_path: Path) -> None:
    shutil.copytree(vit, tmp_path / "elsewhere")
    tiny.edit_config(tmp_path / "elsewhere", transformers_version="9.9", _name_or_path="x")
    here, there = recipe(vit), recipe(tmp_path / "elsewhere")
    assert here.id == there.id
    assert here.differences(there) == [f"model {vit} → {tmp_path / 'elsewhere'}"]


def test_only_digests_and_commits_are_told_in_short() -> None:
    """A folder of 40 letters once passed for a commit."""
    path, commit = "/models/" + "x" * 32, "0123456789abcdef" * 2 + "01234567"
    assert len(path) == len(commit) == 40
    before = Recipe(**FIELDS | {"model": "/models/vit", "revision": None})
    after = Recipe(**FIELDS | {"model": path, "revision": commit})
    assert before.differences(after) == [
        f"model /models/vit → {path}",
        "revision none → 0123456789ab…",
    ]


def test_limits_are_no_part_of_it(vit: Path) -> None:
    assert recipe(vit, max_pixels=10, max_bytes=10).id == recipe(vit).id


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"layer_norm_eps": 0.5}, "network_sha256"),
        ({"id2label": {str(i): f"other {i}" for i in range(7)}}, "labels_sha256"),
    ],
)
def test_the_config_decides_too(own_vit: Path, change: dict[str, Any], field: str) -> None:
    before = recipe(own_vit)
    after = recipe(tiny.edit_config(own_vit, **change))
    assert [line.split()[0] for line in before.differences(after)] == [field]
    assert after.id != before.id


def test_multi_label_is_read_from_the_config(own_vit: Path) -> None:
    assert not recipe(own_vit).multi_label
    assert recipe(tiny.edit_config(own_vit, problem_type="multi_label_classification")).multi_label


def test_differences_are_for_people() -> None:
    after = Recipe(
        **FIELDS
        | {"revision": None, "top_k": 3, "weights_sha256": "d" * 64}
        | {"preprocessing": FIELDS["preprocessing"] | {"height": 256, "crop": [224, 224]}}
    )
    assert Recipe(**FIELDS).differences(after) == [
        "preprocessing.crop none → [224, 224]",
        "preprocessing.height 224 → 256",
        "revision 3f49326eb077… → none",
        "top_k 5 → 3",
        "weights_sha256 aaaaaaaaaaaa… → dddddddddddd…",
    ]
    assert Recipe(**FIELDS).differences(Recipe(**FIELDS)) == []


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "JSON"),
        (json.dumps(FIELDS | {"colour": 1}), "colour"),
        (json.dumps(FIELDS | {"top_k": "5"}), "top_k"),
        (json.dumps({k: v for k, v in FIELDS.items() if k != "exif"}), "exif"),
    ],
)
def test_reading_is_strict(text: str, said: str) -> None:
    with pytest.raises(StoreError, match=f"not a recipe this version can read: {said}"):
        Recipe.from_json(text)


def test_labels_without_names(own_vit: Path) -> None:
    tiny.edit_config(own_vit, id2label=None, num_labels=3)
    assert ModelConfig.read(own_vit, "it").labels == ["LABEL_0", "LABEL_1", "LABEL_2"]
