"""Builds PIXELS tables, with all images side by side in one buffer."""

from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from pipeline import schema
from pipeline.errors import ImageError, TransientError


class Pixels:
    """One outcome for each row of `refs`, added in any order; tables keep the order of `refs`.

    So a retried task gives the same blocks, whichever read finished first.
    """

    def __init__(self, refs: pa.Table, height: int, width: int) -> None:
        rows = refs.num_rows
        self._refs = refs
        self._buffer = np.empty((rows, height, width, 3), np.uint8)
        self._failed = np.zeros(rows, bool)
        self._columns: dict[str, list[Any]] = {
            name: [None] * rows
            for name in ("width", "height", "format", "error_code", "error_message")
        }
        self._known = np.zeros(rows, bool)

    def put(self, index: int, image: Any, width: int, height: int, kind: str) -> None:
        """`image`: uint8 (H, W, 3) of row `index` of the refs; width and height as seen."""
        self._buffer[index] = image
        self._set(index, width=width, height=height, format=kind)

    def fail(self, index: int, error: ImageError | TransientError) -> None:
        self._failed[index] = True
        self._set(index, error_code=str(error.code), error_message=error.message)

    def lacks(self, start: int, rows: int) -> bool:
        """Whether any of these rows has no outcome yet."""
        return not self._known[start : start + rows].all()

    def table(self, start: int = 0, rows: int | None = None) -> pa.Table:
        """PIXELS of these rows, or of all. Raises ValueError if one has no outcome: no stage may
        drop a row."""
        rows = len(self._known) - start if rows is None else rows
        if self.lacks(start, rows):
            raise ValueError(f"{np.count_nonzero(~self._known)} refs have no outcome")
        part = slice(start, start + rows)
        added = {
            name: pa.array(values[part], schema.PIXELS.field(name).type)
            for name, values in self._columns.items()
        }
        refs = self._refs.slice(start, rows)
        columns = {name: refs[name] for name in schema.REFS.names} | added
        columns["pixels"] = _binary(self._buffer[part], self._failed[part])
        return pa.table([columns[name] for name in schema.PIXELS.names], schema=schema.PIXELS)

    def _set(self, index: int, **values: Any) -> None:
        if self._known[index]:
            raise KeyError(index)
        for name, value in values.items():
            self._columns[name][index] = value
        self._known[index] = True


def _binary(images: NDArray[np.uint8], failed: NDArray[np.bool_]) -> pa.Array:
    """The images of rows that did not fail, back to back; the others are null and take no
    bytes."""
    kept = images if not failed.any() else images[~failed]
    size = int(np.prod(images.shape[1:]))
    offsets = np.concatenate([[0], np.cumsum(~failed, dtype=np.int64) * size])
    valid = np.packbits(~failed, bitorder="little")
    buffers = [pa.py_buffer(array) for array in (valid, offsets, kept.reshape(-1))]
    return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(failed), buffers)
