"""One kind of model: an image classifier, from a PIXELS table to a LABELLED one."""

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import schema
from pipeline.errors import BadModelError
from pipeline.models.engine import Engine


class Classifier:
    """Labels the rows of a PIXELS table; rows with an error pass through unlabelled."""

    def __init__(self, engine: Engine, run_id: str, recipe_id: str) -> None:
        self._engine, self._run_id, self._recipe_id = engine, run_id, recipe_id
        self._names = pa.array(engine.labels, pa.string())

    @property
    def device(self) -> str:
        """Where it runs: `cpu` or `cuda:` and the GPU's name."""
        return self._engine.device

    def __call__(self, pixels: pa.Table) -> pa.Table:
        """LABELLED, one row for each row of `pixels` and in their order.

        A row whose scores overflow in half precision is labelled again in fp32, and says so
        in its `precision`. Raises ValueError if pixels are not of the model's size or stand
        beside an error, BadModelError if even fp32 gives no finite scores.
        """
        labelled = pc.is_valid(pixels["pixels"]).to_numpy()
        if (labelled == pc.is_valid(pixels["error_code"]).to_numpy()).any():
            raise ValueError("a row of PIXELS holds either pixels or an error_code")
        indices, scores, precision = self._predict(
            image_array(pixels["pixels"], self._engine.image_shape)
        )
        rows = _spread(labelled)
        columns = {
            "label": self._names.take(pa.array(indices[:, 0])).take(rows),
            "score": pa.array(scores[:, 0]).take(rows),
            "top_k": self._top_k(indices, scores).take(rows),
            "precision": precision.take(rows),
            "device": pa.repeat(self._engine.device, len(indices)).take(rows),
            "run_id": pa.repeat(self._run_id, len(pixels)),
            "recipe_id": pa.repeat(self._recipe_id, len(pixels)),
            "labelled_at": pa.repeat(pa.scalar(datetime.now(UTC), schema.TIMESTAMP), len(pixels)),
        }
        return pa.table(
            [columns[name] if name in columns else pixels[name] for name in schema.LABELLED.names],
            schema=schema.LABELLED,
        )

    def _predict(
        self, images: NDArray[np.uint8]
    ) -> tuple[NDArray[np.int64], NDArray[np.float32], pa.Array]:
        indices, scores = self._engine.predict(images)
        precision = np.full(len(images), self._engine.precision, object)
        broken = np.isnan(scores).any(axis=1)
        if broken.any():
            exact = self._engine.exact
            indices[broken], scores[broken] = exact.predict(images[broken])
            precision[broken] = exact.precision
        if np.isnan(scores).any():
            raise BadModelError(
                "the model gives scores that are not finite, in fp32 as well; "
                "its weights are broken: fetch or train them again"
            )
        return indices, scores, pa.array(precision, pa.string())

    def _top_k(self, indices: NDArray[np.int64], scores: NDArray[np.float32]) -> pa.ListArray:
        count, k = indices.shape
        pairs = pa.StructArray.from_arrays(
            [self._names.take(pa.array(indices.ravel())), pa.array(scores.ravel())],
            fields=list(schema.TOP_K.value_type),
        )
        offsets = pa.array(np.arange(0, (count + 1) * k, k, dtype=np.int32))
        return pa.ListArray.from_arrays(offsets, pairs, type=schema.TOP_K)


def image_array(column: pa.ChunkedArray, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The non-null values of a large_binary column as (n, H, W, 3) uint8, read-only.

    One chunk is not copied. Raises ValueError if a value is not H · W · 3 bytes long.
    """
    parts = [_chunk_images(chunk, image_shape) for chunk in column.chunks]
    if len(parts) == 1:
        return parts[0]
    return np.concatenate([np.empty((0, *image_shape), np.uint8), *parts])


def _chunk_images(
    chunk: pa.LargeBinaryArray, image_shape: tuple[int, int, int]
) -> NDArray[np.uint8]:
    valid = chunk.is_valid().to_numpy(zero_copy_only=False)
    if not valid.any():
        return np.empty((0, *image_shape), np.uint8)
    _, offset_buffer, data = chunk.buffers()
    offsets = np.frombuffer(offset_buffer, np.int64)[chunk.offset :][: len(chunk) + 1]
    sizes, size = np.diff(offsets), int(np.prod(image_shape))
    if (sizes[valid] != size).any():
        raise ValueError(
            f"pixels of {sorted(set(sizes[valid].tolist()))} bytes, the model takes {size} an image"
        )
    if sizes[~valid].any():  # null rows that keep their bytes leave gaps
        return _chunk_images(chunk.drop_null(), image_shape)
    flat = np.frombuffer(data, np.uint8, count=offsets[-1] - offsets[0], offset=offsets[0])
    return flat.reshape(-1, *image_shape)


def _spread(labelled: NDArray[np.bool_]) -> pa.Array:
    """For each row the index of its result among those of labelled rows, null for the others."""
    return pa.array(np.cumsum(labelled) - 1, mask=~labelled)
