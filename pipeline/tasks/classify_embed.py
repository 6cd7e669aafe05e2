"""`label --embed`: the labels of `classify`, with a backbone vector beside each, in one pass.

The labels are those of `classify`, but the rows hold more, so it has recipes of its own. A store
of labels gets the new rows beside the old ones, and the column by a commit of metadata.
"""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal, NamedTuple

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import SpecError
from pipeline.models.fetch import fetch
from pipeline.models.purpose import ClassifyingAndEmbedding, Purpose
from pipeline.spec import LabelSpec
from pipeline.tasks import vectors
from pipeline.tasks.base import Difference, Prepared, Setting, Worker
from pipeline.tasks.classifier import COLUMNS, Classifier
from pipeline.tasks.classify import Classify, ClassifyRecipe
from pipeline.tasks.loading import load_engine
from pipeline.tasks.preprocess_cache import checked_vectors
from pipeline.tasks.recipe import Recipe
from pipeline.tasks.rows import Answers, RowMaker

if TYPE_CHECKING:
    from pipeline.images import Room
    from pipeline.models.backends.base import Engine


class ClassifyEmbedRecipe(ClassifyRecipe):
    """What decides a label, and which vector is kept beside it."""

    task: Literal["classify-embed"] = "classify-embed"
    pooling: str
    dim: int
    vector_dtype: vectors.Dtype


class ClassifierWithVectors(Classifier):
    """Results of an engine that gives both labels and vectors."""

    def __init__(self, engine: "Engine", dtype: vectors.Dtype) -> None:
        super().__init__(engine)
        self._dtype = dtype

    def __call__(self, images: NDArray[np.uint8], seen: pa.Table) -> Answers:  # noqa: ARG002
        """If an image's scores or vector overflow in half precision, it is processed
        again in fp32."""
        (indices, scores, found), precision = self.predict(images)
        column = vectors.vector_array(found, self._dtype)
        labels = self.label_columns(indices, scores)
        return Answers({**labels, vectors.COLUMN.name: column}, precision)


class Truth(NamedTuple):
    """The reference for an image: its scores, and its vector."""

    scores: Any
    vector: NDArray[np.float32]


class ClassifyEmbed(Classify):
    """Labels of `classify`, and vectors."""

    name = "classify-embed"
    columns = (*COLUMNS, vectors.COLUMN)
    recipe: ClassVar[type[Recipe]] = ClassifyEmbedRecipe
    refused = ("pooling",)

    def prepare(self, spec: LabelSpec) -> Prepared:
        if spec.embed is None:
            raise SpecError("embed", None, "name the vector to keep: cls, mean or pooler")
        model = fetch(spec.model, spec.revision)
        shape, found = checked_vectors(model, ClassifyingAndEmbedding(spec.embed))
        labels = ClassifyRecipe.of(spec, model, shape.as_dict())
        recipe = ClassifyEmbedRecipe(
            **labels.model_dump(),
            pooling=found.pooling,
            dim=found.dim,
            vector_dtype=spec.vector_dtype,
        )
        return Prepared(model.id, model.revision, model.weights_bytes, shape, recipe)

    def purpose(self, recipe: Recipe) -> Purpose:
        return ClassifyingAndEmbedding(_ours(recipe).pooling)

    def load(self, setting: Setting) -> Worker:
        recipe = _ours(setting.recipe)
        engine = load_engine(setting, self.purpose(recipe), setting.spec.top_k)
        worker = ClassifierWithVectors(engine, recipe.vector_dtype)
        return RowMaker(self.rows, worker, setting.run_id, recipe.id)

    def reference(
        self, spec: LabelSpec, recipe: Recipe, room: "Room | None" = None
    ) -> Callable[[bytes], Any]:
        from pipeline.tasks.embed import Reference

        made_by = _ours(recipe)
        scores = super().reference(spec, recipe, room)
        vector = Reference(
            fetch(made_by.model, made_by.revision),
            made_by.pooling,
            exif=made_by.exif,
            max_pixels=spec.max_pixels,
            room=room,
        )
        return lambda data: Truth(scores(data), vector(data))

    def agree(self, stored: Mapping[str, Any], reference: Any, recipe: Recipe) -> Difference | None:
        """Compare the label as in `classify`, and the vector."""
        return super().agree(stored, reference.scores, recipe) or vectors.difference(
            stored, reference.vector, _ours(recipe).decode
        )

    def summary(self, rows: pa.Table) -> str:
        return f"{super().summary(rows)}; vectors of {vectors.summary(rows)}"


def _ours(recipe: Recipe) -> ClassifyEmbedRecipe:
    if not isinstance(recipe, ClassifyEmbedRecipe):
        raise TypeError(f"{recipe.id} is no recipe of label --embed")
    return recipe
