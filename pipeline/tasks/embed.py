"""`embed`: a vector of each image, by a vision backbone of transformers.

For search, near-duplicates, clustering, and classifier heads that train in seconds.
`models.pooling` defines the poolings. Vectors are stored as the network gives them, never
normalised.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any, ClassVar, Final, Literal, Self

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline.errors import BadModelError, StoreError
from pipeline.models.config import ModelConfig, canonical_json
from pipeline.models.fetch import ModelFolder, fetch
from pipeline.models.purpose import Embedding, Purpose
from pipeline.spec import LabelSpec
from pipeline.tasks import vectors
from pipeline.tasks.base import Difference, Prepared, Setting, Task, Worker
from pipeline.tasks.engine_worker import EngineWorker
from pipeline.tasks.loading import keys_in_words, load_engine
from pipeline.tasks.preprocess_cache import checked_vectors
from pipeline.tasks.recipe import Recipe
from pipeline.tasks.rows import Answers, RowMaker
from pipeline.words import Words

if TYPE_CHECKING:
    from pipeline.images import Preprocess, Room
    from pipeline.models.backends.base import Engine
    from pipeline.models.fit import Vectors

FORMAT: Final = 1


class EmbedRecipe(Recipe):
    """Everything that decides a vector: weights, the network fields of config.json,
    preprocessing, pooling, and the number type it is rounded to. `dim` follows from these."""

    task: Literal["embed"] = "embed"
    model: str
    weights_sha256: str
    network_sha256: str
    preprocessing: dict[str, Any]
    exif: bool
    decode: str
    precision: str
    pooling: str
    dim: int
    vector_dtype: vectors.Dtype

    @classmethod
    def of(
        cls, spec: LabelSpec, folder: ModelFolder, shape: "Preprocess", found: "Vectors"
    ) -> Self:
        """Raises ModelError."""
        return cls(
            format=FORMAT,
            model=folder.id,
            revision=folder.revision,
            weights_sha256=folder.weights_sha256,
            network_sha256=ModelConfig.read(folder.path, folder.id).network_sha256,
            preprocessing=json.loads(canonical_json(shape.as_dict())),
            exif=spec.exif,
            decode=spec.decode,
            precision=spec.precision,
            pooling=found.pooling,
            dim=found.dim,
            vector_dtype=spec.vector_dtype,
        )


class Embedder(EngineWorker):
    """Turns an engine's vectors into the columns of rows."""

    def __init__(self, engine: "Engine", dtype: vectors.Dtype) -> None:
        super().__init__(engine)
        self._dtype = dtype

    def __call__(self, images: NDArray[np.uint8], seen: pa.Table) -> Answers:  # noqa: ARG002
        """A vector of each image; a vector that overflows in half precision is recomputed in fp32.

        Raises BadModelError if even fp32 gives no finite one.
        """
        (found,), precision = self.predict(images)
        column = vectors.vector_array(found, self._dtype)
        return Answers({vectors.COLUMN.name: column}, precision)


class Reference:
    """The reference: vectors from transformers alone, in fp32."""

    def __init__(
        self,
        folder: ModelFolder,
        pooling: str,
        *,
        exif: bool,
        max_pixels: int,
        room: "Room | None",
    ) -> None:
        from pipeline.models.reference import ReferenceBackbone

        self._folder, self._exif, self._max_pixels = folder.path, exif, max_pixels
        self._model, self._room = ReferenceBackbone(folder.path, pooling), room

    def __call__(self, data: bytes) -> NDArray[np.float32]:
        from pipeline.images.reference import reference_values

        values = reference_values(
            data, self._folder, self._exif, max_pixels=self._max_pixels, room=self._room
        )
        return self._model.vector(values)


