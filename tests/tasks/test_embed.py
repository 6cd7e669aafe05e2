"""Recipes of vectors: what moves them, that they never drift, and what is cut from what."""

from typing import Any

import pytest

from pipeline.errors import SpecError
from pipeline.spec import make_spec
from pipeline.tasks import recipe_of, task_for, task_named, task_of
from pipeline.tasks.classify_embed import ClassifyEmbed, ClassifyEmbedRecipe
from pipeline.tasks.embed import Embed, EmbedRecipe
from tests.tasks.test_recipe import FIELDS as LABELS

FIELDS: dict[str, Any] = {
    "format": 1,
    "model": "facebook/dinov2-small",
    "revision": None,
    "weights_sha256": "a" * 64,
    "network_sha256": "b" * 64,
    "preprocessing": {"height": 224, "width": 224, "mean": [0.5, 0.5, 0.5], "rescale": 1 / 255},
    "exif": True,
    "decode": "exact",
    "precision": "auto",
    "pooling": "cls",
    "dim": 384,
    "vector_dtype": "float16",
}
BESIDE: dict[str, Any] = {"pooling": "cls", "dim": 384, "vector_dtype": "float16"}


def test_fingerprints_never_drift() -> None:
    """Other values here would embed every archive of the world again."""
    assert EmbedRecipe(**FIELDS).id == "r13a17f8a"
    assert ClassifyEmbedRecipe(**LABELS, **BESIDE).id == "r1c773115"


@pytest.mark.parametrize(
    "change",
    [
        {"weights_sha256": "d" * 64},
        {"network_sha256": "d" * 64},
        {"preprocessing": FIELDS["preprocessing"] | {"height": 256}},
        {"exif": False},
        {"decode": "fast"},
        {"precision": "fp32"},
        {"pooling": "mean"},
        {"vector_dtype": "float32"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_what_decides_a_vector_moves_it(change: dict[str, Any]) -> None:
    before, after = EmbedRecipe(**FIELDS), EmbedRecipe(**FIELDS | change)
    assert after.id != before.id
    assert len(before.differences(after)) == 1


def test_a_document_names_its_task() -> None:
    for recipe, kind in (
        (EmbedRecipe(**FIELDS), Embed),
        (ClassifyEmbedRecipe(**LABELS, **BESIDE), ClassifyEmbed),
    ):
        document = recipe.to_json()
        assert recipe_of(document) == recipe
        assert isinstance(task_of(document), kind)


def test_labels_with_vectors_are_of_the_kind_of_labels() -> None:
    plain, both = task_named("classify"), task_named("classify-embed")
    assert (both.kind, both.words) == (plain.kind, plain.words)
    assert [field.name for field in both.columns] == ["label", "score", "top_k", "embedding"]
    spec = make_spec(src="a", dst="b", embed="mean")
    assert isinstance(task_for(spec), ClassifyEmbed)
    assert task_for(make_spec(src="a", dst="b")) is plain


def test_only_floats_are_cut_to_half_floats() -> None:
    task = Embed()
    halves, floats = (
        EmbedRecipe(**FIELDS | {"vector_dtype": dtype}) for dtype in ("float16", "float32")
    )
    mean = EmbedRecipe(**FIELDS | {"vector_dtype": "float32", "pooling": "mean"})
    documents = {recipe.id: recipe.to_json() for recipe in (halves, floats, mean)} | {"r0": "{}"}
    assert task.derives_from(halves, documents) == [floats.id]
    assert task.derives_from(floats, documents) == []


def test_shorter_labels_are_cut_with_their_vectors() -> None:
    task = ClassifyEmbed()
    five, three = (ClassifyEmbedRecipe(**LABELS | {"top_k": top_k}, **BESIDE) for top_k in (5, 3))
    mean = ClassifyEmbedRecipe(**LABELS, **BESIDE | {"pooling": "mean"})
    plain = task_named("classify").recipe(**LABELS)
    documents = {recipe.id: recipe.to_json() for recipe in (five, mean, plain)}
    assert task.derives_from(three, documents) == [five.id]
    few = plain.model_copy(update={"top_k": 3})
    assert task_named("classify").derives_from(few, documents) == [plain.id]


@pytest.mark.parametrize(
    ("task", "option"),
    [
        ("classify", {"pooling": "cls"}),
        ("classify", {"vector_dtype": "float32"}),
        ("classify-embed", {"pooling": "cls"}),
        ("embed", {"top_k": 3}),
        ("embed", {"embed": "cls"}),
        ("fingerprint", {"pooling": "cls"}),
        ("fingerprint", {"embed": "cls"}),
        ("fingerprint", {"vector_dtype": "float32"}),
    ],
)
def test_options_of_another_task_are_refused(task: str, option: dict[str, Any]) -> None:
    spec = make_spec(src="a", dst="b", task=task, **option)
    with pytest.raises(SpecError, match=f"means nothing to {task}; leave this option out"):
        task_named(task).check(spec)
