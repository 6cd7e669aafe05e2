"""Builds a PIXELS table, with all images side by side in one buffer."""

from typing import Any

import numpy as np
import pyarrow as pa

from pipeline import schema
from pipeline.errors import ImageError, TransientError


class Pixels:
    """One outcome for each row of `refs`, added in any order; the table keeps the order of `refs`.

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
        self._missing = set(range(rows))

    def put(self, index: int, image: Any, width: int, height: int, kind: str) -> None:
        """`image`: uint8 (H, W, 3) of row `index` of the refs; width and height as seen."""
        self._buffer[index] = image
        self._set(index, width=width, height=height, format=kind)

    def fail(self, index: int, error: ImageError | TransientError) -> None:
        self._failed[index] = True
        self._set(index, error_code=str(error.code), error_message=error.message)

    def table(self) -> pa.Table:
        """The PIXELS table. Raises ValueError if a row has no outcome: no stage may drop a row."""
        if self._missing:
            raise ValueError(f"{len(self._missing)} refs have no outcome")
        added = {
            name: pa.array(values, schema.PIXELS.field(name).type)
            for name, values in self._columns.items()
        }
        columns = {name: self._refs[name] for name in schema.REFS.names} | added
        columns["pixels"] = self._binary()
        return pa.table([columns[name] for name in schema.PIXELS.names], schema=schema.PIXELS)

    def _set(self, index: int, **values: Any) -> None:
        for name, value in values.items():
            self._columns[name][index] = value
        self._missing.remove(index)

    def _binary(self) -> pa.Array:
        """The images of rows that did not fail, back to back; the others are null and take no
        bytes."""
        kept = self._buffer if not self._failed.any() else self._buffer[~self._failed]
        size = int(np.prod(self._buffer.shape[1:]))
        offsets = np.concatenate([[0], np.cumsum(~self._failed, dtype=np.int64) * size])
        valid = np.packbits(~self._failed, bitorder="little")
        buffers = [pa.py_buffer(array) for array in (valid, offsets, kept.reshape(-1))]
        return pa.LargeBinaryArray.from_buffers(pa.large_binary(), len(self._failed), buffers)