class Embed(Task):
    """A vector of each image."""

    name = "embed"
    kind = "vectors"
    columns = (vectors.COLUMN,)
    words: ClassVar[Words] = Words("embed", "embedded", "vectors", loads_model=True)
    recipe = EmbedRecipe
    refused = ("top_k", "embed")

    def prepare(self, spec: LabelSpec) -> Prepared:
        model = fetch(spec.model, spec.revision, classifier=False)
        shape, found = checked_vectors(model, Embedding(spec.pooling))
        return Prepared(
            model=model.id,
            revision=model.revision,
            weights=model.weights_bytes,
            preprocess=shape,
            recipe=EmbedRecipe.of(spec, model, shape, found),
        )

    def purpose(self, recipe: Recipe) -> Purpose:
        return Embedding(_ours(recipe).pooling)

    def load(self, setting: Setting) -> Worker:
        recipe = _ours(setting.recipe)
        engine = load_engine(setting, self.purpose(recipe))
        embedder = Embedder(engine, recipe.vector_dtype)
        return RowMaker(self.rows, embedder, setting.run_id, recipe.id)

    def reference(
        self, spec: LabelSpec, recipe: Recipe, room: "Room | None" = None
    ) -> Callable[[bytes], Any]:
        """The recipe's own model. Raises BadModelError if it is not the one that made
        the vectors."""
        made_by = _ours(recipe)
        folder = fetch(made_by.model, made_by.revision, classifier=False)
        if folder.weights_sha256 != made_by.weights_sha256:
            raise BadModelError(
                f"{made_by.model} no longer holds the weights that made these vectors: name the "
                "folder that does with --model, or leave the sample out with --sample 0"
            )
        limits: dict[str, Any] = {"exif": made_by.exif, "max_pixels": spec.max_pixels}
        return Reference(folder, made_by.pooling, **limits, room=room)

    def agree(self, stored: Mapping[str, Any], reference: Any, recipe: Recipe) -> Difference | None:
        """The same direction and nearly the same length."""
        return vectors.difference(stored, reference, _ours(recipe).decode)

    def summary(self, rows: pa.Table) -> str:
        return vectors.summary(rows)

    def describe_model(self, spec: LabelSpec) -> str:
        """Loads the weights and makes a vector of one picture with them."""
        from pipeline.images import prepare
        from pipeline.models.backends.loading import load_weights, pick_device
        from pipeline.tasks.graph_maker import tried
        from pipeline.tasks.pictures import picture

        folder = fetch(spec.model, spec.revision, classifier=False)
        shape, gives = checked_vectors(folder, Embedding(spec.pooling))
        purpose, size = Embedding(gives.pooling), (shape.height, shape.width)
        weights = load_weights(folder.path, pick_device(), "fp32", size, purpose)
        engine, how = tried(folder, shape, purpose)
        (vector,) = engine.predict(prepare(picture(), shape).pixels[None])
        found = [
            f"a backbone of {shape.width} by {shape.height} pixels, {gives.pooling} vectors of "
            f"{gives.dim:,} numbers (it has {', '.join(gives.poolings)}), weights "
            f"{folder.weights_sha256[:12]}",
            f"that of a made picture has a norm of {np.linalg.norm(vector):.4g} on "
            f"{engine.device} in {engine.precision}, {how}",
        ]
        return "; ".join([*found, *keys_in_words(weights, "vector")])

    def derives_from(self, recipe: Recipe, documents: Mapping[str, str]) -> list[str]:
        """The recipe that differs only in float32, of which float16 is the rounding."""
        wanted = _ours(recipe)
        if wanted.vector_dtype != "float16":
            return []
        exact, found = wanted.model_copy(update={"vector_dtype": "float32"}), []
        for name, text in documents.items():
            with suppress(StoreError):
                found += [name] if EmbedRecipe.from_json(text).id == exact.id == name else []
        return found

    def derived(self, rows: pa.Table, recipe: Recipe) -> pa.Table:  # noqa: ARG002
        at = rows.schema.get_field_index(vectors.COLUMN.name)
        field = rows.schema.field(at)
        return rows.set_column(at, field, vectors.halved(rows.column(at)).cast(field.type))


def _ours(recipe: Recipe) -> EmbedRecipe:
    if not isinstance(recipe, EmbedRecipe):
        raise TypeError(f"{recipe.id} is no recipe of embed")
    return recipe
