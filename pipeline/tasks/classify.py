"""`classify`: which of a model's classes an image shows."""

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline.errors import BadModelError, StoreError
from pipeline.models.config import ModelConfig, canonical_json
from pipeline.models.fetch import ModelFolder, fetch
from pipeline.models.purpose import CLASSIFYING, Purpose
from pipeline.spec import LabelSpec
from pipeline.tasks.base import Difference, Prepared, Setting, Task, Worker
from pipeline.tasks.classifier import COLUMNS, Classifier
from pipeline.tasks.loading import keys_in_words, load_engine
from pipeline.tasks.preprocess_cache import checked_preprocess
from pipeline.tasks.recipe import Recipe
from pipeline.tasks.rows import RowMaker
from pipeline.words import LABELLING, Words

if TYPE_CHECKING:
    from pipeline.images import Room

FORMAT: Final = 1

#: Two labels count as equal if the reference scores them this close: a GPU in half precision may be
#: that far off.
NEAR: Final = 0.02
#: With --precision int8, scores up to 0.06 off were seen (docs/performance.md).
NEAR_INT8: Final = 0.12
#: A summary names this many labels.
NAMED: Final = 5


class ClassifyRecipe(Recipe):
    """Everything that decides a label: weights, the network fields of config.json, class
    names, preprocessing, options."""

    model: str
    weights_sha256: str
    network_sha256: str
    labels_sha256: str
    preprocessing: dict[str, Any]
    exif: bool
    decode: str
    precision: str
    top_k: int
    multi_label: bool

    @classmethod
    def of(cls, spec: LabelSpec, folder: ModelFolder, preprocessing: dict[str, Any]) -> Self:
        """`preprocessing` is `Preprocess.as_dict()`: JSON values. Raises ModelError."""
        config = ModelConfig.read(folder.path, folder.id)
        return cls(
            format=FORMAT,
            model=folder.id,
            revision=folder.revision,
            weights_sha256=folder.weights_sha256,
            network_sha256=config.network_sha256,
            labels_sha256=config.labels_sha256,
            preprocessing=json.loads(canonical_json(preprocessing)),  # tuples become lists
            exif=spec.exif,
            decode=spec.decode,
            precision=spec.precision,
            top_k=spec.top_k,
            multi_label=config.multi_label,
        )


class LabelDifference(Difference):
    """One image whose stored label differs from the reference."""

    stored: str
    stored_score: float
    reference: str
    reference_score: float

    def words(self) -> str:
        return (
            f"{self.uri} is labelled {self.stored!r} ({self.stored_score:.3f}), the reference says "
            f"{self.reference!r} ({self.reference_score:.3f})"
        )


class Scores:
    """The reference: scores by class name, from transformers alone, in fp32."""

    def __init__(
        self, folder: ModelFolder, spec: LabelSpec, exif: bool, room: "Room | None"
    ) -> None:
        from pipeline.models.reference import ReferenceModel

        self._folder, self._exif, self._max_pixels = folder.path, exif, spec.max_pixels
        self._model, self._room = ReferenceModel(folder.path), room

    def __call__(self, data: bytes) -> tuple[list[str], NDArray[np.float32]]:
        from pipeline.images.reference import reference_values

        values = reference_values(
            data, self._folder, self._exif, max_pixels=self._max_pixels, room=self._room
        )
        return self._model.labels, self._model.scores(values)


