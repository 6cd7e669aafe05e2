"""From PIXELS to the rows of a task: the steps that all tasks share.

A task computes the columns of valid images. Here each result is put into its row, rows with an
error pass through, and every row records what made it.
"""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from pipeline import schema


class Answers(NamedTuple):
    """A task's results for n images: its columns, each of n values, and the precision used.

    `precision` holds n strings, or nulls if there is no network.
    """

    columns: Mapping[str, pa.Array]
    precision: pa.Array


class Answerer(Protocol):
    """Images of one shape → answers, on one device."""

    @property
    def device(self) -> str: ...
    @property
    def image_shape(self) -> tuple[int, int, int]: ...
    def __call__(self, images: NDArray[np.uint8], seen: pa.Table, /) -> Answers:
        """`images`: uint8 (n, H, W, 3), read-only; `seen`: n rows (width, height, format)."""


class RowMaker:
    """PIXELS → rows in flight: calls `answerer` for rows that hold an image."""

    def __init__(self, rows: pa.Schema, answerer: Answerer, run_id: str, recipe_id: str) -> None:
        self._fields = schema.in_flight(rows)
        self._answerer, self._run_id, self._recipe_id = answerer, run_id, recipe_id

    @property
    def device(self) -> str:
        """Where it runs: `cpu` or `cuda:` and the GPU's name."""
        return self._answerer.device

    def __call__(self, pixels: pa.Table) -> pa.Table:
        """One row for each row of `pixels`, in the same order.

        Raises ValueError if pixels do not have the task's size or a row holds both pixels and an
        error.
        """
        there = pc.is_valid(pixels["pixels"]).to_numpy()
        if (there == pc.is_valid(pixels["error_code"]).to_numpy()).any():
            raise ValueError("a row of PIXELS holds either pixels or an error_code")
        images = image_array(pixels["pixels"], self._answerer.image_shape)
        seen = pixels.select(["width", "height", "format"]).filter(pa.array(there))
        answers = self._answerer(images, seen)
        place = _spread(there)
        columns = {name: column.take(place) for name, column in answers.columns.items()}
        columns |= {
            "precision": answers.precision.take(place),
            "device": pa.repeat(self.device, len(images)).take(place),
            "run_id": pa.repeat(self._run_id, len(pixels)),
            "recipe_id": pa.repeat(self._recipe_id, len(pixels)),
            "labelled_at": pa.repeat(pa.scalar(datetime.now(UTC), schema.TIMESTAMP), len(pixels)),
        }
        return pa.table(
            [columns[name] if name in columns else pixels[name] for name in self._fields.names],
            schema=self._fields,
        )


def image_array(column: pa.ChunkedArray, image_shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """The non-null values of a large_binary column as (n, H, W, 3) uint8, read-only.

    A single chunk is not copied. Raises ValueError if a value is not H · W · 3 bytes long.
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


def _spread(there: NDArray[np.bool_]) -> pa.Array:
    """For each row, the index of its result among the images' results; null for the others."""
    return pa.array(np.cumsum(there) - 1, mask=~there)