class Classify(Task):
    """Image classification with a checkpoint of transformers."""

    name = "classify"
    kind = "labels"
    columns: ClassVar[Sequence[pa.Field]] = COLUMNS
    words: ClassVar[Words] = LABELLING
    recipe: ClassVar[type[Recipe]] = ClassifyRecipe
    refused: ClassVar[Sequence[str]] = ("pooling", "vector_dtype")

    def variant(self, spec: LabelSpec) -> str:
        """With --embed, the task that keeps a vector beside each label."""
        return self.name if spec.embed is None else "classify-embed"

    def prepare(self, spec: LabelSpec) -> Prepared:
        model = fetch(spec.model, spec.revision)
        preprocess = checked_preprocess(model)
        return Prepared(
            model=model.id,  # absolute: a worker has another working folder
            revision=model.revision,
            weights=model.weights_bytes,
            preprocess=preprocess,
            recipe=ClassifyRecipe.of(spec, model, preprocess.as_dict()),
        )

    def purpose(self, recipe: Recipe) -> Purpose:  # noqa: ARG002
        return CLASSIFYING

    def load(self, setting: Setting) -> Worker:
        engine = load_engine(setting, CLASSIFYING, setting.spec.top_k)
        return RowMaker(self.rows, Classifier(engine), setting.run_id, setting.recipe.id)

    def reference(
        self, spec: LabelSpec, recipe: Recipe, room: "Room | None" = None
    ) -> Callable[[bytes], Any]:
        """The recipe's own model. Raises BadModelError if it is not the one that made the labels:
        the weights behind a name may have changed."""
        made_by = _ours(recipe)
        folder = fetch(made_by.model, made_by.revision)
        if folder.weights_sha256 != made_by.weights_sha256:
            raise BadModelError(
                f"{made_by.model} no longer holds the weights that made these labels: name the "
                "folder that does with --model, or leave the sample out with --sample 0"
            )
        return Scores(folder, spec, made_by.exif, room)

    def agree(self, stored: Mapping[str, Any], reference: Any, recipe: Recipe) -> Difference | None:
        """The same label, or one that the reference scores nearly as high."""
        names, scores = reference
        near = NEAR_INT8 if _ours(recipe).precision == "int8" else NEAR
        best = int(scores.argmax())
        its = (float(scores[n]) for n, name in enumerate(names) if name == stored["label"])
        if names[best] == stored["label"] or float(scores[best]) - max(its, default=0.0) <= near:
            return None
        return LabelDifference(
            uri=stored["uri"],
            stored=stored["label"],
            stored_score=stored["score"],
            reference=names[best],
            reference_score=float(scores[best]),
        )

    def summary(self, rows: pa.Table) -> str:
        """How often each label occurs, the most frequent first."""
        counted = pc.value_counts(rows["label"].drop_null()).to_pylist()
        counted.sort(key=lambda pair: (-pair["counts"], pair["values"]))
        named = [f"{pair['values']} {pair['counts']:,}" for pair in counted[:NAMED]]
        more = [f"{len(counted) - NAMED:,} more"] if len(counted) > NAMED else []
        return ", ".join(named + more) or "none"

    def describe_model(self, spec: LabelSpec) -> str:
        """Loads the weights and labels one picture with them."""
        from pipeline.images import prepare
        from pipeline.models.backends.loading import load_weights, pick_device
        from pipeline.tasks.graph_maker import tried
        from pipeline.tasks.pictures import picture

        folder = fetch(spec.model, spec.revision)
        shape = checked_preprocess(folder)
        weights = load_weights(folder.path, pick_device(), "fp32", (shape.height, shape.width))
        engine, how = tried(folder, shape, CLASSIFYING)
        indices, scores = engine.predict(prepare(picture(), shape).pixels[None])
        found = [
            f"a classifier of {shape.width} by {shape.height} pixels into {len(engine.labels):,} "
            f"classes, weights {folder.weights_sha256[:12]}",
            f"a made picture is {engine.labels[indices[0, 0]]!r} ({scores[0, 0]:.2f}) on "
            f"{engine.device} in {engine.precision}, {how}",
        ]
        return "; ".join([*found, *keys_in_words(weights, "label")])

    def derives_from(self, recipe: Recipe, documents: Mapping[str, str]) -> list[str]:
        """Recipes that differ only in a larger top_k, the smallest of them first.

        The best k labels are the first k of more, since equal scores are ordered by index. A
        document of another version's recipe does not count.
        """
        wanted, known = _ours(recipe), list[tuple[str, ClassifyRecipe]]()
        for name, text in documents.items():
            with suppress(StoreError):
                known.append((name, _ours(self.recipe.from_json(text))))
        found = [
            (other.top_k, name)
            for name, other in known
            if other.top_k > wanted.top_k
            and other.id == name
            and other.model_copy(update={"top_k": wanted.top_k}).id == wanted.id
        ]
        return [name for _, name in sorted(found)]

    def derived(self, rows: pa.Table, recipe: Recipe) -> pa.Table:
        best = pc.list_slice(rows["top_k"], 0, _ours(recipe).top_k, return_fixed_size_list=False)
        at = rows.schema.get_field_index("top_k")
        field = rows.schema.field(at)
        return rows.set_column(at, field, best.cast(field.type))


def _ours(recipe: Recipe) -> ClassifyRecipe:
    if not isinstance(recipe, ClassifyRecipe):
        raise TypeError(f"{recipe.id} is no recipe of classify")
    return recipe
